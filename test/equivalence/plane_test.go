package equivalence

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	mutationrulesv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	headermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/bootstrap"
	"github.com/causeway-mesh/causeway/xds/compile"
	"github.com/causeway-mesh/causeway/xds/engine"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/server"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// Where the only caller stands.
const (
	callerNamespace = "web"
	callerZone      = "zone-a"
	callerNode      = "node-a"
)

// mesh is the real control plane in this process, whose catalog the test
// writes, and the real Envoy that it feeds.
type mesh struct {
	catalog *catalog.Catalog
	engine  *engine.Engine
	server  *server.Server
	store   *snapshot.Store
	envoy   *harness.Envoy
	address string // of Envoy's HTTP listener
	client  *client
	// redirected sends requests as programs do whose connections are captured, to virtual addresses of Services.
	redirected *client
	pushes     int
	names      int // of case Services so far
	// named has the resources that Envoy sees, as "type name".
	named map[string]bool
	// evaluating is how long the evaluator has taken.
	evaluating time.Duration
}

func startMesh(t *testing.T) *mesh {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	registry := prometheus.NewRegistry()
	m := &mesh{catalog: catalog.New(), store: snapshot.New(), address: harness.FreeAddress(t)}
	m.engine = engine.New(m.catalog, m.store, log, registry)
	m.server = server.New(m.store, server.Options{
		Logger: log, Metrics: server.NewMetrics(registry),
		Identify: func(n *corev3.Node) (server.Node, error) {
			node, err := bootstrap.ParseNode(n)
			out := server.Node{ID: node.ID, Role: node.Role, Namespace: node.Namespace, Zone: node.Zone, NodeName: node.NodeName, Envoy: node.Envoy != ""}
			if node.Workload == capturedCaller {
				out.Declared, out.Version = []string{naming.CapturedTraffic}, capturedCaller // a class of its own: no proxy waits for another one
			}
			return out, err
		},
		Connect: func(ctx context.Context, n *server.Node) (func(), error) { return m.engine.Declare(ctx, n.Declared) },
	})
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{}, 2)
	go func() { _ = m.engine.Run(ctx); done <- struct{}{} }()
	go func() { _ = m.server.Serve(l); done <- struct{}{} }()
	t.Cleanup(func() {
		m.server.Stop()
		cancel()
		<-done
		<-done
	})
	config := func(workload string) []byte {
		out, err := bootstrap.Generate(bootstrap.Options{
			Role: resource.Sidecar, Namespace: callerNamespace, Workload: workload, Instance: "i-1", Zone: callerZone, NodeName: callerNode,
			Servers: []string{l.Addr().String()},
		})
		require.NoError(t, err)
		return out
	}
	m.envoy = harness.StartEnvoy(t, withListener(t, config("caller"), "http/"+m.address, nil), harness.EnvoyOptions{LogLevel: "warning"})
	// The kernel takes the virtual addresses for its own here, so that connections to them need no rules.
	text, err := exec.CommandContext(t.Context(), "ip", "route", "replace", "local", discovery.VirtualIPv4.String(), "dev", "lo").CombinedOutput()
	require.NoError(t, err, "%s", text)
	harness.StartEnvoy(t, withListener(t, config(capturedCaller), capturedDeclaration, capturedPorts), harness.EnvoyOptions{Name: "captured", LogLevel: "warning"})
	m.client, m.redirected = &client{address: m.address}, &client{}
	t.Cleanup(m.client.close)
	t.Cleanup(m.redirected.close)
	return m
}

// Headers in which Envoy tells what it did with a request.
const (
	sawRoute   = "x-saw-route"
	sawCluster = "x-saw-cluster"
	sawFlags   = "x-saw-flags"
)

// capturedCaller is the workload whose connections are captured.
const capturedCaller = "captured"

// capturedDeclaration is the listener of captured connections, and capturedPorts are those of Services that cases have.
const capturedDeclaration = "captured/127.0.0.1:80=240.0.0.0/4"

var capturedPorts = []uint32{81, 8080}

