package compile

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
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
		for _, r := range New().Service(policy.BuildService(cat.Read(), key)) {
			if r.Type == rt {
				out = append(out, r.Name)
			}
		}
		return out
	}
	set := func(tx *catalog.Tx, name string, platform discovery.Platform, group string, ids ...string) {
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
			catalog.InstanceGroups.Put(tx, &discovery.InstanceGroup{Scope: "test", Key: discovery.Key{Namespace: "web", Name: name}, Object: g})
		}
		set(tx, "pods", discovery.Pods, "", "p")
	})
	instances, pods := ClusterName(key, 80, discovery.Instances), ClusterName(key, 80, discovery.Pods)
	require.Contains(t, names(resource.Cluster), instances)
	require.Contains(t, names(resource.Cluster), sharedName(key, 3306))
	require.Equal(t, []string{pods}, names(resource.Endpoint), "neither the instances', nor a list for TCP in which pods would get their share")

	write(func(tx *catalog.Tx) { set(tx, "one", discovery.Instances, "one") })
	require.Equal(t, []string{pods}, names(resource.Endpoint), "the other group is still not known")
	write(func(tx *catalog.Tx) { set(tx, "one", discovery.Instances, "one", "i-1") })
	require.ElementsMatch(t, []string{pods, instances, sharedName(key, 3306)}, names(resource.Endpoint), "what is known is served")
	write(func(tx *catalog.Tx) {
		set(tx, "one", discovery.Instances, "one")
		set(tx, "two", discovery.Instances, "two")
	})
	require.ElementsMatch(t, []string{pods, instances, sharedName(key, 3306)}, names(resource.Endpoint), "read and empty")
}
