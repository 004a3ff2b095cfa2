package server

import (
	"context"
	"fmt"
	"net"

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
	// NameBytesPerStream, NameBytesPerConnection and NameBytes bound the memory of
	// the names that clients ask for.
	NameBytesPerStream, NameBytesPerConnection, NameBytes int64
}

// The defaults of Limits.
const (
	DefaultStreamsPerConnection   = 128
	DefaultStreamsPerIdentity     = 20_000
	DefaultNameBytesPerStream     = 16 << 20
	DefaultNameBytesPerConnection = 32 << 20
	DefaultNameBytes              = 128 << 20
)

func (l Limits) withDefaults() Limits {
	orDefault(&l.StreamsPerConnection, DefaultStreamsPerConnection)
	orDefault(&l.StreamsPerIdentity, DefaultStreamsPerIdentity)
	orDefault(&l.NameBytesPerStream, DefaultNameBytesPerStream)
	orDefault(&l.NameBytesPerConnection, DefaultNameBytesPerConnection)
	orDefault(&l.NameBytes, DefaultNameBytes)
	return l
}

func orDefault[T int | int64](v *T, otherwise T) {
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
	if most := s.limits.StreamsPerIdentity; s.identities[p.identity] >= most {
		s.opts.Metrics.refused.WithLabelValues("limit").Inc()
		return nil, nil, status.Error(codes.ResourceExhausted,
			fmt.Sprintf("%s has %d streams already, which is the most: see --xds-streams-per-identity", p.identity, most))
	}
	s.identities[p.identity]++
	c := s.connections[p.connection]
	if c == nil {
		c = &connection{names: snapshot.NewBudget(s.limits.NameBytesPerConnection, s.names)}
		s.connections[p.connection] = c
	}
	c.streams++
	return snapshot.NewBudget(s.limits.NameBytesPerStream, c.names), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.identities[p.identity]--; s.identities[p.identity] == 0 {
			delete(s.identities, p.identity)
		}
		if c.streams--; c.streams == 0 {
			delete(s.connections, p.connection)
		}
	}, nil
}
