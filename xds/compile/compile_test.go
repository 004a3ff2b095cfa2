package compile_test

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/xds/compile"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// service is a model with one HTTP port and n endpoints on each platform, over
// three zones.
func service(n int) *policy.Service {
	m := &policy.Service{
		Key: discovery.Key{Namespace: "web", Name: "php-web"}, ClusterIPs: []string{"10.96.0.10"}, Home: discovery.Instances,
	}
	p := policy.Port{Number: 80, Name: "http", DefaultHTTP: true, Shares: []uint32{0, policy.ShareTotal}}
	for i, name := range discovery.Backings() {
		b := policy.Backing{Platform: name}
		for z := range 3 {
			b.Zones = append(b.Zones, policy.Zone{Name: fmt.Sprintf("ap-northeast-1%c", 'a'+z)})
		}
		for e := range n {
			z := &b.Zones[e%3]
			z.Endpoints = append(z.Endpoints, policy.Endpoint{
				ID: fmt.Sprintf("i-%08d", e), Address: fmt.Sprintf("10.%d.%d.%d", i, e/250, e%250), Port: 80, Weight: 1,
			})
		}
		b.Zones = slices.DeleteFunc(b.Zones, func(z policy.Zone) bool { return len(z.Endpoints) == 0 })
		p.Backings = append(p.Backings, b)
	}
	p.FailOver()
	m.Ports = []policy.Port{p}
	return m
}

// Two compilers agree to the byte, as two replicas must.
func TestDeterministic(t *testing.T) {
	want := compile.New().Service(service(30))
	for range 20 {
		require.Equal(t, want, compile.New().Service(service(30)))
	}
}

// A change of endpoints leaves every other resource as it was.
func TestEndpointChangeTouchesEndpointsOnly(t *testing.T) {
	c := compile.New()
	before, after := c.Service(service(9)), c.Service(service(10))
	require.Len(t, after, len(before))
	for i := range before {
		require.Equal(t, before[i].Name, after[i].Name)
		if before[i].Type != resource.Endpoint {
			require.Equal(t, before[i], after[i])
		}
	}
}

// Moving a share changes weights and neither clusters nor endpoints.
func TestShareChangeTouchesVirtualHostsOnly(t *testing.T) {
	c := compile.New()
	moved := service(9)
	moved.Ports[0].Shares = []uint32{1000, policy.ShareTotal - 1000}
	before, after := c.Service(service(9)), c.Service(moved)
	require.Len(t, after, len(before))
	for i := range before {
		if before[i].Type == resource.VirtualHost {
			require.NotEqual(t, before[i].Body, after[i].Body)
		} else {
			require.Equal(t, before[i], after[i])
		}
	}
}

// One address in two spellings must not cost callers every virtual host.
func TestDomainsOnce(t *testing.T) {
	m := service(1)
	m.ClusterIPs = []string{"fd00::a", "FD00::A", "fd00:0::a", "10.96.0.10", "10.96.0.10"}
	checkResources(t, compile.New().Service(m))
}

func TestListenerOfMissingPort(t *testing.T) {
	c := compile.New()
	d, err := naming.ParseDeclaration("tcp/127.0.0.1:3306=web/php-web:3306")
	require.NoError(t, err)
	require.Empty(t, c.Listener(d, nil), "there is no such Service")
	require.Empty(t, c.Listener(d, service(1)), "it has no such port")
}

var (
	clusterNames = regexp.MustCompile(`^[a-z0-9-]+/[a-z0-9-]+:\d+/(pods|instances|shared|pods\+instances|instances\+pods)$`)
	// Envoy takes what is before the last slash for the route configuration's name.
	hostNames = regexp.MustCompile(`^http/[^/]+$`)
)

