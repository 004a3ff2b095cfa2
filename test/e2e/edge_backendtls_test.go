package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/causeway-mesh/causeway/test/harness"
)

// backendTLSPort is where the endpoints of TestEdgeBackendTLS speak TLS.
const backendTLSPort = 8443

// startTLSBackend starts a server that answers in TLS with the name that it was asked for, the version of HTTP, and
// how it got a websocket.
func startTLSBackend(t *testing.T, address netip.Addr, c harness.Certificate) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", net.JoinHostPort(address.String(), strconv.Itoa(backendTLSPort)))
	require.NoError(t, err)
	s := &http.Server{
		ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0), // proxies that do not trust it are what is tested
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{c.TLS(t)}, MinVersion: tls.VersionTLS12},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprintf(w, "%s %s", r.TLS.ServerName, r.Proto)
		}),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.ServeTLS(l, "", "")
	}()
	t.Cleanup(func() {
		_ = s.Close()
		<-done
	})
}

// startTLSgRPC is the same for gRPC's health service, which speaks HTTP/2 alone.
func startTLSgRPC(t *testing.T, address netip.Addr, c harness.Certificate) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", net.JoinHostPort(address.String(), strconv.Itoa(backendTLSPort)))
	require.NoError(t, err)
	pair := c.TLS(t)
	s := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&pair)))
	healthv1.RegisterHealthServer(s, health.NewServer())
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
}

// tlsService is a Service of the Gateway API's suite with a BackendTLSPolicy, and what comes of a request to it.
type tlsService struct {
	name, port string // of the Service, and its port as in YAML
	policies   []string
	want       string // the server name that is asked for; "" for a failure
}

const tlsServiceYAML = `---
apiVersion: v1
kind: Service
metadata: {name: %[1]s, namespace: web}
spec: {ports: [{%[2]s, protocol: TCP, port: 443}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %[1]s, namespace: web, labels: {kubernetes.io/service-name: %[1]s}}
addressType: IPv4
ports: [{name: "", port: %[3]d}]
endpoints: [{addresses: [%[4]s], targetRef: {kind: Pod, namespace: web, name: %[1]s-0}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: %[5]s
metadata: {name: %[1]s, namespace: web}
spec:
  parentRefs: [{name: edge}]
  hostnames: [%[1]s.example.com]
  rules: [{backendRefs: [{group: "", kind: Service, name: %[1]s, port: 443}]}]
`

func (s *tlsService) yaml(kind string, address netip.Addr) string {
	var out strings.Builder
	_, _ = fmt.Fprintf(&out, tlsServiceYAML, s.name, s.port, backendTLSPort, address, kind)
	for i, p := range s.policies {
		target, validation, _ := strings.Cut(p, " ")
		if target != "" {
			target = ", sectionName: " + target
		}
		_, _ = fmt.Fprintf(&out, `---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: %[1]s-%[2]d, namespace: web, creationTimestamp: "2026-01-0%[2]dT00:00:00Z"}
spec:
  targetRefs: [{group: "", kind: Service, name: %[1]s%[3]s}]
  validation: {%[4]s}
`, s.name, i+1, target, validation)
	}
	return out.String()
}

