package compile

import (
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
)

// shiftMetadata is the namespace of the metadata of routes that send requests
// to a Service whose traffic is being shifted: {"service": "<ns>/<name>",
// "port": N}. Its presence is what makes a proxy report how requests ended.
const shiftMetadata = "causeway.shift"

// target is what a share of a port's traffic goes to.
type target struct {
	cluster string
	weight  uint32
}

// backendTargets returns the clusters of a backend with its parts of the requests.
func backendTargets(b *policy.Backend) []target {
	switch b.Kind {
	case policy.InstanceGroupBackend:
		return []target{{naming.Group(b.Key, b.Port, b.Group), b.Share}}
	case policy.ExternalBackend:
		return []target{{naming.External(b.Key, b.Port), b.Share}}
	case policy.InvalidBackend:
		return []target{{naming.InvalidCluster, b.Share}}
	case policy.ServiceBackend:
		if b.Protocol == policy.TCP {
			return []target{{naming.Shared(b.Key, b.Port), b.Share}}
		}
		if b.Unknown != "" {
			return []target{{naming.UnknownCluster, b.Share}}
		}
	}
	out := make([]target, len(b.Targets))
	for i, t := range b.Targets {
		out[i] = target{naming.Cluster(b.Key, b.Port, t.Platform), t.Share}
		if len(t.Failover) > 0 {
			out[i].cluster = naming.Failover(b.Key, b.Port, t.Platform, t.Failover)
		}
	}
	return out
}
