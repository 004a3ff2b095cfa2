package dns

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"
)

func mesh() *Table {
	return NewTable([]Service{
		{
			Namespace: "web", Name: "users", Addresses: []netip.Addr{netip.MustParseAddr("241.219.8.83"), netip.MustParseAddr("fdca:5e0a::1")},
			Ports: []Port{{"http", 80}, {"grpc", 9000}},
		},
		{Namespace: "web", Name: "four", Addresses: []netip.Addr{netip.MustParseAddr("240.0.0.1")}},
		{Namespace: "data", Name: "mail", ExternalName: "Mail.Example.org"},
		{
			Namespace: "web", Name: "db", Addresses: []netip.Addr{netip.MustParseAddr("240.0.0.2")}, Ports: []Port{{"mysql", 3306}},
			Hosts: map[string][]netip.Addr{"db-0": {netip.MustParseAddr("10.0.3.7"), netip.MustParseAddr("fd00::7")}},
		},
	})
}

// say writes what a reply says.
func say(r *reply) string {
	var out []string
	for _, section := range [][]dnsmessage.Resource{r.answers, r.extra} {
		for _, a := range section {
			switch b := a.Body.(type) {
			case *dnsmessage.AResource:
				out = append(out, "A "+netip.AddrFrom4(b.A).String())
			case *dnsmessage.AAAAResource:
				out = append(out, "AAAA "+netip.AddrFrom16(b.AAAA).String())
			case *dnsmessage.SRVResource:
				out = append(out, fmt.Sprint("SRV ", b.Target, ":", b.Port))
			case *dnsmessage.CNAMEResource:
				out = append(out, "CNAME "+b.CNAME.String())
			case *dnsmessage.SOAResource:
				out = append(out, "SOA")
			}
		}
	}
	if len(out) == 0 {
		out = append(out, "nothing")
	}
	return strings.TrimPrefix(r.code.String(), "RCode") + ": " + strings.Join(out, ", ")
}

