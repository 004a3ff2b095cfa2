package capture_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/agent/capture"
)

// nft runs nft(8) in a namespace.
func (n *namespace) nft(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	program, err := exec.LookPath("nft")
	if err != nil {
		t.Skip("nft is not there to print rules: apt-get install nftables")
	}
	var out []byte
	require.NoError(t, n.Do(func() error {
		c := exec.Command(program, args...)
		c.Stdin = strings.NewReader(stdin)
		var err error
		if out, err = c.CombinedOutput(); err != nil {
			return fmt.Errorf("nft: %w: %s", err, out)
		}
		return nil
	}))
	return string(out)
}

// What --dry-run prints makes the same rules as Capture, if nft reads it.
func TestTextIsWhatIsCaptured(t *testing.T) {
	t.Parallel()
	for _, f := range []capture.Features{{IPv6: true}, {}} {
		captured, read := newNamespace(t), newNamespace(t)
		for i, tc := range cases {
			if !f.IPv6 && i%5 > 0 { // the others differ in nothing that has a family
				continue
			}
			r := rules(t, tc.config, f)
			require.NoError(t, captured.table().Capture(r))
			read.nft(t, r.Text(), "-f", "-")
			require.Equal(t, read.nft(t, "", "list", "ruleset"), captured.nft(t, "", "list", "ruleset"), tc.name)
		}
	}
}

// Capture twice is capture once, and other settings replace those from before.
func TestCaptureAgain(t *testing.T) {
	t.Parallel()
	n, other := newNamespace(t), newNamespace(t)
	list := func(of *namespace) string { return of.nft(t, "", "list", "ruleset") }
	first, second := rules(t, "{mode: pod, dns: redirect}", capture.Features{IPv6: true}), rules(t, "{mode: host, proxy-users: 7}", capture.Features{IPv6: true})
	require.NoError(t, n.table().Foreign("host", foreign()))
	require.NoError(t, other.table().Foreign("host", foreign()))
	before := n.dump(t)

	require.NoError(t, n.table().Capture(first))
	once := list(n)
	require.NoError(t, n.table().Capture(first))
	require.Equal(t, once, list(n))

	require.NoError(t, n.table().Capture(second))
	require.NoError(t, other.table().Capture(second))
	require.Equal(t, list(other), list(n))

	was, _, err := n.table().Release(t.Context(), 0)
	require.NoError(t, err)
	require.True(t, was)
	require.Equal(t, before, n.dump(t))
	was, _, err = n.table().Release(t.Context(), 0)
	require.NoError(t, err)
	require.False(t, was)
}

// While rules are replaced, no connection goes by none, and open ones go on.
func TestReplaceLosesNothing(t *testing.T) {
	t.Parallel()
	p := newPod(t)
	p.captures(t, "mode: pod", 0)
	open := p.talk(t, "10.96.0.20:80", "outbound 10.96.0.20:80")

	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	wrong := make(chan string, 1)
	for range 2 {
		clients.Go(func() {
			for ctx.Err() == nil {
				if got := p.sender(t, "app").ask("tcp", "10.96.0.20:80"); got != "outbound 10.96.0.20:80" {
					select {
					case wrong <- got:
					default:
					}
				}
			}
		})
	}
	for i := range 20 {
		p.captures(t, []string{"{mode: pod, exclude-outbound-ports: 443}", "{mode: pod, dns: redirect}"}[i%2], 0)
		open.says(t)
	}
	stop()
	clients.Wait()
	select {
	case got := <-wrong:
		t.Fatalf("a connection was answered by: %s", got)
	default:
	}
}

// conversation is an open connection whose peer says what it is told.
type conversation struct {
	conn  net.Conn
	lines *bufio.Reader
}

// talk opens a connection of the application.
func (p *pod) talk(t *testing.T, address, want string) *conversation {
	t.Helper()
	c, err := p.sender(t, "app").dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	out := &conversation{c, bufio.NewReader(c)}
	line, err := out.lines.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, want+"\n", line)
	return out
}

