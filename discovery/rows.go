// Package discovery is the contract between sources and the catalog: the rows
// that sources write, and the rules for it.
//
// A source (catalog.Source) keeps to this:
//
//   - It writes rows of its own scopes only, and a SourceStatus for each thing that it reads. It reads no
//     other source's rows but those that tell it what to read. One transaction is one consistent change.
//   - It is synced once it has read everything once. Until then nothing is served that requires it, unless
//     rows of an earlier run serve (LastKnownGood).
//   - What it could not read it does not change: a failed, throttled or truncated answer is an error in the status,
//     never an empty list. What is there without a row, because it cannot be understood, is named (Unread).
//   - An object that another source may name too it claims (Table.Claim, Replace). Of two rows of one name the one
//     whose scope is first by name is in force ("file" before "kubernetes/..."), the other is a Rival, and a
//     finding names both until one of them goes.
//
// What acts on what a source reads from has the rows from the catalog, not from the source. What it was answered it may
// write as a row of a quiet table (ObservedStatus), where a newer one stays.
//
// Rows are immutable once written: copy before you change one.
package discovery

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// BackingName names what answers for a Service: a backing. It is the last part of a cluster's name, and
// has lower case letters, digits, dots and hyphens, at most 63.
type BackingName string

// The backings that sources write endpoints of.
const (
	Pods      BackingName = "pods"
	Instances BackingName = "instances"
)

// Backings returns the names of the backings that sources write endpoints of, in their order.
func Backings() []BackingName { return []BackingName{Pods, Instances} }

// ParseBacking returns the backing that a record names, false for one that no source writes endpoints of.
func ParseBacking(s string) (BackingName, bool) {
	i := slices.Index(Backings(), BackingName(s))
	return BackingName(s), i >= 0
}

// CompareBackings has backings in their order: pods, instances, then others by name.
func CompareBackings(a, b BackingName) int {
	rank := func(n BackingName) int {
		switch n {
		case Pods:
			return 0
		case Instances:
			return 1
		}
		return 2
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(string(a), string(b)))
}

// Valid reports whether it is a name that a backing can have, whoever has written it.
func (b BackingName) Valid() bool {
	for _, c := range []byte(b) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' {
			return false
		}
	}
	return b != "" && len(b) <= 63
}

// String returns the name.
func (b BackingName) String() string { return string(b) }

// Key names a namespaced object.
type Key struct{ Namespace, Name string }

// String returns "namespace/name".
func (k Key) String() string { return k.Namespace + "/" + k.Name }

// Service is a Kubernetes Service, the name that callers use.
type Service struct {
	// Scope is the source that wrote the row, and the extent of its Replace.
	Scope string
	Key
	// ClusterIPs are the Service's virtual addresses, none for a headless one.
	ClusterIPs []string
	// IPv6 says of each of the Service's spec.ipFamilies, in their order, whether
	// it is IPv6. None: they are those of the cluster IPs.
	IPv6  []bool
	Ports []ServicePort
	// Home is the value of the annotation mesh.causeway.dev/home: "Instances", "Pods", "" or a mistake.
	Home string
	// Failover is the value of the annotation mesh.causeway.dev/failover: "OtherBacking", "None", "" or a mistake.
	Failover string
	// ClientIP is true for spec.sessionAffinity: ClientIP, LocalTraffic for
	// spec.internalTrafficPolicy: Local; Distribution is spec.trafficDistribution.
	ClientIP, LocalTraffic bool
	Distribution           string
	// ExternalName is set for a Service of that type, which has no backings.
	ExternalName string
	// Edge is set for a Service that was made for a Gateway.
	Edge       *EdgeService
	Created    time.Time
	Generation int64
}

// ServicePort is one TCP port of a Service. Other protocols are not rows.
type ServicePort struct {
	Name        string
	Port        uint16
	AppProtocol string
	// Was is the name that the port of this number had before it was renamed,
	// unless another port has it now. The catalog remembers it, so that slices
	// and groups that still say it go on to count.
	Was string
}

// Renamed returns a Service's row with what its ports were called in the row
// before it. Only a row whose ports were renamed is copied.
func Renamed(before, s *Service) *Service {
	named := make(map[string]bool, len(s.Ports))
	for _, p := range s.Ports {
		named[p.Name] = true
	}
	out := s
	for i, p := range s.Ports {
		for _, old := range before.Ports {
			was := old.Name
			if was == p.Name {
				was = old.Was
			}
			if old.Port != p.Port || was == p.Was || named[was] {
				continue
			}
			if out == s {
				c := *s
				c.Ports = append([]ServicePort(nil), s.Ports...)
				out = &c
			}
			out.Ports[i].Was = was
		}
	}
	return out
}

// Health is what a source says about an endpoint.
type Health uint8

// The states of an endpoint. A draining one finishes what it has and gets no
// new requests.
const (
	Healthy Health = iota
	Unhealthy
	Draining
)

// String returns the state as Envoy writes it: HEALTHY, UNHEALTHY or DRAINING.
func (h Health) String() string {
	switch h {
	case Healthy:
		return "HEALTHY"
	case Unhealthy:
		return "UNHEALTHY"
	case Draining:
		return "DRAINING"
	}
	return "UNKNOWN"
}

