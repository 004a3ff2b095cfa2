package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/xds/resource"
)

const (
	deltaMethod = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
	worldMethod = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
)

// window is Envoy's default HTTP/2 stream and connection window.
const window = 16 << 20

// client is one simulated Envoy: a connection of its own, one ADS stream, the
// subscriptions that Envoy makes in the order in which it makes them.
type client struct {
	fleet *fleet
	id    int
	zone  string

	stream   grpc.ClientStream
	counts   [resource.Types]int // resources received on this stream
	started  [resource.Types]bool
	clusters []string               // names of EDS clusters that were learned and not asked for yet
	asked    []string               // state-of-the-world: all names of endpoints asked for
	version  [resource.Types]string // state-of-the-world: what was accepted last

	in, out   atomic.Int64 // bytes on the connection
	payload   atomic.Int64 // bytes of responses
	messages  atomic.Int64
	resources atomic.Int64
	index     atomic.Uint64 // server's index of the newest response
	matched   atomic.Int64  // resources that matched the watch
	synced    atomic.Int64  // when everything expected had come, 0 before
	last      atomic.Int64  // when the last response came
}

// countingConn counts what goes over the wire, HTTP/2 frames and all.
type countingConn struct {
	net.Conn
	client *client
}

func (c countingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.client.in.Add(int64(n))
	return n, err
}

func (c countingConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.client.out.Add(int64(n))
	return n, err
}

func (c *client) dial(address string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(codec{}), grpc.MaxCallRecvMsgSize(1<<30)),
		grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(window),
		grpc.WithReadBufferSize(16<<10), grpc.WithWriteBufferSize(4<<10),
		grpc.WithDisableServiceConfig(), grpc.WithNoProxy(), grpc.WithIdleTimeout(0),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
			return countingConn{conn, c}, err
		}))
}

// run connects and receives until the context or the stream ends.
func (c *client) run(ctx context.Context, address string) error {
	conn, err := c.dial(address)
	if err != nil {
		return err
	}
	defer conn.Close()
	method := deltaMethod
	if c.fleet.world {
		method = worldMethod
	}
	c.stream, err = conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	if err := c.begin(); err != nil {
		return err
	}
	m := message{want: c.want, inspect: c.inspect}
	for {
		if err := c.stream.RecvMsg(&m); err != nil {
			return err
		}
		if !m.known {
			return fmt.Errorf("client %d was sent a type that it did not ask for", c.id)
		}
		if err := c.handle(&m); err != nil {
			return err
		}
	}
}

// begin asks for what an Envoy asks for first. One that reconnects knows what
// it has and asks for everything at once.
func (c *client) begin() error {
	if err := c.request(resource.Cluster, c.fleet.scopeOf(resource.Cluster)); err != nil {
		return err
	}
	if c.fleet.scope.Idle {
		return c.request(resource.Listener, nil)
	}
	if !c.fleet.reconnecting {
		return nil
	}
	for t := resource.Endpoint; t < resource.Types; t++ {
		if t == resource.VirtualHost && c.fleet.world {
			break
		}
		if t == resource.Secret {
			continue // a sidecar asks for no certificate
		}
		names := c.fleet.scopeOf(t)
		if t == resource.Endpoint {
			names = c.fleet.knownNames(c.zone, t)
		}
		if err := c.request(t, names); err != nil {
			return err
		}
	}
	return nil
}

// want says whether the resources of a response must be looked at.
func (c *client) want(m *message) bool {
	return m.known && m.resources > 0 && (m.kind == resource.Cluster || c.fleet.records(c) || c.fleet.watch.Load() != nil)
}

func (c *client) inspect(m *message, data []byte) error {
	w := c.fleet.watch.Load()
	records := c.fleet.records(c)
	return eachResource(data, c.fleet.world, func(name, version, body []byte) {
		if m.kind == resource.Cluster {
			// What the compiler calls pods or instances is a cluster with endpoints of
			// its own; the others are made of those.
			n := c.fleet.names.intern(name)
			if strings.HasSuffix(n, "/pods") || strings.HasSuffix(n, "/instances") {
				c.clusters = append(c.clusters, n)
			}
		}
		if records {
			c.fleet.record(c.zone, m.kind, c.fleet.names.intern(name), string(version))
		}
		if w != nil {
			w.see(c, body)
		}
	})
}

func (c *client) handle(m *message) error {
	now := monotonic()
	t := m.kind
	c.counts[t] += m.resources
	c.payload.Add(int64(m.size))
	c.messages.Add(1)
	c.resources.Add(int64(m.resources))
	c.last.Store(now)
	if c.fleet.world {
		c.version[t] = string(m.version)
	} else if n, ok := parseUint(m.version); ok {
		c.index.Store(n)
	}
	if err := c.acknowledge(t, string(m.nonce)); err != nil {
		return err
	}
	if err := c.proceed(t); err != nil {
		return err
	}
	if c.synced.Load() == 0 && c.fleet.complete(c) {
		c.synced.Store(now)
		c.fleet.progress()
	}
	return nil
}

