// Package demo is a whole migration on one machine, with a bad release in it, in which every request is counted.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/policy/shift/describe"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/mototest"
	"github.com/causeway-mesh/causeway/xds/bootstrap"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// The demo's mesh: one Service on an auto scaling group and on pods.
const (
	demoService = "php-web.web"
	demoGroup   = "php-web"
	demoPort    = 18080
	demoRate    = 60   // requests per second and caller
	demoUsers   = 1000 // of each caller
	demoPods    = 2
	// Instances that stay; the Spot instance is one more.
	demoInstances = 4
)

// Options of a run.
type Options struct {
	// Out is told what happens.
	Out io.Writer
	// Log is told what goes wrong in the programs that run.
	Log func(format string, args ...any)
	// Keep leaves everything running until the context ends.
	Keep bool
	// Command runs a command of causeway, as a person would.
	Command func(ctx context.Context, args ...string) error
}

// Run migrates a mesh on this machine; its error says what went wrong, failed requests among it.
func Run(ctx context.Context, o Options) error {
	d := &demo{out: o.Out, keep: o.Keep, run: o.Command, lack: hostsLack()}
	if d.lack == "" { // hosts have networks of their own, and reach what has no loopback address
		var err error
		if d.door, err = harness.EnterNamespaceListening("127.0.0.1:0"); err != nil {
			return err
		}
	}
	err := harness.Run(ctx, "demo", o.Log, d.play)
	if err == nil && !d.played {
		err = errors.New("the demo was interrupted before its end")
	}
	if d.report.Sent > 0 {
		fmt.Fprintf(d.out, "demo: %d requests: %s\n", d.report.Sent, failures(d.report.Failed, d.seen))
	}
	if err == nil && d.report.Failed > 0 {
		err = errors.New("requests failed: see above")
	}
	return err
}

// demo is a run of the demo.
type demo struct {
	out    io.Writer
	keep   bool
	played bool // to its end
	run    func(ctx context.Context, args ...string) error
	start  time.Time
	report harness.Report

	t harness.TB
	// network is an address that hosts reach, "" without hosts.
	network string
	// door listens for browsers on this machine, which do not reach the demo's network; nil where they do.
	door      net.Listener
	moto      *mototest.Moto
	kind      harness.WorkloadKind
	queue     string // of EventBridge's events
	spot      string // the Spot instance that will be reclaimed
	instances map[string]*harness.Workload
	config    string
	serve     *harness.Process
	addresses struct{ xds, http, admin string }
	page      string   // where a browser on this machine finds it
	callers   []string // the Envoys' HTTP listeners
	loads     []*harness.Load
	pods      []pod
	release   int             // number of the newest pod
	told      map[string]bool // entries of the shift's history that were shown
	seen      int64           // failed answers of the bad release, as far as told
	lack      string          // why there are no hosts, "" if there are
	hosts     []*calls
	programs  []*harness.Process // on hosts
}

// pod is a workload that is one.
type pod struct {
	name, zone string
	address    netip.Addr
}

// Lines are no wider than a terminal is at least; texts stand beside the time.
const (
	columns = 80
	margin  = "        "
	bar     = 10
)

func (d *demo) say(format string, args ...any) {
	fmt.Fprint(d.out, spoken(time.Since(d.start), fmt.Sprintf(format, args...)))
}

// spoken is a text with the time at which it is said.
func spoken(at time.Duration, text string) string {
	lines := strings.ReplaceAll(strings.TrimRight(phrase.Wrap(text, columns-len(margin)), "\n"), "\n", "\n"+margin)
	return fmt.Sprintf("%5.1fs  %s\n", at.Seconds(), lines)
}

func (d *demo) play(ctx context.Context, t harness.TB) {
	d.t, d.start, d.instances, d.told = t, time.Now(), make(map[string]*harness.Workload), make(map[string]bool)
	if d.lack == "" {
		d.network = harness.Addresses(t, 1)[0].String()
	}
	d.chooseWorkload()
	d.setUp()
	d.page = d.addresses.admin
	if d.door != nil {
		d.page = d.door.Addr().String()
		open, shut := context.WithCancel(ctx)
		done := make(chan struct{})
		defer func() { shut(); <-done }()
		go func() {
			defer close(done)
			harness.Carry(open, d.door, d.addresses.admin)
		}()
	}
	d.say("both zones answer from EC2; the %d pods are deployed and get nothing: the Service's home is its instances", len(d.pods))
	d.say("below, second by second: how many have answered, their shares of the requests, a bar for the pods' share; then all requests so far, and what the mesh failed of them")
	d.settle(ctx)
	for _, step := range []func(context.Context){d.shift, d.badRelease, d.fix} {
		if ctx.Err() != nil {
			break
		}
		step(ctx)
	}
	d.played = ctx.Err() == nil
	if d.keep && d.played {
		d.stay(ctx)
	}
	for _, l := range d.loads {
		d.add(l.Stop())
	}
	d.stopHosts()
	for _, f := range d.report.Failures {
		fmt.Fprintf(d.out, "failed: %+v\n", f)
	}
}

