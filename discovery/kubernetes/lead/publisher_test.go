package lead

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/meshtest"
)

// instances writes what EC2 would say: n instances, every third a Spot one.
func instances(t *testing.T, cat *catalog.Catalog, n int, change func(i int, e *discovery.Endpoint)) {
	t.Helper()
	set := &discovery.InstanceSet{
		Scope: "ec2", Key: discovery.Key{Namespace: "web", Name: "php-web-ec2"}, Service: discovery.Key{Namespace: "web", Name: "php-web"},
	}
	for i := range n {
		e := discovery.Endpoint{ID: fmt.Sprintf("i-%03d", i), Address: fmt.Sprintf("10.1.%d.%d", i/250, i%250+1), Zone: "a", Weight: 4}
		if i%3 == 0 {
			e.Spot, e.Weight = true, 1
		}
		if change != nil {
			change(i, &e)
		}
		set.Endpoints = append(set.Endpoints, e)
	}
	_, err := cat.Write(time.Time{}, func(tx *catalog.Tx) error {
		catalog.Instances.Put(tx, set)
		return nil
	})
	require.NoError(t, err)
}

// What the leader publishes is what every replica reads back: the same rows. A
// change of one instance rewrites one slice. What is not known is not touched.
func TestPublish(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
	kube.ApplyYAML(t, meshtest.Service+"---"+meshtest.Group)
	leader, follower := newReplica(t, kube, nil), newReplica(t, kube, nil)
	stop := meshtest.Run(t, func(ctx context.Context) error { return Publish(ctx, leader.Client, leader.Catalog) })
	instances(t, leader.Catalog, 250, nil)
	count := func(r *meshtest.Replica, want int) {
		t.Helper()
		harness.Eventually(t, 20*time.Second, fmt.Sprintf("%d instances", want), func() error {
			if got := len(r.Addresses("web/php-web")); got != want {
				return fmt.Errorf("%d", got)
			}
			return nil
		})
	}
	count(leader, 250)
	count(follower, 250)
	rows := func(r *meshtest.Replica) string {
		text, err := json.Marshal(slices.Collect(catalog.Endpoints.All(r.Catalog.Read())))
		require.NoError(t, err)
		return string(text)
	}
	require.Equal(t, rows(leader), rows(follower))
	versions := func() map[string]string {
		list, err := kube.Client(t).DiscoveryV1().EndpointSlices("web").List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		out := make(map[string]string)
		for _, s := range list.Items {
			out[s.Name] = s.ResourceVersion
			require.LessOrEqual(t, len(s.Endpoints), sliceSize)
		}
		return out
	}
	before := versions()
	require.Len(t, before, 3, "two of others and one of Spot instances")
	instances(t, leader.Catalog, 250, func(i int, e *discovery.Endpoint) {
		if i == 7 {
			e.Health, e.Reason = discovery.Draining, "SpotInterruption"
		}
	})
	harness.Eventually(t, 20*time.Second, "the follower sees it drain", func() error {
		for set := range catalog.Endpoints.All(follower.Catalog.Read()) {
			for _, e := range set.Endpoints {
				if e.ID == "i-007" && e.Health == discovery.Draining && e.Reason == "SpotInterruption" && !e.Spot && e.Weight == 4 {
					return nil
				}
			}
		}
		return fmt.Errorf("not yet")
	})
	changed := 0
	for name, version := range versions() {
		if before[name] != version {
			changed++
		}
	}
	require.Equal(t, 1, changed, "slices rewritten for one instance")

	// A new leader knows nothing yet and changes nothing; then it goes on.
	stop()
	before = versions()
	next := newReplica(t, kube, nil)
	meshtest.Run(t, func(ctx context.Context) error { return Publish(ctx, next.Client, next.Catalog) })
	kube.ApplyYAML(t, strings.Replace(meshtest.Group, "spot: Avoid", "spot: Same", 1)) // wakes the publisher
	harness.Throughout(t, time.Second, "that the slices stay", func() error {
		if now := versions(); !maps.Equal(now, before) {
			return fmt.Errorf("they are %v", now)
		}
		return nil
	})
	instances(t, next.Catalog, 0, nil)
	count(follower, 0)
}

