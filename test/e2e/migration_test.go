package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/mototest"
)

// The steps of the migration here, so short that a whole one fits into a test.
const (
	migrationWindow = 5 * time.Second
	migrationShift  = `
apiVersion: mesh.causeway.dev/v1alpha1
kind: TrafficShift
metadata: {name: php-web, namespace: web}
spec:
  serviceRef: {name: php-web}
  cohort: {cookie: {name: causeway, ttl: 720h}}
  steps:
  - {shadow: {percent: "10", methods: [GET]}, hold: 4s}
  - {percent: "1", hold: 4s}
  - {percent: "10", hold: 4s}
  - {percent: "50", approval: Required}
  - {percent: "100", hold: 4s}
  guard:
    successRate: {atLeast: "99"}
    errorBudget: {objective: "99.9", maxBurnRate: "1000"}
    minRequests: 15
    window: 5s
  capacity: {minReadyPods: 2, keepSourcePercent: 0}
`
	// migrationRate is how many requests per second each caller sends: a whole
	// migration has its hundred thousand, and few more.
	migrationRate = 250
	// pushTime is how long a change of the share may take to every proxy, on a
	// machine that does much else, and takeover how long a leader's lease may
	// live on after it was killed.
	pushTime = 3 * time.Second
	takeover = 15 * time.Second
)

// migration is a cluster whose traffic moves.
type migration struct {
	*cluster
	loads []*harness.Load

	mu      sync.Mutex // held while something is broken or mended
	release int
	faulty  harness.Fault
	kills   []time.Time // of leaders
}

func (m *migration) shift() *v1alpha1.TrafficShift {
	raw, err := m.kube.Client(m.t).Discovery().RESTClient().Get().
		AbsPath("/apis/mesh.causeway.dev/v1alpha1/namespaces/web/trafficshifts/php-web").DoRaw(m.t.Context())
	if err != nil {
		return nil
	}
	var s v1alpha1.TrafficShift
	require.NoError(m.t, json.Unmarshal(raw, &s))
	return &s
}

// wait waits until the shift is as it should be.
func (m *migration) wait(what string, limit time.Duration, is func(*v1alpha1.TrafficShift) bool) {
	m.t.Helper()
	began := time.Now()
	harness.Eventually(m.t, limit, what, func() error {
		if s := m.shift(); s == nil || !is(s) {
			if s == nil {
				return fmt.Errorf("the shift cannot be read")
			}
			text, _ := json.MarshalIndent(s.Status, "", " ")
			return fmt.Errorf("%s", text)
		}
		return nil
	})
	m.t.Logf("%s after %s", what, time.Since(began).Round(time.Millisecond))
}

// counts returns how many requests each side has answered, how many answers
// the application failed, and how many requests there were.
func (m *migration) counts() (pods, instances, application, sent int64) {
	for _, l := range m.loads {
		r := l.Report()
		platforms := r.Platforms()
		pods, instances = pods+platforms["pods"], instances+platforms["instances"]
		application += r.Statuses[http.StatusInternalServerError] + r.Statuses[http.StatusNotFound]
		sent += r.Sent
	}
	return pods, instances, application, sent
}

// chaos breaks one thing after the other until it is told to end.
func (m *migration) chaos(end <-chan struct{}) {
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1)) //nolint:gosec // which fault comes when
	faults := []func(*rand.Rand){m.terminate, m.interrupt, m.rollPod, m.killLeader, m.cutEC2}
	for i := r.IntN(len(faults)); ; i++ {
		select {
		case <-end:
			return
		case <-time.After(time.Duration(1000+r.IntN(1500)) * time.Millisecond):
		}
		m.mu.Lock()
		faults[i%len(faults)](r)
		m.mu.Unlock()
	}
}

func (m *migration) instance(r *rand.Rand) string {
	ids := sortedKeys(m.instances)
	return ids[r.IntN(len(ids))]
}

// lose ends an instance that the EC2 API terminates, and boots another one.
func (m *migration) lose(id string) {
	m.moto.Terminate(m.t, id)
	harness.TakeTime(1500 * time.Millisecond) // what its own shutdown takes
	m.instances[id].Kill()
	delete(m.instances, id)
	m.boot(m.moto.ScaleASG(m.t, "php-web", 4))
}

