package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/resource"
)

func TestMain(m *testing.M) {
	runChild()
	os.Exit(m.Run())
}

// The benchmark's own parts on a small mesh: what goes over the wire and what is
// compiled, which are the same on every machine. Times are for `make bench`.
func TestSmoke(t *testing.T) {
	root, err := harness.Root()
	require.NoError(t, err)
	server := filepath.Join(t.TempDir(), "causeway")
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", server, "./cmd/causeway")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0") // as in test/e2e, which needs not compile it again
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	t.Run("delta", func(t *testing.T) {
		smoke(t, options{
			server: server, source: "kubernetes", xds: "delta",
			services: 100, endpoints: 10, clients: 100, changes: 5, zones: 3,
		})
	})
	t.Run("sotw", func(t *testing.T) {
		smoke(t, options{
			server: server, source: "files", xds: "sotw", steps: "core",
			services: 20, endpoints: 10, clients: 10, changes: 3, zones: 3,
		})
	})
}

func smoke(t *testing.T, o options) {
	t.Helper()
	r := newReport(io.Discard, o.source, o.xds)
	b, err := newBench(t.Context(), t, &o, r)
	require.NoError(t, err)
	require.NoError(t, b.run(t.Context(), &o))

	figure := func(name string, clients int) *row {
		for _, w := range r.Rows {
			if n, ok := w.Params["clients"]; w.Name == name && (!ok || n == clients) {
				return w
			}
		}
		t.Fatalf("there is no figure %s", name)
		return nil
	}
	value := func(name string) float64 { return figure(name, o.clients).Value }
	require.Zero(t, value("first_sync_refused"))
	// One change is one compilation, and one response with one resource for each client.
	require.InDelta(t, 1, value("endpoint_change_compiles"), 0)
	require.Less(t, value("endpoint_change_bytes"), 1500.0)
	require.LessOrEqual(t, value("burst_messages"), value("burst_pushes"))
	if o.xds == "sotw" {
		return
	}
	require.LessOrEqual(t, value("zones_bytes"), goalZones)
	require.InDelta(t, *figure("first_sync_bytes", o.clients).Floor, value("first_sync_bytes"), 500, "nothing is sent twice")
	for _, edit := range []string{"route_change", "route_edit"} {
		require.InDelta(t, 1, value(edit+"_compiles"), 1)
		require.LessOrEqual(t, value(edit+"_bytes"), goalRouteRatio*value("endpoint_change_bytes"))
	}
	require.Zero(t, value("reconnect_resources"), "clients that have everything were sent something")
	require.LessOrEqual(t, value("reconnect_bytes_most"), float64(goalReconnectBytes))
}

