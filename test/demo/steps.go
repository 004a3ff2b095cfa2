package demo

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/causeway-mesh/causeway/policy/shift/describe"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/mototest"
	"github.com/causeway-mesh/causeway/xds/admin/client"
)

// demoShift is what moves the demo's Service. Its times are a hundredth of what
// a real one has, and are printed, so that nobody takes them for defaults.
const demoShift = `apiVersion: mesh.causeway.dev/v1alpha1
kind: TrafficShift
metadata: {name: php-web, namespace: web}
spec:
  serviceRef: {name: php-web}
  cohort: {cookie: {name: causeway, ttl: 720h}}
  steps:
  - {shadow: {percent: "20", methods: [GET]}, hold: 6s}
  - {percent: "5", hold: 6s}
  - {percent: "25", hold: 6s}
  - {percent: "50", hold: 6s}
  - {percent: "100", hold: 6s}
  guard:
    successRate: {atLeast: "99"}
    latency: {quantile: "0.95", atMost: 2s}
    errorBudget: {objective: "99.9", maxBurnRate: "100"}
    minRequests: 20
    window: 5s
  capacity: {minReadyPods: 2, keepSourcePercent: 0}
`

const demoAccelerated = "accelerated for the demo: hold 6s (a real one: 10m to 24h), window 5s (default 2m), minRequests 20 (default 500)"

// shiftNow returns the shift as the control plane has it.
func (d *demo) shiftNow() (*v1alpha1.TrafficShift, *describe.View) {
	var view describe.View
	admin := client.Client{Address: d.addresses.admin}
	if err := admin.Do(context.Background(), http.MethodGet, "/api/v1/shifts", url.Values{}, &view); err != nil || len(view.Shifts) == 0 {
		return nil, nil
	}
	return &view.Shifts[0], &view
}

// follow shows the shift as it goes until it is where it should be.
func (d *demo) follow(ctx context.Context, limit time.Duration, until func(*v1alpha1.TrafficShift) bool) *v1alpha1.TrafficShift {
	end := time.Now().Add(limit)
	before := d.reports()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
		// What has happened in the second stands before its requests.
		s, _ := d.shiftNow()
		if s != nil {
			d.news(s)
		}
		before = d.line(before)
		if s != nil && until(s) {
			return s
		}
		if time.Now().After(end) {
			d.t.Fatalf("demo: the shift is not where it should be after %s:\n%s", limit, describe.Shift(s, nil, time.Now(), 20))
		}
	}
	return nil
}

// waits prints once in a step what the shift waits for that is not its hold.
func (d *demo) waits(s *v1alpha1.TrafficShift) {
	c := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionProgressing)
	if c == nil || !slices.Contains([]string{"Observing", "GuardHolds", "CapacityShort"}, c.Reason) {
		return
	}
	text := fmt.Sprintf("%d %s", s.Status.Step, c.Reason)
	if !d.told[text] {
		d.told[text] = true
		if s.Status.Step < 0 {
			d.say("the first step waits: %s", c.Message)
			return
		}
		d.say("step %d waits longer than its hold: %s", s.Status.Step+1, c.Message)
	}
}

// news prints what is new in the shift's history.
func (d *demo) news(s *v1alpha1.TrafficShift) {
	for i := len(s.Status.History) - 1; i >= 0; i-- {
		h := &s.Status.History[i]
		text := fmt.Sprintf("%s %s %s %s %s", h.Time.Format(time.RFC3339Nano), h.Event, h.From, h.To, h.Reason)
		if d.told[text] {
			continue
		}
		d.told[text] = true
		what := string(h.Event)
		if h.From != h.To {
			what = fmt.Sprintf("%s %% → %s %%", h.From, h.To)
		}
		d.say("%-14s %s: %s", what, h.Actor, h.Reason)
	}
	d.waits(s)
}

// shift starts the migration and follows it to the middle.
func (d *demo) shift(ctx context.Context) {
	d.say("a TrafficShift: shadow 20 %% of GETs, then 5, 25, 50 and 100 %%; users stay on their side by a cookie")
	d.say("%s", demoAccelerated)
	d.say("in a browser: http://%s/shifts/web/php-web", d.page)
	d.write("shift.yaml", demoShift)
	d.follow(ctx, 2*time.Minute, func(s *v1alpha1.TrafficShift) bool { return s.Status.Percent == "25" })
}

// badRelease rolls out pods that fail.
func (d *demo) badRelease(ctx context.Context) {
	d.say("a bad release is rolled out to the pods: 30 %% of their answers are 500")
	began := time.Now()
	d.rollOut(harness.Fault{Percent: 30, Code: http.StatusInternalServerError})
	s := d.follow(ctx, time.Minute, func(s *v1alpha1.TrafficShift) bool { return s.Status.RolledBack && s.Status.Percent == "0" })
	if s == nil {
		return
	}
	d.say("rolled back %.0f s after the rollout began; what follows shows that everything is back on the instances", time.Since(began).Seconds())
	d.settle(ctx)
	d.say("users saw %d failed answers of the bad release", d.seen)
}

