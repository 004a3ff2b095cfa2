package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/test/cluster"
	"github.com/causeway-mesh/causeway/test/harness"
)

// What membership costs: latency at 1,000 requests per second with and without the mesh, in turns; what agent and
// Envoy take, idle and loaded; how much later a pod is ready. It prints figures and compares none: docs/performance.md has
// those of a quiet machine.
func TestOverhead(t *testing.T) {
	c := attach(t)
	if os.Getenv("CAUSEWAY_E2E_OVERHEAD") == "" {
		t.Skip("it measures for four minutes: CAUSEWAY_E2E_OVERHEAD=1 make e2e-cluster TESTFLAGS='-run TestOverhead -v'")
	}
	dir := c.userDirectory(t)
	c.removeRest(t, dir)
	c.addInjection(t, dir)
	c.certificates(t, dir)
	c.install(t, dir)
	t.Cleanup(func() { c.removeRest(t, dir) })
	c.apply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: web}\n")
	c.identity(t, dir)
	for _, name := range []string{"plain", "member"} {
		c.apply(t, measured(name, name == "member", "[serve]"))
		require.NoError(t, c.WaitPod(t.Context(), "web", name, time.Minute))
	}
	for round := range 3 {
		for _, v := range []struct {
			name, callee string
			member       bool
		}{
			{"without the mesh", "plain", false},
			{"the caller is a member", "plain", true},
			{"caller and callee are", "member", true},
		} {
			name := fmt.Sprintf("load-%d-%s-%t", round, v.callee, v.member)
			began := time.Now()
			c.apply(t, measured(name, v.member, fmt.Sprintf("[load, '--url=http://%s.web.svc.cluster.local:80/%s', --rate=1000]", v.callee, name)))
			require.NoError(t, c.WaitPod(t.Context(), "web", name, time.Minute))
			ready := time.Since(began)
			pod := c.pod(t, "app="+name)
			var r harness.Report
			harness.Eventually(t, time.Minute, "ten thousand requests", func() error {
				if r = c.load(t, pod.Status.PodIP); r.Sent < 10_000 {
					return fmt.Errorf("%d are sent", r.Sent)
				}
				return nil
			})
			before, at := c.processes(t, name), time.Now()
			harness.TakeTime(10 * time.Second)
			r = c.load(t, pod.Status.PodIP)
			after, took := c.processes(t, name), time.Since(at)
			t.Logf("%-24s p50 %s, p90 %s, p99 %s, %d requests, %d failed; ready after %s", v.name, r.P50, r.P90, r.P99, r.Sent, r.Failed, ready.Round(10*time.Millisecond))
			require.Zero(t, r.Failed, "%+v", r.Failures)
			logProcesses(t, "loaded", before, after, took)
			require.NoError(t, c.client.CoreV1().Pods("web").Delete(t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(1))}))
		}
	}
	c.apply(t, measured("idle", true, "[pause]"))
	require.NoError(t, c.WaitPod(t.Context(), "web", "idle", time.Minute))
	harness.TakeTime(5 * time.Second)
	before, at := c.processes(t, "idle"), time.Now()
	harness.TakeTime(20 * time.Second)
	logProcesses(t, "idle", before, c.processes(t, "idle"), time.Since(at))
}

// usage is what a process has taken.
type usage struct {
	cpu       time.Duration
	rss, anon int64 // KiB
}

func logProcesses(t *testing.T, state string, before, after map[string]usage, took time.Duration) {
	t.Helper()
	for _, name := range []string{"causeway", "envoy"} {
		if u, ok := after[name]; ok {
			t.Logf("  %s, %s: %.1f MB, of which %.1f MB are its own; %.1f %% of a core", name, state,
				float64(u.rss)/1000, float64(u.anon)/1000, 100*float64(u.cpu-before[name].cpu)/float64(took))
		}
	}
}

// processes are the agent and the Envoy of a pod, known by its host name.
func (c *onCluster) processes(t *testing.T, pod string) map[string]usage {
	t.Helper()
	out := make(map[string]usage)
	all, err := filepath.Glob("/proc/[0-9]*/environ")
	require.NoError(t, err)
	for _, file := range all {
		env, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(env), "HOSTNAME="+pod+"\x00") {
			continue
		}
		dir := filepath.Dir(file)
		stat, err1 := os.ReadFile(filepath.Join(dir, "stat"))
		status, err2 := os.ReadFile(filepath.Join(dir, "status"))
		if err1 != nil || err2 != nil {
			continue
		}
		name, rest, _ := strings.Cut(string(stat[strings.IndexByte(string(stat), '(')+1:]), ") ")
		f := strings.Fields(rest)
		var u usage
		for _, i := range []int{11, 12} { // user and system time, in hundredths of a second
			ticks, _ := strconv.Atoi(f[i])
			u.cpu += time.Duration(ticks) * 10 * time.Millisecond
		}
		for line := range strings.SplitSeq(string(status), "\n") {
			if f := strings.Fields(line); len(f) == 3 && f[2] == "kB" {
				n, _ := strconv.ParseInt(f[1], 10, 64)
				switch f[0] {
				case "VmRSS:":
					u.rss = n
				case "RssAnon:":
					u.anon = n
				}
			}
		}
		out[name] = u
	}
	return out
}

// measured is a pod, and a Service before it.
func measured(name string, member bool, args string) string {
	probe := ""
	if args == "[serve]" {
		probe = "    readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}\n    ports: [{name: http, containerPort: 8080}]\n"
	}
	return fmt.Sprintf(measuredPod, name, name, name, name, member, args) + probe
}

const measuredPod = `
apiVersion: v1
kind: Service
metadata: {name: %s, namespace: web}
spec: {selector: {app: %s}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: web, labels: {app: %s, mesh.causeway.dev/inject: "%t"}}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 5
  volumes: [{name: tmp, emptyDir: {}}]
  containers:
  - name: program
    image: ` + cluster.WorkloadImage + `
    imagePullPolicy: Never
    args: %s
    volumeMounts: [{name: tmp, mountPath: /tmp}]
`
