package v1alpha1

import "slices"

// Group is the API group of every kind in this package.
const Group = "mesh.causeway.dev"

// Version is the API version of every kind in this package.
const Version = "v1alpha1"

// Annotations and labels that Causeway reads or writes on objects.
const (
	// ControllerName is how Causeway signs what it says in the status of a
	// route or a policy of the Gateway API.
	ControllerName = Group + "/controller"
	// HomeAnnotation on a Service states its home backing: "Instances" or "Pods".
	HomeAnnotation = Group + "/home"
	// FailoverAnnotation on a Service says whether the backing that is not the
	// home answers while the other one cannot: "OtherBacking" or "None".
	FailoverAnnotation = Group + "/failover"
	// AllowDeleteAnnotation ("true") lets an InstanceGroup that carries traffic be deleted.
	AllowDeleteAnnotation = Group + "/allow-delete"
	// InstanceGroupLabel on an EndpointSlice names the InstanceGroup, in the
	// slice's namespace, whose instances the slice publishes.
	InstanceGroupLabel = Group + "/instance-group"
	// ServiceLabel on such a slice names the Service that the group backs.
	// It is not kubernetes.io/service-name, so that kube-proxy and the
	// endpointslice controllers leave the slice alone.
	ServiceLabel = Group + "/service"
	// SpotLabel ("true") on such a slice says that its instances are Spot instances.
	SpotLabel = Group + "/spot"
	// ReasonsAnnotation on such a slice is a JSON object from instance id to
	// the reason of its health, for those that are not simply healthy.
	ReasonsAnnotation = Group + "/reasons"
	// WeightAnnotation on such a slice is the weight of each of its endpoints.
	WeightAnnotation = Group + "/weight"
	// GuardReleaseAnnotation on an InstanceGroup is a time (RFC 3339): what the
	// never-empty guard held back until then may go.
	GuardReleaseAnnotation = Group + "/guard-release"
	// CommandAnnotation on a TrafficShift is what somebody wants of it (ShiftCommand, as JSON).
	CommandAnnotation = Group + "/command"
	// AddressesAnnotation on a Gateway lists the addresses or host names at which
	// clients reach it, comma separated, where its spec has none: those of a load
	// balancer in front, which nothing but its operator knows.
	AddressesAnnotation = Group + "/addresses"
	// ManagedAnnotation on a Gateway says "false" where its proxies are not made for
	// it, whatever its parameters say.
	ManagedAnnotation = Group + "/managed"
	// ShiftFinalizer keeps a TrafficShift until its Service's home is recorded.
	ShiftFinalizer = Group + "/shift"
	// GatewayClassName is the name of the GatewayClass that comes with Causeway. In a
	// mesh without Kubernetes nobody needs to write the class itself.
	GatewayClassName = "causeway"
	// ManagedBy is the value of endpointslice.kubernetes.io/managed-by on such a slice, and
	// of ManagedByKey.
	ManagedBy = "causeway.dev"
	// ManagedByKey is on what is made for a Gateway.
	ManagedByKey = "app.kubernetes.io/managed-by"
)

// metadataNames are the annotations and labels of our group and the kinds that
// they mean something on.
var metadataNames = []struct {
	place, name string
	kinds       []string
}{
	{"annotations", HomeAnnotation, []string{"Service"}},
	{"annotations", FailoverAnnotation, []string{"Service"}},
	{"annotations", AllowDeleteAnnotation, []string{"InstanceGroup"}},
	{"annotations", GuardReleaseAnnotation, []string{"InstanceGroup"}},
	{"annotations", CommandAnnotation, []string{"TrafficShift"}},
	{"annotations", AddressesAnnotation, []string{"Gateway"}},
	{"annotations", ManagedAnnotation, []string{"Gateway"}},
	{"annotations", ReasonsAnnotation, []string{"EndpointSlice"}},
	{"annotations", WeightAnnotation, []string{"EndpointSlice"}},
	{"labels", InstanceGroupLabel, []string{"EndpointSlice"}},
	{"labels", ServiceLabel, []string{"EndpointSlice"}},
	{"labels", SpotLabel, []string{"EndpointSlice"}},
}

// MetadataNames returns the names of our group that mean something among the
// "annotations" or "labels" of a kind, or of any kind for "".
func MetadataNames(place, kind string) []string {
	var out []string
	for _, n := range metadataNames {
		if n.place == place && (kind == "" || slices.Contains(n.kinds, kind)) {
			out = append(out, n.name)
		}
	}
	return out
}
