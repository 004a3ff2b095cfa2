package demo

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/test/harness"
)

// demoHosts is how many EC2 hosts call the Service by its cluster name.
const demoHosts = 2

// hostURL is what their programs ask for: the name and the port that a pod would use.
const hostURL = "http://php-web.web.svc.cluster.local/"

// hostPHP is a program that knows nothing of a mesh. It says of each call how it ended.
const hostPHP = `<?php
while (true) {
    $answer = @file_get_contents('` + hostURL + `');
    echo $answer === false ? 'failed: ' . strtr(error_get_last()['message'] ?? '', "\n", ' ') : 'ok', "\n";
    usleep(50000);
}
`

// hostsLack says why there are no hosts in this demo, "" if there can be some.
func hostsLack() string {
	if lack := harness.NamespacesLack(); lack != "" {
		return lack
	}
	if _, err := harness.FindTool("php"); err != nil {
		return "PHP is not installed"
	}
	self, err := os.Executable()
	if err == nil {
		var envoy string
		if envoy, err = harness.FindTool("envoy"); err == nil {
			for _, program := range []string{self, envoy} {
				if run := harness.AsProxy("test", "-x", program); exec.Command(run[0], run[1:]...).Run() != nil { //nolint:gosec // the demo's own
					return fmt.Sprintf("user %d, as whom the agent runs, may not read %s", harness.ProxyUser, program)
				}
			}
		}
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// calls counts what a program on a host says.
type calls struct {
	mu   sync.Mutex
	part []byte // of a line
	// ok is calls that the application has answered, bad those of them that it failed, failed all others.
	ok, bad, failed int64
	example         string
}

// Write takes over what the program prints.
func (c *calls) Write(text []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.part = append(c.part, text...)
	for {
		line, rest, whole := bytes.Cut(c.part, []byte("\n"))
		if !whole {
			return len(text), nil
		}
		switch said := string(line); {
		case said == "ok":
			c.ok++
		case strings.Contains(said, " "+strconv.Itoa(http.StatusInternalServerError)+" "):
			c.ok++
			c.bad++
		default:
			c.failed++
			if c.example == "" {
				c.example = said
			}
		}
		c.part = rest
	}
}

func (c *calls) counts() (ok, bad, failed int64, example string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ok, c.bad, c.failed, c.example
}

// startHosts starts hosts with the agent, and on each a PHP program that calls the Service by its name.
func (d *demo) startHosts() {
	for i := range demoHosts {
		d.startHost(i)
	}
	harness.Eventually(d.t, 30*time.Second, "the programs on hosts are answered", func() error {
		for _, c := range d.hosts {
			if ok, _, _, example := c.counts(); ok == 0 {
				return fmt.Errorf("none is yet: %s", example)
			}
		}
		return nil
	})
	d.say("%d EC2 hosts join by the agent, each a network namespace; on each an unchanged PHP program calls file_get_contents('%s')", demoHosts, hostURL)
}

func (d *demo) startHost(i int) {
	space := harness.NewNamespace(d.t, i)
	self, err := os.Executable()
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("causeway-demo-%d-%d", os.Getpid(), i))
	d.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err == nil {
		err = os.Chown(dir, harness.ProxyUser, harness.ProxyUser)
	}
	if err != nil {
		d.t.Fatalf("demo: %v", err)
	}
	zones := d.moto.Zones()
	host := fmt.Sprintf("host-%d", i+1)
	server := d.addresses.xds
	agent := harness.Start(d.t, harness.Command{
		Name: "agent-" + host, Path: "nsenter", DeathSignal: syscall.SIGTERM,
		Args: append(space.Enter(), harness.AsProxy(self, "agent", "run", "--namespace", "web", "--workload", "php-cron", "--id", host, "--zone", zones[i%len(zones)],
			"--server", server, "--wait", "1s", "--drain-timeout", "1s", "--envoy", harness.Tool(d.t, "envoy"), "--state-dir", dir, "--listen", "127.0.0.1:15020",
			"--captured-listen", fmt.Sprintf("127.0.0.1:%d=%s", naming.OutboundPort, discovery.VirtualIPv4),
			"--dns-listen", "127.0.0.1:15053", "--dns-upstream", space.Node, "--", "--concurrency", "1")...),
	})
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: space.Dial, DisableKeepAlives: true}}
	agent.Await(d.t, 30*time.Second, host+" is ready", func() error {
		answer, err := client.Get("http://127.0.0.1:15020/ready") //nolint:noctx // bounded by the client
		text, err := harness.ReadBody(answer, err)
		if err == nil && answer.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", answer.Status, text)
		}
		return err
	})
	capture := append(space.Enter(), self, "agent", "capture", "--mode", "host", "--proxy-users", strconv.Itoa(harness.ProxyUser), "--dns", "redirect", "--dns-servers", space.Node)
	if text, err := exec.Command("nsenter", capture...).CombinedOutput(); err != nil { //nolint:gosec,noctx // the demo's own; it ends by itself
		d.t.Fatalf("demo: capture on %s: %v: %s", host, err, text)
	}
	// A namespace has no resolv.conf of its own: the program gets one by a mount that it alone sees.
	script, conf := filepath.Join(dir, "cron.php"), filepath.Join(dir, "resolv.conf")
	for file, text := range map[string]string{script: hostPHP, conf: "nameserver " + net.ParseIP(space.Node).String() + "\n"} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil { //nolint:gosec // nothing of it is secret
			d.t.Fatalf("demo: %v", err)
		}
	}
	c := &calls{}
	d.hosts = append(d.hosts, c)
	d.programs = append(d.programs, harness.Start(d.t, harness.Command{
		Name: "php-" + host, Path: "nsenter", Stdout: c, Dir: dir,
		Args: append(space.Enter(), "unshare", "--mount", "sh", "-c", `mount --bind "$1" /etc/resolv.conf && exec "$2" -n "$3"`, "sh", conf, harness.Tool(d.t, "php"), script),
	}))
}

// stopHosts ends the programs on hosts, says what they have counted, and adds it to the report.
func (d *demo) stopHosts() {
	var sent, bad, failed int64
	for i, p := range d.programs {
		p.Stop()
		ok, b, f, example := d.hosts[i].counts()
		sent, bad, failed = sent+ok+f, bad+b, failed+f
		if example != "" {
			d.report.Failures = append(d.report.Failures, harness.Failure{Cause: "PHP on a host", Count: f, Example: example})
		}
	}
	if sent == 0 {
		return
	}
	d.report.Sent += sent
	d.report.Failed += failed
	d.seen += bad
	d.say("PHP on the EC2 hosts has called the Service by its name %d times: %d failed by the mesh, %d by the bad release", sent, failed, bad)
}