func (c *conversation) hears() error {
	_ = c.conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := fmt.Fprintln(c.conn, "hello"); err != nil {
		return err
	}
	line, err := c.lines.ReadString('\n')
	if err == nil && line != "hello\n" {
		err = errors.New(line)
	}
	return err
}

func (c *conversation) says(t *testing.T) {
	t.Helper()
	require.NoError(t, c.hears())
}

// A release captures nothing new at once, and waits for open connections, which would break without the rules.
func TestReleaseWaitsForOpenConnections(t *testing.T) {
	t.Parallel()
	p := newPod(t)
	before := p.inside.dump(t)
	p.captures(t, "mode: pod", 0)
	open := p.talk(t, "10.96.0.20:80", "outbound 10.96.0.20:80")
	inward := p.talkInward(t)

	var was bool
	var left int
	released := make(chan error, 1)
	table := p.tableThatCounts()
	go func() {
		var err error
		was, left, err = table.Release(t.Context(), time.Minute)
		released <- err
	}()
	harness.Eventually(t, 10*time.Second, "nothing new to be captured", func() error {
		if got := p.sender(t, "app").ask("tcp", "10.96.0.20:80"); got != "world" {
			return errors.New(got)
		}
		return nil
	})
	open.says(t)
	inward.says(t)
	require.NoError(t, open.conn.Close())
	inward.says(t)
	select {
	case <-released:
		t.Fatal("it did not wait")
	default:
	}
	require.NoError(t, inward.conn.Close())
	require.NoError(t, <-released)
	require.True(t, was)
	require.Zero(t, left)
	require.Equal(t, before, p.inside.dump(t))
}

// What stays open beyond the time is told.
func TestReleaseTellsWhatItBreaks(t *testing.T) {
	t.Parallel()
	p := newPod(t)
	p.captures(t, "mode: pod", 0)
	open := p.talk(t, "10.96.0.20:80", "outbound 10.96.0.20:80")
	was, left, err := p.tableThatCounts().Release(t.Context(), 0)
	require.NoError(t, err)
	require.True(t, was)
	require.Equal(t, 1, left)
	require.Error(t, open.hears(), "an open connection needs no rules: then Release need not wait")
}

func (p *pod) talkInward(t *testing.T) *conversation {
	t.Helper()
	c, err := p.sender(t, "outside").dial("tcp", podIP4+":8080")
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	out := &conversation{c, bufio.NewReader(c)}
	line, err := out.lines.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "inbound "+podIP4+":8080\n", line)
	return out
}

// tableThatCounts is the pod's table, and counts connections where the pod is.
func (p *pod) tableThatCounts() *capture.Table {
	return capture.TableIn(p.inside.FD(), func() (n int, err error) {
		err = p.inside.Do(func() error {
			n, err = capture.OpenConnections()
			return err
		})
		return n, err
	})
}

// Rules that nobody confirms act no more once their time is over, and no process has to live for that.
func TestUntilConfirmed(t *testing.T) {
	t.Parallel()
	p := newPod(t)
	before := p.inside.dump(t)
	table := p.inside.table()
	p.captures(t, "{mode: pod, dns: redirect}", 700*time.Millisecond)
	p.check(t, "app tcp 10.96.0.20:80 = outbound 10.96.0.20:80\napp udp 10.96.0.10:53 = agent\noutside tcp 198.18.0.2:8080 = inbound 198.18.0.2:8080")
	s, err := table.State()
	require.NoError(t, err)
	require.True(t, s.Captured)
	require.Positive(t, s.Left)
	open := p.talk(t, "10.96.0.20:80", "outbound 10.96.0.20:80")

	harness.Eventually(t, 5*time.Second, "the rules to act no more", func() error {
		if got := p.sender(t, "app").ask("tcp", "10.96.0.20:80"); got != "world" {
			return errors.New(got)
		}
		return nil
	})
	p.check(t, "app tcp 10.96.0.20:80 = world\napp tcp [2001:db8::7]:80 = world\napp udp 10.96.0.10:53 = world\noutside tcp 198.18.0.2:8080 = app")
	open.says(t)
	s, err = table.State()
	require.NoError(t, err)
	require.Equal(t, capture.State{Expired: true}, s)
	require.ErrorContains(t, table.Confirm(), "the time is over and capture is off")
	p.releases(t)
	require.Equal(t, before, p.inside.dump(t))
	require.ErrorContains(t, table.Confirm(), "nothing is captured")
}

