package file

import (
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/state"
	"github.com/causeway-mesh/causeway/test/harness"
)

const (
	secretYAML = `apiVersion: v1
kind: Secret
metadata: {name: tls, namespace: web}
type: kubernetes.io/tls
stringData:
  tls.crt: chain-bytes
  tls.key: key-bytes
`
	passwordYAML = `apiVersion: v1
kind: Secret
metadata: {name: password, namespace: web}
stringData: {password: key-bytes}
`
	namespaceYAML = `apiVersion: v1
kind: Namespace
metadata: {name: web, labels: {team: shop}}
`
	classYAML = `apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: causeway}
spec: {controllerName: mesh.causeway.dev/controller}
`
	gatewayYAML = `apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: edge
  namespace: web
  annotations: {mesh.causeway.dev/addresses: edge.example.com, other: x}
spec:
  gatewayClassName: causeway
  listeners:
  - name: https
    port: 443
    protocol: HTTPS
    tls: {certificateRefs: [{name: tls}, {name: wildcard, namespace: certs}]}
`
	gatewayPolicyYAML = `apiVersion: mesh.causeway.dev/v1alpha1
kind: GatewayPolicy
metadata: {name: edge, namespace: web}
spec:
  targetRefs: [{name: edge}]
  inFront: [{kind: CloudFront}, {kind: ALB}]
`
)

// What is stored of a file has all its objects on their lines, and no Secret.
func TestWithoutSecrets(t *testing.T) {
	list := `{"apiVersion":"v1","kind":"List","items":[` +
		`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"web"}},` +
		`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"tls"},"stringData":{"a":"key-bytes"}},` +
		`{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Secret","metadata":{"name":"b"},"stringData":{"a":"key-bytes"}}]}]}`
	for name, c := range map[string]struct{ file, text, want string }{
		"none":              {"a.yaml", serviceYAML, serviceYAML},
		"nothing else":      {"a.yaml", secretYAML, ""},
		"of any type":       {"a.yaml", passwordYAML, ""},
		"nothing, twice":    {"a.yaml", secretYAML + "---\n# and\n---\n" + passwordYAML, ""},
		"first":             {"a.yaml", secretYAML + "---\n" + serviceYAML, strings.Repeat("\n", 7) + "---\n" + serviceYAML},
		"last":              {"a.yaml", serviceYAML + "--- # a key\n" + passwordYAML, serviceYAML + "--- " + strings.Repeat("\n", 5)},
		"between":           {"a.yaml", namespaceYAML + "---\n" + secretYAML + "--- \n" + serviceYAML, namespaceYAML + "--- " + strings.Repeat("\n", 8) + "--- \n" + serviceYAML},
		"a kind in escapes": {"a.yaml", strings.Replace(secretYAML, "kind: Secret", `kind: "\x53ecret"`, 1), ""},
		"a kind by alias":   {"a.yaml", strings.NewReplacer("kind: Secret", "kind: *k", "metadata: {", "metadata: {labels: {a: &k Secret}, ").Replace(secretYAML), ""},
		"of a List": {"a.yaml", serviceYAML + "---\n" + list + "\n", serviceYAML +
			`--- {"apiVersion":"v1","items":[{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"web"}}],"kind":"List"}` + "\n\n"},
		"JSON":            {"a.json", "{\n\t\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{\"name\":\"a\"}}", ""},
		"of a List, JSON": {"a.json", list, `{"apiVersion":"v1","items":[{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"web"}}],"kind":"List"}`},
	} {
		t.Run(name, func(t *testing.T) {
			out, problems := decode(c.file, []byte(c.text))
			if name == "a kind by alias" { // an alias before its anchor is none
				require.NotEmpty(t, problems)
				return
			}
			require.Empty(t, problems)
			require.Equal(t, c.want, string(out.lasting))
			checkLasting(t, c.file, out)
			require.NotContains(t, string(out.lasting), "key-bytes")
		})
	}
}

