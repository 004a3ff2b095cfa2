package server

import (
	"context"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// firstPerConnection is how many first messages are read from one connection at a time. Others of it wait with what
	// fits their windows: an Envoy opens three streams, and a load balancer in front of many has the rest taken in turn.
	firstPerConnection = 4
	// firstProgress is what must come of a connection within Limits.FirstMessage for its first messages to be waited for.
	// It is so little that ten thousand proxies get through a narrow link side by side.
	firstProgress = 32 << 10
	// firstLongest is how long a first message may take with any progress, in multiples of Limits.FirstMessage.
	firstLongest = 20
)

// limitFirst ends streams of any service whose first message stands still, and bounds how many of a connection
// are read. Without it somebody who begins messages and does not end them would keep the memory of as many as a connection
// may have streams, on any number of connections.
func (s *Server) limitFirst(server any, g grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	turns, leave := s.firsts.of(g.Context())
	defer leave()
	return handler(server, &firstMessage{ServerStream: g, turns: turns, limits: s.limits, late: func(err error) {
		s.opts.Metrics.refused.WithLabelValues("late").Inc()
		s.opts.Logger.Warn("ended a stream that has not said who it is", "peer", peerOf(g.Context()), "method", info.FullMethod, "error", err)
	}})
}

// firsts are the turns of first messages, by connection.
type firsts struct {
	mu           sync.Mutex
	byConnection map[string]*firstTurns
	// received counts the bytes of open connections, by the peer's address.
	received map[string]*atomic.Int64
}

func newFirsts() firsts {
	return firsts{byConnection: make(map[string]*firstTurns), received: make(map[string]*atomic.Int64)}
}

// of returns the turns of a stream's connection. leave must be called at the stream's end.
func (f *firsts) of(ctx context.Context) (turns *firstTurns, leave func()) {
	connection := peerOf(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.byConnection[connection]
	if t == nil {
		t = &firstTurns{received: f.received[connection]}
		f.byConnection[connection] = t
	}
	t.streams++
	return t, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if t.streams--; t.streams == 0 {
			delete(f.byConnection, connection)
		}
	}
}

// firstTurns are the turns in which the first messages of a connection are read.
type firstTurns struct {
	streams  int           // guarded by firsts.mu
	received *atomic.Int64 // bytes of the connection; nil if they are not counted

	mu      sync.Mutex
	reading []*firstTurn // the oldest first
	waiting []*firstTurn // who came first is first
	// taken is when a turn was last taken away.
	taken time.Time
	timer *time.Timer // set while somebody waits
}

// firstTurn is one stream's turn.
type firstTurn struct {
	since time.Time
	// given is closed when the message may be read, and over when the turn is needed for others.
	given, over chan struct{}
	isOver      bool
}

// enter asks for a turn. leave must be called with it, whether or not it was given.
func (t *firstTurns) enter(patience time.Duration) *firstTurn {
	t.mu.Lock()
	defer t.mu.Unlock()
	turn := &firstTurn{given: make(chan struct{}), over: make(chan struct{})}
	t.waiting = append(t.waiting, turn)
	t.next(patience)
	return turn
}

func (t *firstTurns) leave(turn *firstTurn, patience time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	is := func(o *firstTurn) bool { return o == turn }
	t.reading, t.waiting = slices.DeleteFunc(t.reading, is), slices.DeleteFunc(t.waiting, is)
	t.next(patience)
}

