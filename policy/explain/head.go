package explain

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
)

// Why a proxy does not take a request as it is written.
const (
	badPath     = "a path has no space, no control character and no byte above 7E: clients send these percent-encoded (in PHP: rawurlencode)"
	badFragment = "a path has no fragment (#): clients keep it to themselves"
	noPath      = "the URL has no / after its host, which a proxy does not take as it stands. Most clients send http://HOST/?QUERY for it, PHP's streams with request_fulluri do not"
	asterisk    = "OPTIONS * is about a server as a whole, and no route leads there: ask for a path"
	badHost     = "a host has only letters, digits and -._~!$&'()*+,;=:%@[]"
	tooOld      = "the load balancers in front speak HTTP/1.1, so HTTP/1.0 is not taken; with a hop of kind Proxy in spec.inFront it is"
	noHost      = "the request names no host: HTTP/1.1 asks for the header Host, and the mesh finds whom a request is for by it, of HTTP/1.0 too"
	noTunnel    = "CONNECT asks for a tunnel, and routes lead none anywhere: ask for http://, and let the mesh make TLS"
	badTarget   = "what is asked for is no path: a path starts with /"
	nominated   = "the header Connection names X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto or a field of HTTP/2, or more than 9 headers"
)

// head does the first steps of every proxy: it refuses a request that it cannot read, and removes the headers that concern
// the client's connection alone (RFC 9110, section 7.6.1). http10 allows HTTP/1.0. The answer is nil for a request that
// goes on. read is false if the request is refused before all of its headers count.
func (e *evaluation) head(http10 bool) (a *Answer, read bool) {
	if e.req.HTTP2 {
		return e.head2()
	}
	// The proxy's codec answers before anybody knows that the caller speaks gRPC.
	path := e.req.Path
	headers, ok := ownConnection(e.req.Headers)
	switch {
	case !strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "?") && (path != "*" || e.req.Method != methodOptions):
		return &Answer{Status: 400, Because: badTarget}, false
	case !printable(path):
		return &Answer{Status: 400, Because: badPath}, false
	case !ok:
		return &Answer{Status: 400, Because: nominated}, false
	case strings.ContainsFunc(e.req.Host, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(hostless, r) }):
		return &Answer{Status: 400, Because: badHost}, false
	}
	e.req.Headers = received(headers)
	if e.req.HTTP10 && !http10 {
		return e.answer(426, tooOld), false
	}
	if e.req.NoHost {
		return e.answer(400, noHost), true
	}
	return e.refused(), true
}

// refused answers a request that can be read and is not taken.
func (e *evaluation) refused() *Answer {
	path := e.req.Path
	switch {
	case e.req.HTTP2 && e.req.Method == methodConnect: // it has no path
	case e.req.Method == "QUERY" && e.req.header("content-type") == "":
		return e.answer(400, "QUERY says of what kind its question is: add the header Content-Type")
	case path == "*":
		return e.answer(404, asterisk)
	case path[0] == '?':
		return e.answer(404, noPath)
	case strings.Contains(path, "#"):
		return e.answer(400, badFragment)
	}
	return nil
}

// methodOptions asks what a resource takes, methodConnect for a tunnel; net/http, which knows them too, has no place here.
const (
	methodOptions = "OPTIONS"
	methodConnect = "CONNECT"
)

// findsRoute reports whether a proxy looks for a route when it refuses a request before it
// would. Envoy looks for none where X-Forwarded-Proto is not there, which it writes itself
// only afterwards, so this is about who has sent it.
func (e *evaluation) findsRoute() bool {
	e.early = true
	return e.req.header("x-forwarded-proto") != ""
}

// dressBy returns the headers in the answer by which a proxy refuses a request
// before it looks for a route: those of the rule that matches the request as far
// as the proxy has read it.
func (e *evaluation) dressBy(rules []policy.Rule) {
	for i := range rules {
		if rule := &rules[i]; mismatch(rule, &e.req) == "" {
			e.out.Envoy.Routes = []string{e.routeName(rule)}
			if !e.headersOf(rule) {
				return
			}
			e.out.Answer.HeadersOf = fmt.Sprintf("%s/%s rule %d", rule.Route.Namespace, rule.Route.Name, rule.Index)
			return
		}
	}
}

// headersOf returns the headers that a rule adds to the proxy's own answer without taking the
// request, and reports whether it does. A rule that answers itself changes its own answer alone.
func (e *evaluation) headersOf(rule *policy.Rule) bool {
	edits := make([]HeaderEdits, len(rule.Backends))
	some := false
	for i := range rule.Backends {
		response := &rule.Backends[i].Filters.Response
		edits[i] = editsOf(response)
		some = some || !response.Empty()
	}
	if !sends(rule) || rule.Filters.Response.Empty() && !some {
		return false
	}
	e.decorate(&rule.Filters.Response)
	if some {
		e.out.Answer.BackendHeaders = edits
	}
	return true
}

// dressAtSidecar is dressBy for what a sidecar refuses.
func (e *evaluation) dressAtSidecar() {
	h := e.host()
	switch {
	case h.routes != nil:
		e.dressBy(h.routes.Rules)
	case h.port != nil:
		e.dressBy([]policy.Rule{*e.defaultRule(&h)})
	case h.external != nil:
		e.dressBy([]policy.Rule{*externalRule(&h)})
	case h.any:
		e.out.Envoy.Routes = []string{naming.AnyRoute}
	}
}

