package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/members"
)

// A host resolves a Service's name to its virtual address, whether a control plane is there or not, until the Service
// is deleted; and the control plane lists the host.
func TestNamesOnAHost(t *testing.T) {
	beside(t, 0.4, 15*time.Second)
	dir := t.TempDir()
	mesh := filepath.Join(dir, "users.yaml")
	require.NoError(t, harness.WriteFile(filepath.Join(dir, "keep.yaml"), fmt.Appendf(nil, strings.Replace(agentMesh, "targetRef", "hostname: php-0, targetRef", 1), instancePort, "127.0.0.1", "none")))
	require.NoError(t, harness.WriteFile(mesh, []byte("apiVersion: v1\nkind: Service\nmetadata: {name: users, namespace: web}\nspec: {ports: [{name: http, port: 80}]}\n")))
	plane := startReplica(t, "causeway", nil, "--config", dir)
	plane.waitReady()
	at := harness.FreeAddress(t)
	h := startHost(t, plane.xds, "--dns-listen", at, "--captured-listen", harness.FreeAddress(t)+"=240.0.0.0/4", "--application-health", "tcp://"+plane.xds)

	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, at)
	}}
	virtual := discovery.VirtualAddress(discovery.Key{Namespace: "web", Name: "users"}, 0).String()
	await := func(what, name, want string) {
		t.Helper()
		h.Await(t, 30*time.Second, what, func() error {
			found, err := resolver.LookupHost(t.Context(), name)
			got := strings.Join(found, " ")
			if n, ok := errors.AsType[*net.DNSError](err); ok && n.IsNotFound {
				got, err = "not found", nil
			}
			if err != nil || got != want {
				return fmt.Errorf("%s is %s, %w", name, got, err)
			}
			return nil
		})
	}
	const name = "users.web.svc.cluster.local."
	await("the virtual address", name, virtual)
	await("a short name", "users.web.", virtual)
	await("a pod of a headless Service", "php-0.php.web.svc.cluster.local.", "127.0.0.1")
	await("a name of nobody", "nobody.web.svc.cluster.local.", "not found")

	h.Await(t, 30*time.Second, "the control plane to list the host", func() error {
		path, err := binary()
		require.NoError(t, err)
		out, err := exec.CommandContext(t.Context(), path, "members", "--admin", plane.admin, "-o", "json").Output()
		var said struct{ Members []members.Member }
		if err == nil {
			err = json.Unmarshal(out, &said)
		}
		list := said.Members
		if err != nil || len(list) != 1 || list[0].State(time.Now()) != "ready" || list[0].Application != "healthy" || list[0].Capture != "host" || list[0].Envoy == "" {
			return fmt.Errorf("it says %s, %w", out, err)
		}
		return nil
	})

	plane.Kill()
	file := filepath.Join(h.dir, "names")
	h.Await(t, 30*time.Second, "the names to be kept", func() error { _, err := os.Stat(file); return err })
	await("the address without a control plane", name, virtual)
	h.Stop()
	h.start()
	await("the address after a reboot", name, virtual)

	plane.start()
	plane.waitReady()
	h.Await(t, 30*time.Second, "the agent to join anew", func() error {
		body, err := plane.get(plane.admin, "/api/v1/members")
		if err != nil || !strings.Contains(string(body), "sidecar~web~cron~i-1") {
			return fmt.Errorf("%s, %w", body, err)
		}
		return nil
	})
	require.NoError(t, os.Remove(mesh))
	removed := time.Now()
	await("the Service to be gone", name, "not found")
	require.Less(t, time.Since(removed), 10*time.Second)
}
