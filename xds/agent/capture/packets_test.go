package capture_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/xds/agent/capture"
)

// foreign is what a host has of its own.
func foreign() capture.Ruleset {
	return capture.Ruleset{
		Family: "inet",
		Sets:   []capture.Set{{Name: "ours", Type: "inet_service", Interval: true, Elements: []capture.Element{{Text: "22", First: []byte{0, 22}, Last: []byte{0, 22}}}}},
		Chains: []capture.Chain{
			{Name: "output", Type: "nat", Hook: "output", Priority: -100, Rules: []capture.Rule{
				{Comment: "of Docker's kind", Matches: []capture.Match{{Key: capture.TCPPort, Set: "ours"}}, Do: capture.Action{Redirect: 2222}},
			}},
			{Name: "input", Type: "filter", Hook: "prerouting", Priority: 0},
		},
	}
}

// Each case is a ruleset and packets that meet it. A packet's line is
//
//	WHO PROTOCOL DESTINATION = ANSWER
//
// and the answer says who got it, and for Envoy also where it was to go: what Envoy's original_dst filter reads.
var cases = []struct{ name, config, packets string }{
	{"pod, all TCP out", "mode: pod", `
		app tcp 10.96.0.20:80 = outbound 10.96.0.20:80
		app tcp 192.0.2.7:3306 = outbound 192.0.2.7:3306
		app tcp 198.18.0.1:443 = outbound 198.18.0.1:443
		root tcp 10.96.0.20:80 = outbound 10.96.0.20:80`},
	{"pod, all TCP out over IPv6", "mode: pod", `
		app tcp [2001:db8::7]:80 = outbound [2001:db8::7]:80
		app tcp [fd00:10:96::20]:443 = outbound [fd00:10:96::20]:443`},
	{"pod, all TCP in", "mode: pod", `
		outside tcp 198.18.0.2:8080 = inbound 198.18.0.2:8080
		outside tcp 198.18.0.2:9090 = inbound 198.18.0.2:9090
		outside tcp 198.18.0.2:7 = inbound 198.18.0.2:7`},
	{"pod, all TCP in over IPv6", "mode: pod", `
		outside tcp [fd00:18::2]:8080 = inbound [fd00:18::2]:8080
		outside tcp [fd00:18::2]:7 = inbound [fd00:18::2]:7`},
	{"pod, declared ports only", "{mode: pod, inbound-ports: 8080}", `
		outside tcp 198.18.0.2:8080 = inbound 198.18.0.2:8080
		outside tcp [fd00:18::2]:8080 = inbound [fd00:18::2]:8080
		outside tcp 198.18.0.2:9090 = app
		outside tcp 198.18.0.2:7 = refused`},
	{"pod, ranges of declared ports", "{mode: pod, inbound-ports: '7000-7002, 8000-8080'}", `
		outside tcp 198.18.0.2:8080 = inbound 198.18.0.2:8080
		outside tcp 198.18.0.2:7002 = inbound 198.18.0.2:7002
		outside tcp 198.18.0.2:7003 = refused
		outside tcp 198.18.0.2:9090 = app`},
	{"pod, no inbound", "{mode: pod, inbound-ports: none}", `
		outside tcp 198.18.0.2:8080 = app
		envoy tcp 198.18.0.2:8080 = app
		app tcp 10.96.0.20:80 = outbound 10.96.0.20:80`},
	{"pod, excluded inbound ports", "{mode: pod, exclude-inbound-ports: 9090}", `
		outside tcp 198.18.0.2:9090 = app
		outside tcp [fd00:18::2]:9090 = app
		outside tcp 198.18.0.2:8080 = inbound 198.18.0.2:8080`},
	{"pod, the agent's port is never captured", "mode: pod", `
		outside tcp 198.18.0.2:15020 = app`},
	{"pod, an excluded port within declared ones", "{mode: pod, inbound-ports: 8000-9999, exclude-inbound-ports: 9090}", `
		outside tcp 198.18.0.2:9090 = app
		outside tcp 198.18.0.2:8080 = inbound 198.18.0.2:8080`},
	{"pod, kubelet's probes by its addresses", "{mode: pod, exclude-inbound-cidrs: '198.18.0.1, fd00:18::/64'}", `
		outside tcp 198.18.0.2:8080 = app
		outside tcp [fd00:18::2]:8080 = app
		outside tcp 198.18.0.2:7 = refused`},
	{"pod, kubelet's probes from the gateway", "{mode: pod, exclude-inbound-cidrs: 'gateways, 198.18.0.9'}", `
		outside tcp 198.18.0.2:8080 = app
		outside tcp [fd00:18::2]:8080 = app
		outside tcp 198.18.0.2:7 = refused`},
	{"pod, other peers than kubelet", "{mode: pod, exclude-inbound-cidrs: 198.18.0.9}", `
		outside tcp 198.18.0.2:8080 = inbound 198.18.0.2:8080`},
	{"pod, excluded outbound ports", "{mode: pod, exclude-outbound-ports: '3306, 400-443'}", `
		app tcp 192.0.2.7:3306 = world
		app tcp 192.0.2.7:443 = world
		app tcp [2001:db8::7]:3306 = world
		app tcp 192.0.2.7:80 = outbound 192.0.2.7:80`},
	{"pod, excluded destinations", "{mode: pod, exclude-outbound-cidrs: '192.0.2.0/24, 198.51.100.7'}", `
		app tcp 192.0.2.7:80 = world
		app tcp 198.51.100.7:80 = world
		app tcp 198.51.100.8:80 = outbound 198.51.100.8:80
		app tcp [2001:db8::7]:80 = outbound [2001:db8::7]:80`},
	{"pod, excluded destinations of IPv6", "{mode: pod, exclude-outbound-cidrs: '2001:db8:1::/48'}", `
		app tcp [2001:db8:1::7]:80 = world
		app tcp [2001:db8:2::7]:80 = outbound [2001:db8:2::7]:80`},
	{"pod, all IPv4 excluded", "{mode: pod, exclude-outbound-cidrs: 0.0.0.0/0}", `
		app tcp 192.0.2.7:80 = world
		app tcp [2001:db8::7]:80 = outbound [2001:db8::7]:80`},
	{"pod, destinations within each other", "{mode: pod, exclude-outbound-cidrs: '192.0.2.0/24, 192.0.2.0/25, 192.0.2.7, 192.0.3.0/24'}", `
		app tcp 192.0.2.7:80 = world
		app tcp 192.0.2.200:80 = world
		app tcp 198.51.100.8:80 = outbound 198.51.100.8:80`},
	{"pod, Envoy's own connections", "mode: pod", `
		envoy tcp 10.96.0.20:80 = world
		envoy tcp [2001:db8::7]:80 = world`},
	{"pod, Envoy known by its group", "{mode: pod, proxy-groups: 2000}", `
		envoy-by-group tcp 10.96.0.20:80 = world
		envoy-by-group tcp 198.18.0.2:8080 = inbound 198.18.0.2:8080
		envoy tcp 10.96.0.20:80 = outbound 10.96.0.20:80
		app tcp 10.96.0.20:80 = outbound 10.96.0.20:80`},
	{"pod, several users", "{mode: pod, proxy-users: [1337, 0100], proxy-groups: [2000]}", `
		envoy tcp 10.96.0.20:80 = world
		envoy-by-group tcp 10.96.0.20:80 = world
		app tcp 10.96.0.20:80 = outbound 10.96.0.20:80`},
	{"pod, loopback", "mode: pod", `
		app tcp 127.0.0.1:3306 = app
		app tcp 127.0.0.1:8080 = app
		app tcp [::1]:8080 = app
		app tcp 127.0.0.9:8080 = app
		envoy tcp 127.0.0.1:8080 = app
		envoy tcp [::1]:8080 = app`},
	{"pod, the application calls its own Service", "mode: pod", `
		app tcp 10.96.0.20:80 = outbound 10.96.0.20:80
		envoy tcp 198.18.0.2:8080 = inbound 198.18.0.2:8080
		envoy-to-app tcp 198.18.0.2:8080 = app`},
	{"pod, the application calls its own Service over IPv6", "mode: pod", `
		app tcp [fd00:10:96::20]:80 = outbound [fd00:10:96::20]:80
		envoy tcp [fd00:18::2]:8080 = inbound [fd00:18::2]:8080
		envoy-to-app tcp [fd00:18::2]:8080 = app`},
	{"pod, the application calls its own address", "mode: pod", `
		app tcp 198.18.0.2:8080 = outbound 198.18.0.2:8080
		app tcp [fd00:18::2]:8080 = outbound [fd00:18::2]:8080
		app-with-priority tcp 198.18.0.2:8080 = outbound 198.18.0.2:8080`},
	{"pod, Envoy calls ports of its own pod that are not captured", "{mode: pod, inbound-ports: 8080}", `
		envoy tcp 198.18.0.2:9090 = app
		envoy tcp 198.18.0.2:15020 = app
		envoy tcp 198.18.0.2:8080 = inbound 198.18.0.2:8080`},
	{"pod, the node and AWS beside it", "mode: pod", `
		app tcp 169.254.169.254:80 = world
		app tcp 169.254.170.2:80 = world
		app tcp [fd00:ec2::254]:80 = world`},
	{"pod, UDP is not captured", "mode: pod", `
		app udp 10.96.0.10:443 = world
		app udp 10.96.0.10:53 = world
		outside udp 198.18.0.2:8080 = app`},
	{"pod, excluded interface", "{mode: pod, exclude-interfaces: eth0}", `
		app tcp 10.96.0.20:80 = world
		outside tcp 198.18.0.2:8080 = app
		app tcp 198.18.0.2:8080 = outbound 198.18.0.2:8080`},
	{"pod, another interface is excluded", "{mode: pod, exclude-interfaces: 'eth1, net0'}", `
		app tcp 10.96.0.20:80 = outbound 10.96.0.20:80
		outside tcp 198.18.0.2:8080 = inbound 198.18.0.2:8080`},
	{"pod, DNS", "{mode: pod, dns: redirect}", `
		app udp 10.96.0.10:53 = agent
		app tcp 10.96.0.10:53 = agent
		app udp [fd00:10:96::10]:53 = agent
		app tcp [fd00:10:96::10]:53 = agent
		envoy udp 10.96.0.10:53 = world
		envoy tcp 10.96.0.10:53 = world
		envoy udp [fd00:10:96::10]:53 = world`},
	{"pod, DNS of other servers", "{mode: pod, dns: redirect, dns-servers: 10.96.0.10}", `
		app udp 10.96.0.10:53 = agent
		app udp 10.96.0.11:53 = world
		app tcp 10.96.0.11:53 = outbound 10.96.0.11:53
		app udp 10.96.0.10:443 = world`},
	{"pod, DNS of a server on this host", "{mode: pod, dns: redirect, dns-servers: 127.0.0.53}", `
		app udp 127.0.0.53:53 = agent
		envoy udp 127.0.0.53:53 = resolved
		app tcp 127.0.0.1:8080 = app`},
	{"pod, DNS within excluded destinations", "{mode: pod, dns: redirect, exclude-outbound-cidrs: 10.96.0.0/16}", `
		app udp 10.96.0.10:53 = agent
		app tcp 10.96.0.20:80 = world`},
	{"host, virtual addresses only", "{mode: host, proxy-users: 1337}", `
		app tcp 240.0.0.9:80 = outbound 240.0.0.9:80
		app tcp 255.1.2.3:3306 = outbound 255.1.2.3:3306
		app tcp [fdca:5e0a:7a1e::9]:80 = outbound [fdca:5e0a:7a1e::9]:80
		root tcp 240.0.0.9:80 = outbound 240.0.0.9:80
		app tcp 192.0.2.7:80 = world
		app tcp [2001:db8::7]:80 = world
		app tcp 198.18.0.2:8080 = app
		app tcp 127.0.0.1:3306 = app
		app udp 10.96.0.10:53 = world
		outside tcp 198.18.0.2:8080 = app
		envoy tcp 240.0.0.9:80 = world`},
	{"host, other virtual addresses", "{mode: host, proxy-users: 1337, virtual-cidrs: 192.0.2.0/28}", `
		app tcp 192.0.2.7:80 = outbound 192.0.2.7:80
		app tcp 192.0.2.16:80 = world
		app tcp 240.0.0.9:80 = world`},
	{"host, destinations of its own", "{mode: host, proxy-users: 1337, destinations: ['192.0.2.7:3306', '198.51.100.0/24', '[2001:db8::7]:80', '127.0.0.1:3306']}", `
		app tcp 192.0.2.7:3306 = outbound 192.0.2.7:3306
		app tcp 192.0.2.7:80 = world
		app tcp 198.51.100.9:443 = outbound 198.51.100.9:443
		app tcp [2001:db8::7]:80 = outbound [2001:db8::7]:80
		app tcp [2001:db8::7]:443 = world
		app tcp 127.0.0.1:3306 = outbound 127.0.0.1:3306
		app tcp 240.0.0.9:80 = outbound 240.0.0.9:80
		envoy tcp 192.0.2.7:3306 = world`},
	{"host, exclusions", "{mode: host, proxy-users: 1337, exclude-outbound-ports: 443, exclude-outbound-cidrs: 240.9.0.0/16}", `
		app tcp 240.0.0.9:80 = outbound 240.0.0.9:80
		app tcp 240.0.0.9:443 = world
		app tcp 240.9.0.9:80 = world`},
	{"host, DNS", "{mode: host, proxy-users: 1337, dns: redirect, dns-servers: '10.96.0.10, 127.0.0.53'}", `
		app udp 10.96.0.10:53 = agent
		app udp 127.0.0.53:53 = agent
		root tcp 10.96.0.10:53 = agent
		envoy udp 127.0.0.53:53 = resolved
		envoy udp 10.96.0.10:53 = world
		app udp 10.96.0.11:53 = world`},
	{"host, Envoy known by its group", "{mode: host, proxy-groups: 2000}", `
		envoy-by-group tcp 240.0.0.9:80 = world
		envoy tcp 240.0.0.9:80 = outbound 240.0.0.9:80`},
}

