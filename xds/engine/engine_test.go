package engine

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/convert"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/xds/compile"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// start runs an engine over the catalog until the test ends.
func start(t *testing.T, cat *catalog.Catalog, options ...func(*Engine)) (*Engine, *snapshot.Store) {
	t.Helper()
	store := snapshot.New()
	e := New(cat, store, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	for _, set := range options {
		set(e)
	}
	done := make(chan error, 1)
	ctx := t.Context()
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() { <-done })
	return e, store
}

// contents returns everything in a store that a proxy of the view sees, as text.
func contents(store *snapshot.Store) map[string]string {
	out := make(map[string]string)
	for _, ns := range []string{"a", "b"} {
		for _, zone := range []string{"", "z1", "z2"} {
			v := snapshot.View{
				Role: resource.Sidecar, Namespace: ns, Zone: zone,
				Declared: declared,
			}
			for _, r := range store.Resources(v) {
				out[fmt.Sprintf("%s/%s/%s/%s", ns, zone, r.Type, r.Name)] = fmt.Sprint(r.Version, r.Provenance)
			}
		}
		for _, r := range store.Resources(edgeView(ns, declared...)) {
			out[fmt.Sprintf("%s/edge/%s/%s", ns, r.Type, r.Name)] = fmt.Sprint(r.Version, r.Provenance)
		}
	}
	return out
}

// mutate makes one random change: a Service, a set of endpoints, a group or a
// home comes, changes or goes.
func mutate(r *rand.Rand, tx *catalog.Tx) {
	key := discovery.Key{Namespace: []string{"a", "b"}[r.IntN(2)], Name: fmt.Sprintf("s%d", r.IntN(4))}
	switch r.IntN(11) {
	case 0:
		catalog.Services.Delete(tx, key.String())
	case 1, 2:
		home := []string{"", "Instances", "Pods", "nonsense"}[r.IntN(4)]
		s := &discovery.Service{Scope: "test", Key: key, Home: home, Generation: r.Int64N(3)}
		for _, p := range []discovery.ServicePort{{Name: "http", Port: 80}, {Name: "grpc", Port: 9000}, {Name: "mysql", Port: 3306}} {
			if r.IntN(3) > 0 {
				s.Ports = append(s.Ports, p)
			}
		}
		catalog.Services.Put(tx, s)
	case 3:
		catalog.Endpoints.Delete(tx, fmt.Sprintf("test|%s/%s-%d", key.Namespace, key.Name, r.IntN(3)))
	case 4, 5, 6:
		set := &discovery.EndpointSet{
			Scope: "test", Service: key, Platform: discovery.Backings()[r.IntN(2)],
			Key:   discovery.Key{Namespace: key.Namespace, Name: fmt.Sprintf("%s-%d", key.Name, r.IntN(3))},
			Ports: []discovery.EndpointPort{{Name: "http", Port: 8080}, {Name: "mysql", Port: 3306}},
		}
		for i := range r.IntN(5) {
			set.Endpoints = append(set.Endpoints, discovery.Endpoint{
				ID: fmt.Sprintf("e%d", r.IntN(6)), Address: fmt.Sprintf("10.0.0.%d", i+1),
				Zone: []string{"", "z1", "z2"}[r.IntN(3)], Health: discovery.Health(r.IntN(3)), Weight: r.Uint32N(4), //nolint:gosec // 0 to 2
			})
		}
		catalog.Endpoints.Put(tx, set)
	case 7:
		name := key.Name + "-ec2"
		if r.IntN(3) == 0 {
			catalog.Objects.Delete(tx, "InstanceGroup "+key.Namespace+"/"+name)
			return
		}
		g := &v1alpha1.InstanceGroup{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: name}}
		g.Spec.ServiceRef.Name = fmt.Sprintf("s%d", r.IntN(4)) // it may move to another Service
		catalog.Objects.Put(tx, (&discovery.InstanceGroup{
			Scope: "test", Key: discovery.Key{Namespace: key.Namespace, Name: name}, Object: g,
		}).Row())
	case 9:
		mutateShift(r, tx, key)
	case 10:
		key.Name += "-shift"
		catalog.ShiftStates.Put(tx, &discovery.ShiftState{Scope: "test", Key: key, Status: &v1alpha1.TrafficShiftStatus{
			Phase:   pick(r, "", v1alpha1.ShiftPending, v1alpha1.ShiftShifting, v1alpha1.ShiftCompleted),
			Percent: pick[v1alpha1.Percent](r, "", "0", "0.1", "100"), ShadowPercent: pick[v1alpha1.Percent](r, "", "", "5"),
			ShadowMethods: []v1alpha1.ShiftMethod{"GET"}, Step: r.Int32N(2), Waiting: pick(r, "", "for requests"),
		}})
	case 8:
		catalog.Homes.Put(tx, &discovery.Home{Scope: "test", Key: key, Platform: discovery.Backings()[r.IntN(2)]})
	}
}

