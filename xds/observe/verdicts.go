package observe

import (
	"maps"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
)

// verdicts are what a leader says of each object in its term. Its methods may
// be called concurrently.
type verdicts struct {
	// began is when the term did.
	began time.Time
	// wake has a value when changed has.
	wake chan<- struct{}

	mu      sync.Mutex
	objects map[discovery.ObjectName]*verdict
	changed map[discovery.ObjectName]struct{}
}

// verdict is what is said of one generation; Type is "" while nothing is.
type verdict struct {
	condition  metav1.Condition
	generation int64
	// sure is when the generation was last found in force or refused.
	sure time.Time
}

func newVerdicts(began time.Time, wake chan<- struct{}) *verdicts {
	return &verdicts{
		began: began, wake: wake,
		objects: make(map[discovery.ObjectName]*verdict), changed: make(map[discovery.ObjectName]struct{}),
	}
}

// judge renews the verdicts of all objects.
func (v *verdicts) judge(targets []Target, reports []Report, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	known := make(map[discovery.ObjectName]struct{}, len(targets))
	news := false
	for i := range targets {
		t := &targets[i]
		known[t.Name] = struct{}{}
		o := v.objects[t.Name]
		if o == nil {
			o = &verdict{generation: t.Generation}
			v.objects[t.Name] = o
		}
		before := o.condition
		o.judge(t, reports, v.began, now)
		if o.condition != before {
			v.changed[t.Name] = struct{}{}
			news = true
		}
	}
	for name := range v.objects {
		if _, ok := known[name]; !ok {
			delete(v.objects, name)
			delete(v.changed, name)
		}
	}
	if news {
		select {
		case v.wake <- struct{}{}:
		default:
		}
	}
}

// judge renews a verdict. What an object was found to be stays for as long as
// Patience where nothing is known for a moment: a proxy that is replaced, a
// replica or a leader that restarts must not turn thousands of conditions and
// back again. A generation that was acknowledged stays so meanwhile, whoever is silent.
func (o *verdict) judge(t *Target, reports []Report, began, now time.Time) {
	if o.generation != t.Generation {
		o.generation, o.sure = t.Generation, time.Time{}
	}
	target := *t
	if o.sure.After(target.Since) {
		target.Since = o.sure
	}
	next := Judge(target, reports, now)
	switch next.Reason {
	case ReasonProgrammed, ReasonRejected, ReasonHeldBack:
		o.sure = now
	}
	if next.Status == metav1.ConditionUnknown {
		if o.condition.Status == metav1.ConditionTrue && now.Sub(o.sure) < Patience {
			return
		}
		// The leader before this one has said something, and the proxies and
		// replicas may be on their way back.
		if o.condition.Type == "" && !t.Since.After(began) && now.Sub(began) < Patience {
			return
		}
	}
	o.condition = next
}

// get returns the verdict on a generation or a later one, false while there is none.
func (v *verdicts) get(ref discovery.ObjectRef) (metav1.Condition, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	o := v.objects[discovery.ObjectName{Kind: ref.Kind, Key: ref.Key}]
	if o == nil || o.condition.Type == "" || o.condition.ObservedGeneration < ref.Generation {
		return metav1.Condition{}, false
	}
	return o.condition, true
}

// take returns the objects whose verdict has changed since the last take, sorted.
func (v *verdicts) take() []discovery.ObjectName {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := slices.SortedFunc(maps.Keys(v.changed), compareNames)
	clear(v.changed)
	return out
}

// counts returns how many objects have each reason.
func (v *verdicts) counts() map[string]int {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := make(map[string]int)
	for _, o := range v.objects {
		out[o.condition.Reason]++
	}
	return out
}

// all returns every verdict that there is, by object.
func (v *verdicts) all() map[discovery.ObjectName]metav1.Condition {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := make(map[discovery.ObjectName]metav1.Condition, len(v.objects))
	for name, o := range v.objects {
		if o.condition.Type != "" {
			out[name] = o.condition
		}
	}
	return out
}
