// Package capture brings traffic to the Envoy beside it with rules of nftables: the traffic of a
// pod, or on a host what the mesh owns. [Rules] makes the rules as values, [Ruleset.Text] prints them,
// and a [Table] puts them into the kernel, in one transaction and over netlink.
package capture

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/user"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/xds/agent/settings"
)

// Mode says whose traffic is captured.
type Mode string

const (
	// Pod captures all TCP of a network namespace, in and out, but what is excluded.
	Pod Mode = "pod"
	// Host captures what the host's processes send to addresses of the mesh, and nothing else.
	Host Mode = "host"
)

// Config says what is captured.
type Config struct {
	Mode Mode
	// ProxyUsers and ProxyGroups are those that Envoy and the agent run as. What they send is not captured.
	ProxyUsers, ProxyGroups []uint32
	// InboundPorts are captured in a pod; [AllPorts] for all.
	InboundPorts []PortRange
	// ExcludeInboundPorts and ExcludeInboundCIDRs (of the peers) are left alone.
	ExcludeInboundPorts []PortRange
	ExcludeInboundCIDRs []netip.Prefix
	// ExcludeOutboundPorts and ExcludeOutboundCIDRs (of the destinations) are left alone.
	ExcludeOutboundPorts []PortRange
	ExcludeOutboundCIDRs []netip.Prefix
	// ExcludeInterfaces are left alone in both directions.
	ExcludeInterfaces []string
	// DNSServers whose queries go to the agent; none if names are not captured.
	DNSServers []netip.Addr
	// Destinations that are captured on a host.
	Destinations []Destination
}

// Destination is a range of addresses, with one port or all.
type Destination struct {
	CIDR netip.Prefix
	Port uint16 // 0 for all
}

// Option is a setting, by its flag's name, which is also its name in a file.
type Option struct{ Name, Usage string }

// Options returns all settings, in the order of help.
func Options() []Option {
	return []Option{
		{"mode", "pod: all TCP of a pod; host: what a host sends to the mesh's virtual addresses"},
		{"proxy-users", "users of Envoy and the agent, whose traffic is left alone, by name or number (in a pod 1337)"},
		{"proxy-groups", "groups of Envoy and the agent, by name or number"},
		{"inbound-ports", "pod: ports whose connections go to Envoy: all, none, or, for example, 80,8000-8010 (all)"},
		{"exclude-inbound-ports", "pod: ports whose connections go to the application (15020, the agent's, is always one)"},
		{"exclude-inbound-cidrs", "pod: peers whose connections go to the application, for example the node's addresses; gateways: those of the default routes"},
		{"exclude-outbound-ports", "ports to which connections go as if there were no mesh"},
		{"exclude-outbound-cidrs", "addresses to which connections go as if there were no mesh"},
		{"exclude-interfaces", "network interfaces that are left alone"},
		{"dns", "redirect: queries to the host's DNS servers go to the agent; off (off)"},
		{"dns-servers", "with --dns redirect: the DNS servers meant (those of /etc/resolv.conf)"},
		{"virtual-cidrs", "host: the mesh's virtual addresses (" + joined(virtualCIDRs(), ",") + ")"},
		{"destinations", "host: more destinations of the mesh, for example 192.0.2.7:3306,198.51.100.0/24"},
	}
}

// ownPorts returns where Envoy and the agent of a pod listen: Envoy's admin interface, http_proxy, what is captured, the
// agent itself, and its DNS where that is captured.
func ownPorts(dns string) []uint16 {
	own := []uint16{naming.EnvoyAdminPort, naming.HTTPPort, naming.OutboundPort, naming.InboundPort, naming.AgentPort}
	if dns == "redirect" {
		own = append(own, naming.DNSPort)
	}
	return own
}

// defaultProxyUser is who Envoy and the agent run as in a pod.
const defaultProxyUser = 1337

// Files of a host: its DNS servers, and its routes (proc(5)).
const (
	resolvConf = "/etc/resolv.conf"
	routes4    = "/proc/net/route"
	routes6    = "/proc/net/ipv6_route"
)

