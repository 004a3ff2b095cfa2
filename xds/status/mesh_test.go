package status

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/shift"
	"github.com/causeway-mesh/causeway/policy/shift/describe"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/xds/observe"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// fits asserts that a text is no larger than a terminal of 80 columns and 24
// rows shows with the prompt below it.
func fits(t *testing.T, text string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	require.LessOrEqual(t, len(lines), 23, text)
	for _, l := range lines {
		require.LessOrEqual(t, utf8.RuneCountInString(l), 80, l)
	}
}

// However much is wrong, it fits a screen and says where the rest is.
func TestStatusFitsAScreen(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 30, 3, 0, 0, 0, time.UTC)
	v := &Mesh{
		Version: "v0.1.0", Objects: 412, Leading: true, Serving: true,
		Proxies: Proxies{Connected: 900, InSync: 880}, Shifts: &describe.View{},
	}
	for i := range 20 {
		v.Sources = append(v.Sources, Source{Name: fmt.Sprintf("ec2/12345678901%d/ap-northeast-1", i), State: "failing", Since: start, Error: "RequestLimitExceeded: Request limit exceeded"})
		v.NotRight = append(v.NotRight, Trouble{Object: fmt.Sprintf("HTTPRoute web/shop-%d", i), Severity: "error", Text: "spec.rules[0]: there is no Service"})
		v.Proxies.Behind = append(v.Proxies.Behind, Behind{ID: fmt.Sprintf("sidecar~web~cron~i-%d", i), State: "rejected", Error: "LDS http: no such filter"})
		s := v1alpha1.TrafficShift{}
		s.Namespace, s.Name, s.Status.Waiting = "web", fmt.Sprintf("php-%d", i), "for 12m of the step's hold"
		s.Spec.Steps = make([]v1alpha1.ShiftStep, 5)
		v.Shifts.Shifts = append(v.Shifts.Shifts, s)
	}
	text := Fit(v, start.Add(time.Hour), 80, 24, false)
	fits(t, text)
	for _, part := range []string{
		"sources    20, 20 not well", "failing for 1h0m0s: RequestLimitExceeded", "... and 18 more: causeway status --all",
		"objects    412, 20 with trouble", "proxies    900, 880 in sync", "... and 18 more: causeway proxies", "... and 18 more: causeway shift status",
	} {
		require.Contains(t, text, part)
	}
	require.True(t, v.Wrong())
	require.Equal(t, 20, strings.Count(Fit(v, start, 0, 0, true), "RequestLimitExceeded"))
}

// What proxies refused is counted, even where its object is gone, and a proxy's long
// story is one line of it: the whole is there for who asks.
func TestStatusTellsRefusals(t *testing.T) {
	t.Parallel()
	story := "Error adding/updating listener(s) http: Proto constraint validation failed (field: codec)\n" + strings.Repeat("name: value, ", 300)
	view := &observe.View{Objects: []observe.ProgrammedRow{
		{
			Kind: "HTTPRoute", Namespace: "web", Name: "bad", Status: metav1.ConditionFalse, Reason: observe.ReasonRejected,
			Message: "i-1 refused RDS a: " + story + "; the last good configuration stays in force for proxies like it",
		},
		{Kind: "Mesh", Name: "default", Status: metav1.ConditionFalse, Reason: observe.ReasonProxiesBehind, Message: "1 proxy has not acknowledged it"},
	}}
	of := func(unit, kind, name string, pinned bool) snapshot.Rejection {
		r := snapshot.Rejection{Type: resource.VirtualHost, Name: name, Unit: unit, Node: "i-1", Error: story, Pinned: pinned}
		if kind != "" {
			r.Provenance = []discovery.ObjectRef{{Kind: kind, Key: discovery.Key{Namespace: "web", Name: name}, Generation: 2}}
		}
		return r
	}
	v := &Mesh{Objects: 9, Serving: true, Leading: true, Shifts: &describe.View{}, NotRight: troubles(nil, view, []snapshot.Rejection{
		of("service/web/bad", "HTTPRoute", "bad", true), of("service/web/gone", "HTTPRoute", "gone", true), of("listener/http", "", "http", false),
	})}
	for _, o := range v.NotRight {
		if o.Severity == refused {
			v.Refused++
		}
	}
	v.Proxies = Proxies{Connected: 1, Behind: []Behind{{ID: "i-1", State: "rejected", Error: "VHDS bad: " + story}}}
	text := Fit(v, time.Now(), 80, 24, false)
	fits(t, text)
	require.Contains(t, text, "objects    9, 4 with trouble, 3 of them refused by proxies")
	for _, part := range []string{"Refused: HTTPRoute web/bad", "Refused: HTTPRoute web/gone", "Refused: listener/http", "NotProgrammed: Mesh default"} {
		require.Contains(t, Fit(v, time.Now(), 0, 0, false), part)
	}
	require.NotContains(t, text, "name: value")
	require.Contains(t, Fit(v, time.Now(), 0, 0, false), "(field: codec) ...; the last good configuration stays in force for proxies like it\n")
	require.Equal(t, 4*300, strings.Count(Fit(v, time.Now(), 0, 0, true), "name: value"))
	require.True(t, v.Wrong())
}

// A shift whose guard fails and that goes on neither way needs a look, though nothing was taken back.
func TestStatusOfAFailedGuard(t *testing.T) {
	t.Parallel()
	v := &Mesh{Serving: true, Leading: true, Shifts: &describe.View{Shifts: make([]v1alpha1.TrafficShift, 1)}}
	status := &v.Shifts.Shifts[0].Status
	status.Phase = v1alpha1.ShiftShifting
	status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionProgressing, Status: metav1.ConditionFalse, Reason: "Holding"}}
	require.False(t, v.Wrong())
	status.Conditions[0].Reason = shift.ReasonGuardFailed
	require.True(t, v.Wrong())
}

// Without Kubernetes each control plane says whether it steps TrafficShifts itself: two that do cannot know of each other.
func TestStatusSaysWhoSteps(t *testing.T) {
	for want, v := range map[string]*Mesh{
		"shifts     1, 1 under way, stepped here: any other control plane needs": {StepsHere: true},
		"shifts     1, 1 under way, followed from /mnt/first\n":                  {ShiftsFrom: "/mnt/first"},
		"shifts     1, 1 under way\n":                                            {Leading: true},
	} {
		v.Shifts = &describe.View{Shifts: make([]v1alpha1.TrafficShift, 1)}
		require.Contains(t, describeMesh(v, time.Now(), 9, 80, false), want)
		v.Shifts = &describe.View{}
		require.Contains(t, describeMesh(v, time.Now(), 9, 80, false), "shifts     0, 0 under way\n")
	}
}
