package outcomes

import (
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/xds/resource"
)

const (
	// callsOver is the time of which calls are told: that of the minute under way and of the one before.
	callsOver = time.Minute
	// maxCalls is how many workloads with a backing that they call are counted in a minute: some 4 MiB.
	maxCalls = 20_000
)

// callKey is a workload that calls a backing.
type callKey struct {
	from caller
	to   backingKey
}

// calls are who calls whom, of the minute under way and of the one before. Proxies report every ten seconds, so that two minutes
// have some of each proxy.
type calls struct {
	began, beganBefore time.Time
	now, before        map[callKey]*traffic
	dropped            bool
}

// at drops what is too old.
func (c *calls) at(now time.Time) {
	switch age := now.Sub(c.began); {
	case age >= 2*callsOver || age < 0:
		c.before, c.beganBefore = nil, now
	case age >= callsOver:
		c.before, c.beganBefore = c.now, c.began
	default:
		return
	}
	c.now, c.began, c.dropped = make(map[callKey]*traffic), now, false
}

// caller is a workload whose proxies call.
type caller struct {
	discovery.Key

	gateway bool
}

// callerOf returns the workload of a proxy, false for a node id that is none.
func callerOf(node string) (caller, bool) {
	role, namespace, workload, _, ok := naming.ParseNode(node)
	return caller{discovery.Key{Namespace: namespace, Name: workload}, role == string(resource.Gateway)}, ok
}

// add counts what a workload has sent to a backing, unless there are too many workloads.
func (c *calls) add(from caller, to backingKey, issued, success, failed uint64) {
	t := c.now[callKey{from, to}]
	if t == nil {
		if len(c.now) >= maxCalls {
			c.dropped = true
			return
		}
		t = &traffic{}
		c.now[callKey{from, to}] = t
	}
	t.add(issued, success, failed)
}

// Calls returns who has called whom of late, by the load reports to this replica, in no order.
func (r *Recorder) Calls() outcome.Calls {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.opts.Now()
	r.calls.at(now)
	sums := make(map[callKey]traffic, len(r.calls.now))
	for _, of := range []map[callKey]*traffic{r.calls.before, r.calls.now} {
		for key, t := range of {
			sum := sums[key]
			sum.add(t.issued, t.success, t.failed)
			sums[key] = sum
		}
	}
	out := outcome.Calls{Over: now.Sub(r.calls.beganBefore), Dropped: r.calls.dropped}
	for key, t := range sums {
		out.Calls = append(out.Calls, outcome.Call{
			Caller: key.from.Key, Gateway: key.from.gateway, Service: key.to.service, Backing: key.to.backing, Issued: t.issued, Success: t.success, Failed: t.failed,
		})
	}
	return out
}
