package capture_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/agent/capture"
)

func TestMain(m *testing.M) { harness.Main(m) }

// namespace is a network namespace with what a test of capture does in it.
type namespace struct{ *harness.Network }

func newNamespace(t *testing.T) *namespace {
	t.Helper()
	if !harness.FullRoot() {
		t.Skip("these cases send as different users, for which they need root")
	}
	n := &namespace{harness.NewNetwork(t)}
	t.Cleanup(n.Close)
	return n
}

// ip runs commands of ip(8), one a line.
func (n *namespace) ip(t *testing.T, commands string) {
	t.Helper()
	harness.IP(t, n.Network, commands)
}

func (n *namespace) set(t *testing.T, sysctl, value string) {
	t.Helper()
	require.NoError(t, n.Do(func() error { return os.WriteFile("/proc/sys/"+sysctl, []byte(value), 0o600) }))
}

func (n *namespace) table() *capture.Table {
	return capture.TableIn(n.FD(), nil)
}

// dump returns all of the kernel's rules of a namespace, as the kernel sends them.
func (n *namespace) dump(t *testing.T) string {
	t.Helper()
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: n.FD()})
	require.NoError(t, err)
	defer c.Close()
	var out strings.Builder
	ask := func(what uint16, family byte, data []byte) []netlink.Message {
		messages, err := c.Execute(netlink.Message{
			Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | what), Flags: netlink.Request | netlink.Dump},
			Data:   append([]byte{family, 0, 0, 0}, data...),
		})
		require.NoError(t, err)
		for _, m := range messages {
			fmt.Fprintf(&out, "%d %x\n", what, append(m.Data[:2:2], m.Data[4:]...)) // without the number of the generation
		}
		return messages
	}
	for _, what := range []uint16{unix.NFT_MSG_GETTABLE, unix.NFT_MSG_GETCHAIN, unix.NFT_MSG_GETRULE, unix.NFT_MSG_GETOBJ} {
		ask(what, unix.NFPROTO_UNSPEC, nil)
	}
	for _, set := range ask(unix.NFT_MSG_GETSET, unix.NFPROTO_UNSPEC, nil) {
		attributes, err := netlink.UnmarshalAttributes(set.Data[4:])
		require.NoError(t, err)
		names, err := netlink.MarshalAttributes(attributes[:2]) // its table's and its own
		require.NoError(t, err)
		ask(unix.NFT_MSG_GETSETELEM, set.Data[0], names)
	}
	return out.String()
}

// Who sends.
const (
	appUser   = 1000
	envoyUser = 1337
	groupOnly = 2000 // an Envoy that is known by its group
)

// pod is a namespace with an Envoy, an agent and an application, all of which say who they are to whom
// they answer, and the world outside, which has every address.
type pod struct{ inside, outside *namespace }

const (
	podIP4   = "198.18.0.2"
	podIP6   = "fd00:18::2"
	worldIP4 = "198.18.0.1"
	worldIP6 = "fd00:18::1"
)

func newPod(t *testing.T) *pod {
	t.Helper()
	return newPodWithout(t)
}

// newPodWithout leaves some of those who answer to the test.
func newPodWithout(t *testing.T, without ...string) *pod {
	t.Helper()
	p := &pod{newNamespace(t), newNamespace(t)}
	p.connect(t)
	for _, l := range []struct{ who, network, address string }{
		{"outbound", "tcp4", "127.0.0.1:15002"},
		{"outbound", "tcp6", "[::1]:15002"},
		{"inbound", "tcp4", "0.0.0.0:15006"},
		{"inbound", "tcp6", "[::]:15006"},
		{"agent", "tcp4", "127.0.0.1:15053"},
		{"agent", "tcp6", "[::1]:15053"},
		{"agent", "udp4", "127.0.0.1:15053"},
		{"agent", "udp6", "[::1]:15053"},
		{"resolved", "udp4", "127.0.0.53:53"},
		{"app", "tcp", ":8080"},
		{"app", "tcp", ":9090"},
		{"app", "tcp", ":15020"},
		{"app", "tcp4", "127.0.0.1:3306"},
		{"app", "udp4", "0.0.0.0:8080"},
	} {
		if !slices.Contains(without, l.who) {
			p.inside.answer(t, l.who, l.network, l.address)
		}
	}
	for _, l := range []struct{ network, address string }{
		{"tcp", ":80"},
		{"tcp", ":443"},
		{"tcp", ":3306"},
		{"tcp", ":53"},
		{"tcp", ":8080"},
		{"udp4", "10.96.0.10:53"},
		{"udp4", "10.96.0.11:53"},
		{"udp6", "[fd00:10:96::10]:53"},
		{"udp4", "10.96.0.10:443"},
	} {
		p.outside.answer(t, "world", l.network, l.address)
	}
	return p
}

// connect gives the pod an interface whose other end is outside.
func (p *pod) connect(t *testing.T) {
	t.Helper()
	p.outside.ip(t, fmt.Sprintf(`link set lo up
link add eth0 type veth peer name eth0 netns %s
address add %s/24 dev eth0
address add %s/64 dev eth0 nodad
link set eth0 up
route add local 10.96.0.0/16 dev lo
route add local 192.0.2.0/24 dev lo
route add local 198.51.100.0/24 dev lo
route add local 169.254.0.0/16 dev lo
route add local 240.0.0.0/4 dev lo
route add local 2001:db8::/32 dev lo
route add local fd00:10:96::/64 dev lo
address add fd00:10:96::10/128 dev lo
route add local fd00:ec2::/32 dev lo
route add local fdca:5e0a:7a1e::/48 dev lo
`, p.inside.Path(), worldIP4, worldIP6))
	p.inside.ip(t, fmt.Sprintf(`link set lo up
address add %s/24 dev eth0
address add %s/64 dev eth0 nodad
link set eth0 up
route add default via %s
route add ::/0 via %s
`, podIP4, podIP6, worldIP4, worldIP6))
}

