package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/test/cluster"
	"github.com/causeway-mesh/causeway/test/harness"
)

const system = "causeway-system"

// An installation's whole life by the commands of docs/kubernetes.md, with the example's own
// kustomization: installed, used by pods, and uninstalled.
func TestInstallation(t *testing.T) {
	c := attach(t)
	dir := c.userDirectory(t)
	c.removeRest(t, dir)
	if !t.Run("Install", func(t *testing.T) {
		c.certificates(t, dir)
		c.install(t, dir)
	}) {
		return
	}
	t.Run("Mesh", func(t *testing.T) { c.mesh(t, dir) })
	t.Run("Dashboard", func(t *testing.T) { c.dashboard(t) })
	t.Run("Uninstall", func(t *testing.T) { c.uninstall(t, dir) })
}

// userDirectory is where a user works: beside the manifests of a release, with a copy of the
// example of an installation and certificates.
func (c *onCluster) userDirectory(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Symlink(filepath.Join(c.root(t), "manifests"), filepath.Join(dir, "manifests")))
	mesh := filepath.Join(dir, "mesh")
	require.NoError(t, os.CopyFS(mesh, os.DirFS(filepath.Join(c.root(t), "manifests", "examples", "install"))))
	file := filepath.Join(mesh, "kustomization.yaml")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.Remove(file)) // what was copied may be read-only
	const manifests = "- github.com/causeway-mesh/causeway/manifests?ref=v0.2.0 # CHANGE\n"
	require.Contains(t, string(text), manifests)
	require.NoError(t, os.WriteFile(file, []byte(strings.Replace(string(text), manifests, "- ../manifests\n", 1)), 0o644))
	return dir
}

// removeRest removes what a run has left that was ended before its end.
func (c *onCluster) removeRest(t *testing.T, dir string) {
	t.Helper()
	namespaces, err := c.client.CoreV1().Namespaces().List(context.WithoutCancel(t.Context()), metav1.ListOptions{})
	require.NoError(t, err)
	for _, n := range namespaces.Items {
		if n.Name == system || n.Name == "web" {
			c.shell(t, dir, "kubectl delete --ignore-not-found -k mesh/; kubectl delete --ignore-not-found -f manifests/install/gatewayclass.yaml; "+
				"kubectl delete --ignore-not-found -f manifests/gateway-api/experimental; kubectl delete namespace web --ignore-not-found")
			return
		}
	}
}

// certificates makes the Secret for proxies with certificates, by the documented commands, before an installation.
func (c *onCluster) certificates(t *testing.T, dir string) {
	t.Helper()
	c.shell(t, dir, c.commands(t, "kubernetes.md", "## Certificates", "causeway-ca"))
	c.shell(t, dir, "kubectl apply --server-side -f manifests/install/namespace.yaml\n"+c.commands(t, "kubernetes.md", "## Certificates", "secret generic causeway-xds-tls"))
}

// install runs the documented commands of a first installation.
func (c *onCluster) install(t *testing.T, dir string) {
	t.Helper()
	commands := c.commands(t, "kubernetes.md", "## First installation")
	require.Contains(t, commands, "kubectl apply --server-side -k mesh/")
	c.shell(t, dir, commands)

	pods, err := c.client.CoreV1().Pods(system).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=causeway"})
	require.NoError(t, err)
	require.Len(t, pods.Items, 2)
	for _, p := range pods.Items {
		require.Equal(t, cluster.CausewayImage, p.Spec.Containers[0].Image)
		require.Zero(t, p.Status.ContainerStatuses[0].RestartCount)
		require.True(t, p.Status.ContainerStatuses[0].Ready)
	}
	harness.Eventually(t, 30*time.Second, "a leader", func() error {
		lease, err := c.client.CoordinationV1().Leases(system).Get(t.Context(), "causeway-leader", metav1.GetOptions{})
		if err == nil && (lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "") {
			err = fmt.Errorf("nobody holds the lease")
		}
		return err
	})
}