func (m *migration) terminate(r *rand.Rand) {
	id := m.instance(r)
	m.t.Logf("%s is terminated", id)
	m.lose(id)
}

func (m *migration) interrupt(r *rand.Rand) {
	id := m.instance(r)
	m.t.Logf("%s gets a Spot interruption notice", id)
	m.moto.SendSQS(m.t, m.queue, m.moto.SpotInterruption(id))
	harness.TakeTime(2 * time.Second)
	m.lose(id)
}

// rollPod replaces a pod as a Deployment does.
func (m *migration) rollPod(r *rand.Rand) {
	names := sortedKeys(m.pods)
	m.replace(names[r.IntN(len(names))])
}

func (m *migration) replace(old string) {
	m.release++
	name := fmt.Sprintf("php-web-%d", 1+m.release)
	m.t.Logf("pod %s is replaced by %s", old, name)
	pod := workloadOf(m.t, m.kind, "pods", name, m.moto.Zones()[m.release%2], harness.Addresses(m.t, 1)[0].String(), instancePort)
	pod.SetFault(m.t, m.faulty)
	ending := m.pods[old]
	delete(m.pods, old)
	m.pods[name] = pod
	m.applyPods()
	harness.TakeTime(time.Second) // what a preStop hook is for
	ending.Stop()
}

// rollOut replaces all pods by a release that has a fault, or none.
func (m *migration) rollOut(f harness.Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faulty = f
	for _, name := range sortedKeys(m.pods) {
		m.replace(name)
	}
}

// waitPods waits until every caller has the pods that there are, and no others.
func (m *migration) waitPods() {
	m.t.Helper()
	harness.Eventually(m.t, time.Minute, "all callers have the pods of the release", func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		inSync := 0
		for _, r := range m.replicas {
			got, err := r.endpoints("web/php-web")
			if err != nil {
				return err
			}
			pods := make(map[string]bool)
			for id, e := range got {
				if e.Platform == "pods" {
					pods[strings.TrimPrefix(id, "web/")] = e.Health == "HEALTHY"
				}
			}
			for _, name := range sortedKeys(m.pods) {
				if !pods[name] {
					return fmt.Errorf("%s: pod %s is not there or not healthy: %v", r.name, name, pods)
				}
			}
			if len(pods) != len(m.pods) {
				return fmt.Errorf("%s: pods %v", r.name, pods)
			}
			proxies, err := r.proxies()
			if err != nil {
				return err
			}
			for i := range proxies {
				if !proxies[i].InSync {
					return fmt.Errorf("%s: %s has not acknowledged all", r.name, proxies[i].ID)
				}
				inSync++
			}
		}
		if inSync != len(m.loads) {
			return fmt.Errorf("%d of %d callers are connected", inSync, len(m.loads))
		}
		return nil
	})
}

func (m *migration) killLeader(*rand.Rand) {
	// A lease lives on for ten seconds, and the next leader first looks for a window.
	if n := len(m.kills); n > 0 && time.Since(m.kills[n-1]) < 2*takeover {
		return
	}
	leader, _ := m.leader()
	m.t.Logf("%s, which leads, is killed", leader.name)
	leader.Kill()
	m.kills = append(m.kills, time.Now())
	harness.TakeTime(500 * time.Millisecond)
	leader.start()
	leader.waitReady()
}

func (m *migration) cutEC2(*rand.Rand) {
	m.t.Log("the EC2 API fails for three seconds")
	m.moto.Proxy().Fail(1_000_000, mototest.EC2Error(http.StatusServiceUnavailable, "RequestLimitExceeded", "Request limit exceeded."), nil)
	harness.TakeTime(3 * time.Second)
	m.moto.Proxy().Restore(m.t)
}

