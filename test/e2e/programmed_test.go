package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/kubetest"
	"github.com/causeway-mesh/causeway/xds/observe"
)

// external is an ExternalService with a host of its own for each edit.
func external(edit int) string {
	return fmt.Sprintf(`
apiVersion: mesh.causeway.dev/v1alpha1
kind: ExternalService
metadata: {name: partner, namespace: web}
spec:
  hosts: [partner-%d.example.com]
  ports: [{name: http, number: 80, protocol: HTTP}]
  resolution: Static
  endpoints: [{address: 198.51.100.7}]
`, edit)
}

// programmedTest is a cluster with two replicas and one Envoy at each.
type programmedTest struct {
	*testing.T
	kube *kubetest.Kube
	edit int
}

// change edits the object and returns its new generation.
func (p *programmedTest) change() int64 {
	p.Helper()
	p.edit++
	return p.kube.ApplyYAML(p, external(p.edit))[0].GetGeneration()
}

// wait waits for what the object's status says of a generation.
func (p *programmedTest) wait(generation int64, reason string, limit time.Duration) metav1.Condition {
	p.Helper()
	var c metav1.Condition
	harness.Eventually(p, limit, fmt.Sprintf("generation %d is %s", generation, reason), func() error {
		data, err := p.kube.Client(p).Discovery().RESTClient().Get().
			AbsPath("/apis/mesh.causeway.dev/v1alpha1/namespaces/web/externalservices/partner").DoRaw(p.Context())
		if err != nil {
			return err
		}
		var o v1alpha1.ExternalService
		if err := json.Unmarshal(data, &o); err != nil {
			return err
		}
		found := apimeta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionProgrammed)
		if found == nil || found.ObservedGeneration != generation || found.Reason != reason {
			return fmt.Errorf("status: %+v", o.Status.Conditions)
		}
		c = *found
		return nil
	})
	return c
}

// Programmed in the status means every Envoy, at whichever replica it is: one
// that does not acknowledge is named, and neither a replica nor a leader that is
// killed makes it say more than is known.
func TestProgrammedMeansEveryProxy(t *testing.T) {
	beside(t, 0.15, 95*time.Second)
	p := &programmedTest{T: t, kube: kubetest.Start(t, kubetest.Options{})}
	root, err := harness.Root()
	require.NoError(t, err)
	p.kube.ApplyCRDs(t, filepath.Join(root, "manifests", "crds"))
	p.kube.Namespace(t, "web")
	for _, file := range []string{"namespace", "rbac"} {
		p.kube.Apply(t, filepath.Join(root, "manifests", "install", file+".yaml"))
	}
	kubeconfig := p.kube.KubeconfigFor(t, p.kube.ServiceAccountConfig(t, "causeway-system", "causeway"))
	c := &cluster{t: t, kube: p.kube}
	for _, name := range []string{"causeway-a", "causeway-b"} {
		c.replicas = append(c.replicas, startReplica(t, name, nil, "--kubeconfig", kubeconfig))
	}
	for _, r := range c.replicas {
		r.waitReady()
	}
	leader, follower := c.leader()
	startCaller(t, "i-at-leader", "web", "a", []string{leader.xds}, "")
	far := startCaller(t, "i-at-follower", "web", "a", []string{follower.xds}, "")
	for _, r := range c.replicas {
		harness.Eventually(t, 30*time.Second, "an Envoy at "+r.name, func() error {
			if proxies, err := r.proxies(); err != nil || len(proxies) != 1 || !proxies[0].InSync {
				return fmt.Errorf("%+v: %w", proxies, err)
			}
			return nil
		})
	}
	first := p.wait(p.change(), observe.ReasonProgrammed, 30*time.Second)
	require.Equal(t, metav1.ConditionTrue, first.Status)
	leases, err := p.kube.Client(t).CoordinationV1().Leases("causeway-system").List(t.Context(), metav1.ListOptions{LabelSelector: "mesh.causeway.dev/replica"})
	require.NoError(t, err)
	require.Len(t, leases.Items, 2)

	// The Envoy at the other replica acknowledges nothing any more.
	far.Pause()
	generation := p.change()
	behind := p.wait(generation, observe.ReasonProxiesBehind, 30*time.Second)
	require.Contains(t, behind.Message, "sidecar~web~caller~i-at-follower")
	body, err := leader.get(leader.admin, "/api/v1/objects")
	require.NoError(t, err)
	var view observe.View
	require.NoError(t, json.Unmarshal(body, &view))
	require.True(t, view.Leading)
	require.Len(t, view.Replicas, 2)
	far.Resume()
	p.wait(generation, observe.ReasonProgrammed, 30*time.Second)

	// The replica dies: what its Envoy has nobody knows, until its Lease ends.
	follower.Kill()
	generation = p.change()
	p.wait(generation, observe.ReasonPending, 15*time.Second)
	p.wait(generation, observe.ReasonProgrammed, 40*time.Second)

	// It comes back, its Envoy with it, and the leader dies.
	follower.start()
	follower.waitReady()
	harness.Eventually(t, 60*time.Second, "its Envoy is back", func() error {
		if proxies, err := follower.proxies(); err != nil || len(proxies) != 1 || !proxies[0].InSync {
			return fmt.Errorf("%+v: %w", proxies, err)
		}
		return nil
	})
	leader.Kill()
	generation = p.change()
	p.wait(generation, observe.ReasonProgrammed, 90*time.Second)
	out, err := follower.get(follower.http, "/metrics")
	require.NoError(t, err)
	require.Contains(t, string(out), "\ncauseway_leader 1\n")
}
