package shift

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// documented is the TrafficShift of the API's documentation.
func documented() *v1alpha1.TrafficShiftSpec {
	hold := func(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }
	return &v1alpha1.TrafficShiftSpec{
		ServiceRef: v1alpha1.ServiceReference{Name: "php-web"},
		Cohort:     &v1alpha1.ShiftCohort{Cookie: &v1alpha1.ShiftCookie{Name: "causeway", TTL: hold(720 * time.Hour)}},
		Steps: []v1alpha1.ShiftStep{
			{Shadow: &v1alpha1.ShiftShadow{Percent: "5"}, Hold: hold(30 * time.Minute)},
			{Percent: "0.1", Hold: hold(10 * time.Minute)},
			{Percent: "1", Hold: hold(10 * time.Minute)},
			{Percent: "10", Hold: hold(30 * time.Minute)},
			{Percent: "50", Approval: v1alpha1.ApprovalRequired},
			{Percent: "100", Hold: hold(24 * time.Hour)},
		},
		Guard:    v1alpha1.ShiftGuard{MinRequests: 500, Window: metav1.Duration{Duration: 2 * time.Minute}},
		Capacity: &v1alpha1.ShiftCapacity{MinReadyPods: 2, MaxRequestsPerSecondPerPod: 50},
	}
}

