package compile

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	statevaluev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/set_filter_state/v3"
	statefilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"
	formattercelv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/formatter/cel/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
)

// The identity of a caller, where callers are told apart by their address. Behind a
// sidecar every process has the address of its own host, on all hosts the same one:
// 127.0.0.1. So there it is the proxy's node id, with the address of the connection. At
// an edge it is the client's address, as far as the hops in front are trusted.

// callerState is the name of what a sidecar says of its callers, in the state of
// their connections.
const callerState = "causeway.caller"

// callerFilter has a sidecar say who its callers are.
func callerFilter() *listenerv3.Filter {
	return &listenerv3.Filter{
		Name: "envoy.filters.network.set_filter_state",
		ConfigType: listenerFilter(&statefilterv3.Config{OnNewConnection: []*statevaluev3.FilterStateValue{{
			Key:        &statevaluev3.FilterStateValue_ObjectKey{ObjectKey: callerState},
			FactoryKey: "envoy.hashable_string",
			ReadOnly:   true,
			Value: &statevaluev3.FilterStateValue_FormatString{FormatString: &corev3.SubstitutionFormatString{
				Format: &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: &corev3.DataSource{
					Specifier: &corev3.DataSource_InlineString{InlineString: "%CEL(xds.node.id)% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"},
				}},
				Formatters: []*corev3.TypedExtensionConfig{{Name: "envoy.formatter.cel", TypedConfig: toAny(&formattercelv3.Cel{})}},
			}},
		}}}),
	}
}

// byCaller hashes who calls, over HTTP.
func byCaller() []*routev3.RouteAction_HashPolicy {
	return []*routev3.RouteAction_HashPolicy{
		{Terminal: true, PolicySpecifier: &routev3.RouteAction_HashPolicy_FilterState_{
			FilterState: &routev3.RouteAction_HashPolicy_FilterState{Key: callerState},
		}},
		{PolicySpecifier: &routev3.RouteAction_HashPolicy_ConnectionProperties_{
			ConnectionProperties: &routev3.RouteAction_HashPolicy_ConnectionProperties{SourceIp: true},
		}},
	}
}

// byCallerTCP hashes who calls, over TCP.
func byCallerTCP(from tcpClients) []*typev3.HashPolicy {
	if from.outside {
		return []*typev3.HashPolicy{{PolicySpecifier: &typev3.HashPolicy_SourceIp_{SourceIp: &typev3.HashPolicy_SourceIp{}}}}
	}
	return []*typev3.HashPolicy{{PolicySpecifier: &typev3.HashPolicy_FilterState_{FilterState: &typev3.HashPolicy_FilterState{Key: callerState}}}}
}
