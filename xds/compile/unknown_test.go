package compile

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// The endpoints of a group that nobody has read are not among the resources:
// an empty list would take away those that a proxy has. Once it is read,
// empty is empty.
func TestUnknownEndpointsAreNotEmptyOnes(t *testing.T) {
	t.Parallel()
	key := discovery.Key{Namespace: "web", Name: "php"}
	cat := catalog.New()
	write := func(change func(*catalog.Tx)) {
		_, err := cat.Write(time.Time{}, func(tx *catalog.Tx) error { change(tx); return nil })
		require.NoError(t, err)
	}
	names := func(rt resource.Type) (out []string) {
		for _, r := range New().Service(resolve.BuildService(cat.Read(), key)) {
			if r.Type == rt {
				out = append(out, r.Name)
			}
		}
		return out
	}
	set := func(tx *catalog.Tx, name string, platform discovery.BackingName, group string, ids ...string) {
		s := &discovery.EndpointSet{
			Scope: "test", Key: discovery.Key{Namespace: "web", Name: name}, Service: key, Platform: platform, Group: group,
			Ports: []discovery.EndpointPort{{Name: "http", Port: 80}, {Name: "mysql", Port: 3306}},
		}
		for _, id := range ids {
			s.Endpoints = append(s.Endpoints, discovery.Endpoint{ID: id, Address: "10.0.0.1", Zone: "z1"})
		}
		catalog.Endpoints.Put(tx, s)
	}
	write(func(tx *catalog.Tx) {
		catalog.Services.Put(tx, &discovery.Service{Scope: "test", Key: key, Home: "Instances", Ports: []discovery.ServicePort{
			{Name: "http", Port: 80}, {Name: "mysql", Port: 3306},
		}})
		for _, name := range []string{"one", "two"} {
			g := &v1alpha1.InstanceGroup{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: name}}
			g.Spec.ServiceRef.Name = key.Name
			g.Spec.Ports = []v1alpha1.InstancePort{{Name: "http", Port: 80}, {Name: "mysql", Port: 3306}}
			catalog.Objects.Put(tx, (&discovery.InstanceGroup{Scope: "test", Key: discovery.Key{Namespace: "web", Name: name}, Object: g}).Row())
		}
		set(tx, "pods", discovery.Pods, "", "p")
	})
	instances, pods := naming.Cluster(key, 80, discovery.Instances), naming.Cluster(key, 80, discovery.Pods)
	require.Contains(t, names(resource.Cluster), instances)
	require.Contains(t, names(resource.Cluster), naming.Shared(key, 3306))
	require.Equal(t, []string{pods}, names(resource.Endpoint), "neither the instances', nor a list for TCP in which pods would get their share")

	write(func(tx *catalog.Tx) { set(tx, "one", discovery.Instances, "one") })
	require.Equal(t, []string{pods}, names(resource.Endpoint), "the other group is still not known")
	write(func(tx *catalog.Tx) { set(tx, "one", discovery.Instances, "one", "i-1") })
	require.ElementsMatch(t, []string{pods, instances, naming.Shared(key, 3306)}, names(resource.Endpoint), "what is known is served")
	write(func(tx *catalog.Tx) {
		set(tx, "one", discovery.Instances, "one")
		set(tx, "two", discovery.Instances, "two")
	})
	require.ElementsMatch(t, []string{pods, instances, naming.Shared(key, 3306)}, names(resource.Endpoint), "read and empty")
}

