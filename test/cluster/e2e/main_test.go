// Package e2e_test runs Causeway on the real cluster of test/cluster: `make e2e-cluster`.
package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/causeway-mesh/causeway/test/cluster"
	"github.com/causeway-mesh/causeway/test/harness"
)

// onCluster is what a test on the cluster uses.
type onCluster struct {
	*cluster.Cluster
	client kubernetes.Interface
}

// attach takes the cluster, or skips the test where none is asked for.
func attach(t *testing.T) *onCluster {
	t.Helper()
	if os.Getenv("CAUSEWAY_E2E_CLUSTER") == "" {
		t.Skip("it needs a cluster: run `make e2e-cluster`")
	}
	c := cluster.Attach(t)
	client, err := c.Client()
	require.NoError(t, err)
	return &onCluster{Cluster: c, client: client}
}

// apply applies a YAML text.
func (c *onCluster) apply(t *testing.T, text string) {
	t.Helper()
	_, err := c.Apply(text)
	require.NoErrorf(t, err, "%s", text)
}

// http is a client in the cluster's network.
func (c *onCluster) http() *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: c.Dial, DisableKeepAlives: true}}
}

// get asks a URL of the cluster's network.
func (c *onCluster) get(t *testing.T, url string) (string, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	answer, err := c.http().Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", answer.Status, body)
	}
	return string(body), err
}

// The cluster runs pods under PodSecurity restricted, with names and Services, and nothing of
// it reaches this machine or what is beyond.
func TestCluster(t *testing.T) {
	c := attach(t)
	const namespace = "smoke"
	c.apply(t, smoke)
	t.Cleanup(func() {
		require.NoError(t, c.client.CoreV1().Namespaces().Delete(context.Background(), namespace, metav1.DeleteOptions{}))
		require.NoError(t, c.WaitGone(context.Background(), "namespaces", "", namespace, &corev1.Namespace{}, time.Minute))
	})
	require.NoError(t, c.WaitPod(t.Context(), namespace, "server", time.Minute))

	pod, err := c.client.CoreV1().Pods(namespace).Get(t.Context(), "server", metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, cluster.Zone, pod.Labels["topology.kubernetes.io/zone"], "the node's zone is the pod's")
	body, err := c.get(t, "http://"+net.JoinHostPort(pod.Status.PodIP, "8080")+"/by-address")
	require.NoError(t, err)
	require.Contains(t, body, "/by-address")
	service, err := c.client.CoreV1().Services(namespace).Get(t.Context(), "server", metav1.GetOptions{})
	require.NoError(t, err)
	harness.Eventually(t, 20*time.Second, "the Service to answer", func() error {
		_, err := c.get(t, "http://"+service.Spec.ClusterIP+"/")
		return err
	})

	// By its name, and by its Service's address from a pod beside it.
	c.ask(t, namespace, "by-name", "http://server.smoke.svc.cluster.local/by-name", corev1.PodSucceeded, "/by-name")

	// Nothing leads out: not from the node, nor from a pod.
	for i, address := range []string{"192.0.2.1:80", "169.254.169.254:80", "10.0.0.1:53"} {
		_, err := c.Dial(t.Context(), "tcp", address)
		require.ErrorContains(t, err, "network is unreachable")
		c.ask(t, namespace, fmt.Sprintf("outside-%d", i), "http://"+address+"/", corev1.PodFailed, "unreachable")
	}
}

// ask has a pod ask a URL once, and compares how the pod ends and what it prints.
func (c *onCluster) ask(t *testing.T, namespace, name, url string, want corev1.PodPhase, prints string) {
	t.Helper()
	c.apply(t, fmt.Sprintf(asking, name, namespace, url))
	require.NoError(t, c.WaitPodPhase(t.Context(), namespace, name, want, time.Minute))
	log, err := c.client.CoreV1().Pods(namespace).GetLogs(name, &corev1.PodLogOptions{}).DoRaw(t.Context())
	require.NoError(t, err)
	require.Contains(t, string(log), prints)
}

const asking = `
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: client
    image: ` + cluster.WorkloadImage + `
    imagePullPolicy: Never
    args: [get, %q]
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
`

const smoke = `
apiVersion: v1
kind: Namespace
metadata: {name: smoke, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: Service
metadata: {name: server, namespace: smoke}
spec: {selector: {app: server}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: smoke, labels: {app: server}}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: server
    image: ` + cluster.WorkloadImage + `
    imagePullPolicy: Never
    args: [serve]
    readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: tmp, mountPath: /tmp}]
  volumes: [{name: tmp, emptyDir: {}}]
`
