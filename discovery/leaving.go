package discovery

import "time"

// Leaving is a host whose agent says that it is to get nothing new.
type Leaving struct {
	// Instance is its id, Namespace the one that its agent may speak for.
	Instance, Namespace string
	// Reason is a short CamelCase word, then details.
	Reason string
	// Heard is when the agent said so last.
	Heard time.Time
}

// LeavingFor is for how long what an agent said last holds.
const LeavingFor = 2 * time.Minute