// next gives free turns. If a stream still waits, it takes away the turn that was kept longest, once that was kept for
// the patience; one at a time, so that on a narrow link the messages that are read together have longer. mu must be
// held.
func (t *firstTurns) next(patience time.Duration) {
	for len(t.waiting) > 0 && len(t.reading) < firstPerConnection {
		turn := t.waiting[0]
		t.waiting, t.reading = t.waiting[1:], append(t.reading, turn)
		turn.since = time.Now()
		close(turn.given)
	}
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
	oldest := slices.IndexFunc(t.reading, func(turn *firstTurn) bool { return !turn.isOver })
	if len(t.waiting) == 0 || oldest < 0 {
		return
	}
	turn := t.reading[oldest]
	t.timer = time.AfterFunc(time.Until(t.due(turn, patience)), func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if len(t.waiting) > 0 && !turn.isOver && slices.Contains(t.reading, turn) && !time.Now().Before(t.due(turn, patience)) {
			turn.isOver, t.taken = true, time.Now()
			close(turn.over) // it leaves when its stream has ended
		}
		t.next(patience)
	})
}

// due is when a turn may be taken away. mu must be held.
func (t *firstTurns) due(turn *firstTurn, patience time.Duration) time.Time {
	if t.taken.After(turn.since) {
		return t.taken.Add(patience)
	}
	return turn.since.Add(patience)
}

// firstMessage is a stream whose first message must come without standing still.
type firstMessage struct {
	grpc.ServerStream
	turns  *firstTurns
	limits Limits
	late   func(error)
	came   bool // read by who receives, one at a time
}

// RecvMsg implements grpc.ServerStream. A stream may wait for its turn for any time and takes little memory meanwhile:
// turns end.
func (f *firstMessage) RecvMsg(m any) error {
	if f.came {
		return f.ServerStream.RecvMsg(m)
	}
	f.came = true
	turn := f.turns.enter(f.limits.FirstTurn)
	select {
	case <-turn.given:
	case <-f.Context().Done():
		f.turns.leave(turn, f.limits.FirstTurn)
		return status.FromContextError(f.Context().Err()).Err()
	}
	received := make(chan error, 1)
	go func() {
		defer f.turns.leave(turn, f.limits.FirstTurn)
		received <- f.ServerStream.RecvMsg(m) // it ends with the stream
	}()
	within := f.limits.FirstMessage
	check := time.NewTicker(within)
	defer check.Stop()
	before, began := f.turns.bytes(), time.Now()
	for {
		select {
		case err := <-received:
			return err
		case <-turn.over:
			return f.tooLate("the first message was not whole within %s, and other streams of the connection wait", f.limits.FirstTurn)
		case now := <-check.C:
			have := f.turns.bytes()
			if have-before < firstProgress {
				return f.tooLate("the first message was not whole, and nearly nothing came within %s", within)
			}
			if now.Sub(began) >= firstLongest*within {
				return f.tooLate("the first message was not whole within %s", firstLongest*within)
			}
			before = have
		}
	}
}

func (t *firstTurns) bytes() int64 {
	if t.received == nil {
		return 0
	}
	return t.received.Load()
}

func (f *firstMessage) tooLate(format string, within time.Duration) error {
	err := status.Errorf(codes.DeadlineExceeded, format, within)
	f.late(err)
	return err
}

// counting is a listener whose connections are counted in bytes, which tells a slow client from one that stands still.
type counting struct {
	net.Listener
	firsts *firsts
}

func (l counting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err //nolint:wrapcheck // gRPC looks at what it is
	}
	counted := &countedConn{Conn: c, name: c.RemoteAddr().String(), firsts: l.firsts, received: new(atomic.Int64)}
	l.firsts.mu.Lock()
	defer l.firsts.mu.Unlock()
	l.firsts.received[counted.name] = counted.received
	return counted, nil
}

type countedConn struct {
	net.Conn
	name     string
	firsts   *firsts
	received *atomic.Int64
}

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.received.Add(int64(n))
	return n, err //nolint:wrapcheck // a reader's errors are its own
}

func (c *countedConn) Close() error {
	c.firsts.mu.Lock()
	if c.firsts.received[c.name] == c.received {
		delete(c.firsts.received, c.name)
	}
	c.firsts.mu.Unlock()
	return c.Conn.Close() //nolint:wrapcheck // as above
}
