// Package installation judges whether an installation in a cluster works: [Judge] is given facts that others have
// read, and says of each whether it is well, and what to do where it is not.
package installation

import "time"

// Facts are what was read of a cluster. What could not be read stands in Unknown.
type Facts struct {
	// Namespace is the control plane's own.
	Namespace string
	// Unknown says why a part of the facts could not be read, by the part's name.
	Unknown map[Part]string

	// Kubernetes is the API server's version, for example v1.37.2.
	Kubernetes string
	CRDs       []CRD
	Gateway    GatewayAPI
	// Rights are those that the control plane and the user need.
	Rights []Right
	Deployment
	Lease
	XDS     Certificate
	Service Service
	// Webhook is nil where there is none.
	Webhook *Webhook
	// Namespaces are those that have opted in to injection.
	Namespaces []Namespace
	// Misspelled are labels and annotations of namespaces that look like those of injection and do nothing.
	Misspelled []Misspelled
	// Absent are pods that should be members and are not, Injected those that are and that run.
	Absent, Injected []Pod
	// Replicas are what the replicas say of themselves.
	Replicas []Replica
}

// Part names a part of the facts.
type Part string

// The parts, in the order in which they are judged.
const (
	Kubernetes Part = "kubernetes"
	CRDs       Part = "crds"
	Gateway    Part = "gateway-api"
	Rights     Part = "rights"
	Replicas   Part = "replicas"
	Leader     Part = "leader"
	TLS        Part = "certificate"
	XDSService Part = "service"
	Injection  Part = "injection"
	Members    Part = "members"
	Proxies    Part = "proxies"
	Sources    Part = "sources"
	MeshObject Part = "mesh"
)

// CRD is one of ours.
type CRD struct {
	Name string
	// Installed is whether the cluster has it, and Served whether in the version of this release.
	Installed, Served bool
	// Lacks are fields of this release's schema that the cluster's has not, and Extra those that only the cluster's has.
	Lacks, Extra []string
}

// GatewayAPI is what the cluster has of the Gateway API.
type GatewayAPI struct {
	// Installed of Kinds kinds are there.
	Installed, Kinds int
	// Channels and Versions of the bundles that they are from.
	Channels, Versions []string
}

// Right is one that somebody needs.
type Right struct {
	// Who is "the control plane" or "you".
	Who, Verb, Resource, Namespace string
	Allowed                        bool
	// Optional is said of a right that may have been taken away on purpose.
	Optional bool
}

// Deployment is that of the control plane.
type Deployment struct {
	Found                  bool
	Wanted, Ready, Updated int
}

// Lease is that of the leader.
type Lease struct {
	Holder  string
	Renewed time.Time
	Seconds int
}

// Certificate is one in a Secret.
type Certificate struct {
	Secret string
	// Problem says why there is none, "" if there is one.
	Problem string
	// Missing is true where there is no such Secret, Made where the control plane has made the certificate.
	Missing, Made bool
	Names         []string
	NotAfter      time.Time
	// CA is false where the Secret has none of the proxies' certificates.
	CA bool
}

// Service is that of xDS, with how many of the endpoints that it publishes are ready.
type Service struct {
	Found bool
	Ready int
}

// Webhook is that of injection.
type Webhook struct {
	FailurePolicies []string
	// Trusted is false where the API servers do not trust its certificate.
	Trusted     bool
	Certificate Certificate
	Service     Service
}

// Namespace has opted in to injection.
type Namespace struct {
	Name string
	// Secret is the name of that with its sidecars' certificate, and SecretFound whether it is there.
	// It is "" where they prove themselves by tokens; then CAFound says whether the ConfigMap causeway-ca is there.
	Secret               string
	SecretFound, CAFound bool
	// Members counts the pods that are injected.
	Members int
}

// Misspelled is something that does nothing and was meant to.
type Misspelled struct {
	// Object is "Namespace web".
	Object string `json:"object"`
	Reason string `json:"reason"`
	Remedy string `json:"remedy"`
}

// Pod should be a member and is not, or is injected: then it has no reason.
type Pod struct {
	// ID is the last part of its Envoy's node id.
	ID        string `json:"-"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Workload  string `json:"workload"`
	Reason    string `json:"reason"`
	Remedy    string `json:"remedy"`
}

// Replica is what one says of itself.
type Replica struct {
	Name string
	// Problem says why it does not answer, "" if it does.
	Problem string
	Version string
	Serving bool
	// WaitsFor are the sources without which it serves nothing.
	WaitsFor []string
	Sources  []Source
	Envoys   []Envoy
	// Mesh lists what is wrong with Mesh objects.
	Mesh []string
}

// Source is one that does not work.
type Source struct{ Name, Error string }

// Envoy is a connected proxy.
type Envoy struct {
	ID, Version string
	// Refused is what it refuses, "" for nothing.
	Refused string
}