func TestAnswer(t *testing.T) {
	t.Parallel()
	const (
		a, aaaa, srv, mx, all = dnsmessage.TypeA, dnsmessage.TypeAAAA, dnsmessage.TypeSRV, dnsmessage.TypeMX, dnsmessage.TypeALL
		https                 = dnsmessage.Type(65)
		passed                = ""
	)
	for _, c := range []struct {
		name string
		t    dnsmessage.Type
		want string
	}{
		{"users.web.svc.cluster.local.", a, "Success: A 241.219.8.83"},
		{"uSERS.Web.svc.CLUSTER.local.", a, "Success: A 241.219.8.83"},
		{"users.web.svc.cluster.local.", aaaa, "Success: AAAA fdca:5e0a::1"},
		{"users.web.svc.cluster.local.", all, "Success: A 241.219.8.83, AAAA fdca:5e0a::1"},
		{"four.web.svc.cluster.local.", aaaa, "Success: nothing"},
		{"users.web.svc.cluster.local.", mx, "Success: nothing"},
		{"users.web.svc.cluster.local.", https, "Success: nothing"},
		{"nobody.web.svc.cluster.local.", a, "NameError: nothing"},
		{"users.data.svc.cluster.local.", a, "NameError: nothing"},
		{"pod-0.users.web.svc.cluster.local.", a, "NameError: nothing"},
		{"a.b.c.users.web.svc.cluster.local.", a, "NameError: nothing"},
		{"web.svc.cluster.local.", a, "Success: nothing"},
		{"other.svc.cluster.local.", a, "NameError: nothing"},
		{"svc.cluster.local.", a, "Success: nothing"},
		{"svc.cluster.local.", dnsmessage.TypeSOA, "Success: SOA"},
		{"_http._tcp.users.web.svc.cluster.local.", srv, "Success: SRV users.web.svc.cluster.local.:80, A 241.219.8.83, AAAA fdca:5e0a::1"},
		{"_HTTP._TCP.users.web.svc.cluster.local.", srv, "Success: SRV users.web.svc.cluster.local.:80, A 241.219.8.83, AAAA fdca:5e0a::1"},
		{"_http._tcp.users.web.svc.cluster.local.", a, "Success: nothing"},
		{"_tcp.users.web.svc.cluster.local.", srv, "Success: nothing"},
		{"_tcp.four.web.svc.cluster.local.", srv, "NameError: nothing"},
		{"_ftp._tcp.users.web.svc.cluster.local.", srv, "NameError: nothing"},
		{"_http._udp.users.web.svc.cluster.local.", srv, "NameError: nothing"},
		{"http._tcp.users.web.svc.cluster.local.", srv, "NameError: nothing"},
		{"users.web.svc.cluster.local.", srv, "Success: SRV users.web.svc.cluster.local.:80, SRV users.web.svc.cluster.local.:9000, A 241.219.8.83, AAAA fdca:5e0a::1"},
		{"mail.data.svc.cluster.local.", a, "Success: CNAME Mail.Example.org."},

		{"db-0.db.web.svc.cluster.local.", a, "Success: A 10.0.3.7"},
		{"db-0.db.web.svc.cluster.local.", aaaa, "Success: AAAA fd00::7"},
		{"db-0.db.web.svc.cluster.local.", mx, "Success: nothing"},
		{"db-1.db.web.svc.cluster.local.", a, "NameError: nothing"},
		{"db-0.users.web.svc.cluster.local.", a, "NameError: nothing"},
		{"x.db-0.db.web.svc.cluster.local.", a, "NameError: nothing"},
		{"db-0.db.", a, "Success: A 10.0.3.7"},
		{"db-0.db.web.", a, "Success: A 10.0.3.7"},
		{"db-0.db.web.svc.", a, "Success: A 10.0.3.7"},
		{"db-1.db.web.", a, passed},
		{"db-0.", a, passed},

		{"users.", a, "Success: A 241.219.8.83"},
		{"users.web.", a, "Success: A 241.219.8.83"},
		{"users.web.svc.", aaaa, "Success: AAAA fdca:5e0a::1"},
		{"four.web.", aaaa, "Success: nothing"},
		{"users.web.", mx, passed},
		{"mail.", a, passed}, // of another namespace
		{"nobody.web.", a, passed},
		{"users.web.com.", a, passed},
		{"users.web.svc.cluster.", a, passed},
		{"example.org.", a, passed},
		{"local.", a, passed},
		{"cluster.local.", a, passed},
		{"xsvc.cluster.local.", a, passed},
		{"users.web.svc.cluster.local.ec2.internal.", a, passed},
		{".", dnsmessage.TypeNS, passed},
	} {
		q := &dnsmessage.Question{Name: dnsmessage.MustNewName(c.name), Type: c.t, Class: dnsmessage.ClassINET}
		r, ours := mesh().answer(q, "web")
		require.Equal(t, c.want != passed, ours, "%s %s", c.name, c.t)
		if ours {
			require.Equal(t, c.want, say(&r), "%s %s", c.name, c.t)
		}
	}
	// What is not known yet is not absent.
	var none *Table
	r, ours := none.answer(&dnsmessage.Question{Name: dnsmessage.MustNewName("users.web.svc.cluster.local.")}, "web")
	require.True(t, ours)
	require.Equal(t, dnsmessage.RCodeServerFailure, r.code)
	_, ours = none.answer(&dnsmessage.Question{Name: dnsmessage.MustNewName("users.web.")}, "web")
	require.False(t, ours)
}

func question(tb testing.TB, name string, kind dnsmessage.Type, edns uint16) []byte {
	tb.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 0x1234, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}},
	}
	if edns > 0 {
		h := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(".")}
		require.NoError(tb, h.SetEDNS0(int(edns), 0, true))
		m.Additionals = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{}}}
	}
	out, err := m.Pack()
	require.NoError(tb, err)
	return out
}

