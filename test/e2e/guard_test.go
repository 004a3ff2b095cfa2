package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/mototest"
)

// guarded is a Service on both platforms, half of it shifted to pods, with one
// Envoy that calls it.
type guarded struct {
	*testing.T
	plane           *replica
	load            *harness.Load
	pods, instances []*harness.Workload
}

func startGuarded(t *testing.T, guard string) *guarded {
	t.Helper()
	return startGuardedBy(t, `[{percent: "50", hold: 3s}, {percent: "100", hold: 2s}]`, guard, nil)
}

// startGuardedBy is startGuarded with steps of its own, callers who say what they ask for, and more flags of causeway serve.
func startGuardedBy(t *testing.T, steps, guard string, next func(n int64) harness.LoadRequest, args ...string) *guarded {
	t.Helper()
	g := &guarded{T: t}
	moto := mototest.Start(t, mototest.Options{})
	for _, i := range moto.CreateASG(t, mototest.ASGOptions{Name: "php", Size: 2, Tags: map[string]string{"Role": "php"}}) {
		g.instances = append(g.instances, workload(t, "instances", i.ID, i.Zone, i.Address, instancePort))
	}
	endpoints := ""
	for i, a := range harness.Addresses(t, 2) {
		name := fmt.Sprintf("php-%d", i)
		g.pods = append(g.pods, workload(t, "pods", name, moto.Zones()[i], a.String(), instancePort))
		endpoints += fmt.Sprintf("- {addresses: [%s], zone: %s, targetRef: {kind: Pod, namespace: web, name: %s}}\n", a, moto.Zones()[i], name)
	}
	dir := filepath.Join(t.TempDir(), "mesh")
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "mesh.yaml"), []byte(fmt.Sprintf(`apiVersion: v1
kind: Service
metadata: {name: php, namespace: web, annotations: {mesh.causeway.dev/home: Instances}}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: mesh.causeway.dev/v1alpha1
kind: InstanceGroup
metadata: {name: php-ec2, namespace: web}
spec:
  serviceRef: {name: php}
  region: %s
  selector: {autoScalingGroups: [php]}
  ports: [{name: http, port: %d}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: php-pods, namespace: web, labels: {kubernetes.io/service-name: php}}
addressType: IPv4
ports: [{name: http, port: %d}]
endpoints:
%s---
apiVersion: mesh.causeway.dev/v1alpha1
kind: TrafficShift
metadata: {name: php, namespace: web}
spec:
  serviceRef: {name: php}
  steps: %s
  guard: {%s, minRequests: 50, window: 4s}
  capacity: {keepSourcePercent: 0}
`, moto.Region(), instancePort, instancePort, endpoints, steps, guard)), 0o600))
	g.plane = startReplica(t, "causeway", moto.Env(), append([]string{"--config", dir, "--state-dir", t.TempDir(), "--ec2-interval", "1s"}, args...)...)
	g.plane.waitReady()
	c := startCaller(t, "i-caller", "web", moto.Zones()[0], []string{g.plane.xds}, "")
	g.load = harness.StartLoad(t, harness.LoadOptions{
		URL: "http://" + c.http + "/", Host: "php.web", Rate: 150, Next: next,
		Accept: func(status int) bool {
			return status < 400 || status == http.StatusNotFound || status == http.StatusInternalServerError
		},
	})
	return g
}

func (g *guarded) status() *v1alpha1.TrafficShiftStatus {
	body, err := g.plane.get(g.plane.admin, "/api/v1/shifts?shift=web/php")
	require.NoError(g, err)
	var view struct{ Shifts []v1alpha1.TrafficShift }
	require.NoError(g, json.Unmarshal(body, &view))
	require.Len(g, view.Shifts, 1)
	return &view.Shifts[0].Status
}

