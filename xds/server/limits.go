package server

import (
	"context"
	"fmt"
	"net"
	"time"

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
	// FirstMessage is how long the first message of a stream may stand still, from its turn on. Before it is read nobody
	// knows who the client is. A message that comes slowly has longer (firstLongest).
	FirstMessage time.Duration
	// FirstTurn is how long it may take while others of its connection wait for their turn.
	FirstTurn time.Duration
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
	DefaultFirstTurn              = 5 * time.Second
)

const (
	// maxHeaders bounds the headers of a request; those of a proxy have some hundred bytes, and gRPC takes 16 MiB of anybody.
	maxHeaders = 32 << 10
	// handshakeTimeout bounds what comes before the first stream of a connection.
	handshakeTimeout = 20 * time.Second
)

// The windows of flow control. They are fixed: if gRPC widens them to the capacity of the connection, each
// stream can keep up to 16 MiB that nobody reads. A message that is being read gets the room that it needs.
const (
	streamWindow     = 64 << 10
	connectionWindow = 1 << 20
)

func (l Limits) withDefaults() Limits {
	orDefault(&l.StreamsPerConnection, DefaultStreamsPerConnection)
	orDefault(&l.StreamsPerIdentity, DefaultStreamsPerIdentity)
	orDefault(&l.ReportsPerIdentity, DefaultReportsPerIdentity)
	orDefault(&l.NameBytesPerStream, DefaultNameBytesPerStream)
	orDefault(&l.NameBytesPerConnection, DefaultNameBytesPerConnection)
	orDefault(&l.NameBytes, DefaultNameBytes)
	orDefault(&l.FirstMessage, DefaultFirstMessage)
	orDefault(&l.FirstTurn, DefaultFirstTurn)
	return l
}

func orDefault[T int | int64 | time.Duration](v *T, otherwise T) {
	if *v == 0 {
		*v = otherwise
	}
}

// party is whom a stream's costs are counted for.
type party struct{ connection, identity string }

// partyOf returns the party that a stream counts for. Without authentication that is its
// address.
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
