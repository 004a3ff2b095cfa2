package diff

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/phrase"
)

// fact is one thing that the mesh does, as a person would say it. A list of
// facts has each field once.
type fact struct {
	field, value string
	// from is the policy that the value comes from, "" for what is no policy's.
	from string
}

// settingsFacts are what is stated for a target, field by field.
func settingsFacts(prefix string, fields []policy.Field) []fact {
	out := make([]fact, 0, len(fields))
	for _, f := range fields {
		from := ""
		if !f.From.Default() {
			from = f.From.String()
		}
		out = append(out, fact{field: prefix + f.Path, value: f.Value, from: from})
	}
	return out
}

func tlsFacts(field string, t *policy.TLS) []fact {
	if t == nil {
		return nil
	}
	if t.Failed != "" {
		return []fact{{field: field, value: "requests fail: " + t.Failed}}
	}
	var names []string
	for _, n := range t.Names {
		names = append(names, n.Value)
	}
	cas := "those of the proxy's host"
	if t.CAs != "" {
		cas = fmt.Sprintf("sha256 %.8x", sha256.Sum256([]byte(t.CAs)))
	}
	return []fact{{field: field, value: fmt.Sprintf("SNI %s, certificate for %s, CAs %s", t.SNI, strings.Join(names, ", "), cas)}}
}

func protocolName(p policy.Protocol) string {
	switch p {
	case policy.HTTP1:
		return "HTTP/1.1"
	case policy.HTTP2:
		return "HTTP/2"
	case policy.Negotiated:
		return "HTTP/2 or HTTP/1.1 in TLS"
	case policy.TCP:
		return "TCP"
	}
	return strconv.Itoa(int(p))
}

func listed(backings []discovery.BackingName) string {
	names := make([]string, len(backings))
	for i, b := range backings {
		names[i] = b.String()
	}
	return strings.Join(names, ", ")
}

// portFacts are what holds for all requests to a port, whichever route they take.
func portFacts(p *policy.Port) []fact {
	if p == nil {
		return nil
	}
	out := []fact{{field: "protocol", value: protocolName(p.Protocol)}}
	for i := range p.Backings {
		b := &p.Backings[i]
		name := b.Platform.String()
		out = append(out, fact{field: "share of the " + name, value: phrase.Percent(p.Shares[i])})
		out = append(out, settingsFacts("cluster of the "+name+": ", b.Settings.Fields())...)
		out = append(out, tlsFacts("cluster of the "+name+": tls to it", b.TLS)...)
	}
	if len(p.Backings) > 1 {
		out = append(out, fact{field: "failover to the other backing", value: strconv.FormatBool(p.Failover)})
	}
	for i := range p.Backings {
		if b := &p.Backings[i]; len(b.Failover) > 1 {
			out = append(out, fact{field: "failover of the " + b.Platform.String(), value: listed(b.Failover)})
		}
	}
	for i := range p.Groups {
		g := &p.Groups[i]
		out = append(out, fact{field: "cluster of InstanceGroup " + g.Name, value: "named by a route"})
		out = append(out, settingsFacts("cluster of InstanceGroup "+g.Name+": ", g.Settings.Fields())...)
		out = append(out, tlsFacts("cluster of InstanceGroup "+g.Name+": tls to it", g.TLS)...)
	}
	return out
}

func externalFacts(m *policy.External) []fact {
	if m == nil {
		return nil
	}
	var out []fact
	for _, h := range m.Hosts {
		out = append(out, fact{field: "host " + h, value: "carried"})
	}
	if m.DNS != "" {
		out = append(out, fact{field: "resolution", value: "DNS " + m.DNS})
	} else {
		var addresses []string
		for i := range m.Endpoints {
			addresses = append(addresses, m.Endpoints[i].Address)
		}
		out = append(out, fact{field: "resolution", value: "Static " + strings.Join(addresses, ", ")})
	}
	for i := range m.Ports {
		p := &m.Ports[i]
		name := fmt.Sprintf("port %d", p.Number)
		out = append(out, fact{field: name, value: fmt.Sprintf("%s, port %d of the host", protocolName(p.Protocol), p.TargetPort)})
		out = append(out, tlsFacts(name+": tls", p.TLS)...)
		out = append(out, settingsFacts(name+": ", p.Settings.Fields())...)
	}
	return out
}

// backendName names a backend as a person would.
func backendName(b *policy.Backend) string {
	switch b.Kind {
	case policy.ServiceBackend:
		return fmt.Sprintf("Service %s:%d", b.Key, b.Port)
	case policy.InstanceGroupBackend:
		return fmt.Sprintf("InstanceGroup %s:%d", discovery.Key{Namespace: b.Namespace, Name: b.Group}, b.Port)
	case policy.ExternalBackend:
		return fmt.Sprintf("ExternalService %s:%d", b.Key, b.Port)
	case policy.InvalidBackend:
	}
	return fmt.Sprintf("backendRefs[%d], invalid", b.Index)
}

