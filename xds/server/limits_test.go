package server

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	lrsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// Clients that take large responses and never acknowledge them keep no other
// connection and no other identity waiting.
func TestAdmissionIsFair(t *testing.T) {
	a := newAdmission()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	flood := func(identity string, connections, responses int) {
		for c := range connections {
			p := party{connection: fmt.Sprint(identity, c), identity: identity}
			for range responses {
				queued := make(chan struct{})
				go func() {
					close(queued)
					_, _ = a.acquire(ctx, p, maxResponse) // never released
				}()
				<-queued
			}
		}
	}
	at := func(p party) int64 {
		within, stop := context.WithTimeout(ctx, 10*time.Second)
		defer stop()
		n, err := a.acquire(within, p, maxResponse)
		require.NoError(t, err, "%v waits", p)
		return n
	}
	flood("one", 1, 4000)
	for i := range 8 { // of the same identity, but not that connection
		p := party{connection: fmt.Sprint("new", i), identity: "one"}
		a.release(p, at(p))
	}
	flood("one", 50, 20)
	p := party{connection: "new", identity: "other"}
	a.release(p, at(p))
	a.mu.Lock()
	require.LessOrEqual(t, a.shares["one"].held, int64(admitPerIdentity))
	require.LessOrEqual(t, a.shares["one"].lines["one0"].held, int64(admitPerConnection))
	a.mu.Unlock()
	flood("two", 50, 20)
	require.Eventually(t, func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return connectionsThatWait(a) >= 51+40
	}, 10*time.Second, time.Millisecond)
	cancel()
	require.Eventually(t, func() bool { // those that waited are gone
		a.mu.Lock()
		defer a.mu.Unlock()
		return connectionsThatWait(a) == 0
	}, 10*time.Second, time.Millisecond)
}

func connectionsThatWait(a *admission) (n int) {
	for _, s := range a.shares {
		for _, l := range s.lines {
			if len(l.waiting) > 0 {
				n++
			}
		}
	}
	return n
}

// What was given back and what gave up leaves nothing behind, whoever was full meanwhile.
func TestAdmissionForgets(t *testing.T) {
	a := newAdmission()
	var all sync.WaitGroup
	for c := range 40 {
		p := party{connection: fmt.Sprint(c), identity: fmt.Sprint(c % 3)}
		for r := range 20 {
			all.Go(func() {
				ctx, giveUp := context.WithCancel(t.Context())
				defer giveUp()
				if r%4 == 0 {
					giveUp()
				}
				if n, err := a.acquire(ctx, p, int64(1+r%7)*admitPerConnection/4); err == nil {
					a.release(p, n)
				}
			})
		}
	}
	all.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	require.Empty(t, a.shares)
	require.Empty(t, a.turns)
	require.Zero(t, a.held)
}

// A released response admits the next in turn, whoever has waited with how many.
func TestAdmissionTakesTurns(t *testing.T) {
	a := newAdmission()
	full := party{connection: "full", identity: "full"}
	var held int64
	for i := range 8 {
		p := party{connection: fmt.Sprint("full", i), identity: fmt.Sprint("full", i)}
		n, err := a.acquire(t.Context(), p, admitBytes)
		require.NoError(t, err)
		held += n
		full = p
	}
	require.Equal(t, int64(admitBytes), held)
	order := make(chan string, 100)
	wait := func(name string) {
		before := func() int {
			a.mu.Lock()
			defer a.mu.Unlock()
			if a.shares[name] == nil {
				return 0
			}
			return len(a.shares[name].lines[name].waiting)
		}
		n := before()
		go func() {
			p := party{connection: name, identity: name}
			got, err := a.acquire(t.Context(), p, admitPerConnection)
			if err == nil {
				order <- name
				a.release(p, got)
			}
		}()
		require.Eventually(t, func() bool { return before() > n }, 10*time.Second, time.Millisecond)
	}
	for range 5 {
		wait("greedy")
	}
	wait("modest")
	a.release(full, admitPerConnection)
	require.Equal(t, "greedy", <-order)
	require.Equal(t, "modest", <-order)
	for range 4 {
		require.Equal(t, "greedy", <-order)
	}
}