// withListener adds a listener that proxies get, as a static one, with a
// filter in front that tells in every answer which route was taken. It listens on more ports too.
func withListener(t *testing.T, config []byte, declaration string, more []uint32) []byte {
	t.Helper()
	d, err := naming.ParseDeclaration(declaration)
	require.NoError(t, err)
	var listener listenerv3.Listener
	for _, r := range compile.New().Declared(d, &policy.Mesh{}) {
		require.NoError(t, proto.Unmarshal(r.Body.Bytes(), &listener))
	}
	if len(d.Ranges) > 0 { // nothing has redirected these connections
		listener.GetAddress().GetSocketAddress().Address = "0.0.0.0"
		listener.Name, listener.ListenerFilters, listener.UseOriginalDst = "captured-static", nil, nil
	}
	for _, port := range more {
		address := proto.CloneOf(listener.GetAddress())
		address.GetSocketAddress().PortSpecifier = &corev3.SocketAddress_PortValue{PortValue: port}
		listener.AdditionalAddresses = append(listener.AdditionalAddresses, &listenerv3.AdditionalAddress{Address: address})
	}
	// The HTTP connection manager is the last of a chain, behind what notes who calls.
	filters := listener.GetFilterChains()[0].GetFilters()
	filter := filters[len(filters)-1]
	var hcm hcmv3.HttpConnectionManager
	require.NoError(t, filter.GetTypedConfig().UnmarshalTo(&hcm))
	tell := &headermutationv3.HeaderMutation{Mutations: &headermutationv3.Mutations{}}
	for name, value := range map[string]string{sawRoute: "%ROUTE_NAME%", sawCluster: "%UPSTREAM_CLUSTER_RAW%", sawFlags: "%RESPONSE_FLAGS%"} {
		tell.Mutations.ResponseMutations = append(tell.Mutations.ResponseMutations, &mutationrulesv3.HeaderMutation{
			Action: &mutationrulesv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
				Header: &corev3.HeaderValue{Key: name, Value: value}, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
			}},
		})
	}
	hcm.HttpFilters = append([]*hcmv3.HttpFilter{{
		Name: "tell", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: packed(t, tell)},
	}}, hcm.GetHttpFilters()...)
	filter.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: packed(t, &hcm)}

	text, err := protojson.Marshal(&listener)
	require.NoError(t, err)
	var document, added map[string]any
	require.NoError(t, yaml.Unmarshal(config, &document))
	require.NoError(t, yaml.Unmarshal(text, &added))
	static := document["staticResources"]
	if static == nil {
		static = document["static_resources"]
	}
	static.(map[string]any)["listeners"] = []any{added}
	out, err := yaml.Marshal(document)
	require.NoError(t, err)
	return out
}

func packed(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	require.NoError(t, err)
	return a
}

// put replaces the cases that Envoy serves and returns once it serves the new
// ones. A Service of a name that was never there before tells when: all
// virtual hosts of a push take effect at once.
func (m *mesh) put(cases ...*routeCase) error {
	m.pushes++
	marker := fmt.Sprintf("marker-%d", m.pushes)
	for _, c := range cases {
		m.names++
		c.name = fmt.Sprintf("s%d", m.names)
	}
	revision, err := m.catalog.Write(time.Time{}, func(tx *catalog.Tx) error {
		services, sets, objects, states := rowsOf(marker, cases)
		catalog.Services.Replace(tx, casesScope, services)
		catalog.Endpoints.Replace(tx, casesScope, sets)
		catalog.Objects.Replace(tx, casesScope, objects)
		catalog.ShiftStates.Replace(tx, casesScope, states)
		return nil
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := m.engine.Await(ctx, revision); err != nil {
		return err
	}
	for {
		ask := request{Method: "GET", Host: marker + "." + callerNamespace, Path: "/"}
		seen, err := m.client.do(ask)
		if err == nil && seen.Echo != nil { // the other route configuration comes with another subscription
			m.redirect(discovery.Key{Namespace: callerNamespace, Name: marker}, 80)
			seen, err = m.redirected.do(ask)
		}
		settled, rejected := m.settled()
		switch {
		case rejected != "":
			return fmt.Errorf("the configuration is rejected: %s", rejected)
		case err == nil && seen.Echo != nil && settled:
			m.named = make(map[string]bool)
			for _, r := range m.store.Resources(snapshot.View{Role: resource.Sidecar, Namespace: callerNamespace, Zone: callerZone, NodeName: callerNode, Declared: []string{naming.CapturedTraffic}}) {
				m.named[r.Type.String()+" "+r.Name] = true
			}
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("Envoy does not take up the configuration: %+v, %w; %+v", seen, err, m.server.Proxies())
		}
		harness.TakeTime(time.Millisecond)
	}
}

// redirect makes the client of captured connections call a Service's port.
func (m *mesh) redirect(service discovery.Key, port uint16) (destination string) {
	m.redirected.close()
	m.redirected.address = netip.AddrPortFrom(discovery.VirtualAddress(service, 0), port).String()
	return m.redirected.address
}

// settled reports whether every object of the newest push has been answered, and
// what Envoy says of those that it refuses. Clusters that nobody needs any more
// are on their way out for a while after that.
func (m *mesh) settled() (settled bool, rejected string) {
	for _, a := range m.engine.Applied() {
		if a.Staged {
			return false, ""
		}
	}
	var out []string
	for _, r := range m.store.Rejections() {
		out = append(out, fmt.Sprintf("%+v", r))
	}
	return true, strings.Join(out, "; ")
}
