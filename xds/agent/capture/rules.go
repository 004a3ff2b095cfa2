package capture

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/causeway-mesh/causeway/policy/naming"
)

// Ruleset is what the table holds. Nothing in it is of one kernel or one run: text, netlink messages and
// diagnosis are made of the same values.
type Ruleset struct {
	// Family of the table: inet, or ip where the kernel has no IPv6.
	Family string
	Sets   []Set
	Chains []Chain
}

// TableName is the name of the only table that is touched.
const TableName = "causeway"

// Set is a named set.
type Set struct {
	Name string
	// Type is nft's name of what is in it.
	Type string
	// Interval is true for a set of ranges.
	Interval bool
	// Timeout is true for a set whose elements may go by themselves, after Lifetime; 0 for never.
	Timeout  bool
	Lifetime time.Duration
	Elements []Element
}

// Element is a value or, of an interval set, a range, both ends in it. Bytes are as the kernel compares them.
type Element struct {
	Text        string
	First, Last []byte
}

// Chain is a base chain, which a hook calls, or without a hook one that rules jump to.
type Chain struct {
	Name       string
	Type, Hook string
	Priority   int
	Rules      []Rule
}

// Rule does something with packets that all matches are true of.
type Rule struct {
	Comment string
	Matches []Match
	Do      Action
}

// Match compares something of a packet with a set, or with one value.
type Match struct {
	Key   Key
	Not   bool
	Set   string
	Value Element
}

// Key is what a match compares, as nft writes it.
type Key string

// Keys of matches.
const (
	Transport       Key = "meta l4proto"
	InInterface     Key = "iifname"
	OutInterface    Key = "oifname"
	SocketUser      Key = "meta skuid"
	SocketGroup     Key = "meta skgid"
	Priority        Key = "meta priority"
	Source4         Key = "ip saddr"
	Source6         Key = "ip6 saddr"
	Destination4    Key = "ip daddr"
	Destination6    Key = "ip6 daddr"
	TCPPort         Key = "tcp dport"
	UDPPort         Key = "udp dport"
	UDPSourcePort   Key = "udp sport"
	DestinationType Key = "fib daddr type"
)

// Action is what a rule does: one of its fields is set, or none for return.
type Action struct {
	Redirect uint16
	Jump     string
	Zone     uint16
}

// Return leaves the chain: nothing is done with the packet.
var Return = Action{}

// Chains' priorities. Other tables' rules for the same packets, Docker's for example, are at
// -100: the mesh's destinations are the mesh's first. Conntrack begins at -200.
const (
	natPriority = -101
	rawPriority = -300
)

// The set by which all rules are switched on and off: it has the protocols that are captured.
const onSet = "on"

// dnsZone is the conntrack zone of the agent's own DNS queries. Without it a query of the agent from a
// port that an application had a moment before would be taken for the application's, and come back to the agent.
const dnsZone = 15053

// leftAlone are the addresses that nothing in a pod is captured for: loopback, and those of the node and of AWS
// beside it. The metadata service refuses requests that have been through a proxy.
func leftAlone() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"),
		netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("fd00:ec2::/32"), netip.MustParsePrefix("fe80::/10"),
	}
}

// Features of the kernel, and for how long rules that nobody confirms act.
type Features struct {
	// IPv6 is false if the kernel is without it.
	IPv6 bool
	// UntilConfirmed is how long the rules act unless they are confirmed; 0 for ever.
	UntilConfirmed time.Duration
}

// Rules makes the rules of a configuration.
func Rules(c Config, f Features) Ruleset {
	b := &builder{Config: c, ipv6: f.IPv6}
	b.Family = "inet"
	if !f.IPv6 {
		b.Family = "ip"
	}
	on := Set{Name: onSet, Type: "inet_proto", Timeout: true, Lifetime: f.UntilConfirmed, Elements: []Element{tcp().Value}}
	if len(c.DNSServers) > 0 {
		on.Elements = append(on.Elements, protocol("udp", unix.IPPROTO_UDP))
	}
	b.Sets = []Set{on}
	b.owners = append(b.set(SocketUser, "proxy_users", "uid", c.ProxyUsers), b.set(SocketGroup, "proxy_groups", "gid", c.ProxyGroups)...)
	if c.Mode == Pod && len(c.InboundPorts) > 0 {
		b.inbound()
	}
	b.outbound()
	if len(c.DNSServers) > 0 {
		b.dnsZones()
	}
	return b.Ruleset
}

// builder makes a ruleset. Its methods that return matches make the sets that these name. A list that is
// empty has no matches, and one for each family if it is of addresses.
type builder struct {
	Config
	Ruleset
	ipv6   bool
	owners []Match
}