// proceed asks for what follows from a response: endpoints of new clusters, and
// listeners, routes and virtual hosts one after the other.
func (c *client) proceed(t resource.Type) error {
	if c.fleet.scope.Idle {
		return nil
	}
	switch t {
	case resource.Cluster:
		names := c.clusters
		c.clusters = nil
		if c.fleet.reconnecting || len(names) == 0 || (c.fleet.world && len(names) == len(c.asked)) {
			return nil // it has asked already
		}
		return c.request(resource.Endpoint, names)
	case resource.Endpoint, resource.Listener, resource.Route:
		next := t + 1
		if next == resource.Secret {
			next++
		}
		if c.started[next] || (next == resource.VirtualHost && c.fleet.world) {
			return nil
		}
		return c.request(next, c.fleet.scopeOf(next))
	}
	return nil
}

// request subscribes to names of a type. The first request of a type says what
// the client has already.
func (c *client) request(t resource.Type, names []string) error {
	var known map[string]string
	if !c.started[t] && c.fleet.reconnecting {
		known = c.fleet.knownOf(c.zone, t)
	}
	if c.fleet.world && t == resource.Endpoint {
		c.asked = names
	}
	return c.send(t, names, "", known)
}

func (c *client) acknowledge(t resource.Type, nonce string) error {
	if !c.fleet.world {
		return c.send(t, nil, nonce, nil)
	}
	names := c.fleet.scopeOf(t)
	if t == resource.Endpoint {
		names = c.asked
	}
	return c.send(t, names, nonce, nil)
}

func (c *client) send(t resource.Type, names []string, nonce string, known map[string]string) error {
	var node []byte
	if t == resource.Cluster && !c.started[t] {
		node = c.node()
	}
	c.started[t] = true
	var b []byte
	if c.fleet.world {
		if c.version[t] != "" {
			b = appendText(b, worldVersion, c.version[t])
		}
		if node != nil {
			b = appendRaw(b, worldNode, node)
		}
		for _, n := range names {
			b = appendText(b, worldNames, n)
		}
		b = appendText(b, worldURL, t.URL())
		if nonce != "" {
			b = appendText(b, worldNonce, nonce)
		}
		return c.stream.SendMsg(b)
	}
	if node != nil {
		b = appendRaw(b, deltaNode, node)
	}
	b = appendText(b, deltaURL, t.URL())
	for _, n := range names {
		b = appendText(b, deltaSubscribe, n)
	}
	for name, version := range known {
		size := protowire.SizeBytes(len(name)) + protowire.SizeBytes(len(version)) + 2
		b = protowire.AppendTag(b, deltaKnown, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(size)) //nolint:gosec // a length
		b = appendText(b, 1, name)
		b = appendText(b, 2, version)
	}
	if nonce != "" {
		b = appendText(b, deltaNonce, nonce)
	}
	return c.stream.SendMsg(b)
}

// node is what `causeway bootstrap` makes an Envoy say of itself.
func (c *client) node() []byte {
	listener, err := structpb.NewStruct(map[string]any{
		"causeway.dev/listeners": []any{naming.Declaration{Address: egress}.String()},
	})
	if err != nil {
		panic(err) // a constant
	}
	namespace := "callers"
	b, err := proto.Marshal(&corev3.Node{
		Id: fmt.Sprintf("sidecar~%s~client~%d", namespace, c.id), Cluster: namespace + "/client",
		Locality: &corev3.Locality{Zone: c.zone}, Metadata: listener, UserAgentName: "envoy",
		UserAgentVersionType: &corev3.Node_UserAgentBuildVersion{UserAgentBuildVersion: &corev3.BuildVersion{
			Version: &typev3.SemanticVersion{MajorNumber: 1, MinorNumber: 40},
		}},
	})
	if err != nil {
		panic(err) // it has no required fields
	}
	return b
}

// reset prepares for a new stream.
func (c *client) reset() {
	c.counts, c.started, c.clusters = [resource.Types]int{}, [resource.Types]bool{}, nil
	c.in.Store(0)
	c.out.Store(0)
	c.payload.Store(0)
	c.messages.Store(0)
	c.resources.Store(0)
	c.synced.Store(0)
	c.last.Store(0)
}

func appendText(b []byte, number protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, number, protowire.BytesType), s)
}

func appendRaw(b []byte, number protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), v)
}

func parseUint(b []byte) (uint64, bool) {
	var n uint64
	for _, d := range b {
		if d < '0' || d > '9' {
			return 0, false
		}
		n = 10*n + uint64(d-'0')
	}
	return n, len(b) > 0
}
