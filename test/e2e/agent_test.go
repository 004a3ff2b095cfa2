package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/agent"
)

// host is an EC2 host's agent with its Envoy.
type host struct {
	*harness.Process
	t                *testing.T
	args, env        []string
	http, listen, at string
	dir              string // its state directory
}

// startHost starts `causeway agent run` on addresses that stay its own over restarts.
func startHost(t *testing.T, server string, flags ...string) *host {
	t.Helper()
	return startHostWith(t, nil, server, flags...)
}

// startHostWith is startHost with more in its environment.
func startHostWith(t *testing.T, env []string, server string, flags ...string) *host {
	t.Helper()
	h := &host{t: t, env: env, dir: filepath.Join(t.TempDir(), "agent"), http: harness.FreeAddress(t), listen: harness.FreeAddress(t), at: harness.FreeAddress(t)}
	h.args = append([]string{
		"agent", "run", "--namespace", "web", "--workload", "cron", "--id", "i-1", "--server", server, "--wait", "1s", "--drain-timeout", "10s",
		"--envoy", harness.Tool(t, "envoy"), "--state-dir", h.dir,
		"--http-listen", h.http, "--listen", h.listen, "--admin-listen", h.at,
	}, append(flags, "--", "--concurrency", "1")...)
	h.start()
	return h
}

func (h *host) start() {
	h.t.Helper()
	path, err := binary()
	require.NoError(h.t, err)
	h.Process = harness.Start(h.t, harness.Command{Name: "agent", Path: path, Args: h.args, Env: h.env, DeathSignal: syscall.SIGTERM})
}

func (h *host) get(address, path, name string) (int, string, error) {
	request, err := http.NewRequest(http.MethodGet, "http://"+address+path, nil) //nolint:noctx // to this host
	if err != nil {
		return 0, "", err
	}
	request.Host, request.Close = name, true
	answer, err := http.DefaultClient.Do(request)
	body, err := harness.ReadBody(answer, err)
	if answer == nil {
		return 0, "", err
	}
	return answer.StatusCode, string(body), nil
}

// await waits until the agent's status is as wanted, and then who answers for the Service.
func (h *host) await(what string, want func(*agent.Status) bool, id string) {
	h.t.Helper()
	h.Await(h.t, 30*time.Second, what, func() error {
		_, body, err := h.get(h.listen, "/status", "")
		if err != nil {
			return err
		}
		var s agent.Status
		if err := json.Unmarshal([]byte(body), &s); err != nil {
			return err
		}
		if !want(&s) {
			return fmt.Errorf("the agent says %s", body)
		}
		status, body, err := h.get(h.http, "/", "php.web")
		if err != nil || status != http.StatusOK || !strings.Contains(body, `"`+id+`"`) {
			return fmt.Errorf("the Service answers %d: %s, %w", status, body, err)
		}
		return nil
	})
}

// envoy returns the id of the agent's Envoy.
func (h *host) envoy() int {
	h.t.Helper()
	return envoyOf(h.t, h.PID())
}

// envoyOf returns the id of an agent's Envoy.
func envoyOf(t *testing.T, agent int) int {
	t.Helper()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", agent, agent))
	require.NoError(t, err)
	if len(strings.Fields(string(children))) == 0 { // another of its threads has started it
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", agent))
		require.NoError(t, err)
		for _, file := range tasks {
			if text, err := os.ReadFile(file); err == nil {
				children = append(children, text...)
			}
		}
	}
	fields := strings.Fields(string(children))
	require.Len(t, fields, 1, "the agent has one child")
	pid, err := strconv.Atoi(fields[0])
	require.NoError(t, err)
	return pid
}

const agentMesh = `apiVersion: v1
kind: Service
metadata: {name: php, namespace: web}
spec:
  ports: [{name: http, port: 80}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: php-1, namespace: web, labels: {kubernetes.io/service-name: php}}
addressType: IPv4
ports: [{name: http, port: %d}]
endpoints:
- {addresses: [%s], conditions: {ready: true}, targetRef: {kind: Pod, name: %s, namespace: web}}
`

