package discovery

// The ports that managed proxies of Gateways listen on beside those of their Gateway. Sidecars have the first two too.
const (
	// EnvoyAdminPort is where Envoy has its admin interface, on loopback.
	EnvoyAdminPort = 15000
	// AgentPort is where the agent answers for kubelet and Prometheus, on all addresses.
	AgentPort = 15020
	// GatewayHealthPort is where a managed proxy answers load balancers, on all addresses.
	GatewayHealthPort = 15021
)