// virtualCIDRs are the ranges of Services' virtual addresses.
func virtualCIDRs() []netip.Prefix {
	return []netip.Prefix{discovery.VirtualIPv4, discovery.VirtualIPv6}
}

// Read makes a configuration of a file ("" for none) and of flags, by name, which win. Errors name
// the setting at fault and the remedy.
func Read(file string, flags map[string]string) (Config, error) {
	given := make(map[string]string)
	if file != "" {
		read, err := settings.Read(file, names())
		if err != nil {
			return Config{}, err //nolint:wrapcheck // it names the file
		}
		maps.Copy(given, joinedValues(read))
	}
	maps.Copy(given, flags)
	return configure(given, surroundings{
		servers: func() ([]netip.Addr, error) {
			text, err := os.ReadFile(resolvConf)
			if err != nil {
				return nil, fmt.Errorf("--dns-servers: the DNS servers are unknown (%w): name them", err)
			}
			return nameservers(string(text)), nil
		},
		gateways: func() ([]netip.Addr, error) {
			four, err := os.ReadFile(routes4)
			if err != nil {
				return nil, fmt.Errorf("the gateways are unknown (%w): write their addresses", err)
			}
			six, _ := os.ReadFile(routes6) // a kernel without IPv6 has no such file
			return defaultGateways(string(four), string(six)), nil
		},
	})
}

// names returns the names of all settings.
func names() []string {
	out := make([]string, 0, len(Options()))
	for _, o := range Options() {
		out = append(out, o.Name)
	}
	return out
}

// joinedValues returns settings by name, as flags have them.
func joinedValues(read []settings.Setting) map[string]string {
	out := make(map[string]string, len(read))
	for _, s := range read {
		out[s.Name] = strings.Join(s.Values, ",")
		if s.Name == "dns" && out[s.Name] == "false" { // YAML 1.1 calls off so, and so do programs that write YAML
			out[s.Name] = "off"
		}
	}
	return out
}

// surroundings are what a configuration may ask of its host.
type surroundings struct{ servers, gateways func() ([]netip.Addr, error) }

// configure makes a configuration of settings. It asks for the host's DNS servers and gateways if it needs them.
func configure(given map[string]string, of surroundings) (Config, error) {
	c := Config{Mode: Mode(given["mode"])}
	var errs []error
	read := func(name string, parse func(text string) error) {
		err := empty(given, name)
		if err == nil {
			err = parse(given[name])
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("--%s: %w", name, err))
		}
	}
	pod := c.Mode == Pod
	if c.Mode != Pod && c.Mode != Host {
		return Config{}, fmt.Errorf("--mode: %q is neither pod nor host", given["mode"])
	}
	only := map[string]bool{"inbound-ports": pod, "exclude-inbound-ports": pod, "exclude-inbound-cidrs": pod, "virtual-cidrs": !pod, "destinations": !pod}
	for _, o := range Options() {
		if of, ok := only[o.Name]; ok && !of && given[o.Name] != "" {
			errs = append(errs, fmt.Errorf("--%s: it has no meaning with --mode %s: leave it out", o.Name, c.Mode))
		}
	}
	lookUser := func(name string) (string, error) {
		u, err := user.Lookup(name)
		if err != nil {
			return "", err //nolint:wrapcheck // it says it all
		}
		return u.Uid, nil
	}
	lookGroup := func(name string) (string, error) {
		g, err := user.LookupGroup(name)
		if err != nil {
			return "", err //nolint:wrapcheck // it says it all
		}
		return g.Gid, nil
	}
	read("proxy-users", func(s string) (err error) { c.ProxyUsers, err = parseOwners(s, lookUser); return })
	read("proxy-groups", func(s string) (err error) { c.ProxyGroups, err = parseOwners(s, lookGroup); return })
	read("inbound-ports", func(s string) (err error) { c.InboundPorts, err = parseInbound(s, ownPorts(given["dns"])); return })
	read("exclude-inbound-ports", func(s string) (err error) { c.ExcludeInboundPorts, err = ParsePorts(s); return })
	read("exclude-inbound-cidrs", func(s string) (err error) { c.ExcludeInboundCIDRs, err = parsePeers(s, of.gateways); return })
	read("exclude-outbound-ports", func(s string) (err error) { c.ExcludeOutboundPorts, err = ParsePorts(s); return })
	read("exclude-outbound-cidrs", func(s string) (err error) { c.ExcludeOutboundCIDRs, err = ParseCIDRs(s); return })
	read("exclude-interfaces", func(s string) (err error) { c.ExcludeInterfaces, err = parseInterfaces(s); return })
	if pod {
		c.ExcludeInboundPorts = mergePorts(append(c.ExcludeInboundPorts, PortRange{naming.AgentPort, naming.AgentPort}))
	} else {
		c.InboundPorts = nil
		read("virtual-cidrs", func(s string) error {
			virtual, err := ParseCIDRs(s)
			if s == "" {
				virtual = virtualCIDRs()
			}
			for _, cidr := range virtual {
				c.Destinations = append(c.Destinations, Destination{CIDR: cidr})
			}
			return err
		})
		read("destinations", func(s string) error {
			more, err := ParseDestinations(s)
			c.Destinations = append(c.Destinations, more...)
			return err
		})
	}
	errs = append(errs, c.proxies(), c.dns(given["dns"], given["dns-servers"], of.servers))
	if err := errors.Join(errs...); err != nil {
		return Config{}, err
	}
	return c, nil
}

