package outcome

import (
	"time"

	"github.com/causeway-mesh/causeway/discovery"
)

// Call is what the proxies of a workload have sent to a Service's backing.
type Call struct {
	// Caller is the workload; of a Gateway's proxies the Gateway.
	Caller discovery.Key
	// Gateway is true for a Gateway's proxies.
	Gateway bool
	Service discovery.Key
	Backing discovery.BackingName
	// Issued are requests that were sent, or TCP connections; an attempt that is made again counts again. Success and
	// Failed have ended; of TCP both are 0.
	Issued, Success, Failed uint64
}

// Calls are those of a time.
type Calls struct {
	Calls []Call
	// Over is how long a time that is, two minutes at most; it may be 0 at its begin.
	Over time.Duration
	// Dropped is true where more workloads call than are counted.
	Dropped bool
}
