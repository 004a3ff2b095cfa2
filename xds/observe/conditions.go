package observe

import (
	"maps"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
)

// conditions are the conditions Programmed of all objects in the leader's term.
// Its methods may be called concurrently.
type conditions struct {
	// began is when the term did.
	began time.Time
	// wake gets a value when changed does.
	wake chan<- struct{}

	mu      sync.Mutex
	objects map[discovery.ObjectName]*objectCondition
	changed map[discovery.ObjectName]struct{}
}

// objectCondition is the condition of one generation; Type is "" while there is
// none.
type objectCondition struct {
	condition  metav1.Condition
	generation int64
	// sure is when the generation was last found in force or refused.
	sure time.Time
}

func newConditions(began time.Time, wake chan<- struct{}) *conditions {
	return &conditions{
		began: began, wake: wake,
		objects: make(map[discovery.ObjectName]*objectCondition), changed: make(map[discovery.ObjectName]struct{}),
	}
}

// update computes the conditions of all objects anew.
func (c *conditions) update(targets []Target, reports []Report, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := make(map[discovery.ObjectName]struct{}, len(targets))
	news := false
	for i := range targets {
		t := &targets[i]
		known[t.Name] = struct{}{}
		o := c.objects[t.Name]
		if o == nil {
			o = &objectCondition{generation: t.Generation}
			c.objects[t.Name] = o
		}
		before := o.condition
		o.update(t, reports, c.began, now)
		if o.condition != before {
			c.changed[t.Name] = struct{}{}
			news = true
		}
	}
	for name := range c.objects {
		if _, ok := known[name]; !ok {
			delete(c.objects, name)
			delete(c.changed, name)
		}
	}
	if news {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

// update computes the condition anew. While it is Unknown for a moment, the former
// condition stays for as long as Patience: a proxy that is replaced, a replica or a
// leader that restarts must not turn thousands of conditions and back again. An
// acknowledged generation stays acknowledged meanwhile, even if replicas are silent.
func (o *objectCondition) update(t *Target, reports []Report, began, now time.Time) {
	if o.generation != t.Generation {
		o.generation, o.sure = t.Generation, time.Time{}
	}
	target := *t
	if o.sure.After(target.Since) {
		target.Since = o.sure
	}
	next := ProgrammedCondition(target, reports, now)
	switch next.Reason {
	case ReasonProgrammed, ReasonRejected, ReasonHeldBack:
		o.sure = now
	}
	if next.Status == metav1.ConditionUnknown {
		if o.condition.Status == metav1.ConditionTrue && now.Sub(o.sure) < Patience {
			return
		}
		// The former leader has written a condition, and the proxies and
		// replicas may be on their way back.
		if o.condition.Type == "" && !t.Since.After(began) && now.Sub(began) < Patience {
			return
		}
	}
	o.condition = next
}

// get returns the condition of a generation or a later one, false while there is
// none.
func (c *conditions) get(ref discovery.ObjectRef) (metav1.Condition, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.objects[discovery.ObjectName{Kind: ref.Kind, Key: ref.Key}]
	if o == nil || o.condition.Type == "" || o.condition.ObservedGeneration < ref.Generation {
		return metav1.Condition{}, false
	}
	return o.condition, true
}

// take returns the objects whose condition has changed since the last take,
// sorted.
func (c *conditions) take() []discovery.ObjectName {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := slices.SortedFunc(maps.Keys(c.changed), compareNames)
	clear(c.changed)
	return out
}

// counts returns how many objects have each reason.
func (c *conditions) counts() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[string]int)
	for _, o := range c.objects {
		out[o.condition.Reason]++
	}
	return out
}

// all returns every condition that is known, by object.
func (c *conditions) all() map[discovery.ObjectName]metav1.Condition {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[discovery.ObjectName]metav1.Condition, len(c.objects))
	for name, o := range c.objects {
		if o.condition.Type != "" {
			out[name] = o.condition
		}
	}
	return out
}
