package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/causeway-mesh/causeway/test/harness"
)

func (d *demo) scaleOut(ctx context.Context) {
	added := d.moto.Launch(d.t, harness.LaunchOptions{
		Count: 2, Group: demoGroup, Spot: true, Tags: map[string]string{"Role": demoGroup},
	})
	d.spot = added[0].ID
	d.boot(added)
	d.show(ctx, "the group scales out by two Spot instances")
}

// drainSpot shows an instance that is reclaimed: the notice comes, it drains,
// then it is terminated and really killed.
func (d *demo) drainSpot(ctx context.Context) {
	d.moto.SendSQS(d.t, d.queue, d.moto.SpotInterruption(d.spot))
	d.show(ctx, "a Spot interruption notice for "+d.spot+": it finishes what it has and gets nothing new")
	d.moto.Terminate(d.t, d.spot)
	d.instances[d.spot].Kill()
	d.show(ctx, d.spot+" is terminated, and its processes are killed")
}

func (d *demo) cutEC2(ctx context.Context) {
	d.moto.Proxy().Fail(1_000_000, harness.EC2Error(http.StatusServiceUnavailable, "RequestLimitExceeded", "Request limit exceeded."), nil)
	d.show(ctx, "the EC2 API fails every call: what was last known serves on")
}

func (d *demo) restart(ctx context.Context) {
	d.serve.Kill()
	d.show(ctx, "the control plane is killed as well: the Envoys serve what they have")
	d.serveMesh()
	d.waitReady()
	d.show(ctx, "it restarts without an EC2 API, from its last known good, and sends the Envoys nothing that they have")
	d.moto.Proxy().Restore(d.t)
}

// loseInstances shows the failover between platforms.
func (d *demo) loseInstances(ctx context.Context) {
	for _, i := range d.moto.GroupInstances(d.t, demoGroup) {
		if w := d.instances[i.ID]; w != nil && i.State == "running" {
			w.Stop()
		}
	}
	d.show(ctx, "every instance stops at once: the pods answer until they are back")
}

// stay leaves everything running until the context ends.
func (d *demo) stay(ctx context.Context) {
	d.say("everything keeps running until you press Ctrl-C; in another terminal:")
	fmt.Fprintf(d.out, `
  bin/causeway proxies   --admin %[1]s
  bin/causeway endpoints --admin %[1]s
  curl http://%[2]s/metrics
  curl --proxy http://%[3]s http://%[4]s/
  edit %[5]s/mesh.yaml, for example mesh.causeway.dev/home: Pods

`, d.addresses.admin, d.addresses.http, d.callers[0], demoService, d.config)
	<-ctx.Done()
	time.Sleep(100 * time.Millisecond) // let the shell's ^C stand alone
}