// EndpointSet is a set of endpoints that a source reads and writes as one: an
// EndpointSlice, or the instances of an InstanceGroup. A Service's endpoints are
// the union of its sets; the same ID in two sets is one endpoint.
type EndpointSet struct {
	Scope string
	// Key is the slice's or the InstanceGroup's name, unique within the scope.
	Key
	Service  Key
	Platform BackingName
	// Group is the InstanceGroup's name for those of Instances.
	Group string
	Ports []EndpointPort
	// Endpoints in the order of the source; readers sort.
	Endpoints []Endpoint
	// Generation of the object, 0 where it has none.
	Generation int64
}

// EndpointPort is a port that every endpoint of a set listens on. Name is the
// Service port's name.
type EndpointPort struct {
	Name string
	Port uint16
}

// Endpoint is one pod or instance.
type Endpoint struct {
	// ID is the pod's "namespace/name" or the instance's id. Endpoints are
	// keyed by it, never by address.
	ID string
	// Address is an IP address.
	Address string
	// Zone is the availability zone's name, "" where unknown. Kubernetes'
	// zone label and EC2's availability zone name are the same vocabulary.
	Zone string
	Node string
	// Hostname is the pod's own name below that of its headless Service, "" for none (StatefulSets give them).
	Hostname string
	Spot     bool
	// Weight within its zone, relative to the others; 0 means 1.
	Weight uint32
	Health Health
	// Reason says why the health is what it is, in a short CamelCase word, then details: "SpotInterruption: reclaimed at 12:04".
	Reason string
}

// InstanceGroup is the row of an InstanceGroup with its spec typed: an Object as every other,
// which the sources of instances ask for more than its name.
type InstanceGroup struct {
	Scope string
	Key
	// Object has its defaults, and of its status the number of the AWS account that the
	// published endpoints are of, as whoever led before has written it down.
	Object *v1alpha1.InstanceGroup
}

// GroupOf returns a row of a change as an InstanceGroup, if it is one.
func GroupOf(row any) (*InstanceGroup, bool) {
	o, ok := row.(*Object)
	if !ok || o.Kind != KindInstanceGroup {
		return nil, false
	}
	return &InstanceGroup{Scope: o.Scope, Key: o.Key, Object: o.Spec.(*v1alpha1.InstanceGroup)}, true
}

// Service returns the name of the Service that the group backs.
func (g *InstanceGroup) Service() Key {
	return Key{Namespace: g.Namespace, Name: g.Object.Spec.ServiceRef.Name}
}

// Row returns the group's row.
func (g *InstanceGroup) Row() *Object {
	return &Object{
		Scope: g.Scope, Kind: KindInstanceGroup, Key: g.Key,
		Generation: g.Object.Generation, Created: g.Object.CreationTimestamp.Time,
		Spec: g.Object, Refs: []ObjectName{{Kind: KindService, Key: g.Service()}},
	}
}

// InstanceSet are the instances of one InstanceGroup according to the EC2 API,
// after the never-empty guard. They are not endpoints yet: the active checks
// come in between.
type InstanceSet struct {
	Scope string
	// Key is the InstanceGroup's.
	Key
	Service   Key
	Endpoints []Endpoint
	// Account is the number of the AWS account that they are of, "" where no answer said so.
	Account string
}

// HealthSet is the checked health of the instances of one InstanceGroup.
type HealthSet struct {
	Scope string
	// Key is the InstanceGroup's.
	Key
	// ByID has the health by instance id; an instance without one was not
	// checked yet.
	ByID map[string]CheckedHealth
}

// CheckedHealth is the health of one instance according to its active checks.
type CheckedHealth struct {
	Healthy bool
	// Reason of a failed check, "" for a healthy instance.
	Reason string
}

// GroupStatus is what the EC2 source knows about the reading of one InstanceGroup.
type GroupStatus struct {
	Scope string
	// Key is the InstanceGroup's.
	Key
	Counts v1alpha1.InstanceCounts
	// LastSync is when a whole answer was last read.
	LastSync time.Time
	// Error is why the newest attempt failed, "" if it did not.
	Error string
	// Empty is why a whole answer has no endpoint for the group, and what to
	// do about it, "" if it has any.
	Empty string
	// GuardHeld counts endpoints that the never-empty guard keeps although
	// the newest answer does not mention them; GuardReason says why they are kept.
	GuardHeld   int
	GuardReason string
	// ScalingGroups are the Auto Scaling groups that the instances belong to or
	// that the selector names, by name, as of the last whole answer.
	ScalingGroups []ScalingGroup
	// ScalingError is why ScalingGroups is not what it should be, and since when: the newest attempt
	// to read EC2 failed, or the answer lacks a group that the selector names. "" if all is well.
	ScalingError string
}

