package e2e_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery/kubernetes/inject"
	"github.com/causeway-mesh/causeway/test/cluster"
	"github.com/causeway-mesh/causeway/test/harness"
)

// A PHP application of a Deployment becomes a member of the mesh by a label of its namespace and a
// rollout, leaves it and comes back, under load: nothing of the application changes, and no request fails.
func TestMembership(t *testing.T) {
	c := attach(t)
	dir := c.userDirectory(t)
	c.removeRest(t, dir)
	c.addInjection(t, dir)
	c.withoutRules(t, dir)
	c.install(t, dir)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s", c.kubectl(t, "get", "pods,endpointslices,events", "-A", "-o", "wide"))
			t.Logf("%s", c.kubectl(t, "-n", "web", "logs", "-l", "part=application", "--all-containers", "--prefix", "--tail=15"))
			t.Logf("%s", c.kubectl(t, "-n", system, "logs", "-l", "app.kubernetes.io/name=causeway", "--tail=30"))
		}
		c.removeRest(t, dir)
	})
	c.apply(t, strings.Replace(web, ", labels: {pod-security.kubernetes.io/enforce: restricted}", "", 1))
	c.apply(t, front)
	for _, name := range []string{"users", "front"} {
		require.NoError(t, c.WaitDeployment(t.Context(), "web", name, 2*time.Minute))
	}
	until, rate := int64(10_000), "100"
	if os.Getenv("CAUSEWAY_SOAK") != "" {
		until, rate = 100_000, "200"
	}
	c.apply(t, strings.Replace(frontLoad, "--rate=100", "--rate="+rate, 1))
	require.NoError(t, c.WaitPod(t.Context(), "web", "load", time.Minute))
	load := c.pod(t, "app=load")
	require.True(t, injected(&load))
	alone := c.pod(t, "app=front")
	require.False(t, injected(&alone))

	type step struct {
		name string
		do   func()
		want bool // whether the application is a member after it
	}
	steps := []step{
		{"joined", func() {
			c.kubectl(t, "label", "namespace", "web", "mesh.causeway.dev/inject=enabled")
			out, err := c.causeway(t, dir, "check")
			require.Error(t, err, out)
			require.Contains(t, strings.Join(strings.Fields(out), " "), "2 pods of web/front are not members: it was made without its sidecar: before its label, or while the webhook was away kubectl -n web rollout restart deployment/front")
			c.kubectl(t, "-n", "web", "rollout", "restart", "deployment/front")
		}, true},
		{"its callee rolled out", func() { c.kubectl(t, "-n", "web", "set", "env", "deployment/users", "VERSION=2") }, true},
		{"evicted", func() { c.evict(t, "app=front"); c.evict(t, "app=users") }, true},
		{"scaled out", func() { c.kubectl(t, "-n", "web", "scale", "deployment/front", "deployment/users", "--replicas=3") }, true},
		{"scaled in", func() { c.kubectl(t, "-n", "web", "scale", "deployment/front", "deployment/users", "--replicas=2") }, true},
		{"the control plane restarted", func() { c.kubectl(t, "-n", system, "rollout", "restart", "deployment/causeway") }, true},
		{"left", func() {
			c.shell(t, dir, "kubectl label namespace web mesh.causeway.dev/inject-; kubectl -n web rollout restart deployment/front")
		}, false},
		{"came back", func() {
			c.shell(t, dir, "kubectl label namespace web mesh.causeway.dev/inject=enabled; kubectl -n web rollout restart deployment/front")
		}, true},
	}
	run := func(step step) {
		step.do()
		for _, d := range [][2]string{{"web", "front"}, {"web", "users"}, {system, "causeway"}} {
			require.NoErrorf(t, c.WaitDeployment(t.Context(), d[0], d[1], 3*time.Minute), "%s", step.name)
		}
		pod := c.pod(t, "app=front")
		require.Equal(t, step.want, injected(&pod), step.name)
		require.Equal(t, withoutToken(alone.Spec.Containers), withoutToken(pod.Spec.Containers), "nothing of the application changes")
		if step.want {
			harness.Eventually(t, 20*time.Second, "the application's calls to go by its sidecar", func() error { return c.calls(t, &pod, "web/users") })
			c.certified(t, &pod)
		}
		r := c.load(t, load.Status.PodIP)
		require.Zerof(t, r.Failed, "%s: %+v", step.name, r)
		t.Logf("%s: %d requests, none failed", step.name, r.Sent)
	}
	for _, s := range steps {
		run(s)
	}
	for until > 10_000 && c.load(t, load.Status.PodIP).Sent < until {
		for _, s := range steps[1:] {
			run(s)
		}
	}
	// The callees are members by the rollout of before, and nobody is missing.
	harness.Eventually(t, 30*time.Second, "all to be members", func() error {
		out, err := c.causeway(t, dir, "check")
		if err != nil || !strings.Contains(out, "and none is missing") {
			return fmt.Errorf("%s: %w", out, err)
		}
		return nil
	})
	out, err := c.causeway(t, dir, "members", "--kubeconfig", c.Kubeconfig())
	require.NoError(t, err, out)
	require.Regexp(t, `sidecar~web~front~\S+ +web/front .* pod +ready`, out)
	require.NotContains(t, out, "no member")
	t.Logf("%s", out)

	c.await(t, load.Status.PodIP, until)
	r := c.load(t, load.Status.PodIP)
	t.Logf("%d requests, %d failed; p50 %s, p99 %s", r.Sent, r.Failed, r.P50, r.P99)
	require.Zero(t, r.Failed, "%+v", r.Failures)
	c.kills(t, load.Status.PodIP)
}

