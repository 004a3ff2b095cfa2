package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/xds/admin"
	"github.com/causeway-mesh/causeway/xds/server"
)

// Called as kubectl's plugin, the program names what was typed, and its commands mean kubectl's current context.
func TestKubectlPlugin(t *testing.T) {
	plane := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		admin.WriteJSON(w, []server.ProxyStatus{})
	}))
	t.Cleanup(plane.Close)
	var asked []string
	pods := &corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: []corev1.Pod{replicaPod("causeway-a", true)}}
	t.Setenv("KUBECONFIG", portForwarder(t, pods, "", strings.TrimPrefix(plane.URL, "http://"), &asked))
	plugin := func(args ...string) (string, error) {
		var out bytes.Buffer
		c := root()
		asPlugin(c, "/usr/local/bin/kubectl-causeway")
		c.SetOut(&out)
		c.SetErr(&out)
		c.SetArgs(args)
		err := c.ExecuteContext(t.Context())
		return out.String(), err
	}

	out, err := plugin("members", "--help")
	require.NoError(t, err)
	require.Contains(t, out, "  kubectl causeway members [flags]")
	out, err = plugin("--help")
	require.NoError(t, err)
	require.Contains(t, out, "kubectl causeway [command]")
	require.NotRegexp(t, `(^|[^l]) causeway (status|validate|serve)`, out)
	_, err = plugin("proxys")
	require.ErrorContains(t, err, "there is no command 'kubectl causeway proxys': did you mean 'kubectl causeway proxies'?")
	_, err = plugin("diff")
	require.ErrorContains(t, err, "diff takes 1 argument and got none: write 'kubectl causeway diff DIR'")

	_, err = plugin("endpoints")
	require.NoError(t, err)
	require.Equal(t, []string{"causeway-a"}, asked, "by kubectl's context")
	_, err = plugin("endpoints", "--admin", strings.TrimPrefix(plane.URL, "http://"))
	require.NoError(t, err)
	require.Len(t, asked, 1, "at the address")
	_, err = execute(t, "endpoints", "--admin", strings.TrimPrefix(plane.URL, "http://"))
	require.NoError(t, err)

	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	_, err = plugin("endpoints")
	require.ErrorContains(t, err, "there is no kubeconfig file that names a cluster")
}

// The command ends 2 where something of an installation failed, and 1 where the cluster does not answer.
func TestCheck(t *testing.T) {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/version" {
			http.NotFound(w, r)
			return
		}
		admin.WriteJSON(w, map[string]string{"major": "1", "minor": "37", "gitVersion": "v1.37.2"})
	}))
	t.Cleanup(api.Close)
	config := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(config, []byte(`{apiVersion: v1, kind: Config, clusters: [{name: c, cluster: {server: "`+api.URL+`"}}], contexts: [{name: prod, context: {cluster: c}}], current-context: prod}`), 0o600))
	t.Setenv("KUBECONFIG", config)
	out, err := execute(t, "check")
	require.Equal(t, exitFindings, exitCode(err))
	require.Contains(t, out, "  ok         Kubernetes is v1.37.2\n")
	require.Contains(t, out, "  failed     there is no Deployment causeway-system/causeway\n             install it")
	out, err = execute(t, "check", "-o", "json", "--context", "prod")
	require.Equal(t, exitFindings, exitCode(err))
	require.Contains(t, out, `"part": "kubernetes",`)
	require.Contains(t, out, `"verdict": "ok",`)

	api.Close()
	_, err = execute(t, "check")
	require.Equal(t, exitError, exitCode(err))
	require.ErrorContains(t, err, "the cluster's API server")
}
