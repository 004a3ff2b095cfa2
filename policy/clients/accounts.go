package clients

import "fmt"

// Pod is a pod, as its service account token proves it.
type Pod struct {
	// Namespace is the pod's and the service account's, ServiceAccount the name of the latter.
	Namespace, ServiceAccount string
	// Name and UID are the pod's.
	Name, UID string
	// Node is the Kubernetes node that the pod was bound to, "" if the token does not say (Kubernetes before 1.30).
	Node string
}

func (p *Pod) String() string {
	return fmt.Sprintf("pod %s/%s of the service account %s", p.Namespace, p.Name, p.ServiceAccount)
}

// Claim is who a proxy says it is.
type Claim struct {
	Role, Namespace, Workload, Instance string
	// Node is the Kubernetes node, "" if it says none.
	Node string
}

// Made returns the service account that the control plane has made for the proxies of a Gateway, in the
// Gateway's namespace; false if it has made none.
type Made func(namespace, gateway string) (serviceAccount string, ok bool)

// PodIdentity returns by which identity a pod is the proxy that it claims to be, or an error if it may not be.
//
// Every claim must be the pod's own: the last part of the node id is its uid, so that no pod reports or asks as another one.
// Then a pod may be a sidecar of its own namespace. It is a Gateway's proxy if its service account is the one that the
// control plane has made for that Gateway, or if a rule names the service account (Rule.ServiceAccount); a rule may also
// let it be a sidecar of another namespace. made may be nil.
func (r *Rules) PodIdentity(p *Pod, c *Claim, made Made) (string, error) {
	if c.Instance != p.UID {
		return "", fmt.Errorf("the token is of %s with the uid %s, and the node id says %q: let the agent have --id=$(POD_UID), from metadata.uid", p, p.UID, c.Instance)
	}
	if p.Node != "" && c.Node != "" && p.Node != c.Node {
		return "", fmt.Errorf("the token is of %s on the node %s, and the proxy says that it is on %q: let the agent have --node-name from spec.nodeName", p, p.Node, c.Node)
	}
	identity := "serviceAccount:" + p.Namespace + "/" + p.ServiceAccount
	if c.Role == "sidecar" && c.Namespace == p.Namespace {
		return identity, nil
	}
	if c.Role == "gateway" && c.Namespace == p.Namespace && made != nil {
		if account, ok := made(c.Namespace, c.Workload); ok && account == p.ServiceAccount {
			return identity, nil
		}
	}
	for i := range r.Clients {
		rule := &r.Clients[i]
		if rule.ServiceAccount != "" && matches(rule.ServiceAccount, p.Namespace+"/"+p.ServiceAccount) && rule.lets(c.Role, c.Namespace) {
			return identity, nil
		}
	}
	return "", fmt.Errorf("no rule lets %s be a %s of namespace %q: without a rule a pod is a sidecar of its own namespace alone; "+
		"for more write one with serviceAccount: %s/%s (--xds-client-rules)", p, c.Role, c.Namespace, p.Namespace, p.ServiceAccount)
}
