package server

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// scripted is the server's end of a stream.
type scripted struct {
	ctx context.Context
	t   *testing.T
	// answer is a new message of the type that responses must decode to.
	answer func() proto.Message
}

func (s scripted) Context() context.Context { return s.ctx }

func (s scripted) SendMsg(m any) error {
	r, ok := m.(*response)
	require.True(s.t, ok)
	require.NoError(s.t, proto.Unmarshal(r.data.Materialize(), s.answer()))
	return nil
}

// Whatever requests come, in either protocol, the server neither panics nor
// answers with what cannot be decoded. The input is requests, each with its
// length before it.
func FuzzProtocols(f *testing.F) {
	for _, r := range []proto.Message{
		&discoveryv3.DeltaDiscoveryRequest{
			TypeUrl: resource.Cluster.URL(), ResourceNamesSubscribe: []string{"*"}, InitialResourceVersions: map[string]string{"c": "1"},
		},
		&discoveryv3.DeltaDiscoveryRequest{
			TypeUrl: resource.VirtualHost.URL(), ResourceNamesSubscribe: []string{"http", "http/h"}, ResourceNamesUnsubscribe: []string{"http", "*"},
		},
		&discoveryv3.DiscoveryRequest{TypeUrl: resource.Route.URL(), ResourceNames: []string{"http", ""}, ResponseNonce: "1"},
	} {
		raw, err := proto.Marshal(r)
		require.NoError(f, err)
		f.Add(protowire.AppendBytes(protowire.AppendBytes(nil, raw), raw))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		for _, world := range []bool{false, true} {
			store := snapshot.New()
			store.Apply(time.Time{}, []snapshot.Update{{Unit: "u", Resources: []resource.Resource{
				{Type: resource.Cluster, Name: "c", EDS: true},
				{Type: resource.Endpoint, Name: "c"},
				{Type: resource.Route, Name: "http"},
				{Type: resource.VirtualHost, Name: "http/h", Needs: []string{"c"}},
			}}})
			s := New(store, Options{
				Logger: slog.New(slog.DiscardHandler), Metrics: NewMetrics(prometheus.NewRegistry()),
				Identify: func(*corev3.Node) (Node, error) { return Node{ID: "n", Envoy: true}, nil },
			})
			rest, node := input, &corev3.Node{}
			next := func() []byte {
				raw, n := protowire.ConsumeBytes(rest)
				if n < 0 {
					return nil
				}
				rest = rest[n:]
				return raw
			}
			g := scripted{ctx: t.Context(), t: t, answer: func() proto.Message { return new(discoveryv3.DeltaDiscoveryResponse) }}
			var p protocol = deltaProtocol{}
			recv := func() (request, error) {
				var r deltaRequest
				raw := next()
				if raw == nil || r.unmarshal(raw) != nil {
					return request{}, io.EOF
				}
				out := r.request()
				out.node = node
				return out, nil
			}
			if world {
				g.answer = func() proto.Message { return new(discoveryv3.DiscoveryResponse) }
				p = &worldProtocol{}
				recv = func() (request, error) {
					r := new(discoveryv3.DiscoveryRequest)
					raw := next()
					if raw == nil || proto.Unmarshal(raw, r) != nil {
						return request{}, io.EOF
					}
					return request{
						node: node, url: r.GetTypeUrl(), nonce: r.GetResponseNonce(), fault: r.GetErrorDetail(),
						subscribe: r.GetResourceNames(), version: r.GetVersionInfo(),
					}, nil
				}
			}
			_ = run(s, g, p, recv) // an error ends the stream, as it may
			require.Zero(t, s.Connected())
			s.Stop()
		}
	})
}
