package capture_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/test/golden"
	"github.com/causeway-mesh/causeway/xds/agent/capture"
	"github.com/causeway-mesh/causeway/xds/bootstrap"
)

// What --dry-run prints for settings, and what capture says of them in a line.
func TestRulesGolden(t *testing.T) {
	golden.Cases{Files: "testdata/*.txtar", Given: []string{"settings"}, Made: []string{"rules", "summary"}}.Run(t, func(t *testing.T, given map[string]string) map[string]string {
		t.Helper()
		c, err := capture.Configure(given["settings"], netip.MustParseAddr("10.96.0.10"))
		require.NoError(t, err)
		return map[string]string{
			"rules":   capture.Rules(c, capture.Features{IPv6: true}).Text(),
			"summary": c.Summary() + "\n",
		}
	})
}

func TestFeatures(t *testing.T) {
	c, err := capture.Configure("mode: pod")
	require.NoError(t, err)
	text := capture.Rules(c, capture.Features{UntilConfirmed: 90 * time.Second}).Text()
	require.Contains(t, text, "table ip causeway {")
	require.NotContains(t, text, "ip6")
	require.Contains(t, text, "elements = { tcp timeout 90000ms }")
}

// The port for captured connections is not the one of the explicit listener: a host may have both.
func TestPorts(t *testing.T) {
	explicit := netip.MustParseAddrPort(bootstrap.DefaultHTTPListen).Port()
	require.NotContains(t, []uint16{naming.OutboundPort, naming.InboundPort, naming.DNSPort}, explicit)
}

func TestErrors(t *testing.T) {
	for settings, want := range map[string]string{
		"{}":                               `--mode: "" is neither pod nor host`,
		"mode: vm":                         `--mode: "vm" is neither pod nor host`,
		"mode: host":                       "--proxy-users: without the user of Envoy and the agent, Envoy's own connections would come back to it: write, for example, envoy",
		"{mode: pod, proxy-users: root}":   "--proxy-users: root is the user of much else on a host, which would not be captured",
		"{mode: pod, proxy-users: [7, 0]}": "--proxy-users: root is the user of much else",
		"{mode: pod, proxy-groups: 0}":     "--proxy-groups: root is the group of much else",
		"{mode: pod, proxy-users: nobody-of-this-name}":             "--proxy-users: user: unknown user nobody-of-this-name: write its number, or make it first",
		"{mode: pod, proxy-groups: 4294967295}":                     `--proxy-groups: "4294967295" is not the number of a user or group`,
		"{mode: pod, inbound-ports: 0}":                             `--inbound-ports: "0" is neither a port nor a range of ports: write, for example, 80 or 8000-8010`,
		"{mode: pod, inbound-ports: ''}":                            "--inbound-ports: it is empty: write ports, all, or none",
		"{mode: pod, inbound-ports: 15006}":                         "--inbound-ports: 15006 is a port of Envoy and the agent, as are 15000, 15001, 15002, 15006, 15020: its connections would come back to it: leave it out",
		"{mode: pod, inbound-ports: '80,15000-15010'}":              "--inbound-ports: 15000 is a port of Envoy",
		"{mode: pod, inbound-ports: 15020}":                         "--inbound-ports: 15020 is a port of Envoy",
		"{mode: pod, inbound-ports: 15053, dns: redirect}":          "--inbound-ports: 15053 is a port of Envoy",
		"{mode: host, proxy-users: 7, virtual-cidrs: ''}":           "--virtual-cidrs: it is empty: write 240.0.0.0/4,",
		"{mode: pod, inbound-ports: 90-80}":                         `"90-80" is neither a port nor a range`,
		"{mode: pod, exclude-outbound-ports: [80, 65536]}":          `--exclude-outbound-ports: "65536" is neither`,
		"{mode: pod, exclude-inbound-ports: '80,,90'}":              "--exclude-inbound-ports: it has a comma with nothing beside it: leave it out",
		"{mode: pod, exclude-outbound-cidrs: 10.0.0.1/8}":           `--exclude-outbound-cidrs: "10.0.0.1/8" has bits beyond its length: write 10.0.0.0/8`,
		"{mode: pod, exclude-inbound-cidrs: all}":                   `--exclude-inbound-cidrs: "all" is neither an address nor a CIDR: write, for example, 10.0.0.0/8`,
		"{mode: pod, exclude-inbound-cidrs: '::ffff:10.0.0.0/104'}": "is an IPv4 address in IPv6's notation: write it as IPv4",
		"{mode: pod, exclude-interfaces: a-name-that-is-too-long}":  `--exclude-interfaces: "a-name-that-is-too-long" is not the name of a network interface, such as eth0`,
		"{mode: pod, dns: yes-please}":                              `--dns: "yes-please" is neither redirect nor off`,
		"{mode: pod, dns: true}":                                    `--dns: "true" is neither redirect nor off`,
		"{mode: pod, dns-servers: 10.0.0.2}":                        "--dns-servers: it has no meaning without --dns redirect",
		"{mode: pod, dns: redirect}":                                "--dns-servers: /etc/resolv.conf names none: name them",
		"{mode: pod, dns: redirect, dns-servers: ns1}":              `--dns-servers: "ns1" is not an address: write, for example, 10.0.0.2`,
		"{mode: pod, dns: redirect, exclude-outbound-ports: 1-99}":  "--dns: port 53 is in --exclude-outbound-ports: leave out one of the two",
		"{mode: pod, destinations: 10.0.0.0/8}":                     "--destinations: it has no meaning with --mode pod: leave it out",
		"{mode: host, proxy-users: 7, inbound-ports: 80}":           "--inbound-ports: it has no meaning with --mode host: leave it out",
		"{mode: host, proxy-users: 7, destinations: '10.0.0.1:x'}":  `--destinations: "10.0.0.1:x": "x" is not a port`,
		"{mode: host, proxy-users: 7, destinations: 'db:3306'}":     `--destinations: "db:3306" is no destination: write, for example, 192.0.2.7:3306`,
		"{mode: pod, inbound-port: 80}":                             "inbound-port: there is no such setting: did you mean inbound-ports?",
		"{mode: pod, inbound-ports: {from: 80}}":                    "inbound-ports: write text, a number, or a list of these",
		"{mode: pod, mode: host}":                                   "mode: it stands in line 1 too",
	} {
		_, err := capture.Configure(settings)
		require.ErrorContains(t, err, want, settings)
	}
	_, err := capture.ParsePorts(strings.Repeat("1,", 1000) + "1")
	require.ErrorContains(t, err, "it has 1001 items, more than 1000")
}

