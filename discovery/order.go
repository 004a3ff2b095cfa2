package discovery

// The actions of an Order. Those of a TrafficShift have the names of their commands.
const (
	OrderPromote  = "promote"
	OrderPause    = "pause"
	OrderResume   = "resume"
	OrderRollback = "rollback"
	OrderFreeze   = "freeze"
	OrderUnfreeze = "unfreeze"
	OrderRelease  = "release"
)

// Order is what somebody wants to be done: a command to a TrafficShift, a freeze of all of them or its end, or that the
// never-empty guard lets go what it holds of an InstanceGroup.
type Order struct {
	Action string
	// Key of the TrafficShift, or of the InstanceGroup; zero for a freeze.
	Key Key
	// Step that a promotion is about, as the person saw it (v1alpha1.ShiftCommand).
	Step *int32
	// Config freezes all configuration but endpoints too.
	Config bool
	Reason string
}

// OfShift reports whether the order is a command to a TrafficShift.
func (o *Order) OfShift() bool {
	switch o.Action {
	case OrderPromote, OrderPause, OrderResume, OrderRollback:
		return true
	}
	return false
}