// The bytes that go out, by hand: header, question in the letters that were asked, answer with the name as a pointer.
func TestPackets(t *testing.T) {
	t.Parallel()
	s := &Server{}
	s.Set(mesh())
	for _, c := range []struct{ name, packet, want string }{
		{
			"an address",
			"1234 0100 0001 0000 0000 0000 05 7573457273 03 776562 03 737663 07 636c7573746572 05 6c6f63616c 00 0001 0001",
			"1234 8580 0001 0001 0000 0000 05 7573457273 03 776562 03 737663 07 636c7573746572 05 6c6f63616c 00 0001 0001" +
				"c00c 0001 0001 00000005 0004 f1db0853",
		},
		{
			"no address of the family, with EDNS0",
			"1234 0100 0001 0000 0000 0001 04 666f7572 03 776562 03 737663 07 636c7573746572 05 6c6f63616c 00 001c 0001" + "00 0029 1000 00000000 0000",
			"1234 8580 0001 0000 0001 0001 04 666f7572 03 776562 03 737663 07 636c7573746572 05 6c6f63616c 00 001c 0001" +
				"c015 0006 0001 00000005 002a 02 6e73 03 646e73 c015 0a 686f73746d6173746572 c015 00000001 00001c20 00000708 00015180 00000005" +
				"00 0029 04d0 00000000 0000",
		},
		{"a version of EDNS that is not known", "1234 0000 0001 0000 0000 0001 05 7573657273 00 0001 0001" + "00 0029 1000 00010000 0000", "1234 8080 0001 0000 0000 0001 05 7573657273 00 0001 0001 00 0029 04d0 01000000 0000"},
		{"a question that ends too early", "1234 0100 0001 0000 0000 0000 05 7573", "1234 8181 0000 0000 0000 0000"},
		{"an answer", "1234 8180 0000 0000 0000 0000", ""},
		{"not even a header", "1234 0100", ""},
	} {
		packet, err := hex.DecodeString(strings.ReplaceAll(c.packet, " ", ""))
		require.NoError(t, err)
		s.opts.Namespace = "web"
		require.Equal(t, strings.ReplaceAll(c.want, " ", ""), hex.EncodeToString(s.handle(t.Context(), packet, true)), c.name)
	}
}

// An answer that is too long over UDP is none, and says so; over TCP it is whole.
func TestTruncation(t *testing.T) {
	t.Parallel()
	many := Service{Namespace: "web", Name: "many"}
	for i := range 60 {
		many.Ports = append(many.Ports, Port{fmt.Sprint("port-", i), uint16(i + 1)})
	}
	few := Service{Namespace: "web", Name: "few", Ports: many.Ports[:5]}
	for i := range 40 {
		few.Addresses = append(few.Addresses, netip.AddrFrom4([4]byte{240, 0, 0, byte(i)}))
	}
	s := &Server{}
	s.Set(NewTable([]Service{many, few}))
	get := func(name string, edns uint16, udp bool) dnsmessage.Message {
		out := s.handle(t.Context(), question(t, name+".web.svc.cluster.local.", dnsmessage.TypeSRV, edns), udp)
		if udp {
			require.LessOrEqual(t, len(out), max(minSize, int(min(edns, maxSize))))
		}
		var m dnsmessage.Message
		require.NoError(t, m.Unpack(out))
		return m
	}
	for _, edns := range []uint16{0, 100, 512, 1232, 4096} {
		m := get("many", edns, true)
		require.True(t, m.Truncated)
		require.Empty(t, m.Answers)
		m = get("many", edns, false)
		require.False(t, m.Truncated)
		require.Len(t, m.Answers, 60)
	}
	m := get("few", 0, true)
	require.False(t, m.Truncated, "what is only added goes first")
	require.Len(t, m.Answers, 5)
	require.Len(t, get("few", 4096, true).Additionals, 41)
}