// mutateShift makes a random change of the TrafficShift that has a Service's name.
func mutateShift(r *rand.Rand, tx *catalog.Tx, service discovery.Key) {
	name := discovery.ObjectName{Kind: "TrafficShift", Key: discovery.Key{Namespace: service.Namespace, Name: service.Name + "-shift"}}
	if r.IntN(4) == 0 {
		catalog.Objects.Delete(tx, name.String())
		return
	}
	shift := &v1alpha1.TrafficShift{ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Key.Name}}
	shift.Spec.ServiceRef.Name = fmt.Sprintf("s%d", r.IntN(4)) // it may move to another Service
	shift.Spec.Direction = pick(r, v1alpha1.InstancesToPods, v1alpha1.PodsToInstances)
	shift.Spec.Pin = pick[v1alpha1.Percent](r, "", "", "5")
	shift.Spec.Cohort = pick(r, nil, &v1alpha1.ShiftCohort{Header: "x-user"}, &v1alpha1.ShiftCohort{Cookie: &v1alpha1.ShiftCookie{Name: "causeway", TTL: &metav1.Duration{Duration: time.Hour}}})
	catalog.Objects.Put(tx, &discovery.Object{
		Scope: "test", Kind: name.Kind, Key: name.Key, Generation: r.Int64N(3), Spec: shift,
		Refs: []discovery.ObjectName{{Kind: "Service", Key: discovery.Key{Namespace: name.Namespace, Name: shift.Spec.ServiceRef.Name}}},
	})
}

// The oracle of incremental compilation: after any history the snapshot is
// what a new engine makes of the catalog from scratch.
func TestIncrementalEqualsFromScratch(t *testing.T) {
	certificates := newPairs(t)
	for seed := range uint64(30) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 1))
			cat := catalog.New()
			e, store := start(t, cat)
			_, err := e.Declare(t.Context(), declared)
			require.NoError(t, err)
			for range 16 {
				var revision uint64
				for range 1 + r.IntN(5) {
					revision, err = cat.Write(time.Time{}, func(tx *catalog.Tx) error {
						switch r.IntN(5) {
						case 0, 1:
							mutate(r, tx)
						case 2:
							mutateEdge(r, tx, certificates)
						default:
							mutateObject(r, tx)
						}
						return nil
					})
					require.NoError(t, err)
				}
				require.NoError(t, e.Await(t.Context(), revision))
				require.Equal(t, contents(fromScratch(cat.Read())), contents(store))
			}
		})
	}
}

// Sorted, as those of a node are.
var declared = []string{"gateway/127.0.0.1=a/g0", "gateway/127.0.0.2:8443=b/g0:443", "http/127.0.0.1:15001", "tcp/127.0.0.1:3306=a/s0:3306"}

// fromScratch compiles everything that is in the catalog.
func fromScratch(r catalog.Reader) *snapshot.Store {
	store := snapshot.New()
	c := compile.New()
	updates := []snapshot.Update{{Unit: "mesh//default", Resources: c.Mesh(resolve.BuildMesh(r))}}
	for svc := range catalog.Services.All(r) {
		if m := resolve.BuildService(r, svc.Key); m != nil {
			updates = append(updates, snapshot.Update{Unit: svc.Key.String(), Resources: c.Compile(m)})
		}
	}
	for o := range catalog.Objects.By(r, catalog.ByKind, "ExternalService") {
		if m := upstream.BuildExternal(r, o.Key); m != nil {
			updates = append(updates, snapshot.Update{Unit: o.Name().String(), Resources: c.External(m)})
		}
	}
	for o := range catalog.Objects.By(r, catalog.ByKind, "Gateway") {
		if m := resolve.BuildGateway(r, o.Key); m != nil {
			updates = append(updates,
				snapshot.Update{Unit: certificatesUnit(o.Key), Resources: c.Certificates(m)}, snapshot.Update{Unit: o.Name().String(), Resources: c.Gateway(m)})
		}
	}
	for _, text := range declared {
		d, err := naming.ParseDeclaration(text)
		if err != nil {
			panic(err)
		}
		if d.IsGateway() {
			if m := resolve.BuildGateway(r, d.Gateway); m != nil {
				updates = append(updates, snapshot.Update{Unit: text, Resources: c.GatewayListeners(d, m)})
			}
			continue
		}
		var m *policy.Service
		if d.IsTCP() {
			m = resolve.BuildService(r, d.Service)
		}
		updates = append(updates, snapshot.Update{Unit: text, Resources: c.Listener(d, m)})
	}
	store.Apply(time.Now(), updates)
	return store
}

