package describe_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/policy/shift/describe"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
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

// What an SRE reads of a shift says where it stands, what both sides answer,
// what it waits for, what comes next, and who did what.
func TestDescribeShift(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	s := &v1alpha1.TrafficShift{
		ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "php-web"},
		Spec: v1alpha1.TrafficShiftSpec{
			ServiceRef: v1alpha1.ServiceReference{Name: "php-web"},
			Steps: []v1alpha1.ShiftStep{
				{Percent: "10", Hold: &metav1.Duration{Duration: time.Hour}}, {Percent: "50", Approval: v1alpha1.ApprovalRequired}, {Percent: "100"},
			},
		},
		Status: v1alpha1.TrafficShiftStatus{
			Phase: v1alpha1.ShiftShifting, Percent: "10", Step: 0, StepStarted: &metav1.Time{Time: start}, Waiting: "for 12m of the step's hold",
			Analysis: &v1alpha1.ShiftAnalysis{
				Pods:    &v1alpha1.ShiftFigures{Requests: 1204, SuccessRate: "99.95", P50: "12ms", P99: "88ms"},
				Verdict: "Pass", Reason: "pods answered 99.95 %",
			},
			History: []v1alpha1.ShiftHistory{{Time: metav1.Time{Time: start}, Event: v1alpha1.EventStep, From: "0", To: "10", Actor: "steps", Reason: "step 1 begins"}},
		},
	}
	text := describe.Shift(s, &describe.View{Freeze: &discovery.Freeze{By: "ann", Since: start, Reason: "an incident"}}, start.Add(48*time.Minute), 10)
	for _, part := range []string{
		"from instances to pods: Shifting at 10 %, step 1 of 3", "all steps are frozen by ann", "an incident",
		"pods       ███", "1204 requests, 99.95 % good, p50 12ms, p99 88ms", "no requests", "Pass: pods answered 99.95 %",
		"(48m0s)", "for 12m of the step's hold", "50 %, which then waits for approval", "0 → 10 %", "steps: step 1 begins",
	} {
		require.Contains(t, text, part)
	}
	s.Status.Phase, s.Status.RolledBack, s.Status.Percent = v1alpha1.ShiftRolledBack, true, "0"
	require.Contains(t, describe.Shift(s, nil, start, 0), "causeway shift promote web/php-web")
}

// What a shift waits for does not repeat what the lines above and below it say whole.
func TestWaitsIsShort(t *testing.T) {
	t.Parallel()
	reason := "pods answered 66.9 % of 118 requests, instances 100 % of theirs at the same time: 39 server errors; on path /x (39): 500 (39) by pod web/php-a"
	s := &v1alpha1.TrafficShift{}
	s.Namespace, s.Name, s.Spec.Steps = "web", "php-web", make([]v1alpha1.ShiftStep, 2)
	first := "the guard: " + reason
	s.Status.Waiting = first + "; step 2 needs room"
	s.Status.Analysis = &v1alpha1.ShiftAnalysis{Verdict: "Hold", Reason: reason}
	s.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionProgressing, Status: metav1.ConditionFalse, Reason: "GuardHolds", Message: first}}
	text := describe.Shift(s, nil, time.Now(), 8)
	require.Contains(t, text, "  waits      the guard: see above; step 2 needs room\n")
	require.Equal(t, 1, strings.Count(text, reason), text)

	first = "it was taken back by guard at 2026-11-30T06:03:17Z: " + reason + "; `causeway shift promote web/php-web` lets it begin anew"
	s.Status.Waiting, s.Status.Conditions[0].Message = first, first
	s.Status.Analysis, s.Status.History = nil, []v1alpha1.ShiftHistory{{Event: v1alpha1.EventRollBack, From: "50", To: "0", Actor: "guard", Reason: reason}}
	text = describe.Shift(s, nil, time.Now(), 8)
	require.Contains(t, text, "at 2026-11-30T06:03:17Z: see its history below; `causeway shift promote web/php-web`")
	require.Equal(t, 1, strings.Count(text, reason), text)
}