// startResolver answers every question with what a function returns, nil for silence.
func startResolver(t *testing.T, answer func(q []byte, udp bool) []byte) (address string, asked *atomic.Int64) {
	t.Helper()
	asked = new(atomic.Int64)
	both := new(Server)
	_, err := both.listen(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	udp, tcp := both.udp[0], both.tcp[0]
	var parts sync.WaitGroup
	parts.Go(func() {
		buffer := make([]byte, maxPacket)
		for {
			n, from, err := udp.ReadFrom(buffer)
			if err != nil {
				return
			}
			asked.Add(1)
			if out := answer(slices.Clone(buffer[:n]), true); out != nil {
				_, _ = udp.WriteTo(out, from)
			}
		}
	})
	parts.Go(func() {
		for {
			conn, err := tcp.Accept()
			if err != nil {
				return
			}
			asked.Add(1)
			if q, err := readTCP(conn); err == nil {
				if out := answer(q, false); out != nil {
					_ = writeTCP(conn, out)
				}
			}
			_ = conn.Close()
		}
	})
	t.Cleanup(func() {
		_ = udp.Close()
		_ = tcp.Close()
		parts.Wait()
	})
	return udp.LocalAddr().String(), asked
}

// resolves answers with an address, and over UDP with a record of an unknown type besides.
func resolves(t *testing.T, ip string) func([]byte, bool) []byte {
	t.Helper()
	return func(q []byte, udp bool) []byte {
		var m dnsmessage.Message
		if err := m.Unpack(q); err != nil {
			return nil
		}
		m.Response, m.Additionals = true, nil
		h := dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 60}
		if m.Questions[0].Type == dnsmessage.TypeA {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: netip.MustParseAddr(ip).As4()}})
		}
		h.Type = 257
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.UnknownResource{Type: 257, Data: []byte("CAA")}})
		out, err := m.Pack()
		require.NoError(t, err)
		return out
	}
}

func fails(code byte) func([]byte, bool) []byte {
	return func(q []byte, _ bool) []byte {
		q[2] |= 0x80
		q[3] = code
		return q
	}
}

func silent([]byte, bool) []byte { return nil }

func start(t *testing.T, o Options) *Server {
	t.Helper()
	o.Listen = []string{"127.0.0.1:0"}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Namespace = "web"
	s, err := Listen(t.Context(), o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return s
}

// ask asks a server over the network.
func ask(t *testing.T, s *Server, network, name string, kind dnsmessage.Type) (dnsmessage.Message, []byte) {
	t.Helper()
	conn, err := net.Dial(network, s.Address())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	q := question(t, name, kind, 0)
	var out []byte
	if network == "tcp" {
		require.NoError(t, writeTCP(conn, q))
		out, err = readTCP(conn)
	} else {
		_, err = conn.Write(q)
		require.NoError(t, err)
		buffer := make([]byte, maxPacket)
		var n int
		n, err = conn.Read(buffer)
		out = buffer[:n]
	}
	require.NoError(t, err)
	var m dnsmessage.Message
	require.NoError(t, m.Unpack(out))
	return m, out
}

// A real resolver, Go's, finds the mesh's names and all others.
func TestResolver(t *testing.T) {
	t.Parallel()
	upstream, _ := startResolver(t, resolves(t, "192.0.2.1"))
	s := start(t, Options{Upstreams: []string{upstream}})
	s.Set(mesh())
	for _, network := range []string{"udp", "tcp"} {
		r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, s.Address())
		}}
		lookup := func(name string) string {
			found, err := r.LookupHost(t.Context(), name)
			if n, ok := errors.AsType[*net.DNSError](err); ok && n.IsNotFound {
				return "not found"
			}
			require.NoError(t, err)
			slices.Sort(found)
			return strings.Join(found, " ")
		}
		require.Equal(t, "241.219.8.83 fdca:5e0a::1", lookup("users.web.svc.cluster.local."))
		require.Equal(t, "241.219.8.83 fdca:5e0a::1", lookup("users.web."))
		require.Equal(t, "240.0.0.1", lookup("four.web.svc.cluster.local."))
		require.Equal(t, "not found", lookup("nobody.web.svc.cluster.local."))
		require.Equal(t, "192.0.2.1", lookup("example.org."))
		require.Equal(t, "192.0.2.1", lookup("mail.data.svc.cluster.local."), "an external name is followed")
		_, srv, err := r.LookupSRV(t.Context(), "grpc", "tcp", "users.web.svc.cluster.local.")
		require.NoError(t, err)
		require.Equal(t, uint16(9000), srv[0].Port)
	}
	require.NotZero(t, s.Counts().Mesh)
}

