package runner

import (
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// equal reports whether two statuses say the same.
func equal(a, b *v1alpha1.TrafficShiftStatus) bool { return equality.Semantic.DeepEqual(a, b) }

// equalButFigures reports whether two statuses differ in nothing but figures,
// which change all the time.
func equalButFigures(a, b *v1alpha1.TrafficShiftStatus) bool {
	return equality.Semantic.DeepEqual(withoutFigures(a), withoutFigures(b))
}

// withoutFigures returns a status without what is only measured: a verdict is
// news, its sentence is not.
func withoutFigures(s *v1alpha1.TrafficShiftStatus) *v1alpha1.TrafficShiftStatus {
	out := *s
	out.Budget, out.Waiting, out.Advice = nil, "", nil
	if s.Analysis != nil {
		out.Analysis = &v1alpha1.ShiftAnalysis{Verdict: s.Analysis.Verdict}
	}
	out.Conditions = nil
	for _, c := range s.Conditions {
		c.Message = ""
		out.Conditions = append(out.Conditions, c)
	}
	return &out
}
