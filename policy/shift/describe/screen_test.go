package describe_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/policy/shift/describe"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// eventful is a shift with a long history, and a reason of so many characters.
func eventful(entries, reason int) *v1alpha1.TrafficShift {
	at := metav1.NewTime(time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC))
	long := "success rate 12 % " + strings.Repeat("of these requests ", reason/18)
	s := &v1alpha1.TrafficShift{
		ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "php-web"},
		Spec:       v1alpha1.TrafficShiftSpec{ServiceRef: v1alpha1.ServiceReference{Name: "php-web"}, Steps: []v1alpha1.ShiftStep{{Percent: "10"}, {Percent: "100"}}},
		Status: v1alpha1.TrafficShiftStatus{
			Phase: v1alpha1.ShiftShifting, Percent: "10", StepStarted: &at, Waiting: "the guard: " + long,
			Analysis: &v1alpha1.ShiftAnalysis{
				Pods:    &v1alpha1.ShiftFigures{Requests: 1204, SuccessRate: "99.95", P50: "12ms", P99: "88ms", Statuses: []v1alpha1.ShiftStatusPart{{Code: "200", Percent: "99.1"}, {Code: "404", Percent: "0.9"}}},
				Verdict: "Hold", Reason: long,
			},
		},
	}
	for i := range entries {
		s.Status.History = append(s.Status.History, v1alpha1.ShiftHistory{Time: at, Event: v1alpha1.EventStep, From: "1", To: "10", Actor: "steps", Reason: fmt.Sprint("entry ", i)})
	}
	return s
}

// Whatever a shift has to say, a screen has it without scrolling, and uses the room that there is.
func TestScreen(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 11, 0, 0, 0, time.UTC)
	for _, entries := range []int{0, 1, 5, 64} {
		for _, reason := range []int{20, 400, 4000} {
			for _, size := range [][2]int{{80, 23}, {80, 10}, {132, 42}, {160, 49}, {250, 100}, {40, 15}} {
				text := describe.Screen(eventful(entries, reason), &describe.View{}, now, size[0], size[1])
				name := fmt.Sprint(entries, reason, size, "\n", text)
				lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
				require.LessOrEqual(t, len(lines), size[1], name)
				for _, l := range lines {
					if size[0] >= 80 { // a bar is no words
						require.LessOrEqual(t, utf8.RuneCountInString(l), size[0], name)
					}
				}
				require.Contains(t, text, "Shifting at 10 %", name)
			}
		}
	}
	small := describe.Screen(eventful(64, 20), &describe.View{}, now, 80, 23)
	require.Contains(t, small, "entry 3")
	require.NotContains(t, small, "entry 40")
	large := describe.Screen(eventful(64, 20), &describe.View{}, now, 160, 49)
	require.Contains(t, large, "entry 30")
	require.Contains(t, large, strings.Repeat("░", 54), "bars grow with the width")
	require.Contains(t, strings.Join(strings.Fields(describe.Screen(eventful(1, 4000), &describe.View{}, now, 80, 23)), " "), "causeway shift status web/php-web -o json", "where the whole is")
	require.Equal(t, describe.Shift(eventful(64, 20), &describe.View{}, now, 8), describe.Screen(eventful(64, 20), &describe.View{}, now, 0, 0))
}

func TestList(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 11, 0, 0, 0, time.UTC)
	printed := func(wide bool) string {
		var out bytes.Buffer
		table := phrase.NewTable(&out)
		describe.List(table, &describe.View{Shifts: []v1alpha1.TrafficShift{*eventful(1, 20)}}, now, wide)
		require.NoError(t, table.Flush())
		return out.String()
	}
	require.Equal(t, "SHIFT         SERVICE   PHASE      PERCENT   STEP     VERDICT   BUDGET LEFT\n"+
		"web/php-web   php-web   Shifting   10        1 of 2   Hold      -\n", printed(false))
	for _, part := range []string{"from instances to pods", "1h", "1204 requests, 99.95 % good (200 99.1 %, 404 0.9 %), p50 12ms, p99 88ms", "no requests", "the guard: success rate 12 %"} {
		require.Contains(t, printed(true), part)
	}
}
