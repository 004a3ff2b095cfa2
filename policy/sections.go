package policy

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// side is where a section acts.
type side uint8

const (
	// requests is the route that a request takes.
	requests side = 1 << iota
	// clusters is the target's clusters.
	clusters
)

// section is a section of a TrafficPolicy, or that part of one which acts on
// one side. The parts are effective independently: a rule's time limit does
// not take away the connect timeout that is stated for its Service.
type section struct {
	// name is the field's path below spec, and the key in Settings.From.
	name string
	// in is the section of the API that it belongs to: an invalid one has no effect at all.
	in   string
	side side
	// http is true for what means nothing on a port that is not HTTP.
	http bool
	has  func(*v1alpha1.TrafficSettings) bool
	take func(to, from *v1alpha1.TrafficSettings)
}

type settings = v1alpha1.TrafficSettings

// sections in the order of the API.
var sections = []section{
	{
		"timeout.connect", "timeout", clusters, false,
		func(s *settings) bool { return s.Timeout != nil && s.Timeout.Connect != nil },
		func(to, from *settings) { edit(&to.Timeout).Connect = from.Timeout.Connect },
	},
	{
		"timeout.streamAge", "timeout", clusters, true,
		func(s *settings) bool { return s.Timeout != nil && s.Timeout.StreamAge != nil },
		func(to, from *settings) { edit(&to.Timeout).StreamAge = from.Timeout.StreamAge },
	},
	{
		"timeout", "timeout", requests, false,
		func(s *settings) bool {
			return s.Timeout != nil && (s.Timeout.Request != nil || s.Timeout.Idle != nil || s.Timeout.ConnectionAge != nil)
		},
		func(to, from *settings) {
			t := edit(&to.Timeout)
			t.Request, t.Idle, t.ConnectionAge = from.Timeout.Request, from.Timeout.Idle, from.Timeout.ConnectionAge
		},
	},
	{
		"retry.budgetPercent", "retry", clusters, true,
		func(s *settings) bool { return s.Retry != nil && s.Retry.BudgetPercent != nil },
		func(to, from *settings) { edit(&to.Retry).BudgetPercent = from.Retry.BudgetPercent },
	},
	{
		"retry", "retry", requests, true,
		func(s *settings) bool { return s.Retry != nil && !onlyBudget(s.Retry) },
		func(to, from *settings) {
			budget := edit(&to.Retry).BudgetPercent
			*to.Retry = *from.Retry
			to.Retry.BudgetPercent = budget
		},
	},
	{
		"connectionPool", "connectionPool", clusters, false,
		func(s *settings) bool { return s.ConnectionPool != nil },
		func(to, from *settings) { to.ConnectionPool = from.ConnectionPool },
	},
	{
		"outlierDetection", "outlierDetection", clusters, false,
		func(s *settings) bool { return s.OutlierDetection != nil },
		func(to, from *settings) { to.OutlierDetection = from.OutlierDetection },
	},
	{
		"healthCheck", "healthCheck", clusters, false,
		func(s *settings) bool { return s.HealthCheck != nil },
		func(to, from *settings) { to.HealthCheck = from.HealthCheck },
	},
	{
		"loadBalancer", "loadBalancer", clusters, false,
		func(s *settings) bool { return s.LoadBalancer != nil },
		func(to, from *settings) {
			hash := edit(&to.LoadBalancer).Hash
			*to.LoadBalancer = *from.LoadBalancer
			to.LoadBalancer.Hash = hash
		},
	},
	{
		"loadBalancer.hash", "loadBalancer", requests, true,
		func(s *settings) bool { return s.LoadBalancer != nil && s.LoadBalancer.Hash != nil },
		func(to, from *settings) { edit(&to.LoadBalancer).Hash = from.LoadBalancer.Hash },
	},
	{
		"locality", "locality", clusters, false,
		func(s *settings) bool { return s.Locality != "" },
		func(to, from *settings) { to.Locality = from.Locality },
	},
	{
		"sessionPersistence", "sessionPersistence", requests, true,
		func(s *settings) bool { return s.SessionPersistence != nil },
		func(to, from *settings) { to.SessionPersistence = from.SessionPersistence },
	},
	{
		"fault", "fault", requests, true,
		func(s *settings) bool { return s.Fault != nil },
		func(to, from *settings) { to.Fault = from.Fault },
	},
	{
		"proxyProtocol", "proxyProtocol", clusters, false,
		func(s *settings) bool { return s.ProxyProtocol != "" },
		func(to, from *settings) { to.ProxyProtocol = from.ProxyProtocol },
	},
	{
		"tls", "tls", clusters, false,
		func(s *settings) bool { return s.TLS != nil },
		func(to, from *settings) { to.TLS = from.TLS },
	},
}

