package diff

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
)

// fact is one thing that the mesh does, as a person would say it. A list of
// facts has each field once.
type fact struct {
	field, value string
	// from is the policy that the value comes from, "" for what is no policy's.
	from string
}

// settingsFacts are the effective sections of policies, leaf by leaf.
func settingsFacts(prefix string, s *policy.Settings) []fact {
	text, err := json.Marshal(&s.TrafficSettings)
	var tree map[string]any
	if err != nil || json.Unmarshal(text, &tree) != nil {
		return nil
	}
	var out []fact
	var walk func(path []string, v any)
	walk = func(path []string, v any) {
		if m, ok := v.(map[string]any); ok && len(m) > 0 {
			for _, k := range slices.Sorted(maps.Keys(m)) {
				walk(append(slices.Clone(path), k), m[k])
			}
			return
		}
		value, ok := v.(string)
		if !ok {
			b, _ := json.Marshal(v) // it was JSON a moment ago
			value = string(b)
		}
		out = append(out, fact{field: prefix + strings.Join(path, "."), value: value, from: origin(s, path)})
	}
	for _, section := range slices.Sorted(maps.Keys(tree)) {
		walk([]string{section}, tree[section])
	}
	return out
}

// origin is the object that a leaf of the settings comes from.
func origin(s *policy.Settings, path []string) string {
	if len(path) > 1 {
		if ref, ok := s.From[path[0]+"."+path[1]]; ok {
			return ref.String()
		}
	}
	if ref, ok := s.From[path[0]]; ok {
		return ref.String()
	}
	return ""
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
	case policy.TCP:
		return "TCP"
	}
	return strconv.Itoa(int(p))
}

// percent of ShareTotal, without zeros at the end.
func percent(share uint32) string {
	return strconv.FormatFloat(float64(share)*100/policy.ShareTotal, 'f', -1, 64) + "%"
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
		out = append(out, fact{field: "share of the " + name, value: percent(p.Shares[i])})
		out = append(out, settingsFacts("cluster of the "+name+": ", &b.Settings)...)
		out = append(out, tlsFacts("cluster of the "+name+": tls to it", b.TLS)...)
	}
	if len(p.Backings) > 1 {
		out = append(out, fact{field: "failover to the other backing", value: strconv.FormatBool(p.Failover)})
	}
	for i := range p.Groups {
		g := &p.Groups[i]
		out = append(out, fact{field: "cluster of InstanceGroup " + g.Name, value: "named by a route"})
		out = append(out, settingsFacts("cluster of InstanceGroup "+g.Name+": ", &g.Settings)...)
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
		out = append(out, settingsFacts(name+": ", &p.Settings)...)
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
		value := percent(b.Share)
		if b.Kind == policy.InvalidBackend {
			value += ", answered 500: " + b.Reason
		}
		out = append(out, fact{field: name, value: value})
		if len(b.Targets) > 1 {
			for _, t := range b.Targets {
				out = append(out, fact{field: name + " on " + t.Platform.String(), value: percent(t.Share)})
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
	if r.Request != nil {
		out = append(out, fact{field: "timeouts.request of the rule", value: r.Request.String()})
	}
	if r.BackendRequest != nil {
		out = append(out, fact{field: "timeouts.backendRequest of the rule", value: r.BackendRequest.String()})
	}
	if t := r.Retry; t != nil {
		out = append(out, fact{field: "retry of the rule", value: fmt.Sprintf("%d attempts on %v, backoff %s", t.Attempts, t.Codes, t.Backoff)})
	}
	if r.SessionPersistence != nil {
		b, _ := json.Marshal(r.SessionPersistence) // a struct of the API
		out = append(out, fact{field: "sessionPersistence of the rule", value: string(b)})
	}
	return append(out, effective(r, settingsFacts("", &r.Settings))...)
}

// effective leaves out what a rule's own fields win over.
func effective(r *policy.Rule, settings []fact) []fact {
	return slices.DeleteFunc(settings, func(f fact) bool {
		return r.Request != nil && f.field == "timeout.request" ||
			r.Retry != nil && f.field == "retry.attempts" ||
			r.Retry != nil && r.Retry.Backoff > 0 && f.field == "retry.backoff" ||
			r.BackendRequest != nil && f.field == "retry.perTry" ||
			r.SessionPersistence != nil && strings.HasPrefix(f.field, "sessionPersistence")
	})
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
	return append(out, settingsFacts("", &r.Settings)...)
}