// What is not the mesh's goes to the upstream and comes back byte by byte.
func TestPassesOn(t *testing.T) {
	t.Parallel()
	var got []byte
	var mu sync.Mutex
	answer := resolves(t, "192.0.2.1")
	upstream, _ := startResolver(t, func(q []byte, udp bool) []byte {
		mu.Lock()
		defer mu.Unlock()
		got = slices.Clone(q)
		return answer(q, udp)
	})
	s := start(t, Options{Upstreams: []string{upstream}})
	s.Set(mesh())
	for _, network := range []string{"udp", "tcp"} {
		_, out := ask(t, s, network, "eXample.org.", dnsmessage.TypeA)
		mu.Lock()
		require.Equal(t, question(t, "eXample.org.", dnsmessage.TypeA, 0), got)
		require.Equal(t, answer(got, true), out)
		mu.Unlock()
	}
}

// Upstreams are tried in turn, and one that was silent is not waited for each time.
func TestUpstreamsInTurn(t *testing.T) {
	t.Parallel()
	dead, deadAsked := startResolver(t, silent)
	broken, _ := startResolver(t, fails(2))
	good, _ := startResolver(t, resolves(t, "192.0.2.1"))
	s := start(t, Options{Upstreams: []string{dead, broken, good}})
	s.Set(mesh())
	m, _ := ask(t, s, "udp", "example.org.", dnsmessage.TypeA)
	require.Equal(t, dnsmessage.RCodeSuccess, m.RCode)
	for range 5 {
		ask(t, s, "udp", "example.org.", dnsmessage.TypeA)
	}
	require.Equal(t, int64(1), deadAsked.Load())

	s = start(t, Options{Upstreams: []string{broken}})
	m, _ = ask(t, s, "udp", "example.org.", dnsmessage.TypeA)
	require.Equal(t, dnsmessage.RCodeServerFailure, m.RCode, "what it says is passed on")
	s = start(t, Options{Upstreams: []string{dead}})
	began := time.Now()
	m, _ = ask(t, s, "udp", "example.org.", dnsmessage.TypeA)
	require.Equal(t, dnsmessage.RCodeServerFailure, m.RCode)
	require.Less(t, time.Since(began), 4*time.Second)
	require.Equal(t, uint64(1), s.Counts().Failed)
}

// An answer to another question is no answer.
func TestForgedAnswers(t *testing.T) {
	t.Parallel()
	q := question(t, "example.org.", dnsmessage.TypeA, 0)
	good := resolves(t, "192.0.2.1")(slices.Clone(q), true)
	require.True(t, answers(q, good))
	other := slices.Clone(good)
	other[1]++
	require.False(t, answers(q, other), "another id")
	require.False(t, answers(q, resolves(t, "192.0.2.1")(question(t, "eXample.org.", dnsmessage.TypeA, 0), true)), "other letters")
	require.False(t, answers(q, resolves(t, "192.0.2.1")(question(t, "example.org.", dnsmessage.TypeAAAA, 0), true)), "another type")
	require.False(t, answers(q, q), "no answer at all")
	require.False(t, answers(q, good[:11]))
	require.False(t, answers(q, append(slices.Clone(good[:4]), make([]byte, 8)...)), "an empty success")
}

