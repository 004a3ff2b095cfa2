package objects

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

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

	decode func(data []byte, scope string, into *Rows) []v1alpha1.FieldError
}

// Kinds lists every kind that the mesh reads.
func Kinds() []Kind {
	return []Kind{
		{"v1", "Namespace", "namespaces", false, decodeNamespace},
		{"v1", "Service", "services", true, decodeService},
		{"discovery.k8s.io/v1", "EndpointSlice", "endpointslices", true, decodeEndpointSlice},
		{v1alpha1.Group + "/" + v1alpha1.Version, "InstanceGroup", "instancegroups", true, decodeInstanceGroup},
	}
}

// DefaultNamespace is where an object belongs that names no namespace, as
// kubectl has it.
const DefaultNamespace = metav1.NamespaceDefault

// Rows are the rows that objects mean, table by table.
type Rows struct {
	Services       []*discovery.Service
	Endpoints      []*discovery.EndpointSet
	InstanceGroups []*discovery.InstanceGroup
}

// Decode adds the rows of an object of this kind, given as JSON, to into. It
// takes what an API server would take, with the same defaults, and nothing
// else: an unknown field is a mistake. An object with mistakes adds nothing.
// Loopback addresses are the one exception; what is read here may be a laptop's.
func (k Kind) Decode(data []byte, scope string, into *Rows) []v1alpha1.FieldError {
	return k.decode(data, scope, into)
}

func decodeNamespace(data []byte, _ string, _ *Rows) []v1alpha1.FieldError {
	var n corev1.Namespace
	if errs := decodeStrict(data, &n); len(errs) > 0 {
		return errs
	}
	return checkNames("", &n.ObjectMeta, validation.IsDNS1123Label)
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
