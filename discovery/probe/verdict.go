package probe

import (
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// result is the outcome of one check.
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

// judge adds a result, whose check began at started, and returns the verdict
// and whether it is another than before. heard is when any instance of the
// same network last said anything: without that, silence says nothing.
func (s *streak) judge(r result, started, heard time.Time, checked bool, before discovery.Verdict, c *v1alpha1.HealthCheck) (discovery.Verdict, bool) {
	if r.ok != s.ok || s.length == 0 {
		*s = streak{ok: r.ok, since: started}
	}
	if s.length < max(c.HealthyThreshold, c.UnhealthyThreshold) {
		s.length++
	}
	switch {
	case r.ok && !checked:
		return discovery.Verdict{Healthy: true}, true
	case r.ok && !before.Healthy && s.length >= c.HealthyThreshold:
		return discovery.Verdict{Healthy: true}, true
	case !r.ok && (!checked || before.Healthy) && s.length >= c.UnhealthyThreshold:
		if r.silent && !heard.After(s.since) {
			// A newcomer waits for a verdict. Where checks cannot run there is
			// none to wait for, and callers have the only say.
			return discovery.Verdict{Healthy: true}, !checked
		}
		return discovery.Verdict{Reason: r.reason}, true
	}
	return before, false
}
