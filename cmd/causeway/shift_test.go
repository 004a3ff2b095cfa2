package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
)

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
