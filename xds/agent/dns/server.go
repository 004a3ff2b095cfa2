package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	// maxOpen is how many questions wait for upstreams at a time, over UDP; more are refused at once. maxConnections is
	// how many TCP connections there are; more wait in the kernel.
	maxOpen, maxConnections = 512, 128
	// idle is how long a TCP connection may stand without a whole question.
	idle = 10 * time.Second
	// maxPacket is the largest message over TCP.
	maxPacket = 1<<16 - 1
)

// Options of a Server.
type Options struct {
	// Listen is where it answers, "address:port" each, over UDP and TCP.
	Listen []string
	// Upstreams are the resolvers for all other names, "address" or "address:port"; none: those of ResolvConf.
	Upstreams []string
	// ResolvConf is the host's resolv.conf, which is read again when it changes.
	ResolvConf string
	// Namespace is where names of one label are looked up: the workload's own.
	Namespace string
	Logger    *slog.Logger
}

// Counts are what a server has done.
type Counts struct {
	// Mesh and Foreign count questions about names of the mesh and others, Failed those of
	// them for which no upstream had an answer.
	Mesh, Foreign, Failed uint64
}

// Server answers questions.
type Server struct {
	opts     Options
	table    atomic.Pointer[Table]
	upstream *upstream
	udp      []net.PacketConn
	tcp      []net.Listener
	open     chan struct{}

	mesh, foreign, failed atomic.Uint64
}

// Listen opens a server's addresses. Errors name the flag at fault.
func Listen(ctx context.Context, o Options) (*Server, error) {
	s := &Server{opts: o, open: make(chan struct{}, maxOpen)}
	var own []netip.AddrPort
	for _, address := range o.Listen {
		at, err := s.listen(ctx, address)
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		own = append(own, at)
	}
	var err error
	if s.upstream, err = newUpstream(&o, own); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Server) listen(ctx context.Context, address string) (own netip.AddrPort, err error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return own, fmt.Errorf("--dns-listen: %q is not ADDRESS:PORT: write, for example, 127.0.0.1:15053", address)
	}
	// A port that the system gives for UDP may be taken for TCP; then another is asked for.
	for range 10 {
		udp, tcp, err := listenBoth(ctx, at)
		if err == nil {
			s.udp, s.tcp = append(s.udp, udp), append(s.tcp, tcp)
			return udp.LocalAddr().(*net.UDPAddr).AddrPort(), nil //nolint:forcetypeassert,errcheck // of a UDP socket
		}
		if at.Port() != 0 || !errors.Is(err, syscall.EADDRINUSE) {
			return own, fmt.Errorf("--dns-listen: %w", err)
		}
	}
	return own, fmt.Errorf("--dns-listen: no port of %s is free for UDP and TCP", at.Addr())
}

// listenBoth listens on one port for UDP and TCP.
func listenBoth(ctx context.Context, at netip.AddrPort) (net.PacketConn, net.Listener, error) {
	var config net.ListenConfig
	udp, err := config.ListenPacket(ctx, "udp", at.String())
	if err != nil {
		return nil, nil, err
	}
	tcp, err := config.Listen(ctx, "tcp", udp.LocalAddr().String())
	if err != nil {
		return nil, nil, errors.Join(err, udp.Close())
	}
	return udp, tcp, nil
}

// Address returns where it listens first.
func (s *Server) Address() string { return s.udp[0].LocalAddr().String() }

// Set takes over the names of the mesh. Before the first call nothing is said to be absent.
func (s *Server) Set(t *Table) { s.table.Store(t) }

// Counts returns what was done so far.
func (s *Server) Counts() Counts {
	return Counts{Mesh: s.mesh.Load(), Foreign: s.foreign.Load(), Failed: s.failed.Load()}
}

// Close closes the addresses of a server that is not served.
func (s *Server) Close() error {
	var errs []error
	for _, l := range s.udp {
		errs = append(errs, l.Close())
	}
	for _, l := range s.tcp {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// Serve answers until the context ends. Its error is a listener's, nil for the end of the context.
func (s *Server) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var parts, questions sync.WaitGroup
	for i := range s.udp {
		parts.Go(func() { cancel(s.serveUDP(ctx, s.udp[i], &questions)) })
		parts.Go(func() { cancel(s.serveTCP(ctx, s.tcp[i], &questions)) })
	}
	<-ctx.Done()
	_ = s.Close()
	parts.Wait()
	questions.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return fmt.Errorf("dns: %w", cause)
	}
	return nil
}

func (s *Server) serveUDP(ctx context.Context, udp net.PacketConn, questions *sync.WaitGroup) error {
	buffer := make([]byte, maxPacket)
	for {
		n, from, err := udp.ReadFrom(buffer)
		switch {
		case ctx.Err() != nil:
			return context.Canceled
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil: // of one packet; the socket goes on
			continue
		}
		// The mesh's names wait for nobody: neither for upstreams that are away, nor behind questions that do.
		out, wait := s.begin(buffer[:n], true)
		if wait == nil {
			if out != nil {
				_, _ = udp.WriteTo(out, from)
			}
			continue
		}
		select {
		case s.open <- struct{}{}:
		default:
			s.failed.Add(1)
			_, _ = udp.WriteTo(wait.query.failure(dnsmessage.RCodeServerFailure), from)
			continue
		}
		wait.packet = append([]byte(nil), wait.packet...)
		questions.Go(func() {
			defer func() { <-s.open }()
			_, _ = udp.WriteTo(s.finish(ctx, wait), from)
		})
	}
}

