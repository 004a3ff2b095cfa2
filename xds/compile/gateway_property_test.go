package compile_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/compile"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// randomEdge draws Gateways as policy makes them, with values at the bounds
// that the schema sets.
type randomEdge struct{ *rand.Rand }

func maybe[T any](r randomEdge, values ...T) *T {
	if r.IntN(2) == 0 {
		return nil
	}
	return &values[r.IntN(len(values))]
}

func (r randomEdge) duration() *metav1.Duration {
	return maybe(r, *duration(0), *duration(time.Millisecond), *duration(time.Second), *duration(24 * time.Hour))
}

func (r randomEdge) settings() v1alpha1.GatewaySettings {
	var s v1alpha1.GatewaySettings
	kinds := []v1alpha1.HopKind{v1alpha1.HopCloudFront, v1alpha1.HopALB, v1alpha1.HopNLB, v1alpha1.HopProxy}
	for range r.IntN(4) {
		h := v1alpha1.Hop{Kind: kinds[r.IntN(len(kinds))]}
		h.ProxyProtocol = (h.Kind == v1alpha1.HopNLB || h.Kind == v1alpha1.HopProxy) && r.IntN(2) == 0
		for _, text := range []string{"10.0.0.0/8", "fd00::/8", "0.0.0.0/0", "::/0", "192.0.2.1/32", "10.1.2.3/8"} {
			if r.IntN(4) == 0 {
				h.Addresses = append(h.Addresses, text)
			}
		}
		s.InFront = append(s.InFront, h)
	}
	if r.IntN(2) == 0 {
		s.Timeout = &v1alpha1.ClientTimeout{RequestHeaders: r.duration(), Request: r.duration(), Idle: r.duration(), StreamIdle: r.duration()}
	}
	if r.IntN(2) == 0 {
		s.Limits = &v1alpha1.ClientLimits{
			HeaderBytes: maybe[int32](r, 1024, 1025, 8388608), Headers: maybe[int32](r, 1, 10000), BodyBytes: maybe[int32](r, 1, 1073741824),
			ConcurrentStreams: maybe[int32](r, 1, 10000), Connections: maybe[int32](r, 1, 1<<31-1),
		}
	}
	if r.IntN(2) == 0 {
		s.TLS = &v1alpha1.ClientTLS{MinVersion: []v1alpha1.TLSVersion{"", v1alpha1.TLS12, v1alpha1.TLS13}[r.IntN(3)]}
		if r.IntN(2) == 0 {
			s.TLS.CipherSuites = []string{
				"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
				"ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305",
			}[:1+r.IntN(6)]
		}
	}
	if r.IntN(2) == 0 {
		s.HealthCheck = &v1alpha1.GatewayHealthCheck{Path: "/a-b_c.~/d"}
	}
	return s
}

// hosts returns hosts of a listener for a name, with rules of every kind.
func (r randomEdge) hosts(secure bool, hostname string, to policy.Backend) []policy.GatewayHost {
	if hostname == "" {
		hostname = "*"
	}
	out := []policy.GatewayHost{answers(hostname, r.rules(to)...)}
	if secure && r.IntN(2) == 0 {
		out = append(out, policy.GatewayHost{Domain: "elsewhere.test", Misdirected: true})
	}
	return out
}

func (r randomEdge) rules(to policy.Backend) []policy.Rule {
	var out []policy.Rule
	for range r.IntN(4) {
		rule := policy.Rule{Match: everything, GRPC: r.IntN(3) == 0, Backends: []policy.Backend{to}}
		switch r.IntN(5) {
		case 0:
			rule.Backends = nil
		case 1:
			rule.Filters.Failed = "it is not understood"
		case 2:
			rule.Filters.Redirect = &policy.Redirect{
				Scheme: []string{"", "http", "https"}[r.IntN(3)], Host: []string{"", "other.test"}[r.IntN(2)],
				Port: []uint16{0, 80, 443, 8443}[r.IntN(4)], Status: []uint16{301, 302, 303, 307, 308}[r.IntN(5)],
			}
		case 3:
			rule.Backends = []policy.Backend{part(to, 40), part(invalid, 60)}
		}
		out = append(out, rule)
	}
	return out
}