func TestConfirm(t *testing.T) {
	t.Parallel()
	p := newPod(t)
	table := p.inside.table()
	p.captures(t, "mode: pod", time.Second)
	require.NoError(t, table.Confirm())
	s, err := table.State()
	require.NoError(t, err)
	require.Equal(t, capture.State{Captured: true}, s)
	require.NoError(t, table.Confirm(), "twice is once")
	harness.Throughout(t, 1500*time.Millisecond, "what is confirmed", func() error {
		if got := p.sender(t, "app").ask("tcp", "[2001:db8::7]:80"); got != "outbound [2001:db8::7]:80" {
			return errors.New(got)
		}
		return nil
	})
}

// A ruleset that the kernel refuses changes nothing, and the error says which rule it is.
func TestRefusedRulesChangeNothing(t *testing.T) {
	t.Parallel()
	p := newPod(t)
	p.captures(t, "mode: pod", 0)
	before := p.inside.dump(t)
	good := func() capture.Ruleset { return rules(t, "{mode: host, proxy-users: 7}", capture.Features{IPv6: true}) }

	bad := good() // a nat chain from before conntrack
	bad.Chains = append(bad.Chains, capture.Chain{Name: "early", Type: "nat", Hook: "output", Priority: -300})
	require.ErrorContains(t, p.inside.table().Capture(bad), "the kernel refuses the chain early: it lacks nat chains of the family inet (nft_chain_nat)")
	require.Equal(t, before, p.inside.dump(t))

	bad = good() // ranges that overlap
	bad.Sets = append(bad.Sets, capture.Set{Name: "twice", Type: "inet_service", Interval: true, Elements: []capture.Element{
		{First: []byte{0, 1}, Last: []byte{0, 9}}, {First: []byte{0, 2}, Last: []byte{0, 3}},
	}})
	require.ErrorContains(t, p.inside.table().Capture(bad), "the kernel refuses the set twice: it lacks sets of ranges (nft_set_rbtree)")
	require.Equal(t, before, p.inside.dump(t))

	bad = good() // a redirect where there is none
	bad.Chains = append(bad.Chains, capture.Chain{Name: "filter", Type: "filter", Hook: "output"})
	last := &bad.Chains[len(bad.Chains)-1]
	last.Rules = append(last.Rules, capture.Rule{Do: capture.Action{Redirect: 15002}, Matches: []capture.Match{{Key: capture.Destination4, Set: "mesh4"}}})
	require.ErrorContains(t, p.inside.table().Capture(bad), "Nothing is changed")
	require.Equal(t, before, p.inside.dump(t))
	p.check(t, "app tcp 10.96.0.20:80 = outbound 10.96.0.20:80")
}

// Without CAP_NET_ADMIN everything fails with the remedy.
func TestWithoutCapability(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	require.NoError(t, n.Do(func() error {
		none := [2]unix.CapUserData{}
		if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
			return err
		}
		table := capture.NewTable()
		_, stateErr := table.State()
		_, _, releaseErr := table.Release(t.Context(), 0)
		for _, err := range []error{table.Capture(rules(t, "mode: pod", capture.Features{IPv6: true})), stateErr, releaseErr, table.Confirm()} {
			if err == nil || !strings.Contains(err.Error(), "without CAP_NET_ADMIN") {
				return fmt.Errorf("it says: %w", err)
			}
		}
		return nil
	}))
}

