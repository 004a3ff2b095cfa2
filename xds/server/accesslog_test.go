package server_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	lrsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/server"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// book writes down what it is told.
type book struct {
	mu        sync.Mutex
	connected int
	http, tcp map[string]int // entries by "node log"
	loads     []string
	interval  time.Duration
}

func (b *book) Connected(string) func() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.connected++
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.connected--
	}
}

func (b *book) LogHTTP(node, log string, entries []*datav3.HTTPAccessLogEntry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.http[node+" "+log] += len(entries)
}

func (b *book) LogTCP(node, log string, entries []*datav3.TCPAccessLogEntry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tcp[node+" "+log] += len(entries)
}

func (b *book) Load(node string, interval time.Duration, clusters []*endpointv3.ClusterStats) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.interval = interval
	for _, c := range clusters {
		b.loads = append(b.loads, node+" "+c.GetClusterName())
	}
}

// within waits until the book satisfies a condition.
func (b *book) within(t *testing.T, what string, is func() bool) {
	t.Helper()
	harness.Eventually(t, 20*time.Second, what, func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		if !is() {
			return errors.New("not yet")
		}
		return nil
	})
}

func startReports(t *testing.T) (*book, *grpc.ClientConn) {
	t.Helper()
	return startReportsOf(t, func(_ context.Context, n *server.Node) error {
		if n.ID == "stranger" {
			return errors.New("no rule allows it")
		}
		return nil
	})
}

// startReportsOf serves the cluster web/php:80/pods.
func startReportsOf(t *testing.T, authorize func(context.Context, *server.Node) error) (*book, *grpc.ClientConn) {
	t.Helper()
	b, _, conn := startServerOf(t, authorize)
	return b, conn
}

