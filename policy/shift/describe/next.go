package describe

import "github.com/causeway-mesh/causeway/policy/v1alpha1"

// Next says what comes after the current step, "" for nothing any more, and for a shift without steps.
func Next(s *v1alpha1.TrafficShift) string {
	if len(s.Spec.Steps) == 0 {
		return ""
	}
	return nextStep(s)
}
