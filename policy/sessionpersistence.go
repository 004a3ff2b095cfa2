package policy

import (
	"fmt"
	"hash/fnv"
	"io"
	"strconv"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

var sessionPersistenceSection = SectionDef{
	"sessionPersistence", "sessionPersistence", RequestLayer, true,
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

// ownSession replaces the fields of policies by those that a rule states
// itself.
func (r *Rule) ownSession(s *Settings) {
	if p := r.Own.Session; p != nil {
		s.Stated.SessionPersistence, s.FromRule["sessionPersistence"] = p, r.own("sessionPersistence")
	}
}