// A query of the agent is its own, also if an application had its port a moment before.
func TestDNSFromTheSamePort(t *testing.T) {
	t.Parallel()
	for _, server := range []struct{ at, answers string }{{"10.96.0.10:53", "world"}, {"127.0.0.53:53", "resolved"}, {"[fd00:10:96::10]:53", "world"}} {
		p := newPod(t)
		p.captures(t, "{mode: pod, dns: redirect, dns-servers: '10.96.0.10, 127.0.0.53, fd00:10:96::10'}", 0)
		app, agent := p.sender(t, "app"), p.sender(t, "envoy")
		app.sourcePort, agent.sourcePort = 20000, 20000 // of which the kernel gives none to others
		for range 2 {
			require.Equal(t, "agent", app.ask("udp", server.at), server.at)
			require.Equal(t, server.answers, agent.ask("udp", server.at), server.at)
		}
	}
}

// A kernel without IPv6 gets a table of IPv4. Where IPv6 is off for a namespace alone, nothing is different.
func TestWithoutIPv6(t *testing.T) {
	t.Parallel()
	const config = "{mode: pod, dns: redirect, exclude-outbound-cidrs: '192.0.2.0/24, 2001:db8::/32', exclude-inbound-cidrs: 'fd00::/8'}"
	const packets = `
		app tcp 10.96.0.20:80 = outbound 10.96.0.20:80
		app tcp 192.0.2.7:80 = world
		app udp 10.96.0.10:53 = agent
		envoy tcp 198.18.0.2:8080 = inbound 198.18.0.2:8080
		outside tcp 198.18.0.2:8080 = inbound 198.18.0.2:8080`
	t.Run("in the kernel", func(t *testing.T) {
		t.Parallel()
		p := newPod(t)
		before := p.inside.dump(t)
		r := rules(t, config, capture.Features{})
		require.Equal(t, "ip", r.Family)
		require.NoError(t, p.inside.table().Capture(r))
		p.check(t, packets+"\napp tcp [2001:db8::7]:80 = world")
		p.releases(t)
		require.Equal(t, before, p.inside.dump(t))
	})
	t.Run("in the namespace", func(t *testing.T) {
		t.Parallel()
		p := newPod(t)
		p.inside.set(t, "net/ipv6/conf/all/disable_ipv6", "1")
		before := p.inside.dump(t)
		p.captures(t, config, 0)
		p.check(t, packets+"\napp tcp [2001:db8::7]:80 = unreachable")
		p.releases(t)
		require.Equal(t, before, p.inside.dump(t))
	})
}

// Connections that only pass through the pod, of a container in it or a virtual machine, are not the pod's.
func TestForwarded(t *testing.T) {
	t.Parallel()
	p, behind := newPod(t), newNamespace(t)
	p.inside.set(t, "net/ipv4/ip_forward", "1")
	p.inside.ip(t, fmt.Sprintf("link add inner type veth peer name eth0 netns %s\naddress add 198.19.0.1/24 dev inner\nlink set inner up\n", behind.Path()))
	behind.ip(t, "link set lo up\naddress add 198.19.0.2/24 dev eth0\nlink set eth0 up\nroute add default via 198.19.0.1\n")
	p.outside.ip(t, "route add 198.19.0.0/24 via "+podIP4+"\n")
	behind.answer(t, "behind", "tcp4", ":8080")
	p.captures(t, "mode: pod", 0)
	require.Equal(t, "behind", p.sender(t, "outside").ask("tcp", "198.19.0.2:8080"))
	require.Equal(t, "world", sender{from: behind}.ask("tcp", "192.0.2.7:80"))
	require.Equal(t, "inbound 198.19.0.1:8080", sender{from: behind}.ask("tcp", "198.19.0.1:8080"))
}
