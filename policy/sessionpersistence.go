package policy

import (
	"fmt"
	"hash/fnv"
	"io"
	"strconv"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

var sessionPersistenceSection = section{
	"sessionPersistence", "sessionPersistence", requests, true,
	func(s *settings) bool { return s.SessionPersistence != nil },
	func(to, from *settings) { to.SessionPersistence = from.SessionPersistence },
}

// Session returns what keeps a client at the endpoint that answered it first,
// a nil value for nothing: what the rule states itself, else its policies.
func (r *Rule) Session() Setting[*gatewayv1.SessionPersistence] { return r.inForce().Session() }

// Session returns what keeps a client at its endpoint, a nil value for nothing.
func (s *Settings) Session() Setting[*gatewayv1.SessionPersistence] {
	var out Setting[*gatewayv1.SessionPersistence]
	if p := s.Stated.SessionPersistence; p != nil {
		out.state(p, s.origin("sessionPersistence"))
	}
	return out
}

// SessionHeader reports whether a header and not a cookie keeps a client at its endpoint.
func (r *Rule) SessionHeader() bool {
	s := r.Session().Value
	return s != nil && s.Type != nil && *s.Type == gatewayv1.HeaderBasedSessionPersistence
}

// SessionName is the name of the cookie or header that keeps a client at its
// endpoint. Where no cookie is named there is one for each rule, because the
// endpoints of another rule mean nothing to it.
func (r *Rule) SessionName() string {
	s := r.Session().Value
	switch {
	case s == nil:
		return ""
	case r.SessionHeader() && s.Header != nil:
		return string(s.Header.Name)
	case r.SessionHeader():
		return "x-session-endpoint"
	case s.Cookie != nil && s.Cookie.Name != nil:
		return string(*s.Cookie.Name)
	}
	h := fnv.New64a()
	of := fmt.Sprintf("%s %d", r.Route.String(), r.Index)
	if r.Route.Kind == "" && len(r.Backends) > 0 {
		of = fmt.Sprintf("Service %s:%d", r.Backends[0].Key, r.Backends[0].Port)
	}
	_, _ = io.WriteString(h, of) // never fails
	return "causeway-" + strconv.FormatUint(h.Sum64(), 36)
}

// sessionPersistence returns the stanza if proxies can do what it says.
func (b *routeBuilder) sessionPersistence(field string, in *gatewayv1.SessionPersistence) *gatewayv1.SessionPersistence {
	if in == nil {
		return nil
	}
	b.duration(field+".absoluteTimeout", in.AbsoluteTimeout)
	switch kind := deref(in.Type, gatewayv1.CookieBasedSessionPersistence); kind {
	case gatewayv1.CookieBasedSessionPersistence:
		b.sessionCookie(field, in)
	case gatewayv1.HeaderBasedSessionPersistence:
		switch {
		case in.Header == nil || !isToken(string(in.Header.Name)):
			b.invalid(ReasonUnsupported, field+".header.name", "type Header needs the header's name", "give it")
		case in.AbsoluteTimeout != nil:
			b.invalid(ReasonUnsupported, field+".absoluteTimeout", "a session in a header has no end that proxies could watch",
				"remove it, or use type Cookie with lifetimeType Permanent")
		}
	default:
		b.invalid(ReasonUnsupported, field+".type", fmt.Sprintf("%q is not a type of session persistence", kind), "give Cookie or Header")
	}
	return in
}

func (b *routeBuilder) sessionCookie(field string, in *gatewayv1.SessionPersistence) {
	var cookie gatewayv1.CookieConfig
	if in.Cookie != nil {
		cookie = *in.Cookie
	}
	if in.Header != nil {
		b.invalid(ReasonUnsupported, field+".header", "type Cookie has no header", "remove it, or set type: Header")
	}
	if cookie.Name != nil && !isToken(string(*cookie.Name)) {
		b.invalid(ReasonUnsupported, field+".cookie.name", fmt.Sprintf("%q is not a cookie's name", *cookie.Name), "correct it")
	}
	if cookie.Path != nil && (!strings.HasPrefix(*cookie.Path, "/") || !isPath(*cookie.Path)) {
		b.invalid(ReasonUnsupported, field+".cookie.path", fmt.Sprintf("%q is not a path", *cookie.Path), "begin it with /")
	}
	switch lifetime := deref(cookie.LifetimeType, gatewayv1.SessionCookieLifetimeType); {
	case lifetime == gatewayv1.PermanentCookieLifetimeType && in.AbsoluteTimeout == nil:
		b.invalid(ReasonUnsupported, field+".absoluteTimeout", "a permanent cookie needs its lifetime", "give absoluteTimeout")
	case lifetime == gatewayv1.SessionCookieLifetimeType && in.AbsoluteTimeout != nil:
		b.invalid(ReasonUnsupported, field+".absoluteTimeout", "a session cookie carries no time, so proxies cannot end its session",
			"set cookie.lifetimeType: Permanent, or remove absoluteTimeout")
	case lifetime != gatewayv1.PermanentCookieLifetimeType && lifetime != gatewayv1.SessionCookieLifetimeType:
		b.invalid(ReasonUnsupported, field+".cookie.lifetimeType", fmt.Sprintf("%q is not a lifetime", lifetime), "give Session or Permanent")
	}
}
