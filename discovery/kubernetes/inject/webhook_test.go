package inject

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery/kubernetes/rotate"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/kubetest"
)

var pool = &kubetest.Pool{Prepare: func(t harness.TB, k *kubetest.Kube) {
	root, err := harness.Root()
	if err != nil {
		t.Fatalf("%v", err)
	}
	for _, file := range []string{"install/namespace.yaml", "install/rbac.yaml", "inject/rbac.yaml"} {
		k.Apply(t, filepath.Join(root, "manifests", file))
	}
}}

func TestMain(m *testing.M) { kubetest.Main(m, pool) }

// replica is a webhook as a replica of the control plane has it, with the rights of the manifests.
type replica struct {
	*Webhook
	address  string
	registry *prometheus.Registry
}

func newReplica(t *testing.T, k *kubetest.Kube, address string) *replica {
	t.Helper()
	file := filepath.Join(t.TempDir(), "inject.yaml")
	require.NoError(t, os.WriteFile(file, []byte(usual), 0o600))
	r := &replica{registry: prometheus.NewRegistry()}
	w, err := NewWebhook(Options{
		Rest: k.ServiceAccountConfig(t, "causeway-system", "causeway"), File: file, Namespace: "causeway-system", Version: "v0.2.0",
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Registry: r.registry,
	})
	require.NoError(t, err)
	w.keeper.rotation.Names, w.keeper.every = []string{"localhost"}, 50*time.Millisecond
	r.Webhook = w
	l, err := net.Listen("tcp", address)
	require.NoError(t, err)
	r.address = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
	})
	return r
}

// register applies the manifest of the webhook, with an address on loopback for its Service.
func register(t *testing.T, k *kubetest.Kube, address string) {
	t.Helper()
	root, err := harness.Root()
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(root, "manifests", "inject", "webhook.yaml"))
	require.NoError(t, err)
	const service = "{service: {name: causeway-inject, namespace: causeway-system, path: /inject, port: 443}}"
	_, port, _ := net.SplitHostPort(address)
	require.Equal(t, 2, strings.Count(string(text), service))
	k.ApplyYAML(t, strings.ReplaceAll(string(text), service, `{url: "https://localhost:`+port+Path+`"}`))
}

func newPod(name string, labels map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		// The API server here has no admission that says so for pods that name none.
		Spec: corev1.PodSpec{ServiceAccountName: "default", Containers: []corev1.Container{{Name: "php", Image: "php"}}},
	}
}