// During an upgrade a newer leader may publish slices with marks that this
// version does not know. It reads all of their endpoints, and as a leader it
// does not rewrite what says the same.
func TestVersionSkew(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
	kube.ApplyYAML(t, meshtest.Service+"---"+meshtest.Group)
	r := newReplica(t, kube, nil)
	meshtest.Run(t, func(ctx context.Context) error { return Publish(ctx, r.Client, r.Catalog) })
	instances(t, r.Catalog, 3, nil)
	slices := kube.Client(t).DiscoveryV1().EndpointSlices("web")
	current := func() map[string]string {
		list, err := slices.List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		out := make(map[string]string)
		for _, s := range list.Items {
			out[s.Name] = s.ResourceVersion
		}
		return out
	}
	r.WaitAddresses(t, "web/php-web", "10.1.0.1", "10.1.0.2", "10.1.0.3")
	for name := range current() {
		_, err := slices.Patch(t.Context(), name, "application/merge-patch+json", []byte(
			`{"metadata":{"labels":{"mesh.causeway.dev/future":"x"},"annotations":{"mesh.causeway.dev/future":"{"}}}`), metav1.PatchOptions{})
		require.NoError(t, err)
	}
	versions := current()
	next := newReplica(t, kube, nil)
	next.WaitAddresses(t, "web/php-web", "10.1.0.1", "10.1.0.2", "10.1.0.3")
	meshtest.Run(t, func(ctx context.Context) error { return Publish(ctx, next.Client, next.Catalog) })
	instances(t, next.Catalog, 3, nil)
	harness.Throughout(t, time.Second, "that the slices stay", func() error {
		if now := current(); !maps.Equal(now, versions) {
			return fmt.Errorf("they are %v", now)
		}
		return nil
	})
}

// A group that cannot be read is not one that is gone: what was published of it
// stays, and no home is recorded by it, until it is deleted.
func TestUnreadableGroup(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
	kube.ApplyYAML(t, meshtest.Service+"---"+meshtest.Group)
	key := discovery.Key{Namespace: "web", Name: "php-web-ec2"}
	first := newReplica(t, kube, nil)
	stop := meshtest.Run(t, func(ctx context.Context) error { return Publish(ctx, first.Client, first.Catalog) })
	instances(t, first.Catalog, 3, nil)
	first.WaitAddresses(t, "web/php-web", "10.1.0.1", "10.1.0.2", "10.1.0.3")
	stop()
	stays := func(r *meshtest.Replica) {
		t.Helper()
		p := &publisher{client: r.Client, cat: r.Catalog}
		require.NoError(t, p.publish(t.Context(), key))
		list, err := kube.Client(t).DiscoveryV1().EndpointSlices("web").List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		require.NotEmpty(t, list.Items, "the slices of a group that is there are deleted")
		for _, h := range upstream.UnrecordedHomes(r.Catalog.Read()) {
			require.NotEqual(t, "web", h.Namespace, "a home is recorded by a guess")
		}
	}
	crd := func(patch string) {
		t.Helper()
		const path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/instancegroups.mesh.causeway.dev"
		require.NoError(t, meshtest.API(t, kube).Patch(types.JSONPatchType).AbsPath(path).Body([]byte(patch)).Do(t.Context()).Error())
	}

	// A CRD of another version lets it say what this release does not understand.
	crd(`[{"op":"replace","path":"/spec/versions/0/schema/openAPIV3Schema","value":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}]`)
	path := meshtest.PathIn(discovery.KindInstanceGroup, "web", "php-web-ec2")
	harness.Eventually(t, 20*time.Second, "the new schema holds", func() error {
		return meshtest.API(t, kube).Patch(types.MergePatchType).AbsPath(path).Body([]byte(`{"spec":{"ports":"odd"}}`)).Do(t.Context()).Error()
	})
	next := newReplica(t, kube, nil)
	st, _ := catalog.Sources.Get(next.Catalog.Read(), cluster.ScopeInstanceGroups)
	require.Len(t, st.Unread, 1)
	require.Equal(t, key, st.Unread[0].Key)
	require.Equal(t, []discovery.ObjectName{{Kind: discovery.KindService, Key: discovery.Key{Namespace: "web", Name: "php-web"}}}, st.Unread[0].Targets)
	stays(next)

	// Nor is one gone whose kind is not served in a version that is read.
	crd(`[{"op":"replace","path":"/spec/versions/0/served","value":false}]`)
	harness.Eventually(t, 20*time.Second, "the version is not served", func() error {
		if meshtest.API(t, kube).Get().AbsPath(path).Do(t.Context()).Error() == nil {
			return fmt.Errorf("it is")
		}
		return nil
	})
	blind := newReplica(t, kube, nil)
	blind.WaitNote(t, cluster.ScopeInstanceGroups, "does not serve")
	stays(blind)
	crd(`[{"op":"replace","path":"/spec/versions/0/served","value":true}]`)
	harness.Eventually(t, 50*time.Second, "the group is listed", func() error {
		if st, _ := catalog.Sources.Get(blind.Catalog.Read(), cluster.ScopeInstanceGroups); st.UnreadAll != "" || len(st.Unread) != 1 {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
	stays(blind)

	meshtest.Run(t, func(ctx context.Context) error { return Publish(ctx, blind.Client, blind.Catalog) })
	instances(t, blind.Catalog, 3, nil) // wakes the publisher
	require.NoError(t, meshtest.API(t, kube).Delete().AbsPath(path).Do(t.Context()).Error())
	blind.WaitAddresses(t, "web/php-web")
}
