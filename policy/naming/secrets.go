package naming

// Names of what Envoy gets from the agent beside it (SDS) and not from the control plane: the workload's certificate with its key,
// and the roots by which it checks others.
const (
	IdentitySecret = "causeway/identity"
	TrustSecret    = "causeway/trust"
)
