package e2e_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/test/cluster"
	"github.com/causeway-mesh/causeway/test/harness"
)

// A Gateway gets its proxies by itself, in a namespace with PodSecurity restricted: created, edited, rolled out, scaled,
// moved to a DaemonSet and back under load, while another one comes and goes. No request of what stays fails, and
// nothing is left of what goes.
func TestManagedGateway(t *testing.T) {
	c := attach(t)
	dir := c.userDirectory(t)
	c.removeRest(t, dir)
	c.addGateways(t, dir)
	c.install(t, dir)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s", c.kubectl(t, "get", "pods,services,endpointslices,daemonsets,deployments,events", "-A", "-o", "wide"))
			t.Logf("%s", c.kubectl(t, "-n", "web", "get", "gateways", "-o", "yaml"))
			t.Logf("%s", c.kubectl(t, "-n", "web", "logs", "-l", "app.kubernetes.io/managed-by=causeway.dev", "--all-containers", "--prefix", "--tail=20"))
			t.Logf("%s", c.kubectl(t, "-n", system, "logs", "-l", "app.kubernetes.io/name=causeway", "--tail=30"))
		}
		c.removeRest(t, dir)
	})
	c.apply(t, web)
	require.NoError(t, c.WaitDeployment(t.Context(), "web", "users", 2*time.Minute))
	c.apply(t, parameters("replicas: 2"))
	c.apply(t, gateway("public", "{name: http, port: 80, protocol: HTTP}"))
	address := c.programmed(t, "public")
	require.NoError(t, c.WaitDeployment(t.Context(), "web", "public-causeway", 2*time.Minute))
	text, err := c.get(t, "http://"+net.JoinHostPort(address, "80")+"/hello")
	require.NoError(t, err)
	require.Contains(t, text, `"path":"/hello"`)

	c.apply(t, strings.NewReplacer("front.web.svc", "public-causeway.web.svc", `, mesh.causeway.dev/inject: "true"`, "",
		"imagePullPolicy: Never", "imagePullPolicy: Never\n    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}").Replace(frontLoad))
	require.NoError(t, c.WaitPod(t.Context(), "web", "load", time.Minute))
	load := c.pod(t, "app=load").Status.PodIP
	pods := func() []string {
		list, err := c.client.CoreV1().Pods("web").List(t.Context(), metav1.ListOptions{LabelSelector: gatewayv1.GatewayNameLabelKey + "=public"})
		require.NoError(t, err)
		var out []string
		for _, p := range list.Items {
			out = append(out, p.Name)
		}
		return out
	}
	rolledOut := func() { require.NoError(t, c.WaitDeployment(t.Context(), "web", "public-causeway", 3*time.Minute)) }
	before := pods()
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"another listener", func() {
			c.apply(t, gateway("public", "{name: http, port: 80, protocol: HTTP}, {name: more, port: 8080, protocol: HTTP}"))
			harness.Eventually(t, time.Minute, "an answer at the other port", func() error {
				_, err := c.get(t, "http://"+net.JoinHostPort(address, "8080")+"/")
				return err
			})
			require.ElementsMatch(t, before, pods(), "a listener is no reason for new pods")
		}},
		{"one listener again, and another Gateway", func() {
			c.apply(t, gateway("public", "{name: http, port: 80, protocol: HTTP}"))
			c.apply(t, gateway("other", "{name: http, port: 80, protocol: HTTP}"))
			other := c.programmed(t, "other")
			harness.Eventually(t, time.Minute, "an answer of the other Gateway", func() error {
				_, err := c.get(t, "http://"+net.JoinHostPort(other, "80")+"/")
				return err
			})
			require.ElementsMatch(t, before, pods())
		}},
		{"the other Gateway deleted", func() {
			c.kubectl(t, "-n", "web", "delete", "gateway", "other")
			require.NoError(t, c.WaitGone(t.Context(), "services", "web", "other-causeway", &corev1.Service{}, time.Minute))
		}},
		{"scaled out", func() {
			c.apply(t, parameters("replicas: 3"))
			c.replicas3(t)
			rolledOut()
		}},
		{"rolled out", func() {
			c.apply(t, parameters("replicas: 3, scheduling: {zones: DoNotSchedule}"))
			harness.Eventually(t, time.Minute, "new pods", func() error {
				if slices.ContainsFunc(before, func(p string) bool { return slices.Contains(pods(), p) }) {
					return fmt.Errorf("%v are still there", before)
				}
				return nil
			})
			rolledOut()
		}},
		{"the control plane restarted", func() {
			c.kubectl(t, "-n", system, "rollout", "restart", "deployment/causeway")
			require.NoError(t, c.WaitDeployment(t.Context(), system, "causeway", 3*time.Minute))
		}},
		{"a DaemonSet", func() {
			c.apply(t, parameters("workload: DaemonSet"))
			harness.Eventually(t, 2*time.Minute, "the DaemonSet in the Deployment's place", func() error {
				out, err := c.run(t, c.root(t), "kubectl", "-n", "web", "get", "daemonset/public-causeway", "-o", "jsonpath={.status.numberAvailable}")
				if err != nil || out != "1" {
					return fmt.Errorf("%s: %w", out, err)
				}
				return nil
			})
			c.kubectl(t, "-n", "web", "wait", "--for=delete", "deployment/public-causeway", "--timeout=60s")
		}},
		{"a Deployment again", func() {
			c.apply(t, parameters("replicas: 1"))
			harness.Eventually(t, 2*time.Minute, "the Deployment in the DaemonSet's place", func() error {
				out, err := c.run(t, c.root(t), "kubectl", "-n", "web", "get", "daemonset", "-o", "name")
				if err != nil || out != "" {
					return fmt.Errorf("%s: %w", out, err)
				}
				return nil
			})
			rolledOut()
		}},
	} {
		step.do()
		r := c.load(t, load)
		require.Zerof(t, r.Failed, "%s: %+v", step.name, r.Failures)
		t.Logf("%s: %d requests, none failed", step.name, r.Sent)
	}
	c.await(t, load, c.load(t, load).Sent+500)
	r := c.load(t, load)
	require.Zero(t, r.Failed, "%+v", r.Failures)
	t.Logf("%d requests, %d failed; p50 %s, p99 %s", r.Sent, r.Failed, r.P50, r.P99)
	require.Equal(t, address, c.programmed(t, "public"), "the address has never changed")

	// A Gateway that goes takes all with it.
	c.kubectl(t, "-n", "web", "delete", "gateway", "public")
	harness.Eventually(t, 2*time.Minute, "nothing to be left", func() error {
		if left := c.kubectl(t, "-n", "web", "get", "all,serviceaccounts,poddisruptionbudgets", "-l", "app.kubernetes.io/managed-by=causeway.dev", "-o", "name", "--ignore-not-found"); left != "" {
			return fmt.Errorf("%s", left)
		}
		return nil
	})
}

