package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/test/harness"
)

// What a process of the benchmark's own binary is, by environment variable.
const (
	childVariable   = "CAUSEWAY_BENCH_CHILD" // "fleet" or "floor"
	controlVariable = "CAUSEWAY_BENCH_CONTROL"
	listenVariable  = "CAUSEWAY_BENCH_LISTEN"
)

// runChild runs what the process was started for, if it is a child.
func runChild() {
	kind := os.Getenv(childVariable)
	if kind == "" {
		return
	}
	fmt.Fprintln(os.Stderr, serveChild(kind))
	os.Exit(1)
}

// serveChild serves until the parent ends the process; it returns why it cannot.
func serveChild(kind string) error {
	s := rpc.NewServer()
	var service any
	switch kind {
	case "fleet":
		// What the clients allocate must not cost the server its cores.
		debug.SetGCPercent(400)
		service = &fleet{}
	case "floor":
		f := newFloor()
		l, err := net.Listen("tcp", os.Getenv(listenVariable)) //nolint:noctx // it does not wait
		if err != nil {
			return err
		}
		go func() { _ = f.serve(l) }() // until the process ends
		service = f
	}
	if err := s.RegisterName("Child", service); err != nil {
		return err
	}
	control, err := net.Listen("tcp", os.Getenv(controlVariable)) //nolint:noctx // it does not wait
	if err != nil {
		return err
	}
	for {
		conn, err := control.Accept()
		if err != nil {
			return err
		}
		go s.ServeCodec(jsonrpc.NewServerCodec(conn))
	}
}

// child is a process of the benchmark's own binary.
type child struct {
	*harness.Process
	address string // where a floor listens
	rpc     *rpc.Client
}

func startChild(t harness.TB, kind string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	control := harness.FreeAddress(t)
	c := &child{address: harness.FreeAddress(t)}
	c.Process = harness.Start(t, harness.Command{Name: "bench-" + kind, Path: self, Env: []string{
		childVariable + "=" + kind, controlVariable + "=" + control, listenVariable + "=" + c.address,
	}})
	harness.Eventually(t, 10*time.Second, kind, func() error {
		conn, err := net.Dial("tcp", control) //nolint:noctx // loopback
		if err == nil {
			c.rpc = rpc.NewClientWithCodec(jsonrpc.NewClientCodec(conn))
		}
		return err
	})
	t.Cleanup(func() { _ = c.rpc.Close() })
	return c, nil
}

func (c *child) call(method string, args, reply any) error {
	if err := c.rpc.Call("Child."+method, args, reply); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	return nil
}

// controlPlane is the server under test.
type controlPlane struct {
	*harness.Process
	t                harness.TB
	binary           string
	args             []string
	xds, http, admin string
	started          time.Time
}

func newControlPlane(t harness.TB, binary string, source []string) *controlPlane {
	c := &controlPlane{t: t, binary: binary, xds: harness.FreeAddress(t), http: harness.FreeAddress(t), admin: harness.FreeAddress(t)}
	c.args = append([]string{
		"serve", "--xds-listen", c.xds, "--http-listen", c.http, "--admin-listen", c.admin, "--log-level", "warn",
	}, source...)
	return c
}

// start starts the server and returns how long it took to be ready.
func (c *controlPlane) start() time.Duration {
	c.started = time.Now()
	c.Process = harness.Start(c.t, harness.Command{Name: "causeway", Path: c.binary, Args: c.args})
	deadline := time.Now().Add(2 * time.Minute)
	for {
		_, err := get("http://" + c.http + "/readyz")
		if err == nil {
			return time.Since(c.started)
		}
		if time.Now().After(deadline) || !c.Running() {
			c.t.Fatalf("the server is not ready: %v; its log: %s", err, c.LogFile())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func get(url string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	r, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", r.Status, body)
	}
	return string(body), err
}

// metric returns the sum of a metric over all its labels.
func (c *controlPlane) metric(name string) float64 {
	text, err := get("http://" + c.http + "/metrics")
	if err != nil {
		c.t.Fatalf("metrics: %v", err)
	}
	return sumMetric(text, name)
}

func sumMetric(text, name string) (sum float64) {
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), name)
		if !ok || rest == "" || (rest[0] != ' ' && rest[0] != '{') {
			continue
		}
		if v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64); err == nil {
			sum += v
		}
	}
	return sum
}

// usage is what a process has used and holds.
type usage struct {
	cpu       time.Duration
	rss, peak float64 // MB of 10^6 bytes
}

// clockTick is the unit of /proc/PID/stat; Linux has the same on every platform.
const clockTick = 10 * time.Millisecond

func usageOf(pid int) (usage, error) {
	var u usage
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, err
	}
	// The second field is a name in parentheses that may hold anything.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	for _, f := range fields[11:13] { // utime and stime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return u, err
		}
		u.cpu += time.Duration(n) * clockTick
	}
	status, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, err
	}
	defer status.Close()
	for lines := bufio.NewScanner(status); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) < 2 {
			continue
		}
		kb, _ := strconv.ParseFloat(f[1], 64) // other lines are no numbers and not asked for
		switch f[0] {
		case "VmRSS:":
			u.rss = kb * 1024 / 1e6
		case "VmHWM:":
			u.peak = kb * 1024 / 1e6
		}
	}
	return u, nil
}