// A shift that was taken back fits on a screen: its reason is cut, and what to run and where the whole is stays.
func TestRolledBackInBrief(t *testing.T) {
	t.Parallel()
	reason := "404 is 100 % of the 881 answers of pods, and 0.09 % of the 8,908 of instances; on paths / (600), /cart (281), /checkout/payment (17) and 9 more: " +
		"404 (881) by pods web/php-web-7f9c4d5b8-x2x4q (588), web/php-web-7f9c4d5b8-9p6mt (293) for callers sidecar~web~shop~i-0123456789abcdef0 (500), sidecar~web~shop~i-0123456789abcdef1 (381)"
	s := &v1alpha1.TrafficShift{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "php-web"}}
	s.Spec.Steps = make([]v1alpha1.ShiftStep, 5)
	s.Status.Phase, s.Status.RolledBack, s.Status.Percent, s.Status.Step = v1alpha1.ShiftRolledBack, true, "0", -1
	s.Status.Analysis = &v1alpha1.ShiftAnalysis{Verdict: "Pass", Reason: "pods get no traffic: there is nothing to judge them by yet"}
	s.Status.Waiting = "it was taken back by guard at 2026-11-30T06:03:17Z: " + reason + "; `causeway shift promote web/php-web`, or an edit of its steps, guard, cohort, capacity or direction, lets it begin anew"
	s.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionProgressing, Status: metav1.ConditionFalse, Reason: "RolledBack", Message: s.Status.Waiting}}
	s.Status.History = []v1alpha1.ShiftHistory{
		{Event: v1alpha1.EventRollBack, From: "50", To: "0", Actor: "guard", Reason: reason}, {Event: v1alpha1.EventStep, From: "10", To: "50", Actor: "steps", Reason: "step 4 of 5 begins"},
	}
	for name, text := range map[string]string{
		"one": phrase.Wrap(describe.Shift(describe.InBrief(s, phrase.Brief), nil, time.Now(), 20), 80), "all": phrase.Wrap(describe.Waits(&describe.View{Shifts: []v1alpha1.TrafficShift{*describe.InBrief(s, phrase.Brief)}}), 80),
	} {
		require.LessOrEqual(t, strings.Count(text, "\n"), 20, text)
		flat := strings.Join(strings.Fields(text), " ")
		for _, part := range []string{"404 is 100 % of the 881 answers of pods", "causeway shift status web/php-web -o json", "causeway shift promote web/php-web"} {
			require.Contains(t, flat, part, name)
		}
		require.NotContains(t, flat, "i-0123456789abcdef1", name)
		t.Log("\n" + text)
	}
	require.Contains(t, s.Status.Waiting, reason, "the object stays as it is")
}

// In a small window the title and the shares of a shift stay, whatever else there is to say.
func TestWatchFitsAScreen(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("what it waits for is a long story that names web/php-web and a command ", 4)
	s := &v1alpha1.TrafficShift{}
	s.Namespace, s.Name, s.Spec.ServiceRef.Name = "web", "php-web", "php-web"
	s.Spec.Steps = make([]v1alpha1.ShiftStep, 5)
	s.Status.Phase, s.Status.Percent, s.Status.Waiting = v1alpha1.ShiftShifting, "10", long
	s.Status.Advice = []string{long, long}
	s.Status.Preflight = []string{long, long, long}
	for range 20 {
		s.Status.History = append(s.Status.History, v1alpha1.ShiftHistory{Event: v1alpha1.EventStep, From: "1", To: "10", Actor: "steps", Reason: long})
	}
	text := phrase.FirstLines(phrase.Wrap(describe.Shift(s, &describe.View{}, time.Now(), 8), 80), 23, "causeway shift status web/php-web")
	fits(t, text)
	require.True(t, strings.HasPrefix(text, "web/php-web: Service php-web, from instances to pods: Shifting at 10 %"), text)
	require.Contains(t, text, "pods       ███")
	require.Contains(t, text, "instances  ███")
	require.Contains(t, text, "more lines: causeway shift status web/php-web")
}
