package upstream

import (
	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
)

// NodeModeOf returns a Service's rule. Local comes before every distribution, as with kube-proxy.
func NodeModeOf(svc *discovery.Service) policy.NodeMode {
	switch {
	case svc.LocalTraffic:
		return policy.OwnNodeOnly
	case svc.Distribution == "PreferSameNode":
		return policy.OwnNodeFirst
	}
	return policy.AnyNode
}