// checkLasting asserts that what may be stored of a file means the same as the
// file, without Secrets.
func checkLasting(t *testing.T, name string, out content) {
	t.Helper()
	want := out.Rows
	want.Objects = nil
	for _, o := range out.Objects {
		if o.Kind != "Secret" {
			want.Objects = append(want.Objects, o)
		}
	}
	if out.lasting == nil {
		require.Empty(t, want)
		return
	}
	again, problems := decode(name, out.lasting)
	require.Empty(t, problems, "%q", out.lasting)
	require.Equal(t, want, again.Rows)
	for object := range again.at {
		require.False(t, strings.HasPrefix(object, "Secret "), object)
	}
	require.Equal(t, out.lasting, again.lasting)
}

// source is a source of files that runs until the test or stop ends it.
func startSource(t *testing.T, dir string, keep LastGood) (cat *catalog.Catalog, stop func()) {
	t.Helper()
	cat = catalog.New()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = New(dir, slog.New(slog.DiscardHandler), keep).Run(ctx, cat)
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return cat, stop
}

func waitFor(t *testing.T, cat *catalog.Catalog, what string, check func(catalog.Reader) bool) {
	t.Helper()
	harness.Eventually(t, 20*time.Second, what, func() error {
		if !check(cat.Read()) {
			return errors.New("not yet")
		}
		return nil
	})
}

// Gateways, their classes, policies and certificates, and what namespaces are
// labelled, work from files, and follow them.
func TestGatewaysInFiles(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	put("edge.yaml", classYAML+"---\n"+gatewayYAML+"---\n"+gatewayPolicyYAML+"---\n"+namespaceYAML)
	put("tls.yaml", secretYAML+"---\n"+passwordYAML)
	cat, _ := startSource(t, dir, nil)
	wait := func(name, what string, check func(*discovery.Object) bool) *discovery.Object {
		t.Helper()
		var row *discovery.Object
		waitFor(t, cat, name+" "+what, func(r catalog.Reader) bool {
			row, _ = catalog.Objects.Get(r, name)
			return check(row)
		})
		return row
	}
	is := func(o *discovery.Object) bool { return o != nil }
	gw := wait("Gateway web/edge", "is read", is)
	require.Equal(t, []discovery.ObjectName{
		{Kind: "GatewayClass", Key: discovery.Key{Name: "causeway"}},
		{Kind: "Secret", Key: discovery.Key{Namespace: "certs", Name: "wildcard"}},
		{Kind: "Secret", Key: discovery.Key{Namespace: "web", Name: "tls"}},
	}, gw.Refs)
	spec := gw.Spec.(*gatewayv1.Gateway)
	require.Equal(t, map[string]string{"mesh.causeway.dev/addresses": "edge.example.com"}, spec.Annotations)
	require.Equal(t, gatewayv1.NamespacesFromSame, *spec.Spec.Listeners[0].AllowedRoutes.Namespaces.From, "the CRD's default")
	require.Equal(t, []discovery.ObjectName{{Kind: "Gateway", Key: discovery.Key{Namespace: "web", Name: "edge"}}}, wait("GatewayPolicy web/edge", "is read", is).Refs)
	wait("GatewayClass causeway", "is read", is)
	require.Equal(t, map[string]string{"team": "shop", "kubernetes.io/metadata.name": "web"}, wait("Namespace web", "is read", is).Spec.(*corev1.Namespace).Labels)
	secret := wait("Secret web/tls", "is read", is).Spec.(*corev1.Secret)
	require.Equal(t, map[string][]byte{"tls.crt": []byte("chain-bytes"), "tls.key": []byte("key-bytes")}, secret.Data)
	_, ok := catalog.Objects.Get(cat.Read(), "Secret web/password")
	require.False(t, ok, "what is no certificate is not kept")

	put("tls.yaml", strings.Replace(secretYAML, "key-bytes", "new-bytes", 1))
	wait("Secret web/tls", "is rotated", func(o *discovery.Object) bool {
		return o != nil && string(o.Spec.(*corev1.Secret).Data["tls.key"]) == "new-bytes"
	})
	put("edge.yaml", strings.Replace(gatewayYAML, "443", "8443", 1))
	wait("Namespace web", "is gone", func(o *discovery.Object) bool { return o == nil })
	require.EqualValues(t, 8443, wait("Gateway web/edge", "is there", is).Spec.(*gatewayv1.Gateway).Spec.Listeners[0].Port)
}

