package compile_test

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	dnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	caresv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/cares/v3"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// nameServer answers every question for an IPv4 address with what it was told.
type nameServer struct {
	address netip.AddrPort
	answer  atomic.Pointer[dnsAnswer]
	asked   atomic.Int64
}

type dnsAnswer struct {
	code      dnsmessage.RCode
	addresses []string
	silent    bool
}

func startNameServer(t *testing.T, first dnsAnswer) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &nameServer{address: netip.MustParseAddrPort(conn.LocalAddr().String())}
	s.answer.Store(&first)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			if out := s.reply(buffer[:n]); out != nil {
				_, _ = conn.WriteTo(out, from)
			}
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	return s
}

func (s *nameServer) reply(question []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(question) != nil || len(m.Questions) == 0 {
		return nil
	}
	a := s.answer.Load()
	if a.silent {
		return nil
	}
	m.Response, m.RCode, m.Additionals = true, a.code, nil
	if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
		s.asked.Add(1)
		for _, address := range a.addresses {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
				Body:   &dnsmessage.AResource{A: netip.MustParseAddr(address).As4()},
			})
		}
	}
	out, err := m.Pack()
	if err != nil {
		return nil
	}
	return out
}

// asking has a cluster ask the name server instead of the host's.
func asking(t *testing.T, s *nameServer, r resource.Resource) resource.Resource {
	t.Helper()
	c := &clusterv3.Cluster{}
	unmarshal(t, r.Body, c)
	dns := &dnsv3.DnsCluster{}
	require.NoError(t, c.GetClusterType().GetTypedConfig().UnmarshalTo(dns))
	cares := &caresv3.CaresDnsResolverConfig{}
	require.NoError(t, dns.GetTypedDnsResolverConfig().GetTypedConfig().UnmarshalTo(cares))
	cares.Resolvers = []*corev3.Address{{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Protocol: corev3.SocketAddress_UDP, Address: s.address.Addr().String(),
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(s.address.Port())},
	}}}}
	require.NoError(t, dns.GetTypedDnsResolverConfig().GetTypedConfig().MarshalFrom(cares))
	require.NoError(t, c.GetClusterType().GetTypedConfig().MarshalFrom(dns))
	body, err := proto.Marshal(c)
	require.NoError(t, err)
	r.Body = resource.Parts{body}
	return r
}

// What a name server says is followed; what it fails to say takes nobody's
// addresses away, and an empty answer takes them only where a policy makes each
// address an endpoint.
func TestEnvoyFollowsDNS(t *testing.T) {
	t.Parallel()
	one, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.11:0")
	require.NoError(t, err)
	port := uint16(one.Addr().(*net.TCPAddr).Port)
	two, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", fmt.Sprintf("127.0.0.12:%d", port))
	require.NoError(t, err)
	for name, listener := range map[string]net.Listener{"one": one, "two": two} {
		server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, name)
		})}
		go func() { _ = server.Serve(listener) }()
		t.Cleanup(func() { _ = server.Close() })
	}
	s := startNameServer(t, dnsAnswer{addresses: []string{"127.0.0.11"}})
	each := outside("each", "each.example.com", port)
	each.Ports[0].Settings = settings(v1alpha1.TrafficSettings{LoadBalancer: &v1alpha1.LoadBalancer{Algorithm: v1alpha1.RoundRobin}})
	m := policyMesh{
		externals: []*policy.External{outside("logical", "logical.example.com", port), each},
		edit: func(r resource.Resource) resource.Resource {
			if r.Type == resource.Cluster {
				return asking(t, s, r)
			}
			return r
		},
	}.start(t)
	settle := func(host string, want map[string]int) {
		t.Helper()
		harness.Eventually(t, 15*time.Second, fmt.Sprintf("%s to be answered by %v", host, want), func() error {
			if got := m.ask(t, 10, http.MethodGet, host); !maps.Equal(got, want) {
				return fmt.Errorf("answers: %v", got)
			}
			return nil
		})
	}
	refresh := func() {
		t.Helper()
		before := s.asked.Load()
		harness.Eventually(t, 15*time.Second, "both to ask again", func() error {
			if n := s.asked.Load(); n < before+4 {
				return fmt.Errorf("asked %d times", n-before)
			}
			return nil
		})
	}
	settle("logical.example.com", map[string]int{"one": 10})
	settle("each.example.com", map[string]int{"one": 10})

	s.answer.Store(&dnsAnswer{addresses: []string{"127.0.0.11", "127.0.0.12"}})
	settle("each.example.com", map[string]int{"one": 5, "two": 5})
	settle("logical.example.com", map[string]int{"one": 10})

	s.answer.Store(&dnsAnswer{code: dnsmessage.RCodeServerFailure})
	refresh()
	settle("each.example.com", map[string]int{"one": 5, "two": 5})
	settle("logical.example.com", map[string]int{"one": 10})

	s.answer.Store(&dnsAnswer{})
	refresh()
	settle("logical.example.com", map[string]int{"one": 10})
	settle("each.example.com", map[string]int{"503": 10})

	s.answer.Store(&dnsAnswer{addresses: []string{"127.0.0.12"}})
	settle("each.example.com", map[string]int{"two": 10})
	refresh()
	m.client.CloseIdleConnections()
	settle("logical.example.com", map[string]int{"two": 10})
}

// A name server that says nothing holds a proxy up for a moment only, and what
// it says later counts.
func TestEnvoyWaitsBrieflyForDNS(t *testing.T) {
	t.Parallel()
	b := startBackend(t, "outside")
	s := startNameServer(t, dnsAnswer{silent: true})
	begun := time.Now()
	m := policyMesh{
		services:  []*policy.Service{pods("php", policy.HTTP1, zone(callerZone, b))},
		externals: []*policy.External{outside("api", "api.example.com", b.port())},
		edit: func(r resource.Resource) resource.Resource {
			if r.Type == resource.Cluster && !r.EDS {
				return asking(t, s, r)
			}
			return r
		},
	}.start(t)
	require.Less(t, time.Since(begun), 12*time.Second)
	require.Equal(t, map[string]int{"outside": 1}, m.ask(t, 1, http.MethodGet, "php.web"))
	require.Equal(t, map[string]int{"503": 1}, m.ask(t, 1, http.MethodGet, "api.example.com"))
	s.answer.Store(&dnsAnswer{addresses: []string{"127.0.0.1"}})
	harness.Eventually(t, 20*time.Second, "the address to be known", func() error {
		if got := m.ask(t, 1, http.MethodGet, "api.example.com"); got["outside"] != 1 {
			return fmt.Errorf("answers: %v", got)
		}
		return nil
	})
}
