package equivalence

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Scopes of what stays and of what is replaced from push to push.
const (
	fixtureScope = "fixture"
	casesScope   = "cases"
)

// startEcho starts a backend and returns its port.
func startEcho(t *testing.T, id string, http2 bool) uint16 {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	e := &echo{id: id, listener: l}
	done := make(chan struct{})
	if http2 {
		protocols := &http.Protocols{}
		protocols.SetUnencryptedHTTP2(true)
		s := &http.Server{Handler: e, Protocols: protocols, ReadHeaderTimeout: time.Minute}
		go func() {
			defer close(done)
			_ = s.Serve(l)
		}()
		t.Cleanup(func() {
			_ = s.Close()
			<-done
		})
		return netip.MustParseAddrPort(l.Addr().String()).Port()
	}
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			// It ends when Envoy, which is stopped first, closes the connection.
			go e.serveHTTP1(conn)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

// fixture is the ports of the backends of the mesh that routes refer to.
type fixture struct {
	self, selfInstances, selfRPC uint16
}

// The mesh that stays, seen from namespace web:
//
//	web/php      80      pods and instances, of which the latter are home, in the middle of a
//	                     shift; InstanceGroup web/php-ec2
//	web/api      80, 81  pods; 81 is HTTP/2
//	web/empty    80      nobody
//	web/sql      3306    not HTTP
//	shop/cart    80      granted to namespace web, but not to data
//	shop/secret  80      granted to nobody
//	data/rpc     50051   HTTP/2, granted to all
//	web/pay      80      an ExternalService
func writeFixture(t *testing.T, m *mesh) fixture {
	t.Helper()
	f := fixture{
		self: startEcho(t, "self", false), selfInstances: startEcho(t, "self-instances", false), selfRPC: startEcho(t, "self-rpc", true),
	}
	var services []*discovery.Service
	var sets []*discovery.EndpointSet
	service := func(namespace, name string, ports ...discovery.ServicePort) *discovery.Service {
		s := &discovery.Service{Scope: fixtureScope, Key: discovery.Key{Namespace: namespace, Name: name}, Ports: ports, Home: "Pods"}
		services = append(services, s)
		return s
	}
	endpoints := func(s *discovery.Service, platform discovery.BackingName, group, id string, port string, http2 bool) {
		sets = append(sets, &discovery.EndpointSet{
			Scope: fixtureScope, Key: discovery.Key{Namespace: s.Namespace, Name: id}, Service: s.Key, Platform: platform, Group: group,
			Ports:     []discovery.EndpointPort{{Name: port, Port: startEcho(t, id, http2)}},
			Endpoints: []discovery.Endpoint{{ID: id, Address: "127.0.0.1", Zone: callerZone}},
		})
	}
	web := discovery.ServicePort{Name: "http", Port: 80}
	php := service("web", "php", web)
	php.Home = "Instances"
	endpoints(php, discovery.Pods, "", "php-pod", "http", false)
	endpoints(php, discovery.Instances, "php-ec2", "php-instance", "http", false)
	api := service("web", "api", web, discovery.ServicePort{Name: "rpc", Port: 81, AppProtocol: "kubernetes.io/h2c"})
	endpoints(api, discovery.Pods, "", "api", "http", false)
	endpoints(api, discovery.Pods, "", "api-rpc", "rpc", true)
	service("web", "empty", web)
	service("web", "sql", discovery.ServicePort{Name: "mysql", Port: 3306})
	endpoints(service("shop", "cart", web), discovery.Pods, "", "cart", "http", false)
	endpoints(service("shop", "secret", web), discovery.Pods, "", "secret", "http", false)
	rpc := service("data", "rpc", discovery.ServicePort{Name: "grpc", Port: 50051})
	endpoints(rpc, discovery.Pods, "", "rpc", "grpc", true)

	grant := func(namespace, name string, from ...string) *discovery.Object {
		spec := &gatewayv1.ReferenceGrant{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		for _, ns := range from {
			for _, kind := range []gatewayv1.Kind{"HTTPRoute", "GRPCRoute"} {
				spec.Spec.From = append(spec.Spec.From, gatewayv1.ReferenceGrantFrom{
					Group: gatewayv1.GroupName, Kind: kind, Namespace: gatewayv1.Namespace(ns),
				})
			}
		}
		target := gatewayv1.ObjectName(name)
		spec.Spec.To = []gatewayv1.ReferenceGrantTo{{Kind: "Service", Name: &target}}
		return &discovery.Object{Scope: fixtureScope, Kind: "ReferenceGrant", Key: discovery.Key{Namespace: namespace, Name: name}, Spec: spec}
	}
	pay := &v1alpha1.ExternalService{
		ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "pay"},
		Spec: v1alpha1.ExternalServiceSpec{
			Hosts: []string{"pay.example.com"}, Resolution: v1alpha1.ResolveStatic,
			Endpoints: []v1alpha1.ExternalEndpoint{{Address: "127.0.0.1", Zone: callerZone}},
			Ports: []v1alpha1.ExternalPort{{
				Number: 80, Name: "http", Protocol: v1alpha1.ExternalHTTP, TargetPort: int32(startEcho(t, "pay", false)),
			}},
		},
	}
	shift, state := shiftRows(fixtureScope, fixtureShift())
	_, err := m.catalog.Write(time.Time{}, func(tx *catalog.Tx) error {
		catalog.ShiftStates.Replace(tx, fixtureScope, []*discovery.ShiftState{state})
		catalog.Services.Replace(tx, fixtureScope, services)
		catalog.Endpoints.Replace(tx, fixtureScope, sets)
		group := discovery.InstanceGroup{
			Scope: fixtureScope, Key: discovery.Key{Namespace: "web", Name: "php-ec2"},
			Object: &v1alpha1.InstanceGroup{
				ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "php-ec2"},
				Spec: v1alpha1.InstanceGroupSpec{
					ServiceRef: v1alpha1.ServiceReference{Name: "php"}, Ports: []v1alpha1.InstancePort{{Name: "http", Port: 80}},
				},
			},
		}
		catalog.Objects.Replace(tx, fixtureScope, []*discovery.Object{
			group.Row(), shift, grant("shop", "cart", "web", "shop"), grant("data", "rpc", "web", "shop", "data"),
			{Scope: fixtureScope, Kind: "ExternalService", Key: discovery.Key{Namespace: "web", Name: "pay"}, Spec: pay, Hosts: pay.Spec.Hosts},
		})
		return nil
	})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.NoError(t, m.engine.Await(ctx, m.catalog.Read().Revision()))
	return f
}
