package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/mototest"
)

const hostsMesh = `apiVersion: v1
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
`

// A host that drains, by hand or because EC2's metadata says that it will go, gets nothing new from callers, and takes
// part again.
func TestHostDrains(t *testing.T) {
	beside(t, 0.6, 30*time.Second)
	moto := mototest.Start(t, mototest.Options{})
	instances := moto.CreateASG(t, mototest.ASGOptions{Name: "php", Size: 2})
	for _, i := range instances {
		workload(t, "instances", i.ID, i.Zone, i.Address, instancePort)
	}
	dir := t.TempDir()
	require.NoError(t, harness.WriteFile(filepath.Join(dir, "mesh.yaml"), fmt.Appendf(nil, hostsMesh, moto.Region(), instancePort)))
	plane := startReplica(t, "causeway", moto.Env(), "--config", dir, "--ec2-interval", "1s")
	plane.waitReady()
	goes, stays := instances[0].ID, instances[1].ID
	plane.waitEndpoints("web/php", map[string]string{goes: "HEALTHY", stays: "HEALTHY"})

	metadata := harness.FreeAddress(t)
	host, port, err := net.SplitHostPort(metadata)
	require.NoError(t, err)
	caller := startHost(t, plane.xds)
	answered := func(ids ...string) {
		t.Helper()
		caller.Await(t, 30*time.Second, fmt.Sprintf("answers of %v alone", ids), func() error {
			seen := map[string]bool{}
			for range 20 {
				status, body, err := caller.get(caller.http, "/", "php.web")
				if err != nil || status != http.StatusOK {
					return fmt.Errorf("%d: %s, %w", status, body, err)
				}
				for _, i := range instances {
					seen[i.ID] = seen[i.ID] || strings.Contains(body, i.ID)
				}
			}
			for _, i := range instances {
				if wanted := strings.Contains(strings.Join(ids, " "), i.ID); seen[i.ID] != wanted {
					return fmt.Errorf("%s has answered: %t", i.ID, seen[i.ID])
				}
			}
			return nil
		})
	}
	answered(goes, stays)
	server := startHost(t, plane.xds, "--workload", "php", "--id", goes, "--ec2", "--imds-endpoint", "http://"+metadata)
	path, err := binary()
	require.NoError(t, err)
	drain := func(args ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), path, append([]string{"agent", "drain", "--state-dir", server.dir}, args...)...).CombinedOutput()
		return string(out), err
	}
	server.Await(t, 30*time.Second, "the host to drain", func() error {
		out, err := drain("--for", "20s")
		if err != nil || !strings.Contains(out, "callers are told") {
			return errors.Join(err, errors.New(out)) //nolint:errorlint // of this test
		}
		return nil
	})
	plane.waitEndpoints("web/php", map[string]string{goes: "DRAINING", stays: "HEALTHY"})
	answered(stays)
	out, err := drain("--undo")
	require.NoError(t, err, out)
	plane.waitEndpoints("web/php", map[string]string{goes: "HEALTHY", stays: "HEALTHY"})
	answered(goes, stays)

	// Metadata was away until now, which has stopped nothing. A Spot notice is the first that it says.
	harness.Start(t, harness.Command{
		Name: "metadata", Path: harness.Tool(t, "ec2-metadata-mock"), Dir: t.TempDir(), Env: []string{"HOME=" + t.TempDir()},
		Args: []string{"spot", "--imdsv2", "--hostname", host, "--port", port},
	})
	plane.waitEndpoints("web/php", map[string]string{goes: "DRAINING", stays: "HEALTHY"})
	answered(stays)
	found, err := plane.endpoints("web/php")
	require.NoError(t, err)
	require.Contains(t, found[goes].Reason, "AgentDraining: SpotInterruption: EC2 will ")
}
