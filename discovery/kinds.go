package discovery

// The kinds of objects that the mesh reads, as an ObjectName has them.
const (
	KindBackendTLSPolicy  = "BackendTLSPolicy"
	KindConfigMap         = "ConfigMap"
	KindEndpointSlice     = "EndpointSlice"
	KindExternalService   = "ExternalService"
	KindGRPCRoute         = "GRPCRoute"
	KindGateway           = "Gateway"
	KindGatewayClass      = "GatewayClass"
	KindGatewayParameters = "GatewayParameters"
	KindGatewayPolicy     = "GatewayPolicy"
	KindHTTPRoute         = "HTTPRoute"
	KindInstanceGroup     = "InstanceGroup"
	KindMesh              = "Mesh"
	KindNamespace         = "Namespace"
	KindReferenceGrant    = "ReferenceGrant"
	KindSecret            = "Secret"
	KindService           = "Service"
	KindTCPRoute          = "TCPRoute"
	KindTLSRoute          = "TLSRoute"
	KindTrafficPolicy     = "TrafficPolicy"
	KindTrafficShift      = "TrafficShift"
)

// RouteKinds returns the kinds of routes, the most specific first: a port that several kinds attach to is the
// first one's (GEP-1294, "Route types").
func RouteKinds() []string { return routeKinds[:] }

var routeKinds = [...]string{KindGRPCRoute, KindHTTPRoute, KindTLSRoute, KindTCPRoute}

// KubernetesSource returns the name of the status of the source that reads the objects of a
// kind from a cluster, "" for a kind of which nobody asks what could not be read.
func KubernetesSource(kind string) string { return kubernetesSources[kind] }

var kubernetesSources = map[string]string{
	KindBackendTLSPolicy: "kubernetes/backendtlspolicies",
	KindGRPCRoute:        "kubernetes/grpcroutes",
	KindHTTPRoute:        "kubernetes/httproutes",
	KindInstanceGroup:    GroupsSource,
	KindMesh:             "kubernetes/meshes",
	KindTrafficPolicy:    "kubernetes/trafficpolicies",
	KindTrafficShift:     ShiftsSource,
}
