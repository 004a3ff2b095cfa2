package dns

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	// perUpstream is how long one upstream may take, and inAll how long all of them: programs give up
	// after five seconds (resolv.conf(5)).
	perUpstream, inAll = 1500 * time.Millisecond, 4500 * time.Millisecond
	// maxUpstreams is how many are tried.
	maxUpstreams = 3
	// avoided is for how long an upstream that did not answer is tried after the others.
	avoided = 10 * time.Second
	// lookAgain is how often resolv.conf is looked at.
	lookAgain = 5 * time.Second
	// maxSame is how many questions of the same bytes may be under way. A question has an id of 16 random bits, so more are one
	// that comes back again and again.
	maxSame = 4
	// maxResolvConf is how much of a resolv.conf is read.
	maxResolvConf = 64 << 10
)

// Errors of upstreams.
var (
	errLoop = errors.New("dns: the question comes back: an upstream asks the agent itself")
	errNone = errors.New("dns: there is no upstream resolver")
)

// upstream asks the resolvers that a host had before.
type upstream struct {
	log *slog.Logger
	// own is where the agent itself listens.
	own []netip.AddrPort
	// file is the resolv.conf that the servers are read from, "" for those that were given.
	file string

	mu      sync.Mutex
	servers []netip.AddrPort
	looked  time.Time
	stamp   time.Time // the file's
	avoid   map[netip.AddrPort]time.Time
	open    map[string]int // questions under way, by their bytes
	warned  bool
}

func newUpstream(o *Options, own []netip.AddrPort) (*upstream, error) {
	u := &upstream{log: o.Logger, own: own, avoid: make(map[netip.AddrPort]time.Time), open: make(map[string]int)}
	for _, text := range o.Upstreams {
		server, err := parseUpstream(text)
		switch {
		case err != nil:
			return nil, fmt.Errorf("--dns-upstream: %q is not ADDRESS or ADDRESS:PORT: write, for example, 10.0.0.2", text)
		case u.isOwn(server):
			return nil, fmt.Errorf("--dns-upstream: %s is the agent itself: give the resolver that knows all other names", text)
		}
		u.servers = append(u.servers, server)
	}
	if len(u.servers) == 0 {
		u.file = o.ResolvConf
	}
	return u, nil
}

func parseUpstream(text string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.AddrPortFrom(a.Unmap(), 53), nil
	}
	at, err := netip.ParseAddrPort(text)
	if err != nil {
		return at, fmt.Errorf("dns: %w", err)
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), nil
}

// isOwn reports whether a resolver is the agent itself.
func (u *upstream) isOwn(server netip.AddrPort) bool {
	return slices.ContainsFunc(u.own, func(own netip.AddrPort) bool {
		switch {
		case server.Port() != own.Port():
			return false
		case !own.Addr().IsUnspecified():
			return server.Addr() == own.Addr().Unmap()
		case server.Addr().IsLoopback():
			return true
		}
		addresses, err := net.InterfaceAddrs()
		return err == nil && slices.ContainsFunc(addresses, func(a net.Addr) bool {
			p, err := netip.ParsePrefix(a.String())
			return err == nil && p.Addr() == server.Addr().WithZone("")
		})
	})
}

// parseResolvConf returns the resolvers of a resolv.conf (resolv.conf(5)).
func parseResolvConf(text []byte) []netip.AddrPort {
	var out []netip.AddrPort
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxResolvConf+1)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil {
			out = append(out, netip.AddrPortFrom(a.Unmap(), 53))
		}
	}
	return out
}

// list returns the resolvers to try, those first that have not failed lately.
func (u *upstream) list(now time.Time) []netip.AddrPort {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.file != "" && now.Sub(u.looked) >= lookAgain {
		u.looked = now
		u.reload()
	}
	out := slices.Clone(u.servers)
	slices.SortStableFunc(out, func(a, b netip.AddrPort) int {
		badA, badB := now.Before(u.avoid[a]), now.Before(u.avoid[b])
		switch {
		case badA == badB:
			return 0
		case badA:
			return 1
		}
		return -1
	})
	return out[:min(len(out), maxUpstreams)]
}