// add sums the loads' reports.
func (d *demo) add(r harness.Report) {
	d.report.Sent += r.Sent
	d.report.Failed += r.Failed
	d.report.Failures = append(d.report.Failures, r.Failures...)
}

// chooseWorkload takes real PHP behind nginx where it is installed.
func (d *demo) chooseWorkload() {
	d.kind = harness.FPM
	for _, tool := range []string{"php-fpm", "nginx"} {
		if _, err := harness.FindTool(tool); err != nil {
			d.kind = harness.Go
			d.say("the workload is a built-in HTTP server: %s is not installed (on Debian: apt-get install php8.2-fpm nginx)", tool)
			return
		}
	}
	d.say("the workload is PHP: nginx with php-fpm behind it on every instance and pod")
}

func (d *demo) setUp() {
	d.moto = mototest.Start(d.t, mototest.Options{})
	zones := d.moto.Zones()
	d.queue = d.moto.CreateQueue(d.t, "causeway")
	d.boot(d.moto.CreateASG(d.t, mototest.ASGOptions{Name: demoGroup, Size: demoInstances, Tags: map[string]string{"Role": demoGroup}}))

	spot := d.moto.Launch(d.t, mototest.LaunchOptions{Count: 1, Group: demoGroup, Spot: true, Tags: map[string]string{"Role": demoGroup}})
	d.spot = spot[0].ID
	d.boot(spot)
	d.say("an EC2 API with zones %s; the auto scaling group %s has %d instances, one of them, %s, a Spot instance",
		strings.Join(zones, " and "), demoGroup, len(d.instances), d.spot)

	d.config = filepath.Join(d.t.TempDir(), "mesh")
	if err := os.MkdirAll(d.config, 0o700); err != nil {
		d.t.Fatalf("demo: %v", err)
	}
	d.write("mesh.yaml", fmt.Sprintf(`apiVersion: v1
kind: Service
metadata: {name: php-web, namespace: web, annotations: {mesh.causeway.dev/home: Instances}}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: mesh.causeway.dev/v1alpha1
kind: InstanceGroup
metadata: {name: php-web-ec2, namespace: web}
spec:
  serviceRef: {name: php-web}
  region: %s
  selector: {autoScalingGroups: [%s]}
  ports: [{name: http, port: %d}]
  healthCheck: {http: {path: /healthz}, interval: 1s}
`, d.moto.Region(), demoGroup, demoPort))
	for range demoPods {
		d.pods = append(d.pods, d.newPod(zones[len(d.pods)%len(zones)]))
	}
	d.writePods(nil)
	d.addresses.xds, d.addresses.http, d.addresses.admin = harness.FreeAddress(d.t), harness.FreeAddress(d.t), harness.FreeAddress(d.t)
	if d.network != "" {
		_, port, err := net.SplitHostPort(d.addresses.xds)
		if err != nil {
			d.t.Fatalf("demo: %v", err)
		}
		d.addresses.xds = net.JoinHostPort(d.network, port)
	}
	d.serveMesh()
	d.waitReady()
	d.say("the control plane serves the mesh; two Envoys join, one in each zone")
	for _, zone := range zones {
		d.join(zone)
	}
	for i, c := range d.callers {
		d.loads = append(d.loads, harness.StartLoad(d.t, harness.LoadOptions{
			URL: "http://" + c + "/", Host: demoService, Rate: demoRate,
			// The application's own failures are counted apart: they are not the mesh's.
			Accept: func(status int) bool { return status < 400 || status == http.StatusInternalServerError },
			Next: func(n int64) harness.LoadRequest {
				return harness.LoadRequest{Header: http.Header{"Cookie": {fmt.Sprintf("causeway=user-%d-%d", i, n%demoUsers)}}}
			},
		}))
	}
	d.waitAnswers(len(d.instances) - len(d.pods))
	if d.lack == "" {
		d.startHosts()
	} else {
		d.say("no EC2 hosts with the agent in this demo: %s", d.lack)
	}
}