// With the real API server: who has opted in is injected and nobody else, a refusal reads as kubectl shows it, and
// certificates are renewed while pods are made.
func TestWebhook(t *testing.T) {
	t.Parallel()
	k := pool.Take(t)
	r := newReplica(t, k, "127.0.0.1:0")
	register(t, k, r.address)
	k.ApplyYAML(t, usualNamespace+"---\napiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n"+
		"---\napiVersion: v1\nkind: Namespace\nmetadata: {name: strict, labels: {mesh.causeway.dev/inject: enabled, pod-security.kubernetes.io/enforce: restricted}}\n")
	client := k.Client(t)
	create := func(namespace string, pod *corev1.Pod) (*corev1.Pod, error) {
		return client.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{})
	}
	names := func(p *corev1.Pod) (out []string) {
		for _, c := range p.Spec.InitContainers {
			out = append(out, c.Name)
		}
		return out
	}
	var got *corev1.Pod
	harness.Eventually(t, 20*time.Second, "the API server to trust the webhook", func() (err error) {
		got, err = create("web", newPod("php-web", nil))
		return err
	})
	require.Equal(t, []string{CaptureName, ProxyName}, names(got))
	require.Equal(t, "v0.2.0", got.Annotations[AnnotationInjected])
	require.Equal(t, corev1.ContainerRestartPolicyAlways, *got.Spec.InitContainers[1].RestartPolicy)

	for _, c := range []struct {
		namespace, name, label string
		injected               bool
	}{
		{"web", "out", "false", false}, {"other", "plain", "", false}, {"other", "in", "true", true}, {"kube-system", "system", "true", false}, {"web", "in", "true", true},
	} {
		labels := map[string]string{}
		if c.label != "" {
			labels[Label] = c.label
		}
		got, err := create(c.namespace, newPod(c.name, labels))
		require.NoError(t, err)
		require.Equal(t, c.injected, len(got.Spec.InitContainers) > 0, c)
	}

	host := newPod("host", nil)
	host.Spec.HostNetwork = true
	_, err := create("web", host)
	require.EqualError(t, err, `admission webhook "pods.inject.mesh.causeway.dev" denied the request: pod web/host: it has hostNetwork: true, and what is captured there is the node's: `+
		`have the node itself join as a host, or leave the pod out of the mesh with the label mesh.causeway.dev/inject: "false"`)

	// Explicit mode passes PodSecurity "restricted", which the API server looks at after the webhook.
	strict := newPod("strict", nil)
	strict.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsNonRoot: new(true), RunAsUser: new(int64(1000)), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}}
	strict.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}}
	_, err = create("strict", strict.DeepCopy())
	require.ErrorContains(t, err, `its namespace enforces PodSecurity "restricted": annotate the pod`)
	strict.Annotations = map[string]string{AnnotationCapture: "none"}
	got, err = create("strict", strict)
	require.NoError(t, err)
	require.Equal(t, []string{ProxyName}, names(got))

	// What comes back, made again, is as it is: the webhook leaves it.
	again := got.DeepCopy()
	again.ObjectMeta = metav1.ObjectMeta{Name: "again", Annotations: got.Annotations}
	got, err = create("strict", again)
	require.NoError(t, err)
	require.Equal(t, []string{ProxyName}, names(got))
	require.Equal(t, 4, int(testutil.ToFloat64(r.handler.decided.WithLabelValues("injected"))))
	require.Equal(t, 2, int(testutil.ToFloat64(r.handler.decided.WithLabelValues("refused"))))
}

// Certificates are renewed again and again while pods are made, by two replicas, and no call fails.
func TestRotationUnderLoad(t *testing.T) {
	t.Parallel()
	k := pool.Take(t)
	first := newReplica(t, k, "127.0.0.1:0")
	second := newReplica(t, k, "127.0.0.1:0")
	// What a Service does, one after the other.
	var turn atomic.Int32
	front, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var open sync.WaitGroup
	t.Cleanup(func() { _ = front.Close(); open.Wait() })
	open.Go(func() {
		for {
			conn, err := front.Accept()
			if err != nil {
				return
			}
			open.Go(func() { forward(t.Context(), conn, []string{first.address, second.address}[turn.Add(1)%2]) })
		}
	})
	register(t, k, front.Addr().String())
	k.ApplyYAML(t, usualNamespace)
	client := k.Client(t)
	harness.Eventually(t, 20*time.Second, "the API server to trust the webhook", func() error {
		_, err := client.CoreV1().Pods("web").Create(t.Context(), newPod("first", nil), metav1.CreateOptions{})
		return err
	})
	// From here on every certificate is due at once. API servers learn a CA within the time to settle.
	for _, r := range []*replica{first, second} {
		r.keeper.mu.Lock()
		r.keeper.rotation.RenewBefore, r.keeper.rotation.Settle = 2*rotate.Lifetime, 1500*time.Millisecond
		r.keeper.mu.Unlock()
	}
	served := func(address string) string {
		conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // which one it is is asked
		require.NoError(t, err)
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	seen := map[string]bool{served(first.address): true}
	made := 0
	for deadline := time.Now().Add(90 * time.Second); len(seen) < 3 || served(second.address) != served(first.address); made++ {
		require.True(t, time.Now().Before(deadline), "%d certificates after %d pods", len(seen), made)
		got, err := client.CoreV1().Pods("web").Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "php-"}, Spec: corev1.PodSpec{ServiceAccountName: "default", Containers: []corev1.Container{{Name: "php", Image: "php"}}},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
		require.Len(t, got.Spec.InitContainers, 2)
		seen[served(first.address)] = true
	}
	t.Logf("%d pods by %d certificates", made, len(seen))
}

