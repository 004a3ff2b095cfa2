package routing

import (
	"fmt"
	"strings"

	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/policy"
)

// sessionPersistence returns the stanza if proxies can do what it says.
func (b *routeBuilder) sessionPersistence(field string, in *gatewayv1.SessionPersistence) *gatewayv1.SessionPersistence {
	if in == nil {
		return nil
	}
	b.duration(field+".absoluteTimeout", in.AbsoluteTimeout)
	switch kind := ptr.Deref(in.Type, gatewayv1.CookieBasedSessionPersistence); kind {
	case gatewayv1.CookieBasedSessionPersistence:
		b.sessionCookie(field, in)
	case gatewayv1.HeaderBasedSessionPersistence:
		switch {
		case in.Header == nil || !isToken(string(in.Header.Name)):
			b.invalid(policy.ReasonUnsupported, field+".header.name", "type Header needs the header's name", "give it")
		case in.AbsoluteTimeout != nil:
			b.invalid(policy.ReasonUnsupported, field+".absoluteTimeout", "a session in a header has no end that proxies could watch",
				"remove it, or use type Cookie with lifetimeType Permanent")
		}
	default:
		b.invalid(policy.ReasonUnsupported, field+".type", fmt.Sprintf("%q is not a type of session persistence", kind), "give Cookie or Header")
	}
	return in
}

func (b *routeBuilder) sessionCookie(field string, in *gatewayv1.SessionPersistence) {
	var cookie gatewayv1.CookieConfig
	if in.Cookie != nil {
		cookie = *in.Cookie
	}
	if in.Header != nil {
		b.invalid(policy.ReasonUnsupported, field+".header", "type Cookie has no header", "remove it, or set type: Header")
	}
	if cookie.Name != nil && !isToken(string(*cookie.Name)) {
		b.invalid(policy.ReasonUnsupported, field+".cookie.name", fmt.Sprintf("%q is not a cookie's name", *cookie.Name), "correct it")
	}
	if cookie.Path != nil && (!strings.HasPrefix(*cookie.Path, "/") || !isPath(*cookie.Path)) {
		b.invalid(policy.ReasonUnsupported, field+".cookie.path", fmt.Sprintf("%q is not a path", *cookie.Path), "begin it with /")
	}
	switch lifetime := ptr.Deref(cookie.LifetimeType, gatewayv1.SessionCookieLifetimeType); {
	case lifetime == gatewayv1.PermanentCookieLifetimeType && in.AbsoluteTimeout == nil:
		b.invalid(policy.ReasonUnsupported, field+".absoluteTimeout", "a permanent cookie needs its lifetime", "give absoluteTimeout")
	case lifetime == gatewayv1.SessionCookieLifetimeType && in.AbsoluteTimeout != nil:
		b.invalid(policy.ReasonUnsupported, field+".absoluteTimeout", "a session cookie carries no time, so proxies cannot end its session",
			"set cookie.lifetimeType: Permanent, or remove absoluteTimeout")
	case lifetime != gatewayv1.PermanentCookieLifetimeType && lifetime != gatewayv1.SessionCookieLifetimeType:
		b.invalid(policy.ReasonUnsupported, field+".cookie.lifetimeType", fmt.Sprintf("%q is not a lifetime", lifetime), "give Session or Permanent")
	}
}