// addGateways makes the kustomization one with the right to make proxies, and a client rule for them.
func (c *onCluster) addGateways(t *testing.T, dir string) {
	t.Helper()
	file := filepath.Join(dir, "mesh", "kustomization.yaml")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	if !strings.Contains(string(text), "\ncomponents:\n") {
		text = append(text, "components:\n"...)
	}
	with := strings.Replace(string(text), "\ncomponents:\n", "\ncomponents:\n- ../manifests/gateways\n", 1)
	require.NoError(t, os.WriteFile(file, []byte(with), 0o644))
}

// programmed waits until a Gateway is in force, and returns its address.
func (c *onCluster) programmed(t *testing.T, name string) string {
	t.Helper()
	var g gatewayv1.Gateway
	harness.Eventually(t, 2*time.Minute, "Gateway "+name+" in force", func() error {
		out, err := c.run(t, c.root(t), "kubectl", "-n", "web", "get", "gateway", name, "-o", "json")
		if err != nil {
			return fmt.Errorf("%s: %w", out, err)
		}
		g = gatewayv1.Gateway{}
		if err := json.Unmarshal([]byte(out), &g); err != nil {
			return err
		}
		if p := apimeta.FindStatusCondition(g.Status.Conditions, "Programmed"); p == nil || p.Status != metav1.ConditionTrue || p.ObservedGeneration != g.Generation {
			return fmt.Errorf("%+v", g.Status.Conditions)
		}
		return nil
	})
	require.Len(t, g.Status.Addresses, 1)
	return g.Status.Addresses[0].Value
}

// replicas3 waits until the Deployment is to have three.
func (c *onCluster) replicas3(t *testing.T) {
	t.Helper()
	harness.Eventually(t, time.Minute, "three replicas to be wanted", func() error {
		var d *appsv1.Deployment
		d, err := c.client.AppsV1().Deployments("web").Get(t.Context(), "public-causeway", metav1.GetOptions{})
		if err == nil && *d.Spec.Replicas != 3 {
			err = fmt.Errorf("%d", *d.Spec.Replicas)
		}
		return err
	})
}

// parameters are those of the class causeway.
func parameters(more string) string {
	return `
apiVersion: mesh.causeway.dev/v1alpha1
kind: GatewayParameters
metadata: {name: causeway, namespace: causeway-system}
spec: {managed: true, image: "` + cluster.AgentImage + `", imagePullPolicy: Never, service: {type: ClusterIP}, resources: {requests: {cpu: 10m, memory: 64Mi}},
  drain: {healthWait: 3s, timeout: 10s}, ` + more + `}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: causeway}
spec:
  controllerName: mesh.causeway.dev/controller
  parametersRef: {group: mesh.causeway.dev, kind: GatewayParameters, name: causeway, namespace: causeway-system}
`
}

// gateway is a Gateway with a route to the Service users.
func gateway(name, listeners string) string {
	return fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: %s, namespace: web}
spec:
  gatewayClassName: causeway
  listeners: [%s]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %s, namespace: web}
spec:
  parentRefs: [{name: %s}]
  rules: [{backendRefs: [{name: users, port: 80}]}]
`, name, listeners, name, name)
}
