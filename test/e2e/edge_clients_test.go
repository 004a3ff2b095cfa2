package e2e

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/test/harness"
)

// edgeTLS2 is a second port with TLS.
const edgeTLS2 = 9443

// The cases of the Gateway API's conformance suite v1.7.0 about clients' certificates (GatewayFrontendClientCertificateValidation,
// -InsecureFallback, GatewayFrontendInvalidDefaultClientCertificateValidation), and what an SRE does with them: partners get
// new CA certificates while others are connected.
func TestEdgeClientCertificates(t *testing.T) {
	beside(t, 0.3, 8*time.Second)
	server, first, second := harness.NewAuthority(t, "server"), harness.NewAuthority(t, "first"), harness.NewAuthority(t, "second")
	address := harness.Addresses(t, 1)[0]
	harness.StartWorkload(t, harness.WorkloadOptions{Kind: harness.Go, Address: address, Port: instancePort, ID: "pod", Platform: "pods"})
	d := newDirectory(t)
	d.write("mesh.yaml", podYAML("web", "shop", 80, instancePort, "", address, "")+
		secretYAML("web", "server", server.Issue(t, harness.CertificateOptions{Hosts: []string{"example.org", "second-example.org"}})))
	configMap := func(name string, cas ...*harness.Authority) {
		var text strings.Builder
		for _, a := range cas {
			text.Write(a.CertPEM)
		}
		d.write(name+".yaml", fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: web}\ndata: {ca.crt: %q}\n", name, text.String()))
	}
	configMap("default", first)
	configMap("per-port", second)
	gateway := func(defaults, perPort string) {
		d.write("edge.yaml", fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: causeway}
spec: {controllerName: mesh.causeway.dev/controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: web}
spec:
  gatewayClassName: causeway
  tls:
    frontend:
      default: {validation: %s}
      perPort: [{port: %d, tls: {validation: %s}}]
  listeners:
  - {name: http, port: %d, protocol: HTTP}
  - {name: https, port: %d, protocol: HTTPS, tls: {certificateRefs: [{name: server}]}}
  - {name: https-with-hostname, port: %d, protocol: HTTPS, hostname: second-example.org, tls: {certificateRefs: [{name: server}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop, namespace: web}
spec:
  parentRefs: [{name: edge}]
  rules: [{backendRefs: [{name: shop, port: 80}]}]
`, defaults, edgeTLS2, perPort, edgePlain, edgeTLS, edgeTLS2))
	}
	by := func(name, mode string) string {
		return fmt.Sprintf(`{caCertificateRefs: [{group: "", kind: ConfigMap, name: %s}], mode: %s}`, name, mode)
	}
	gateway(by("default", "AllowValidOnly"), by("per-port", "AllowValidOnly"))
	plane := startReplica(t, "causeway", nil, "--config", d.path, "--state-dir", t.TempDir(), "--xds-insecure-certificates")
	plane.waitReady()
	e := startEdge(t, edgeOptions{namespace: "web", gateway: "edge", id: "edge-0", servers: []string{plane.xds}})

	client := func(a *harness.Authority) *tls.Config {
		config := &tls.Config{RootCAs: server.Pool(), MinVersion: tls.VersionTLS12}
		if a != nil {
			pair := a.Issue(t, harness.CertificateOptions{Name: "partner", Hosts: []string{"partner.example.org"}}).TLS(t)
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		return config
	}
	ask := func(port int, a *harness.Authority) question {
		host := "example.org"
		if port == edgeTLS2 {
			host = "second-example.org"
		}
		return question{address: e.at(port), host: host, path: "/", method: http.MethodGet, tls: client(a)}
	}
	in := func(what string, port int, a *harness.Authority) answer {
		t.Helper()
		return ask(port, a).wait(t, what, isOK)
	}
	out := func(what string, port int, a *harness.Authority) {
		t.Helper()
		harness.Eventually(t, 30*time.Second, what, func() error {
			a, err := ask(port, a).ask(t.Context())
			if err == nil {
				return fmt.Errorf("%d %s", a.status, a.body)
			}
			return nil
		})
	}
	a := in("the default", edgeTLS, first)
	require.Contains(t, a.body, `Subject=\"CN=partner\"`, "the backend is told who it is")
	out("another CA's", edgeTLS, second)
	out("no certificate", edgeTLS, nil)
	in("that of the port", edgeTLS2, second)
	out("the default's at the port", edgeTLS2, first)
	require.True(t, isOK(question{address: e.at(edgePlain), host: "example.org", path: "/", method: http.MethodGet}.wait(t, "HTTP is as it was", isOK)))

	// A second CA comes, and the first goes; connections go on.
	l := harness.StartLoad(t, harness.LoadOptions{URL: "https://" + e.at(edgeTLS) + "/", Host: "example.org", Rate: 50, TLS: withName(client(first), "example.org")})
	configMap("default", first, second)
	in("the second CA", edgeTLS, second)
	in("the first one still", edgeTLS, first)
	l.Stop().RequireNoFailures(t)
	configMap("default", second)
	out("the first CA is gone", edgeTLS, first)
	in("the second one", edgeTLS, second)

	// Anybody comes in, and nobody is believed.
	gateway(by("default", "AllowInsecureFallback"), by("per-port", "AllowInsecureFallback"))
	for _, port := range []int{edgeTLS, edgeTLS2} {
		for _, a := range []*harness.Authority{nil, first, second} {
			require.NotContains(t, in("whoever it is", port, a).body, "CN=partner")
		}
	}
	// Back, and a default that cannot be had: its port is closed, and no other.
	gateway(by("none", "AllowValidOnly"), by("per-port", "AllowValidOnly"))
	out("there is no CA", edgeTLS, second)
	out("nobody is let in any more", edgeTLS2, nil)
	in("the other port", edgeTLS2, second)
	question{address: e.at(edgePlain), host: "example.org", path: "/", method: http.MethodGet}.wait(t, "HTTP is as it was", isOK)
}
