package policy

import (
	"math"
	"time"
)

var outlierDetectionSection = SectionDef{
	"outlierDetection", "outlierDetection", ClusterLayer, false,
	func(s *settings) bool { return s.OutlierDetection != nil },
	func(to, from *settings) { to.OutlierDetection = from.OutlierDetection },
}

func checkOutlierDetection(c *Checker, s *settings) {
	o := s.OutlierDetection
	if o == nil {
		return
	}
	c.number("outlierDetection.consecutive5xx", o.Consecutive5xx, 1, math.MaxInt32)
	c.number("outlierDetection.consecutiveGatewayErrors", o.ConsecutiveGatewayErrors, 1, math.MaxInt32)
	c.number("outlierDetection.consecutiveConnectFailures", o.ConsecutiveConnectFailures, 1, math.MaxInt32)
	c.duration("outlierDetection.interval", o.Interval, 10*time.Millisecond, time.Hour, false)
	c.duration("outlierDetection.baseEjectionTime", o.BaseEjectionTime, time.Millisecond, 24*time.Hour, false)
	c.number("outlierDetection.maxEjectionPercent", o.MaxEjectionPercent, 0, 100)
}

// OutlierDetection has a caller stop using an endpoint that fails it.
type OutlierDetection struct {
	// Consecutive5xx and ConsecutiveGatewayErrors eject after so many answers in a row, 0 for never.
	Consecutive5xx, ConsecutiveGatewayErrors uint32
	// ConsecutiveConnectFailures is how many connections in a row must fail, or end before an
	// answer, before a caller stops using an endpoint for a while. A connection
	// that comes about starts the count anew, so that requests that crash what
	// answers them eject only where three are under way at once. Answers never
	// eject by default: PHP answers 500 for its bugs on every host alike. The default is two less
	// than a request has attempts, so that a request leaves a zone whose only
	// endpoint is dead: an ejection takes effect once Envoy's main thread has
	// run, and on a busy machine the next attempt may be quicker than that.
	ConsecutiveConnectFailures uint32
	Interval, BaseEjectionTime time.Duration
	MaxEjectionPercent         uint32
}

// OutlierDetection returns what has callers stop using an endpoint.
func (s *Settings) OutlierDetection() OutlierDetection {
	out := OutlierDetection{
		ConsecutiveConnectFailures: DefaultAttempts - 1, Interval: time.Second, BaseEjectionTime: 10 * time.Second, MaxEjectionPercent: 100,
	}
	if in := s.Stated.OutlierDetection; in != nil {
		takeNumber(&out.Consecutive5xx, in.Consecutive5xx)
		takeNumber(&out.ConsecutiveGatewayErrors, in.ConsecutiveGatewayErrors)
		takeNumber(&out.ConsecutiveConnectFailures, in.ConsecutiveConnectFailures)
		takeDuration(&out.Interval, in.Interval)
		takeDuration(&out.BaseEjectionTime, in.BaseEjectionTime)
		takeNumber(&out.MaxEjectionPercent, in.MaxEjectionPercent)
	}
	return out
}
