package resolve

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Whatever a change of one row changes in the meaning of a Service, Touched
// and, for those whose shape changed, Referrers must yield that Service:
// nothing else is compiled again.
func TestWhatARouteReadsTouchesIt(t *testing.T) {
	changed := 0
	for seed := range uint64(12) {
		rnd := rand.New(rand.NewPCG(seed, 6))
		cat := catalog.New()
		feed := cat.Subscribe()
		write := func(fn func(tx *catalog.Tx)) []catalog.Change {
			_, err := cat.Write(time.Time{}, func(tx *catalog.Tx) error { fn(tx); return nil })
			require.NoError(t, err)
			batch, _ := feed.Take()
			return batch.Changes
		}
		for range 60 {
			write(func(tx *catalog.Tx) { putRandomRow(rnd, tx) })
		}
		for range 60 {
			before := models(cat.Read())
			changes := write(func(tx *catalog.Tx) { putRandomRow(rnd, tx) })
			r := cat.Read()
			after := models(r)
			touched := make(map[policy.Unit]bool)
			for _, c := range changes {
				Touched(r, c.Before, c.After, func(u policy.Unit) { touched[u] = true })
			}
			for key := range worldServices() {
				if u := policy.ServiceUnit(key); before[key].Shape() != after[key].Shape() {
					require.True(t, touched[u], "shape of %s", key)
					Referrers(r, u, func(u policy.Unit) { touched[u] = true })
				}
			}
			for key := range worldServices() {
				if diff := cmp.Diff(before[key], after[key]); diff != "" {
					changed++
					require.True(t, touched[policy.ServiceUnit(key)], "seed %d: %+v changes %s, which is not touched:\n%s", seed, changes, key, diff)
				}
			}
		}
		feed.Close()
	}
	require.Greater(t, changed, 100, "the test changes nothing")
}

// Routes of other Services have what is said of one compiled in, so each part of
// that is in its shape.
func TestShapeHasWhatRoutesOfOthersRead(t *testing.T) {
	plain := policy.Service{Key: web, Ports: []policy.Port{{Number: 80, Backings: []policy.Backing{{}}, Shares: []uint32{policy.ShareTotal}}}}
	for name, change := range map[string]func(*policy.Service){
		"Reported": func(s *policy.Service) { s.Reported = true },
		"ClientIP": func(s *policy.Service) { s.ClientIP = true },
		"Unknown":  func(s *policy.Service) { s.Unknown = "homes.state is cut" },
		"Shift":    func(s *policy.Service) { s.Shift = &policy.Shift{} },
	} {
		changed := plain
		change(&changed)
		require.NotEqual(t, plain.Shape(), changed.Shape(), name)
	}
	reported, affine := plain, plain
	reported.Reported, affine.ClientIP = true, true
	require.NotEqual(t, reported.Shape(), affine.Shape())
}

func models(r catalog.Reader) map[discovery.Key]*policy.Service {
	out := make(map[discovery.Key]*policy.Service)
	for key := range worldServices() {
		out[key] = BuildService(r, key)
	}
	return out
}

// worldServices yields the Services that may exist in a random world.
func worldServices() map[discovery.Key]bool {
	out := make(map[discovery.Key]bool)
	for _, namespace := range worldNamespaces {
		for _, name := range worldNames {
			out[discovery.Key{Namespace: namespace, Name: name}] = true
		}
	}
	return out
}

var (
	worldNamespaces = []string{"web", "pay", "client"}
	worldNames      = []string{"a", "b"}
)

func pick[T any](rnd *rand.Rand, from ...T) T { return from[rnd.IntN(len(from))] }