func (b *builder) inbound() {
	nat := b.base("prerouting", "nat", "prerouting", natPriority)
	nat.each(b.interfaces(InInterface), Return, "excluded interface")
	nat.rule("only passes through", Return, Match{Key: DestinationType, Not: true, Value: local()})
	nat.each(b.cidrs(Source4, Source6, "excluded_peers", b.ExcludeInboundCIDRs), Return, "excluded peer")
	nat.rule("from outside", Action{Jump: "inbound"}, tcp())
	b.Chains = append(b.Chains, nat.Chain)

	in := chain{Chain{Name: "inbound"}}
	in.each(b.ports(TCPPort, "excluded_inbound_ports", b.ExcludeInboundPorts), Return, "excluded port")
	redirect := Action{Redirect: naming.InboundPort}
	if slices.Contains(b.InboundPorts, AllPorts) {
		in.rule("to Envoy's inbound listener", redirect, tcp())
	} else {
		in.each(b.ports(TCPPort, "inbound_ports", b.InboundPorts), redirect, "to Envoy's inbound listener")
	}
	b.Chains = append(b.Chains, in.Chain)
}

func (b *builder) outbound() {
	out := b.base("output", "nat", "output", natPriority)
	var alone []Match
	if b.Mode == Pod {
		alone = b.cidrs(Destination4, Destination6, "left_alone", leftAlone())
	}
	for _, owner := range b.owners {
		for _, m := range alone {
			if len(b.InboundPorts) > 0 {
				m.Not = true
				out.rule("Envoy calls its own pod", Action{Jump: "inbound"}, owner, Match{Key: OutInterface, Value: name("lo")}, m, tcp(),
					Match{Key: Priority, Not: true, Value: priority(naming.ApplicationPriority)})
			}
		}
	}
	for _, owner := range b.owners {
		out.rule("Envoy and the agent", Return, owner)
	}
	out.each(b.interfaces(OutInterface), Return, "excluded interface")
	for _, servers := range b.dnsServers(Destination4, Destination6) {
		for _, port := range []Key{UDPPort, TCPPort} {
			out.rule("names, to the agent", Action{Redirect: naming.DNSPort}, servers, Match{Key: port, Value: number(53)})
		}
	}
	out.each(alone, Return, "loopback, the node, AWS")
	out.each(b.ports(TCPPort, "excluded_outbound_ports", b.ExcludeOutboundPorts), Return, "excluded port")
	out.each(b.cidrs(Destination4, Destination6, "excluded_outbound", b.ExcludeOutboundCIDRs), Return, "excluded destination")
	redirect := Action{Redirect: naming.OutboundPort}
	if b.Mode == Pod {
		out.rule("to Envoy's outbound listener", redirect, tcp())
	}
	byPort := make(map[uint16][]netip.Prefix)
	var ports []uint16
	for _, d := range b.Destinations {
		if _, seen := byPort[d.Port]; !seen {
			ports = append(ports, d.Port)
		}
		byPort[d.Port] = append(byPort[d.Port], d.CIDR)
	}
	slices.Sort(ports)
	for _, port := range ports {
		set, transport := "mesh", tcp()
		if port > 0 {
			set, transport = fmt.Sprintf("mesh_port%d_", port), Match{Key: TCPPort, Value: number(port)}
		}
		for _, to := range b.cidrs(Destination4, Destination6, set, mergeCIDRs(byPort[port])) {
			out.rule("to Envoy's outbound listener", redirect, to, transport)
		}
	}
	b.Chains = append(b.Chains, out.Chain)
}

// dnsZones keeps the agent's own queries over UDP, and the answers to them, apart from those of applications.
func (b *builder) dnsZones() {
	zone := Action{Zone: dnsZone}
	out := b.base("dns_output", "filter", "output", rawPriority)
	for _, owner := range b.owners {
		for _, to := range b.dnsServers(Destination4, Destination6) {
			out.rule("the agent asks", zone, owner, to, Match{Key: UDPPort, Value: number(53)})
		}
	}
	in := b.base("dns_prerouting", "filter", "prerouting", rawPriority)
	in.each(b.interfaces(InInterface), Return, "excluded interface")
	for _, from := range b.dnsServers(Source4, Source6) {
		answer := Match{Key: UDPSourcePort, Value: number(53)}
		out.rule("a server on this host answers", zone, from, answer)
		in.rule("a server answers", zone, from, answer)
	}
	b.Chains = append(b.Chains, out.Chain, in.Chain)
}

// chain is a chain to which rules are added.
type chain struct{ Chain }

func (b *builder) base(name, kind, hook string, priority int) chain {
	c := chain{Chain{Name: name, Type: kind, Hook: hook, Priority: priority}}
	c.rule("not on", Return, Match{Key: Transport, Not: true, Set: onSet})
	return c
}

func (c *chain) rule(comment string, do Action, matches ...Match) {
	c.Rules = append(c.Rules, Rule{Comment: comment, Matches: matches, Do: do})
}

