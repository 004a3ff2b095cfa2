package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/shift"
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

// A mesh that is well is a few lines and exit status 0.
func TestStatusOfAHealthyMesh(t *testing.T) {
	out, err := execute(t, "status", "--admin", liveDir(t, examples+"first-steps"))
	require.NoError(t, err, out)
	require.Contains(t, out, "serving")
	require.Contains(t, out, "all well")
	require.Contains(t, out, "proxies    0, 0 in sync")
	require.Contains(t, out, "frozen     nothing")
	fits(t, out)
}

// A mistake in an object is on the screen, with its remedy, and in the exit status.
func TestStatusNamesTrouble(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "web.yaml"), []byte(`apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop, namespace: web}
spec:
  parentRefs: [{group: "", kind: Service, name: nothing}]
  rules: [{backendRefs: [{name: nothing, port: 80}]}]
`), 0o600))
	out, err := execute(t, "status", "--admin", liveDir(t, dir))
	require.ErrorIs(t, err, errFindings)
	require.Equal(t, exitFindings, exitCode(err))
	require.Contains(t, out, "HTTPRoute web/shop")
	require.Contains(t, out, "nothing")
	_, err = execute(t, "status", "--admin", "127.0.0.1:1")
	require.Equal(t, exitError, exitCode(err))
}

// However much is wrong, it fits a screen and says where the rest is.
func TestStatusFitsAScreen(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 30, 3, 0, 0, 0, time.UTC)
	v := &statusView{
		Version: "v0.1.0", Objects: 412, Leading: true, Serving: true,
		Proxies: proxySummary{Connected: 900, InSync: 880}, Shifts: &shiftView{},
	}
	for i := range 20 {
		v.Sources = append(v.Sources, sourceSummary{Name: fmt.Sprintf("ec2/12345678901%d/ap-northeast-1", i), State: "failing", Since: start, Error: "RequestLimitExceeded: Request limit exceeded"})
		v.NotRight = append(v.NotRight, objectTrouble{Object: fmt.Sprintf("HTTPRoute web/shop-%d", i), Severity: "error", Text: "spec.rules[0]: there is no Service"})
		v.Proxies.Behind = append(v.Proxies.Behind, proxyBehind{ID: fmt.Sprintf("sidecar~web~cron~i-%d", i), State: "rejected", Error: "LDS http: no such filter"})
		s := v1alpha1.TrafficShift{}
		s.Namespace, s.Name, s.Status.Waiting = "web", fmt.Sprintf("php-%d", i), "for 12m of the step's hold"
		s.Spec.Steps = make([]v1alpha1.ShiftStep, 5)
		v.Shifts.Shifts = append(v.Shifts.Shifts, s)
	}
	text := fitStatus(v, start.Add(time.Hour), 80, 24, false)
	fits(t, text)
	for _, part := range []string{
		"sources    20, 20 not well", "failing for 1h0m0s: RequestLimitExceeded", "... and 18 more: causeway status --all",
		"objects    412, 20 with trouble", "proxies    900, 880 in sync", "... and 18 more: causeway proxies", "... and 18 more: causeway shift status",
	} {
		require.Contains(t, text, part)
	}
	require.True(t, v.wrong())
	require.Equal(t, 20, strings.Count(fitStatus(v, start, 0, 0, true), "RequestLimitExceeded"))
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
	text := firstRows(wrap(describeShift(s, &shiftView{}, time.Now(), 8), 80), 23, "causeway shift status web/php-web")
	fits(t, text)
	require.True(t, strings.HasPrefix(text, "web/php-web: Service php-web, from instances to pods: Shifting at 10 %"), text)
	require.Contains(t, text, "pods       ███")
	require.Contains(t, text, "instances  ███")
	require.Contains(t, text, "more lines: causeway shift status web/php-web")
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
	v := &statusView{Objects: 9, Serving: true, Leading: true, Shifts: &shiftView{}, NotRight: troubles(nil, view, []snapshot.Rejection{
		of("service/web/bad", "HTTPRoute", "bad", true), of("service/web/gone", "HTTPRoute", "gone", true), of("listener/http", "", "http", false),
	})}
	for _, o := range v.NotRight {
		if o.Severity == refused {
			v.Refused++
		}
	}
	v.Proxies = proxySummary{Connected: 1, Behind: []proxyBehind{{ID: "i-1", State: "rejected", Error: "VHDS bad: " + story}}}
	text := fitStatus(v, time.Now(), 80, 24, false)
	fits(t, text)
	require.Contains(t, text, "objects    9, 4 with trouble, 3 of them refused by proxies")
	for _, part := range []string{"Refused: HTTPRoute web/bad", "Refused: HTTPRoute web/gone", "Refused: listener/http", "NotProgrammed: Mesh default"} {
		require.Contains(t, fitStatus(v, time.Now(), 0, 0, false), part)
	}
	require.NotContains(t, text, "name: value")
	require.Contains(t, fitStatus(v, time.Now(), 0, 0, false), "(field: codec) ...; the last good configuration stays in force for proxies like it\n")
	require.Equal(t, 4*300, strings.Count(fitStatus(v, time.Now(), 0, 0, true), "name: value"))
	require.True(t, v.wrong())
}

// A shift whose guard fails and that goes on neither way needs a look, though nothing was taken back.
func TestStatusOfAFailedGuard(t *testing.T) {
	t.Parallel()
	v := &statusView{Serving: true, Leading: true, Shifts: &shiftView{Shifts: make([]v1alpha1.TrafficShift, 1)}}
	status := &v.Shifts.Shifts[0].Status
	status.Phase = v1alpha1.ShiftShifting
	status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionProgressing, Status: metav1.ConditionFalse, Reason: "Holding"}}
	require.False(t, v.wrong())
	status.Conditions[0].Reason = shift.ReasonGuardFailed
	require.True(t, v.wrong())
}

func TestBrief(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("word ", 60)
	for _, c := range []struct{ text, want string }{
		{"short", "short"},
		{"one\ntwo", "one ..."},
		{"one\ntwo; kept", "one ...; kept"},
		{long, strings.TrimSpace(long[:briefText]) + " ..."},
		{long + "; kept", strings.TrimSpace(long[:briefText]) + " ...; kept"},
		{long + "; " + long, strings.TrimSpace(long[:briefText]) + " ..."},
		{strings.Repeat("é", 200), strings.Repeat("é", briefText/2) + " ..."},
	} {
		require.Equal(t, c.want, brief(c.text))
	}
}

// Without Kubernetes each control plane says whether it steps TrafficShifts itself: two that do cannot know of each other.
func TestStatusSaysWhoSteps(t *testing.T) {
	for want, v := range map[string]*statusView{
		"shifts     1, 1 under way, stepped here: any other control plane needs": {StepsHere: true},
		"shifts     1, 1 under way, followed from /mnt/first\n":                  {ShiftsFrom: "/mnt/first"},
		"shifts     1, 1 under way\n":                                            {Leading: true},
	} {
		v.Shifts = &shiftView{Shifts: make([]v1alpha1.TrafficShift, 1)}
		require.Contains(t, describeStatus(v, time.Now(), 9, 80, false), want)
		v.Shifts = &shiftView{}
		require.Contains(t, describeStatus(v, time.Now(), 9, 80, false), "shifts     0, 0 under way\n")
	}
}