// empty refuses an empty text where it would mean the most: what is left out is captured by the defaults.
func empty(given map[string]string, name string) error {
	text, said := given[name]
	if !said || strings.TrimSpace(text) != "" {
		return nil
	}
	switch name {
	case "inbound-ports":
		return errors.New("it is empty: write ports, all, or none")
	case "virtual-cidrs":
		return fmt.Errorf("it is empty: write %s, or leave it out", joined(virtualCIDRs(), ","))
	}
	return nil
}

// proxies gives a pod's proxy its user if none was named, and refuses a proxy that cannot be told from others.
func (c *Config) proxies() error {
	switch {
	case slices.Contains(c.ProxyUsers, 0):
		return errors.New("--proxy-users: root is the user of much else on a host, which would not be captured: run the agent and Envoy as a user of their own")
	case slices.Contains(c.ProxyGroups, 0):
		return errors.New("--proxy-groups: root is the group of much else on a host, which would not be captured: run the agent and Envoy as a group of their own")
	case len(c.ProxyUsers)+len(c.ProxyGroups) > 0:
	case c.Mode == Host:
		return errors.New("--proxy-users: without the user of Envoy and the agent, Envoy's own connections would come back to it: write, for example, envoy")
	default:
		c.ProxyUsers = []uint32{defaultProxyUser}
	}
	return nil
}

func (c *Config) dns(how, named string, servers func() ([]netip.Addr, error)) error {
	switch how {
	case "redirect":
	case "", "off":
		if named != "" {
			return errors.New("--dns-servers: it has no meaning without --dns redirect")
		}
		return nil
	default:
		return fmt.Errorf("--dns: %q is neither redirect nor off", how)
	}
	for _, r := range c.ExcludeOutboundPorts {
		if r.First <= 53 && 53 <= r.Last {
			return errors.New("--dns: port 53 is in --exclude-outbound-ports: leave out one of the two")
		}
	}
	var err error
	if named == "" {
		c.DNSServers, err = servers()
	} else if c.DNSServers, err = parseAddresses(named); err != nil {
		err = fmt.Errorf("--dns-servers: %w", err)
	}
	if err == nil && len(c.DNSServers) == 0 {
		err = fmt.Errorf("--dns-servers: %s names none: name them", resolvConf)
	}
	return err
}

func joined[T fmt.Stringer](of []T, by string) string {
	texts := make([]string, len(of))
	for i, v := range of {
		texts[i] = v.String()
	}
	return strings.Join(texts, by)
}