// mesh has pods that call a Service's pods by the mesh, while the Service is rolled over.
func (c *onCluster) mesh(t *testing.T, dir string) {
	t.Helper()
	c.apply(t, web)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s", c.kubectl(t, "get", "pods,endpointslices", "-A", "-o", "wide"))
			t.Logf("%s", c.kubectl(t, "-n", "web", "logs", "-l", "app.kubernetes.io/name=php-web", "--all-containers", "--tail=30"))
			t.Logf("%s", c.kubectl(t, "-n", system, "logs", "-l", "app.kubernetes.io/name=causeway", "--tail=30"))
		}
	})
	c.identity(t, dir)
	c.apply(t, c.caller(t))
	for _, name := range []string{"users", "php-web"} {
		require.NoError(t, c.WaitDeployment(t.Context(), "web", name, 2*time.Minute))
	}
	pods, err := c.client.CoreV1().Pods("web").List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=php-web"})
	require.NoError(t, err)
	require.Len(t, pods.Items, 1)
	pod := pods.Items[0]
	require.True(t, slices.ContainsFunc(pod.Status.InitContainerStatuses, func(s corev1.ContainerStatus) bool {
		return s.Name == "agent" && s.Ready && s.RestartCount == 0
	}), "the agent is a sidecar that has not been started again: %+v", pod.Status.InitContainerStatuses)

	// An answer by the mesh comes from PHP in a pod, by Envoy.
	out := c.kubectl(t, "-n", "web", "exec", pod.Name, "-c", "php-web", "--", "/usr/local/bin/workload", "get", "http://users.web.svc.cluster.local/hello")
	require.Contains(t, out, "fpm-fcgi")
	require.Contains(t, out, `"path":"/hello"`)
	metrics, err := c.get(t, "http://"+pod.Status.PodIP+":15020/metrics")
	require.NoError(t, err)
	require.Contains(t, metrics, "causeway_agent_up")

	before := c.load(t, pod.Status.PodIP)
	require.Zero(t, before.Failed, "%+v", before.Failures)
	for version := range 2 {
		c.kubectl(t, "-n", "web", "set", "env", "deployment/users", fmt.Sprintf("VERSION=%d", version+2))
		require.NoError(t, c.WaitDeployment(t.Context(), "web", "users", 3*time.Minute))
	}
	c.await(t, pod.Status.PodIP, before.Sent+600)
	after := c.load(t, pod.Status.PodIP)
	t.Logf("%d requests over two rolling updates, %d failed, by %d pods; p50 %s, p99 %s", after.Sent, after.Failed, len(after.Backends), after.P50, after.P99)
	require.Zero(t, after.Failed, "%+v", after.Failures)
	require.GreaterOrEqual(t, len(after.Backends), 6, "two pods each of three versions: %v", after.Backends)
	require.Greater(t, after.OK, before.OK+500)

	// The caller ends within its grace period, although Envoy is under load until the program has ended.
	began := time.Now()
	c.kubectl(t, "-n", "web", "delete", "deployment/php-web", "--wait=false")
	require.NoError(t, c.WaitGone(t.Context(), "pods", "web", pod.Name, &corev1.Pod{}, time.Minute))
	t.Logf("the caller's pod ended in %s", time.Since(began).Round(100*time.Millisecond))
}

// caller is manifests/install/sidecar.yaml with a load as its program.
func (c *onCluster) caller(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(c.root(t), "manifests", "install", "sidecar.yaml"))
	require.NoError(t, err)
	const program = "        image: registry.example.com/web/php-web:v1\n"
	require.Contains(t, string(text), program)
	return strings.Replace(string(text), program, "        image: "+cluster.WorkloadImage+`
        args: [load, --url=http://users.web.svc.cluster.local/, --rate=100]
`, 1)
}

// uninstall runs the documented commands, after which nothing of Causeway is there.
func (c *onCluster) uninstall(t *testing.T, dir string) {
	t.Helper()
	c.kubectl(t, "delete", "namespace", "web")
	c.shell(t, dir, c.commands(t, "kubernetes.md", "## Uninstall"))

	_, err := c.client.CoreV1().Namespaces().Get(t.Context(), system, metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), "%v", err)
	kinds := strings.Fields(c.kubectl(t, "api-resources", "--verbs=list", "-o", "name"))
	kinds = slices.DeleteFunc(kinds, func(kind string) bool { return strings.HasPrefix(kind, "events") }) // they go after an hour
	for _, kind := range kinds {
		require.NotContains(t, kind, "causeway")
		require.NotContains(t, kind, "gateway.networking.k8s.io")
	}
	left := c.kubectl(t, "get", strings.Join(kinds, ","), "-A", "-o", "name", "--ignore-not-found")
	require.NotContains(t, left, "causeway")
}

