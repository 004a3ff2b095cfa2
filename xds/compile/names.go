// Package compile turns the mesh model into Envoy resources. It is pure and
// deterministic to the byte: equal models give equal bytes, on every replica
// and in every run.
//
// Names that others rely on:
//
//	<ns>/<svc>:<port>/<pods|instances>      a backing: EDS cluster and its endpoints
//	<ns>/<svc>:<port>/pods+instances        pods, and instances while no pod is usable
//	<ns>/<svc>:<port>/instances+pods        the reverse
//	<ns>/<svc>:<port>/shared                both backings of a port that is not HTTP
//	<ns>/<svc>:<port>/instances/<group>     an InstanceGroup that a route names
//	shadow/<ns>/<svc>:<port>/<platform>     the same backing, for copies of requests
//	external/<ns>/<name>:<port>             a port of an ExternalService
//	http                                    the route configuration of HTTP callers
//	http/<svc>.<ns>:<port>                  a virtual host of it
//	http/<svc>.<ns>:<port>+short            the same by the name that only its namespace may use
//	http/external~<name>.<ns>:<port>        a virtual host of an ExternalService
//	http/any                                the virtual host of all that nobody has declared
package compile

import (
	"strconv"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
)

// RouteName is the name of the route configuration of HTTP callers.
const RouteName = "http"

// shiftMetadata is the namespace of the metadata of routes that send requests
// to a Service whose traffic is being shifted: {"service": "<ns>/<name>",
// "port": N}. Its presence is what makes a proxy report how requests ended.
const shiftMetadata = "causeway.shift"

// ClusterName returns the name of the cluster of a backing.
func ClusterName(svc discovery.Key, port uint16, p discovery.Platform) string {
	return portName(svc, port) + "/" + p.String()
}

// failoverName returns the name of the aggregate cluster that prefers a platform.
func failoverName(svc discovery.Key, port uint16, first discovery.Platform) string {
	return portName(svc, port) + "/" + first.String() + "+" + first.Other().String()
}

// sharedLast is the last part of the name of a TCP port's cluster.
const sharedLast = "shared"

// sharedName returns the name of the cluster of both backings of a TCP port.
func sharedName(svc discovery.Key, port uint16) string { return portName(svc, port) + "/" + sharedLast }

// groupClusterName returns the name of the cluster of an InstanceGroup.
func groupClusterName(svc discovery.Key, port uint16, group string) string {
	return portName(svc, port) + "/" + discovery.Instances.String() + "/" + group
}

// shadowName returns the name of the cluster that copies of requests to a
// Service go to while a shift compares the answers of its backings.
func shadowName(svc discovery.Key, port uint16, p discovery.Platform) string {
	return "shadow/" + ClusterName(svc, port, p)
}

// externalClusterName returns the name of the cluster of an ExternalService's port.
func externalClusterName(external discovery.Key, port uint16) string {
	return "external/" + portName(external, port)
}

// hostName returns the name of a port's virtual host. What is before the last
// slash must be the route configuration's name: so Envoy finds whose it is.
func hostName(svc discovery.Key, port uint16) string {
	return RouteName + "/" + svc.Name + "." + svc.Namespace + ":" + strconv.Itoa(int(port))
}

// externalHostName returns the name of the virtual host of an ExternalService's port.
func externalHostName(external discovery.Key, port uint16) string {
	return hostName(discovery.Key{Namespace: external.Namespace, Name: "external~" + external.Name}, port)
}

func portName(svc discovery.Key, port uint16) string {
	return svc.Namespace + "/" + svc.Name + ":" + strconv.Itoa(int(port))
}

// statName returns the cluster's name in statistics. "/" separates, because
// StatsD reads ":" and "|" and Envoy's own tag extraction stops at ".", which
// the names of ExternalServices and InstanceGroups may have.
func statName(svc discovery.Key, port uint16, last string) string {
	return strings.ReplaceAll(svc.Namespace+"/"+svc.Name+"/"+strconv.Itoa(int(port))+"/"+last, ".", "_")
}

// target is what a share of a port's traffic goes to.
type target struct {
	cluster string
	weight  uint32
}

// backendTargets returns the clusters of a backend with its parts of the requests.
func backendTargets(b *policy.Backend) []target {
	switch b.Kind {
	case policy.InstanceGroupBackend:
		return []target{{groupClusterName(b.Key, b.Port, b.Group), b.Share}}
	case policy.ExternalBackend:
		return []target{{externalClusterName(b.Key, b.Port), b.Share}}
	case policy.InvalidBackend:
		return []target{{invalidCluster, b.Share}}
	case policy.ServiceBackend:
		if b.Protocol == policy.TCP {
			return []target{{sharedName(b.Key, b.Port), b.Share}}
		}
		if b.Unknown != "" {
			return []target{{unknownCluster, b.Share}}
		}
	}
	out := make([]target, len(b.Targets))
	for i, t := range b.Targets {
		out[i] = target{ClusterName(b.Key, b.Port, t.Platform), t.Share}
		if b.Failover && len(b.Targets) == 2 {
			out[i].cluster = failoverName(b.Key, b.Port, t.Platform)
		}
	}
	return out
}

// fails reports whether a port's backings stand in for each other.
func fails(p *policy.Port) bool { return p.Failover && len(p.Backings) == 2 }
