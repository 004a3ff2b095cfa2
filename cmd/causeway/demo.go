package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/bootstrap"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// The demo's mesh: one Service on an auto scaling group and on pods.
const (
	demoService = "php-web.web"
	demoGroup   = "php-web"
	demoPort    = 18080
	demoRate    = 60 // requests per second and caller
	demoStep    = 5 * time.Second
)

func demoCommand() *cobra.Command {
	keep := false
	c := &cobra.Command{
		Use:   "demo",
		Short: "A whole mesh on this machine: EC2 instances, pods, Envoys, and their faults",
		Long: `Start a whole mesh on this machine and break it while requests flow: an EC2 API
with an auto scaling group of PHP hosts in two zones, pods beside them, two
Envoys and this control plane. Every request is counted; the exit status is 0
only if none failed.

It needs the programs that 'make tools' brings; 'make demo' does both.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := &demo{out: cmd.OutOrStdout(), keep: keep}
			err := harness.Run(cmd.Context(), "demo", func(format string, args ...any) {
				fmt.Fprintf(os.Stderr, format+"\n", args...)
			}, d.run)
			if d.report.Sent > 0 {
				fmt.Fprintf(d.out, "demo: %d requests, %d failed\n", d.report.Sent, d.report.Failed)
			}
			if err == nil && d.report.Failed > 0 {
				err = errors.New("requests failed: see above")
			}
			return err
		},
	}
	c.Flags().BoolVar(&keep, "keep", false, "leave everything running until interrupted, with commands to try")
	return c
}

// demo is a run of the demo.
type demo struct {
	out    io.Writer
	keep   bool
	start  time.Time
	report harness.Report

	t         harness.TB
	moto      *harness.Moto
	kind      harness.WorkloadKind
	queue     string // of EventBridge's events
	spot      string // the Spot instance that will be reclaimed
	instances map[string]*harness.Workload
	config    string
	serve     *harness.Process
	addresses struct{ xds, http, admin string }
	callers   []string // the Envoys' HTTP listeners
	loads     []*harness.Load
}

func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.out, "%5.1fs  %s\n", time.Since(d.start).Seconds(), fmt.Sprintf(format, args...))
}

func (d *demo) run(ctx context.Context, t harness.TB) {
	d.t, d.start, d.instances = t, time.Now(), make(map[string]*harness.Workload)
	d.chooseWorkload()
	d.setUp()
	d.show(ctx, "both zones answer from EC2; the pods are deployed and get nothing: the Service's home is its instances")
	for _, step := range []func(context.Context){d.scaleOut, d.drainSpot, d.cutEC2, d.restart, d.loseInstances} {
		if ctx.Err() != nil {
			break
		}
		step(ctx)
	}
	if d.keep && ctx.Err() == nil {
		d.stay(ctx)
	}
	for _, l := range d.loads {
		d.add(l.Stop())
	}
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
	d.moto = harness.StartMoto(d.t, harness.MotoOptions{})
	zones := d.moto.Zones()
	d.queue = d.moto.CreateQueue(d.t, "causeway")
	d.say("an EC2 API with zones %s; the auto scaling group %s of 4 instances", strings.Join(zones, " and "), demoGroup)
	d.boot(d.moto.CreateASG(d.t, harness.ASGOptions{Name: demoGroup, Size: 4, Tags: map[string]string{"Role": demoGroup}}))

	d.config = filepath.Join(d.t.TempDir(), "mesh")
	if err := os.MkdirAll(d.config, 0o700); err != nil {
		d.t.Fatalf("demo: %v", err)
	}
	var pods strings.Builder
	for i, zone := range zones {
		name, address := fmt.Sprintf("php-web-%d", i), netip.MustParseAddr(fmt.Sprintf("127.78.0.%d", i+1))
		d.workload("pods", name, zone, address)
		fmt.Fprintf(&pods, "- {addresses: [%s], zone: %s, targetRef: {kind: Pod, namespace: web, name: %s}}\n", address, zone, name)
	}
	mesh := fmt.Sprintf(`apiVersion: v1
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
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: php-web-pods, namespace: web, labels: {kubernetes.io/service-name: php-web}}
addressType: IPv4
ports: [{name: http, port: %d}]
endpoints:
%s`, d.moto.Region(), demoGroup, demoPort, demoPort, pods.String())
	if err := os.WriteFile(filepath.Join(d.config, "mesh.yaml"), []byte(mesh), 0o600); err != nil {
		d.t.Fatalf("demo: %v", err)
	}
	d.addresses.xds, d.addresses.http, d.addresses.admin = harness.FreeAddress(d.t), harness.FreeAddress(d.t), harness.FreeAddress(d.t)
	d.serveMesh()
	d.waitReady()
	d.say("the control plane serves the mesh; two Envoys join, one in each zone")
	for _, zone := range zones {
		d.join(zone)
	}
	for _, c := range d.callers {
		d.loads = append(d.loads, harness.StartLoad(d.t, harness.LoadOptions{URL: "http://" + c + "/", Host: demoService, Rate: demoRate}))
	}
}

func (d *demo) workload(platform, id, zone string, address netip.Addr) {
	d.instances[id] = harness.StartWorkload(d.t, harness.WorkloadOptions{
		Kind: d.kind, Address: address, Port: demoPort, Platform: platform, ID: id, Zone: zone,
	})
}

// boot starts the workloads of instances that have none yet.
func (d *demo) boot(instances []harness.Instance) {
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
	d.serve = harness.Start(d.t, harness.Command{
		Name: "causeway", Path: self, Env: d.moto.Env(),
		Args: []string{
			"serve", "--config", d.config, "--state-dir", filepath.Join(filepath.Dir(d.config), "state"), "--ec2-interval", "1s",
			"--ec2-queue", d.moto.Region() + "=" + d.queue,
			"--xds-listen", d.addresses.xds, "--http-listen", d.addresses.http, "--admin-listen", d.addresses.admin,
		},
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

// show lets a step's requests flow for a while and prints who answered them.
func (d *demo) show(ctx context.Context, what string) {
	d.say("%s", what)
	before := make([]harness.Report, len(d.loads))
	for i, l := range d.loads {
		before[i] = l.Report()
	}
	for range int(demoStep / time.Second) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
		answers := make(map[harness.BackendKey]int64)
		var sent, failed, total int64
		for i, l := range d.loads {
			r := l.Report()
			sent, failed = sent+r.Sent, failed+r.Failed
			for key, n := range r.Since(before[i]).Backends {
				answers[key] += n
				total += n
			}
			before[i] = r
		}
		fmt.Fprintf(d.out, "        %s  %6d requests, %d failed\n", shares(answers, total), sent, failed)
	}
}

// shares prints who answered as percentages: per platform and zone.
func shares(answers map[harness.BackendKey]int64, total int64) string {
	type column struct{ platform, zone string }
	sums := make(map[column]int64)
	backends := make(map[column]int)
	for key, n := range answers {
		c := column{key.Platform, key.Zone}
		sums[c] += n
		backends[c]++
	}
	var columns []column
	for c := range sums {
		columns = append(columns, c)
	}
	slices.SortFunc(columns, func(a, b column) int { return cmp.Compare(a.platform+a.zone, b.platform+b.zone) })
	var parts []string
	for _, c := range columns {
		percent := int(100 * sums[c] / max(total, 1))
		parts = append(parts, fmt.Sprintf("%s in %s %-10s %3d%%", plural(backends[c], c.platform), c.zone, strings.Repeat("█", percent/10), percent))
	}
	return strings.Join(parts, "  ")
}

// plural counts things whose name is given in the plural.
func plural(n int, things string) string {
	if n == 1 {
		things = strings.TrimSuffix(things, "s")
	}
	return fmt.Sprintf("%d %s", n, things)
}
