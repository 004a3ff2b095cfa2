package e2e_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/causeway-mesh/causeway/test/cluster"
	"github.com/causeway-mesh/causeway/test/harness"
)

// An installation by the plain YAML becomes Helm's without a new pod, is upgraded, goes back and is
// uninstalled, by the documented commands. `causeway check` says at each step that it works.
func TestHelm(t *testing.T) {
	c := attach(t)
	dir := c.userDirectory(t)
	c.removeRest(t, dir)
	t.Cleanup(func() { c.removeRest(t, dir) })
	c.addInjection(t, dir)
	c.install(t, dir)
	values := func(more string) {
		t.Helper()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "values.yaml"), []byte(`
image: {repository: registry.example.com/platform/causeway, tag: v0.2.0}
clientRules: [{uri: spiffe://example.org/ns/web/sa/*, namespaces: [web], roles: [sidecar]}]
inject: {enabled: true, config: {image: "`+cluster.AgentImage+`", imagePullPolicy: Never, serviceCIDRs: ["`+cluster.ServiceRange+`"]}}
`+more+"\n"), 0o600))
	}
	works := func() {
		t.Helper()
		require.NoError(t, c.WaitDeployment(t.Context(), system, "causeway", 2*time.Minute))
		out := ""
		harness.Eventually(t, 30*time.Second, "check to find nothing that failed", func() error {
			var err error
			out, err = c.causeway(t, dir, "check")
			return err
		})
		t.Logf("%s", out)
		require.Contains(t, out, "2 of 2 replicas are ready")
		require.Contains(t, out, "all sources are read")
	}
	works()

	before := c.replicas(t)
	values("")
	c.shell(t, dir, c.commands(t, "kubernetes.md", "## Upgrades", "--take-ownership"))
	works()
	require.Equal(t, before, c.replicas(t), "no pod is replaced")

	values("logLevel: debug")
	c.shell(t, dir, "helm upgrade causeway manifests/chart -n causeway-system -f values.yaml --force-conflicts")
	works()
	require.NotEqual(t, before, c.replicas(t))
	c.shell(t, dir, "helm rollback causeway -n causeway-system --force-conflicts")
	works()

	c.shell(t, dir, c.commands(t, "kubernetes.md", "## Uninstall", "helm uninstall"))
	require.NoError(t, c.WaitGone(context.WithoutCancel(t.Context()), "namespaces", "", system, &corev1.Namespace{}, time.Minute))
	require.NotContains(t, c.kubectl(t, "get", "crd,clusterrole,mutatingwebhookconfiguration,validatingadmissionpolicy", "-o", "name"), "causeway")
}

// causeway runs the program as somebody beside the cluster does.
func (c *onCluster) causeway(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	return c.run(t, dir, filepath.Join(c.root(t), "bin", "causeway"), args...)
}

// replicas are the control plane's pods.
func (c *onCluster) replicas(t *testing.T) []types.UID {
	t.Helper()
	pods, err := c.client.CoreV1().Pods(system).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=causeway"})
	require.NoError(t, err)
	var out []types.UID
	for i := range pods.Items {
		if pods.Items[i].DeletionTimestamp == nil {
			out = append(out, pods.Items[i].UID)
		}
	}
	return out
}