func backendFacts(backends []policy.Backend) []fact {
	var out []fact
	times := make(map[string]int)
	for i := range backends {
		b := &backends[i]
		name := "backend " + backendName(b)
		if times[name]++; times[name] > 1 {
			name = fmt.Sprintf("%s, time %d", name, times[name])
		}
		value := phrase.Percent(b.Share)
		if b.Kind == policy.InvalidBackend {
			value += ", answered 500: " + b.Reason
		}
		out = append(out, fact{field: name, value: value})
		if len(b.Targets) > 1 {
			for _, t := range b.Targets {
				out = append(out, fact{field: name + " on " + t.Platform.String(), value: phrase.Percent(t.Share)})
			}
		}
		out = append(out, filterFacts(name+": ", &b.Filters)...)
	}
	return out
}

func filterFacts(prefix string, f *policy.Filters) []fact {
	var out []fact
	edits := func(which string, e *policy.HeaderEdits) {
		for _, h := range e.Set {
			out = append(out, fact{field: prefix + which + " header " + h.Name + ", set", value: h.Value})
		}
		added := make(map[string][]string)
		for _, h := range e.Add {
			added[h.Name] = append(added[h.Name], h.Value)
		}
		for _, name := range slices.Sorted(maps.Keys(added)) {
			out = append(out, fact{field: prefix + which + " header " + name + ", added", value: strings.Join(added[name], ", ")})
		}
		for _, name := range e.Remove {
			out = append(out, fact{field: prefix + which + " header " + name, value: "removed"})
		}
	}
	edits("request", &f.Request)
	edits("response", &f.Response)
	if r := f.Redirect; r != nil {
		parts := []string{strconv.Itoa(int(r.Status))}
		for _, part := range [][2]string{{"scheme", r.Scheme}, {"host", r.Host}, {"path", editText(r.Path)}} {
			if part[1] != "" {
				parts = append(parts, part[0]+" "+part[1])
			}
		}
		if r.Port != 0 {
			parts = append(parts, fmt.Sprintf("port %d", r.Port))
		}
		out = append(out, fact{field: prefix + "redirect", value: strings.Join(parts, ", ")})
	}
	if f.Host != "" {
		out = append(out, fact{field: prefix + "rewrite of the host", value: f.Host})
	}
	if f.Path != nil {
		out = append(out, fact{field: prefix + "rewrite of the path", value: editText(f.Path)})
	}
	for i := range f.Mirrors {
		m := &f.Mirrors[i]
		out = append(out, fact{
			field: fmt.Sprintf("%smirror %d", prefix, i),
			value: fmt.Sprintf("%d of %d requests to %s", m.Numerator, m.Denominator, backendName(&m.To)),
		})
	}
	if c := f.CORS; c != nil {
		out = append(out, fact{field: prefix + "CORS", value: fmt.Sprintf(
			"origins %v, methods %v, headers %v, exposed %v, credentials %t, for %d s",
			c.AllowOrigins, c.AllowMethods, c.AllowHeaders, c.ExposeHeaders, c.AllowCredentials, c.MaxAge)})
	}
	if f.Failed != "" {
		out = append(out, fact{field: prefix + "filters", value: "answered 500: " + f.Failed})
	}
	return out
}

func editText(e *policy.PathEdit) string {
	switch {
	case e == nil:
		return ""
	case e.Prefix:
		return "prefix by " + e.Value
	}
	return "all of it by " + e.Value
}

// matchText is a match as one writes requests down.
func matchText(m *policy.Match) string {
	kind := [...]string{policy.PathPrefix: "prefix", policy.PathExact: "exact", policy.PathRegex: "regex"}
	s := "any method"
	if m.Method != "" {
		s = m.Method
	}
	s += fmt.Sprintf(" %s %s", kind[m.Path.Kind], m.Path.Value)
	values := func(what string, in []policy.ValueMatch) {
		for _, v := range in {
			op := "="
			if v.Regex {
				op = "~"
			}
			s += fmt.Sprintf(" %s %s%s%s", what, v.Name, op, v.Value)
		}
	}
	values("header", m.Headers)
	values("query", m.Query)
	return s
}

func ruleFacts(r *policy.Rule) []fact {
	out := []fact{{field: "match", value: matchText(&r.Match)}}
	out = append(out, backendFacts(r.Backends)...)
	if len(r.Backends) == 0 && r.Filters.Redirect == nil && r.Filters.Failed == "" {
		out = append(out, fact{field: "backends", value: "none, answered 500"})
	}
	out = append(out, filterFacts("", &r.Filters)...)
	return append(out, settingsFacts("", r.Fields())...)
}

func tcpRuleFacts(r *policy.TCPRule) []fact {
	names := "every connection"
	if len(r.ServerNames) > 0 {
		names = strings.Join(r.ServerNames, ", ")
	}
	out := []fact{{field: "match", value: names}}
	out = append(out, backendFacts(r.Backends)...)
	if len(r.Backends) == 0 {
		out = append(out, fact{field: "backends", value: "none, connections are closed"})
	}
	return append(out, settingsFacts("", r.Settings.Fields())...)
}
