package probe

import (
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// result is the result of one check.
type result struct {
	ok bool
	// silent is true if nothing was heard: no answer, no refusal.
	silent bool
	// reason why the check failed, a short CamelCase word and details.
	reason string
}

// streak counts equal results in a row. The zero value has seen none.
type streak struct {
	ok     bool
	length int32
	// since is when the first of them began.
	since time.Time
}

// add adds a result, whose check began at started. It returns the instance's
// health after it, and whether that has changed. heard is when any instance of
// the same network last answered: silence counts only if another instance has
// answered since.
func (s *streak) add(r result, started, heard time.Time, checked bool, before discovery.CheckedHealth, c *v1alpha1.HealthCheck) (discovery.CheckedHealth, bool) {
	if r.ok != s.ok || s.length == 0 {
		*s = streak{ok: r.ok, since: started}
	}
	if s.length < max(c.HealthyThreshold, c.UnhealthyThreshold) {
		s.length++
	}
	switch {
	case r.ok && !checked:
		return discovery.CheckedHealth{Healthy: true}, true
	case r.ok && !before.Healthy && s.length >= c.HealthyThreshold:
		return discovery.CheckedHealth{Healthy: true}, true
	case !r.ok && (!checked || before.Healthy) && s.length >= c.UnhealthyThreshold:
		if r.silent && !heard.After(s.since) {
			// A new instance waits for its first result. Where checks cannot
			// run it would wait in vain, so it is healthy and callers' outlier
			// detection decides.
			return discovery.CheckedHealth{Healthy: true}, !checked
		}
		return discovery.CheckedHealth{Reason: r.reason}, true
	}
	return before, false
}
