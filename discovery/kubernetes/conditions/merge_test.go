package conditions

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// someConditions returns conditions of up to three types.
func someConditions(rnd *rand.Rand, at metav1.Time) []metav1.Condition {
	out := []metav1.Condition{}
	for _, kind := range []string{"Accepted", "ResolvedRefs", "PartiallyInvalid"} {
		if rnd.IntN(4) == 0 {
			continue
		}
		status := metav1.ConditionTrue
		if rnd.IntN(2) == 0 {
			status = metav1.ConditionFalse
		}
		out = append(out, metav1.Condition{Type: kind, Status: status, Reason: "R" + string(rune('A'+rnd.IntN(2))), LastTransitionTime: at})
	}
	return out
}

func someParents(rnd *rand.Rand, at metav1.Time, controllers ...string) []gatewayv1.RouteParentStatus {
	var out []gatewayv1.RouteParentStatus
	for _, controller := range controllers {
		for i := range 4 {
			if rnd.IntN(2) == 0 {
				out = append(out, gatewayv1.RouteParentStatus{
					ParentRef:      gatewayv1.ParentReference{Name: gatewayv1.ObjectName(fmt.Sprint("p", i))},
					ControllerName: gatewayv1.GatewayController(controller), Conditions: someConditions(rnd, at),
				})
			}
		}
	}
	rnd.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// Whatever is there and whatever is wanted: others' entries stay as they are
// and in their order, ours become what is wanted, doing it twice changes
// nothing, times change only where a status does, and the digest of the result
// is that of what was wanted.
func TestMergeProperties(t *testing.T) {
	before, now := metav1.Unix(1000, 0), metav1.Unix(2000, 0)
	for seed := range uint64(2000) {
		rnd := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // reproducible
		have := discovery.Status{Parents: someParents(rnd, before, v1alpha1.ControllerName, "other.example/a", "other.example/b")}
		want := discovery.Status{Parents: someParents(rnd, metav1.Time{}, v1alpha1.ControllerName)}
		var programmed *metav1.Condition
		if rnd.IntN(2) == 0 {
			programmed = &metav1.Condition{Type: "Programmed", Status: metav1.ConditionUnknown, Reason: "NoProxies"}
		}
		next := Merge(have, want, programmed, now)

		foreign := func(s discovery.Status) []gatewayv1.RouteParentStatus {
			return slices.DeleteFunc(slices.Clone(s.Parents), func(p gatewayv1.RouteParentStatus) bool { return p.ControllerName == v1alpha1.ControllerName })
		}
		require.True(t, apiequality.Semantic.DeepEqual(foreign(have), foreign(next)), "seed %d", seed)
		require.Len(t, Ours(next).Parents, len(want.Parents), "seed %d", seed)
		wantSaid, _ := Digest(want)
		said, says := Digest(Ours(next))
		require.Equal(t, wantSaid, said, "seed %d", seed)
		if programmed != nil && len(want.Parents) > 0 {
			require.Equal(t, digestCondition(programmed), says, "seed %d", seed)
		}
		require.True(t, Same(next, Merge(next, want, programmed, metav1.Unix(3000, 0))), "seed %d", seed)
		for _, p := range Ours(next).Parents {
			var old []metav1.Condition
			for _, h := range Ours(have).Parents {
				if h.ParentRef.Name == p.ParentRef.Name {
					old = h.Conditions
				}
			}
			for _, c := range p.Conditions {
				at := now
				for _, o := range old {
					if o.Type == c.Type && o.Status == c.Status {
						at = before
					}
				}
				require.Equal(t, at, c.LastTransitionTime, "seed %d: %s", seed, c.Type)
			}
		}
	}
}

func TestMerge(t *testing.T) {
	entry := func(controller, parent string) gatewayv1.RouteParentStatus {
		return gatewayv1.RouteParentStatus{
			ParentRef: gatewayv1.ParentReference{Name: gatewayv1.ObjectName(parent)}, ControllerName: gatewayv1.GatewayController(controller),
			Conditions: []metav1.Condition{{Type: "Accepted", Status: metav1.ConditionTrue, Reason: "Accepted"}},
		}
	}
	now := metav1.Unix(2000, 0)

	// A list that others fill has no room for us, and theirs stays.
	full := discovery.Status{}
	for i := range maxParents - 1 {
		full.Parents = append(full.Parents, entry("other.example/a", fmt.Sprint(i)))
	}
	next := Merge(full, discovery.Status{Parents: []gatewayv1.RouteParentStatus{entry(v1alpha1.ControllerName, "x"), entry(v1alpha1.ControllerName, "y")}}, nil, now)
	require.Len(t, next.Parents, maxParents)
	require.EqualValues(t, "x", next.Parents[maxParents-1].ParentRef.Name)

	// What was said of Programmed stays while nothing is known.
	programmed := metav1.Condition{Type: "Programmed", Status: metav1.ConditionTrue, Reason: "Programmed", LastTransitionTime: metav1.Unix(1, 0)}
	have := discovery.Status{Conditions: []metav1.Condition{programmed, {Type: "Foreign", Status: metav1.ConditionTrue}}}
	want := discovery.Status{Conditions: []metav1.Condition{{Type: "Accepted", Status: metav1.ConditionTrue, Reason: "Accepted"}}}
	next = Merge(have, want, nil, now)
	require.Equal(t, []metav1.Condition{{Type: "Accepted", Status: metav1.ConditionTrue, Reason: "Accepted", LastTransitionTime: now}, programmed}, next.Conditions)
	require.False(t, Same(have, next))
	require.True(t, Same(discovery.Status{Conditions: append(slices.Clone(next.Conditions), have.Conditions[1])}, next), "another's condition is not ours")

	// Messages fit, at the end of a character.
	want.Conditions[0].Message = strings.Repeat("ü", maxMessage)
	next = Merge(discovery.Status{}, want, nil, now)
	require.LessOrEqual(t, len(next.Conditions[0].Message), maxMessage)
	require.True(t, strings.HasSuffix(next.Conditions[0].Message, "ü…"))
	wantSaid, _ := Digest(want)
	said, _ := Digest(next)
	require.Equal(t, wantSaid, said)
}

func TestDigest(t *testing.T) {
	parent := func(name, programmed string) gatewayv1.RouteParentStatus {
		p := gatewayv1.RouteParentStatus{ParentRef: gatewayv1.ParentReference{Name: gatewayv1.ObjectName(name)}}
		p.Conditions = []metav1.Condition{{Type: "Accepted", Status: metav1.ConditionTrue, LastTransitionTime: metav1.Now()}}
		if programmed != "" {
			p.Conditions = append(p.Conditions, metav1.Condition{Type: "Programmed", Reason: programmed})
		}
		return p
	}
	of := func(p ...gatewayv1.RouteParentStatus) [2]uint64 {
		a, b := Digest(discovery.Status{Parents: p})
		return [2]uint64{a, b}
	}
	require.Equal(t, of(parent("a", ""), parent("b", "")), of(parent("b", ""), parent("a", "")), "neither order nor times")
	require.NotEqual(t, of(parent("a", ""))[0], of(parent("b", ""))[0])
	require.Zero(t, of(parent("a", ""))[1])
	require.Equal(t, of(parent("a", "X"))[1], of(parent("a", "X"), parent("b", "X"))[1])
	for _, mix := range [][2]uint64{of(parent("a", "X"), parent("b", "Y")), of(parent("a", ""), parent("b", "Y")), of(parent("a", "X"), parent("b", ""))} {
		require.EqualValues(t, mixed, mix[1])
	}
	require.EqualValues(t, mixed, of(parent("a", "X"), parent("b", "Y"), parent("c", "Y"))[1], "it stays mixed")
}

func TestTurned(t *testing.T) {
	with := func(status metav1.ConditionStatus, reason string) []metav1.Condition {
		return []metav1.Condition{{Type: "Accepted", Status: status, Reason: reason}}
	}
	for _, c := range []struct {
		name         string
		before, next []metav1.Condition
		want         int
	}{
		{"new and good", nil, with(metav1.ConditionTrue, "Accepted"), 0},
		{"new and bad", nil, with(metav1.ConditionFalse, "Invalid"), 1},
		{"still bad", with(metav1.ConditionFalse, "Invalid"), with(metav1.ConditionFalse, "Invalid"), 0},
		{"bad for another reason", with(metav1.ConditionFalse, "Invalid"), with(metav1.ConditionFalse, "Conflicted"), 1},
		{"healed", with(metav1.ConditionFalse, "Invalid"), with(metav1.ConditionTrue, "Accepted"), 0},
		{"unknown", with(metav1.ConditionTrue, "Programmed"), with(metav1.ConditionUnknown, "NoProxies"), 0},
	} {
		require.Len(t, Turned(discovery.Status{Conditions: c.before}, discovery.Status{Conditions: c.next}), c.want, c.name)
		// The same at two parents is one Event.
		two := func(conditions []metav1.Condition) discovery.Status {
			return discovery.Status{Parents: []gatewayv1.RouteParentStatus{
				{ParentRef: gatewayv1.ParentReference{Name: "a"}, Conditions: conditions},
				{ParentRef: gatewayv1.ParentReference{Name: "b"}, Conditions: conditions},
			}}
		}
		require.Len(t, Turned(two(c.before), two(c.next)), c.want, c.name)
	}
}