// watch compares what callers get with what the status says, until it is told to end.
func (m *migration) watch(end <-chan struct{}) {
	type sample struct {
		at              time.Time
		pods, instances int64
		percent         float64
	}
	var samples []sample
	worst := 0.
	for {
		select {
		case <-end:
			m.t.Logf("the observed share was never further from the status than %.2f points", worst)
			return
		case <-time.After(250 * time.Millisecond):
		}
		s := m.shift()
		if s == nil {
			samples = nil
			continue
		}
		percent, _ := strconv.ParseFloat(string(s.Status.Percent), 64) // "" is 0
		pods, instances, _, _ := m.counts()
		samples = append(samples, sample{time.Now(), pods, instances, percent})
		// A stretch in which the status said the same, and did so for a push before.
		first := len(samples) - 1
		for first > 0 && samples[first-1].percent == percent && samples[len(samples)-1].at.Sub(samples[first-1].at) < pushTime+3*time.Second {
			first--
		}
		for first < len(samples) && samples[first].at.Sub(samples[0].at) < pushTime {
			first++
		}
		steady := samples[0].at
		for i := range samples {
			if samples[i].percent != percent {
				steady = samples[min(i+1, len(samples)-1)].at
			}
		}
		for first < len(samples) && samples[first].at.Sub(steady) < pushTime {
			first++
		}
		if first >= len(samples)-1 {
			continue
		}
		a, b := samples[first], samples[len(samples)-1]
		total := float64(b.pods + b.instances - a.pods - a.instances)
		if total < 1000 {
			continue
		}
		got := 100 * float64(b.pods-a.pods) / total
		worst = max(worst, abs(got-percent))
		// The users here are 2,000, so their cohorts are not exactly the share, and
		// a stretch may begin while the busy machine still pushes.
		if abs(got-percent) > 12 {
			m.t.Errorf("the status says %s %%, callers got %.2f %% of %.0f requests from pods", s.Status.Percent, got, total)
		}
		if len(samples) > 200 {
			samples = samples[100:]
		}
	}
}

func abs(f float64) float64 { return max(f, -f) }

// cli runs `causeway shift` as an SRE with a kubeconfig does.
func (m *migration) cli(args ...string) string {
	m.t.Helper()
	path, err := binary()
	require.NoError(m.t, err)
	cmd := exec.CommandContext(m.t.Context(), path, append([]string{"shift"}, append(args, "--kubeconfig", m.kube.Kubeconfig(m.t))...)...)
	out, err := cmd.CombinedOutput()
	require.NoError(m.t, err, "%s", out)
	return string(out)
}

// badRelease replaces the pods by a bad release and waits until the guard has
// taken it back, with a reason that says what is wrong with it; then it replaces
// them by a good one, and goes on.
func (m *migration) badRelease(what string, fault harness.Fault, says ...string) {
	t, limit := m.t, 5*time.Minute
	t.Helper()
	_, _, none, _ := m.counts()
	var rolling sync.WaitGroup
	rolling.Go(func() { m.rollOut(fault) })
	var bad time.Time
	harness.Eventually(t, limit, "the release "+what+" fails somebody", func() error {
		if _, _, failed, _ := m.counts(); failed == none {
			return fmt.Errorf("nobody yet")
		}
		bad = time.Now()
		return nil
	})
	var reason string
	m.wait("the guard has rolled back", limit, func(s *v1alpha1.TrafficShift) bool {
		if s.Status.Percent != "0" || !s.Status.RolledBack {
			return false
		}
		reason = s.Status.History[0].Reason
		return true
	})
	took := time.Since(bad)
	rolling.Wait()
	allowed := migrationWindow + pushTime
	m.mu.Lock()
	for _, kill := range m.kills {
		if kill.After(bad.Add(-takeover)) {
			allowed += takeover
		}
	}
	m.mu.Unlock()
	_, _, failed, _ := m.counts()
	t.Logf("the release %s was taken back after %s (allowed: %s); users saw %d failed answers of it: %s",
		what, took.Round(time.Millisecond), allowed, failed-none, reason)
	require.Less(t, took, allowed)
	for _, part := range says {
		require.Contains(t, reason, part)
	}
	m.rollOut(harness.Fault{})
	m.waitPods()
	m.cli("promote", "web/php-web", "--reason", "the release is fixed")
}

