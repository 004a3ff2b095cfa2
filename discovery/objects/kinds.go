package objects

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Kind is a kind of object that the mesh reads. File decoding, `validate`,
// informers and RBAC rules derive from the list of them (Kinds).
type Kind struct {
	// APIVersion as in an object: the group, if any, and the version.
	APIVersion string
	Name       string
	// Resource is the kind's plural name in the API and in RBAC rules.
	Resource   string
	Namespaced bool
	// Also lists other versions in which a file may hold the kind: an API
	// server would convert them by their apiVersion alone.
	Also []string

	decode func(data []byte, scope string, into *Rows) []v1alpha1.FieldError
}

// Has reports whether objects of an apiVersion and a kind are of this kind.
func (k Kind) Has(apiVersion, name string) bool {
	return k.Name == name && (k.APIVersion == apiVersion || slices.Contains(k.Also, apiVersion))
}

// Kinds lists every kind that the mesh reads.
func Kinds() []Kind {
	return []Kind{
		{"v1", "Namespace", "namespaces", false, nil, decodeNamespace},
		{"v1", "Service", "services", true, nil, decodeService},
		{"v1", "ConfigMap", "configmaps", true, nil, decodeConfigMap},
		{"v1", "Secret", "secrets", true, nil, decodeSecret},
		{"discovery.k8s.io/v1", "EndpointSlice", "endpointslices", true, nil, decodeEndpointSlice},
		{gatewayAPI, "GatewayClass", "gatewayclasses", false, []string{gatewayAPIBeta}, object(func() metav1.Object { return &gatewayv1.GatewayClass{} }, gatewayClassSchema)},
		{gatewayAPI, "Gateway", "gateways", true, []string{gatewayAPIBeta}, object(func() metav1.Object { return &gatewayv1.Gateway{} }, gatewaySchema)},
		{gatewayAPI, "HTTPRoute", "httproutes", true, []string{gatewayAPIBeta}, object(func() metav1.Object { return &gatewayv1.HTTPRoute{} }, httpRouteSchema)},
		{gatewayAPI, "GRPCRoute", "grpcroutes", true, nil, object(func() metav1.Object { return &gatewayv1.GRPCRoute{} }, grpcRouteSchema)},
		{gatewayAPI, "TCPRoute", "tcproutes", true, nil, object(func() metav1.Object { return &gatewayv1.TCPRoute{} }, tcpRouteSchema)},
		{gatewayAPI, "TLSRoute", "tlsroutes", true, nil, object(func() metav1.Object { return &gatewayv1.TLSRoute{} }, tlsRouteSchema)},
		{gatewayAPI, "ReferenceGrant", "referencegrants", true, []string{gatewayAPIBeta}, object(func() metav1.Object { return &gatewayv1.ReferenceGrant{} }, referenceGrantSchema)},
		{gatewayAPI, "BackendTLSPolicy", "backendtlspolicies", true, nil, object(func() metav1.Object { return &gatewayv1.BackendTLSPolicy{} }, backendTLSPolicySchema)},
		{ourAPI, "InstanceGroup", "instancegroups", true, nil, decodeInstanceGroup},
		{ourAPI, "TrafficShift", "trafficshifts", true, nil, object(func() metav1.Object { return &v1alpha1.TrafficShift{} }, trafficShiftSchema)},
		{ourAPI, "TrafficPolicy", "trafficpolicies", true, nil, object(func() metav1.Object { return &v1alpha1.TrafficPolicy{} }, trafficPolicySchema)},
		{ourAPI, "GatewayPolicy", "gatewaypolicies", true, nil, object(func() metav1.Object { return &v1alpha1.GatewayPolicy{} }, gatewayPolicySchema)},
		{ourAPI, "ExternalService", "externalservices", true, nil, object(func() metav1.Object { return &v1alpha1.ExternalService{} }, externalServiceSchema)},
		{ourAPI, "Mesh", "meshes", false, nil, object(func() metav1.Object { return &v1alpha1.Mesh{} }, meshSchema)},
	}
}

const (
	gatewayAPI     = gatewayv1.GroupName + "/v1"
	gatewayAPIBeta = gatewayv1.GroupName + "/v1beta1"
	ourAPI         = v1alpha1.Group + "/" + v1alpha1.Version
)

var (
	gatewayClassSchema     = lazySchema("gateway-api/experimental/gateway.networking.k8s.io_gatewayclasses.yaml")
	gatewaySchema          = lazySchema("gateway-api/experimental/gateway.networking.k8s.io_gateways.yaml")
	httpRouteSchema        = lazySchema("gateway-api/experimental/gateway.networking.k8s.io_httproutes.yaml")
	grpcRouteSchema        = lazySchema("gateway-api/experimental/gateway.networking.k8s.io_grpcroutes.yaml")
	tcpRouteSchema         = lazySchema("gateway-api/experimental/gateway.networking.k8s.io_tcproutes.yaml")
	tlsRouteSchema         = lazySchema("gateway-api/experimental/gateway.networking.k8s.io_tlsroutes.yaml")
	referenceGrantSchema   = lazySchema("gateway-api/experimental/gateway.networking.k8s.io_referencegrants.yaml")
	backendTLSPolicySchema = lazySchema("gateway-api/experimental/gateway.networking.k8s.io_backendtlspolicies.yaml")
	trafficShiftSchema     = lazySchema("crds/mesh.causeway.dev_trafficshifts.yaml")
	trafficPolicySchema    = lazySchema("crds/mesh.causeway.dev_trafficpolicies.yaml")
	gatewayPolicySchema    = lazySchema("crds/mesh.causeway.dev_gatewaypolicies.yaml")
	externalServiceSchema  = lazySchema("crds/mesh.causeway.dev_externalservices.yaml")
	meshSchema             = lazySchema("crds/mesh.causeway.dev_meshes.yaml")
)