// A response that waits for room and is given up lets those pass that waited behind it.
func TestAdmissionGivenUp(t *testing.T) {
	a := newAdmission()
	of := func(name string) party { return party{connection: name, identity: name} }
	for i := range 8 {
		n := int64(admitPerConnection)
		if i == 7 {
			n /= 2
		}
		_, err := a.acquire(t.Context(), of(fmt.Sprint(i)), n)
		require.NoError(t, err)
	}
	waiting := func(n int) {
		require.Eventually(t, func() bool {
			a.mu.Lock()
			defer a.mu.Unlock()
			return len(a.turns) == n
		}, 10*time.Second, time.Millisecond)
	}
	ctx, giveUp := context.WithCancel(t.Context())
	go func() { _, _ = a.acquire(ctx, of("large"), admitPerConnection) }()
	waiting(1)
	admitted := make(chan error, 1)
	go func() {
		_, err := a.acquire(t.Context(), of("small"), admitFrom)
		admitted <- err
	}()
	waiting(2)
	giveUp()
	select {
	case err := <-admitted:
		require.NoError(t, err)
	case <-time.After(10 * time.Second):
		t.Fatal("it waits though there is room")
	}
}

// limited serves with limits of its own.
func limited(t *testing.T, l Limits) (s *Server, dial func() discoveryv3.AggregatedDiscoveryServiceClient) {
	t.Helper()
	s, connect := limitedConnections(t, l)
	return s, func() discoveryv3.AggregatedDiscoveryServiceClient {
		return discoveryv3.NewAggregatedDiscoveryServiceClient(connect())
	}
}

func limitedConnections(t *testing.T, l Limits) (s *Server, connect func() *grpc.ClientConn) {
	t.Helper()
	s = New(snapshot.New(), Options{
		Logger: slog.New(slog.DiscardHandler), Metrics: NewMetrics(prometheus.NewRegistry()), Limits: l,
		Identify: func(n *corev3.Node) (Node, error) { return Node{ID: n.GetId(), Role: resource.Sidecar}, nil },
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- s.Serve(listener) }()
	t.Cleanup(func() {
		s.Stop()
		require.NoError(t, <-done)
	})
	return s, func() *grpc.ClientConn {
		conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
}

func TestStreamsPerIdentity(t *testing.T) {
	s, dial := limited(t, Limits{StreamsPerIdentity: 2})
	open := func() (cancel func(), err error) {
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		stream, err := dial().DeltaAggregatedResources(ctx)
		require.NoError(t, err)
		require.NoError(t, stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: "x"}, TypeUrl: resource.Cluster.URL()}))
		_, err = stream.Recv()
		return cancel, err
	}
	leave, err := open()
	require.NoError(t, err)
	_, err = open()
	require.NoError(t, err)
	_, err = open()
	require.Equal(t, codes.ResourceExhausted, status.Code(err))
	require.ErrorContains(t, err, "address 127.0.0.1 has 2 streams already")
	leave()
	require.Eventually(t, func() bool { return s.Connected() == 1 }, 10*time.Second, time.Millisecond)
	require.Eventually(t, func() bool { _, err := open(); return err == nil }, 10*time.Second, 10*time.Millisecond)
}

// Names cost a stream, a connection and all together no more than their parts,
// and what is over gives its part back.
func TestNamesAreBounded(t *testing.T) {
	s, dial := limited(t, Limits{NameBytesPerStream: 1 << 20, NameBytesPerConnection: 3 << 19, NameBytes: 2 << 20})
	// ask follows a number of names of one KiB each.
	ask := func(c discoveryv3.AggregatedDiscoveryServiceClient, from, n int) (cancel func(), err error) {
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		stream, err := c.DeltaAggregatedResources(ctx)
		require.NoError(t, err)
		names := make([]string, n)
		for i := range names {
			names[i] = fmt.Sprintf("%d-%s", from+i, strings.Repeat("x", 850))
		}
		require.NoError(t, stream.Send(&discoveryv3.DeltaDiscoveryRequest{
			Node: &corev3.Node{Id: "x"}, TypeUrl: resource.Endpoint.URL(), ResourceNamesSubscribe: names,
		}))
		_, err = stream.Recv()
		return cancel, err
	}
	refused := func(err error) {
		t.Helper()
		require.Equal(t, codes.ResourceExhausted, status.Code(err), "%v", err)
	}
	first, second := dial(), dial()
	_, err := ask(first, 0, 1100)
	refused(err)
	leave, err := ask(first, 2000, 900)
	require.NoError(t, err)
	_, err = ask(first, 4000, 900)
	refused(err) // the connection's part
	_, err = ask(second, 6000, 900)
	require.NoError(t, err)
	_, err = ask(dial(), 8000, 900)
	refused(err) // all together
	leave()
	require.Eventually(t, func() bool { return s.Connected() == 1 }, 10*time.Second, time.Millisecond)
	_, err = ask(dial(), 8000, 900)
	require.NoError(t, err)
}