// edit returns what p points to, made if there is nothing yet.
func edit[T any](p **T) *T {
	if *p == nil {
		*p = new(T)
	}
	return *p
}

func onlyBudget(r *v1alpha1.Retry) bool {
	return r.BudgetPercent != nil && r.Attempts == nil && r.PerTry == nil && r.Backoff == nil && len(r.RetryOn) == 0 &&
		len(r.StatusCodes) == 0 && len(r.Methods) == 0 && r.AvoidPreviousHosts == nil
}

// longest is the longest time that may be stated: Envoy's clock and protobuf
// take more, but nobody means it.
const longest = 366 * 24 * time.Hour

// mistake is why a section has no effect.
type mistake struct {
	// in is the section's name.
	in string
	v1alpha1.FieldError
}

// mistakes returns what is wrong in sections of a policy, in the order of the
// API. It is what the CRD's schema says and what Envoy would refuse, for
// objects that no API server has seen and fields that a schema cannot judge.
func mistakes(s *v1alpha1.TrafficSettings) []mistake {
	c := checker{}
	if t := s.Timeout; t != nil {
		c.in = "timeout"
		c.duration("timeout.connect", t.Connect, time.Millisecond, time.Hour, false)
		c.duration("timeout.request", t.Request, time.Millisecond, longest, true)
		c.duration("timeout.idle", t.Idle, time.Millisecond, longest, true)
		c.duration("timeout.connectionAge", t.ConnectionAge, time.Second, longest, true)
		c.duration("timeout.streamAge", t.StreamAge, time.Second, longest, true)
	}
	if r := s.Retry; r != nil {
		c.in = "retry"
		c.retry(r)
	}
	if p := s.ConnectionPool; p != nil {
		c.in = "connectionPool"
		c.number("connectionPool.maxConnections", p.MaxConnections, 1, maxInt32)
		c.number("connectionPool.maxPendingRequests", p.MaxPendingRequests, 1, maxInt32)
		c.number("connectionPool.maxRequests", p.MaxRequests, 1, maxInt32)
		c.number("connectionPool.maxRequestsPerConnection", p.MaxRequestsPerConnection, 1, maxInt32)
		c.duration("connectionPool.idleTimeout", p.IdleTimeout, time.Millisecond, longest, true)
		c.duration("connectionPool.maxConnectionAge", p.MaxConnectionAge, time.Millisecond, longest, true)
	}
	if o := s.OutlierDetection; o != nil {
		c.in = "outlierDetection"
		c.number("outlierDetection.consecutive5xx", o.Consecutive5xx, 1, maxInt32)
		c.number("outlierDetection.consecutiveGatewayErrors", o.ConsecutiveGatewayErrors, 1, maxInt32)
		c.number("outlierDetection.consecutiveConnectFailures", o.ConsecutiveConnectFailures, 1, maxInt32)
		c.duration("outlierDetection.interval", o.Interval, 10*time.Millisecond, time.Hour, false)
		c.duration("outlierDetection.baseEjectionTime", o.BaseEjectionTime, time.Millisecond, 24*time.Hour, false)
		c.number("outlierDetection.maxEjectionPercent", o.MaxEjectionPercent, 0, 100)
	}
	if h := s.HealthCheck; h != nil {
		c.in = "healthCheck"
		c.healthCheck(h)
	}
	if l := s.LoadBalancer; l != nil {
		c.in = "loadBalancer"
		c.loadBalancer(l)
	}
	c.in = "locality"
	c.oneOf("locality", string(s.Locality), "", string(v1alpha1.PreferZone), string(v1alpha1.StrictLocality), string(v1alpha1.NoLocality))
	if f := s.Fault; f != nil {
		c.in = "fault"
		c.fault(f)
	}
	c.in = "proxyProtocol"
	c.oneOf("proxyProtocol", string(s.ProxyProtocol), "", string(v1alpha1.ProxyProtocolV1), string(v1alpha1.ProxyProtocolV2))
	if s.TLS != nil {
		c.in = "tls"
		c.tls("tls", s.TLS)
	}
	return c.found
}

const maxInt32 = 1<<31 - 1

// checker gathers mistakes of the section that it is in.
type checker struct {
	in    string
	found []mistake
}