// DefaultNamespace is where an object belongs that names no namespace, as
// kubectl has it.
const DefaultNamespace = metav1.NamespaceDefault

// Rows are the rows that objects mean, table by table.
type Rows struct {
	Services       []*discovery.Service
	Endpoints      []*discovery.EndpointSet
	InstanceGroups []*discovery.InstanceGroup
	Objects        []*discovery.Object
}

// Decode adds the rows of an object of this kind, given as JSON, to into. It
// takes what an API server would take, with the same defaults, and nothing
// else: an unknown field is a mistake. An object with mistakes adds nothing.
// Loopback addresses are the one exception; what is read here may be a laptop's.
func (k Kind) Decode(data []byte, scope string, into *Rows) []v1alpha1.FieldError {
	return k.decode(data, scope, into)
}

// decodeNamespace reads a Namespace, which is a row for its labels. The label
// that every Namespace of an API server has is added here too.
func decodeNamespace(data []byte, scope string, into *Rows) []v1alpha1.FieldError {
	var n corev1.Namespace
	if errs := decodeStrict(data, &n); len(errs) > 0 {
		return errs
	}
	errs := append(checkNames("", &n.ObjectMeta, validation.IsDNS1123Label), checkLabels(n.Labels)...)
	if len(errs) > 0 {
		return errs
	}
	if n.Labels == nil {
		n.Labels = make(map[string]string, 1)
	}
	n.Labels[corev1.LabelMetadataName] = n.Name
	into.Objects = append(into.Objects, Object(&n, scope))
	return nil
}

func decodeService(data []byte, scope string, into *Rows) []v1alpha1.FieldError {
	var s corev1.Service
	if errs := decodeStrict(data, &s); len(errs) > 0 {
		return errs
	}
	errs := append(checkNames(DefaultNamespace, &s.ObjectMeta, validation.IsDNS1123Label), checkService(&s)...)
	if len(errs) == 0 {
		into.Services = append(into.Services, Service(&s, scope))
	}
	return errs
}

func decodeEndpointSlice(data []byte, scope string, into *Rows) []v1alpha1.FieldError {
	var s discoveryv1.EndpointSlice
	if errs := decodeStrict(data, &s); len(errs) > 0 {
		return errs
	}
	errs := append(checkNames(DefaultNamespace, &s.ObjectMeta, validation.IsDNS1123Subdomain), checkEndpointSlice(&s)...)
	if set := EndpointSlice(&s, scope); len(errs) == 0 && set != nil {
		into.Endpoints = append(into.Endpoints, set)
	}
	return errs
}

// decodeConfigMap reads a ConfigMap, which is a row only if it holds CA certificates.
func decodeConfigMap(data []byte, scope string, into *Rows) []v1alpha1.FieldError {
	var c corev1.ConfigMap
	if errs := decodeStrict(data, &c); len(errs) > 0 {
		return errs
	}
	errs := checkNames(DefaultNamespace, &c.ObjectMeta, validation.IsDNS1123Subdomain)
	if row := Object(&c, scope); len(errs) == 0 && row != nil {
		into.Objects = append(into.Objects, row)
	}
	return errs
}

// object returns the decoder of a kind that is a row of Objects and that a CRD defines.
func object(zero func() metav1.Object, schema func() *crdSchema) func(data []byte, scope string, into *Rows) []v1alpha1.FieldError {
	return func(data []byte, scope string, into *Rows) []v1alpha1.FieldError {
		o := zero()
		errs := decodeCustom(data, o, schema())
		if len(errs) > 0 {
			return errs
		}
		namespace := DefaultNamespace
		switch o.(type) {
		case *v1alpha1.Mesh, *gatewayv1.GatewayClass: // cluster-scoped
			namespace = ""
		}
		if errs := checkNames(namespace, o, validation.IsDNS1123Subdomain); len(errs) > 0 {
			return errs
		}
		into.Objects = append(into.Objects, Object(o, scope))
		return nil
	}
}

func decodeInstanceGroup(data []byte, scope string, into *Rows) []v1alpha1.FieldError {
	// The defaults stand there before decoding: what is written down replaces
	// them even if it is zero, which then is a mistake as in an API server.
	var g v1alpha1.InstanceGroup
	v1alpha1.DefaultInstanceGroup(&g)
	if errs := decodeStrict(data, &g); len(errs) > 0 {
		return errs
	}
	if g.Spec.HealthCheck != nil {
		g = v1alpha1.InstanceGroup{Spec: v1alpha1.InstanceGroupSpec{HealthCheck: &v1alpha1.HealthCheck{}}}
		v1alpha1.DefaultInstanceGroup(&g)
		if errs := decodeStrict(data, &g); len(errs) > 0 {
			return errs
		}
	}
	errs := append(checkNames(DefaultNamespace, &g.ObjectMeta, validation.IsDNS1123Subdomain), v1alpha1.ValidateInstanceGroup(&g)...)
	if len(errs) == 0 {
		into.InstanceGroups = append(into.InstanceGroups, &discovery.InstanceGroup{
			Scope: scope, Key: discovery.Key{Namespace: g.Namespace, Name: g.Name}, Object: &g,
		})
	}
	return errs
}
