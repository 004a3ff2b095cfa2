package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/bootstrap"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/server"
)

// binary is the shipped causeway, built once.
var binary = sync.OnceValues(func() (string, error) {
	root, err := harness.Root()
	if err != nil {
		return "", err
	}
	out := filepath.Join(root, "bin", "causeway-e2e")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", out, "./cmd/causeway")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, text)
	}
	return out, nil
})

// replica is a running control plane.
type replica struct {
	*harness.Process
	t                *testing.T
	name             string
	args, env        []string
	xds, http, admin string
}

// startReplica starts `causeway serve` on addresses that stay its own over restarts.
func startReplica(t *testing.T, name string, env []string, args ...string) *replica {
	t.Helper()
	r := &replica{
		t: t, name: name, env: env,
		xds: harness.FreeAddress(t), http: harness.FreeAddress(t), admin: harness.FreeAddress(t),
	}
	r.args = append([]string{"serve", "--xds-listen", r.xds, "--http-listen", r.http, "--admin-listen", r.admin}, args...)
	r.start()
	return r
}

func (r *replica) start() {
	r.t.Helper()
	path, err := binary()
	require.NoError(r.t, err)
	r.Process = harness.Start(r.t, harness.Command{Name: r.name, Path: path, Args: r.args, Env: r.env})
}

func (r *replica) waitReady() {
	r.t.Helper()
	harness.Eventually(r.t, 30*time.Second, r.name+" ready", func() error {
		_, err := r.get(r.http, "/readyz")
		return err
	})
}

func (r *replica) get(address, path string) ([]byte, error) {
	resp, err := http.Get("http://" + address + path) //nolint:noctx,gosec // loopback
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return body, err
}

// endpoint is an endpoint as `causeway endpoints -o json` gives it.
type endpoint struct {
	Platform, ID, Address, Zone, Health, Reason string
	Share                                       float64
}

// endpoints returns the endpoints of a Service by id.
func (r *replica) endpoints(service string) (map[string]endpoint, error) {
	body, err := r.get(r.admin, "/api/v1/endpoints?service="+service)
	if err != nil {
		return nil, err
	}
	var services []struct{ Endpoints []endpoint }
	if err := json.Unmarshal(body, &services); err != nil {
		return nil, err
	}
	out := make(map[string]endpoint)
	for _, s := range services {
		for _, e := range s.Endpoints {
			out[e.ID] = e
		}
	}
	return out, nil
}

// waitEndpoints waits until the Service has exactly these endpoints, each with
// the health that want gives.
func (r *replica) waitEndpoints(service string, want map[string]string) {
	r.t.Helper()
	harness.Eventually(r.t, 30*time.Second, fmt.Sprintf("%s has endpoints %v", service, want), func() error {
		got, err := r.endpoints(service)
		if err != nil {
			return err
		}
		if len(got) != len(want) {
			return fmt.Errorf("got %v", got)
		}
		for id, health := range want {
			if got[id].Health != health {
				return fmt.Errorf("%s is %+v", id, got[id])
			}
		}
		return nil
	})
}

func (r *replica) proxies() ([]server.ProxyStatus, error) {
	body, err := r.get(r.admin, "/api/v1/proxystatuses")
	if err != nil {
		return nil, err
	}
	var out []server.ProxyStatus
	return out, json.Unmarshal(body, &out)
}

// caller is an Envoy next to a workload that calls others.
type caller struct {
	*harness.Envoy
	http string
	tcp  string
}

// startCaller starts an Envoy that joins the mesh through the given control planes.
func startCaller(t *testing.T, id, namespace, zone string, servers []string, tcp string) *caller {
	t.Helper()
	return startCallerOn(t, id, namespace, zone, "", servers, tcp)
}

// startCallerOn is startCaller on a Kubernetes node.
func startCallerOn(t *testing.T, id, namespace, zone, node string, servers []string, tcp string) *caller {
	t.Helper()
	c := &caller{http: harness.FreeAddress(t)}
	o := bootstrap.Options{
		Role: resource.Sidecar, Namespace: namespace, Workload: "caller", Instance: id, Zone: zone, NodeName: node,
		Servers: servers, HTTPListen: c.http,
	}
	if tcp != "" {
		c.tcp = harness.FreeAddress(t)
		o.TCPListen = []string{c.tcp + "=" + tcp}
	}
	config, err := bootstrap.Generate(o)
	require.NoError(t, err)
	c.Envoy = harness.StartEnvoy(t, config, harness.EnvoyOptions{Name: "envoy-" + id, LogLevel: "warning", Concurrency: 2})
	return c
}

// load puts a load on a Service through the caller.
func (c *caller) load(t *testing.T, host string, rate float64) *harness.Load {
	t.Helper()
	return harness.StartLoad(t, harness.LoadOptions{URL: "http://" + c.http + "/", Host: host, Rate: rate})
}

// workload starts a workload that is a process of its own.
func workload(t *testing.T, platform, id, zone, address string, port int) *harness.Workload {
	t.Helper()
	return workloadOf(t, harness.GoProcess, platform, id, zone, address, port)
}

func workloadOf(t *testing.T, kind harness.WorkloadKind, platform, id, zone, address string, port int) *harness.Workload {
	t.Helper()
	return harness.StartWorkload(t, harness.WorkloadOptions{
		Kind: kind, Address: netip.MustParseAddr(address), Port: port, Platform: platform, ID: id, Zone: zone,
	})
}
