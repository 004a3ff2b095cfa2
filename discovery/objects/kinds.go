// Package objects lists the kinds that the mesh reads, and decodes and checks
// objects of them as an API server would: strictly, with the defaults and rules of
// their CRDs. Package convert makes the rows.
package objects

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/convert"
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
	// Short is the kind's short name, as kubectl has it, "" for none.
	Short string
	// Also lists other versions in which a file may hold the kind: an API
	// server would convert them by their apiVersion alone.
	Also []string

	// New returns an empty object, of the type that discovery.Object.Spec has; nil for kinds
	// that are rows of other tables.
	New func() metav1.Object

	// schema is the kind's CRD, nil for one of Kubernetes' own.
	schema func() *crdSchema
	// decode reads an object that is not read as its CRD says.
	decode func(data []byte, scope string, into *Rows) []v1alpha1.FieldError
}

// Named returns the kind of a name.
func Named(name string) (Kind, bool) {
	i := slices.IndexFunc(kinds, func(k Kind) bool { return k.Name == name })
	if i < 0 {
		return Kind{}, false
	}
	return kinds[i], true
}

// Has reports whether objects of an apiVersion and a kind are of this kind.
func (k Kind) Has(apiVersion, name string) bool {
	return k.Name == name && (k.APIVersion == apiVersion || slices.Contains(k.Also, apiVersion))
}

// Versions returns the versions in which the kind may be served, the best first.
func (k Kind) Versions() []string { return append([]string{k.APIVersion}, k.Also...) }

// Source returns the name of the source that reads the kind from a cluster, which is also the scope of its rows.
func (k Kind) Source() string { return "kubernetes/" + k.Resource }

// Standard reports whether the kind is the Gateway API's, whose CRDs others install too.
func (k Kind) Standard() bool { return k.Group() == gatewayv1.GroupName }

// Group returns the API group, "" for Kubernetes' core.
func (k Kind) Group() string {
	group, _, ok := strings.Cut(k.APIVersion, "/")
	if !ok {
		return ""
	}
	return group
}

// Kinds lists every kind that the mesh reads.
func Kinds() []Kind { return slices.Clone(kinds) }

var kinds = []Kind{
	{APIVersion: "v1", Name: discovery.KindNamespace, Resource: "namespaces", Short: "ns", New: zero[corev1.Namespace], decode: decodeNamespace},
	{APIVersion: "v1", Name: discovery.KindService, Resource: "services", Namespaced: true, Short: "svc", decode: decodeService},
	{APIVersion: "v1", Name: discovery.KindConfigMap, Resource: "configmaps", Namespaced: true, Short: "cm", New: zero[corev1.ConfigMap], decode: decodeConfigMap},
	{APIVersion: "v1", Name: discovery.KindSecret, Resource: "secrets", Namespaced: true, New: zero[corev1.Secret], decode: decodeSecret},
	{APIVersion: "discovery.k8s.io/v1", Name: discovery.KindEndpointSlice, Resource: "endpointslices", Namespaced: true, decode: decodeEndpointSlice},
	gatewayKind(discovery.KindGatewayClass, "gatewayclasses", "gc", zero[gatewayv1.GatewayClass]).clusterScoped().alsoBeta(),
	gatewayKind(discovery.KindGateway, "gateways", "gtw", zero[gatewayv1.Gateway]).alsoBeta(),
	gatewayKind(discovery.KindHTTPRoute, "httproutes", "", zero[gatewayv1.HTTPRoute]).alsoBeta(),
	gatewayKind(discovery.KindGRPCRoute, "grpcroutes", "", zero[gatewayv1.GRPCRoute]),
	gatewayKind(discovery.KindTCPRoute, "tcproutes", "", zero[gatewayv1.TCPRoute]),
	gatewayKind(discovery.KindTLSRoute, "tlsroutes", "", zero[gatewayv1.TLSRoute]),
	gatewayKind(discovery.KindReferenceGrant, "referencegrants", "refgrant", zero[gatewayv1.ReferenceGrant]).alsoBeta(),
	gatewayKind(discovery.KindBackendTLSPolicy, "backendtlspolicies", "btlspolicy", zero[gatewayv1.BackendTLSPolicy]),
	ourKind(discovery.KindInstanceGroup, "instancegroups", "ig", zero[v1alpha1.InstanceGroup]),
	ourKind(discovery.KindTrafficShift, "trafficshifts", "shift", zero[v1alpha1.TrafficShift]),
	ourKind(discovery.KindTrafficPolicy, "trafficpolicies", "tp", zero[v1alpha1.TrafficPolicy]),
	ourKind(discovery.KindGatewayPolicy, "gatewaypolicies", "gwp", zero[v1alpha1.GatewayPolicy]),
	ourKind(discovery.KindGatewayParameters, "gatewayparameters", "gwparams", zero[v1alpha1.GatewayParameters]),
	ourKind(discovery.KindExternalService, "externalservices", "xs", zero[v1alpha1.ExternalService]),
	ourKind(discovery.KindMesh, "meshes", "", zero[v1alpha1.Mesh]).clusterScoped(),
}

// zero returns a new object of a type.
func zero[T any, P interface {
	*T
	metav1.Object
}]() metav1.Object {
	return P(new(T))
}

