package discovery

// The kinds of objects that the mesh reads, as an ObjectName has them.
const (
	KindBackendTLSPolicy = "BackendTLSPolicy"
	KindConfigMap        = "ConfigMap"
	KindEndpointSlice    = "EndpointSlice"
	KindExternalService  = "ExternalService"
	KindGRPCRoute        = "GRPCRoute"
	KindGateway          = "Gateway"
	KindGatewayClass     = "GatewayClass"
	KindGatewayPolicy    = "GatewayPolicy"
	KindHTTPRoute        = "HTTPRoute"
	KindInstanceGroup    = "InstanceGroup"
	KindMesh             = "Mesh"
	KindNamespace        = "Namespace"
	KindReferenceGrant   = "ReferenceGrant"
	KindSecret           = "Secret"
	KindService          = "Service"
	KindTCPRoute         = "TCPRoute"
	KindTLSRoute         = "TLSRoute"
	KindTrafficPolicy    = "TrafficPolicy"
	KindTrafficShift     = "TrafficShift"
)