// run runs a program in the cluster's network and returns what it printed.
func (c *onCluster) run(t *testing.T, dir, program string, args ...string) (string, error) {
	t.Helper()
	// Also when the test has ended: what it says of a failure is asked for then.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 3*time.Minute)
	defer cancel()
	cmd := c.Command(ctx, program, args...)
	tools := os.Getenv("CAUSEWAY_TOOLS")
	if tools == "" {
		tools = filepath.Join(c.root(t), ".tools")
	}
	cmd.Env = append(cmd.Env, "PATH="+filepath.Join(tools, "bin")+":"+os.Getenv("PATH"))
	var out bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
	if err := c.Start(cmd); err != nil {
		return "", err
	}
	err := cmd.Wait()
	return out.String(), err
}

// kubectl runs kubectl, which has to succeed.
func (c *onCluster) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := c.run(t, c.root(t), "kubectl", args...)
	require.NoErrorf(t, err, "kubectl %s:\n%s", strings.Join(args, " "), out)
	return out
}

// commands returns the shell commands of a section of a document: those of its first block
// in which each of the texts is.
func (c *onCluster) commands(t *testing.T, document, section string, with ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(c.root(t), "docs", document))
	require.NoError(t, err)
	_, after, found := strings.Cut(string(text), "\n"+section+"\n")
	require.Truef(t, found, "%s has no section %q", document, section)
	after, _, _ = strings.Cut(after, "\n## ")
blocks:
	for _, m := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(after, -1) {
		for _, w := range with {
			if !strings.Contains(m[1], w) {
				continue blocks
			}
		}
		return m[1]
	}
	t.Fatalf("%s, %q: no block has %q", document, section, with)
	return ""
}

// shell runs commands as a user would, who stops at the first one that fails.
func (c *onCluster) shell(t *testing.T, dir, commands string) string {
	t.Helper()
	out, err := c.run(t, dir, "bash", "-euxc", commands)
	require.NoErrorf(t, err, "%s", out)
	t.Logf("%s", out)
	return out
}

// load is what the load in a pod has counted.
func (c *onCluster) load(t *testing.T, podIP string) harness.Report {
	t.Helper()
	text, err := c.get(t, "http://"+net.JoinHostPort(podIP, "8090")+"/")
	require.NoError(t, err)
	var r harness.Report
	require.NoErrorf(t, json.Unmarshal([]byte(text), &r), "%s", text)
	return r
}

// root is the folder of the checkout.
func (c *onCluster) root(t *testing.T) string {
	t.Helper()
	root, err := harness.Root()
	require.NoError(t, err)
	return root
}

const web = `
apiVersion: v1
kind: Namespace
metadata: {name: web, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: Service
metadata: {name: users, namespace: web}
spec: {selector: {app: users}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: users, namespace: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: users}}
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  template:
    metadata: {labels: {app: users}}
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
        securityContext: &restricted {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
        volumeMounts: [{name: tmp, mountPath: /tmp}]
      - name: php-fpm
        image: ` + cluster.PHPImage + `
        imagePullPolicy: Never
        command: [/usr/sbin/php-fpm, -F, -y, /etc/php-fpm.conf]
        env:
        - {name: WORKLOAD_PLATFORM, value: pods}
        - {name: WORKLOAD_DIR, value: /tmp}
        - {name: WORKLOAD_ZONE, valueFrom: {fieldRef: {fieldPath: "metadata.labels['topology.kubernetes.io/zone']"}}}
        - {name: WORKLOAD_ID, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        lifecycle: {preStop: {sleep: {seconds: 4}}}
        securityContext: *restricted
        volumeMounts: [{name: tmp, mountPath: /tmp}]
      volumes: [{name: tmp, emptyDir: {medium: Memory}}]
`
