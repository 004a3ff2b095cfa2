package engine

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// commit writes into a catalog and waits until it is in the snapshot.
func commit(t *testing.T, cat *catalog.Catalog, e *Engine, change func(*catalog.Tx)) {
	t.Helper()
	revision, err := cat.Write(time.Time{}, func(tx *catalog.Tx) error { change(tx); return nil })
	require.NoError(t, err)
	require.NoError(t, e.Await(t.Context(), revision))
}

func setFreeze(t *testing.T, cat *catalog.Catalog, e *Engine, f *discovery.Freeze) {
	t.Helper()
	commit(t, cat, e, func(tx *catalog.Tx) {
		if f == nil {
			catalog.Freezes.Delete(tx, catalog.FreezeID)
			return
		}
		f.Scope = "test"
		catalog.Freezes.Put(tx, f)
	})
}

// always is for a catalog that is filled from the start.
func always(catalog.Reader) bool { return true }

// withEndpointsOf returns the contents of before with the endpoints that now
// has for the same clusters.
func withEndpointsOf(before, now map[string]string) map[string]string {
	out := make(map[string]string, len(before))
	for name, content := range before {
		newest, ok := now[name]
		if ok && strings.Contains(name, "/"+resource.Endpoint.String()+"/") {
			content = newest
		}
		out[name] = content
	}
	return out
}

// withoutTCP leaves out the endpoints of TCP ports, which have the shares of before
// in them (TestFreezeHoldsTCPShares).
func withoutTCP(contents map[string]string) map[string]string {
	maps.DeleteFunc(contents, func(name, _ string) bool {
		return strings.Contains(name, "/EDS/") && strings.HasSuffix(name, "/shared")
	})
	return contents
}

// differences lists the names whose versions differ. Provenance is left out:
// what is frozen may be caused alike by a newer generation.
func differences(want, got map[string]string) (out []string) {
	version := func(content string) string {
		v, _, _ := strings.Cut(content, "[")
		return v
	}
	names := maps.Clone(want)
	maps.Copy(names, got)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if version(want[name]) != version(got[name]) {
			out = append(out, fmt.Sprintf("%s: %q instead of %q", name, got[name], want[name]))
		}
	}
	return out
}

// Whatever happens in a freeze, the snapshot is what it was before with the
// newest endpoints; and when it is over, what a new engine makes of the
// catalog. A replica that starts meanwhile with what the others have pinned
// serves the same.
func TestFreeze(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 2))
			cat := catalog.New()
			e, store := start(t, cat, func(e *Engine) { e.FollowFreezes(always) })
			release, err := e.Declare(t.Context(), declared)
			require.NoError(t, err)
			change := func() {
				for range 1 + r.IntN(4) {
					commit(t, cat, e, func(tx *catalog.Tx) {
						if r.IntN(2) == 0 {
							mutate(r, tx)
						} else {
							mutateObject(r, tx)
						}
					})
				}
			}
			for round := range 2 {
				for range 4 {
					change()
				}
				before := withoutTCP(contents(store))
				freeze := discovery.Freeze{Config: true, By: "sre", Since: time.Unix(int64(1000+round), 0)}
				setFreeze(t, cat, e, &freeze)
				expected := before
				for range 4 {
					change()
					expected = withEndpointsOf(expected, contents(fromScratch(cat.Read())))
					require.Empty(t, differences(expected, withoutTCP(contents(store))), "frozen")
					if r.IntN(3) == 0 {
						release()
						release, err = e.Declare(t.Context(), declared)
						require.NoError(t, err)
						require.Empty(t, differences(expected, withoutTCP(contents(store))), "declared anew in a freeze")
					}
				}
				restarted := snapshot.New()
				restarted.SetPins(store.Pins())
				f, _ := start(t, cat, func(e *Engine) { e.store = restarted; e.FollowFreezes(always) })
				_, err := f.Declare(t.Context(), declared)
				require.NoError(t, err)
				require.NoError(t, f.Await(t.Context(), cat.Read().Revision()))
				now := contents(fromScratch(cat.Read()))
				// It cannot know the endpoints that what is gone had last, nor the
				// catalog of before, which listeners that proxies declare are made from.
				unknown := func(name, _ string) bool {
					_, there := now[name]
					return strings.Contains(name, "/EDS/") && !there || strings.Contains(name, "/LDS/tcp/")
				}
				want, got := withoutTCP(contents(store)), withoutTCP(contents(restarted))
				maps.DeleteFunc(want, unknown)
				maps.DeleteFunc(got, unknown)
				require.Empty(t, differences(want, got), "restarted in a freeze")
				setFreeze(t, cat, e, nil)
				require.NoError(t, f.Await(t.Context(), cat.Read().Revision()))
				for _, s := range []*snapshot.Store{store, restarted} {
					require.Empty(t, s.Pins())
					require.Empty(t, differences(contents(fromScratch(cat.Read())), contents(s)), "no longer frozen")
				}
			}
		})
	}
}