// certified waits until the agent of a pod has the certificate of its service account.
func (c *onCluster) certified(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	want := `"spiffe://cluster.local/ns/web/sa/` + pod.Spec.ServiceAccountName + `"`
	harness.Eventually(t, 60*time.Second, "a certificate of "+pod.Name, func() error {
		out, err := c.run(t, c.root(t), "kubectl", "-n", "web", "exec", pod.Name, "-c", inject.ProxyName, "--", "/usr/local/bin/causeway", "identity", "-o", "json")
		if err != nil || !strings.Contains(out, want) || !strings.Contains(out, "token of the pod web/"+pod.Name) {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// addInjection makes the kustomization one with the webhook, as docs/members.md tells.
func (c *onCluster) addInjection(t *testing.T, dir string) {
	t.Helper()
	file := filepath.Join(dir, "mesh", "kustomization.yaml")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	document, err := os.ReadFile(filepath.Join(c.root(t), "docs", "members.md"))
	require.NoError(t, err)
	component := regexp.MustCompile("(?s)```yaml\n(components:\n.*?)```").FindSubmatch(document)
	require.NotNil(t, component)
	require.NoError(t, os.WriteFile(file, append(text, strings.Replace(string(component[1]), "github.com/causeway-mesh/causeway/manifests/inject?ref=v0.2.0", "../manifests/inject", 1)...), 0o644))
	config := "image: " + cluster.AgentImage + "\nserviceCIDRs: [" + cluster.ServiceRange + "]\nimagePullPolicy: Never\nresources: {requests: {cpu: 10m, memory: 64Mi}}\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "mesh", "inject.yaml"), []byte(config), 0o644))
}

// withoutRules takes the client rules out of the kustomization.
func (c *onCluster) withoutRules(t *testing.T, dir string) {
	t.Helper()
	file := filepath.Join(dir, "mesh", "kustomization.yaml")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(text), "- client-rules.yaml\n")
	require.NoError(t, os.WriteFile(file, []byte(strings.Replace(string(text), "- client-rules.yaml\n", "", 1)), 0o644))
}

// identity gives the pods of the namespace web a certificate, by the documented commands.
func (c *onCluster) identity(t *testing.T, dir string) {
	t.Helper()
	c.shell(t, dir, strings.Replace(c.commands(t, "kubernetes.md", "## Certificates", "proxy.csr"), "causeway bootstrap", "true", 1))
	for _, name := range []string{"php-web-mesh-tls", "causeway-proxy-tls"} {
		c.shell(t, dir, "kubectl -n web create secret generic "+name+" --from-file=tls.crt=proxy.crt --from-file=tls.key=proxy.key --from-file=ca.crt")
	}
}

// pod is one of the running pods with a label.
func (c *onCluster) pod(t *testing.T, label string) corev1.Pod {
	t.Helper()
	pods, err := c.client.CoreV1().Pods("web").List(t.Context(), metav1.ListOptions{LabelSelector: label})
	require.NoError(t, err)
	for _, p := range pods.Items {
		if p.DeletionTimestamp == nil && p.Status.Phase == corev1.PodRunning {
			return p
		}
	}
	t.Fatalf("no pod %s runs", label)
	return corev1.Pod{}
}

// evict evicts a pod as a drained node does.
func (c *onCluster) evict(t *testing.T, label string) {
	t.Helper()
	pod := c.pod(t, label)
	require.NoError(t, c.client.PolicyV1().Evictions("web").Evict(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace}}))
	require.NoError(t, c.WaitGone(t.Context(), "pods", "web", pod.Name, &corev1.Pod{}, time.Minute))
}

func injected(pod *corev1.Pod) bool { return pod.Annotations["mesh.causeway.dev/injected"] != "" }

// withoutToken is containers without the mount of their token, whose volume has another name in each pod.
func withoutToken(containers []corev1.Container) []corev1.Container {
	out := make([]corev1.Container, len(containers))
	for i := range containers {
		containers[i].DeepCopyInto(&out[i])
		out[i].VolumeMounts = nil
	}
	return out
}

// calls reports whether a pod's sidecar has sent requests to a Service.
func (c *onCluster) calls(t *testing.T, pod *corev1.Pod, service string) error {
	t.Helper()
	metrics, err := c.get(t, "http://"+net.JoinHostPort(pod.Status.PodIP, "15020")+"/metrics")
	if err != nil {
		return err
	}
	for _, m := range regexp.MustCompile(`(?m)^envoy_cluster_upstream_rq_completed\{.*"[^"]*`+regexp.QuoteMeta(service)+`[^"]*".*\} (\d+)$`).FindAllStringSubmatch(metrics, -1) {
		if n, err := strconv.Atoi(m[1]); err == nil && n > 0 {
			return nil
		}
	}
	return fmt.Errorf("pod %s has sent nothing to %s", pod.Name, service)
}

// front is a PHP application that asks a Service by its name, with PHP's own streams.
const front = `
apiVersion: v1
kind: ConfigMap
metadata: {name: front, namespace: web}
data:
  index.php: |
    <?php
    if ($_SERVER['REQUEST_URI'] === '/healthz') {
        echo "ok\n";
        return;
    }
    $answer = @file_get_contents('http://users.web.svc.cluster.local/hello');
    if ($answer === false) {
        http_response_code(502);
        error_log('users: ' . (error_get_last()['message'] ?? 'unknown'));
        return;
    }
    header('Content-Type: application/json');
    echo $answer;
---
apiVersion: v1
kind: Service
metadata: {name: front, namespace: web}
spec: {selector: {app: front}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: front, namespace: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: front}}
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  template:
    metadata: {labels: {app: front, part: application}}
    spec:
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 20
      securityContext: {runAsNonRoot: true, runAsUser: 65532, runAsGroup: 65532, fsGroup: 65532, seccompProfile: {type: RuntimeDefault}}
      containers:
      - name: nginx
        image: ` + cluster.PHPImage + `
        imagePullPolicy: Never
        command: [/usr/sbin/nginx, -e, stderr, -c, /etc/nginx/nginx.conf]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1, timeoutSeconds: 5}
        lifecycle: {preStop: {sleep: {seconds: 3}}} # until no caller sends any more
        volumeMounts: [{name: tmp, mountPath: /tmp}]
      - name: php-fpm
        image: ` + cluster.PHPImage + `
        imagePullPolicy: Never
        command: [/usr/sbin/php-fpm, -F, -y, /etc/php-fpm.conf]
        lifecycle: {preStop: {sleep: {seconds: 4}}}
        volumeMounts: [{name: tmp, mountPath: /tmp}, {name: program, mountPath: /srv}]
      volumes:
      - {name: tmp, emptyDir: {medium: Memory}}
      - {name: program, configMap: {name: front}}
`

// frontLoad is a member itself: what the mesh does for its callers is counted too.
const frontLoad = `
apiVersion: v1
kind: Pod
metadata: {name: load, namespace: web, labels: {app: load, part: application, mesh.causeway.dev/inject: "true"}}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: load
    image: ` + cluster.WorkloadImage + `
    imagePullPolicy: Never
    args: [load, "--url=http://front.web.svc.cluster.local:80/", --rate=100]
`
