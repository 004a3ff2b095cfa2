package v1alpha1

import (
	"fmt"
	"regexp"
	"time"
)

// FieldError is a mistake in a field of an object.
type FieldError struct {
	// Field is the path, for example "spec.ports[0].port".
	Field string
	// Message says what is wrong, Remedy what to write instead.
	Message, Remedy string
}

// Error returns the field, the message and the remedy in one line.
func (e FieldError) Error() string { return e.Field + ": " + e.Message + ": " + e.Remedy }

var (
	regionPattern = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)+$`)
	pathPattern   = regexp.MustCompile(`^/[!-~]*$`)
	hostPattern   = regexp.MustCompile(`^[!-~]*$`)
	rolePattern   = regexp.MustCompile(`^arn:aws[a-z-]*:iam::\d{12}:role/.+$`)
)

// Defaults of an InstanceGroup, the same that its CRD has.
const (
	DefaultInterval   = 5 * time.Second
	DefaultTimeout    = time.Second
	DefaultThreshold  = 2
	DefaultMaxPercent = 30
)

// Limits of an InstanceGroup, the same that its CRD has.
const (
	maxName      = 63
	maxPorts     = 64
	maxSelectors = 32
	maxPath      = 1024
	maxHost      = 253
)

// DefaultInstanceGroup fills in the CRD's defaults, for objects that no API
// server has seen.
func DefaultInstanceGroup(g *InstanceGroup) {
	s := &g.Spec
	if s.Address == "" {
		s.Address = PrivateIPv4
	}
	if s.Spot == "" {
		s.Spot = SpotSame
	}
	if s.RemovalGuard.MaxPercent == nil {
		percent := int32(DefaultMaxPercent)
		s.RemovalGuard.MaxPercent = &percent
	}
	if h := s.HealthCheck; h != nil {
		if h.Interval.Duration == 0 {
			h.Interval.Duration = DefaultInterval
		}
		if h.Timeout.Duration == 0 {
			h.Timeout.Duration = DefaultTimeout
		}
		if h.UnhealthyThreshold == 0 {
			h.UnhealthyThreshold = DefaultThreshold
		}
		if h.HealthyThreshold == 0 {
			h.HealthyThreshold = DefaultThreshold
		}
	}
}

// ValidateInstanceGroup returns the mistakes that the CRD's schema refuses, for
// objects that no API server has seen. The object must have its defaults.
func ValidateInstanceGroup(g *InstanceGroup) []FieldError {
	var out []FieldError
	bad := func(field, message, remedy string) { out = append(out, FieldError{field, message, remedy}) }
	s := &g.Spec
	if s.ServiceRef.Name == "" || len(s.ServiceRef.Name) > maxName {
		bad("spec.serviceRef.name", fmt.Sprintf("%q is not the name of a Service", s.ServiceRef.Name), "name a Service of the same namespace")
	}
	if !regionPattern.MatchString(s.Region) {
		bad("spec.region", fmt.Sprintf("%q is not an AWS region", s.Region), "write one like ap-northeast-1")
	}
	if s.RoleARN != "" && !rolePattern.MatchString(s.RoleARN) {
		bad("spec.roleARN", fmt.Sprintf("%q is not the ARN of a role", s.RoleARN), "write one like arn:aws:iam::123456789012:role/causeway")
	}
	if len(s.Selector.AutoScalingGroups) == 0 && len(s.Selector.Tags) == 0 {
		bad("spec.selector", "it is empty and would take every instance of the account", "give autoScalingGroups, tags or both")
	}
	if s.Address != PrivateIPv4 && s.Address != IPv6 {
		bad("spec.address", fmt.Sprintf("%q is not an address that callers can use", s.Address), "write PrivateIPv4 or IPv6")
	}
	if s.Spot != SpotPrefer && s.Spot != SpotSame && s.Spot != SpotAvoid {
		bad("spec.spot", fmt.Sprintf("%q is not a preference", s.Spot), "write Prefer, Same or Avoid")
	}
	if p := s.RemovalGuard.MaxPercent; p != nil && (*p < 0 || *p > 100) {
		bad("spec.removalGuard.maxPercent", fmt.Sprintf("%d is not a percentage", *p), "write 0 to 100")
	}
	if len(s.Selector.AutoScalingGroups) > maxSelectors || len(s.Selector.Tags) > maxSelectors {
		bad("spec.selector", fmt.Sprintf("it has more than %d auto scaling groups or tags", maxSelectors), "split the InstanceGroup")
	}
	groups := make(map[string]struct{})
	for i, name := range s.Selector.AutoScalingGroups {
		if _, dup := groups[name]; dup {
			bad(fmt.Sprintf("spec.selector.autoScalingGroups[%d]", i), fmt.Sprintf("%q stands twice", name), "name each group once")
		}
		groups[name] = struct{}{}
	}
	if len(s.Ports) == 0 {
		bad("spec.ports", "it is empty", "map at least one port of the Service")
	}
	if len(s.Ports) > maxPorts {
		bad("spec.ports", fmt.Sprintf("there are more than %d", maxPorts), "split the Service")
	}
	seen := make(map[string]struct{})
	for i, p := range s.Ports {
		field := fmt.Sprintf("spec.ports[%d]", i)
		if p.Port < 1 || p.Port > 65535 {
			bad(field+".port", fmt.Sprintf("%d is not a port", p.Port), "write 1 to 65535")
		}
		if len(p.Name) > maxName {
			bad(field+".name", fmt.Sprintf("%q is not the name of a port", p.Name), "write that of a port of the Service")
		}
		if _, dup := seen[p.Name]; dup {
			bad(field+".name", fmt.Sprintf("%q stands twice", p.Name), "map each port of the Service once")
		}
		seen[p.Name] = struct{}{}
	}
	if h := s.HealthCheck; h != nil {
		out = append(out, validateHealthCheck(h)...)
	}
	return out
}

func validateHealthCheck(h *HealthCheck) []FieldError {
	var out []FieldError
	bad := func(field, message, remedy string) {
		out = append(out, FieldError{"spec.healthCheck." + field, message, remedy})
	}
	if h.HTTP != nil && !pathPattern.MatchString(h.HTTP.Path) {
		bad("http.path", fmt.Sprintf("%q is not a path", h.HTTP.Path), "begin it with a slash, like /healthz, without spaces")
	}
	if h.HTTP != nil && len(h.HTTP.Path) > maxPath {
		bad("http.path", fmt.Sprintf("it is longer than %d bytes", maxPath), "shorten it")
	}
	if h.HTTP != nil && (len(h.HTTP.Host) > maxHost || !hostPattern.MatchString(h.HTTP.Host)) {
		bad("http.host", fmt.Sprintf("%q is not a host name of at most %d bytes", h.HTTP.Host, maxHost), "write a host name")
	}
	if h.Port < 0 || h.Port > 65535 {
		bad("port", fmt.Sprintf("%d is not a port", h.Port), "write 1 to 65535, or leave it out for the first port")
	}
	if d := h.Interval.Duration; d < time.Second || d > 5*time.Minute {
		bad("interval", fmt.Sprintf("%s is out of bounds", d), "write 1s to 5m")
	}
	if d := h.Timeout.Duration; d < 10*time.Millisecond || d > time.Minute {
		bad("timeout", fmt.Sprintf("%s is out of bounds", d), "write 10ms to 1m")
	}
	if n := h.UnhealthyThreshold; n < 1 || n > 10 {
		bad("unhealthyThreshold", fmt.Sprintf("%d is out of bounds", n), "write 1 to 10")
	}
	if n := h.HealthyThreshold; n < 1 || n > 10 {
		bad("healthyThreshold", fmt.Sprintf("%d is out of bounds", n), "write 1 to 10")
	}
	return out
}
