package lint

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
)

func endpointRules() []Rule {
	return []Rule{
		{
			Name: "UnknownPort", Severity: policy.Warning,
			Doc:    "a port of an EndpointSlice has no namesake at its Service, so its endpoints get no traffic",
			object: unknownPorts,
		},
		{
			Name: "NoService", Severity: policy.Warning,
			Doc:    "an EndpointSlice is of a Service that there is not",
			object: noService,
		},
		{
			Name: "OddAddress", Severity: policy.Warning,
			Doc:   "an address that is no endpoint's: 0.0.0.0, a multicast or a link-local address, an IP address as a host name",
			value: oddAddress,
		},
		{
			Name: "OddRange", Severity: policy.Warning,
			Doc:   "a CIDR range that is every address, or that has bits after its prefix",
			value: oddRange,
		},
		{
			Name: "OddSelector", Severity: policy.Warning,
			Doc:    "a selector of an InstanceGroup that no instance can match: a pattern, an ARN, a tag with the prefix of a filter",
			object: oddSelector,
		},
	}
}

// serviceOf returns the Service that an EndpointSlice is of.
func serviceOf(c *check, o *Object) (name string, service *Object) {
	if o.Kind != discovery.KindEndpointSlice {
		return "", nil
	}
	name = text(o.Value, "metadata", "labels", "kubernetes.io/service-name")
	return name, c.named(discovery.KindService, name)
}

func noService(c *check, o *Object) {
	if name, service := serviceOf(c, o); name != "" && service == nil {
		c.tell("metadata.labels.kubernetes.io/service-name", fmt.Sprintf("there is no Service %s/%s, so nobody calls these endpoints", o.Namespace, name), "create it or correct the name")
	}
}

func unknownPorts(c *check, o *Object) {
	_, service := serviceOf(c, o)
	if service == nil {
		return
	}
	ports := items(service.Value, "spec", "ports")
	have := items(o.Value, "ports")
	if len(have) == 0 {
		c.tell("ports", "it is empty, so the endpoints get no traffic", "list the ports that they listen on, by the names of the Service's ports")
	}
	var names []string
	for _, p := range ports {
		names = append(names, strconv.Quote(text(p, "name")))
	}
	for i, p := range have {
		name, protocol := text(p, "name"), text(p, "protocol")
		if len(ports) == 1 && len(have) == 1 && (name == "" || text(ports[0], "name") == "") {
			continue
		}
		at := slices.IndexFunc(ports, func(sp map[string]any) bool { return text(sp, "name") == name })
		switch {
		case at < 0:
			c.tell(fmt.Sprintf("ports[%d].name", i), fmt.Sprintf("%s has no port named %q, so the endpoints get no traffic on it", service.ObjectName, name),
				"name one of its ports: "+strings.Join(names, ", "))
		case (protocol == "" || protocol == "TCP") != (text(ports[at], "protocol") == "" || text(ports[at], "protocol") == "TCP"):
			c.tell(fmt.Sprintf("ports[%d].protocol", i), fmt.Sprintf("it is not the protocol of the port of that name of %s, so the endpoints get no traffic on it", service.ObjectName), "write the same protocol in both")
		}
	}
}

func oddAddress(c *check, v *value) {
	s, ok := v.v.(string)
	if !ok {
		return
	}
	ip, err := netip.ParseAddr(s)
	if err != nil {
		return
	}
	switch {
	case v.name == "hosts" && c.about.Kind == discovery.KindExternalService:
		c.tell(v.path, s+" is an address and no name that DNS knows", "write resolution: Static with endpoints: [{address: "+s+"}], and a name that workloads call")
	case strings.Contains(v.path, "hostname") && !strings.HasSuffix(v.path, "annotations"):
		c.tell(v.path, s+" is an address and no host name", "write a host name, for example shop.example.com")
	case v.name == "addresses" || v.name == "address":
		if ip.IsUnspecified() || ip.IsMulticast() || ip.IsLinkLocalUnicast() {
			c.tell(v.path, s+" is not an address that a proxy can connect to", "write the endpoint's own address")
		}
	}
}

func oddRange(c *check, v *value) {
	s, ok := v.v.(string)
	if !ok || !strings.Contains(s, "/") {
		return
	}
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		return
	}
	if prefix.Bits() == 0 {
		c.tell(v.path, s+" is every address, so it limits nothing", "write the range of the load balancer's subnets, or remove the list")
	} else if prefix.Masked() != prefix {
		c.tell(v.path, fmt.Sprintf("%s has bits after the prefix, and means %s", s, prefix.Masked()), fmt.Sprintf("write %s, or %s/%d for the one address", prefix.Masked(), prefix.Addr(), prefix.Addr().BitLen()))
	}
}

func oddSelector(c *check, o *Object) {
	if o.Kind != discovery.KindInstanceGroup {
		return
	}
	for i, name := range texts(o.Value, "spec", "selector", "autoScalingGroups") {
		field := fmt.Sprintf("spec.selector.autoScalingGroups[%d]", i)
		switch {
		case strings.HasPrefix(name, "arn:"):
			short := name[strings.LastIndexAny(name, ":/")+1:]
			c.tell(field, "an auto scaling group is selected by its name, and this is an ARN", "write "+short)
		case strings.ContainsAny(name, "*?,") || strings.TrimSpace(name) != name || name == "":
			c.tell(field, fmt.Sprintf("%q is compared letter by letter, so it selects nothing", name), "write the name of one group in each item, or select by tags")
		}
	}
	tags, _ := at(o.Value, "spec", "selector", "tags").(map[string]any)
	for _, key := range sortedKeys(tags) {
		value, _ := tags[key].(string)
		field := "spec.selector.tags." + key
		switch {
		case strings.HasPrefix(key, "tag:"):
			c.tell(field, "tag: belongs to filters of the EC2 API and is no part of a tag's key", "write "+strings.TrimPrefix(key, "tag:"))
		case strings.ContainsAny(value, "*?") || strings.TrimSpace(value) != value || key == "":
			c.tell(field, fmt.Sprintf("%q is compared letter by letter, so it selects nothing", value), "write the whole value")
		}
	}
	oddNumber(c, o)
}

// oddNumber tells of ports of instances that are hardly ever served there.
func oddNumber(c *check, o *Object) {
	ports := items(o.Value, "spec", "ports")
	check, given := number(o.Value, "spec", "healthCheck", "port")
	if !given {
		return
	}
	for _, p := range ports {
		if n, _ := number(p, "port"); n == check {
			return
		}
	}
	// A port of its own for checks is fine; one that belongs to another program is not.
	if name, ok := otherPorts[int(check)]; ok {
		c.tell("spec.healthCheck.port", fmt.Sprintf("%.0f is the port of %s", check, name), "write the port that the application answers checks on, or leave it out for the first of spec.ports")
	}
}

// otherPorts are well-known ports of programs that are no backends of a mesh.
var otherPorts = map[int]string{22: "SSH", 25: "SMTP", 53: "DNS", 123: "NTP", 3389: "RDP"}

func sortedKeys(m map[string]any) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