// forward joins two connections until one or the context ends: the API server keeps one that it does not use.
func forward(ctx context.Context, conn net.Conn, to string) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	up, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer up.Close()
	done := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{up, conn}, {conn, up}} {
		go func() {
			_, _ = io.Copy(pair[0], pair[1])
			done <- struct{}{}
		}()
	}
	<-done
}

func testHandler(tb testing.TB) *Handler {
	tb.Helper()
	c, err := ParseConfig([]byte(usual), "causeway-system", "v0.2.0")
	require.NoError(tb, err)
	return NewHandler(func() *Config { return c }, func(_ context.Context, name string) (Namespace, error) {
		if name == "broken" {
			return Namespace{}, errors.New("the API server is away")
		}
		return Namespace{Name: name, Labels: map[string]string{Label: Enabled}}, nil
	}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
}

func ask(h http.Handler, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, Path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const reviewText = `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u1","kind":{"group":"","version":"v1","kind":"Pod"},` +
	`"operation":"CREATE","namespace":"web","object":{"metadata":{"generateName":"a-"},"spec":{"containers":[{"name":"a"}]}}}}`

// What is no review of a pod's creation is refused or allowed, and never more than 4 MiB are read.
func TestReviews(t *testing.T) {
	t.Parallel()
	h := testHandler(t)
	for name, c := range map[string]struct {
		body   string
		status int
		want   string
	}{
		"a pod":              {reviewText, 200, `"uid":"u1","allowed":true,"patch":`},
		"a namespace away":   {strings.Replace(reviewText, `"web"`, `"broken"`, 1), 200, `pod broken/a-*: its namespace cannot be read: the API server is away`},
		"another operation":  {strings.Replace(reviewText, "CREATE", "UPDATE", 1), 200, `"uid":"u1","allowed":true}`},
		"another kind":       {strings.Replace(reviewText, `"kind":"Pod"`, `"kind":"Node"`, 1), 200, `"allowed":true}`},
		"another version":    {strings.Replace(reviewText, "admission.k8s.io/v1", "admission.k8s.io/v1beta1", 1), 400, "admission.k8s.io/v1"},
		"no request":         {`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`, 400, "with a request"},
		"no JSON":            {"{", 400, "not an AdmissionReview"},
		"a pod that is none": {strings.Replace(reviewText, `"containers":[`, `"containers":7,"x":[`, 1), 200, "the pod cannot be read"},
		"too large":          {strings.Repeat(" ", maxReview+1), 413, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := ask(h, c.body)
			require.Equal(t, c.status, w.Code, w.Body.String())
			require.Contains(t, w.Body.String(), c.want)
		})
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, Path, http.NoBody))
	require.Equal(t, http.StatusUnsupportedMediaType, w.Code)
}

// A configuration that breaks while the webhook runs leaves the one before in force.
func TestConfigFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "inject.yaml")
	write := func(text string) { require.NoError(t, os.WriteFile(path, []byte(text), 0o600)) }
	f := &configFile{path: path, log: slog.New(slog.DiscardHandler)}
	require.ErrorContains(t, f.load(), "--inject-config: ")
	write(usual)
	require.NoError(t, f.load())
	write("image: [")
	require.Contains(t, f.current().Image, "v0.2.0")
	write(strings.Replace(usual, "v0.2.0", "v0.3.0", 1))
	require.Contains(t, f.current().Image, "v0.3.0")
	require.NoError(t, os.Remove(path))
	require.Contains(t, f.current().Image, "v0.3.0")
}

// Whatever comes, the answer is one, and of the request that was asked.
func FuzzReview(f *testing.F) {
	f.Add(reviewText)
	f.Add(strings.Replace(reviewText, `"spec":{`, `"spec":{"hostNetwork":true,"volumes":null,`, 1))
	h := testHandler(f)
	f.Fuzz(func(t *testing.T, body string) {
		w := ask(h, body)
		if w.Code == http.StatusOK {
			require.Contains(t, w.Body.String(), `"response":{"uid":`)
		}
	})
}
