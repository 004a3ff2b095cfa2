package routing

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
)

// No filter changes a header that frames the message or belongs to the
// connection: not on a rule and not on a backend, not in requests and not in responses,
// of no kind of route. The rule is not read as if the filter were not there.
func TestFiltersLeaveFramingAlone(t *testing.T) {
	refused := []string{
		"Connection", "Content-Length", "HTTP2-Settings", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection",
		"Proxy-Authentication-Info", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Host", ":path", ":authority", ":status", ":method", ":scheme",
	}
	allowed := []string{"X-Tenant", "Content-Type", "Content-Encoding", "Cache-Control", "Authorization", "Server", "Proxy-Status", "Via", "Expect-CT"}
	edits := map[string]func(name string) *gatewayv1.HTTPHeaderFilter{
		"set": func(name string) *gatewayv1.HTTPHeaderFilter {
			return &gatewayv1.HTTPHeaderFilter{Set: []gatewayv1.HTTPHeader{{Name: gatewayv1.HTTPHeaderName(name), Value: "0"}}}
		},
		"add": func(name string) *gatewayv1.HTTPHeaderFilter {
			return &gatewayv1.HTTPHeaderFilter{Add: []gatewayv1.HTTPHeader{{Name: gatewayv1.HTTPHeaderName(name), Value: "0"}}}
		},
		"remove": func(name string) *gatewayv1.HTTPHeaderFilter {
			return &gatewayv1.HTTPHeaderFilter{Remove: []string{name}}
		},
	}
	for _, kind := range []string{"HTTPRoute", "GRPCRoute"} {
		for _, place := range []filterPlace{onRule, onBackend} {
			for _, side := range []gatewayv1.HTTPRouteFilterType{gatewayv1.HTTPRouteFilterRequestHeaderModifier, gatewayv1.HTTPRouteFilterResponseHeaderModifier} {
				for list, edit := range edits {
					read := func(name string) *routeBuilder {
						b := &routeBuilder{route: &discovery.Object{Kind: kind}}
						f := gatewayv1.HTTPRouteFilter{Type: side}
						if side == gatewayv1.HTTPRouteFilterRequestHeaderModifier {
							f.RequestHeaderModifier = edit(name)
						} else {
							f.ResponseHeaderModifier = edit(name)
						}
						got := b.filters("filters", []gatewayv1.HTTPRouteFilter{f}, place)
						require.Equal(t, b.wrong != "", len(got.Request.Set)+len(got.Request.Add)+len(got.Request.Remove)+
							len(got.Response.Set)+len(got.Response.Add)+len(got.Response.Remove) == 0)
						return b
					}
					for _, name := range refused {
						for _, as := range []string{name, strings.ToLower(name), strings.ToUpper(name)} {
							b := read(as)
							require.NotEmpty(t, b.wrong, "%s %s %s of %s", kind, side, list, as)
							require.NotEmpty(t, b.Findings)
							require.Contains(t, b.Findings[0].Field, list+"[0]")
							require.NotEmpty(t, b.Findings[0].Remedy)
						}
					}
					for _, name := range allowed {
						require.Empty(t, read(name).Findings, "%s %s of %s", side, list, name)
					}
				}
			}
		}
	}
}
