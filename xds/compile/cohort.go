package compile

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
)

// Cohorts. A weighted cluster that uses the hash policy takes the hash of the
// cohort's key modulo the total of the weights, which never changes, and the
// pods' interval comes first: so a user whose key falls to the pods stays
// there for as long as the pods' share does not shrink. Every Envoy computes
// the same, before and after a restart.
//
// A request without the key is split at random, and Envoy sets no cookie when
// it chooses a cluster. Where the cookie is the mesh's own, such a request takes
// a route that hashes the request's id and returns that very id as the cookie:
// the first request is already where the next ones will be.

// requestID is the header with the id that every request has: its sender's, or
// else one that Envoy makes.
const requestID = "x-request-id"

// A request's id must be like these to become a cookie: with nothing that ends
// the cookie's value, and long enough to be nobody else's. They are two
// expressions because RE2 spells a repeated class out, and Envoy limits its programs.
const (
	cookieSafe = `[0-9A-Za-z_-]+`
	cookieLong = `.{16}.*`
)

// reported returns the first backend of a rule to whose Service proxies report how requests
// ended, nil for none.
func reported(r *policy.Rule) *policy.Backend {
	for i := range r.Backends {
		if r.Backends[i].Reported {
			return &r.Backends[i]
		}
	}
	return nil
}

// cohortOf returns the key that tells the requests of a rule apart, nil for
// none. If there are several, the first counts; policy reports the others.
func cohortOf(r *policy.Rule) *policy.Cohort {
	for i := range r.Backends {
		if s := r.Backends[i].Shift; s != nil && s.Cohort != nil {
			return s.Cohort
		}
	}
	return nil
}

// shadowed returns the backend of a rule whose requests are copied to its other
// backing, nil for none. A route mirrors all requests that it takes, whichever
// backend they fall to, so a rule with several backends mirrors none.
func shadowed(r *policy.Rule) *policy.Backend {
	if len(r.Backends) != 1 || r.Backends[0].Shift == nil || r.Backends[0].Shift.Shadow == nil {
		return nil
	}
	return &r.Backends[0]
}

// withoutShadow returns rules as they would be if nothing was copied, nil if
// nothing is.
func withoutShadow(rules []policy.Rule) []policy.Rule {
	var out []policy.Rule
	for i := range rules {
		b := shadowed(&rules[i])
		if b == nil {
			continue
		}
		if out == nil {
			out = slices.Clone(rules)
		}
		plain, shift := *b, *b.Shift
		shift.Shadow = nil
		plain.Shift = &shift
		out[i].Backends = []policy.Backend{plain}
	}
	return out
}

// variant is a part of the requests that a match takes which needs a route of
// its own: in Envoy a route has one retry policy and one way to hash, and
// mirrors all of its requests.
type variant struct {
	// methods of the part, nil for all that no variant before takes.
	methods []string
	// again is true for those that may be sent again although a target may
	// have begun to act on them.
	again bool
	// shadow is true for those that are copied to the backing that a shift is to move to.
	shadow bool
	// keyless is true for those that get the mesh's own cookie.
	keyless bool
	// upgrade is true for those that ask for a websocket, whose time is not bounded.
	upgrade bool
}

// variants returns the parts of a match in the order of their routes.
func variants(r *policy.Rule) []variant {
	safe, copied := r.Retry().Methods.Value, []string(nil)
	if b := shadowed(r); b != nil {
		copied = b.Shift.Shadow.Methods
	}
	var out []variant
	if m := r.Match.Method; m != "" {
		out = []variant{{again: slices.Contains(safe, m), shadow: slices.Contains(copied, m)}}
	} else {
		for _, v := range []variant{
			{methods: having(safe, copied, true), again: true, shadow: true},
			{methods: having(safe, copied, false), again: true},
			{methods: having(copied, safe, false), shadow: true},
		} {
			if len(v.methods) > 0 {
				out = append(out, v)
			}
		}
		out = append(out, variant{})
	}
	if setsCookie(r) {
		out = split(out, func(v *variant) { v.keyless = true })
	}
	if r.Timed() {
		out = split(out, func(v *variant) { v.upgrade = true })
	}
	return out
}

// split puts before each variant the part of it that is made of it.
func split(in []variant, part func(*variant)) []variant {
	out := make([]variant, 0, 2*len(in))
	for _, v := range in {
		first := v
		part(&first)
		out = append(out, first, v)
	}
	return out
}

