package policy

import (
	"fmt"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

var healthCheckSection = SectionDef{
	"healthCheck", "healthCheck", ClusterLayer, false,
	func(s *settings) bool { return s.HealthCheck != nil },
	func(to, from *settings) { to.HealthCheck = from.HealthCheck },
}

func checkHealthCheck(c *Checker, s *settings) {
	h := s.HealthCheck
	if h == nil {
		return
	}
	if h.HTTP != nil && h.GRPC != nil {
		c.bad("healthCheck", "it has both http and grpc", "give one of them, or neither for a TCP connect")
	}
	if h.HTTP != nil {
		if !strings.HasPrefix(h.HTTP.Path, "/") || len(h.HTTP.Path) > 1024 || !Printable(h.HTTP.Path) {
			c.bad("healthCheck.http.path", fmt.Sprintf("%q is not a path", h.HTTP.Path), "begin it with a slash, like /healthz, without spaces")
		}
		if len(h.HTTP.Host) > 253 || !Printable(h.HTTP.Host) {
			c.bad("healthCheck.http.host", fmt.Sprintf("%q is not a host", h.HTTP.Host), "write a host name")
		}
	}
	c.duration("healthCheck.interval", h.Interval, time.Second, 5*time.Minute, false)
	c.duration("healthCheck.timeout", h.Timeout, 10*time.Millisecond, time.Minute, false)
	c.number("healthCheck.unhealthyThreshold", h.UnhealthyThreshold, 1, 10)
	c.number("healthCheck.healthyThreshold", h.HealthyThreshold, 1, 10)
}

// HealthCheck is how every caller probes the endpoints of a cluster.
type HealthCheck struct {
	// HTTP and GRPC say what is asked; neither is a TCP connect.
	HTTP                                 *v1alpha1.HTTPHealthCheck
	GRPC                                 *v1alpha1.GRPCHealthCheck
	Interval, Timeout                    time.Duration
	UnhealthyThreshold, HealthyThreshold uint32
}

// HealthCheck returns the check that a policy asks of every caller, nil for none.
func (s *Settings) HealthCheck() *HealthCheck {
	h := s.Stated.HealthCheck
	if h == nil {
		return nil
	}
	out := &HealthCheck{
		HTTP: h.HTTP, GRPC: h.GRPC, Interval: 5 * time.Second, Timeout: time.Second, UnhealthyThreshold: 2, HealthyThreshold: 2,
	}
	takeDuration(&out.Interval, h.Interval)
	takeDuration(&out.Timeout, h.Timeout)
	takeNumber(&out.UnhealthyThreshold, h.UnhealthyThreshold)
	takeNumber(&out.HealthyThreshold, h.HealthyThreshold)
	return out
}