// All mistakes are told at once.
func TestSeveralErrors(t *testing.T) {
	_, err := capture.Configure("{mode: pod, inbound-ports: x, exclude-inbound-cidrs: y}")
	require.ErrorContains(t, err, "--inbound-ports")
	require.ErrorContains(t, err, "--exclude-inbound-cidrs")
}

func TestNameservers(t *testing.T) {
	got := capture.Nameservers("# nameserver 1.1.1.1\nsearch a.b\nnameserver 10.0.0.2 # mine\nnameserver\t127.0.0.53\nnameserver fe80::1%eth0\nnameserver 10.0.0.2\nnameserver x\nnameserver\noptions ndots:5\n")
	require.Equal(t, []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("127.0.0.53"), netip.MustParseAddr("fe80::1")}, got)
}

func TestDefaultGateways(t *testing.T) {
	got := capture.DefaultGateways("Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"+
		"eth0\t00000000\t0100F40A\t0003\t0\t0\t0\t00000000\t0\t0\t0\neth0\t0000F40A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\neth1\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n",
		"00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd000018000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n"+
			"fd000018000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n")
	require.Equal(t, []netip.Addr{netip.MustParseAddr("10.244.0.1"), netip.MustParseAddr("fd00:18::1")}, got)
}

func TestEstablished(t *testing.T) {
	n, err := capture.Established(strings.NewReader(`  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:3A9A 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1
   1: 0100007F:3A9A 020012C6:D2F0 01 00000000:00000000 00:00000000 00000000     0        0 2
   2: 020012C6:3A9E 010012C6:D2F2 01 00000000:00000000 00:00000000 00000000     0        0 3
   3: 020012C6:0050 010012C6:3A9A 01 00000000:00000000 00:00000000 00000000     0        0 4
   4: 0100007F:3A9A 020012C6:D2F4 06 00000000:00000000 00:00000000 00000000     0        0 5
`))
	require.NoError(t, err)
	require.Equal(t, 2, n)
}

