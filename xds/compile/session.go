package compile

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	sessionv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/stateful_session/v3"
	cookiev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/stateful_session/cookie/v3"
	headerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/stateful_session/header/v3"
	httptypev3 "github.com/envoyproxy/go-control-plane/envoy/type/http/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/policy"
)

// session returns the filter that keeps a client at the endpoint that answered
// it first, nil for none (GEP-1619). It does not affect the choice of a backend
// or backing, which comes before it at every request.
func session(r *policy.Rule, at parent) *sessionv3.StatefulSessionPerRoute {
	s := r.Session().Value
	if s == nil {
		return nil
	}
	name, state := "envoy.http.stateful_session.cookie", proto.Message(sessionCookie(r, s, at))
	if r.SessionHeader() {
		name, state = "envoy.http.stateful_session.header", &headerv3.HeaderBasedSessionState{Name: r.SessionName()}
	}
	return &sessionv3.StatefulSessionPerRoute{Override: &sessionv3.StatefulSessionPerRoute_StatefulSession{
		StatefulSession: &sessionv3.StatefulSession{
			SessionState: &corev3.TypedExtensionConfig{Name: name, TypedConfig: toAny(state)},
		},
	}}
}

func sessionCookie(r *policy.Rule, s *gatewayv1.SessionPersistence, at parent) *cookiev3.CookieBasedSessionState {
	cookie := &httptypev3.Cookie{Name: r.SessionName(), Path: "/", Attributes: []*httptypev3.CookieAttribute{{Name: "SameSite", Value: "Lax"}}}
	if at.scheme == "https" {
		cookie.Attributes = append(cookie.Attributes, &httptypev3.CookieAttribute{Name: "Secure"})
	}
	if c := s.Cookie; c != nil {
		if c.Path != nil {
			cookie.Path = *c.Path
		}
		if c.LifetimeType != nil && *c.LifetimeType == gatewayv1.PermanentCookieLifetimeType && s.AbsoluteTimeout != nil {
			if d, err := time.ParseDuration(string(*s.AbsoluteTimeout)); err == nil { // the schema admits no other
				cookie.Ttl = durationpb.New(d)
			}
		}
	}
	return &cookiev3.CookieBasedSessionState{Cookie: cookie}
}