func (s *Server) serveTCP(ctx context.Context, tcp net.Listener, questions *sync.WaitGroup) error {
	connections := make(chan struct{}, maxConnections)
	for {
		select {
		case connections <- struct{}{}:
		case <-ctx.Done():
			return context.Canceled
		}
		conn, err := tcp.Accept()
		switch {
		case ctx.Err() != nil:
			return context.Canceled
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil: // too many open files, for example: others may end
			<-connections
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		questions.Go(func() {
			defer func() { <-connections }()
			defer conn.Close()
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer stop()
			s.serveConn(ctx, conn)
		})
	}
}

// serveConn answers the questions of a connection, one after the other.
func (s *Server) serveConn(ctx context.Context, conn net.Conn) {
	for {
		_ = conn.SetDeadline(time.Now().Add(idle))
		packet, err := readTCP(conn)
		if err != nil {
			return
		}
		out := s.handle(ctx, packet, false)
		if out == nil {
			return
		}
		_ = conn.SetDeadline(time.Now().Add(idle))
		if err := writeTCP(conn, out); err != nil {
			return
		}
	}
}

func readTCP(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, fmt.Errorf("dns: %w", err)
	}
	packet := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(r, packet); err != nil {
		return nil, fmt.Errorf("dns: %w", err)
	}
	return packet, nil
}

func writeTCP(w io.Writer, packet []byte) error {
	out := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(packet)), uint16(len(packet))) //nolint:gosec // at most maxPacket
	if _, err := w.Write(append(out, packet...)); err != nil {
		return fmt.Errorf("dns: %w", err)
	}
	return nil
}

// handle returns the answer to a packet, nil for none.
func (s *Server) handle(ctx context.Context, packet []byte, udp bool) []byte {
	out, wait := s.begin(packet, udp)
	if wait != nil {
		return s.finish(ctx, wait)
	}
	return out
}

// waiting is a question that upstreams have to answer.
type waiting struct {
	query  query
	packet []byte
	udp    bool
	// reply is the part of the answer that is known, of a name of the mesh that leads to another; nil for a name of others.
	reply *reply
}

// begin returns the answer to a packet if it takes nobody else to answer it, nil for none, or else what upstreams are needed for.
func (s *Server) begin(packet []byte, udp bool) ([]byte, *waiting) {
	q, err := read(packet)
	w := &waiting{query: q, packet: packet, udp: udp}
	switch {
	case errors.Is(err, errDrop):
		return nil, nil
	case errors.Is(err, errForeign):
		s.foreign.Add(1)
		return nil, w
	case err != nil:
		return q.failure(dnsmessage.RCodeFormatError), nil
	}
	reply, ours := s.table.Load().resolve(&q.question, s.opts.Namespace)
	if !ours {
		s.foreign.Add(1)
		return nil, w
	}
	s.mesh.Add(1)
	switch {
	case q.version != 0:
		return q.failure(badVersion), nil
	case reply.external != "":
		w.reply = &reply
		return nil, w
	}
	return s.pack(&q, &reply, udp), nil
}

// finish asks the upstreams and returns the answer.
func (s *Server) finish(ctx context.Context, w *waiting) []byte {
	if w.reply == nil {
		return s.pass(ctx, &w.query, w.packet, w.udp)
	}
	s.follow(ctx, &w.query, w.reply)
	return s.pack(&w.query, w.reply, w.udp)
}

func (s *Server) pack(q *query, r *reply, udp bool) []byte {
	out, err := q.pack(r, udp)
	if err != nil {
		return q.failure(dnsmessage.RCodeServerFailure)
	}
	return out
}

// pass asks the upstreams and returns the answer as it came.
func (s *Server) pass(ctx context.Context, q *query, packet []byte, udp bool) []byte {
	out, err := s.upstream.ask(ctx, packet, udp)
	if err != nil {
		s.failed.Add(1)
		return q.failure(dnsmessage.RCodeServerFailure)
	}
	return out
}

// follow adds the addresses of the external name that a reply leads to.
func (s *Server) follow(ctx context.Context, q *query, r *reply) {
	name, err := dnsmessage.NewName(r.external)
	if err != nil {
		r.code = dnsmessage.RCodeServerFailure
		return
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: q.header.ID, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: name, Type: q.question.Type, Class: dnsmessage.ClassINET}},
	}
	packet, err := m.Pack()
	if err == nil {
		packet, err = s.upstream.ask(ctx, packet, false)
	}
	var more []dnsmessage.Resource
	if err == nil {
		more, r.code, err = chain(packet)
	}
	if err != nil {
		r.code, r.answers = dnsmessage.RCodeServerFailure, nil
		return
	}
	r.answers = append(r.answers, more...)
}