// fix rolls out pods that work and starts again, while an instance is reclaimed
// and the EC2 API is away.
func (d *demo) fix(ctx context.Context) {
	d.say("the release is fixed and rolled out; causeway shift promote web/php-web starts again from the first step")
	d.rollOut(harness.Fault{})
	d.command(ctx, v1alpha1.ActionPromote, "the release is fixed")
	d.follow(ctx, time.Minute, func(s *v1alpha1.TrafficShift) bool { return s.Status.Percent == "5" })
	d.reclaim()
	d.follow(ctx, 2*time.Minute, func(s *v1alpha1.TrafficShift) bool { return s.Status.Percent == "50" })
	d.say("the EC2 API fails every call, and the control plane is killed and restarted: the shift goes on from its state")
	d.moto.Proxy().Fail(1_000_000, mototest.EC2Error(http.StatusServiceUnavailable, "RequestLimitExceeded", "Request limit exceeded."), nil)
	d.serve.Kill()
	d.serveMesh()
	d.waitReady()
	harness.TakeTime(time.Second)
	d.moto.Proxy().Restore(d.t)
	s := d.follow(ctx, 2*time.Minute, func(s *v1alpha1.TrafficShift) bool { return s.Status.Phase == v1alpha1.ShiftCompleted })
	if s == nil {
		return
	}
	d.say("completed: the pods are the home of the Service")
	for _, advice := range s.Status.Advice {
		d.say("advice: %s", advice)
	}
	d.settle(ctx)
}

// reclaim takes a Spot instance away while traffic moves.
func (d *demo) reclaim() {
	d.moto.SendSQS(d.t, d.queue, d.moto.SpotInterruption(d.spot))
	d.say("EC2 announces that it takes the Spot instance %s back: it finishes what it has and gets nothing new; %d instances are left", d.spot, demoInstances)
	time.AfterFunc(2*time.Second, func() {
		d.moto.Terminate(d.t, d.spot)
		d.instances[d.spot].Kill()
	})
}

// rollOut replaces the pods one by one, as a Deployment does: the new one is
// ready before the old one gets nothing new, and that one ends later.
func (d *demo) rollOut(f harness.Fault) {
	zones := d.moto.Zones()
	for i, old := range d.pods {
		d.pods[i] = d.newPod(zones[i%len(zones)])
		d.instances[d.pods[i].name].SetFault(d.t, f)
		d.writePods(&old)
		harness.TakeTime(500 * time.Millisecond) // what a grace period is for
		d.instances[old.name].Stop()
	}
	d.writePods(nil)
}

// newPod starts a pod.
func (d *demo) newPod(zone string) pod {
	d.release++
	p := pod{
		name: fmt.Sprintf("php-web-%d", d.release), zone: zone,
		address: netip.AddrFrom4([4]byte{127, 78, byte(d.release / 200), byte(d.release%200 + 1)}),
	}
	if d.network != "" {
		p.address = harness.Addresses(d.t, 1)[0]
	}
	d.workload("pods", p.name, zone, p.address)
	return p
}

// writePods writes the EndpointSlice of the pods, with one more that is ending.
func (d *demo) writePods(ending *pod) {
	var b strings.Builder
	fmt.Fprintf(&b, `apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: php-web-pods, namespace: web, labels: {kubernetes.io/service-name: php-web}}
addressType: IPv4
ports: [{name: http, port: %d}]
endpoints:
`, demoPort)
	for _, p := range d.pods {
		fmt.Fprintf(&b, "- {addresses: [%s], zone: %s, targetRef: {kind: Pod, namespace: web, name: %s}}\n", p.address, p.zone, p.name)
	}
	if p := ending; p != nil {
		fmt.Fprintf(&b, "- {addresses: [%s], zone: %s, conditions: {ready: false, serving: true, terminating: true}, targetRef: {kind: Pod, namespace: web, name: %s}}\n", p.address, p.zone, p.name)
	}
	d.write("pods.yaml", b.String())
}

// write replaces a file of the mesh's directory at once.
func (d *demo) write(name, text string) {
	file := filepath.Join(d.config, name)
	temporary := filepath.Join(filepath.Dir(d.config), name)
	if err := os.WriteFile(temporary, []byte(text), 0o600); err != nil {
		d.t.Fatalf("demo: %v", err)
	}
	if err := os.Rename(temporary, file); err != nil {
		d.t.Fatalf("demo: %v", err)
	}
}

// command does what causeway shift does by hand.
func (d *demo) command(ctx context.Context, action v1alpha1.ShiftAction, reason string) {
	if err := d.run(ctx, "shift", string(action), "web/php-web", "--admin", d.addresses.admin, "--reason", reason); err != nil {
		d.t.Fatalf("demo: %v", err)
	}
}

// settle waits until what was under way has ended.
func (d *demo) settle(ctx context.Context) {
	before := d.reports()
	for range 3 {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
		before = d.line(before)
	}
}

// stay leaves everything running until the context ends.
func (d *demo) stay(ctx context.Context) {
	d.say("everything keeps running until you press Ctrl-C, the page http://%s/ too; in another terminal:", d.page)
	if d.network != "" {
		fmt.Fprintf(d.out, "\n  nsenter --net --target %d   # as root: a shell in the demo's network, then\n", os.Getpid())
	}
	fmt.Fprintf(d.out, `
  bin/causeway shift watch web/php-web --admin %[1]s
  bin/causeway proxies   --admin %[1]s
  bin/causeway endpoints --admin %[1]s
  curl http://%[2]s/metrics
  curl --proxy http://%[3]s http://%[4]s/
  edit %[5]s/shift.yaml, for example direction: PodsToInstances

`, d.addresses.admin, d.addresses.http, d.callers[0], demoService, d.config)
	<-ctx.Done()
	harness.TakeTime(100 * time.Millisecond) // let the shell's ^C stand alone
}
