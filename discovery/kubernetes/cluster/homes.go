package cluster

// HomesLabel is the label of the ConfigMaps of the control plane's own namespace
// in which homes are recorded, with one key per namespace.
const HomesLabel = "causeway.dev/homes"

// HomeRecord is a recorded home, as JSON in a ConfigMap.
type HomeRecord struct {
	Home    string `json:"home"` // "pods" or "instances"
	Because string `json:"because"`
	// Supersedes is the value of the home annotation that does not count.
	Supersedes string `json:"supersedes,omitempty"`
}