// Streams of load reports and of access logs are counted for their identity, together and apart
// from those of configuration, whatever nodes they claim to be of.
func TestReportStreamsPerIdentity(t *testing.T) {
	s, connect := limitedConnections(t, Limits{ReportsPerIdentity: 2, StreamsPerIdentity: 1})
	node := 0
	load := func() (cancel func(), err error) {
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		stream, err := lrsv3.NewLoadReportingServiceClient(connect()).StreamLoadStats(ctx)
		require.NoError(t, err)
		node++
		require.NoError(t, stream.Send(&lrsv3.LoadStatsRequest{Node: &corev3.Node{Id: fmt.Sprint(node)}}))
		_, err = stream.Recv()
		return cancel, err
	}
	logs := func() error {
		stream, err := accesslogv3.NewAccessLogServiceClient(connect()).StreamAccessLogs(t.Context())
		require.NoError(t, err)
		node++
		require.NoError(t, stream.Send(&accesslogv3.StreamAccessLogsMessage{Identifier: &accesslogv3.StreamAccessLogsMessage_Identifier{Node: &corev3.Node{Id: fmt.Sprint(node)}}}))
		return stream.RecvMsg(&accesslogv3.StreamAccessLogsResponse{})
	}
	leave, err := load()
	require.NoError(t, err)
	_, err = load()
	require.NoError(t, err)
	_, err = load()
	require.Equal(t, codes.ResourceExhausted, status.Code(err))
	require.ErrorContains(t, err, "address 127.0.0.1 has 2 streams of reports already, which is the most: see --xds-reports-per-identity")
	require.Equal(t, codes.ResourceExhausted, status.Code(logs()))
	leave()
	require.Eventually(t, func() bool { _, err := load(); return err == nil }, 10*time.Second, 10*time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	require.Equal(t, map[string]int{"address 127.0.0.1": 2}, s.reporters)
	require.Empty(t, s.identities)
}

// What a message costs in memory is bounded too: of empty parts there are four million in 8 MiB.
func TestMessagesOfManyParts(t *testing.T) {
	_, connect := limitedConnections(t, Limits{})
	empty := func(field protowire.Number, n int) []byte {
		var out []byte
		for range n {
			out = protowire.AppendBytes(protowire.AppendTag(out, field, protowire.BytesType), nil)
		}
		return out
	}
	within := func(field protowire.Number, inner []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), inner)
	}
	const clusterStats, localityStats, subscribed, worldNode, node, extensions, versions = 2, 2, 3, 2, 1, 9, 5
	for name, c := range map[string]struct {
		into proto.Message
		data []byte
	}{
		"clusters of a load report":           {&lrsv3.LoadStatsRequest{}, empty(clusterStats, maxParts+1)},
		"localities of a cluster":             {&lrsv3.LoadStatsRequest{}, within(clusterStats, empty(localityStats, maxParts+1))},
		"names of a request":                  {&discoveryv3.DiscoveryRequest{}, empty(subscribed, maxParts+1)},
		"extensions of a node":                {&discoveryv3.DiscoveryRequest{}, within(worldNode, empty(extensions, maxParts+1))},
		"names of an incremental request":     {&deltaRequest{}, empty(subscribed, maxParts+1)},
		"extensions in an incremental one":    {&deltaRequest{}, within(node, empty(extensions, maxParts+1))},
		"versions of an incremental request":  {&deltaRequest{}, empty(versions, snapshot.MaxNames+1)},
		"entries of an access log, in 1 MiB":  {&accesslogv3.StreamAccessLogsMessage{}, within(2, empty(1, maxParts+1))},
		"what is no message is the decoder's": {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if c.into == nil {
				require.Error(t, newCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer{0x12, 0xff}}, &lrsv3.LoadStatsRequest{}))
				return
			}
			require.ErrorIs(t, newCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(c.data)}, c.into), errTooManyParts)
		})
	}
	stream, err := lrsv3.NewLoadReportingServiceClient(connect()).StreamLoadStats(t.Context())
	require.NoError(t, err)
	hostile := &lrsv3.LoadStatsRequest{Node: &corev3.Node{Id: "x"}}
	for range maxParts + 1 {
		hostile.ClusterStats = append(hostile.ClusterStats, &endpointv3.ClusterStats{})
	}
	require.NoError(t, stream.Send(hostile))
	_, err = stream.Recv()
	require.Equal(t, codes.Internal, status.Code(err))
}

