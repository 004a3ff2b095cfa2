package conditions

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
)

// Whatever a Gateway's status says and must say: writing it twice changes
// nothing, what another controller added is no difference, and the order in which
// things stand is none either.
func TestMergeGatewayProperties(t *testing.T) {
	t.Parallel()
	conditions := func(rnd *rand.Rand, at metav1.Time) []metav1.Condition {
		var out []metav1.Condition
		for _, kind := range []string{"Accepted", "ResolvedRefs", "Conflicted", "Programmed"} {
			if rnd.IntN(3) > 0 && (kind != "Programmed" || rnd.IntN(4) == 0) {
				status := []metav1.ConditionStatus{metav1.ConditionTrue, metav1.ConditionFalse, metav1.ConditionUnknown}[rnd.IntN(3)]
				out = append(out, metav1.Condition{Type: kind, Status: status, Reason: "R" + string(rune('A'+rnd.IntN(2))), LastTransitionTime: at})
			}
		}
		return out
	}
	some := func(rnd *rand.Rand, at metav1.Time) *gatewayv1.GatewayStatus {
		out := &gatewayv1.GatewayStatus{Conditions: conditions(rnd, at)}
		for i := range 4 {
			if rnd.IntN(2) == 0 {
				out.Listeners = append(out.Listeners, gatewayv1.ListenerStatus{
					Name: gatewayv1.SectionName(fmt.Sprint("l", i)), AttachedRoutes: rnd.Int32N(3), Conditions: conditions(rnd, at),
				})
			}
		}
		rnd.Shuffle(len(out.Listeners), func(i, j int) { out.Listeners[i], out.Listeners[j] = out.Listeners[j], out.Listeners[i] })
		return out
	}
	for seed := range uint64(2000) {
		rnd := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // reproducible
		have, want := some(rnd, metav1.Unix(1000, 0)), some(rnd, metav1.Time{})
		var programmed *metav1.Condition
		if rnd.IntN(2) == 0 {
			programmed = &metav1.Condition{Type: "Programmed", Status: metav1.ConditionUnknown, Reason: "NoProxies"}
		}
		next := MergeGateway(have, want, programmed, metav1.Unix(2000, 0))
		require.True(t, SameGateway(next, MergeGateway(next, want, programmed, metav1.Unix(3000, 0))), "seed %d", seed)
		wantSaid, _ := Digest(discovery.Status{Gateway: want})
		said, _ := Digest(discovery.Status{Gateway: next})
		require.Equal(t, wantSaid, said, "seed %d", seed)

		check := func(before, wanted, after []metav1.Condition) {
			for _, c := range after {
				old := apimeta.FindStatusCondition(before, c.Type)
				turned := old == nil || old.Status != c.Status
				require.Equal(t, turned, c.LastTransitionTime.Unix() == 2000, "seed %d: %+v after %+v", seed, c, old)
			}
			p := apimeta.FindStatusCondition(after, "Programmed")
			switch c := NotInForce(wanted); {
			case c != nil:
				require.Equal(t, c.Status, p.Status, "seed %d", seed)
			case programmed != nil:
				require.Equal(t, "Pending", p.Reason, "seed %d", seed)
			default:
				require.Equal(t, says(before, "Programmed"), says(after, "Programmed"), "seed %d", seed)
			}
		}
		check(have.Conditions, want.Conditions, next.Conditions)
		require.Len(t, next.Listeners, len(want.Listeners))
		for i := range next.Listeners {
			var before []metav1.Condition
			for _, l := range have.Listeners {
				if l.Name == next.Listeners[i].Name {
					before = l.Conditions
				}
			}
			check(before, want.Listeners[i].Conditions, next.Listeners[i].Conditions)
		}

		foreign := *next
		foreign.Conditions = append([]metav1.Condition{{Type: "example.com/Checked"}}, next.Conditions...)
		foreign.Listeners = append([]gatewayv1.ListenerStatus(nil), next.Listeners...)
		rnd.Shuffle(len(foreign.Listeners), func(i, j int) {
			foreign.Listeners[i], foreign.Listeners[j] = foreign.Listeners[j], foreign.Listeners[i]
		})
		require.True(t, SameGateway(&foreign, next), "seed %d", seed)
		said, _ = Digest(Ours(discovery.Status{Gateway: &foreign}))
		require.Equal(t, wantSaid, said, "seed %d", seed)
	}
}

// says returns a condition as "Status/Reason@generation".
func says(conditions []metav1.Condition, kind string) string {
	c := apimeta.FindStatusCondition(conditions, kind)
	if c == nil {
		return ""
	}
	return fmt.Sprintf("%s/%s@%d", c.Status, c.Reason, c.ObservedGeneration)
}