// No byte of a Secret is ever in the state directory; everything else of its
// file survives a restart with the file broken.
func TestStateHoldsNoSecrets(t *testing.T) {
	dir, stateDir := t.TempDir(), t.TempDir()
	path := filepath.Join(dir, "a.yaml")
	require.NoError(t, os.WriteFile(path, []byte(serviceYAML+"---\n"+secretYAML+"---\n"+namespaceYAML), 0o600))
	start := func() (*catalog.Catalog, func()) {
		keep, err := state.Open(stateDir, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		keeper := state.NewKeeper(keep, func(catalog.Reader) []discovery.Home { return nil }, slog.New(slog.DiscardHandler))
		cat, stop := startSource(t, dir, keep)
		require.NoError(t, keeper.Restore(cat))
		return cat, stop
	}
	there := func(cat *catalog.Catalog, what string, secret bool) {
		waitFor(t, cat, what, func(r catalog.Reader) bool {
			_, service := catalog.Services.Get(r, "web/php-web")
			_, namespace := catalog.Objects.Get(r, "Namespace web")
			_, has := catalog.Objects.Get(r, "Secret web/tls")
			return service && namespace && has == secret
		})
	}
	cat, stop := start()
	there(cat, "the file is read", true)
	stored := func() string {
		var all strings.Builder
		require.NoError(t, filepath.WalkDir(stateDir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			all.Write(text)
			for _, encoded := range regexp.MustCompile(`[A-Za-z0-9+/]{8,}={0,2}`).FindAll(text, -1) {
				if decoded, err := base64.StdEncoding.DecodeString(string(encoded)); err == nil {
					all.Write(decoded)
				}
			}
			return err
		}))
		return all.String()
	}
	harness.Eventually(t, 20*time.Second, "the file is stored", func() error {
		if !strings.Contains(stored(), "php-web") {
			return os.ErrNotExist
		}
		return nil
	})
	stop()
	require.NotContains(t, stored(), "key-bytes")
	require.NotContains(t, stored(), "chain-bytes")

	require.NoError(t, os.WriteFile(path, []byte("broken: ["), 0o600))
	cat, stop = start()
	there(cat, "what the file last said is restored, but its Secret", false)
	stop()
	require.NotContains(t, stored(), "key-bytes")
}

// However a Secret is wrong, no message says what is in it.
func TestProblemsHaveNoSecrets(t *testing.T) {
	const value = "c2VjcmV0LWJ5dGVz"
	for _, wrong := range []string{
		"data: {tls.key: " + value + "}", "data: {tls.key: [" + value + "]}", "data: {tls.key: '" + value + "!'}", "data: " + value,
		"stringData: {tls.key: {" + value + ": 1}}", "stringData: [" + value + "]", "stringData: {tls.key: 77777}", "data: {tls.key: 77777}",
		"stringData:\n  tls.key: |\n" + value + "\n", "stringData: {tls.key: \"" + value + "\n", "stringData: {tls.key: *" + value + "}", "stringData: {tls.key: !!int " + value + "}",
		"stringData: {tls.key: !!float " + value + "}", "stringData: {tls.key: " + value + "}\n" + value, "stringData: {tls.key: !!binary '" + value + "!'}",
		"stringData: {tls.key: !!timestamp " + value + "}", "stringData: {tls.key: !!bool " + value + "}", "stringData: {tls.key: \"\\" + value + "\"}",
	} {
		text := "apiVersion: v1\nkind: Secret\nmetadata: {name: tls}\ntype: kubernetes.io/tls\n" + wrong
		_, problems := decode("a.yaml", []byte(text))
		require.NotEmpty(t, problems, wrong)
		for _, p := range problems {
			require.NotContains(t, p.Error(), value[2:], "%s", wrong)
			require.NotContains(t, p.Error(), "77777", "%s", wrong)
		}
	}
}