func (c *checker) bad(field, message, remedy string) {
	c.found = append(c.found, mistake{c.in, v1alpha1.FieldError{Field: "spec." + field, Message: message, Remedy: remedy}})
}

func (c *checker) duration(field string, d *metav1.Duration, least, most time.Duration, zero bool) {
	if d == nil || (zero && d.Duration == 0) || (d.Duration >= least && d.Duration <= most) {
		return
	}
	remedy := fmt.Sprintf("write %s to %s", plain(least), plain(most))
	if zero {
		remedy += ", or 0s for none"
	}
	c.bad(field, plain(d.Duration)+" is out of bounds", remedy)
}

// plain writes a duration without the zero units that Go adds, as an SRE would.
func plain(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

func (c *checker) number(field string, n *int32, least, most int32) {
	if n == nil || (*n >= least && *n <= most) {
		return
	}
	remedy := fmt.Sprintf("write %d to %d", least, most)
	if most == maxInt32 {
		remedy = fmt.Sprintf("write at least %d", least)
	}
	c.bad(field, fmt.Sprintf("%d is out of bounds", *n), remedy)
}

func (c *checker) oneOf(field, value string, allowed ...string) {
	if slices.Contains(allowed, value) {
		return
	}
	words := make([]string, 0, len(allowed))
	for _, a := range allowed {
		if a != "" {
			words = append(words, a)
		}
	}
	c.bad(field, fmt.Sprintf("%q is not known", value), "write "+orList(words))
}

// orList joins words as "a, b or c".
func orList(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

var (
	methodPattern  = regexp.MustCompile(`^[A-Z]{1,32}$`)
	tokenPattern   = regexp.MustCompile(`^[A-Za-z0-9!#$%&'*+\-.^_|~]{1,256}$`)
	percentPattern = regexp.MustCompile(`^(100(\.0{1,2})?|[0-9]{1,2}(\.[0-9]{1,2})?)$`)
	dnsPattern     = regexp.MustCompile(`^(\*\.)?[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?)*$`)
)

var retryConditions = []string{
	"ConnectFailure", "RefusedStream", "ResetBeforeRequest", "Reset", "GatewayError", "ServerError", "RetriableStatusCodes",
	"GRPCCancelled", "GRPCDeadlineExceeded", "GRPCInternal", "GRPCResourceExhausted", "GRPCUnavailable",
}

func (c *checker) retry(r *v1alpha1.Retry) {
	c.number("retry.attempts", r.Attempts, 0, 10)
	c.duration("retry.perTry", r.PerTry, time.Millisecond, longest, true)
	c.duration("retry.backoff", r.Backoff, time.Millisecond, time.Hour, false)
	for i, on := range r.RetryOn {
		c.oneOf(fmt.Sprintf("retry.retryOn[%d]", i), string(on), retryConditions...)
	}
	for i := range r.StatusCodes {
		c.number(fmt.Sprintf("retry.statusCodes[%d]", i), &r.StatusCodes[i], 400, 599)
	}
	for i, m := range r.Methods {
		if !methodPattern.MatchString(m) {
			c.bad(fmt.Sprintf("retry.methods[%d]", i), fmt.Sprintf("%q is not a method", m), "write it in capitals, like GET")
		}
	}
	c.number("retry.budgetPercent", r.BudgetPercent, 1, 100)
}

func (c *checker) healthCheck(h *v1alpha1.ActiveHealthCheck) {
	if h.HTTP != nil && h.GRPC != nil {
		c.bad("healthCheck", "it has both http and grpc", "give one of them, or neither for a TCP connect")
	}
	if h.HTTP != nil {
		if !strings.HasPrefix(h.HTTP.Path, "/") || len(h.HTTP.Path) > 1024 || !printable(h.HTTP.Path) {
			c.bad("healthCheck.http.path", fmt.Sprintf("%q is not a path", h.HTTP.Path), "begin it with a slash, like /healthz, without spaces")
		}
		if len(h.HTTP.Host) > 253 || !printable(h.HTTP.Host) {
			c.bad("healthCheck.http.host", fmt.Sprintf("%q is not a host", h.HTTP.Host), "write a host name")
		}
	}
	c.duration("healthCheck.interval", h.Interval, time.Second, 5*time.Minute, false)
	c.duration("healthCheck.timeout", h.Timeout, 10*time.Millisecond, time.Minute, false)
	c.number("healthCheck.unhealthyThreshold", h.UnhealthyThreshold, 1, 10)
	c.number("healthCheck.healthyThreshold", h.HealthyThreshold, 1, 10)
}

// printable reports whether a text is visible ASCII, as header values and paths are.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func (c *checker) loadBalancer(l *v1alpha1.LoadBalancer) {
	c.oneOf("loadBalancer.algorithm", string(l.Algorithm), "", string(v1alpha1.RoundRobin), string(v1alpha1.LeastRequest),
		string(v1alpha1.Random), string(v1alpha1.RingHash), string(v1alpha1.Maglev))
	c.duration("loadBalancer.slowStart", l.SlowStart, time.Millisecond, 24*time.Hour, true)
	if l.SlowStart != nil && l.Algorithm != "" && l.Algorithm != v1alpha1.RoundRobin && l.Algorithm != v1alpha1.LeastRequest {
		c.bad("loadBalancer.slowStart", fmt.Sprintf("%s has none", l.Algorithm), "use RoundRobin or LeastRequest")
	}
	h := l.Hash
	if h == nil {
		return
	}
	if !hashes(l.Algorithm) {
		c.bad("loadBalancer.hash", "only RingHash and Maglev hash", "set algorithm to one of them")
	}
	given := 0
	if h.Header != "" {
		given++
		if !tokenPattern.MatchString(h.Header) {
			c.bad("loadBalancer.hash.header", fmt.Sprintf("%q is not the name of a header", h.Header), "write one like X-User")
		}
	}
	if h.Cookie != nil {
		given++
		if !tokenPattern.MatchString(h.Cookie.Name) {
			c.bad("loadBalancer.hash.cookie.name", fmt.Sprintf("%q is not the name of a cookie", h.Cookie.Name), "write one like session")
		}
		c.duration("loadBalancer.hash.cookie.ttl", h.Cookie.TTL, time.Second, 10*longest, true)
		if p := h.Cookie.Path; p != "" && (!strings.HasPrefix(p, "/") || !printable(p) || strings.Contains(p, ";") || len(p) > 1024) {
			c.bad("loadBalancer.hash.cookie.path", fmt.Sprintf("%q is not a path", p), "begin it with a slash, without spaces and semicolons")
		}
	}
	if h.Source != nil {
		given++
	}
	if given != 1 {
		c.bad("loadBalancer.hash", fmt.Sprintf("it has %d keys", given), "give exactly one of header, cookie and source")
	}
}

func hashes(a v1alpha1.LoadBalancerAlgorithm) bool {
	return a == v1alpha1.RingHash || a == v1alpha1.Maglev
}

func (c *checker) fault(f *v1alpha1.Fault) {
	if f.Delay == nil && f.Abort == nil {
		c.bad("fault", "it has neither delay nor abort", "give delay, abort or both")
	}
	percent := func(field string, p v1alpha1.Percent) {
		if !percentPattern.MatchString(string(p)) {
			c.bad(field, fmt.Sprintf("%q is not a percentage", p), `write "0" to "100" with up to two places`)
		}
	}
	if d := f.Delay; d != nil {
		c.duration("fault.delay.duration", &d.Duration, time.Millisecond, time.Hour, false)
		percent("fault.delay.percent", d.Percent)
	}
	if a := f.Abort; a != nil {
		if (a.Status != nil) == (a.GRPCStatus != nil) {
			c.bad("fault.abort", "it needs one status", "give either status or grpcStatus")
		}
		c.number("fault.abort.status", a.Status, 200, 599)
		c.number("fault.abort.grpcStatus", a.GRPCStatus, 0, 16)
		percent("fault.abort.percent", a.Percent)
	}
}

// tls checks what stands at a path below spec: a policy's section, or an ExternalService's port.
func (c *checker) tls(at string, t *v1alpha1.UpstreamTLS) {
	if t.SNI != "" && !isHostName(t.SNI) {
		c.bad(at+".sni", fmt.Sprintf("%q is not a host name", t.SNI), "write the name that the certificate has")
	}
	for i, name := range t.SubjectAltNames {
		if !isHostName(name) && !isURI(name) {
			c.bad(fmt.Sprintf("%s.subjectAltNames[%d]", at, i), fmt.Sprintf("%q is neither a host name nor a URI", name),
				"write one like api.example.com or spiffe://example.com/api")
		}
	}
}

// isHostName reports whether s can be a certificate's DNS name or IP address.
func isHostName(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	return len(s) <= 253 && dnsPattern.MatchString(s)
}

func isURI(s string) bool {
	scheme, rest, ok := strings.Cut(s, "://")
	return ok && scheme != "" && rest != "" && printable(s)
}