// answer listens, and says to everybody who it is and where the connection was to go at first.
func (n *namespace) answer(t *testing.T, who, network, address string) {
	t.Helper()
	require.NoError(t, n.Do(func() error {
		if strings.HasPrefix(network, "udp") {
			c, err := net.ListenPacket(network, address)
			if err != nil {
				return err
			}
			t.Cleanup(func() { _ = c.Close() })
			go func() {
				buffer := make([]byte, 100)
				for {
					_, from, err := c.ReadFrom(buffer)
					if err != nil {
						return
					}
					_, _ = c.WriteTo([]byte(who+"\n"), from)
				}
			}()
			return nil
		}
		l, err := net.Listen(network, address)
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				text := who
				if who == "outbound" || who == "inbound" {
					text += " " + originalDestination(c.(*net.TCPConn))
				}
				_, _ = fmt.Fprintln(c, text)
				go func() { // until the client goes, and what it says comes back
					defer c.Close()
					lines := bufio.NewScanner(c)
					for lines.Scan() {
						_, _ = fmt.Fprintln(c, lines.Text())
					}
				}()
			}
		}()
		return nil
	}))
}

// originalDestination is what Envoy's original_dst filter reads.
func originalDestination(c *net.TCPConn) string {
	const option = 80 // SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST
	raw, err := c.SyscallConn()
	if err != nil {
		return err.Error()
	}
	text := "?"
	_ = raw.Control(func(fd uintptr) {
		if netip.MustParseAddrPort(c.LocalAddr().String()).Addr().Unmap().Is4() {
			m, err := unix.GetsockoptIPv6Mreq(int(fd), unix.IPPROTO_IP, option) // 16 bytes, as a sockaddr_in has
			if err != nil {
				text = err.Error()
				return
			}
			text = netip.AddrPortFrom(netip.AddrFrom4([4]byte(m.Multiaddr[4:8])), binary.BigEndian.Uint16(m.Multiaddr[2:4])).String()
			return
		}
		m, err := unix.GetsockoptIPv6MTUInfo(int(fd), unix.IPPROTO_IPV6, option) // begins with a sockaddr_in6
		if err != nil {
			text = err.Error()
			return
		}
		port := binary.NativeEndian.AppendUint16(nil, m.Addr.Port)
		text = netip.AddrPortFrom(netip.AddrFrom16(m.Addr.Addr), binary.BigEndian.Uint16(port)).String()
	})
	return text
}

// sender is who sends what.
type sender struct {
	from       *namespace
	user       int
	group      int
	priority   int
	sourcePort int
}

// dial connects to an address.
func (s sender) dial(network, address string) (net.Conn, error) {
	var c net.Conn
	err := s.from.Do(func() error {
		if err := unix.Setfsgid(s.group); err != nil {
			return err
		}
		if err := unix.Setfsuid(s.user); err != nil {
			return err
		}
		d := net.Dialer{Timeout: 2 * time.Second, Control: func(_, _ string, raw syscall.RawConn) error {
			var failed error
			err := raw.Control(func(fd uintptr) {
				if s.priority > 0 {
					failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PRIORITY, s.priority)
				}
			})
			return errors.Join(err, failed)
		}}
		if s.sourcePort > 0 {
			d.LocalAddr = &net.UDPAddr{Port: s.sourcePort}
		}
		var err error
		c, err = d.Dial(network, address)
		// A program that another test starts holds the last socket until its exec, so its port is not free at once.
		for began := time.Now(); errors.Is(err, syscall.EADDRINUSE) && s.sourcePort > 0 && time.Since(began) < 2*time.Second; {
			runtime.Gosched()
			c, err = d.Dial(network, address)
		}
		return err
	})
	return c, err
}

// ask returns who answers at an address, or how it fails.
func (s sender) ask(network, address string) string {
	c, err := s.dial(network, address)
	if err != nil {
		return failure(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	if network == "udp" {
		_, _ = c.Write([]byte("who?\n"))
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return failure(err)
	}
	return strings.TrimSpace(line)
}

func failure(err error) string {
	var number syscall.Errno
	switch {
	case errors.As(err, &number) && errors.Is(number, syscall.ECONNREFUSED):
		return "refused"
	case errors.As(err, &number) && (errors.Is(number, syscall.ENETUNREACH) || errors.Is(number, syscall.EADDRNOTAVAIL)):
		return "unreachable"
	case os.IsTimeout(err):
		return "timeout"
	}
	return err.Error()
}

// sender returns who a case means: "app", "envoy", and so on.
func (p *pod) sender(t *testing.T, who string) sender {
	t.Helper()
	switch who {
	case "app":
		return sender{from: p.inside, user: appUser, group: appUser}
	case "root":
		return sender{from: p.inside}
	case "envoy":
		return sender{from: p.inside, user: envoyUser, group: envoyUser}
	case "envoy-by-group":
		return sender{from: p.inside, user: appUser, group: groupOnly}
	case "envoy-to-app": // an inbound listener's connection to the application
		return sender{from: p.inside, user: envoyUser, group: envoyUser, priority: naming.ApplicationPriority}
	case "app-with-priority":
		return sender{from: p.inside, user: appUser, group: appUser, priority: naming.ApplicationPriority}
	case "outside":
		return sender{from: p.outside}
	}
	t.Fatalf("nobody is called %q", who)
	return sender{}
}
