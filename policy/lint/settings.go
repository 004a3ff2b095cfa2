package lint

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
)

func settingsRules() []Rule {
	return []Rule{
		{
			Name: "FaultForAll", Severity: policy.Warning,
			Doc:   "a fault meets every request, or none",
			value: faultForAll,
		},
		{
			Name: "TimeoutConflict", Severity: policy.Warning,
			Doc:   "a limit of time can never be reached, because another one ends the request before: a back-off, a connect timeout or a try as long as the whole request",
			value: timeoutConflict,
		},
		{
			Name: "CheckConflict", Severity: policy.Warning,
			Doc:   "a health check's timeout is above its interval, or it takes minutes to notice a failure",
			value: checkConflict,
		},
		{
			Name: "NoRetry", Severity: policy.Warning,
			Doc:   "a retry section that never sends a request again says when it would",
			value: noRetry,
		},
		{
			Name: "UselessRetry", Severity: policy.Warning,
			Doc:   "an answer is retried that the same request gets again, such as 404",
			value: uselessRetry,
		},
		{
			Name: "UnknownMethod", Severity: policy.Warning,
			Doc:   "a method that HTTP does not have",
			value: unknownMethod,
		},
		{
			Name: "PlainTLSPort", Severity: policy.Warning,
			Doc:    "TLS to port 80, or none to port 443",
			object: plainTLSPort,
		},
		{
			Name: "SwitchedOff", Severity: policy.Warning,
			Doc:   "a percentage that switches off what it belongs to: a removal guard at 100, ejection at 0, a mirror of 0 %, a fault that is no failure",
			value: switchedOff,
		},
	}
}

func faultForAll(c *check, v *value) {
	m, ok := v.mapping()
	if !ok || v.name != "abort" && v.name != "delay" {
		return
	}
	percent, ok := number(m, "percent")
	switch {
	case !ok:
	case percent == 0:
		c.tell(v.path+".percent", "it meets no request", "write how many it shall meet, for example 5, or remove it")
	case percent == 100 && v.name == "abort":
		c.tell(v.path+".percent", "every request fails, and none reaches the target", "write how many shall fail, for example 5")
	}
	if d, ok := span(m, "duration"); ok && v.name == "delay" {
		const long = time.Minute
		if d > long && percent > 0 {
			c.tell(v.path+".duration", fmt.Sprintf("callers wait %s and most give up before", d), "write a delay that somebody would bear, for example 3s")
		}
	}
}

// timeoutConflict compares the limits that stand together: in a policy's
// settings, and in a rule of a route.
func timeoutConflict(c *check, v *value) {
	m, ok := v.mapping()
	if !ok {
		return
	}
	request, requestField := time.Duration(0), ""
	for _, section := range []string{"timeout", "timeouts"} {
		if d, ok := span(m, section, "request"); ok && d > 0 {
			request, requestField = d, section+".request"
		}
	}
	if request == 0 {
		return
	}
	compare := func(reason string, orEqual bool, path ...string) {
		d, ok := span(m, path...)
		if !ok || d < request || d == request && !orEqual || d == 0 {
			return
		}
		c.tell(v.path+"."+strings.Join(path, "."), fmt.Sprintf("%s is not less than %s (%s), so %s", d, requestField, request, reason), "shorten it, or lengthen "+requestField)
	}
	compare("the request is over before it is sent again", true, "retry", "backoff")
	compare("no connection ever waits for so long", false, "timeout", "connect")
	if attempts, given := number(m, "retry", "attempts"); !given || attempts > 0 {
		compare("no time is left for another try", true, "retry", "perTry")
		if at(m, "retry") != nil {
			compare("no time is left for another try", true, "timeouts", "backendRequest")
		}
	}
	if idle, ok := span(m, "timeout", "idle"); ok && idle > 0 && idle < request {
		c.tell(v.path+".timeout.idle", fmt.Sprintf("%s ends a request that waits for its answer before %s (%s) does", idle, requestField, request), "let it be at least "+requestField)
	}
}