// reload reads resolv.conf if it has changed. One that is away, as for a moment while it is written, changes nothing. mu must be held.
func (u *upstream) reload() {
	info, err := os.Stat(u.file)
	if err != nil || info.ModTime().Equal(u.stamp) || info.Size() > maxResolvConf {
		return
	}
	text, err := os.ReadFile(u.file)
	if err != nil {
		return
	}
	found := parseResolvConf(text)
	servers := slices.DeleteFunc(slices.Clone(found), u.isOwn)
	if len(servers) == 0 && len(u.servers) > 0 {
		u.log.Warn("resolv.conf names no resolver but the agent; those of before go on", "file", u.file, "resolvers", u.servers)
	} else if u.servers = servers; len(servers) == 0 {
		u.log.Warn("resolv.conf names no resolver but the agent: only the mesh's names are answered; give others with --dns-upstream", "file", u.file)
	}
	u.stamp = info.ModTime()
	clear(u.avoid)
}

// enter counts a question that is under way, and refuses one that comes back. leave must be called once it is answered.
func (u *upstream) enter(packet []byte) (leave func(), err error) {
	key := string(packet)
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.open[key] >= maxSame {
		if !u.warned {
			u.warned = true
			u.log.Error("a question comes back to the agent: one of its upstream resolvers asks the agent; name others with --dns-upstream", "resolvers", u.servers)
		}
		return nil, errLoop
	}
	u.open[key]++
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.open[key]--; u.open[key] == 0 {
			delete(u.open, key)
		}
	}, nil
}

// ask asks the resolvers in turn and returns the first good answer, or else the last that there was.
func (u *upstream) ask(ctx context.Context, packet []byte, udp bool) ([]byte, error) {
	leave, err := u.enter(packet)
	if err != nil {
		return nil, err
	}
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, inAll)
	defer cancel()
	var refused []byte
	err = errNone
	for _, server := range u.list(time.Now()) {
		var out []byte
		if out, err = u.askOne(ctx, server, packet, udp); err != nil {
			if ctx.Err() != nil {
				break
			}
			u.mu.Lock()
			u.avoid[server] = time.Now().Add(avoided)
			u.mu.Unlock()
			continue
		}
		if code := dnsmessage.RCode(out[3] & 0xf); code != dnsmessage.RCodeServerFailure && code != dnsmessage.RCodeRefused {
			return out, nil
		}
		refused = out // another may know
	}
	if refused != nil {
		return refused, nil
	}
	return nil, err
}

// askOne asks one resolver, from a port of its own.
func (u *upstream) askOne(ctx context.Context, server netip.AddrPort, packet []byte, udp bool) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, perUpstream)
	defer cancel()
	network := "udp"
	if !udp {
		network = "tcp"
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, server.String())
	if err != nil {
		return nil, fmt.Errorf("dns: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if !udp {
		if err := writeTCP(conn, packet); err != nil {
			return nil, err
		}
		out, err := readTCP(conn)
		if err == nil && !answers(packet, out) {
			err = fmt.Errorf("dns: %s answers another question", server)
		}
		return out, err
	}
	if _, err := conn.Write(packet); err != nil {
		return nil, fmt.Errorf("dns: %w", err)
	}
	buffer := make([]byte, maxPacket)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return nil, fmt.Errorf("dns: %w", err)
		}
		if out := buffer[:n]; answers(packet, out) { // others are old, or forged
			return out, nil
		}
	}
}

// answers reports whether a message answers a question: it has its id and says it in the same letters, if it says it at all.
func answers(question, answer []byte) bool {
	if len(question) < 12 || len(answer) < 12 || question[0] != answer[0] || question[1] != answer[1] || answer[2]&0x80 == 0 {
		return false
	}
	if binary.BigEndian.Uint16(answer[4:]) == 0 { // an error that says nothing more
		return answer[3]&0xf != 0
	}
	var p, q dnsmessage.Parser
	if _, err := p.Start(question); err != nil {
		return false
	}
	if _, err := q.Start(answer); err != nil {
		return false
	}
	asked, err := p.Question()
	if err != nil {
		return true // what it asks only the resolver knows
	}
	said, err := q.Question()
	return err == nil && asked == said
}
