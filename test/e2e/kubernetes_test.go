package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/kubetest"
	"github.com/causeway-mesh/causeway/test/harness/mototest"
)

const instancePort = 8080

// cluster is a mesh over a cluster and an EC2 account.
type cluster struct {
	t         *testing.T
	kube      *kubetest.Kube
	moto      *mototest.Moto
	queue     string
	replicas  []*replica
	kind      harness.WorkloadKind
	instances map[string]*harness.Workload // by instance id
	pods      map[string]*harness.Workload // by pod name
}

// startCluster starts everything: an auto scaling group of four instances in
// two zones, two pods, and two replicas of the control plane.
func startCluster(t *testing.T, kind harness.WorkloadKind) *cluster {
	t.Helper()
	c := &cluster{
		t: t, kind: kind, kube: kubetest.Start(t, kubetest.Options{}), moto: mototest.Start(t, mototest.Options{}),
		instances: make(map[string]*harness.Workload), pods: make(map[string]*harness.Workload),
	}
	root, err := harness.Root()
	require.NoError(t, err)
	c.kube.ApplyCRDs(t, filepath.Join(root, "manifests", "crds"))
	c.kube.Namespace(t, "web")
	for _, file := range []string{"namespace", "rbac", "deployment", "service", "pdb", "guard-deletion"} {
		c.kube.Apply(t, filepath.Join(root, "manifests", "install", file+".yaml"))
	}
	c.queue = c.moto.CreateQueue(t, "causeway")
	c.boot(c.moto.CreateASG(t, mototest.ASGOptions{Name: "php-web", Size: 4, Tags: map[string]string{"Role": "php-web"}}))
	for i, a := range harness.Addresses(t, 2) {
		name := fmt.Sprintf("php-web-%d", i)
		c.pods[name] = workloadOf(t, kind, "pods", name, c.moto.Zones()[i], a.String(), instancePort)
	}
	c.kube.ApplyYAML(t, `
apiVersion: v1
kind: Service
metadata: {name: php-web, namespace: web, annotations: {mesh.causeway.dev/home: Instances}}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: mesh.causeway.dev/v1alpha1
kind: InstanceGroup
metadata: {name: php-web-ec2, namespace: web}
spec:
  serviceRef: {name: php-web}
  region: `+c.moto.Region()+`
  selector: {autoScalingGroups: [php-web], tags: {Role: php-web}}
  ports: [{name: http, port: 8080}]
  healthCheck: {http: {path: /healthz}, interval: 1s}
`)
	c.applyPods()
	// The replicas may do what the manifests say and nothing else.
	kubeconfig := c.kube.KubeconfigFor(t, c.kube.ServiceAccountConfig(t, "causeway-system", "causeway"))
	for _, name := range []string{"causeway-a", "causeway-b"} {
		c.replicas = append(c.replicas, startReplica(t, name, c.moto.Env(), "--kubeconfig", kubeconfig,
			"--ec2-interval", "1s", "--ec2-queue", c.moto.Region()+"="+c.queue))
	}
	for _, r := range c.replicas {
		r.waitReady()
		r.waitEndpoints("web/php-web", c.want(nil))
	}
	return c
}

// boot starts the workloads of instances.
func (c *cluster) boot(instances []mototest.Instance) {
	c.t.Helper()
	for _, i := range instances {
		if c.instances[i.ID] == nil {
			c.instances[i.ID] = workloadOf(c.t, c.kind, "instances", i.ID, i.Zone, i.Address, instancePort)
		}
	}
}

// applyPods writes the EndpointSlice of the pods that there are.
func (c *cluster) applyPods() {
	c.t.Helper()
	var b strings.Builder
	b.WriteString(`
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: php-web-pods, namespace: web, labels: {kubernetes.io/service-name: php-web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
`)
	for i, name := range sortedKeys(c.pods) {
		fmt.Fprintf(&b, "- {addresses: [%s], zone: %s, conditions: {ready: true}, targetRef: {kind: Pod, namespace: web, name: %s}}\n",
			c.pods[name].Addr(), c.moto.Zones()[i%2], name)
	}
	c.kube.ApplyYAML(c.t, b.String())
}