func (r randomEdge) gateway(name string, http, tcp policy.Backend, certificates []policy.Certificate) *policy.Gateway {
	m := &policy.Gateway{Key: discovery.Key{Namespace: "web", Name: name}, Certificates: certificates}
	for i := range 1 + r.IntN(4) {
		p := policy.GatewayPort{Number: uint16(80 + i), Protocol: policy.ListenerProtocol(r.IntN(3)), Settings: policy.GatewaySettings{GatewaySettings: r.settings()}}
		for j, hostname := range []string{"a.example.com", "*.b.example.com", "*.example.com", ""} {
			if r.IntN(3) == 0 || p.Protocol == policy.ListenTCP && j > 0 {
				continue
			}
			if p.Protocol == policy.ListenTCP {
				hostname = ""
			}
			l := policy.GatewayListener{Name: fmt.Sprintf("l%d.x", j), Hostname: hostname}
			l.IsHTTP = p.Protocol == policy.ListenHTTP || p.Protocol == policy.ListenTLS && r.IntN(2) == 0
			l.Terminates = p.Protocol == policy.ListenTLS && (l.IsHTTP || r.IntN(2) == 0)
			if l.Terminates {
				for _, c := range certificates {
					if r.IntN(2) == 0 {
						l.Certificates = append(l.Certificates, c.Name)
					}
				}
			}
			if l.IsHTTP {
				l.Hosts = r.hosts(p.Protocol == policy.ListenTLS, hostname, http)
			} else {
				l.TCP = r.connections(p.Protocol, hostname, tcp)
			}
			p.Listeners = append(p.Listeners, l)
		}
		if len(p.Listeners) > 0 {
			m.Ports = append(m.Ports, p)
		}
	}
	return m
}

func (r randomEdge) connections(protocol policy.ListenerProtocol, hostname string, to policy.Backend) []policy.TCPRule {
	var out []policy.TCPRule
	if protocol == policy.ListenTLS && r.IntN(2) == 0 {
		name := hostname
		switch {
		case hostname == "":
			name = "named.test"
		case hostname[0] == '*':
			name = "deep" + hostname[1:]
		}
		out = append(out, policy.TCPRule{ServerNames: []string{name}, Backends: []policy.Backend{to}})
		if name == hostname {
			return out
		}
	}
	if r.IntN(2) == 0 {
		out = append(out, policy.TCPRule{Backends: [][]policy.Backend{nil, {to}, {part(to, 50), part(invalid, 50)}}[r.IntN(3)]})
	}
	return out
}

// Whatever a Gateway and its policies say, Envoy takes what it is compiled to,
// and the same comes out every time.
func TestEnvoyTakesEveryGateway(t *testing.T) {
	t.Parallel()
	http, tcp := pods("http", policy.HTTP1), pods("tcp", policy.TCP)
	ca := harness.NewAuthority(t, "ca")
	certificates := []policy.Certificate{
		certified("one", ca.Issue(t, harness.CertificateOptions{Name: "one", Hosts: []string{"a.example.com"}})),
		{Name: "file/l0.x", ChainFile: "/nowhere/tls.crt", KeyFile: "/elsewhere/tls.key"},
		{Name: "web/broken", Failed: "it is missing"},
	}
	c := compile.New()
	services := append(c.Service(http), c.Service(tcp)...)
	all := services
	kinds := make(map[string]int)
	for seed := range uint64(80) {
		build := func() []resource.Resource {
			m := randomEdge{rand.New(rand.NewPCG(seed, 6))}.gateway(fmt.Sprintf("edge.%d", seed), to(http), to(tcp), certificates)
			out := append(c.Gateway(m), c.Certificates(m)...)
			d, err := naming.ParseDeclaration(fmt.Sprintf("gateway/10.0.1.%d=%s", seed, m.Key))
			require.NoError(t, err)
			return append(out, c.GatewayListeners(d, m)...)
		}
		own := build()
		require.Equal(t, own, build())
		names := make(map[string]bool)
		for _, r := range own {
			require.False(t, names[r.Type.String()+r.Name], r.Name)
			names[r.Type.String()+r.Name] = true
			require.Equal(t, resource.Gateway, r.Visible.Role)
			kinds[r.Type.String()]++
			var m interface {
				proto.Message
				ValidateAll() error
			}
			switch r.Type {
			case resource.Secret:
				m = &tlsv3.Secret{}
			case resource.Route:
				m = &routev3.RouteConfiguration{}
			case resource.VirtualHost:
				m = &routev3.VirtualHost{}
			default:
				m = &listenerv3.Listener{}
			}
			unmarshal(t, r.Body, m)
			require.NoError(t, m.ValidateAll(), r.Name)
		}
		all = append(all, own...)
	}
	t.Log(kinds)
	require.Greater(t, kinds["LDS"], 80)
	requireNeedsMet(t, all)
	check := func(resources []resource.Resource) error {
		return harness.CheckEnvoyConfig(static(t, resources, "web", callerZone, ""))
	}
	if err := check(all); err != nil {
		t.Fatal(err)
	}
}