func (g *guarded) wait(what string, is func(*v1alpha1.TrafficShiftStatus) bool) *v1alpha1.TrafficShiftStatus {
	g.Helper()
	began := time.Now()
	var s *v1alpha1.TrafficShiftStatus
	harness.Eventually(g, time.Minute, what, func() error {
		if s = g.status(); !is(s) {
			text, _ := json.MarshalIndent(s, "", " ")
			return fmt.Errorf("%s", text)
		}
		return nil
	})
	g.Logf("%s after %s", what, time.Since(began).Round(time.Millisecond))
	return s
}

// laterAnalysis waits for what the guard saw so much later than in a status, and has every status until then checked.
func (g *guarded) laterAnalysis(before *v1alpha1.TrafficShiftStatus, later time.Duration, check func(*v1alpha1.TrafficShiftStatus)) *v1alpha1.TrafficShiftStatus {
	g.Helper()
	return g.wait(fmt.Sprintf("a look %s later", later), func(now *v1alpha1.TrafficShiftStatus) bool {
		check(now)
		return now.Analysis.Time.Sub(before.Analysis.Time.Time) >= later
	})
}

// half waits until half of the traffic is on pods, and breaks them.
func (g *guarded) half(fault harness.Fault, broken ...*harness.Workload) {
	g.Helper()
	g.wait("50 %", func(s *v1alpha1.TrafficShiftStatus) bool { return s.Percent == "50" })
	for _, w := range broken {
		w.SetFault(g, fault)
	}
}

func rolledBack(s *v1alpha1.TrafficShiftStatus) bool { return s.RolledBack && s.Percent == "0" }