// What the guard needs and the traffic does not give is said before the first step.
func TestPlanOfStatisticalMinimums(t *testing.T) {
	t.Parallel()
	spec := documented()
	spec.Steps = []v1alpha1.ShiftStep{{Percent: "20"}, {Percent: "60"}, {Percent: "100"}}
	spec.Guard.MinRequests, spec.Guard.Latency = 10, &v1alpha1.ShiftLatency{Quantile: "0.999", MaxIncrease: "20"}
	p, err := PlanOf(spec, PlanInput{Demand: Demand{Now: 10, Peak: 10, Measured: 24 * time.Hour}, Fleet: Fleet{ReadyPods: 4}, DailyUsers: 7})
	require.NoError(t, err)
	require.Nil(t, p.EarliestEnd)
	require.Contains(t, p.allWarnings(), "step 1: the source takes 10m25s for the 5,000 requests that tell its p99.9 (guard.latency.maxIncrease), "+
		"and the guard's window is 2m: the step does not end at this rate; widen the window, or state a lower quantile")
	require.Contains(t, p.allWarnings(), "step 1: of 7 users a day nobody may be among its 20 % (in 21 % of cases), and then the guard sees nothing "+
		"and the step does not end; let it have more percent, or a cohort of more values")
	for _, w := range p.allWarnings() {
		require.NotContains(t, w, "step 2: the source", "beyond a half there is no comparison")
		require.NotContains(t, w, "step 2: of 7 users")
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	p, err := PlanOf(documented(), PlanInput{
		Demand: Demand{Now: 50, Peak: 480, Measured: 6 * time.Hour}, Fleet: Fleet{ReadyPods: 4}, DailyUsers: 120_000,
		Facts: &Facts{PHP: true, SessionStore: "files"},
	})
	require.NoError(t, err)
	require.Equal(t, `Service php-web, InstancesToPods, 6 steps
Earliest end: not at the present rate of requests: see the warnings, and it waits for you once

STEP  SHARE       AT LEAST  THEN           USERS              ON PODS AT PEAK  PODS NEEDED  MIN REQUESTS TAKES
1     shadow 5 %  30m       goes on        0 (+0)             24/s             2 of 4       3m20s
2     0.1 %       10m       goes on        120 (+120)         0.48/s           2 of 4       2h46m
3     1 %         10m       goes on        1,200 (+1,080)     4.8/s            2 of 4       16m40s
4     10 %        30m       goes on        12,000 (+10,800)   48/s             2 of 4       1m40s
5     50 %        2m        waits for you  60,000 (+48,000)   240/s            5 of 4       20s
6     100 %       24h       completes      120,000 (+60,000)  480/s            10 of 4      10s

Warnings
- step 1: 5 % of 50 requests/s takes 3m20s for the 500 requests of guard.minRequests, and the guard's window is 2m: the step does not end at this rate; let it have more percent, lower minRequests to 240, or widen the window
- step 2: 0.1 % of 50 requests/s takes 2h46m for the 500 requests of guard.minRequests, and the guard's window is 2m: the step does not end at this rate; let it have more percent, lower minRequests to 4, or widen the window
- step 3: 1 % of 50 requests/s takes 16m40s for the 500 requests of guard.minRequests, and the guard's window is 2m: the step does not end at this rate; let it have more percent, lower minRequests to 48, or widen the window
- step 5: it needs 5 ready pods for 240 requests/s, and there are 4: the step waits until there are enough
- step 6: it needs 10 ready pods for 480 requests/s, and there are 4: the step waits until there are enough
- requests per second are measured for 6h only: the peak of a whole day may be higher

Preflight
- PHP keeps its sessions in files on the local disk: users lose their login once, when a step moves them; keep sessions where both sides reach them (session.save_handler = redis or memcached, or a database) before the first step
`, p.String())
}

func TestPlanWithTraffic(t *testing.T) {
	t.Parallel()
	p, err := PlanOf(documented(), PlanInput{Demand: Demand{Now: 5000, Peak: 9000, Measured: 24 * time.Hour}, Fleet: Fleet{ReadyPods: 200}})
	require.NoError(t, err)
	require.True(t, p.Completes)
	require.Equal(t, 1, p.Approvals)
	require.Equal(t, 30*time.Minute+10*time.Minute+10*time.Minute+30*time.Minute+2*time.Minute+24*time.Hour, p.EarliestEnd.Duration)
	require.Empty(t, p.Warnings)
	require.Equal(t, 180, p.Steps[5].PodsNeeded)
}

func TestPlanOfLittle(t *testing.T) {
	t.Parallel()
	spec := documented()
	spec.Steps, spec.Capacity = spec.Steps[3:4], nil
	spec.Steps[0].Hold.Duration = time.Minute
	p, err := PlanOf(spec, PlanInput{})
	require.NoError(t, err)
	require.Equal(t, `Service php-web, InstancesToPods, 1 step
Earliest end: in 2m

STEP  SHARE  AT LEAST  THEN   USERS  ON PODS AT PEAK  PODS NEEDED  MIN REQUESTS TAKES
1     10 %   2m        stays  -      -                -            -

Warnings
- step 1: its hold of 1m0s is shorter than the guard's window of 2m0s, which it lasts at least
- the last step has 10 %, so the shift stays there and never completes
- the requests per second of the Service are not measured yet, so no load is known
`, p.String())
	data, err := json.Marshal(p)
	require.NoError(t, err)
	require.JSONEq(t, `{"service":"php-web","direction":"InstancesToPods","earliestEnd":"2m0s","approvals":0,"completes":false,"readyPods":0,
		"steps":[{"number":1,"percent":"10","atLeast":"2m0s","warnings":["its hold of 1m0s is shorter than the guard's window of 2m0s, which it lasts at least"]}],
		"warnings":["the last step has 10 %, so the shift stays there and never completes","the requests per second of the Service are not measured yet, so no load is known"]}`, string(data))

	spec.Steps[0].Percent = "ten"
	_, err = PlanOf(spec, PlanInput{})
	require.ErrorContains(t, err, `spec.steps[0]: percent "ten" is not a decimal number`)
}

func TestPreflight(t *testing.T) {
	t.Parallel()
	const remedy = "keep sessions where both sides reach them (session.save_handler = redis or memcached, or a database) before the first step"
	old := []ProxyFacts{{"web-b", "1.35.2"}, {"web-a", "1.34.0"}, {"web-c", "1.36.0"}, {"web-d", "1.40.0"}, {"web-e", "2.0.0"}}
	for name, c := range map[string]struct {
		facts    Facts
		noCohort bool
		want     []string
	}{
		"nothing": {},
		"sessions in files, each request on its own": {facts: Facts{PHP: true, SessionStore: "files"}, noCohort: true, want: []string{
			"PHP keeps its sessions in files on the local disk: users lose their login on every request that changes sides, which without spec.cohort any may; " + remedy,
		}},
		"a session cookie was seen": {facts: Facts{SessionCookie: "PHPSESSID"}, want: []string{
			"where PHP keeps its sessions is not known, and files on the local disk are its default: users would lose their login once, when a step moves them; " + remedy,
		}},
		"sessions in redis": {facts: Facts{PHP: true, SessionStore: "redis"}},
		"callers without the mesh": {facts: Facts{Bypasses: []Bypass{{"target group php-web", "the instances of InstanceGroup web/php-web-ec2"}}}, want: []string{
			"target group php-web calls the instances of InstanceGroup web/php-web-ec2 without the mesh: its requests do not move, no guard sees them, and they fail once that side is scaled in; let it call the Service php-web",
		}},
		"nobody looked for callers": {facts: Facts{BypassesUnknown: true}, want: []string{
			"whether cron jobs, queue workers or a load balancer call a side of php-web without the mesh is not known: their requests do not move; look at the access logs for callers that are no proxies",
		}},
		"old Envoys": {facts: Facts{Proxies: old}, want: []string{
			"2 Envoys are older than 1.36, which cannot tell cohorts apart: users who call through them change sides at random; upgrade Envoy there before the first step: web-a (1.34.0), web-b (1.35.2)",
		}},
		"old Envoys without a cohort": {facts: Facts{Proxies: old}, noCohort: true},
		"a version that is not known": {facts: Facts{Proxies: []ProxyFacts{{"web-a", ""}}}, want: []string{
			"1 Envoy is of a version that is not known: see that it is 1.36 or newer, for cohorts: web-a",
		}},
	} {
		spec := documented()
		if c.noCohort {
			spec.Cohort = nil
		}
		require.Equal(t, c.want, Preflight(spec, &c.facts), name)
	}
}