func TestMessage(t *testing.T) {
	cluster := func(name string) *discoveryv3.Resource {
		body, err := anypb.New(&clusterv3.Cluster{Name: name, AltStatName: "x"})
		require.NoError(t, err)
		return &discoveryv3.Resource{Name: name, Version: "v-" + name, Resource: body}
	}
	data, err := proto.Marshal(&discoveryv3.DeltaDiscoveryResponse{
		Resources: []*discoveryv3.Resource{cluster("a/b:80/pods"), cluster("a/b:80/instances")}, TypeUrl: resource.Cluster.URL(),
		Nonce: "7", SystemVersionInfo: "12", RemovedResources: []string{"gone"},
	})
	require.NoError(t, err)

	var names, versions []string
	m := message{
		want: func(*message) bool { return true },
		inspect: func(m *message, data []byte) error {
			return eachResource(data, false, func(name, version, body []byte) {
				names, versions = append(names, string(name)), append(versions, string(version))
			})
		},
	}
	// However the bytes are cut into buffers.
	for size := 1; size <= len(data); size++ {
		var cut mem.BufferSlice
		for at := 0; at < len(data); at += size {
			cut = append(cut, mem.SliceBuffer(data[at:min(at+size, len(data))]))
		}
		names, versions = nil, nil
		require.NoError(t, m.read(cut))
		require.True(t, m.known)
		require.Equal(t, resource.Cluster, m.kind)
		require.Equal(t, len(data), m.size)
		require.Equal(t, 2, m.resources)
		require.Equal(t, 1, m.removed)
		require.Equal(t, "7", string(m.nonce))
		require.Equal(t, "12", string(m.version))
		require.Equal(t, []string{"a/b:80/pods", "a/b:80/instances"}, names)
		require.Equal(t, []string{"v-a/b:80/pods", "v-a/b:80/instances"}, versions)
	}
	for n := 1; n < len(data); n++ { // cut off: no panic, and nothing invented
		if err := m.read(mem.BufferSlice{mem.SliceBuffer(data[:n])}); err == nil {
			require.LessOrEqual(t, m.resources, 2)
		}
	}

	world, err := proto.Marshal(&discoveryv3.DiscoveryResponse{
		Resources: []*anypb.Any{cluster("a/b:80/pods").GetResource()}, TypeUrl: resource.Cluster.URL(), VersionInfo: "v", Nonce: "1",
	})
	require.NoError(t, err)
	names = nil
	m.inspect = func(_ *message, data []byte) error {
		return eachResource(data, true, func(name, _, _ []byte) { names = append(names, string(name)) })
	}
	require.NoError(t, m.read(mem.BufferSlice{mem.SliceBuffer(world)}))
	require.Equal(t, []string{"a/b:80/pods"}, names)
}

func TestAddresses(t *testing.T) {
	seen := make(map[string]bool)
	for _, n := range []int{0, 1, 99, 100, 9999, 10_000, 99_999, firstChanged, firstChanged + 999, firstBurst, lastBurst - 1} {
		a := address(n)
		require.Len(t, a, len("10.100.100.100"))
		require.False(t, seen[a], a)
		seen[a] = true
		require.Equal(t, n >= firstBurst && n < lastBurst, strings.HasPrefix(a, burstPrefix))
	}
}

func TestReport(t *testing.T) {
	r := newReport(io.Discard, "kubernetes", "delta")
	r.add("met", params{"clients": 1.0}, 10.004, "ms").withGoal(10).withFloor(8, 1.5)
	r.add("missed", params{"clients": 1.0}, 20, "ms").withGoal(10).withFloor(8, 1.5)
	r.add("no goal", nil, 1234.5, "B").withFloor(0, 1.5)
	require.True(t, *r.Rows[0].Met)
	require.InDelta(t, 10, r.Rows[0].Value, 0)
	require.True(t, *r.Rows[0].RatioMet)
	require.False(t, *r.Rows[1].Met)
	require.Nil(t, r.Rows[2].Ratio)
	require.Equal(t, []*row{r.Rows[1]}, r.missed())
	require.NoError(t, r.print())

	file := filepath.Join(t.TempDir(), "bench.json")
	require.NoError(t, r.write(file))
	var out strings.Builder
	back, err := readReport(file, &out)
	require.NoError(t, err)
	require.Equal(t, r.Rows, back.Rows)
	require.NoError(t, back.markdown())
	require.Contains(t, out.String(), "| missed | clients=1 | 20 ms | 10 **missed** | 8 | 2.5 (at most 1.5) **missed** |")
}

func TestSumMetric(t *testing.T) {
	text := "# HELP a_total x\na_total{type=\"CDS\"} 3\na_total{type=\"EDS\"} 4e1\na_total_more 7\nb 1\n"
	require.InDelta(t, 43, sumMetric(text, "a_total"), 0)
	require.InDelta(t, 1, sumMetric(text, "b"), 0)
	require.Zero(t, sumMetric(text, "c"))
}

func TestUsage(t *testing.T) {
	u, err := usageOf(os.Getpid())
	require.NoError(t, err)
	require.Greater(t, u.rss, 1.0)
	require.GreaterOrEqual(t, u.peak, u.rss)
	require.GreaterOrEqual(t, u.cpu, time.Duration(0))
}