// The bounds are far above what a proxy of a large mesh sends.
func TestMessagesOfALargeMesh(t *testing.T) {
	report := &lrsv3.LoadStatsRequest{Node: &corev3.Node{Id: "x"}}
	versions := make(map[string]string)
	for i := range 10_000 {
		for _, last := range []string{"pods", "instances", "pods+instances", "instances+pods"} {
			name := fmt.Sprintf("namespace-%02d/service-%05d:80/%s", i%100, i, last)
			versions[name] = "183i9gruepfwo"
			c := &endpointv3.ClusterStats{ClusterName: name, LoadReportInterval: durationpb.New(time.Second)}
			for zone := range 3 {
				if i < 1000 {
					c.UpstreamLocalityStats = append(c.UpstreamLocalityStats, &endpointv3.UpstreamLocalityStats{
						Locality: &corev3.Locality{Region: "ap-northeast-1", Zone: fmt.Sprint("ap-northeast-1", zone)}, TotalSuccessfulRequests: 1 << 20,
					})
				}
			}
			report.ClusterStats = append(report.ClusterStats, c)
		}
	}
	request := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.Cluster.URL(), InitialResourceVersions: versions}
	data, err := proto.Marshal(report)
	require.NoError(t, err)
	left := maxParts
	require.NoError(t, countParts(data, report.ProtoReflect().Descriptor(), &left, 100))
	t.Logf("a load report: %d bytes, %d parts; a request: %d bytes", len(data), maxParts-left, proto.Size(request))
	require.Less(t, len(data), maxRequest*3/4)
	require.Less(t, proto.Size(request), maxRequest/3)
	require.Less(t, maxParts-left, maxParts/2)
}

// What is remembered of clusters that a stream of reports names is no name of the client's.
func TestReportsRememberNoNames(t *testing.T) {
	s, _ := limitedConnections(t, Limits{})
	r, err := s.reports(t.Context(), &corev3.Node{Id: "x"})
	require.NoError(t, err)
	defer r.leave()
	require.False(t, r.sent(strings.Repeat("x", 2*snapshot.MaxNameLength)))
	require.Empty(t, r.missed, "no cluster of ours is that long")
	for i := range 3 * maxSeen {
		require.False(t, r.sent(fmt.Sprint(i)))
	}
	require.LessOrEqual(t, len(r.missed), maxSeen+1)
}

// What names are counted for is what they take: eight clients that ask for 200,000 names of
// one KiB each are let have their parts, and the memory of them is within twice the budget.
func TestNamesTakeWhatIsCounted(t *testing.T) {
	s, dial := limited(t, Limits{})
	memory := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := memory()
	for client := range 8 {
		for n := 0; ; { // a stream that is over gives its names back, so each stays below
			stream, err := dial().DeltaAggregatedResources(t.Context())
			require.NoError(t, err)
			names := make([]string, 3000)
			for i := range names {
				names[i] = fmt.Sprintf("%d-%d-%s", client, n+i, strings.Repeat("x", 1000))
			}
			require.NoError(t, stream.Send(&discoveryv3.DeltaDiscoveryRequest{
				Node: &corev3.Node{Id: fmt.Sprint(client)}, TypeUrl: resource.Endpoint.URL(), ResourceNamesSubscribe: names,
			}))
			answer, err := stream.Recv()
			if err == nil {
				require.NoError(t, stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.Endpoint.URL(), ResponseNonce: answer.GetNonce()}))
			}
			if n += len(names); err != nil || n >= 24_000 {
				break
			}
		}
	}
	grown := memory() - before
	t.Logf("%d MiB for names, %d MiB are let be asked for", grown>>20, s.limits.NameBytes>>20)
	require.Less(t, grown, uint64(2*s.limits.NameBytes)) //nolint:gosec // not negative
}

