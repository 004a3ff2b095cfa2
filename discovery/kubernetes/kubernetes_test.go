package kubernetes

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/kubetest"
	"github.com/causeway-mesh/causeway/test/harness/meshtest"
)

func applySlice(t *testing.T, kube *kubetest.Kube, name string, addresses ...string) {
	t.Helper()
	text := "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: " + name +
		", namespace: web, labels: {kubernetes.io/service-name: php-web}}\naddressType: IPv4\nports: [{name: http, port: 80}]\nendpoints:\n"
	for _, a := range addresses {
		text += "- {addresses: [" + a + "], zone: a}\n"
	}
	if len(addresses) == 0 {
		text = strings.TrimSuffix(text, "endpoints:\n") + "endpoints: []\n"
	}
	kube.ApplyYAML(t, text)
}

// Objects come, change and go; the API server dies, is compacted behind our
// back and comes again: rows are always what was last known, and then what is.
func TestSource(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
	kube.ApplyYAML(t, meshtest.Service)
	r := newReplica(t, kube, nil)
	applySlice(t, kube, "one", "10.0.0.1", "10.0.0.2")
	applySlice(t, kube, "two", "10.0.0.3")
	r.WaitAddresses(t, "web/php-web", "10.0.0.1", "10.0.0.2", "10.0.0.3")

	feed := r.Catalog.Subscribe()
	defer feed.Close()
	feed.Take()
	kube.Kill9()
	harness.Eventually(t, 20*time.Second, "the failure is told", func() error {
		if st, _ := catalog.Sources.Get(r.Catalog.Read(), cluster.ScopeEndpointSlices); st.Error == "" {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	require.Len(t, r.Addresses("web/php-web"), 3)
	kube.Restart(t)
	applySlice(t, kube, "one", "10.0.0.9") // while the watch is still in its backoff
	kube.Compact(t)
	r.WaitAddresses(t, "web/php-web", "10.0.0.3", "10.0.0.9")
	harness.Eventually(t, 20*time.Second, "the recovery is told", func() error {
		if st, _ := catalog.Sources.Get(r.Catalog.Read(), cluster.ScopeEndpointSlices); st.Error != "" {
			return fmt.Errorf("%s", st.Error)
		}
		return nil
	})
	b, _ := feed.Take()
	for _, c := range b.Changes {
		set, was := c.Before.(*discovery.EndpointSet)
		require.False(t, was && c.After == nil, "%v was gone for a moment", set)
	}
	require.NoError(t, kube.Client(t).DiscoveryV1().EndpointSlices("web").Delete(t.Context(), "two", metav1.DeleteOptions{}))
	r.WaitAddresses(t, "web/php-web", "10.0.0.9")
	require.NoError(t, kube.Client(t).CoreV1().Services("web").Delete(t.Context(), "php-web", metav1.DeleteOptions{}))
	harness.Eventually(t, 20*time.Second, "the Service is gone", func() error {
		if _, ok := catalog.Services.Get(r.Catalog.Read(), "web/php-web"); ok {
			return fmt.Errorf("it is there")
		}
		return nil
	})
}

// The API server refuses wrong InstanceGroups with a text that helps, and the
// deletion of one that carries traffic.
func TestAdmission(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
	for edit, want := range map[string]string{
		"region: ap-northeast-1|region: tokyo":                                 "spec.region",
		"selector: {autoScalingGroups: [php-web]}|selector: {}":                "would take every instance",
		"ports: [{name: http, port: 8080}]|ports: [{name: http, port: 99999}]": "65535",
		"ports: [{name: http, port: 8080}]|ports: []":                          "at least 1",
		"spot: Avoid|spot: Never":                                              "Unsupported value",
		"spot: Avoid|healthCheck: {interval: 1ms}":                             "out of bounds: write 1s to 5m",
		"name: php-web-ec2|name: " + strings.Repeat("x", 51):                   "more than 50",
	} {
		from, to, _ := strings.Cut(edit, "|")
		err := harness.Run(t.Context(), "bad", nil, func(_ context.Context, tb harness.TB) {
			kube.ApplyYAML(tb, strings.Replace(meshtest.Group, from, to, 1))
		})
		require.ErrorContains(t, err, want, edit)
	}
	kube.ApplyYAML(t, meshtest.Group)
	client := kube.Client(t).Discovery().RESTClient()
	const path = "/apis/mesh.causeway.dev/v1alpha1/namespaces/web/instancegroups/php-web-ec2"
	patch := func(sub, body string) {
		require.NoError(t, client.Patch("application/merge-patch+json").AbsPath(path+sub).Body([]byte(body)).Do(t.Context()).Error())
	}
	patch("/status", `{"status":{"instances":{"desired":3,"ready":3,"draining":0,"spot":0}}}`)
	harness.Eventually(t, 20*time.Second, "the policy is in force", func() error {
		err := client.Delete().AbsPath(path).Param("dryRun", "All").Do(t.Context()).Error()
		if err == nil || !strings.Contains(err.Error(), "allow-delete") {
			return fmt.Errorf("deletion: %v", err) //nolint:errorlint // it may be nil
		}
		return nil
	})
	patch("", `{"metadata":{"annotations":{"mesh.causeway.dev/allow-delete":"true"}}}`)
	require.NoError(t, client.Delete().AbsPath(path).Do(t.Context()).Error())
}