// Some of the guard's scenarios, with what real proxies report. The others are
// in policy/shift, on streams of observations.
func TestGuard(t *testing.T) {
	t.Parallel()
	t.Run("good", func(t *testing.T) {
		beside(t, 0.25, 40*time.Second)
		g := startGuarded(t, `successRate: {atLeast: "99"}, latency: {quantile: "0.95", atMost: 2s}`)
		g.wait("completed", func(s *v1alpha1.TrafficShiftStatus) bool { return s.Phase == v1alpha1.ShiftCompleted })
		g.load.Stop().RequireNoFailures(t)
	})
	t.Run("slow for one in ten", func(t *testing.T) {
		beside(t, 0.25, 40*time.Second)
		g := startGuarded(t, `latency: {quantile: "0.95", atMost: 200ms}`)
		g.half(harness.Fault{Percent: 20, MS: 600}, g.pods...)
		s := g.wait("rolled back", rolledBack)
		require.Contains(t, s.History[0].Reason, "200ms", "%+v", s.History[0])
		t.Log(s.History[0].Reason)
		g.load.Stop().RequireNoFailures(t)
	})
	t.Run("bad on both sides", func(t *testing.T) {
		beside(t, 0.25, 40*time.Second)
		g := startGuarded(t, `errorBudget: {objective: "99", maxBurnRate: "1000"}`)
		// The instances first: pods that are bad alone, if only for a moment, are rolled back.
		g.half(harness.Fault{Percent: 40, Code: http.StatusInternalServerError}, append(g.instances, g.pods...)...)
		s := g.wait("held", func(s *v1alpha1.TrafficShiftStatus) bool {
			return s.Analysis != nil && s.Analysis.Verdict == "Hold" && s.Analysis.Pods != nil && s.Analysis.Pods.Requests > 100 &&
				s.Analysis.Pods.SuccessRate < "9"
		})
		t.Log(s.Analysis.Reason)
		s = g.laterAnalysis(s, 5*time.Second, func(now *v1alpha1.TrafficShiftStatus) {
			require.Equal(t, v1alpha1.Percent("50"), now.Percent, "going back would help nobody: %+v", now.History)
		})
		require.Equal(t, "Hold", s.Analysis.Verdict, s.Analysis.Reason)
		for _, w := range append(g.pods, g.instances...) {
			w.SetFault(t, harness.Fault{})
		}
		g.wait("completed once both are well", func(s *v1alpha1.TrafficShiftStatus) bool { return s.Phase == v1alpha1.ShiftCompleted })
	})
	// What is no failure, and what is a small part of the traffic: the reason names the
	// path, the status, the pods and the caller.
	shop := func(n int64) harness.LoadRequest {
		if n%5 == 0 {
			return harness.LoadRequest{Path: fmt.Sprintf("/checkout?cart=%d", n)}
		}
		return harness.LoadRequest{Path: "/"}
	}
	for name, tc := range map[string]struct {
		fault harness.Fault
		says  []string
	}{
		"a path fails on pods alone": {harness.Fault{Percent: 100, Code: http.StatusInternalServerError, Path: "/checkout"}, []string{"/checkout", "500 ("}},
		"a path is gone on pods":     {harness.Fault{Percent: 100, Code: http.StatusNotFound, Path: "/checkout"}, []string{"/checkout", "404"}},
		"pods answer 404":            {harness.Fault{Percent: 100, Code: http.StatusNotFound}, []string{"404 is", "/checkout"}},
	} {
		t.Run(name, func(t *testing.T) {
			beside(t, 0.25, 40*time.Second)
			g := startGuardedBy(t, `[{percent: "50", hold: 3s}, {percent: "100", hold: 2s}]`, `successRate: {atLeast: "50"}`, shop)
			g.half(tc.fault, g.pods...)
			s := g.wait("rolled back", rolledBack)
			reason := s.History[0].Reason
			t.Log(reason)
			for _, part := range append(tc.says, "i-caller") {
				require.Contains(t, reason, part)
			}
			// php-0 is in the zone of the caller; until it is ready the other one may answer.
			require.Regexp(t, `by pods? web/php-0\b`, reason)
			g.load.Stop().RequireNoFailures(t)
		})
	}
	t.Run("instances die without a word at 1 %", func(t *testing.T) {
		beside(t, 0.25, 40*time.Second)
		g := startGuardedBy(t, `[{percent: "1", hold: 1h}, {percent: "100", hold: 2s}]`, `successRate: {atLeast: "99"}`, nil)
		// At 1 % there are never enough requests: that this alone is missing says that a whole window was seen.
		g.wait("a window at 1 % in which instances answer", func(s *v1alpha1.TrafficShiftStatus) bool {
			return s.Percent == "1" && s.Analysis != nil && s.Analysis.Instances.Requests > 100 && strings.Contains(s.Analysis.Reason, "requests in 4s that a verdict needs")
		})
		for _, w := range g.instances {
			w.Stop()
		}
		s := g.wait("held, with the truth", func(s *v1alpha1.TrafficShiftStatus) bool {
			return s.Analysis != nil && s.Analysis.Pods != nil && s.Analysis.Pods.StoodIn > 100 && s.Analysis.LeftOut != ""
		})
		t.Log(s.Waiting, s.Analysis.Reason, s.Analysis.LeftOut)
		require.Contains(t, s.Waiting, "the pods answer for them")
		require.Contains(t, s.Analysis.LeftOut, "left out: pods stood in for instances")
		// Several windows and load reports.
		s = g.laterAnalysis(s, 12*time.Second, func(now *v1alpha1.TrafficShiftStatus) {
			require.Equal(t, v1alpha1.Percent("1"), now.Percent, "pods are well: %+v", now.History)
			require.False(t, now.RolledBack)
			require.NotEqual(t, "Fail", now.Analysis.Verdict, now.Analysis.Reason)
		})
		require.Zero(t, s.Analysis.Instances.Requests, "none of them runs")
		g.load.Stop().RequireNoFailures(t)
	})
	t.Run("pods die without a word", func(t *testing.T) {
		beside(t, 0.25, 40*time.Second)
		g := startGuarded(t, `successRate: {atLeast: "99"}`)
		g.half(harness.Fault{})
		for _, w := range g.pods {
			w.Stop()
		}
		s := g.wait("rolled back", rolledBack)
		t.Log(s.History[0].Reason)
		g.load.Stop().RequireNoFailures(t)
	})
}