// A kernel that lacks something is told by the rule that needs it, what it lacks, and the remedy.
func TestDiagnose(t *testing.T) {
	c, err := capture.Configure("{mode: pod, dns: redirect, exclude-interfaces: eth9, exclude-outbound-ports: 25}", netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2"))
	require.NoError(t, err)
	r := capture.Rules(c, capture.Features{IPv6: true})
	for _, tc := range []struct{ text, want string }{
		{"table", "the kernel refuses a table of the family inet: it lacks nf_tables (operation not supported): it needs CONFIG_NF_TABLES"},
		{"flags timeout", "the set on: it lacks sets whose elements have a timeout"},
		{"flags interval", "the set excluded_inbound_ports: it lacks sets of ranges (nft_set_rbtree)"},
		{"type nat hook", "the chain prerouting: it lacks nat chains of the family inet (nft_chain_nat) (operation not supported): it needs Linux 5.2 or newer"},
		{"fib ", `the rule "fib daddr type != local return" (only passes through) of the chain prerouting: it lacks route look-ups (nft_fib_inet)`},
		{"meta skuid", `the rule "meta skuid @proxy_users oifname \"lo\" ip daddr != @left_alone4 meta l4proto tcp meta priority != 0:6 jump inbound" (Envoy calls its own pod) of the chain output: it lacks the match of a socket's owner (meta skuid)`},
		{"redirect", `the rule "meta l4proto tcp counter redirect to :15006" (to Envoy's inbound listener) of the chain inbound: it lacks redirects (nft_redir)`},
		{"ip6 daddr", "it lacks IPv6 matches"},
		{"meta priority", "it lacks the match meta priority"},
		{"jump", "it lacks chains that rules jump to"},
		{"ct zone", "(the agent asks) of the chain dns_output: it lacks conntrack zones (nft_ct)"},
	} {
		err := capture.Diagnose(r, unix.EINVAL, func(r capture.Ruleset) error {
			if strings.Contains(r.Text(), tc.text) {
				return unix.EOPNOTSUPP
			}
			return nil
		})
		require.ErrorContains(t, err, tc.want)
		require.ErrorContains(t, err, "Nothing is changed")
		require.ErrorIs(t, err, unix.EOPNOTSUPP)
	}
	err = capture.Diagnose(r, unix.EEXIST, func(capture.Ruleset) error { return nil })
	require.ErrorContains(t, err, "the kernel refuses the rules together, though it takes each alone")
	require.ErrorIs(t, err, unix.EEXIST)
	err = capture.Diagnose(r, unix.EPERM, func(capture.Ruleset) error { return errors.New("not asked") })
	require.ErrorContains(t, err, "CAP_NET_ADMIN")
}

func FuzzParsePorts(f *testing.F) {
	for _, seed := range []string{"", "80", "1-65535,7", "80, 81-90 ,5", "0", "9-1", "+1", ",", "65535,65534"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ranges, err := capture.ParsePorts(text)
		if err != nil {
			return
		}
		var texts []string
		for i, r := range ranges {
			require.NotZero(t, r.First)
			require.LessOrEqual(t, r.First, r.Last)
			if i > 0 {
				require.Greater(t, int(r.First), int(ranges[i-1].Last)+1, "they meet")
			}
			texts = append(texts, r.String())
		}
		again, err := capture.ParsePorts(strings.Join(texts, ","))
		require.NoError(t, err)
		require.Equal(t, ranges, again)
	})
}

func FuzzParseCIDRs(f *testing.F) {
	for _, seed := range []string{"", "10.0.0.0/8", "10.1.0.0/16,10.0.0.0/8", "::/0", "fe80::1%eth0", "::ffff:1.2.3.4", "1.2.3.4, 1.2.3.5", "0.0.0.0/0,::1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		cidrs, err := capture.ParseCIDRs(text)
		if err != nil {
			return
		}
		var texts []string
		for i, p := range cidrs {
			require.Equal(t, p.Masked(), p)
			require.False(t, p.Addr().Is4In6())
			require.False(t, slices.ContainsFunc(cidrs[:i], p.Overlaps))
			texts = append(texts, p.String())
		}
		again, err := capture.ParseCIDRs(strings.Join(texts, ","))
		require.NoError(t, err)
		require.Equal(t, cidrs, again)
	})
}

func FuzzParseDestinations(f *testing.F) {
	for _, seed := range []string{"192.0.2.7:3306", "[2001:db8::7]:80", "2001:db8::/32", "198.51.100.0/24:80", "[::1", "]:80", "[1.2.3.4]:80", "::1:80"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		destinations, err := capture.ParseDestinations(text)
		if err != nil {
			return
		}
		for _, d := range destinations {
			require.True(t, d.CIDR.IsValid())
			require.Equal(t, d.CIDR.Masked(), d.CIDR)
			again, err := capture.ParseDestinations(d.String())
			require.NoError(t, err)
			require.Equal(t, []capture.Destination{d}, again)
		}
	})
}

// Whatever a file holds, its settings are read, or refused with an error.
func FuzzSettings(f *testing.F) {
	for _, tc := range cases {
		f.Add(tc.config)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := capture.Configure(text, netip.MustParseAddr("10.96.0.10"))
		if err == nil {
			require.NotEmpty(t, capture.Rules(c, capture.Features{IPv6: true}).Text())
		}
	})
}
