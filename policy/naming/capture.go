package naming

import "github.com/causeway-mesh/causeway/discovery"

// What the rules that capture traffic (xds/agent/capture) and the Envoy and the agent that they send
// it to have agreed on.
const (
	// EnvoyAdminPort is where a sidecar's Envoy has its admin interface, on loopback.
	EnvoyAdminPort = discovery.EnvoyAdminPort
	// HTTPPort is where a sidecar's Envoy is a forward proxy for programs that are told of it
	// (http_proxy), on loopback.
	HTTPPort = 15001
	// AgentPort is where a sidecar's agent answers for kubelet and Prometheus, on all addresses.
	AgentPort = discovery.AgentPort
	// OutboundPort is where Envoy takes the captured connections of its host's processes, on 127.0.0.1
	// and ::1. It is not the port of the explicit HTTP listener: a host may use both ways.
	OutboundPort = 15002
	// InboundPort is where Envoy takes captured connections from outside, on all addresses.
	InboundPort = 15006
	// DNSPort is where the agent answers captured DNS queries, over UDP and TCP, on 127.0.0.1 and ::1.
	DNSPort = 15053
	// ApplicationPriority is the socket option SO_PRIORITY of Envoy's connections to the application
	// beside it. Without it they would be taken for calls that the application makes to itself, and come
	// back to Envoy. No privilege is needed to set it (socket(7)).
	ApplicationPriority = 6
)
