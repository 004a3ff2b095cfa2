package snapshot

import (
	"slices"

	"github.com/causeway-mesh/causeway/xds/resource"
)

// View decides which resources a proxy sees, and in which variant.
type View struct {
	Role      resource.Role
	Namespace string
	// Workload is the workload of the proxy; for the role gateway, the Gateway.
	Workload string
	// Authenticated is true for a proxy that has proven who it is.
	Authenticated bool
	// Zone is the proxy's availability zone.
	Zone string
	// NodeName is the Kubernetes node that the proxy says it runs on, "" for none. It
	// decides which endpoints it gets and nothing else: nobody has proven it.
	NodeName string
	// Build is the proxy's version: another version may accept a configuration that this
	// one refuses. Identity is what the connection has proven about the proxy, "" for
	// nothing. Node is the proxy's own name. None of them decides which resources it
	// sees.
	Build, Identity, Node string
	// Declared lists the listeners that the proxy asks for, sorted.
	Declared []string
}

// Sees reports whether a proxy with the view sees a resource.
func (v *View) Sees(r *resource.Visibility) bool {
	if r.Role != "" && r.Role != v.Role {
		return false
	}
	if r.Namespace != "" && r.Namespace != v.Namespace {
		return false
	}
	if r.Authenticated && !v.Authenticated {
		return false
	}
	if r.Gateway != "" && (v.Role != resource.Gateway || r.Gateway != v.Namespace+"/"+v.Workload) {
		return false
	}
	if r.Declared != "" {
		_, ok := slices.BinarySearch(v.Declared, r.Declared)
		return ok
	}
	return true
}