// having returns those of a list that another one has, or those that it has not.
func having(list, other []string, has bool) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(other, s) != has })
}

// setsCookie reports whether the mesh gives its cookie to who has none. It
// cannot where the rule changes the header that the cookie is made of.
func setsCookie(r *policy.Rule) bool {
	c := cohortOf(r)
	if c == nil || c.TTL <= 0 || editsHeader(&r.Filters.Request, requestID) {
		return false
	}
	return !slices.ContainsFunc(r.Backends, func(b policy.Backend) bool { return editsHeader(&b.Filters.Request, requestID) })
}

func editsHeader(e *policy.HeaderEdits, name string) bool {
	same := func(h policy.Header) bool { return strings.EqualFold(h.Name, name) }
	return slices.ContainsFunc(e.Set, same) || slices.ContainsFunc(e.Add, same) ||
		slices.ContainsFunc(e.Remove, func(s string) bool { return strings.EqualFold(s, name) })
}

// named is the variant as routes' names tell it.
func (v *variant) named() naming.Variant {
	return naming.Variant{Safe: v.again, Shadow: v.shadow, Keyless: v.keyless, Upgrade: v.upgrade}
}

// keyless narrows a route to the requests that have no cookie yet, and has
// their answers set it.
func keyless(out *routev3.Route, c *policy.Cohort, at parent) {
	without := headerMatcher("cookie", &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
		SafeRegex: regex(`(?:.*[;,])? *` + regexp.QuoteMeta(c.Cookie) + `=[^;].*`),
	}})
	without.InvertMatch, without.TreatMissingHeaderAsEmpty = true, true
	out.Match.Headers = append(out.Match.Headers, without)
	for _, pattern := range []string{cookieSafe, cookieLong} {
		out.Match.Headers = append(out.Match.Headers, headerMatcher(requestID, &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: regex(pattern)},
		}))
	}
	secure := ""
	if at.scheme == "https" {
		secure = "; Secure"
	}
	out.ResponseHeadersToAdd = append(out.ResponseHeadersToAdd, &corev3.HeaderValueOption{
		Header: &corev3.HeaderValue{
			Key: "set-cookie",
			Value: fmt.Sprintf("%s=%%REQ(%s)%%; Path=/; Max-Age=%d; HttpOnly; SameSite=Lax%s",
				strings.ReplaceAll(c.Cookie, "%", "%%"), requestID, int64(c.TTL/time.Second), secure),
		},
		AppendAction: corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD,
	})
}

// cohortPolicy returns the hash policy of a weighted cluster. It is terminal
// and the only one: for a request without the key another policy would decide,
// and a hash of something that all requests of a caller share would send all of
// them to one side.
func cohortPolicy(c *policy.Cohort, keyless bool) []*routev3.RouteAction_HashPolicy {
	out := &routev3.RouteAction_HashPolicy{Terminal: true}
	header := c.Header
	if keyless {
		header = requestID
	}
	if header != "" {
		out.PolicySpecifier = &routev3.RouteAction_HashPolicy_Header_{
			Header: &routev3.RouteAction_HashPolicy_Header{HeaderName: header},
		}
	} else {
		out.PolicySpecifier = &routev3.RouteAction_HashPolicy_Cookie_{
			Cookie: &routev3.RouteAction_HashPolicy_Cookie{Name: c.Cookie},
		}
	}
	return []*routev3.RouteAction_HashPolicy{out}
}

// shadowPolicy returns the copies that a shift's shadow step sends.
func shadowPolicy(b *policy.Backend) *routev3.RouteAction_RequestMirrorPolicy {
	return &routev3.RouteAction_RequestMirrorPolicy{
		Cluster: naming.Shadow(b.Key, b.Port, b.Shift.Shadow.To),
		RuntimeFraction: &corev3.RuntimeFractionalPercent{DefaultValue: &typev3.FractionalPercent{
			Numerator: min(b.Shift.Shadow.Share, million), Denominator: typev3.FractionalPercent_MILLION,
		}},
		DisableShadowHostSuffixAppend: true,
	}
}

// shiftMark returns the metadata of routes of a rule with a shifted backend, by
// which proxies know whose requests to report.
func shiftMark(b *policy.Backend) *corev3.Metadata {
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
		shiftMetadata: {Fields: map[string]*structpb.Value{
			"service": structpb.NewStringValue(b.Key.String()),
			"port":    structpb.NewNumberValue(float64(b.Port)),
		}},
	}}
}
