package policy

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var (
	connectTimeoutSection = SectionDef{
		"timeout.connect", "timeout", ClusterLayer, false,
		func(s *settings) bool { return s.Timeout != nil && s.Timeout.Connect != nil },
		func(to, from *settings) { edit(&to.Timeout).Connect = from.Timeout.Connect },
	}
	streamAgeSection = SectionDef{
		"timeout.streamAge", "timeout", ClusterLayer, true,
		func(s *settings) bool { return s.Timeout != nil && s.Timeout.StreamAge != nil },
		func(to, from *settings) { edit(&to.Timeout).StreamAge = from.Timeout.StreamAge },
	}
	timeoutSection = SectionDef{
		"timeout", "timeout", RequestLayer, false,
		func(s *settings) bool {
			return s.Timeout != nil && (s.Timeout.Request != nil || s.Timeout.Idle != nil || s.Timeout.ConnectionAge != nil)
		},
		func(to, from *settings) {
			t := edit(&to.Timeout)
			t.Request, t.Idle, t.ConnectionAge = from.Timeout.Request, from.Timeout.Idle, from.Timeout.ConnectionAge
		},
	}
)

func checkTimeout(c *Checker, s *settings) {
	t := s.Timeout
	if t == nil {
		return
	}
	c.duration("timeout.connect", t.Connect, time.Millisecond, time.Hour, false)
	c.duration("timeout.request", t.Request, time.Millisecond, longest, true)
	c.duration("timeout.idle", t.Idle, time.Millisecond, longest, true)
	c.duration("timeout.connectionAge", t.ConnectionAge, time.Second, longest, true)
	c.duration("timeout.streamAge", t.StreamAge, time.Second, longest, true)
}

// Defaults of times that nobody has stated.
const (
	// DefaultConnect bounds the establishing of a connection.
	DefaultConnect = 2 * time.Second
	// DefaultIdle ends an HTTP request on which nothing has happened for so long.
	// It is the listener's, so a route says nothing of it.
	DefaultIdle = time.Hour
)

// Timeouts are the times that are in force for requests, or for the connections of
// a port that is not HTTP. 0 is no bound.
type Timeouts struct {
	// Request bounds a whole request with all its attempts, Attempt each of them.
	Request, Attempt Setting[time.Duration]
	// Idle ends a request, or a connection, on which nothing has happened for so long. For connections the
	// default is who carries them: callers' have no bound.
	Idle Setting[time.Duration]
	// ConnectionAge ends connections, whatever they are doing.
	ConnectionAge Setting[time.Duration]
}

// Timeouts returns the times that are in force for a rule's requests: what the
// rule states itself beats TrafficPolicies.
func (r *Rule) Timeouts() Timeouts { return r.inForce().Timeouts() }

// Timed reports whether the time of a rule's requests is bounded.
func (r *Rule) Timed() bool {
	t := r.Timeouts()
	return t.Request.Value > 0 || t.Attempt.Value > 0
}

// Timeouts returns the times that are in force for requests or connections.
func (s *Settings) Timeouts() Timeouts {
	out := Timeouts{Idle: Setting[time.Duration]{Value: DefaultIdle}}
	if t := s.Stated.Timeout; t != nil {
		stateDuration(&out.Request, t.Request, s.origin("timeout.request", "timeout"))
		stateDuration(&out.Idle, t.Idle, s.origin("timeout"))
		stateDuration(&out.ConnectionAge, t.ConnectionAge, s.origin("timeout"))
	}
	if t := s.Stated.Retry; t != nil {
		stateDuration(&out.Attempt, t.PerTry, s.origin("retry.perTry", "retry"))
	}
	return out
}

// Connect bounds the establishing of a connection to an endpoint.
func (s *Settings) Connect() Setting[time.Duration] {
	out := Setting[time.Duration]{Value: DefaultConnect}
	if t := s.Stated.Timeout; t != nil {
		stateDuration(&out, t.Connect, s.origin("timeout.connect"))
	}
	return out
}

// StreamAge ends requests that have been open at an endpoint for so long, 0 for never.
func (s *Settings) StreamAge() Setting[time.Duration] {
	var out Setting[time.Duration]
	if t := s.Stated.Timeout; t != nil {
		stateDuration(&out, t.StreamAge, s.origin("timeout.streamAge"))
	}
	return out
}

// ownTimeout replaces the fields of policies by those that a rule states
// itself.
func (r *Rule) ownTimeout(s *Settings) {
	if d := r.Own.Request; d != nil {
		copied(&s.Stated.Timeout).Request, s.FromRule["timeout.request"] = &metav1.Duration{Duration: *d}, r.own("timeouts.request")
	}
}