// Where it is not known who has the traffic, nobody gets any by a guess: what callers would be
// told is a stand-in that answers 503, and endpoints that have the shares are left out.
func TestUnknownHomesAreNotGuessed(t *testing.T) {
	t.Parallel()
	key := discovery.Key{Namespace: "web", Name: "php"}
	cat := catalog.New()
	_, err := cat.Write(time.Time{}, func(tx *catalog.Tx) error {
		catalog.Services.Put(tx, &discovery.Service{Scope: "test", Key: key, Ports: []discovery.ServicePort{{Name: "http", Port: 80}, {Name: "mysql", Port: 3306}}})
		catalog.Homes.Put(tx, &discovery.Home{Scope: "test", Key: key, Unknown: "homes.state is cut"})
		for _, platform := range []discovery.BackingName{discovery.Pods, discovery.Instances} {
			catalog.Endpoints.Put(tx, &discovery.EndpointSet{
				Scope: "test", Key: discovery.Key{Namespace: "web", Name: platform.String()}, Service: key, Platform: platform,
				Ports:     []discovery.EndpointPort{{Name: "http", Port: 80}, {Name: "mysql", Port: 3306}},
				Endpoints: []discovery.Endpoint{{ID: platform.String(), Address: "10.0.0.1"}},
			})
		}
		return nil
	})
	require.NoError(t, err)
	hosts, endpoints := 0, 0
	m := resolve.BuildService(cat.Read(), key)
	for _, r := range New().Service(m) {
		switch r.Type {
		case resource.VirtualHost:
			hosts++
			require.True(t, r.StandIn, r.Name)
			require.Empty(t, r.Needs)
			require.Contains(t, string(r.Body.Bytes()), naming.UnknownCluster)
			for _, platform := range []discovery.BackingName{discovery.Pods, discovery.Instances} {
				require.NotContains(t, string(r.Body.Bytes()), naming.Cluster(key, 80, platform))
			}
		case resource.Endpoint:
			endpoints++
			require.NotEqual(t, naming.Shared(key, 3306), r.Name)
		case resource.Cluster, resource.Secret, resource.Listener, resource.Route:
			require.False(t, r.StandIn, "what does not depend on the home is as ever")
		}
	}
	require.Equal(t, [2]int{2, 2}, [2]int{hosts, endpoints})

	// A port that speaks HTTP may be the backend of connections: then the shares are in the listener.
	for protocol, standsIn := range map[policy.Protocol]bool{policy.TCP: false, policy.HTTP1: true} {
		m.Ports[1].TCP = &policy.TCPRoutes{Rules: []policy.TCPRule{{Backends: []policy.Backend{{
			Kind: policy.ServiceBackend, Key: key, Port: 80, Protocol: protocol, Share: policy.ShareTotal, Unknown: m.Unknown,
		}}}}}
		d, err := naming.ParseDeclaration("tcp/127.0.0.1:3306=web/php:3306")
		require.NoError(t, err)
		require.Equal(t, standsIn, New().Listener(d, m)[0].StandIn)
	}
}

// Where it is not known whether TLS is to be spoken, new proxies get a cluster that has no endpoint, and
// those that have it keep it and are told its endpoints.
func TestUnknownTLSIsNotInTheClear(t *testing.T) {
	t.Parallel()
	key := discovery.Key{Namespace: "web", Name: "php"}
	tls := &policy.TLS{Failed: "odd", Unknown: true}
	zones := []policy.Zone{{Name: "z1", Endpoints: []policy.Endpoint{{ID: "a", Address: "10.0.0.1", Port: 80, Weight: 1}}}}
	for name, protocol := range map[string]policy.Protocol{"http": policy.HTTP1, "h2": policy.HTTP2, "tcp": policy.TCP} {
		m := &policy.Service{Key: key, Ports: []policy.Port{{
			Number: 80, Protocol: protocol, Shares: []uint32{policy.ShareTotal, 0},
			Backings: []policy.Backing{{Platform: discovery.Pods, Zones: zones}, {Platform: discovery.Instances, Zones: zones, TLS: tls}},
			Groups:   []policy.Group{{Name: "g", Zones: zones, TLS: tls}},
		}}}
		standing, endpoints := 0, 0
		for _, r := range New().Service(m) {
			if r.Type == resource.Endpoint {
				endpoints++
				require.Contains(t, string(r.Body.Bytes()), "10.0.0.1", name)
			}
			if r.Type == resource.Cluster && r.StandIn {
				standing++
				require.False(t, r.EDS, name)
			}
		}
		require.Equal(t, 2, standing, name)
		require.Equal(t, map[policy.Protocol]int{policy.HTTP1: 3, policy.HTTP2: 3, policy.TCP: 2}[protocol], endpoints, name)
	}
	for _, dns := range []string{"", "db.example"} {
		x := &policy.External{Key: key, DNS: dns, Hosts: []string{"db.example"}, Ports: []policy.ExternalServicePort{{Number: 80, TLS: tls}}}
		standing := 0
		for _, r := range New().External(x) {
			if r.Type == resource.Cluster {
				require.True(t, r.StandIn)
				require.NotContains(t, string(r.Body.Bytes()), "dns")
				standing++
			}
		}
		require.Equal(t, 1, standing)
	}
}
