package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/test/harness"
)

// groupOfPHP attaches instances to Service php; the EC2 API is dead and knows none.
const groupOfPHP = `---
apiVersion: mesh.causeway.dev/v1alpha1
kind: InstanceGroup
metadata: {name: php, namespace: web}
spec:
  serviceRef: {name: php}
  region: ap-northeast-1
  selector: {autoScalingGroups: [php]}
  ports: [{name: main, port: 8080}]
`

// A control plane starts with homes that it cannot read. The Envoy that has the routes of
// the Service that needs its home goes on serving it, also over its own reconnects; an Envoy that is
// new answers 503 for it and for nothing else; an annotation ends that without a restart.
func TestHomesThatCannotBeRead(t *testing.T) {
	beside(t, 0.2, 15*time.Second)
	addresses := harness.Addresses(t, 2)
	for i, id := range []string{"php-1", "other-1"} {
		workload(t, "pods", id, "a", addresses[i].String(), instancePort)
	}
	php := podYAML("web", "php", 80, instancePort, "", addresses[0], "a")
	other := podYAML("web", "other", 80, instancePort, "", addresses[1], "a")
	d, state := newDirectory(t), t.TempDir()
	d.write("mesh.yaml", php+other)
	plane := startReplica(t, "causeway", []string{"AWS_ENDPOINT_URL=http://127.0.0.1:1", "AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=x", "AWS_MAX_ATTEMPTS=1"},
		"--config", d.path, "--state-dir", state, "--ec2-interval", "1s")
	plane.waitReady()
	answers := func(c *caller, host string, want int) {
		t.Helper()
		harness.Eventually(t, 20*time.Second, fmt.Sprintf("%d for %s", want, host), func() error {
			if got := askOnce(t, c.http, host); got != want {
				return fmt.Errorf("it is %d", got)
			}
			return nil
		})
	}
	had := startCaller(t, "had", "web", "a", []string{plane.xds}, "")
	answers(had, "php.web", http.StatusOK)
	// The home was recorded as pods; now a guess would be instances.
	homes := filepath.Join(state, "homes.state")
	harness.Eventually(t, 10*time.Second, "a recorded home", func() error {
		text, err := os.ReadFile(homes)
		if err == nil && !strings.Contains(string(text), `"php"`) {
			err = fmt.Errorf("it is %s", text)
		}
		return err
	})
	d.write("mesh.yaml", php+other+groupOfPHP)
	load := had.load(t, "php.web", 50)
	load.WaitAnswers(t, 20, 10*time.Second)
	plane.Kill()
	for _, name := range []string{homes, homes + ".copy"} {
		require.NoError(t, os.WriteFile(name, []byte("{"), 0o600))
	}
	plane.start()
	plane.waitReady()
	anew := startCaller(t, "anew", "web", "a", []string{plane.xds}, "")
	answers(anew, "other.web", http.StatusOK)
	answers(anew, "php.web", http.StatusServiceUnavailable)
	harness.Eventually(t, 20*time.Second, "both proxies", func() error {
		proxies, err := plane.proxies()
		if err == nil && len(proxies) != 2 {
			err = fmt.Errorf("there are %d", len(proxies))
		}
		for i := range proxies {
			if !proxies[i].InSync {
				err = fmt.Errorf("%s is not in sync", proxies[i].ID)
			}
		}
		return err
	})
	answers(had, "other.web", http.StatusOK)
	sources, err := plane.get(plane.admin, "/v1/sources")
	require.NoError(t, err)
	require.Contains(t, string(sources), "the home of Service web/php cannot be read, so proxies keep what they have of it and nothing moves; all else is served")
	load.WaitAnswers(t, 50, 10*time.Second)

	d.write("mesh.yaml", strings.Replace(php, "{name: php, namespace: web", `{annotations: {mesh.causeway.dev/home: Pods}, name: php, namespace: web`, 1)+other+groupOfPHP)
	answers(anew, "php.web", http.StatusOK)
	require.Empty(t, load.Stop().Failures, "the proxy that had the routes has lost requests")
}
