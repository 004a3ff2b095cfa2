package server

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// Limits bound what clients cost, each and together. Zero is the default.
type Limits struct {
	// StreamsPerConnection bounds the streams of all services on one connection. An
	// Envoy has one for its configuration, and one each for load reports and access logs.
	StreamsPerConnection int
	// StreamsPerIdentity bounds the streams of configuration of one identity; without client
	// certificates, of one address.
	StreamsPerIdentity int
	// ReportsPerIdentity bounds, for the same, the streams of load reports and access logs. A
	// proxy has one for load, and one for each log and worker thread.
	ReportsPerIdentity int
	// NameBytesPerStream, NameBytesPerConnection and NameBytes bound the memory of
	// the names that clients ask for.
	NameBytesPerStream, NameBytesPerConnection, NameBytes int64
	// FirstMessage is how long the first message of a stream may take to be whole. It says who the client is: what has
	// come of it until then was taken from anybody.
	FirstMessage time.Duration
}

// The defaults of Limits.
const (
	DefaultStreamsPerConnection   = 128
	DefaultStreamsPerIdentity     = 20_000
	DefaultReportsPerIdentity     = 60_000
	DefaultNameBytesPerStream     = 16 << 20
	DefaultNameBytesPerConnection = 32 << 20
	DefaultNameBytes              = 128 << 20
	DefaultFirstMessage           = 30 * time.Second
)

const (
	// maxHeaders bounds the headers of a request; those of a proxy have some hundred bytes, and gRPC takes 16 MiB of anybody.
	maxHeaders = 32 << 10
	// handshakeTimeout bounds what comes before the first stream of a connection.
	handshakeTimeout = 20 * time.Second
)

// firstPerConnection is how many first messages are read from one connection at a time. Others of it wait with what fits
// their windows: an Envoy opens three streams, and a load balancer in front of many has the rest taken in turn.
const firstPerConnection = 4

// The windows of flow control. They are fixed, because those that gRPC widens by what a connection can carry
// let each stream keep up to 16 MiB that nobody reads. A message that is being read gets the room that it needs.
const (
	streamWindow     = 64 << 10
	connectionWindow = 1 << 20
)

// limitFirst ends streams of any service whose first message is not whole in time, and bounds how many of a connection
// are read. Without it somebody who begins messages and does not end them would keep the memory of as many as a connection
// may have streams, on any number of connections.
func (s *Server) limitFirst(server any, g grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	turns, leave := s.firsts.of(g.Context())
	defer leave()
	return handler(server, &firstMessage{ServerStream: g, turns: turns, within: s.limits.FirstMessage, late: s.opts.Metrics.refused.WithLabelValues("limit")})
}

// firsts are the turns in which first messages are read, by connection.
type firsts struct {
	mu           sync.Mutex
	byConnection map[string]*firstTurns
}

type firstTurns struct {
	streams int
	turns   chan struct{}
}

// of returns the turns of a stream's connection. leave must be called at the stream's end.
func (f *firsts) of(ctx context.Context) (turns chan struct{}, leave func()) {
	connection := peerOf(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.byConnection[connection]
	if t == nil {
		t = &firstTurns{turns: make(chan struct{}, firstPerConnection)}
		f.byConnection[connection] = t
	}
	t.streams++
	return t.turns, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if t.streams--; t.streams == 0 {
			delete(f.byConnection, connection)
		}
	}
}

// firstMessage is a stream whose first message has little time.
type firstMessage struct {
	grpc.ServerStream
	turns  chan struct{}
	within time.Duration
	late   prometheus.Counter
	came   bool // read by who receives, one at a time
}

// RecvMsg implements grpc.ServerStream.
func (f *firstMessage) RecvMsg(m any) error {
	if f.came {
		return f.ServerStream.RecvMsg(m)
	}
	f.came = true
	timer := time.NewTimer(f.within)
	defer timer.Stop()
	select {
	case f.turns <- struct{}{}:
	case <-timer.C:
		return f.tooLate()
	case <-f.Context().Done():
		return status.FromContextError(f.Context().Err()).Err()
	}
	received := make(chan error, 1)
	go func() {
		defer func() { <-f.turns }()
		received <- f.ServerStream.RecvMsg(m) // it ends with the stream
	}()
	select {
	case err := <-received:
		return err
	case <-timer.C:
		return f.tooLate()
	}
}

func (f *firstMessage) tooLate() error {
	f.late.Inc()
	return status.Errorf(codes.DeadlineExceeded, "the first message was not whole within %s", f.within)
}

func (l Limits) withDefaults() Limits {
	orDefault(&l.StreamsPerConnection, DefaultStreamsPerConnection)
	orDefault(&l.StreamsPerIdentity, DefaultStreamsPerIdentity)
	orDefault(&l.ReportsPerIdentity, DefaultReportsPerIdentity)
	orDefault(&l.NameBytesPerStream, DefaultNameBytesPerStream)
	orDefault(&l.NameBytesPerConnection, DefaultNameBytesPerConnection)
	orDefault(&l.NameBytes, DefaultNameBytes)
	orDefault(&l.FirstMessage, DefaultFirstMessage)
	return l
}

func orDefault[T int | int64 | time.Duration](v *T, otherwise T) {
	if *v == 0 {
		*v = otherwise
	}
}

// party is whom a stream's costs are counted for.
type party struct{ connection, identity string }

// partyOf returns whom a stream is of. What is not authenticated is told by its address.
func partyOf(ctx context.Context, n *Node) party {
	p := party{identity: "identity " + n.Identity}
	from, ok := peer.FromContext(ctx)
	if !ok {
		return p
	}
	p.connection = from.Addr.String()
	if n.Identity == "" {
		host, _, err := net.SplitHostPort(p.connection)
		if err != nil {
			host = p.connection
		}
		p.identity = "address " + host
	}
	return p
}

// connection is what the streams of one connection share.
type connection struct {
	streams int
	names   *snapshot.Budget
}

// enter counts a stream of a party and returns the budget for its names. leave must be called at
// the stream's end.
func (s *Server) enter(p party) (names *snapshot.Budget, leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	free, err := s.take(s.identities, p, s.limits.StreamsPerIdentity, "streams", "xds-streams-per-identity")
	if err != nil {
		return nil, nil, err
	}
	c := s.connections[p.connection]
	if c == nil {
		c = &connection{names: snapshot.NewBudget(s.limits.NameBytesPerConnection, s.names)}
		s.connections[p.connection] = c
	}
	c.streams++
	return snapshot.NewBudget(s.limits.NameBytesPerStream, c.names), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		free()
		if c.streams--; c.streams == 0 {
			delete(s.connections, p.connection)
		}
	}, nil
}

// take counts a stream of a party among those of its identity; free takes it back. mu must be
// held for both.
func (s *Server) take(counts map[string]int, p party, most int, what, flag string) (free func(), err error) {
	if counts[p.identity] >= most {
		s.opts.Metrics.refused.WithLabelValues("limit").Inc()
		return nil, status.Error(codes.ResourceExhausted,
			fmt.Sprintf("%s has %d %s already, which is the most: see --%s", p.identity, most, what, flag))
	}
	counts[p.identity]++
	return func() {
		if counts[p.identity]--; counts[p.identity] == 0 {
			delete(counts, p.identity)
		}
	}, nil
}

// enterReports counts a stream of reports of a party. leave must be called at its end.
func (s *Server) enterReports(p party) (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	free, err := s.take(s.reporters, p, s.limits.ReportsPerIdentity, "streams of reports", "xds-reports-per-identity")
	if err != nil {
		return nil, err
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		free()
	}, nil
}