func checkConflict(c *check, v *value) {
	m, ok := v.mapping()
	if !ok || v.name != "healthCheck" {
		return
	}
	interval, timeout, threshold := 5*time.Second, time.Second, 2.0
	i, given := span(m, "interval")
	if given {
		interval = i
	}
	t, ok := span(m, "timeout")
	if ok {
		timeout = t
	}
	if n, ok := number(m, "unhealthyThreshold"); ok {
		threshold = n
	}
	if timeout > interval {
		field := ".timeout"
		if !ok {
			field = ".interval"
		}
		c.tell(v.path+field, fmt.Sprintf("a check may take %s, longer than the interval of %s", timeout, interval), "let timeout be less than interval, for example 1s and 5s")
	}
	const slow = 2 * time.Minute
	if notice := time.Duration(float64(interval) * threshold); notice > slow && (given || threshold > 2) {
		c.tell(v.path+".interval", fmt.Sprintf("a failure is noticed after %s only", notice), "check more often, for example every 5s")
	}
	const hasty = 50 * time.Millisecond
	if ok && timeout < hasty {
		c.tell(v.path+".timeout", fmt.Sprintf("a busy endpoint does not answer within %s and is taken for dead", timeout), "write, for example, 1s")
	}
	if path := text(m, "http", "path"); strings.ContainsAny(path, "*#") {
		c.tell(v.path+".http.path", fmt.Sprintf("%q is asked for as it stands", path), "write one path, for example /healthz")
	}
	if host := text(m, "http", "host"); strings.ContainsAny(host, "/*,@") {
		c.tell(v.path+".http.host", fmt.Sprintf("%q is not a host", host), "write the host alone, for example shop.example.com")
	}
}

func noRetry(c *check, v *value) {
	m, ok := v.mapping()
	if !ok || v.name != "retry" || len(m) < 2 {
		return
	}
	if n, given := number(m, "attempts"); given && n == 0 {
		c.tell(v.path+".attempts", "nothing is sent again, so the rest of retry has no effect", "write how often, for example 2, or remove the rest")
	}
}

func uselessRetry(c *check, v *value) {
	m, ok := v.mapping()
	if !ok || v.name != "retry" {
		return
	}
	useless := []float64{400, 401, 403, 404, 405, 406, 410, 411, 413, 414, 415, 422, 431, 501, 505}
	for _, list := range []string{"statusCodes", "codes"} {
		codes, _ := at(m, list).([]any)
		for i := range codes {
			if code, _ := number(codes[i]); slices.Contains(useless, code) {
				c.tell(fmt.Sprintf("%s.%s[%d]", v.path, list, i), fmt.Sprintf("the same request is answered %.0f again", code), "list codes that pass, for example 503")
			}
		}
	}
}

// methods that clients use, with those of WebDAV that some do.
var methods = []string{
	"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE",
	"PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "REPORT", "SEARCH", "PURGE", "QUERY",
}

func unknownMethod(c *check, v *value) {
	method, ok := v.v.(string)
	if !ok || v.name != "methods" && v.name != "allowMethods" || method == "*" || slices.Contains(methods, method) {
		return
	}
	remedy := "write methods in capitals, for example GET"
	if near := discovery.Closest(method, methods); near != "" {
		remedy = "did you mean " + near + "?"
	}
	c.tell(v.path, method+" is no method that clients use", remedy)
}