// TestPackets sends real packets through the rules of each case, and finds all rules of the namespace as they
// were, byte for byte, after these have been taken back.
func TestPackets(t *testing.T) {
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newPod(t)
			require.NoError(t, p.inside.table().Foreign("host", foreign()))
			before := p.inside.dump(t)
			p.captures(t, tc.config, 0)
			p.check(t, tc.packets)
			p.releases(t)
			require.Equal(t, before, p.inside.dump(t))
			p.check(t, "app tcp 192.0.2.7:80 = world\napp tcp 240.0.0.9:80 = world\noutside tcp 198.18.0.2:8080 = app")
		})
	}
}

// rules makes rules of a configuration; the pod's DNS servers are the world's first.
func rules(t *testing.T, config string, f capture.Features) capture.Ruleset {
	t.Helper()
	c, err := capture.Configure(config, netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00:10:96::10"))
	require.NoError(t, err)
	return capture.Rules(c, f)
}

// captures puts the rules of a configuration in force.
func (p *pod) captures(t *testing.T, config string, untilConfirmed time.Duration) {
	t.Helper()
	require.NoError(t, p.inside.table().Capture(rules(t, config, capture.Features{IPv6: true, UntilConfirmed: untilConfirmed})))
}

// releases takes the rules back.
func (p *pod) releases(t *testing.T) {
	t.Helper()
	was, _, err := p.inside.table().Release(t.Context(), 0)
	require.NoError(t, err)
	require.True(t, was)
}

// check sends packets, of which each line is one.
func (p *pod) check(t *testing.T, packets string) {
	t.Helper()
	for line := range strings.Lines(packets) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		packet, want, ok := strings.Cut(line, " = ")
		words := strings.Fields(packet)
		require.True(t, ok && len(words) == 3, line)
		require.Equal(t, want, p.sender(t, words[0]).ask(words[1], words[2]), packet)
	}
}
