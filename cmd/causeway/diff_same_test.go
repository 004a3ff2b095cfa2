package main

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/tools/txtar"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/file"
	"github.com/causeway-mesh/causeway/policy/diff"
	"github.com/causeway-mesh/causeway/xds/status"
)

// same requires that a directory differs in nothing from the control plane that
// serves it, and reports whether it could be read.
func same(t *testing.T, dir string) bool {
	t.Helper()
	cat := catalog.New()
	loaded, err := file.Load(dir, cat)
	if err != nil || len(loaded.Problems) > 0 {
		return false
	}
	text, err := json.Marshal(diff.NewState(cat.Read(), nil, nil))
	require.NoError(t, err)
	for _, begin := range []string{"BEGIN PRIVATE", "LS0tLS1CRUdJTiBQUklWQVRF"} { // and in base64
		require.NotContains(t, string(text), begin)
	}
	var v diff.State
	require.NoError(t, json.Unmarshal(text, &v))
	live, err := v.Catalog()
	require.NoError(t, err)
	for _, prune := range []diff.Prune{diff.PruneNamespaces, diff.PruneEverything, diff.PruneNone} {
		got, err := status.PlanOf(live.Read(), cat.Read(), prune, nil, nil)
		require.NoError(t, err)
		told, err := yaml.Marshal(got)
		require.NoError(t, err)
		require.True(t, got.Empty() && len(got.Resources) == 0, "%s\n%s", dir, told)
	}
	return true
}

// Every directory of examples and every object of the tests of this repository,
// broken ones among them, is the same as what is served of it.
func TestDiffOfWhatIsServed(t *testing.T) {
	read := 0
	err := filepath.WalkDir("../..", func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch {
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != "..":
			return filepath.SkipDir
		case d.IsDir() && strings.HasPrefix(path, examples):
			if same(t, path) {
				read++
			}
		case strings.HasSuffix(path, ".txtar") && strings.Contains(path, "testdata"):
			archive, err := txtar.ParseFile(path)
			require.NoError(t, err)
			for _, f := range archive.Files {
				if !strings.HasSuffix(f.Name, ".yaml") {
					continue
				}
				dir := t.TempDir()
				require.NoError(t, os.WriteFile(filepath.Join(dir, "x.yaml"), f.Data, 0o600))
				if same(t, dir) {
					read++
				}
			}
		}
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, read, 60)
}

// secret makes a Secret of PEM texts.
func secretYAML(chain, key string) string {
	text, _ := yaml.Marshal(map[string]any{ // strings always have a YAML form
		"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "shop", "namespace": "web"}, "type": "kubernetes.io/tls",
		"stringData": map[string]string{"tls.crt": chain, "tls.key": key},
	})
	return string(text)
}

const secretGateway = `
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: causeway}
spec: {controllerName: causeway.dev/gateway}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: web}
spec:
  gatewayClassName: causeway
  listeners: [{name: https, port: 8443, protocol: HTTPS, hostname: b.example.com, tls: {certificateRefs: [{name: shop}]}}]
`

// Whatever a Secret holds, usable or not, it is the same as what is served of it.
func TestDiffOfSecrets(t *testing.T) {
	now := time.Now()
	type maker = func(edit func(*x509.Certificate)) (chain, key string)
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	issue := func(public, private any, edit func(*x509.Certificate)) (chain, key string) {
		c := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "b"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(90 * 24 * time.Hour),
			DNSNames: []string{"b.example.com"},
		}
		edit(c)
		der, err := x509.CreateCertificate(rand.Reader, c, c, public, private)
		require.NoError(t, err)
		pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
		require.NoError(t, err)
		return block("CERTIFICATE", der), block("PRIVATE KEY", pkcs8)
	}
	curve := func(c elliptic.Curve) maker {
		return func(edit func(*x509.Certificate)) (string, string) {
			k, err := ecdsa.GenerateKey(c, rand.Reader)
			require.NoError(t, err)
			return issue(k.Public(), k, edit)
		}
	}
	rsaKey := func(bits int) maker {
		t.Setenv("GODEBUG", "rsa1024min=0")
		k, err := rsa.GenerateKey(rand.Reader, bits)
		require.NoError(t, err)
		return func(edit func(*x509.Certificate)) (string, string) { return issue(k.Public(), k, edit) }
	}
	keys := map[string]maker{
		"P-256": curve(elliptic.P256()), "P-224": curve(elliptic.P224()), "P-521": curve(elliptic.P521()), "RSA 2048": rsaKey(2048), "RSA 1024": rsaKey(1024),
		"Ed25519": func(edit func(*x509.Certificate)) (string, string) {
			public, private, err := ed25519.GenerateKey(rand.Reader)
			require.NoError(t, err)
			return issue(public, private, edit)
		},
	}
	edits := map[string]func(*x509.Certificate){
		"good":            func(*x509.Certificate) {},
		"of another host": func(c *x509.Certificate) { c.DNSNames = []string{"a.example.com"} },
		"without names":   func(c *x509.Certificate) { c.DNSNames = nil },
		"expired":         func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) },
		"soon over":       func(c *x509.Certificate) { c.NotAfter = now.Add(24 * time.Hour) },
		"not yet":         func(c *x509.Certificate) { c.NotBefore = now.Add(time.Hour) },
		"of an authority": func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true },
		"with odd names": func(c *x509.Certificate) {
			c.Subject = pkix.Name{CommonName: "é,=+", Organization: []string{"x", "y"}}
		},
		"without a subject": func(c *x509.Certificate) { c.Subject = pkix.Name{} },
	}
	other, otherKey := curve(elliptic.P256())(edits["good"])
	wraps := map[string]func(chain, key string) (string, string){
		"as it is":          func(c, k string) (string, string) { return c, k },
		"with a stranger":   func(c, k string) (string, string) { return c + other, k },
		"twice":             func(c, k string) (string, string) { return c + c, k },
		"the other's key":   func(c, _ string) (string, string) { return c, otherKey },
		"two keys":          func(c, k string) (string, string) { return c, k + otherKey },
		"no key":            func(c, _ string) (string, string) { return c, "" },
		"text for a key":    func(c, _ string) (string, string) { return c, "x" },
		"encrypted":         func(c, _ string) (string, string) { return c, block("ENCRYPTED PRIVATE KEY", []byte("x")) },
		"no chain":          func(_, k string) (string, string) { return "", k },
		"text for a chain":  func(_, k string) (string, string) { return "x", k },
		"key in the chain":  func(c, k string) (string, string) { return c + k, k },
		"key for the chain": func(_, k string) (string, string) { return k, k },
		"broken chain":      func(_, k string) (string, string) { return block("CERTIFICATE", []byte("x")), k },
		"words around":      func(c, k string) (string, string) { return "one\n" + c + "two\n", "three\n" + k },
	}
	read := 0
	for _, key := range sorted(keys) {
		for _, e := range sorted(edits) {
			for _, w := range sorted(wraps) {
				if (key != "P-256" && w != "as it is") && e != "good" {
					continue
				}
				chain, private := wraps[w](keys[key](edits[e]))
				dir := t.TempDir()
				require.NoError(t, os.WriteFile(filepath.Join(dir, "x.yaml"), []byte(secretYAML(chain, private)+secretGateway), 0o600))
				require.True(t, same(t, dir), fmt.Sprint(key, e, w))
				read++
			}
		}
	}
	require.Greater(t, read, 150)
}

func sorted[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