func plainTLSPort(c *check, o *Object) {
	isPlain := func(port float64) bool { return port == 80 || port == 8080 }
	isTLS := func(port float64) bool { return port == 443 || port == 8443 }
	switch o.Kind {
	case discovery.KindExternalService:
		for i, p := range items(o.Value, "spec", "ports") {
			field, name := fmt.Sprintf("spec.ports[%d].number", i), "number"
			port, _ := number(p, name)
			if target, ok := number(p, "targetPort"); ok {
				port, field = target, fmt.Sprintf("spec.ports[%d].targetPort", i)
			}
			protocol := text(p, "protocol")
			switch {
			case isPlain(port) && at(p, "tls") != nil:
				c.tell(field, fmt.Sprintf("TLS is spoken to port %.0f, which is hardly ever a port with TLS", port), "write 443, or remove tls")
			case isTLS(port) && at(p, "tls") == nil && protocol != "TCP" && !c.hasTLS(o.Key.Name):
				c.tell(field, fmt.Sprintf("HTTP without TLS is spoken to port %.0f", port), "add tls: {}, or write protocol: TCP if the workloads speak TLS themselves")
			}
		}
	case discovery.KindGateway:
		for i, l := range items(o.Value, "spec", "listeners") {
			port, _ := number(l, "port")
			field := fmt.Sprintf("spec.listeners[%d].protocol", i)
			switch protocol := text(l, "protocol"); {
			case isTLS(port) && protocol == "HTTP":
				c.tell(field, fmt.Sprintf("clients speak TLS to port %.0f, and this listener does not", port), "write HTTPS, with tls.certificateRefs, or take port 80")
			case port == 80 && (protocol == "HTTPS" || protocol == "TLS"):
				c.tell(field, "clients speak no TLS to port 80, and this listener does", "write HTTP, or take port 443")
			}
		}
	case discovery.KindService:
		for i, p := range items(o.Value, "spec", "ports") {
			port, _ := number(p, "port")
			how := text(p, "appProtocol")
			if how == "" {
				how, _, _ = strings.Cut(text(p, "name"), "-")
			}
			if isTLS(port) && slices.Contains([]string{"http", "http2", "grpc", "h2c", "kubernetes.io/h2c"}, how) && !c.hasTLS(o.Key.Name) {
				c.tell(fmt.Sprintf("spec.ports[%d].port", i), fmt.Sprintf("%s without TLS is spoken to port %.0f", how, port), "create a BackendTLSPolicy about the Service if the endpoints speak TLS, or take another port")
			}
		}
	case discovery.KindTrafficPolicy, discovery.KindBackendTLSPolicy:
		if o.Kind == discovery.KindTrafficPolicy && at(o.Value, "spec", "tls") == nil {
			return
		}
		for i, ref := range items(o.Value, "spec", "targetRefs") {
			if target := c.named(text(ref, "kind"), text(ref, "name")); target != nil {
				tlsTo(c, fmt.Sprintf("spec.targetRefs[%d]", i), text(ref, "sectionName"), target, isPlain)
			}
		}
	}
}

// tlsTo tells of a target of a policy about TLS whose ports are all ones without.
func tlsTo(c *check, field, section string, target *Object, isPlain func(float64) bool) {
	var plain []string
	for _, p := range items(target.Value, "spec", "ports") {
		if section != "" && section != text(p, "name") {
			continue
		}
		port, _ := number(p, "port")
		if n, ok := number(p, "number"); ok {
			port = n
		}
		if n, ok := number(p, "targetPort"); ok {
			port = n
		}
		if !isPlain(port) {
			return
		}
		plain = append(plain, fmt.Sprintf("%.0f", port))
	}
	if len(plain) > 0 {
		c.tell(field, fmt.Sprintf("TLS is spoken to port %s of %s, which is hardly ever a port with TLS", strings.Join(plain, " and "), target.ObjectName), "name the port that speaks TLS, or remove tls")
	}
}

// hasTLS reports whether a policy of the namespace has TLS spoken to an object.
func (c *check) hasTLS(name string) bool {
	for _, o := range c.all {
		if o.Namespace != c.about.Namespace || o.Kind != discovery.KindBackendTLSPolicy && (o.Kind != discovery.KindTrafficPolicy || at(o.Value, "spec", "tls") == nil) {
			continue
		}
		for _, ref := range items(o.Value, "spec", "targetRefs") {
			if text(ref, "kind") == c.about.Kind && text(ref, "name") == name {
				return true
			}
		}
	}
	return false
}

func switchedOff(c *check, v *value) {
	n, ok := number(v.v)
	if !ok {
		return
	}
	part, _ := number(v.parent, "numerator")
	switch {
	case v.name == "grpcStatus" && n == 0:
		c.tell(v.path, "0 is OK, so callers see no failure", "write the code that they shall see, for example 14 (UNAVAILABLE)")
	case v.name == "denominator" && n > 10000*part:
		c.tell(v.path, "next to nothing is mirrored", "write, for example, numerator: 1 and denominator: 100")
	case v.name == "maxPercent" && n == 100:
		c.tell(v.path, "the guard holds nothing back, so one odd answer of the EC2 API empties the group", "write, for example, 30")
	case v.name == "maxEjectionPercent" && n == 0:
		c.tell(v.path, "no endpoint is ever ejected", "write, for example, 50, or remove it")
	case strings.HasSuffix(v.path, "requestMirror.percent") && n == 0, strings.HasSuffix(v.path, "fraction.numerator") && n == 0:
		c.tell(v.path, "nothing is mirrored", "write how many requests shall be, for example 5, or remove the filter")
	}
}