// putRandomRow creates, replaces or deletes one row.
func putRandomRow(rnd *rand.Rand, tx *catalog.Tx) {
	key := discovery.Key{Namespace: pick(rnd, worldNamespaces...), Name: pick(rnd, worldNames...)}
	remove := rnd.IntN(4) == 0
	switch rnd.IntN(12) {
	case 0:
		if remove {
			catalog.Services.Delete(tx, key.String())
			return
		}
		ports := []discovery.ServicePort{{Name: "http", Port: 80, AppProtocol: pick(rnd, "http", "kubernetes.io/h2c", "tcp")}}
		if rnd.IntN(2) == 0 {
			ports = append(ports, discovery.ServicePort{Name: pick(rnd, "admin", "https"), Port: 8080})
		}
		catalog.Services.Put(tx, &discovery.Service{Scope: "test", Key: key, Ports: ports, Home: pick(rnd, "", upstream.HomeInstances, upstream.HomePods)})
	case 1:
		g := &discovery.InstanceGroup{Scope: "test", Key: discovery.Key{Namespace: key.Namespace, Name: "ec2"}}
		if remove {
			catalog.Objects.Delete(tx, "InstanceGroup "+g.Key.String())
			return
		}
		g.Object = &v1alpha1.InstanceGroup{Spec: v1alpha1.InstanceGroupSpec{
			ServiceRef: v1alpha1.ServiceReference{Name: key.Name},
			Ports:      []v1alpha1.InstancePort{{Name: pick(rnd, "http", "admin"), Port: 8080}},
		}}
		g.Object.Namespace, g.Object.Name = g.Namespace, g.Name
		catalog.Objects.Put(tx, g.Row())
	case 2:
		s := &discovery.EndpointSet{
			Scope: "test", Key: key, Service: key, Platform: pick(rnd, discovery.Pods, discovery.Instances),
			Ports:     []discovery.EndpointPort{{Name: "http", Port: 8080}},
			Endpoints: []discovery.Endpoint{{ID: "x", Address: fmt.Sprintf("10.0.0.%d", rnd.IntN(3))}},
		}
		if s.Platform == discovery.Instances {
			s.Group = "ec2"
		}
		catalog.Endpoints.Put(tx, s)
	case 3:
		o := &discovery.Object{Scope: "test", Kind: "ReferenceGrant", Key: discovery.Key{Namespace: key.Namespace, Name: "grant"}, Spec: &gatewayv1.ReferenceGrant{
			Spec: gatewayv1.ReferenceGrantSpec{
				From: []gatewayv1.ReferenceGrantFrom{{Group: gatewayv1.GroupName, Kind: gatewayv1.Kind(pick(rnd, "HTTPRoute", "GRPCRoute", "TCPRoute")), Namespace: gatewayv1.Namespace(pick(rnd, worldNamespaces...))}},
				To:   []gatewayv1.ReferenceGrantTo{{Group: gatewayv1.Group(pick(rnd, "", v1alpha1.Group)), Kind: gatewayv1.Kind(pick(rnd, "Service", "InstanceGroup", "ExternalService"))}},
			},
		}}
		putOrDelete(tx, o, remove)
	case 4:
		o := &discovery.Object{Scope: "test", Kind: "ExternalService", Key: discovery.Key{Namespace: key.Namespace, Name: "out"}, Generation: int64(rnd.IntN(3))}
		host := pick(rnd, "a.example.com", "b.example.com")
		o.Hosts = []string{host}
		o.Spec = &v1alpha1.ExternalService{Spec: v1alpha1.ExternalServiceSpec{
			Hosts: o.Hosts, Resolution: v1alpha1.ResolveDNS,
			Ports: []v1alpha1.ExternalPort{{Number: pick(rnd, int32(80), 8080), Protocol: pick(rnd, v1alpha1.ExternalHTTP, v1alpha1.ExternalTCP)}},
		}}
		putOrDelete(tx, o, remove)
	case 5:
		o := randomShift(rnd, key.Namespace)
		putOrDelete(tx, o, remove)
	case 6:
		id := discovery.Key{Namespace: key.Namespace, Name: pick(rnd, "t1", "t2")}
		if remove {
			catalog.ShiftStates.Delete(tx, id.String())
			return
		}
		catalog.ShiftStates.Put(tx, &discovery.ShiftState{Scope: "test", Key: id, UID: pick(rnd, "", "1", "2"), Status: randomShiftStatus(rnd)})
	case 7:
		if remove {
			catalog.Homes.Delete(tx, key.String())
			return
		}
		catalog.Homes.Put(tx, &discovery.Home{
			Scope: "test", Key: key, Platform: pick(rnd, discovery.Pods, discovery.Instances), Supersedes: pick(rnd, "", upstream.HomeInstances, upstream.HomePods),
		})
	case 8:
		o := backendTLS(pick(rnd, "t1", "t2"), rnd.IntN(9), by("a.example"), key.Name+pick(rnd, "", "#https", "#admin"))
		o.Namespace, o.Refs[0].Namespace = key.Namespace, key.Namespace
		putOrDelete(tx, o, remove)
	case 9:
		o := traffic(pick(rnd, "t1", "t2"), rnd.IntN(9), v1alpha1.TrafficSettings{TLS: &v1alpha1.UpstreamTLS{SNI: "b.example"}}, pick(rnd, "Service/"+key.Name, "InstanceGroup/ec2", "ExternalService/out"))
		o.Namespace, o.Refs[0].Namespace = key.Namespace, key.Namespace
		putOrDelete(tx, o, remove)
	default:
		putOrDelete(tx, randomRoute(rnd, key), remove)
	}
}

