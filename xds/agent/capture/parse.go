package capture

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// maxItems is how many items a setting may have. A rule looks for all of them at once, and a netlink message holds some more.
const maxItems = 1000

// PortRange is a range of ports, both ends in it.
type PortRange struct{ First, Last uint16 }

// AllPorts is the range of all ports.
var AllPorts = PortRange{1, 65535}

func (r PortRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// items returns the parts of a list between its commas. An empty text has none.
func items(text string) ([]string, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	out := strings.Split(text, ",")
	if len(out) > maxItems {
		return nil, fmt.Errorf("it has %d items, more than %d", len(out), maxItems)
	}
	for i := range out {
		if out[i] = strings.TrimSpace(out[i]); out[i] == "" {
			return nil, errors.New("it has a comma with nothing beside it: leave it out")
		}
	}
	return out, nil
}

// ParsePorts reads ports and ranges of ports, "80,8000-8010". What it returns is sorted, and no two of it meet.
func ParsePorts(text string) ([]PortRange, error) {
	list, err := items(text)
	var out []PortRange
	for _, item := range list {
		first, last, isRange := strings.Cut(item, "-")
		if !isRange {
			last = first
		}
		a, errA := parsePort(first)
		b, errB := parsePort(last)
		if errA != nil || errB != nil || a > b {
			return nil, fmt.Errorf("%q is neither a port nor a range of ports: write, for example, 80 or 8000-8010", item)
		}
		out = append(out, PortRange{a, b})
	}
	return mergePorts(out), err
}

// parsePort reads digits alone, unlike ParseUint, which takes a sign.
func parsePort(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 || strings.HasPrefix(text, "+") {
		return 0, fmt.Errorf("%q is not a port", text)
	}
	return uint16(n), nil
}

// parseInbound reads ports, "all" (also if empty) or "none". None may be one of the proxy's own.
func parseInbound(text string, own []uint16) ([]PortRange, error) {
	switch strings.TrimSpace(text) {
	case "", "all":
		return []PortRange{AllPorts}, nil
	case "none":
		return nil, nil
	}
	ports, err := ParsePorts(text)
	if err != nil {
		return nil, err
	}
	for _, r := range ports {
		for _, port := range own {
			if r.First == port || r.Last == port {
				return nil, fmt.Errorf("%d is a port of Envoy and the agent, as are %s: its connections would come back to it: leave it out",
					port, strings.Trim(strings.ReplaceAll(fmt.Sprint(own), " ", ", "), "[]"))
			}
		}
	}
	return ports, nil
}

// mergePorts sorts ranges and joins those that meet: the kernel refuses a set with elements that overlap.
func mergePorts(in []PortRange) []PortRange {
	slices.SortFunc(in, func(a, b PortRange) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last))
	})
	var out []PortRange
	for _, r := range in {
		if n := len(out); n > 0 && int(r.First) <= int(out[n-1].Last)+1 {
			out[n-1].Last = max(out[n-1].Last, r.Last)
			continue
		}
		out = append(out, r)
	}
	return out
}