// hostless are the characters that no host has.
const hostless = "\"#/<>?\\^`{|}"

func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// mostNominated is how many headers of the connection's own a proxy lets a request name.
const mostNominated = 9

// ownConnection removes headers that concern the client's connection alone. It
// reports false for a header that must not be removed.
func ownConnection(headers []Header) ([]Header, bool) {
	var named []string
	for _, v := range (&Request{Headers: headers}).values("connection") {
		for token := range strings.SplitSeq(v, ",") {
			if token = strings.ToLower(strings.TrimSpace(token)); token != "" {
				named = append(named, token)
			}
		}
	}
	// For a known upgrade both headers stay; others are ignored.
	sockets := websockets(headers)
	upgrade := slices.Contains(named, "upgrade") && len(sockets) > 0
	if !upgrade {
		if len(named) > mostNominated {
			return nil, false
		}
		for _, token := range named {
			if slices.Contains([]string{"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"}, token) || token[0] == ':' || token == "host" {
				return nil, false
			}
		}
	}
	// An upgrade that is ignored takes the nomination of HTTP2-Settings with it, and
	// the header itself if it is to HTTP/2 alone, named once.
	lines := (&Request{Headers: headers}).values("upgrade")
	ignored := slices.Contains(named, "upgrade") && !upgrade && len(lines) > 0
	settings := ignored && (len(lines) > 1 || !strings.EqualFold(lines[0], "h2c"))
	expect := (&Request{Headers: headers}).values("expect")
	var out []Header
	for _, h := range headers {
		switch name := strings.ToLower(h.Name); {
		case name == "http2-settings" && settings:
			out = append(out, h)
		case name == "upgrade":
			if upgrade && !slices.ContainsFunc(out, func(h Header) bool { return strings.EqualFold(h.Name, "upgrade") }) {
				out = append(out, Header{h.Name, strings.Join(sockets, ",")})
			}
		case name == "connection" && upgrade:
			out = append(out, h)
		case name == "te":
			// Only that trailers are understood is passed on, once.
			if slices.ContainsFunc(strings.Split(h.Value, ","), func(s string) bool { return strings.EqualFold(strings.TrimSpace(s), "trailers") }) &&
				!slices.ContainsFunc(out, func(h Header) bool { return strings.EqualFold(h.Name, "te") }) {
				out = append(out, Header{h.Name, "trailers"})
			}
		case name == "expect" && len(expect) == 1 && strings.EqualFold(h.Value, "100-continue"):
			// The proxy has sent the client 100.
		case slices.Contains([]string{"connection", "keep-alive", "proxy-connection", "http2-settings"}, name):
		case !upgrade && slices.Contains(named, name):
		default:
			out = append(out, h)
		}
	}
	return out, true
}

// websockets returns the websocket protocol among those that a request offers,
// as it is written.
func websockets(headers []Header) []string {
	var out []string
	for _, line := range (&Request{Headers: headers}).values("upgrade") {
		for s := range strings.SplitSeq(line, ",") {
			if s = strings.TrimSpace(s); strings.EqualFold(s, "websocket") {
				out = append(out, s)
			}
		}
	}
	return out
}

// refuseUpgrade answers a request that asks for more than one websocket. A proxy
// does so once it has found a route, before anything that the route says.
func (e *evaluation) refuseUpgrade() bool {
	if !strings.Contains(e.req.header("upgrade"), ",") {
		return false
	}
	e.out.Answer = e.answer(403, "the header Upgrade names a websocket more than once")
	return true
}

// deadline tells a gRPC caller how long the mesh lets the request take, if that
// is less than the caller's own limit.
func (e *evaluation) deadline(rule *policy.Rule) {
	if !isGRPC(&e.req) {
		return
	}
	left := rule.Timeouts().Request.Value
	if e.req.header("upgrade") != "" {
		left = 0 // websockets last for as long as they are used
	}
	if said, ok := grpcTimeout(e.req.header("grpc-timeout")); ok && (left == 0 || said < left) {
		left = said
	}
	if left == 0 {
		return
	}
	edit := HeaderEdits{Set: []Header{{"grpc-timeout", grpcTimeoutText(left)}}}
	e.req.Headers = edit.Apply(e.req.Headers)
}

// Units of gRPC's timeouts, the smallest first.
var grpcUnits = []struct {
	unit string
	time.Duration
}{{"n", time.Nanosecond}, {"u", time.Microsecond}, {"m", time.Millisecond}, {"S", time.Second}, {"M", time.Minute}, {"H", time.Hour}}

const grpcTimeoutMost = 99999999 // eight digits

func grpcTimeout(s string) (time.Duration, bool) {
	for _, u := range grpcUnits {
		if digits, ok := strings.CutSuffix(s, u.unit); ok {
			n, err := strconv.ParseUint(digits, 10, 64)
			return time.Duration(n) * u.Duration, err == nil && n <= grpcTimeoutMost //nolint:gosec // n is bounded
		}
	}
	return 0, false
}

func grpcTimeoutText(d time.Duration) string {
	for _, u := range grpcUnits[2:] {
		if n := d / u.Duration; n <= grpcTimeoutMost {
			return strconv.FormatInt(int64(n), 10) + u.unit
		}
	}
	return strconv.Itoa(grpcTimeoutMost) + "H"
}