// The share of a TCP port is in its endpoints. A freeze holds it all the same,
// and lets the endpoints themselves come and go.
func TestFreezeHoldsTCPShares(t *testing.T) {
	cat := catalog.New()
	e, store := start(t, cat, func(e *Engine) { e.FollowFreezes(always) })
	_, err := e.Declare(t.Context(), declared)
	require.NoError(t, err)
	redis := discovery.Key{Namespace: "a", Name: "redis"}
	endpoints := func(tx *catalog.Tx, platform discovery.BackingName, addresses ...string) {
		set := &discovery.EndpointSet{
			Scope: "test", Key: discovery.Key{Namespace: "a", Name: platform.String()}, Service: redis, Platform: platform, Group: "ec2",
			Ports: []discovery.EndpointPort{{Name: "redis", Port: 6379}},
		}
		for _, a := range addresses {
			set.Endpoints = append(set.Endpoints, discovery.Endpoint{ID: a, Address: a, Zone: "z1"})
		}
		catalog.Endpoints.Put(tx, set)
	}
	pin := func(tx *catalog.Tx, percent v1alpha1.Percent) {
		o := &v1alpha1.TrafficShift{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "shift"}}
		o.Spec.ServiceRef.Name, o.Spec.Pin = redis.Name, percent
		catalog.Objects.Put(tx, &discovery.Object{
			Scope: "test", Kind: "TrafficShift", Key: discovery.Key{Namespace: "a", Name: "shift"}, Spec: o,
			Refs: []discovery.ObjectName{{Kind: "Service", Key: redis}},
		})
	}
	commit(t, cat, e, func(tx *catalog.Tx) {
		catalog.Services.Put(tx, &discovery.Service{
			Scope: "test", Key: redis, Home: "Instances", Ports: []discovery.ServicePort{{Name: "redis", Port: 6379}},
		})
		group := &v1alpha1.InstanceGroup{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "ec2"}}
		group.Spec.ServiceRef.Name = redis.Name
		catalog.Objects.Put(tx, (&discovery.InstanceGroup{Scope: "test", Key: discovery.Key{Namespace: "a", Name: "ec2"}, Object: group}).Row())
		endpoints(tx, discovery.Instances, "10.0.0.1")
		endpoints(tx, discovery.Pods, "10.1.0.1")
		pin(tx, "10")
	})
	moving := contents(store)
	commit(t, cat, e, func(tx *catalog.Tx) { pin(tx, "50") })
	require.NotEmpty(t, differences(moving, contents(store)), "a share is in force")
	commit(t, cat, e, func(tx *catalog.Tx) { pin(tx, "10") })
	require.Empty(t, differences(moving, contents(store)))

	setFreeze(t, cat, e, &discovery.Freeze{Config: true, Since: time.Unix(1000, 0)})
	commit(t, cat, e, func(tx *catalog.Tx) { pin(tx, "50") })
	require.Empty(t, differences(moving, contents(store)), "a share that moves in a freeze")
	commit(t, cat, e, func(tx *catalog.Tx) { endpoints(tx, discovery.Pods, "10.1.0.1", "10.1.0.2") })
	require.NotEmpty(t, differences(moving, contents(store)), "a pod that comes in a freeze")
	commit(t, cat, e, func(tx *catalog.Tx) { endpoints(tx, discovery.Pods, "10.1.0.1") })
	require.Empty(t, differences(moving, contents(store)), "a pod that goes in a freeze")
	setFreeze(t, cat, e, nil)
	require.Empty(t, differences(contents(fromScratch(cat.Read())), contents(store)))
	require.NotEmpty(t, differences(moving, contents(store)), "no longer frozen")
}