// ParseCIDRs reads addresses and ranges of addresses, "10.0.0.0/8,2001:db8::7". What it returns is sorted, and
// none of it is within another.
func ParseCIDRs(text string) ([]netip.Prefix, error) {
	list, err := items(text)
	var out []netip.Prefix
	for _, item := range list {
		p, err := parseCIDR(item)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return mergeCIDRs(out), err
}

func parseCIDR(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if a, addrErr := netip.ParseAddr(text); addrErr == nil && a.Zone() == "" {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	switch {
	case err != nil:
		return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a CIDR: write, for example, 10.0.0.0/8", text)
	case p.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("%q is an IPv4 address in IPv6's notation: write it as IPv4", text)
	case p != p.Masked():
		return netip.Prefix{}, fmt.Errorf("%q has bits beyond its length: write %s", text, p.Masked())
	}
	return p, nil
}

// gatewaysWord stands for the gateways of the default routes. With most network plugins the kubelet's probes come from there.
const gatewaysWord = "gateways"

// parsePeers reads addresses and ranges of them, and gatewaysWord.
func parsePeers(text string, gateways func() ([]netip.Addr, error)) ([]netip.Prefix, error) {
	list, err := items(text)
	if err != nil {
		return nil, err
	}
	rest := slices.DeleteFunc(slices.Clone(list), func(item string) bool { return item == gatewaysWord })
	out, err := ParseCIDRs(strings.Join(rest, ","))
	if err != nil || len(rest) == len(list) {
		return out, err
	}
	found, err := gateways()
	if err != nil {
		return nil, err
	}
	for _, a := range found {
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	return mergeCIDRs(out), nil
}

// defaultGateways returns the gateways of default routes, of the texts of /proc/net/route and /proc/net/ipv6_route.
func defaultGateways(four, six string) []netip.Addr {
	var out []netip.Addr
	add := func(text string, network bool) {
		bytes, err := hex.DecodeString(text)
		if err != nil {
			return
		}
		if !network && binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
			slices.Reverse(bytes)
		}
		if a, ok := netip.AddrFromSlice(bytes); ok && !a.IsUnspecified() {
			out = append(out, a)
		}
	}
	for line := range strings.Lines(four) {
		// Interface, destination, gateway, flags, reference count, use, metric, mask.
		if f := strings.Fields(line); len(f) > 7 && f[1] == "00000000" && f[7] == "00000000" {
			add(f[2], false)
		}
	}
	for line := range strings.Lines(six) {
		// Destination and its length, source and its length, next hop.
		if f := strings.Fields(line); len(f) > 4 && strings.Trim(f[0], "0") == "" && f[1] == "00" {
			add(f[4], true)
		}
	}
	return distinct(out)
}

// mergeCIDRs sorts ranges, IPv4 first, and drops those within another.
func mergeCIDRs(in []netip.Prefix) []netip.Prefix {
	slices.SortFunc(in, func(a, b netip.Prefix) int {
		return cmp.Or(cmp.Compare(a.Addr().BitLen(), b.Addr().BitLen()), a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	var out []netip.Prefix
	for _, p := range in {
		if n := len(out); n > 0 && out[n-1].Overlaps(p) {
			continue // it begins within the one before, and is as long or shorter
		}
		out = append(out, p)
	}
	return out
}

// ParseDestinations reads ranges of addresses, each with or without a port: "192.0.2.7:3306,198.51.100.0/24,[2001:db8::7]:80".
func ParseDestinations(text string) ([]Destination, error) {
	list, err := items(text)
	var out []Destination
	for _, item := range list {
		d, err := parseDestination(item)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, err
}

func parseDestination(text string) (Destination, error) {
	address, port := text, ""
	if inner, after, ok := strings.Cut(text, "]:"); ok && strings.HasPrefix(inner, "[") {
		address, port = inner[1:], after
	} else if strings.Count(text, ":") == 1 {
		address, port, _ = strings.Cut(text, ":")
	}
	cidr, err := parseCIDR(address)
	if err != nil {
		return Destination{}, fmt.Errorf("%q is no destination: write, for example, 192.0.2.7:3306, [2001:db8::7]:80 or 198.51.100.0/24", text)
	}
	d := Destination{CIDR: cidr}
	if address != text {
		if d.Port, err = parsePort(port); err != nil {
			return Destination{}, fmt.Errorf("%q: %w", text, err)
		}
	}
	return d, nil
}

// parseAddresses reads addresses, without ports.
func parseAddresses(text string) ([]netip.Addr, error) {
	list, err := items(text)
	var out []netip.Addr
	for _, item := range list {
		a, err := netip.ParseAddr(item)
		if err != nil {
			return nil, fmt.Errorf("%q is not an address: write, for example, 10.0.0.2", item)
		}
		out = append(out, a.Unmap().WithZone(""))
	}
	return distinct(out), err
}

// nameservers returns the DNS servers that a resolv.conf names (resolv.conf(5)).
func nameservers(text string) []netip.Addr {
	var out []netip.Addr
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == "nameserver" {
			if a, err := netip.ParseAddr(words[1]); err == nil {
				out = append(out, a.Unmap().WithZone(""))
			}
		}
	}
	return distinct(out)
}

func distinct(in []netip.Addr) []netip.Addr {
	slices.SortFunc(in, netip.Addr.Compare)
	return slices.Compact(in)
}

// parseInterfaces reads names of network interfaces, of at most 15 bytes as Linux has it.
func parseInterfaces(text string) ([]string, error) {
	list, err := items(text)
	for _, name := range list {
		if len(name) > 15 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`/:"*\`, r) }) {
			return nil, fmt.Errorf("%q is not the name of a network interface, such as eth0", name)
		}
	}
	slices.Sort(list)
	return slices.Compact(list), err
}

// parseOwners reads users or groups, by number or by a name that look finds.
func parseOwners(text string, look func(name string) (id string, err error)) ([]uint32, error) {
	list, err := items(text)
	var out []uint32
	for _, item := range list {
		id := item
		if strings.Trim(item, "0123456789") != "" {
			if id, err = look(item); err != nil {
				return nil, fmt.Errorf("%w: write its number, or make it first", err)
			}
		}
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil || n == 1<<32-1 { // no user: the kernel's mark of an unknown one
			return nil, fmt.Errorf("%q is not the number of a user or group", item)
		}
		out = append(out, uint32(n))
	}
	slices.Sort(out)
	return slices.Compact(out), err
}