// each adds a rule for each match.
func (c *chain) each(matches []Match, do Action, comment string) {
	for _, m := range matches {
		c.rule(comment, do, m)
	}
}

// add makes a set, unless it is there already.
func (b *builder) add(s Set) {
	if !slices.ContainsFunc(b.Sets, func(has Set) bool { return has.Name == s.Name }) {
		b.Sets = append(b.Sets, s)
	}
}

func (b *builder) set(key Key, name, kind string, numbers []uint32) []Match {
	if len(numbers) == 0 {
		return nil
	}
	s := Set{Name: name, Type: kind}
	for _, n := range numbers {
		bytes := binary.NativeEndian.AppendUint32(nil, n)
		s.Elements = append(s.Elements, Element{Text: strconv.FormatUint(uint64(n), 10), First: bytes, Last: bytes})
	}
	b.add(s)
	return []Match{{Key: key, Set: name}}
}

func (b *builder) interfaces(key Key) []Match {
	if len(b.ExcludeInterfaces) == 0 {
		return nil
	}
	s := Set{Name: "excluded_interfaces", Type: "ifname"}
	for _, n := range b.ExcludeInterfaces {
		s.Elements = append(s.Elements, name(n))
	}
	b.add(s)
	return []Match{{Key: key, Set: s.Name}}
}

func (b *builder) ports(key Key, name string, ranges []PortRange) []Match {
	if len(ranges) == 0 {
		return nil
	}
	s := Set{Name: name, Type: "inet_service", Interval: true}
	for _, r := range ranges {
		s.Elements = append(s.Elements, Element{Text: r.String(), First: number(r.First).First, Last: number(r.Last).First})
	}
	b.add(s)
	return []Match{{Key: key, Set: name}}
}

// cidrs makes a set of each family.
func (b *builder) cidrs(key4, key6 Key, name string, cidrs []netip.Prefix) []Match {
	s4, s6 := Set{Name: name + "4", Type: "ipv4_addr", Interval: true}, Set{Name: name + "6", Type: "ipv6_addr", Interval: true}
	for _, p := range cidrs {
		e := Element{Text: p.String(), First: p.Addr().AsSlice(), Last: lastOf(p)}
		if p.IsSingleIP() {
			e.Text = p.Addr().String()
		}
		if p.Addr().Is4() {
			s4.Elements = append(s4.Elements, e)
		} else {
			s6.Elements = append(s6.Elements, e)
		}
	}
	return b.families(key4, key6, s4, s6)
}

func (b *builder) dnsServers(key4, key6 Key) []Match {
	s4, s6 := Set{Name: "dns_servers4", Type: "ipv4_addr"}, Set{Name: "dns_servers6", Type: "ipv6_addr"}
	for _, a := range b.DNSServers {
		e := Element{Text: a.String(), First: a.AsSlice(), Last: a.AsSlice()}
		if a.Is4() {
			s4.Elements = append(s4.Elements, e)
		} else {
			s6.Elements = append(s6.Elements, e)
		}
	}
	return b.families(key4, key6, s4, s6)
}

func (b *builder) families(key4, key6 Key, s4, s6 Set) []Match {
	var out []Match
	if len(s4.Elements) > 0 {
		b.add(s4)
		out = append(out, Match{Key: key4, Set: s4.Name})
	}
	if len(s6.Elements) > 0 && b.ipv6 {
		b.add(s6)
		out = append(out, Match{Key: key6, Set: s6.Name})
	}
	return out
}

// lastOf is the last address of a range.
func lastOf(p netip.Prefix) []byte {
	out := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(out)*8; bit++ {
		out[bit/8] |= 0x80 >> (bit % 8)
	}
	return out
}

// Values of matches.

func protocol(text string, number byte) Element {
	return Element{Text: text, First: []byte{number}, Last: []byte{number}}
}

func tcp() Match {
	return Match{Key: Transport, Value: protocol("tcp", unix.IPPROTO_TCP)}
}

func number(n uint16) Element {
	bytes := binary.BigEndian.AppendUint16(nil, n)
	return Element{Text: strconv.Itoa(int(n)), First: bytes, Last: bytes}
}

func name(s string) Element {
	bytes := make([]byte, unix.IFNAMSIZ)
	copy(bytes, s)
	return Element{Text: strconv.Quote(s), First: bytes, Last: bytes}
}

func priority(n uint32) Element {
	bytes := binary.NativeEndian.AppendUint32(nil, n)
	return Element{Text: "0:" + strconv.FormatUint(uint64(n), 16), First: bytes, Last: bytes}
}

func local() Element {
	bytes := binary.NativeEndian.AppendUint32(nil, unix.RTN_LOCAL)
	return Element{Text: "local", First: bytes, Last: bytes}
}