// Object is the row of an object that says how the mesh routes and treats
// traffic: a route, a Gateway, a policy, a grant, an ExternalService, the Mesh, a
// ConfigMap or Secret that one of them names, or a Namespace, whose labels say what may
// attach to a Gateway. They share a table, because what concerns
// whom is the same question for all of them.
type Object struct {
	Scope string
	Kind  string
	Key
	Generation int64
	Created    time.Time
	// Editor is the field manager that changed the spec last, for example "kubectl-edit" or "argocd-controller"; "" where
	// the source does not know. Who it was is in the API server's audit log.
	Editor string
	// Spec is the object with its defaults, without its status, managed fields
	// and whatever else the mesh does not read, for example *gatewayv1.HTTPRoute.
	Spec any
	// Refs are the objects that Spec refers to, sorted, each once: parents,
	// backends, targets. A reference to something that does not exist is one too.
	Refs []ObjectName
	// Hosts of an ExternalService, for finding who else claims them.
	Hosts []string
	// Pruned lists fields that the object's writer gave and the API server
	// dropped, because the installed CRD does not have them, as far as that can be known.
	Pruned []string
	// Unreadable says why nothing but the name of an object is known that others
	// name, and what to do about it: its source may not read it. Spec is empty
	// then. "" for all that could be read.
	Unreadable string
}

// Rival is a row of a Service or an Object that is not in force, because another source names the same.
type Rival struct {
	// Scope is that of Row.
	Scope string
	Name  ObjectName
	// Row is a *Service or an *Object.
	Row any
}

// Ref returns the object's name and generation.
func (o *Object) Ref() ObjectRef {
	return ObjectRef{Kind: o.Kind, Key: o.Key, Generation: o.Generation}
}

// Name returns the object's name.
func (o *Object) Name() ObjectName { return ObjectName{o.Kind, o.Key} }

// ObjectName names an object by its kind and key. Kinds that the mesh reads
// have different names, so no group is needed.
type ObjectName struct {
	Kind string
	Key
}

// String returns "Kind namespace/name", or "Kind name" for one without a namespace.
func (n ObjectName) String() string {
	if n.Namespace == "" {
		return n.Kind + " " + n.Key.Name
	}
	return n.Kind + " " + n.Key.String()
}

// Home is the recorded home backing of a Service that states none itself.
type Home struct {
	Scope string
	// Key is the Service's.
	Key
	Platform BackingName
	// Because says what made it so, for `endpoints`, `validate` and `diff`.
	Because string
	// Supersedes is the value of the home annotation that a completed
	// TrafficShift found: as long as the annotation still says that, the record
	// counts and not the annotation. "" where the annotation counts.
	Supersedes string
	// Unknown says why a home was recorded, or may have been, and cannot be read, so that
	// Platform says nothing. "" where the home is known.
	Unknown string
}

// ShiftState is how far a TrafficShift has come: its status, which all replicas
// route by. The TrafficShift itself is a row of Objects.
type ShiftState struct {
	Scope string
	// Key is the TrafficShift's.
	Key
	// UID of the TrafficShift that the status is about, "" without Kubernetes.
	UID string
	// Version is the object's resource version, for writing the next status.
	Version string
	Status  *v1alpha1.TrafficShiftStatus
	// Unknown says why a status was stored, or may have been, and cannot be read, so that
	// Status says nothing. "" where it is known.
	Unknown string
}

// HomesSource is the name of the status that tells whether recorded homes of
// Services could be read.
const HomesSource = "homes"

// GroupsSource and ShiftsSource are the names of the statuses of the sources that
// read InstanceGroups and TrafficShifts from a cluster.
const (
	GroupsSource = "kubernetes/instancegroups"
	ShiftsSource = "kubernetes/trafficshifts"
)

// QueueSource is the name of the status that tells of messages in queues that
// are not understood.
const QueueSource = "ec2/queue"

// SourceStatus is a source's freshness.
type SourceStatus struct {
	// Name is the source's, for example "kubernetes/services" or "ec2/123456789012/ap-northeast-1".
	Name string
	// Synced is true once the source has read everything once.
	Synced bool
	// LastKnownGood is true where rows of an earlier run serve until the source has synced.
	LastKnownGood bool
	LastSync      time.Time
	// Error is why the newest attempt failed, "" if it did not, and ErrorSince when it began to.
	Error      string
	ErrorSince time.Time
	// Note says what a reader should know although nothing is wrong, for
	// example that a kind's CRD is not installed.
	Note string
	// Unread lists the objects that are there and of which the source has no row, because they
	// cannot be read, in the order of keys. They are not gone, and nobody knows what they say.
	Unread []Unread
	// UnreadAll says why there may be others of them, "" if Unread has them all.
	UnreadAll string
}

// Ready reports whether the source's rows may be served: not yet known must
// never become empty.
func (s *SourceStatus) Ready() bool { return s.Synced || s.LastKnownGood }

// OfInstances reports whether the source tells of instances, and of no object:
// ec2, or one account and region of it.
func (s *SourceStatus) OfInstances() bool {
	return s.Name == "ec2" || strings.HasPrefix(s.Name, "ec2/")
}

// ObjectRef names the object that something comes from.
type ObjectRef struct {
	Kind string
	Key
	Generation int64
}

// String returns "Kind namespace/name", or "Kind name" for one without a namespace.
func (r ObjectRef) String() string { return ObjectName{r.Kind, r.Key}.String() }