// Who does not say who it is in time has no stream, of whichever service; who has said it has all the time it wants.
func TestFirstMessageHasLittleTime(t *testing.T) {
	_, connect := limitedConnections(t, Limits{FirstMessage: 300 * time.Millisecond})
	client := connect()
	known, err := discoveryv3.NewAggregatedDiscoveryServiceClient(client).DeltaAggregatedResources(t.Context())
	require.NoError(t, err)
	require.NoError(t, known.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: "sidecar~web~php~a"}, TypeUrl: resource.Cluster.URL()}))

	ads, err := discoveryv3.NewAggregatedDiscoveryServiceClient(client).DeltaAggregatedResources(t.Context())
	require.NoError(t, err)
	world, err := discoveryv3.NewAggregatedDiscoveryServiceClient(client).StreamAggregatedResources(t.Context())
	require.NoError(t, err)
	load, err := lrsv3.NewLoadReportingServiceClient(client).StreamLoadStats(t.Context())
	require.NoError(t, err)
	logs, err := accesslogv3.NewAccessLogServiceClient(client).StreamAccessLogs(t.Context())
	require.NoError(t, err)
	for name, end := range map[string]func() error{
		"delta": func() error { _, err := ads.Recv(); return err },
		"world": func() error { _, err := world.Recv(); return err },
		"load":  func() error { _, err := load.Recv(); return err },
		"logs":  func() error { return logs.RecvMsg(&accesslogv3.StreamAccessLogsResponse{}) },
	} {
		require.Equal(t, codes.DeadlineExceeded, status.Code(end()), name)
	}
	require.NoError(t, known.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.Listener.URL()}))
	for range 2 { // it is answered still
		_, err := known.Recv()
		require.NoError(t, err)
	}
}

// halfSent is a message that begins and does not end: it counts what of it was asked for.
type halfSent struct {
	ctx  context.Context //nolint:containedctx // it ends the body of a request
	left int
	head []byte
	sent *atomic.Int64
	all  func()
}

func (h *halfSent) Read(p []byte) (int, error) {
	if n := copy(p, h.head); n > 0 {
		h.head = h.head[n:]
		return n, nil
	}
	if h.left == 0 {
		h.all()
		<-h.ctx.Done()
		return 0, h.ctx.Err()
	}
	n := min(len(p), h.left)
	h.left -= n
	h.sent.Add(int64(n))
	return n, nil
}

// rawStreams opens streams with bodies of any kind on one connection.
func rawStreams(t *testing.T, address string) func(context.Context, io.Reader) (*http.Response, error) {
	t.Helper()
	plaintext := &http.Protocols{}
	plaintext.SetUnencryptedHTTP2(true)
	client, err := (&http.Transport{Protocols: plaintext}).NewClientConn(t.Context(), "http", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return func(ctx context.Context, body io.Reader) (*http.Response, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources", body)
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/grpc")
		r.Header.Set("TE", "trailers")
		return client.RoundTrip(r)
	}
}

// framed is a message as it is sent.
func framed(t *testing.T, m proto.Message) []byte {
	t.Helper()
	data, err := proto.Marshal(m)
	require.NoError(t, err)
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(data))), data...) //nolint:gosec // a few bytes
}

// slowSent is a message that comes piece by piece, and a stream that stays open behind it.
type slowSent struct {
	*halfSent
	pace <-chan time.Time
}

func (s *slowSent) Read(p []byte) (int, error) {
	select {
	case <-s.pace:
	case <-s.ctx.Done():
	}
	return s.halfSent.Read(p)
}