// A lone endpoint change encodes one frame for each variant of that Service's
// endpoints and nothing else, however large the mesh is.
func TestChangeCostsOnlyItsService(t *testing.T) {
	cat := catalog.New()
	set := func(i int, address string) *discovery.EndpointSet {
		key := discovery.Key{Namespace: "a", Name: fmt.Sprintf("s%d", i)}
		return &discovery.EndpointSet{
			Scope: "test", Key: key, Service: key, Platform: discovery.Pods, Ports: []discovery.EndpointPort{{Name: "http", Port: 8080}},
			Endpoints: []discovery.Endpoint{{ID: "p1", Address: address, Zone: "z1"}, {ID: "p2", Address: "10.0.0.2", Zone: "z2"}},
		}
	}
	_, err := cat.Write(time.Time{}, func(tx *catalog.Tx) error {
		for i := range 500 {
			key := discovery.Key{Namespace: "a", Name: fmt.Sprintf("s%d", i)}
			catalog.Services.Put(tx, &discovery.Service{Scope: "test", Key: key, Ports: []discovery.ServicePort{{Name: "http", Port: 80}}})
			catalog.Endpoints.Put(tx, set(i, "10.0.0.1"))
		}
		return nil
	})
	require.NoError(t, err)
	e, store := start(t, cat)
	require.NoError(t, e.Await(t.Context(), cat.Read().Revision()))
	before := store.Counters()
	revision, err := cat.Write(time.Time{}, func(tx *catalog.Tx) error {
		catalog.Endpoints.Put(tx, set(7, "10.0.0.9"))
		return nil
	})
	require.NoError(t, err)
	require.NoError(t, e.Await(t.Context(), revision))
	after := store.Counters()
	require.Equal(t, uint64(1), after.Changed-before.Changed, "only the endpoints changed")
	require.Equal(t, uint64(3), after.Encoded-before.Encoded, "the default variant and two zones")
}

// A route of one Service to another asks for the ids by which requests are told apart while
// there is a TrafficShift of that one, under way or not. So the first is compiled again when
// the shift comes and when it goes.
func TestShiftOfAnotherServiceReachesRoutesToIt(t *testing.T) {
	key := func(name string) discovery.Key { return discovery.Key{Namespace: "a", Name: name} }
	route := &gatewayv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "r"}}
	route.Spec.ParentRefs = []gatewayv1.ParentReference{{Group: new(gatewayv1.Group("")), Kind: new(gatewayv1.Kind("Service")), Name: "front"}}
	route.Spec.Rules = []gatewayv1.HTTPRouteRule{{BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: gatewayv1.BackendRef{
		BackendObjectReference: gatewayv1.BackendObjectReference{Name: "back", Port: new(gatewayv1.PortNumber(80))},
	}}}}}
	shift := &v1alpha1.TrafficShift{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "shift"}}
	shift.Spec.ServiceRef.Name, shift.Spec.Direction = "back", v1alpha1.InstancesToPods
	cat := catalog.New()
	e, store := start(t, cat)
	_, err := e.Declare(t.Context(), declared)
	require.NoError(t, err)
	commit(t, cat, e, func(tx *catalog.Tx) {
		for _, name := range []string{"front", "back"} {
			catalog.Services.Put(tx, &discovery.Service{Scope: "test", Key: key(name), Home: "Pods", Ports: []discovery.ServicePort{{Name: "http", Port: 80}}})
		}
		catalog.Objects.Put(tx, convert.Object(route, "test"))
		// It has completed, so that nothing but its being there tells of it.
		catalog.ShiftStates.Put(tx, &discovery.ShiftState{Scope: "test", Key: key("shift"), Status: &v1alpha1.TrafficShiftStatus{Phase: v1alpha1.ShiftCompleted}})
	})
	row, front := convert.Object(shift, "test"), "a//VHDS/http/front.a:80"
	before := contents(store)
	changed := func(what string) {
		now := contents(store)
		require.Equal(t, contents(fromScratch(cat.Read())), now, what)
		require.NotEmpty(t, now[front])
		require.NotEqual(t, before[front], now[front], what)
		before = now
	}
	commit(t, cat, e, func(tx *catalog.Tx) { catalog.Objects.Put(tx, row) })
	changed("the shift comes")
	commit(t, cat, e, func(tx *catalog.Tx) { catalog.Objects.Delete(tx, row.Name().String()) })
	changed("the shift goes")
}
