package conditions

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Reasons of the conditions Fresh and GuardEngaged.
const (
	reasonFresh       = "Fresh"
	reasonReadFailed  = "ReadFailed"
	reasonNotRead     = "NotReadYet"
	reasonHolding     = "Holding"
	reasonNothingHeld = "NothingHeld"
)

// OfReading returns the conditions of an InstanceGroup's generation that the reading of EC2 causes, Fresh and
// GuardEngaged. read is false while the EC2 API was not asked yet.
func OfReading(st *discovery.GroupStatus, read bool, generation int64) []metav1.Condition {
	fresh := metav1.Condition{
		Type: v1alpha1.ConditionFresh, Status: metav1.ConditionTrue, Reason: reasonFresh,
		Message: "the EC2 API's newest answer is in force", ObservedGeneration: generation,
	}
	guard := metav1.Condition{
		Type: v1alpha1.ConditionGuardEngaged, Status: metav1.ConditionFalse, Reason: reasonNothingHeld,
		Message: "no instance is held back", ObservedGeneration: generation,
	}
	switch {
	case !read:
		fresh.Status, fresh.Reason, fresh.Message = metav1.ConditionUnknown, reasonNotRead, "the EC2 API was not asked yet"
	case st.Error != "":
		fresh.Status, fresh.Reason = metav1.ConditionFalse, reasonReadFailed
		fresh.Message = "the instances of the last good answer keep serving: " + st.Error
	}
	if read && st.GuardHeld > 0 {
		guard.Status, guard.Reason = metav1.ConditionTrue, reasonHolding
		guard.Message = fmt.Sprintf("%d instances are held back from removal: %s", st.GuardHeld, st.GuardReason)
	}
	return []metav1.Condition{fresh, guard}
}
