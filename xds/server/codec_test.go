package server

import (
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// An incremental request is read as protobuf reads it.
func FuzzDeltaRequest(f *testing.F) {
	for _, m := range []*discoveryv3.DeltaDiscoveryRequest{
		{},
		{
			Node: &corev3.Node{Id: "n", Cluster: "web"}, TypeUrl: "type", ResponseNonce: "7",
			ResourceNamesSubscribe: []string{"a", "", "é"}, ResourceNamesUnsubscribe: []string{"b"},
			InitialResourceVersions: map[string]string{"a": "1", "c": ""},
		},
	} {
		data, err := proto.Marshal(m)
		require.NoError(f, err)
		f.Add(data)
	}
	f.Add(protowire.AppendString(protowire.AppendTag(nil, fieldSubscribe, protowire.BytesType), "\xff"))
	f.Add(protowire.AppendVarint(protowire.AppendTag(nil, fieldUnsubscribe, protowire.VarintType), 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		want := new(discoveryv3.DeltaDiscoveryRequest)
		var got deltaRequest
		err := got.unmarshal(data)
		if proto.Unmarshal(data, want) != nil {
			return // the versions are bytes here: they may be no UTF-8
		}
		require.NoError(t, err)
		require.Equal(t, want.GetResourceNamesSubscribe(), got.subscribe)
		require.Equal(t, want.GetResourceNamesUnsubscribe(), got.unsubscribe)
		versions := map[string]string{}
		for _, k := range got.known {
			versions[string(k.Name)] = string(k.Version)
		}
		require.Len(t, versions, len(want.GetInitialResourceVersions()))
		for name, version := range want.GetInitialResourceVersions() {
			require.Equal(t, version, versions[name])
		}
		want.ResourceNamesSubscribe, want.ResourceNamesUnsubscribe, want.InitialResourceVersions = nil, nil, nil
		require.True(t, proto.Equal(want, &got.DeltaDiscoveryRequest))
	})
}