// gatewayKind is a kind of the Gateway API, which its CRD defines.
func gatewayKind(name, resource, short string, empty func() metav1.Object) Kind {
	return Kind{
		APIVersion: gatewayAPI, Name: name, Resource: resource, Namespaced: true, Short: short, New: empty,
		schema: lazySchema("gateway-api/experimental/" + gatewayv1.GroupName + "_" + resource + ".yaml"),
	}
}

// ourKind is a kind of mesh.causeway.dev, which its CRD defines.
func ourKind(name, resource, short string, empty func() metav1.Object) Kind {
	return Kind{
		APIVersion: ourAPI, Name: name, Resource: resource, Namespaced: true, Short: short, New: empty,
		schema: lazySchema("crds/" + v1alpha1.Group + "_" + resource + ".yaml"),
	}
}

// clusterScoped returns the kind as one whose objects are in no namespace.
func (k Kind) clusterScoped() Kind {
	k.Namespaced = false
	return k
}

// alsoBeta returns the kind as one that a file may hold as v1beta1 too.
func (k Kind) alsoBeta() Kind {
	k.Also = []string{gatewayAPIBeta}
	return k
}

const (
	gatewayAPI     = gatewayv1.GroupName + "/v1"
	gatewayAPIBeta = gatewayv1.GroupName + "/v1beta1"
	ourAPI         = v1alpha1.Group + "/" + v1alpha1.Version
)

// DefaultNamespace is where an object belongs that names no namespace, as
// kubectl has it.
const DefaultNamespace = metav1.NamespaceDefault

// Rows are the rows that objects mean, table by table.
type Rows struct {
	Services  []*discovery.Service
	Endpoints []*discovery.EndpointSet
	Objects   []*discovery.Object
}

// Decode adds the rows of an object of this kind, given as JSON, to into. It
// takes what an API server would take, with the same defaults, and nothing
// else: an unknown field is a mistake. An object with mistakes adds nothing.
// Loopback addresses are the one exception; what is read here may be a laptop's.
func (k Kind) Decode(data []byte, scope string, into *Rows) []v1alpha1.FieldError {
	if k.decode != nil {
		return k.decode(data, scope, into)
	}
	return decodeObject(k, data, scope, into)
}

// decodeNamespace reads a Namespace, which is a row for its labels. The label
// that every Namespace of an API server has is added here too.
func decodeNamespace(data []byte, scope string, into *Rows) []v1alpha1.FieldError {
	var n corev1.Namespace
	rest, errs := decodeStrict(data, &n)
	errs = together(rest, errs, append(checkNames("", &n.ObjectMeta, validation.IsDNS1123Label), checkLabels(n.Labels)...))
	if len(errs) > 0 {
		return errs
	}
	if n.Labels == nil {
		n.Labels = make(map[string]string, 1)
	}
	n.Labels[corev1.LabelMetadataName] = n.Name
	into.Objects = append(into.Objects, convert.Object(&n, scope))
	return nil
}

func decodeService(data []byte, scope string, into *Rows) []v1alpha1.FieldError {
	var s corev1.Service
	rest, errs := decodeStrict(data, &s)
	errs = together(rest, errs, append(checkNames(DefaultNamespace, &s.ObjectMeta, validation.IsDNS1123Label), checkService(&s)...))
	if len(errs) == 0 {
		into.Services = append(into.Services, convert.Service(&s, scope))
	}
	return errs
}

func decodeEndpointSlice(data []byte, scope string, into *Rows) []v1alpha1.FieldError {
	var s discoveryv1.EndpointSlice
	rest, errs := decodeStrict(data, &s)
	errs = together(rest, errs, append(checkNames(DefaultNamespace, &s.ObjectMeta, validation.IsDNS1123Subdomain), checkEndpointSlice(&s)...))
	if len(errs) > 0 {
		return errs
	}
	if set := convert.EndpointSlice(&s, scope); set != nil {
		into.Endpoints = append(into.Endpoints, set)
	}
	return nil
}

// decodeConfigMap reads a ConfigMap, which is a row only if it holds CA certificates.
func decodeConfigMap(data []byte, scope string, into *Rows) []v1alpha1.FieldError {
	var c corev1.ConfigMap
	rest, errs := decodeStrict(data, &c)
	errs = together(rest, errs, checkNames(DefaultNamespace, &c.ObjectMeta, validation.IsDNS1123Subdomain))
	if row := convert.Object(&c, scope); len(errs) == 0 && row != nil {
		into.Objects = append(into.Objects, row)
	}
	return errs
}

// decodeObject reads an object of a kind that is a row of Objects and that a CRD defines.
func decodeObject(k Kind, data []byte, scope string, into *Rows) []v1alpha1.FieldError {
	o := k.New()
	rest, errs := decodeCustom(data, o, k.schema())
	namespace := DefaultNamespace
	if !k.Namespaced {
		namespace = ""
	}
	if errs = together(rest, errs, checkNames(namespace, o, validation.IsDNS1123Subdomain)); len(errs) > 0 {
		return errs
	}
	into.Objects = append(into.Objects, convert.Object(o, scope))
	return nil
}