// A host starts, reboots and loses its Envoy while the control plane is away, and serves what it last
// knew; with a control plane it has what is new, without a restart.
func TestAgent(t *testing.T) {
	beside(t, 0.4, 15*time.Second)
	addresses := harness.Addresses(t, 2)
	for i, id := range []string{"old", "new"} {
		harness.StartWorkload(t, harness.WorkloadOptions{Kind: harness.GoProcess, Address: addresses[i], Port: instancePort, ID: id, Platform: "pods"})
	}
	dir := t.TempDir()
	write := func(i int, id string) {
		require.NoError(t, harness.WriteFile(filepath.Join(dir, "mesh.yaml"), fmt.Appendf(nil, agentMesh, instancePort, addresses[i], id)))
	}
	write(0, "old")
	plane := startReplica(t, "causeway", nil, "--config", dir)
	plane.waitReady()
	h := startHost(t, plane.xds)
	connected := func(s *agent.Status) bool { return s.Ready && s.Configuration.Connected && !s.Configuration.LastGood }
	lastGood := func(s *agent.Status) bool { return s.Ready && s.Configuration.LastGood && !s.Configuration.Connected }
	h.await("the control plane's configuration", connected, "old")

	status, metrics, err := h.get(h.listen, "/metrics", "")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)
	for _, want := range []string{"causeway_agent_ready 1", `causeway_agent_up{source="envoy"} 1`, `causeway_agent_build_info{version="`, "envoy_server_live{} 1"} {
		require.Contains(t, metrics, want)
	}

	plane.Kill()
	h.await("Envoy goes on without a control plane", func(s *agent.Status) bool { return s.Ready && !s.Configuration.Connected }, "old")
	h.Stop()
	require.NoError(t, h.Err(), "it ends well")
	harness.RequireGone(t, h.PID())

	h.start()
	h.await("the last known good configuration after a reboot", lastGood, "old")
	require.NoError(t, syscall.Kill(h.envoy(), syscall.SIGKILL))
	h.await("another Envoy with it", func(s *agent.Status) bool { return s.Restarts == 1 && lastGood(s) }, "old")

	pid := h.envoy()
	write(1, "new")
	plane.start()
	plane.waitReady()
	h.await("what is new from the control plane that is back", connected, "new")
	require.Equal(t, pid, h.envoy(), "without another Envoy")
}

// On SIGTERM an agent is not ready any more, and its Envoy serves the host until nothing is under way.
func TestAgentDrains(t *testing.T) {
	beside(t, 0.2, 6*time.Second)
	address := harness.Addresses(t, 1)[0]
	w := harness.StartWorkload(t, harness.WorkloadOptions{Kind: harness.GoProcess, Address: address, Port: instancePort, ID: "old", Platform: "pods"})
	dir := t.TempDir()
	require.NoError(t, harness.WriteFile(filepath.Join(dir, "mesh.yaml"), fmt.Appendf(nil, agentMesh, instancePort, address, "old")))
	plane := startReplica(t, "causeway", nil, "--config", dir)
	plane.waitReady()
	h := startHost(t, plane.xds)
	h.await("the control plane's configuration", func(s *agent.Status) bool { return s.Ready }, "old")

	w.SetFault(t, harness.Fault{Percent: 100, MS: 3000})
	answered := make(chan int, 1)
	go func() {
		status, _, _ := h.get(h.http, "/slow", "php.web")
		answered <- status
	}()
	h.Await(t, 10*time.Second, "the request to be under way", func() error {
		_, body, err := h.get(h.at, "/stats?filter=upstream_rq_active", "")
		if err != nil || !strings.Contains(body, "upstream_rq_active: 1") {
			return fmt.Errorf("%s, %w", body, err)
		}
		return nil
	})
	h.Signal(syscall.SIGTERM)
	h.Await(t, 5*time.Second, "the agent not to be ready", func() error {
		status, body, err := h.get(h.listen, "/ready", "")
		if status != http.StatusServiceUnavailable {
			return fmt.Errorf("%d: %s, %w", status, body, err)
		}
		require.Contains(t, body, "it is draining")
		return nil
	})
	require.Equal(t, http.StatusOK, <-answered)
	<-h.Exited()
	require.NoError(t, h.Err())
}