func sortedKeys[V any](m map[string]V) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// want returns all endpoints as HEALTHY but for the given ones.
func (c *cluster) want(except map[string]string) map[string]string {
	out := make(map[string]string)
	for id := range c.instances {
		out[id] = "HEALTHY"
	}
	for name := range c.pods {
		out["web/"+name] = "HEALTHY"
	}
	for id, health := range except {
		if out[id] = health; health == "" {
			delete(out, id)
		}
	}
	return out
}

func (c *cluster) waitEverywhere(want map[string]string) {
	c.t.Helper()
	for _, r := range c.replicas {
		r.waitEndpoints("web/php-web", want)
	}
}

// leader returns the replica that leads and the one that does not.
func (c *cluster) leader() (leader, follower *replica) {
	c.t.Helper()
	harness.Eventually(c.t, 30*time.Second, "a leader", func() error {
		for i, r := range c.replicas {
			if body, err := r.get(r.http, "/metrics"); err == nil && strings.Contains(string(body), "\ncauseway_leader 1\n") {
				leader, follower = r, c.replicas[1-i]
				return nil
			}
		}
		return fmt.Errorf("none")
	})
	return leader, follower
}

// The main job: instances and pods answer under one name while everything
// around them fails, and no request does.
func TestOneMeshOverEC2AndKubernetes(t *testing.T) {
	beside(t, 0.4, 160*time.Second)
	c := startCluster(t, harness.GoProcess)
	servers := []string{c.replicas[0].xds, c.replicas[1].xds}
	callers := []*caller{
		startCaller(t, "i-caller-a", "web", c.moto.Zones()[0], servers, ""),
		startCaller(t, "i-caller-c", "web", c.moto.Zones()[1], servers, ""),
	}
	loads := []*harness.Load{callers[0].load(t, "php-web", 100), callers[1].load(t, "php-web.web.svc.cluster.local", 100)}
	check := func(what string) {
		t.Helper()
		for _, l := range loads {
			l.WaitAnswers(t, 50, 20*time.Second)
			if r := l.Report(); r.Failed > 0 {
				t.Fatalf("%s: %s", what, r)
			}
		}
		t.Logf("%s: no failure of %d", what, loads[0].Report().Sent+loads[1].Report().Sent)
	}
	check("start")
	require.Zero(t, loads[0].Report().Platforms()["pods"], "deployed pods get no traffic while the home is the instances")
	near := loads[0].Report().Zones()
	require.Greater(t, near[c.moto.Zones()[0]], 20*near[c.moto.Zones()[1]], "callers prefer their zone: %v", near)

	// Spot: the notice comes, new requests stop, then the instance goes.
	ids := sortedKeys(c.instances)
	spot := ids[0]
	c.moto.SendSQS(t, c.queue, c.moto.SpotInterruption(spot))
	c.waitEverywhere(c.want(map[string]string{spot: "DRAINING"}))
	harness.TakeTime(200 * time.Millisecond) // requests that began before end
	c.moto.Terminate(t, spot)
	c.instances[spot].Kill()
	delete(c.instances, spot)
	c.waitEverywhere(c.want(nil))
	check("Spot interruption")

	// Scale out, then in.
	c.boot(c.moto.ScaleASG(t, "php-web", 6))
	c.waitEverywhere(c.want(nil))
	check("scale out")
	left := make(map[string]bool)
	for _, i := range c.moto.ScaleASG(t, "php-web", 4) {
		left[i.ID] = true
	}
	var leaving []string
	for id := range c.instances {
		if !left[id] {
			leaving = append(leaving, id)
		}
	}
	require.NotEmpty(t, leaving)
	kept := c.want(nil)
	for _, id := range leaving {
		delete(kept, id)
	}
	c.waitEverywhere(kept)
	harness.TakeTime(200 * time.Millisecond)
	for _, id := range leaving {
		c.instances[id].Kill()
		delete(c.instances, id)
	}
	check("scale in")

	// The EC2 API fails in every way: endpoints stay.
	for what, fault := range map[string]harness.Answer{
		"throttled": mototest.EC2Error(http.StatusServiceUnavailable, "RequestLimitExceeded", "Request limit exceeded."),
		"denied":    mototest.EC2Error(http.StatusUnauthorized, "AuthFailure", "AWS was not able to validate the provided access credentials"),
	} {
		c.moto.Proxy().Fail(1_000_000, fault, nil)
		leader, _ := c.leader()
		harness.Eventually(t, 60*time.Second, "the group says that EC2 cannot be read", func() error {
			body, err := leader.get(leader.admin, "/v1/groups")
			if err == nil && !strings.Contains(string(body), "Error\":\"") || strings.Contains(string(body), "\"Error\":\"\"") {
				err = fmt.Errorf("%s", body)
			}
			return err
		})
		c.waitEverywhere(c.want(nil))
		check("EC2 API " + what)
		c.moto.Proxy().Restore(t)
	}

	// The leader dies in the middle of a change.
	leader, follower := c.leader()
	c.boot(c.moto.ScaleASG(t, "php-web", 5))
	leader.Kill()
	check("leader killed")
	follower.waitEndpoints("web/php-web", c.want(nil))
	check("another leads")
	leader.start()
	leader.waitReady()
	leader.waitEndpoints("web/php-web", c.want(nil))
	a, err := leader.get(leader.admin, "/v1/resources?role=sidecar&namespace=web&zone="+c.moto.Zones()[0])
	require.NoError(t, err)
	b, err := follower.get(follower.admin, "/v1/resources?role=sidecar&namespace=web&zone="+c.moto.Zones()[0])
	require.NoError(t, err)
	require.JSONEq(t, string(a), string(b), "both replicas serve the same versions")

	// Kubernetes is away, and the whole control plane restarts meanwhile.
	c.kube.Kill9()
	down := time.Now()
	check("Kubernetes down")
	for _, r := range c.replicas {
		r.Kill()
	}
	for time.Since(down) < time.Minute {
		check("control plane killed")
		harness.TakeTime(10 * time.Second)
	}
	c.kube.Restart(t)
	for _, r := range c.replicas {
		r.start()
	}
	for _, r := range c.replicas {
		r.waitReady()
	}
	check("all back")
	c.waitEverywhere(c.want(nil))
	var proxies int
	harness.Eventually(t, 60*time.Second, "both Envoys reconnect and are in sync", func() error {
		proxies = 0
		for _, r := range c.replicas {
			all, err := r.proxies()
			if err != nil {
				return err
			}
			for _, p := range all {
				if !p.InSync {
					return fmt.Errorf("%+v", p)
				}
				proxies++
				for _, s := range p.Types {
					if s.Resources > 0 {
						t.Fatalf("%s was sent %d %s that it had", p.ID, s.Resources, s.Type)
					}
				}
			}
		}
		if proxies != 2 {
			return fmt.Errorf("%d are connected", proxies)
		}
		return nil
	})

	// A pod goes: nobody notices, since the instances are the home.
	gone := sortedKeys(c.pods)[0]
	pod := c.pods[gone]
	delete(c.pods, gone)
	c.applyPods()
	c.waitEverywhere(c.want(nil))
	pod.Kill()
	check("pod deleted")

	// Every instance dies at once, without a word: the pods answer.
	before := loads[0].Report().Platforms()["pods"]
	require.Zero(t, before)
	for _, w := range c.instances {
		w.Stop()
	}
	check("all instances stopped")
	harness.Eventually(t, 10*time.Second, "the pods answer", func() error {
		if loads[0].Report().Platforms()["pods"] == 0 {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	for _, l := range loads {
		r := l.Stop()
		t.Logf("%s", r)
		r.RequireNoFailures(t)
	}
	raw, err := c.kube.Client(t).Discovery().RESTClient().Get().
		AbsPath("/apis/mesh.causeway.dev/v1alpha1/namespaces/web/instancegroups/php-web-ec2").DoRaw(t.Context())
	require.NoError(t, err)
	var object v1alpha1.InstanceGroup
	require.NoError(t, json.Unmarshal(raw, &object))
	for _, condition := range []string{"Accepted", "ResolvedRefs", "Fresh"} {
		require.True(t, apimeta.IsStatusConditionTrue(object.Status.Conditions, condition), "%s: %+v", condition, object.Status)
	}
	require.EqualValues(t, 5, object.Status.Instances.Desired)
	group, err := c.kube.Client(t).DiscoveryV1().EndpointSlices("web").List(t.Context(), metav1.ListOptions{LabelSelector: "endpointslice.kubernetes.io/managed-by=causeway.dev"})
	require.NoError(t, err)
	require.NotEmpty(t, group.Items)
	for _, s := range group.Items {
		require.NotContains(t, s.Labels, "kubernetes.io/service-name")
		require.Equal(t, "InstanceGroup", s.OwnerReferences[0].Kind)
	}
}