// waitAnswers waits until so many have answered: an instance gets requests from its first passed health check on.
func (d *demo) waitAnswers(want int) {
	harness.Eventually(d.t, 30*time.Second, "every instance answers", func() error {
		seen := make(map[harness.BackendKey]bool)
		for _, r := range d.reports() {
			for key := range r.Backends {
				seen[key] = true
			}
		}
		if len(seen) < want {
			return fmt.Errorf("%d of %d have answered", len(seen), want)
		}
		return nil
	})
}

func (d *demo) workload(platform, id, zone string, address netip.Addr) {
	d.instances[id] = harness.StartWorkload(d.t, harness.WorkloadOptions{
		Kind: d.kind, Address: address, Port: demoPort, Platform: platform, ID: id, Zone: zone,
	})
}

// boot starts the workloads of instances that have none yet.
func (d *demo) boot(instances []mototest.Instance) {
	for _, i := range instances {
		if d.instances[i.ID] == nil {
			d.workload("instances", i.ID, i.Zone, netip.MustParseAddr(i.Address))
		}
	}
}

func (d *demo) serveMesh() {
	self, err := os.Executable()
	if err != nil {
		d.t.Fatalf("demo: %v", err)
	}
	args := []string(nil)
	if d.network != "" {
		args = append(args, "--xds-insecure") // nobody else is in this network
	}
	d.serve = harness.Start(d.t, harness.Command{
		Name: "causeway", Path: self, Env: d.moto.Env(),
		Args: append([]string{
			"serve", "--config", d.config, "--state-dir", filepath.Join(filepath.Dir(d.config), "state"), "--ec2-interval", "1s",
			"--ec2-queue", d.moto.Region() + "=" + d.queue,
			"--xds-listen", d.addresses.xds, "--http-listen", d.addresses.http, "--admin-listen", d.addresses.admin,
		}, args...),
	})
}

func (d *demo) waitReady() {
	harness.Eventually(d.t, 30*time.Second, "the control plane is ready", func() error {
		resp, err := http.Get("http://" + d.addresses.http + "/readyz") //nolint:noctx // loopback, bounded by Eventually
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
}

func (d *demo) join(zone string) {
	listen := harness.FreeAddress(d.t)
	config, err := bootstrap.Generate(bootstrap.Options{
		Role: resource.Sidecar, Namespace: "web", Workload: "caller", Instance: "i-caller-" + zone, Zone: zone,
		Servers: []string{d.addresses.xds}, HTTPListen: listen,
	})
	if err != nil {
		d.t.Fatalf("demo: %v", err)
	}
	harness.StartEnvoy(d.t, config, harness.EnvoyOptions{Name: "envoy-" + zone, LogLevel: "warning"})
	d.callers = append(d.callers, listen)
}

// reports are what the loads have counted so far.
func (d *demo) reports() []harness.Report {
	out := make([]harness.Report, len(d.loads))
	for i, l := range d.loads {
		out[i] = l.Report()
	}
	return out
}

// line prints who answered since the reports before, and returns those of now.
func (d *demo) line(before []harness.Report) []harness.Report {
	now := d.reports()
	answers := make(map[harness.BackendKey]int64)
	var sent, failed, application int64
	for i, r := range now {
		sent, failed, application = sent+r.Sent, failed+r.Failed, application+r.Statuses[http.StatusInternalServerError]
		for key, n := range r.Since(before[i]).Backends {
			answers[key] += n
		}
	}
	fmt.Fprintln(d.out, second(answers, sent, failed))
	if application > d.seen {
		fmt.Fprintf(d.out, "%s%s\n", margin, failures(failed, application))
		d.seen = application
	}
	return now
}

// failures tells what the mesh has failed from what the application has.
func failures(mesh, release int64) string {
	return fmt.Sprintf("the mesh failed %d, the bad release %d", mesh, release)
}

// second says who answered in it, as percentages per platform with a bar for the pods, and
// how many requests were sent until then, and how many of them the mesh failed.
func second(answers map[harness.BackendKey]int64, sent, failed int64) string {
	sums := make(map[string]int64)
	backends := make(map[string]int)
	total := int64(0)
	for key, n := range answers {
		sums[key.Platform] += n
		backends[key.Platform]++
		total += n
	}
	percent := func(platform string) float64 { return 100 * float64(sums[platform]) / float64(max(total, 1)) }
	return fmt.Sprintf("%s%-11s %3.0f %%, %-6s %3.0f %% %s %6d sent, mesh failed %d", margin,
		phrase.Plural(backends["instances"], "instances"), percent("instances"),
		phrase.Plural(backends["pods"], "pods"), percent("pods"), describe.Bar(percent("pods"), bar), sent, failed)
}
