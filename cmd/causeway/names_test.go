package main

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery/file"
)

func TestNamespaceFlag(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ namespace, arg, want, err string }{
		{"", "web/php-web", "web/php-web", ""},
		{"web", "php-web", "web/php-web", ""},
		{"web", "web/php-web", "web/php-web", ""},
		{"shop", "web/php-web", "", "names the namespace web and -n the namespace shop"},
		{"", "php-web", "", "Service php-web: the namespace is missing: write NAMESPACE/php-web, or add -n NAMESPACE"},
		{"", "/php-web", "", "is not NAMESPACE/NAME, such as web/php-web"},
		{"web", "", "", "is not NAMESPACE/NAME, such as web/php-web"},
		{"", "a/b/c", "", "is not NAMESPACE/NAME, such as web/php-web"},
	} {
		key, err := (&namespaceFlag{c.namespace}).key(c.arg, "Service")
		if c.err != "" {
			require.ErrorContains(t, err, c.err, c.arg)
			continue
		}
		require.NoError(t, err, c.arg)
		require.Equal(t, c.want, key.String())
	}
}

// liveDir serves the admin API over a directory, without Envoys.
func liveDir(t *testing.T, dir string) string {
	t.Helper()
	s, err := newServe(&serveOptions{config: dir, xdsListen: defaultXDSListen, adminListen: defaultAdminListen, logLevel: "error"})
	require.NoError(t, err)
	_, err = file.Load(dir, s.catalog)
	require.NoError(t, err)
	require.NoError(t, s.newObserver("here", func() string { return "here" }))
	s.serving.Store(true)
	admin := httptest.NewServer(s.adminHandler())
	t.Cleanup(admin.Close)
	return strings.TrimPrefix(admin.URL, "http://")
}

// Commands that find no object of a name say which one was meant.
func TestCommandsTellTheNameThatWasMeant(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "web.yaml"), []byte(`apiVersion: v1
kind: Service
metadata: {name: php-web, namespace: web, annotations: {mesh.causeway.dev/home: Instances}}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: mesh.causeway.dev/v1alpha1
kind: InstanceGroup
metadata: {name: php-ec2, namespace: web}
spec:
  serviceRef: {name: php-web}
  region: eu-west-1
  selector: {autoScalingGroups: [php]}
  ports: [{name: http, port: 80}]
---
apiVersion: mesh.causeway.dev/v1alpha1
kind: TrafficShift
metadata: {name: php-move, namespace: web}
spec:
  serviceRef: {name: php-web}
  steps: [{percent: "50", hold: 1h}, {percent: "100", hold: 1h}]
`), 0o600))
	address := liveDir(t, dir)
	for line, want := range map[string]string{
		"endpoints web/php-wbe":                "there is no Service web/php-wbe: did you mean web/php-web?",
		"endpoints shop/mysql":                 "there is no Service shop/mysql: 'causeway endpoints' lists them all",
		"shift status web/php-mvoe":            "there is no TrafficShift web/php-mvoe: did you mean web/php-move?",
		"guard release web/php-ec3":            "there is no InstanceGroup web/php-ec3: did you mean web/php-ec2?",
		"guard release web/mysql":              "there is no InstanceGroup web/mysql: name it as NAMESPACE/NAME",
		"explain object service/phpweb -n web": "did you mean web/php-web?",
	} {
		_, err := execute(t, append(strings.Fields(line), "--admin", address)...)
		require.ErrorContains(t, err, want, line)
	}
	for line, want := range map[string]string{
		"explain request --from web/php-web GET http://php-wbe.web/": "did you mean php-web.web?",
		"explain request --from web/php-web GET http://phpweb/":      "did you mean php-web.web?",
	} {
		out, _ := execute(t, append(strings.Fields(line), "--admin", address)...)
		require.Contains(t, out, want, line)
	}
}

// A shell completes the names that the control plane knows, and nothing where none answers.
func TestCompletion(t *testing.T) {
	address := liveDir(t, examples+"shift")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"endpoints", "--admin", address, ""}, "web/php-web\n"},
		{[]string{"endpoints", "--admin", address, "-n", "web", ""}, "php-web\n"},
		{[]string{"shift", "watch", "--admin", address, ""}, "web/php-web\n"},
		{[]string{"shift", "rollback", "--admin", address, "-n", "web", "php"}, "php-web\n"},
	} {
		out, err := execute(t, append([]string{"__complete"}, c.args...)...)
		require.NoError(t, err)
		require.Contains(t, "\n"+out, "\n"+c.want, "%v", c.args)
		require.NotContains(t, out, "ERROR")
	}
	out, err := execute(t, "__complete", "endpoints", "--admin", "127.0.0.1:1", "")
	require.NoError(t, err)
	require.NotContains(t, out, "/")
}

// What the first screen tells a newcomer to run, works, and in that order.
func TestFirstSteps(t *testing.T) {
	out, err := execute(t, "--help")
	require.NoError(t, err)
	require.Contains(t, out, "\n  causeway validate manifests/examples/first-steps\n")
	out, err = execute(t, "validate", examples+"first-steps")
	require.NoError(t, err, out)
	address := liveDir(t, examples+"first-steps")
	out, err = execute(t, "endpoints", "web/hello", "--admin", address)
	require.NoError(t, err)
	require.Contains(t, out, "127.0.0.1:8081")
	out, err = execute(t, "explain", "request", "--config", examples+"first-steps", "--from", "web/cron", "GET", "http://hello.web/")
	require.NoError(t, err, out)
	envoy := filepath.Join(t.TempDir(), "envoy.yaml")
	out, err = execute(t, "bootstrap", "--namespace", "web", "--workload", "cron", "--id", "i-1")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(envoy, []byte(out), 0o600))
	out, err = execute(t, "--version")
	require.NoError(t, err)
	require.Equal(t, "causeway version dev\n", out)
}