func startServerOf(t *testing.T, authorize func(context.Context, *server.Node) error) (*book, *server.Server, *grpc.ClientConn) {
	t.Helper()
	b := &book{http: make(map[string]int), tcp: make(map[string]int)}
	store := snapshot.New()
	store.Apply(time.Now(), []snapshot.Update{{Unit: "u", Resources: []resource.Resource{cluster("web/php:80/pods", "x", "none")}}})
	s := server.New(store, server.Options{
		Logger: slog.New(slog.DiscardHandler), Metrics: server.NewMetrics(prometheus.NewRegistry()),
		Identify: func(n *corev3.Node) (server.Node, error) {
			if n.GetId() == "" {
				return server.Node{}, errors.New("no id")
			}
			return server.Node{ID: n.GetId()}, nil
		},
		Authorize: authorize,
		Outcomes:  b, LoadInterval: 3 * time.Second,
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return b, s, conn
}

func logMessage(node, log string, http, tcp int) *accesslogv3.StreamAccessLogsMessage {
	m := &accesslogv3.StreamAccessLogsMessage{}
	if node != "" {
		m.Identifier = &accesslogv3.StreamAccessLogsMessage_Identifier{Node: &corev3.Node{Id: node}, LogName: log}
	}
	if tcp > 0 {
		m.LogEntries = &accesslogv3.StreamAccessLogsMessage_TcpLogs{TcpLogs: &accesslogv3.StreamAccessLogsMessage_TCPAccessLogEntries{
			LogEntry: make([]*datav3.TCPAccessLogEntry, 0),
		}}
		for range tcp {
			m.GetTcpLogs().LogEntry = append(m.GetTcpLogs().LogEntry, &datav3.TCPAccessLogEntry{CommonProperties: &datav3.AccessLogCommon{UpstreamCluster: "web/php:80/pods"}})
		}
		return m
	}
	entries := &accesslogv3.StreamAccessLogsMessage_HTTPAccessLogEntries{}
	for range http {
		entries.LogEntry = append(entries.LogEntry, &datav3.HTTPAccessLogEntry{CommonProperties: &datav3.AccessLogCommon{UpstreamCluster: "web/php:80/pods"}})
	}
	m.LogEntries = &accesslogv3.StreamAccessLogsMessage_HttpLogs{HttpLogs: entries}
	return m
}

func TestAccessLogs(t *testing.T) {
	t.Parallel()
	b, conn := startReports(t)
	stream, err := accesslogv3.NewAccessLogServiceClient(conn).StreamAccessLogs(t.Context())
	require.NoError(t, err)
	require.NoError(t, stream.Send(logMessage("a", "requests", 2, 0)))
	require.NoError(t, stream.Send(logMessage("", "", 3, 0)))
	require.NoError(t, stream.Send(logMessage("", "", 0, 4)))
	b.within(t, "all entries", func() bool { return b.http["a requests"] == 5 && b.tcp["a requests"] == 4 && b.connected == 1 })
	_, err = stream.CloseAndRecv()
	require.Error(t, err)
	b.within(t, "the end of the stream", func() bool { return b.connected == 0 })
}

func TestAccessLogsRefused(t *testing.T) {
	t.Parallel()
	b, conn := startReports(t)
	large := logMessage("a", "requests", 1, 0)
	large.GetHttpLogs().GetLogEntry()[0].CommonProperties = &datav3.AccessLogCommon{RouteName: strings.Repeat("x", 2<<20)}
	for name, tc := range map[string]struct {
		message *accesslogv3.StreamAccessLogsMessage
		code    codes.Code
	}{
		"no node":       {logMessage("", "", 1, 0), codes.InvalidArgument},
		"another's":     {logMessage("stranger", "requests", 1, 0), codes.PermissionDenied},
		"a long name":   {logMessage("a", strings.Repeat("x", 200), 1, 0), codes.InvalidArgument},
		"a large entry": {large, codes.Internal},
	} {
		stream, err := accesslogv3.NewAccessLogServiceClient(conn).StreamAccessLogs(t.Context())
		require.NoError(t, err)
		_ = stream.Send(tc.message)
		err = stream.RecvMsg(&accesslogv3.StreamAccessLogsResponse{})
		require.Equal(t, tc.code, status.Code(err), "%s: %v", name, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Empty(t, b.http)
	require.Zero(t, b.connected)
}

// Rules that have changed cut off who they admit no more: streams of resources at once, and no
// report of such a proxy counts any more. Others stay.
func TestReauthorize(t *testing.T) {
	t.Parallel()
	var left atomic.Bool // whether a may not come any more
	b, s, conn := startServerOf(t, func(_ context.Context, n *server.Node) error {
		if n.ID == "a" && left.Load() {
			return errors.New("no rule allows it")
		}
		return nil
	})
	resources := make(map[string]discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient)
	logs := make(map[string]accesslogv3.AccessLogService_StreamAccessLogsClient)
	loads := make(map[string]lrsv3.LoadReportingService_StreamLoadStatsClient)
	for _, id := range []string{"a", "b"} {
		var err error
		resources[id], err = discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
		require.NoError(t, err)
		require.NoError(t, resources[id].Send(&discoveryv3.DeltaDiscoveryRequest{
			Node: &corev3.Node{Id: id}, TypeUrl: resource.Cluster.URL(), ResourceNamesSubscribe: []string{"*"},
		}))
		_, err = resources[id].Recv()
		require.NoError(t, err)
		logs[id], err = accesslogv3.NewAccessLogServiceClient(conn).StreamAccessLogs(t.Context())
		require.NoError(t, err)
		require.NoError(t, logs[id].Send(logMessage(id, "requests", 1, 0)))
		loads[id], err = lrsv3.NewLoadReportingServiceClient(conn).StreamLoadStats(t.Context())
		require.NoError(t, err)
		require.NoError(t, loads[id].Send(&lrsv3.LoadStatsRequest{Node: &corev3.Node{Id: id}}))
		_, err = loads[id].Recv()
		require.NoError(t, err)
	}
	b.within(t, "the streams", func() bool { return b.http["a requests"] == 1 && b.http["b requests"] == 1 && b.connected == 4 })
	left.Store(true)
	s.Reauthorize()
	_, err := resources["a"].Recv()
	require.Equal(t, codes.PermissionDenied, status.Code(err), err)
	for _, id := range []string{"a", "b"} {
		_ = logs[id].Send(logMessage("", "", 5, 0))
		_ = loads[id].Send(&lrsv3.LoadStatsRequest{ClusterStats: []*endpointv3.ClusterStats{{ClusterName: "web/php:80/pods"}}})
	}
	require.Equal(t, codes.PermissionDenied, status.Code(logs["a"].RecvMsg(&accesslogv3.StreamAccessLogsResponse{})))
	_, err = loads["a"].Recv()
	require.Equal(t, codes.PermissionDenied, status.Code(err), err)
	b.within(t, "the other's reports alone", func() bool {
		return b.http["a requests"] == 1 && b.http["b requests"] == 6 && slices.Equal(b.loads, []string{"b web/php:80/pods"}) && b.connected == 2
	})
	require.Equal(t, 1, s.Connected())
}

func TestLoadReportsPassedOn(t *testing.T) {
	t.Parallel()
	b, conn := startReports(t)
	stream, err := lrsv3.NewLoadReportingServiceClient(conn).StreamLoadStats(t.Context())
	require.NoError(t, err)
	require.NoError(t, stream.Send(&lrsv3.LoadStatsRequest{Node: &corev3.Node{Id: "a"}}))
	answer, err := stream.Recv()
	require.NoError(t, err)
	require.True(t, answer.GetSendAllClusters())
	require.Equal(t, 3*time.Second, answer.GetLoadReportingInterval().AsDuration())
	require.NoError(t, stream.Send(&lrsv3.LoadStatsRequest{ClusterStats: []*endpointv3.ClusterStats{{ClusterName: "web/php:80/pods"}}}))
	b.within(t, "the report", func() bool {
		return len(b.loads) == 1 && b.loads[0] == "a web/php:80/pods" && b.interval == 3*time.Second && b.connected == 1
	})
}

// A proxy reports about what its own stream of configuration was sent, and about nothing else.
func TestReportsAreAboutWhatWasSent(t *testing.T) {
	t.Parallel()
	b, conn := startReportsOf(t, nil)
	logs, err := accesslogv3.NewAccessLogServiceClient(conn).StreamAccessLogs(t.Context())
	require.NoError(t, err)
	loads, err := lrsv3.NewLoadReportingServiceClient(conn).StreamLoadStats(t.Context())
	require.NoError(t, err)
	require.NoError(t, loads.Send(&lrsv3.LoadStatsRequest{Node: &corev3.Node{Id: "a"}}))
	_, err = loads.Recv()
	require.NoError(t, err)
	require.NoError(t, logs.Send(logMessage("a", "requests", 200, 0)))
	b.within(t, "both streams", func() bool { return b.connected == 2 })
	require.NoError(t, loads.Send(&lrsv3.LoadStatsRequest{ClusterStats: []*endpointv3.ClusterStats{{ClusterName: "web/php:80/pods"}}}))
	b.within(t, "the report, of which nothing is left", func() bool { return b.interval != 0 })
	b.mu.Lock()
	require.Empty(t, b.http, "it has no stream of configuration")
	require.Empty(t, b.loads)
	b.mu.Unlock()

	ads, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
	require.NoError(t, err)
	require.NoError(t, ads.Send(&discoveryv3.DeltaDiscoveryRequest{
		Node: &corev3.Node{Id: "a"}, TypeUrl: resource.Cluster.URL(), ResourceNamesSubscribe: []string{"*"},
	}))
	answer, err := ads.Recv()
	require.NoError(t, err)
	require.NoError(t, ads.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.Cluster.URL(), ResponseNonce: answer.GetNonce()}))
	harness.Eventually(t, 20*time.Second, "its own entries", func() error {
		if err := logs.Send(logMessage("", "", 1, 0)); err != nil {
			return err
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.http["a requests"] == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	b.mu.Lock()
	counted := b.http["a requests"]
	b.mu.Unlock()
	other := logMessage("", "", 50, 0)
	for _, e := range other.GetHttpLogs().GetLogEntry() {
		e.CommonProperties.UpstreamCluster = "shop/cart:80/pods"
	}
	require.NoError(t, logs.Send(other))
	require.NoError(t, logs.Send(logMessage("", "", 1000, 0)))
	b.within(t, "what came after it", func() bool { return b.http["a requests"] >= counted+1000 })
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Less(t, b.http["a requests"], counted+1050, "another Service's cluster was not sent")
}