func putOrDelete(tx *catalog.Tx, o *discovery.Object, remove bool) {
	if remove {
		catalog.Objects.Delete(tx, o.Name().String())
		return
	}
	catalog.Objects.Put(tx, o)
}

// randomRoute returns a route of some namespace whose parents and backends may exist.
func randomRoute(rnd *rand.Rand, parent discovery.Key) *discovery.Object {
	kind := pick(rnd, "HTTPRoute", "HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute")
	o := &discovery.Object{
		Scope: "test", Kind: kind, Key: discovery.Key{Namespace: pick(rnd, worldNamespaces...), Name: pick(rnd, "r1", "r2")},
		Generation: int64(rnd.IntN(5)), Created: metav1.Unix(int64(rnd.IntN(3)), 0).Time,
	}
	group, service := gatewayv1.Group(""), gatewayv1.Kind("Service")
	namespace := gatewayv1.Namespace(parent.Namespace)
	common := gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{
		Group: &group, Kind: &service, Namespace: &namespace, Name: gatewayv1.ObjectName(parent.Name),
	}}}
	var refs []gatewayv1.BackendRef
	for range rnd.IntN(4) {
		refs = append(refs, gatewayv1.BackendRef{BackendObjectReference: randomReference(rnd)})
	}
	switch kind {
	case "HTTPRoute":
		rule := gatewayv1.HTTPRouteRule{}
		for _, ref := range refs {
			rule.BackendRefs = append(rule.BackendRefs, gatewayv1.HTTPBackendRef{BackendRef: ref})
		}
		if rnd.IntN(3) == 0 {
			rule.Filters = []gatewayv1.HTTPRouteFilter{{
				Type: gatewayv1.HTTPRouteFilterRequestMirror, RequestMirror: &gatewayv1.HTTPRequestMirrorFilter{BackendRef: randomReference(rnd)},
			}}
		}
		o.Spec = &gatewayv1.HTTPRoute{Spec: gatewayv1.HTTPRouteSpec{CommonRouteSpec: common, Rules: []gatewayv1.HTTPRouteRule{rule}}}
	case "GRPCRoute":
		rule := gatewayv1.GRPCRouteRule{}
		for _, ref := range refs {
			rule.BackendRefs = append(rule.BackendRefs, gatewayv1.GRPCBackendRef{BackendRef: ref})
		}
		o.Spec = &gatewayv1.GRPCRoute{Spec: gatewayv1.GRPCRouteSpec{CommonRouteSpec: common, Rules: []gatewayv1.GRPCRouteRule{rule}}}
	case "TCPRoute":
		o.Spec = &gatewayv1.TCPRoute{Spec: gatewayv1.TCPRouteSpec{CommonRouteSpec: common, Rules: []gatewayv1.TCPRouteRule{{BackendRefs: refs}}}}
	case "TLSRoute":
		o.Spec = &gatewayv1.TLSRoute{Spec: gatewayv1.TLSRouteSpec{
			CommonRouteSpec: common, Hostnames: []gatewayv1.Hostname{pick[gatewayv1.Hostname](rnd, "a.example", "b.example")},
			Rules: []gatewayv1.TLSRouteRule{{BackendRefs: refs}},
		}}
	}
	o.Refs = routeRefs(o)
	return o
}

func randomReference(rnd *rand.Rand) gatewayv1.BackendObjectReference {
	namespace := gatewayv1.Namespace(pick(rnd, worldNamespaces...))
	port := pick[gatewayv1.PortNumber](rnd, 80, 80, 8080)
	ref := gatewayv1.BackendObjectReference{Namespace: &namespace, Port: &port}
	group, kind := gatewayv1.Group(v1alpha1.Group), gatewayv1.Kind("")
	switch rnd.IntN(4) {
	case 0:
		kind, ref.Name = "InstanceGroup", "ec2"
	case 1:
		kind, ref.Name = "ExternalService", "out"
	default:
		group, kind, ref.Name = "", "Service", gatewayv1.ObjectName(pick(rnd, worldNames...))
	}
	ref.Group, ref.Kind = &group, &kind
	return ref
}