// The cases of the Gateway API's conformance suite v1.7.0 about BackendTLSPolicy (BackendTLSPolicy, -ConflictResolution,
// -SANValidation, -GRPCRoute), at an edge of a Gateway: what a port speaks is judged with the policy about it.
func TestEdgeBackendTLS(t *testing.T) {
	beside(t, 0.3, 8*time.Second)
	ca, other, front := harness.NewAuthority(t, "ca"), harness.NewAuthority(t, "other"), harness.NewAuthority(t, "front")
	issued := ca.Issue(t, harness.CertificateOptions{Hosts: []string{"abc.example.com", "other.example.com"}, URIs: []string{"spiffe://abc.example.com/test-identity"}})
	at := harness.Addresses(t, 2)
	startTLSBackend(t, at[0], issued)
	startTLSgRPC(t, at[1], issued)
	const trusted, mismatch = "caCertificateRefs: [{group: \"\", kind: ConfigMap, name: ca}], ", "caCertificateRefs: [{group: \"\", kind: ConfigMap, name: other}], "
	const host = trusted + "hostname: abc.example.com"
	sans := func(names string) string { return "btls " + host + ", subjectAltNames: [" + names + "]" }
	const dns, uri = "{type: Hostname, hostname: abc.example.com}", "{type: URI, uri: 'spiffe://abc.example.com/test-identity'}"
	const noDNS, noURI = "{type: Hostname, hostname: def.example.com}", "{type: URI, uri: 'spiffe://def.example.com/test-identity'}"
	const undeclared, declared = "name: btls", "name: btls, appProtocol: HTTPS"
	services := []tlsService{
		{"normative", undeclared, []string{"btls " + host}, "abc.example.com"},
		{"host-mismatch", declared, []string{"btls " + trusted + "hostname: mismatch.example.com"}, ""},
		{"cert-mismatch", declared, []string{"btls " + mismatch + "hostname: abc.example.com"}, ""},
		{"conflicted", "name: https", []string{" " + trusted + "hostname: other.example.com", " " + host}, "other.example.com"},
		{"conflicted-section", "name: https-1", []string{"https-1 " + trusted + "hostname: other.example.com", "https-1 " + host}, "other.example.com"},
		{"not-conflicted", "name: https-1", []string{"https-1 " + trusted + "hostname: other.example.com", " " + host}, "other.example.com"},
		{"san-dns", undeclared, []string{sans(dns)}, "abc.example.com"},
		{"san-dns-mismatch", declared, []string{sans(noDNS)}, ""},
		{"san-uri", declared, []string{sans(uri)}, "abc.example.com"},
		{"san-uri-mismatch", declared, []string{sans(noURI)}, ""},
		{"multiple-sans", declared, []string{sans(noURI + ", " + dns)}, "abc.example.com"},
		{"multiple-mismatch-sans", declared, []string{sans(noURI + ", " + noDNS)}, ""},
		{"no-such-ca", declared, []string{"btls caCertificateRefs: [{group: \"\", kind: ConfigMap, name: none}], hostname: abc.example.com"}, ""},
	}
	calls := []tlsService{
		{"grpc", undeclared, []string{"btls " + host}, "SERVING"},
		{"grpc-https", "name: https", []string{" " + host}, "SERVING"},
		{"grpc-host-mismatch", undeclared, []string{"btls " + trusted + "hostname: mismatch.example.com"}, ""},
		{"grpc-cert-mismatch", undeclared, []string{"btls " + mismatch + "hostname: abc.example.com"}, ""},
	}
	d := newDirectory(t)
	var text strings.Builder
	for i := range services {
		text.WriteString(services[i].yaml("HTTPRoute", at[0]))
	}
	for i := range calls {
		text.WriteString(calls[i].yaml("GRPCRoute", at[1]))
	}
	text.WriteString(secretYAML("web", "front", front.Issue(t, harness.CertificateOptions{Hosts: []string{"*.example.com"}})))
	d.write("mesh.yaml", text.String())
	configMaps := func(good, bad *harness.Authority) string {
		out := ""
		for name, a := range map[string]*harness.Authority{"ca": good, "other": bad} {
			out += fmt.Sprintf("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: web}\ndata: {ca.crt: %q}\n", name, a.CertPEM)
		}
		return out
	}
	d.write("ca.yaml", configMaps(ca, other))
	d.write("edge.yaml", fmt.Sprintf(`---
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
  listeners:
  - {name: http, port: %d, protocol: HTTP}
  - {name: https, port: %d, protocol: HTTPS, tls: {certificateRefs: [{name: front}]}}
`, edgePlain, edgeTLS))
	plane := startReplica(t, "causeway", nil, "--config", d.path, "--state-dir", t.TempDir(), "--xds-insecure-certificates")
	plane.waitReady()
	e := startEdge(t, edgeOptions{namespace: "web", gateway: "edge", id: "edge-0", servers: []string{plane.xds}})

	about := func(s *tlsService) question {
		return question{address: e.at(edgePlain), host: s.name + ".example.com", path: "/", method: http.MethodGet}
	}
	for i := range services {
		s := &services[i]
		want := func(a answer) bool { return a.status == http.StatusOK && a.body == s.want+" HTTP/1.1" }
		if s.want == "" {
			want = func(a answer) bool { return a.status == http.StatusServiceUnavailable }
		}
		about(s).wait(t, s.name, want)
	}
	again := about(&services[0]) // encrypted, read, and encrypted again
	again.address, again.tls = e.at(edgeTLS), &tls.Config{RootCAs: front.Pool(), MinVersion: tls.VersionTLS12}
	again.wait(t, "over HTTPS", func(a answer) bool { return isOK(a) && a.body == "abc.example.com HTTP/1.1" })

	for _, s := range calls {
		conn, err := grpc.NewClient("passthrough:///"+e.at(edgePlain), grpc.WithAuthority(s.name+".example.com"), grpc.WithTransportCredentials(insecure.NewCredentials()))
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		answer, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
		if s.want == "" {
			require.Error(t, err, s.name)
			continue
		}
		require.NoError(t, err, s.name)
		require.Equal(t, s.want, answer.GetStatus().String())
	}

	// Another certificate in the ConfigMap takes effect, both ways.
	d.write("ca.yaml", configMaps(other, ca))
	about(&services[0]).wait(t, "the CA is gone", func(a answer) bool { return a.status == http.StatusServiceUnavailable })
	about(&services[2]).wait(t, "the CA has come", func(a answer) bool { return isOK(a) && a.body == "abc.example.com HTTP/1.1" })
}