// A whole migration of PHP under load, with two bad releases in its middle, while
// instances, pods, leaders and the EC2 API come and go: no request fails by the
// mesh, callers get the share that the status says, and a bad release is taken
// back within a window and a push, also where its failures are few or are none.
func TestMigration(t *testing.T) {
	beside(t, 2, 4*time.Minute) // alone: it holds the guard to seconds
	kind := harness.FPM
	for _, tool := range []string{"php-fpm", "nginx"} {
		if _, err := harness.FindTool(tool); err != nil {
			t.Logf("built-in workloads take PHP's place: %v", err)
			kind = harness.GoProcess
			break
		}
	}
	m := &migration{cluster: startCluster(t, kind), release: 1}
	servers := []string{m.replicas[0].xds, m.replicas[1].xds}
	for i, zone := range []string{m.moto.Zones()[0], m.moto.Zones()[1], m.moto.Zones()[0]} {
		c := startCaller(t, fmt.Sprintf("i-caller-%d", i), "web", zone, servers, "")
		m.loads = append(m.loads, harness.StartLoad(t, harness.LoadOptions{
			URL: "http://" + c.http + "/", Host: "php-web", Rate: migrationRate,
			// The application's own failures are counted apart: a bad release is not the mesh's.
			Accept: func(status int) bool {
				return status < 400 || status == http.StatusNotFound || status == http.StatusInternalServerError
			},
			Next: func(n int64) harness.LoadRequest {
				r := harness.LoadRequest{Header: http.Header{"Cookie": {fmt.Sprintf("causeway=user-%d", n%2000)}}}
				if n%7 == 0 { // 7 and 2,000 have no common divisor: every user comes here
					r.Path = "/checkout"
				}
				return r
			},
		}))
	}
	limit := 5 * time.Minute // leaders are killed all the while, and each begins a window of its own
	end := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() { m.chaos(end) })
	others.Go(func() { m.watch(end) })
	stop := sync.OnceFunc(func() { close(end); others.Wait() })
	defer stop()

	m.kube.ApplyYAML(t, migrationShift)
	m.wait("shadowing", limit, func(s *v1alpha1.TrafficShift) bool { return s.Status.Phase == v1alpha1.ShiftShadowing })
	m.wait("10 %", limit, func(s *v1alpha1.TrafficShift) bool { return s.Status.Percent == "10" })

	m.badRelease("whose /checkout fails", harness.Fault{Percent: 100, Code: http.StatusInternalServerError, Path: "/checkout"}, "/checkout", "500 (")
	m.wait("10 % again", limit, func(s *v1alpha1.TrafficShift) bool { return s.Status.Percent == "10" })
	m.badRelease("that answers 404 to everything", harness.Fault{Percent: 100, Code: http.StatusNotFound}, "/checkout", "404")
	_, _, before, _ := m.counts()
	m.wait("50 %, waiting for approval", limit, func(s *v1alpha1.TrafficShift) bool {
		return s.Status.Percent == "50" && s.Status.Phase == v1alpha1.ShiftAwaitingApproval
	})
	m.cli("promote", "web/php-web", "--reason", "half of it is good")
	m.wait("completed", limit, func(s *v1alpha1.TrafficShift) bool { return s.Status.Phase == v1alpha1.ShiftCompleted })
	_, _, after, _ := m.counts()
	require.Equal(t, before, after, "the fixed release fails nobody")

	// Nothing moves when the shift is deleted: the pods are the home.
	require.NoError(t, m.kube.Client(t).Discovery().RESTClient().Delete().
		AbsPath("/apis/mesh.causeway.dev/v1alpha1/namespaces/web/trafficshifts/php-web").Do(t.Context()).Error())
	harness.Eventually(t, 30*time.Second, "the shift is gone", func() error {
		if s := m.shift(); s != nil {
			return fmt.Errorf("finalizers %v, status %+v", s.Finalizers, s.Status)
		}
		return nil
	})
	pods, instances, _, sent := m.counts()
	for most := time.Now().Add(soak(t, 5*time.Second)); time.Now().Before(most) || sent < 100_000; {
		harness.TakeTime(time.Second)
		_, _, _, sent = m.counts()
	}
	stop()
	podsAfter, instancesAfter, _, _ := m.counts()
	require.Greater(t, podsAfter, pods)
	require.InDelta(t, instances, instancesAfter, 2000, "the pods are the home")
	var total int64
	for _, l := range m.loads {
		r := l.Stop()
		total += r.Sent
		t.Logf("%s", r)
		r.RequireNoFailures(t)
	}
	require.GreaterOrEqual(t, total, int64(100_000))
}
