package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
)

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
	text := describeShift(s, &shiftView{Freeze: &discovery.Freeze{By: "ann", Since: start, Reason: "an incident"}}, start.Add(48*time.Minute), 10)
	for _, part := range []string{
		"from instances to pods: Shifting at 10 %, step 1 of 3", "all steps are frozen by ann", "an incident",
		"pods       ███", "1204 requests, 99.95 % good, p50 12ms, p99 88ms", "no requests", "Pass: pods answered 99.95 %",
		"(48m0s)", "for 12m of the step's hold", "50 %, which then waits for approval", "0 → 10 %", "steps: step 1 begins",
	} {
		require.Contains(t, text, part)
	}
	s.Status.Phase, s.Status.RolledBack, s.Status.Percent = v1alpha1.ShiftRolledBack, true, "0"
	require.Contains(t, describeShift(s, nil, start, 0), "causeway shift promote web/php-web")
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
	text := describeShift(s, nil, time.Now(), 8)
	require.Contains(t, text, "  waits      the guard: see above; step 2 needs room\n")
	require.Equal(t, 1, strings.Count(text, reason), text)

	first = "it was taken back by guard at 2026-11-30T06:03:17Z: " + reason + "; `causeway shift promote web/php-web` lets it begin anew"
	s.Status.Waiting, s.Status.Conditions[0].Message = first, first
	s.Status.Analysis, s.Status.History = nil, []v1alpha1.ShiftHistory{{Event: v1alpha1.EventRollBack, From: "50", To: "0", Actor: "guard", Reason: reason}}
	text = describeShift(s, nil, time.Now(), 8)
	require.Contains(t, text, "at 2026-11-30T06:03:17Z: see its history below; `causeway shift promote web/php-web`")
	require.Equal(t, 1, strings.Count(text, reason), text)
}

// A command that was refused, that waits, and that was carried out are told apart.
func TestAnswerOfACommand(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		result *v1alpha1.ShiftCommandResult
		out    string
		err    string
	}{
		{result: nil, out: "promote web/php: done\n"},
		{result: &v1alpha1.ShiftCommandResult{Result: v1alpha1.CommandDone}, out: "promote web/php: done\n"},
		{result: &v1alpha1.ShiftCommandResult{Result: v1alpha1.CommandWaits, Message: "the guard: few requests"}, out: "promote web/php: noted, and it waits: the guard: few requests\n"},
		{result: &v1alpha1.ShiftCommandResult{Result: v1alpha1.CommandRefused, Message: "the guard fails"}, err: "promote web/php was refused: the guard fails"},
	} {
		s := &v1alpha1.TrafficShift{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "php"}}
		s.Spec.Steps = []v1alpha1.ShiftStep{{Percent: "100"}}
		s.Status.CommandResult = c.result
		var out bytes.Buffer
		cmd := shiftCommand()
		cmd.SetOut(&out)
		err := answer(cmd, s, nil, &v1alpha1.ShiftCommand{Action: v1alpha1.ActionPromote})
		if c.err != "" {
			require.EqualError(t, err, c.err)
			continue
		}
		require.NoError(t, err)
		require.Contains(t, out.String(), c.out)
	}
}

// What a command was refused for, or waits for, is said once.
func TestAnswerSaysAReasonOnce(t *testing.T) {
	t.Parallel()
	reason := "pods answered 66.9 % of 118 requests, instances 100 % of theirs at the same time: 39 server errors; on path /x (39): 500 (39) by pod web/php-a"
	for result, message := range map[v1alpha1.ShiftCommandOutcome]string{
		v1alpha1.CommandRefused: "callers' proxies find no usable endpoint of the pods, so the instances answer for them",
		v1alpha1.CommandVoid:    "the guard fails: " + reason,
		v1alpha1.CommandWaits:   "step 1 holds until 2026-11-30T06:03:17Z; the guard: " + reason,
	} {
		s := &v1alpha1.TrafficShift{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "php"}}
		s.Spec.Steps = []v1alpha1.ShiftStep{{Percent: "100"}}
		s.Status.CommandResult = &v1alpha1.ShiftCommandResult{Result: result, Message: message}
		s.Status.Analysis = &v1alpha1.ShiftAnalysis{Verdict: "Hold", Reason: reason}
		s.Status.Waiting = message
		s.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionProgressing, Status: metav1.ConditionFalse, Reason: "FailedOver", Message: message}}
		s.Status.History = []v1alpha1.ShiftHistory{{Event: v1alpha1.EventCommand, From: "1", To: "1", Actor: "ann", Reason: "promote refused: " + message}}
		var out bytes.Buffer
		cmd := shiftCommand()
		cmd.SetOut(&out)
		text := ""
		if err := answer(cmd, s, nil, &v1alpha1.ShiftCommand{Action: v1alpha1.ActionPromote}); err != nil {
			text = err.Error()
		}
		text = out.String() + text
		require.Equal(t, 1, strings.Count(text, message), text)
		if strings.Contains(message, reason) {
			require.Equal(t, 1, strings.Count(text, reason), text)
		}
		require.Contains(t, text, "ann: promote refused: see ")
	}
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
		"one": wrap(describeShift(inBrief(s), nil, time.Now(), 20), 80), "all": wrap(describeWaits(&shiftView{Shifts: []v1alpha1.TrafficShift{*inBrief(s)}}), 80),
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

// A plan of a file needs no control plane.
func TestPlanOfAFile(t *testing.T) {
	t.Parallel()
	root, err := harness.Root()
	require.NoError(t, err)
	var out bytes.Buffer
	c := shiftPlanCommand()
	c.SetOut(&out)
	c.SetArgs([]string{"-f", filepath.Join(root, "manifests/examples/shift/first.yaml"), "--peak", "120", "--daily-users", "50000", "--admin", "127.0.0.1:1"})
	require.NoError(t, c.ExecuteContext(t.Context()))
	require.Contains(t, out.String(), "25,000 (+20,000)")
	require.Contains(t, out.String(), "Earliest end")

	for _, args := range [][]string{{}, {"web/a", "-f", "x"}, {"-f", filepath.Join(root, "go.mod")}} {
		c := shiftPlanCommand()
		c.SilenceErrors, c.SilenceUsage = true, true
		c.SetArgs(args)
		require.Error(t, c.ExecuteContext(t.Context()), "%v", args)
	}
}
