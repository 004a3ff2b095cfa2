package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/causeway-mesh/causeway/xds/admin"
	"github.com/causeway-mesh/causeway/xds/status"
)

// portForwarder is the part of an API server and a kubelet that forwards ports of
// pods to an address, and notes which pod was asked. No kubelet runs in these tests.
func portForwarder(t *testing.T, pods *corev1.PodList, leader, to string, asked *[]string) string {
	t.Helper()
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v) // the client's part of the test fails
	}
	mux.HandleFunc("GET /api/v1/namespaces/{namespace}/pods", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("labelSelector") != "app.kubernetes.io/name=causeway" || r.PathValue("namespace") != "causeway-system" {
			answer(w, &corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}})
			return
		}
		answer(w, pods)
	})
	mux.HandleFunc("GET /apis/coordination.k8s.io/v1/namespaces/causeway-system/leases/causeway-leader", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, &coordinationv1.Lease{TypeMeta: metav1.TypeMeta{Kind: "Lease", APIVersion: "coordination.k8s.io/v1"}, Spec: coordinationv1.LeaseSpec{HolderIdentity: &leader}})
	})
	mux.HandleFunc("/api/v1/namespaces/causeway-system/pods/{pod}/portforward", func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r.PathValue("pod"))
		if _, err := httpstream.Handshake(r, w, []string{"portforward.k8s.io"}); err != nil {
			return
		}
		streams := make(chan httpstream.Stream, 8)
		conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(s httpstream.Stream, replied <-chan struct{}) error {
			streams <- s
			return nil
		})
		if conn == nil {
			return
		}
		defer conn.Close()
		for {
			select {
			case <-conn.CloseChan():
				return
			case s := <-streams:
				if s.Headers().Get(corev1.StreamType) == corev1.StreamTypeError {
					_ = s.Close()
					continue
				}
				if s.Headers().Get(corev1.PortHeader) != "15080" {
					_ = s.Reset()
					continue
				}
				go func() {
					backend, err := net.Dial("tcp", to)
					if err != nil {
						_ = s.Reset()
						return
					}
					go func() { _, _ = io.Copy(backend, s) }()
					_, _ = io.Copy(s, backend)
					_ = backend.Close()
					_ = s.Close()
				}()
			}
		}
	})
	api := httptest.NewServer(mux)
	t.Cleanup(api.Close)
	config := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(config, []byte(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "`+api.URL+`"}}]
contexts: [{name: prod, context: {cluster: c, user: u}}]
users: [{name: u, user: {token: t}}]
current-context: prod
`), 0o600))
	return config
}

func replicaPod(name string, ready bool) corev1.Pod {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "causeway-system"},
		Status:     corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: status}}},
	}
}

// With a cluster, commands reach the admin API of the leader without a
// port-forward that somebody has to start first.
func TestCommandsThroughACluster(t *testing.T) {
	plane := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, "/api/v1/endpoints", r.URL.Path)
		admin.WriteJSON(w, []status.Service{{Service: "web/" + strings.TrimPrefix(r.URL.Query().Get("service"), "web/"), Home: "pods", HomeCause: "told"}})
	}))
	t.Cleanup(plane.Close)
	pods := &corev1.PodList{
		TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"},
		Items:    []corev1.Pod{replicaPod("causeway-a", true), replicaPod("causeway-b", true), replicaPod("causeway-c", false)},
	}
	var asked []string
	config := portForwarder(t, pods, "causeway-b-1", strings.TrimPrefix(plane.URL, "http://"), &asked)
	out, err := execute(t, "endpoints", "php-web", "-n", "web", "--kubeconfig", config, "--context", "prod")
	require.NoError(t, err)
	require.Contains(t, out, "web/php-web   home: pods")
	require.Equal(t, []string{"causeway-b"}, asked)

	pods.Items = pods.Items[2:]
	_, err = execute(t, "endpoints", "--kubeconfig", config)
	require.ErrorContains(t, err, "no pod with app.kubernetes.io/name=causeway in the namespace causeway-system is ready (of 1)")
	_, err = execute(t, "endpoints", "--kubeconfig", config, "--causeway-namespace", "mesh")
	require.ErrorContains(t, err, "name another namespace with --causeway-namespace")
	_, err = execute(t, "endpoints", "--kubeconfig", config, "--context", "nowhere")
	require.ErrorContains(t, err, "nowhere")
}
