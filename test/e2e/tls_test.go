package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/bootstrap"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// A proxy is who its certificate says it is, and no other; the listener's
// certificate is renewed without a restart.
func TestXDSOverTLS(t *testing.T) {
	beside(t, 0.2, 5*time.Second)
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	address := harness.Addresses(t, 1)[0]
	harness.StartWorkload(t, harness.WorkloadOptions{Kind: harness.Go, Address: address, Port: instancePort, ID: "pod", Platform: "pods"})
	write("mesh/web.yaml", fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: php-web, namespace: web}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: php-web, namespace: web, labels: {kubernetes.io/service-name: php-web}}
addressType: IPv4
ports: [{name: http, port: %d}]
endpoints: [{addresses: [%s]}]
`, instancePort, address))
	rules := write("rules.yaml", `
clients:
- {uri: "spiffe://example.org/ns/web/sa/*", namespaces: [web]}
`)
	ca := harness.NewAuthority(t, "causeway-ca")
	issue := func(name string, o harness.CertificateOptions) (cert, key string) {
		return ca.Issue(t, o).Write(t, dir, name)
	}
	serverCert, serverKey := issue("server", harness.CertificateOptions{Name: "causeway", Hosts: []string{"causeway.test"}})
	caFile := write("ca.crt", string(ca.CertPEM))
	r := startReplica(t, "causeway", nil, "--config", filepath.Join(dir, "mesh"),
		"--xds-tls-cert", serverCert, "--xds-tls-key", serverKey, "--xds-client-ca", caFile, "--xds-client-rules", rules)
	r.waitReady()

	cert, key := issue("web", harness.CertificateOptions{Name: "web", URIs: []string{"spiffe://example.org/ns/web/sa/php-web"}})
	start := func(id, namespace string, wait bool) (*harness.Envoy, string) {
		listen := harness.FreeAddress(t)
		config, err := bootstrap.Generate(bootstrap.Options{
			Role: resource.Sidecar, Namespace: namespace, Workload: "caller", Instance: id, Servers: []string{r.xds}, HTTPListen: listen,
			TLS: &bootstrap.TLS{CA: caFile, ServerName: "causeway.test", Cert: cert, Key: key},
		})
		require.NoError(t, err)
		return harness.StartEnvoy(t, config, harness.EnvoyOptions{Name: "envoy-" + id, LogLevel: "warning", NoWait: !wait}), listen
	}
	_, listen := start("i-1", "web", true)
	l := harness.StartLoad(t, harness.LoadOptions{URL: "http://" + listen + "/", Host: "php-web", Limit: 5})
	l.Wait().RequireNoFailures(t)

	// The same certificate may not be a proxy of another namespace.
	start("i-2", "payments", false)
	harness.Eventually(t, 20*time.Second, "the claim is refused", func() error {
		body, err := r.get(r.http, "/metrics")
		if err == nil && !strings.Contains(string(body), `causeway_xds_refused_streams_total{cause="unauthorized"}`) {
			err = fmt.Errorf("not yet")
		}
		return err
	})
	proxies, err := r.proxies()
	require.NoError(t, err)
	require.Len(t, proxies, 1)

	// The certificate is renewed in place; the next proxy gets the new one.
	before, err := r.get(r.http, "/metrics")
	require.NoError(t, err)
	ca.Issue(t, harness.CertificateOptions{Name: "causeway", Hosts: []string{"causeway.test"}, Lifetime: 1000 * time.Hour}).Write(t, dir, "server")
	harness.Eventually(t, 30*time.Second, "the certificate is reloaded", func() error {
		after, err := r.get(r.http, "/metrics")
		if err == nil && expiry(string(after)) == expiry(string(before)) {
			err = fmt.Errorf("still %s", expiry(string(before)))
		}
		return err
	})
	start("i-3", "web", true)
	proxies, err = r.proxies()
	require.NoError(t, err)
	require.Len(t, proxies, 2)
}

func expiry(metrics string) string {
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, "causeway_certificate_expiry_timestamp_seconds ") {
			return strings.TrimSpace(line)
		}
	}
	return ""
}