// No question goes round in circles, whoever leads it back.
func TestLoops(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	address, asked := startResolver(t, silent)
	u, err := newUpstream(&Options{Upstreams: []string{address}, Logger: slog.New(slog.NewTextHandler(&log, nil))}, []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")})
	require.NoError(t, err)
	packet := question(t, "example.org.", dnsmessage.TypeA, 0)
	leaves := make([]func(), maxSame)
	for i := range leaves {
		leaves[i], err = u.enter(packet)
		require.NoError(t, err)
	}
	_, err = u.ask(t.Context(), packet, true)
	require.ErrorIs(t, err, errLoop)
	_, err = u.ask(t.Context(), packet, true)
	require.ErrorIs(t, err, errLoop)
	require.Equal(t, 1, strings.Count(log.String(), "comes back"))
	for _, leave := range leaves {
		leave()
	}
	require.Empty(t, u.open)
	require.Zero(t, asked.Load())

	// Two agents that ask each other.
	var other atomic.Pointer[Server]
	back, turns := startResolver(t, func(q []byte, udp bool) []byte { return other.Load().handle(context.Background(), q, udp) })
	one := start(t, Options{Upstreams: []string{back}})
	other.Store(one)
	m, _ := ask(t, one, "tcp", "example.org.", dnsmessage.TypeA)
	require.Equal(t, dnsmessage.RCodeServerFailure, m.RCode)
	require.LessOrEqual(t, turns.Load(), int64(maxSame))

	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	free := closed.Addr().String()
	require.NoError(t, closed.Close())
	_, err = Listen(t.Context(), Options{Listen: []string{"127.0.0.1:0", free}, Upstreams: []string{free}})
	require.ErrorContains(t, err, "--dns-upstream: "+free+" is the agent itself")
	everywhere := &upstream{own: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:53")}}
	require.True(t, everywhere.isOwn(netip.MustParseAddrPort("127.0.0.1:53")))
	require.False(t, everywhere.isOwn(netip.MustParseAddrPort("192.0.2.1:53")))
	require.False(t, everywhere.isOwn(netip.MustParseAddrPort("127.0.0.1:54")))
}

// While no upstream answers, however many questions wait for one, the mesh's names are answered at once, and what is
// more than waits is refused at once.
func TestNamesWhileUpstreamsHang(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	silent, _ := startResolver(t, func([]byte, bool) []byte { <-hang; return nil })
	defer close(hang)
	s := start(t, Options{Upstreams: []string{silent}})
	s.Set(mesh())
	conn, err := net.Dial("udp", s.Address()) //nolint:noctx // to this host
	require.NoError(t, err)
	defer conn.Close()
	for i := range maxOpen {
		_, err := conn.Write(question(t, fmt.Sprintf("host-%d.example.org.", i), dnsmessage.TypeA, 0))
		require.NoError(t, err)
		if i%64 == 63 { // the kernel keeps so many
			m, _ := ask(t, s, "udp", "users.web.svc.cluster.local.", dnsmessage.TypeA)
			require.Len(t, m.Answers, 1)
		}
	}
	began := time.Now()
	m, _ := ask(t, s, "udp", "users.web.svc.cluster.local.", dnsmessage.TypeA)
	require.Len(t, m.Answers, 1)
	m, _ = ask(t, s, "udp", "more.example.org.", dnsmessage.TypeA)
	require.Equal(t, dnsmessage.RCodeServerFailure, m.RCode)
	require.Less(t, time.Since(began), time.Second, "both at once")
}

// A Service that stands for another name of the mesh is answered by what that one has, and by nobody else.
func TestAliases(t *testing.T) {
	t.Parallel()
	named := func(name, external string) Service {
		return Service{Namespace: "web", Name: name, ExternalName: external}
	}
	table := NewTable([]Service{
		{Namespace: "web", Name: "users", Addresses: []netip.Addr{netip.MustParseAddr("240.0.0.1")}},
		named("one", "users.web.svc.cluster.local"), named("two", "ONE.web.svc.cluster.local."), named("none", "nobody.web.svc.cluster.local"),
		named("round", "again.web.svc.cluster.local"), named("again", "round.web.svc.cluster.local"), named("out", "far.web.svc.cluster.local"), named("far", "example.org"),
		named("short", "users.web"),
	})
	for name, want := range map[string]string{
		"one": "Success: CNAME users.web.svc.cluster.local., A 240.0.0.1", "two": "Success: CNAME ONE.web.svc.cluster.local., CNAME users.web.svc.cluster.local., A 240.0.0.1",
		"none": "NameError: CNAME nobody.web.svc.cluster.local.", "round": "ServerFailure: nothing",
		"out": "Success: CNAME far.web.svc.cluster.local., CNAME example.org. then example.org.", "short": "Success: CNAME users.web. then users.web.",
	} {
		r, ours := table.resolve(&dnsmessage.Question{Name: dnsmessage.MustNewName(name + ".web.svc.cluster.local."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}, "web")
		require.True(t, ours)
		got := say(&r)
		if r.external != "" {
			got += " then " + r.external
		}
		require.Equal(t, want, got, name)
	}
}

// resolv.conf is read as it changes, and the agent itself is none of its resolvers.
func TestResolvConf(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "resolv.conf")
	u, err := newUpstream(&Options{ResolvConf: file, Logger: slog.New(slog.DiscardHandler)}, []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")})
	require.NoError(t, err)
	now := time.Unix(1000, 0)
	next := func(text string) []netip.AddrPort {
		now = now.Add(lookAgain)
		if text != "" {
			require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
			require.NoError(t, os.Chtimes(file, now, now))
		}
		return u.list(now)
	}
	at := func(list ...string) (out []netip.AddrPort) {
		for _, a := range list {
			out = append(out, netip.MustParseAddrPort(a))
		}
		return out
	}
	require.Empty(t, next(""))
	require.Equal(t, at("10.0.0.2:53", "[fe80::1%eth0]:53", "127.0.0.53:53"), next("# x\nsearch a b\n nameserver 10.0.0.2\nnameserver\tfe80::1%eth0 # y\nnameserver 127.0.0.1\nnameserver x\nnameserver 127.0.0.53\nnameserver 10.0.0.9\n"))
	require.Equal(t, at("10.0.0.3:53"), next("nameserver ::ffff:10.0.0.3\n"))
	require.Equal(t, at("10.0.0.3:53"), next("nameserver 127.0.0.1\n"), "those of before go on")
	require.NoError(t, os.Remove(file))
	require.Equal(t, at("10.0.0.3:53"), next(""))

	for text, want := range map[string]string{"x": "--dns-listen: \"x\" is not", "127.0.0.1:0": "--dns-upstream: \"y\" is not"} {
		_, err = Listen(t.Context(), Options{Listen: []string{text}, Upstreams: []string{"y"}})
		require.ErrorContains(t, err, want)
	}
}

func FuzzHandle(f *testing.F) {
	for _, name := range []string{"users.web.svc.cluster.local.", "_http._tcp.users.web.svc.cluster.local.", "users.", "example.org."} {
		f.Add(question(f, name, dnsmessage.TypeA, 0), true)
		f.Add(question(f, name, dnsmessage.TypeSRV, 600), false)
	}
	s := &Server{opts: Options{Namespace: "web"}, upstream: &upstream{open: make(map[string]int)}}
	s.Set(mesh())
	f.Fuzz(func(t *testing.T, packet []byte, udp bool) {
		out := s.handle(t.Context(), packet, udp)
		if out == nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(out); err != nil {
			t.Fatalf("%x: %v", out, err)
		}
		if !m.Response || out[0] != packet[0] || out[1] != packet[1] {
			t.Fatalf("%x is no answer to %x", out, packet)
		}
		if udp && len(out) > maxSize {
			t.Fatalf("%d bytes", len(out))
		}
	})
}

func FuzzUpstream(f *testing.F) {
	q := question(f, "example.org.", dnsmessage.TypeA, 0)
	f.Add(q, append([]byte(nil), q...), []byte("nameserver 10.0.0.2\n"))
	f.Fuzz(func(_ *testing.T, question, answer, conf []byte) {
		answers(question, answer)
		_, _, _ = chain(answer)
		parseResolvConf(conf)
	})
}
