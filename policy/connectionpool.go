package policy

import (
	"math"
	"time"
)

var connectionPoolSection = SectionDef{
	"connectionPool", "connectionPool", ClusterLayer, false,
	func(s *settings) bool { return s.ConnectionPool != nil },
	func(to, from *settings) { to.ConnectionPool = from.ConnectionPool },
}

func checkConnectionPool(c *Checker, s *settings) {
	p := s.ConnectionPool
	if p == nil {
		return
	}
	c.number("connectionPool.maxConnections", p.MaxConnections, 1, math.MaxInt32)
	c.number("connectionPool.maxPendingRequests", p.MaxPendingRequests, 1, math.MaxInt32)
	c.number("connectionPool.maxRequests", p.MaxRequests, 1, math.MaxInt32)
	c.number("connectionPool.maxRequestsPerConnection", p.MaxRequestsPerConnection, 1, math.MaxInt32)
	c.duration("connectionPool.idleTimeout", p.IdleTimeout, time.Millisecond, longest, true)
	c.duration("connectionPool.maxConnectionAge", p.MaxConnectionAge, time.Millisecond, longest, true)
}

const (
	// Unlimited stands for a limit that nobody has stated. Envoy's default of 1024
	// is one that callers of a busy service meet in good times.
	Unlimited = 100_000
	// http1Idle is shorter than the time for which servers wait for the next
	// request: 75 s for nginx, but 5 s for Apache and Node.js. We must be the
	// side that closes an idle connection. Otherwise a request can meet a
	// connection that is just being closed (envoy#1979), and a POST is then
	// lost. The price of the shorter time is a TCP handshake on ports with less
	// than a request in 4 s.
	http1Idle = 4 * time.Second
	http2Idle = 10 * time.Minute
)

// ConnectionPool limits what one caller's proxy keeps open to a target.
type ConnectionPool struct {
	MaxConnections, MaxPendingRequests, MaxRequests uint32
	// MaxRequestsPerConnection after which a connection is closed, 0 for no limit.
	MaxRequestsPerConnection uint32
	// IdleTimeout closes an idle connection, 0 for never. It means nothing for a port that is not HTTP.
	IdleTimeout time.Duration
	// MaxConnectionAge closes a connection that is older, once its requests are done; 0 for never.
	MaxConnectionAge time.Duration
}

// ConnectionPool returns the limits that are in force for a port of a protocol.
func (s *Settings) ConnectionPool(p Protocol) ConnectionPool {
	out := ConnectionPool{MaxConnections: Unlimited, MaxPendingRequests: Unlimited, MaxRequests: Unlimited, IdleTimeout: http1Idle}
	if p.CarriesGRPC() {
		out.IdleTimeout = http2Idle
	}
	if in := s.Stated.ConnectionPool; in != nil {
		takeNumber(&out.MaxConnections, in.MaxConnections)
		takeNumber(&out.MaxPendingRequests, in.MaxPendingRequests)
		takeNumber(&out.MaxRequests, in.MaxRequests)
		takeNumber(&out.MaxRequestsPerConnection, in.MaxRequestsPerConnection)
		takeDuration(&out.IdleTimeout, in.IdleTimeout)
		takeDuration(&out.MaxConnectionAge, in.MaxConnectionAge)
	}
	return out
}
