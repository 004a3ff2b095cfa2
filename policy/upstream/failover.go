package upstream

import (
	"fmt"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// failover reports whether the backings of a port stand in for each other, whether
// somebody has stated it, and what made it so. Two web tiers are copies of each
// other; two stores are not: a connection that goes to the other one for the
// seconds of a restart writes where nobody looks for it afterwards.
func (d *Division) failover(p discovery.ServicePort, spoken policy.Protocol) (on, stated bool, because string) {
	if d.Object != nil {
		if mode := d.Object.Spec.(*v1alpha1.TrafficShift).Spec.Failover; mode != "" {
			return mode == v1alpha1.FailoverOtherBacking, true, fmt.Sprintf("%s: spec.failover: %s", d.Object.Name(), mode)
		}
	}
	if mode, ok := ParseFailover(d.stated); ok {
		return mode == v1alpha1.FailoverOtherBacking, true, fmt.Sprintf("annotation %s: %s", v1alpha1.FailoverAnnotation, mode)
	}
	if store := policy.StoreOf(p); store != "" {
		return false, false, store + " is a store, and the other backing may have other data"
	}
	if d.Object != nil && spoken == policy.TCP {
		return false, false, d.Object.Name().String() + " moves a TCP port, and the other backing may have other data"
	}
	return true, false, "the default"
}

// ParseFailover returns the mode that the annotation names.
func ParseFailover(s string) (v1alpha1.FailoverMode, bool) {
	mode := v1alpha1.FailoverMode(s)
	return mode, mode == v1alpha1.FailoverOtherBacking || mode == v1alpha1.FailoverNone
}
