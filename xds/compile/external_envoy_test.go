package compile_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/compile"
)

// outside returns an ExternalService with one HTTP port, whose addresses are
// those that the name has, or the given ones.
func outside(name, host string, target uint16, endpoints ...v1alpha1.ExternalEndpoint) *policy.External {
	e := &policy.External{
		Key: discovery.Key{Namespace: "web", Name: name}, Hosts: []string{host}, Endpoints: endpoints,
		Ports: []policy.ExternalServicePort{{Number: 80, TargetPort: target, Protocol: policy.HTTP1, DefaultHTTP: true}},
	}
	if len(endpoints) == 0 {
		e.DNS = host
	}
	return e
}

// TestEnvoyReachesOutside reaches hosts outside the mesh by name and by address.
func TestEnvoyReachesOutside(t *testing.T) {
	t.Parallel()
	b := startBackend(t, "outside")
	ca := harness.NewAuthority(t, "ca")
	secure := startTLS(t, "secure", ca.Issue(t, harness.CertificateOptions{Name: "b", Hosts: []string{"api.localhost"}}).TLS(t), "http/1.1")
	tlsOf := func(name string, cas []byte) *policy.TLS {
		return &policy.TLS{SNI: name, Names: []policy.SubjectAltName{{Value: name}}, CAs: string(cas)}
	}
	withTLS := func(e *policy.External, tls *policy.TLS) *policy.External {
		e.Ports[0].TLS = tls
		return e
	}
	balanced := outside("balanced", "balanced.localhost", b.port())
	balanced.Ports[0].Settings = settings(v1alpha1.TrafficSettings{LoadBalancer: &v1alpha1.LoadBalancer{Algorithm: v1alpha1.RoundRobin}})
	local := v1alpha1.ExternalEndpoint{Address: "127.0.0.1"}
	m := startOutside(t, ca.CertPEM,
		outside("dns", "api.localhost", b.port()), balanced,
		outside("static", "fixed.example.com", b.port(), local),
		outside("nowhere", "nowhere.invalid", b.port()),
		withTLS(outside("tls", "tls.localhost", secure.port()), tlsOf("api.localhost", ca.CertPEM)),
		withTLS(outside("system", "system.localhost", secure.port()), tlsOf("api.localhost", nil)),
		withTLS(outside("wrong", "wrong.localhost", secure.port()), tlsOf("wrong.localhost", ca.CertPEM)),
		withTLS(outside("failed", "failed.localhost", b.port()), &policy.TLS{SNI: "x.example", Failed: "there is no ConfigMap"}),
		withTLS(outside("static-tls", "fixed-tls.example.com", secure.port(), local), tlsOf("api.localhost", ca.CertPEM)),
	)
	for host, want := range map[string]string{
		"api.localhost": "outside", "balanced.localhost": "outside", "fixed.example.com": "outside",
		"tls.localhost": "secure api.localhost HTTP/1.1", "system.localhost": "secure api.localhost HTTP/1.1",
		"fixed-tls.example.com": "secure api.localhost HTTP/1.1",
	} {
		answer, body := m.get(t, host, "/")
		require.Equal(t, http.StatusOK, answer.StatusCode, "%s: %s", host, body)
		require.Equal(t, want, body, host)
	}
	before := b.hits.Load()
	for _, host := range []string{"nowhere.invalid", "wrong.localhost", "failed.localhost"} {
		answer, body := m.get(t, host, "/")
		require.Equal(t, http.StatusServiceUnavailable, answer.StatusCode, "%s: %s", host, body)
	}
	require.Equal(t, before, b.hits.Load())
}

// Zones of given addresses mean what they mean for a Service.
func TestEnvoyPrefersZonesOutside(t *testing.T) {
	t.Parallel()
	here, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.2:0")
	require.NoError(t, err)
	port := uint16(here.Addr().(*net.TCPAddr).Port) //nolint:gosec // a port
	there, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", fmt.Sprintf("127.0.0.3:%d", port))
	require.NoError(t, err)
	for name, listener := range map[string]net.Listener{"here": here, "there": there} {
		server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, name)
		})}
		go func() { _ = server.Serve(listener) }()
		t.Cleanup(func() { _ = server.Close() })
	}
	m := startOutside(t, nil, outside("api", "api.example.com", port,
		v1alpha1.ExternalEndpoint{Address: "127.0.0.2", Zone: callerZone}, v1alpha1.ExternalEndpoint{Address: "127.0.0.3", Zone: "zone-b"}))
	require.GreaterOrEqual(t, m.ask(t, 100, http.MethodGet, "api.example.com")["here"], 98)
}

// startOutside starts an Envoy that knows nothing but ExternalServices.
func startOutside(t *testing.T, systemCAs []byte, externals ...*policy.External) *mesh {
	t.Helper()
	return policyMesh{externals: externals, systemCAs: systemCAs}.start(t)
}

// What is outside is reached over DNS as one endpoint or as one for each
// address, and over given ones like a Service.
func TestExternalClusters(t *testing.T) {
	c := compile.New()
	e := outside("api", "api.example.com", 8080)
	e.Ports = append(e.Ports, policy.ExternalServicePort{Number: 3306, TargetPort: 3306, Protocol: policy.TCP})
	names := func(e *policy.External) []string {
		var out []string
		for _, r := range c.External(e) {
			out = append(out, r.Type.String()+" "+r.Name)
		}
		return out
	}
	require.Subset(t, names(e), []string{"CDS external/web/api:3306", "CDS external/web/api:80"})
	e.DNS, e.Endpoints = "", []v1alpha1.ExternalEndpoint{{Address: "10.0.0.1"}}
	require.Subset(t, names(e), []string{
		"CDS external/web/api:3306", "CDS external/web/api:80", "EDS external/web/api:3306", "EDS external/web/api:80",
	})
}