// A first message that comes slowly has time: on a narrow link all proxies that reconnect are slow at once.
func TestSlowFirstMessageHasTime(t *testing.T) {
	_, connect := limitedConnections(t, Limits{FirstMessage: 500 * time.Millisecond})
	open := rawStreams(t, connect().Target())
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	pace := time.NewTicker(50 * time.Millisecond)
	defer pace.Stop()
	body := framed(t, &discoveryv3.DeltaDiscoveryRequest{
		Node: &corev3.Node{Id: "sidecar~web~php~a", UserAgentName: strings.Repeat("x", 1<<20)}, TypeUrl: resource.Cluster.URL(),
	})
	begun := time.Now()
	answer, err := open(ctx, &slowSent{&halfSent{ctx: ctx, head: body, all: func() {}}, pace.C})
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }()
	_, err = io.ReadFull(answer.Body, make([]byte, 5))
	require.NoError(t, err, answer.Trailer)
	require.Greater(t, time.Since(begun), 500*time.Millisecond, "it was slow")
	cancel() // who closes the answer waits for the rest of the message
}

// Streams that begin a message and send nothing more give their turns to others of the connection, one by one, and
// nobody who only waited ends with them.
func TestDeadStreamsGiveTheirTurns(t *testing.T) {
	s, connect := limitedConnections(t, Limits{FirstMessage: time.Hour, FirstTurn: 200 * time.Millisecond})
	client := discoveryv3.NewAggregatedDiscoveryServiceClient(connect())
	within, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	var dead [firstPerConnection]discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	for i := range dead {
		var err error
		dead[i], err = client.DeltaAggregatedResources(within)
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool {
		s.firsts.mu.Lock()
		defer s.firsts.mu.Unlock()
		for _, turns := range s.firsts.byConnection {
			return turns.streams == firstPerConnection
		}
		return false
	}, 10*time.Second, time.Millisecond)
	for range 10 {
		live, err := client.DeltaAggregatedResources(within)
		require.NoError(t, err)
		require.NoError(t, live.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: "sidecar~web~php~a"}, TypeUrl: resource.Cluster.URL()}))
		_, err = live.Recv()
		require.NoError(t, err)
	}
	ended := make(chan error, len(dead))
	for _, stream := range dead {
		go func() {
			_, err := stream.Recv()
			ended <- err
		}()
	}
	err := <-ended
	require.Equal(t, codes.DeadlineExceeded, status.Code(err))
	require.ErrorContains(t, err, "the first message was not whole within 200ms, and other streams of the connection wait")
	require.InDelta(t, 1, testutil.ToFloat64(s.opts.Metrics.refused.WithLabelValues("late")), 0, "once nobody waits, the others may go on")
}

// Somebody who begins the largest messages on one connection and does not end them has the memory of a few of them, and
// others of the connection are served once these are over.
func TestFirstMessagesOfAConnection(t *testing.T) {
	const streams = 12
	s, connect := limitedConnections(t, Limits{FirstMessage: 3 * time.Second, FirstTurn: 2 * time.Second})
	open := rawStreams(t, connect().Target())
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc) //nolint:gosec // far below
	}
	before := heap()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var sent atomic.Int64
	whole := make(chan struct{}, streams)
	ended := make(chan struct{}, streams)
	for range streams {
		go func() {
			defer func() { ended <- struct{}{} }()
			head := binary.BigEndian.AppendUint32([]byte{0}, maxRequest)
			//nolint:bodyclose // the connection is closed
			_, _ = open(ctx, &halfSent{ctx: ctx, left: maxRequest - 1, head: head, sent: &sent, all: func() { whole <- struct{}{} }})
		}()
	}
	for range firstPerConnection {
		<-whole
	}
	const most = firstPerConnection*maxRequest + streams*(streamWindow+512<<10)
	require.LessOrEqual(t, sent.Load(), int64(most))
	require.Less(t, heap()-before, int64(3*most/2), "in bytes")
	for range streams { // all of them were told off in time
		<-ended
	}
	body := framed(t, &discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: "sidecar~web~php~a"}, TypeUrl: resource.Cluster.URL()})
	answer, err := open(ctx, &halfSent{ctx: ctx, head: body, all: func() {}})
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }()
	_, err = io.ReadFull(answer.Body, make([]byte, 5))
	require.NoError(t, err)
	cancel()
	require.Eventually(t, func() bool {
		s.firsts.mu.Lock()
		defer s.firsts.mu.Unlock()
		return len(s.firsts.byConnection) == 0
	}, 10*time.Second, 10*time.Millisecond)
}