// Whatever the model: no panic, messages that Envoy's own rules accept, names
// as documented, references that resolve, and no domain twice.
func FuzzService(f *testing.F) {
	f.Add("web", "php-web", "fd00::a", uint16(80), uint16(3306), "ap-northeast-1a", "i-0a1", uint32(4), uint32(250_000), uint64(0x1b), true)
	f.Add("a", "b", "10.96.0.1", uint16(1), uint16(65535), "", "", uint32(1), uint32(0), uint64(0), false)
	f.Fuzz(func(t *testing.T, namespace, name, ip string, port, tcp uint16, zone, id string, weight, share uint32, bits uint64, failover bool) {
		label := regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
		address, err := netip.ParseAddr(ip)
		if !label.MatchString(namespace) || !label.MatchString(name) || err != nil || address.Zone() != "" || port == 0 || tcp == 0 || port == tcp {
			t.Skip("no source lets this in")
		}
		zone, id = strings.ToValidUTF8(zone, "?"), strings.ToValidUTF8(id, "?")
		share %= policy.ShareTotal + 1
		take := func(n uint64) uint64 {
			v := bits % n
			bits /= n
			return v
		}
		m := &policy.Service{Key: discovery.Key{Namespace: namespace, Name: name}, ClusterIPs: []string{address.String()}}
		for i, number := range []uint16{min(port, tcp), max(port, tcp)} {
			p := policy.Port{Number: number, Protocol: policy.Protocol(take(3))} //nolint:gosec // 0, 1 or 2
			p.DefaultHTTP = i == 0 && p.Protocol != policy.TCP
			platforms := [][]discovery.BackingName{{discovery.Pods}, {discovery.Pods, discovery.Instances}}[take(2)]
			p.Shares = []uint32{policy.ShareTotal}
			if len(platforms) == 2 {
				p.Shares = []uint32{share, policy.ShareTotal - share}
			}
			for _, platform := range platforms {
				b := policy.Backing{Platform: platform}
				for z := range take(4) {
					b.Zones = append(b.Zones, policy.Zone{Name: fmt.Sprint(zone, z), Endpoints: []policy.Endpoint{{
						ID: id, Address: address.String(), Port: port, Weight: max(weight%1000, 1), Health: discovery.Health(take(3)), //nolint:gosec // 0, 1 or 2
					}}})
				}
				p.Backings = append(p.Backings, b)
			}
			if failover {
				p.FailOver()
			}
			m.Ports = append(m.Ports, p)
		}
		c := compile.New()
		resources := c.Service(m)
		d := naming.Declaration{Address: netip.MustParseAddrPort("127.0.0.1:1"), Service: m.Key, Port: m.Ports[1].Number}
		checkResources(t, append(resources, c.Listener(d, m)...))
	})
}

func checkResources(t *testing.T, resources []resource.Resource) {
	t.Helper()
	names := make(map[resource.Type]map[string]bool)
	domains := make(map[string]bool)
	for _, r := range resources {
		if names[r.Type] == nil {
			names[r.Type] = make(map[string]bool)
		}
		require.False(t, names[r.Type][r.Name], "%s %s twice", r.Type, r.Name)
		names[r.Type][r.Name] = true
	}
	for _, r := range resources {
		require.True(t, slices.IsSorted(r.Needs))
		for _, n := range r.Needs {
			require.True(t, names[resource.Cluster][n], "%s needs %s", r.Name, n)
		}
		switch r.Type {
		case resource.Cluster:
			require.Regexp(t, clusterNames, r.Name)
			m := &clusterv3.Cluster{}
			unmarshal(t, r.Body, m)
			require.NoError(t, m.ValidateAll())
			require.Equal(t, r.Name, m.GetName())
			require.Equal(t, r.EDS, names[resource.Endpoint][r.Name])
		case resource.Endpoint:
			for _, v := range append(slices.Collect(r.Variants), r.Body) {
				m := &endpointv3.ClusterLoadAssignment{}
				unmarshal(t, v, m)
				require.NoError(t, m.ValidateAll())
				require.Equal(t, r.Name, m.GetClusterName())
			}
		case resource.VirtualHost:
			require.Regexp(t, hostNames, r.Name)
			m := &routev3.VirtualHost{}
			unmarshal(t, r.Body, m)
			require.NoError(t, m.ValidateAll())
			require.Equal(t, r.Name, m.GetName())
			for _, d := range m.GetDomains() {
				require.False(t, domains[d], "domain %s twice", d)
				domains[d] = true
			}
		case resource.Listener:
			m := &listenerv3.Listener{}
			unmarshal(t, r.Body, m)
			require.NoError(t, m.ValidateAll())
			require.Equal(t, r.Visible.Declared, m.GetName())
		case resource.Route:
		}
	}
}

func BenchmarkService(b *testing.B) {
	c := compile.New()
	for _, n := range []int{5, 500} {
		m := service(n)
		b.Run(fmt.Sprintf("endpoints=%d", 2*n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.Service(m)
			}
		})
	}
}
