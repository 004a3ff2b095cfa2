package diff

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
)

// gateways compares what Gateways mean.
func (c *comparison) gateways() {
	for _, key := range keys(objectKeys(c.before, discovery.KindGateway), objectKeys(c.after, discovery.KindGateway)) {
		before, _ := c.good.Build(c.before, policy.GatewayUnit(key)).(*policy.Gateway)
		after, _ := c.good.Build(c.after, policy.GatewayUnit(key)).(*policy.Gateway)
		g := &gatewayComparison{
			serviceComparison: serviceComparison{comparison: c, target: policy.GatewayUnit(key).String()},
		}
		g.compare(before, after)
	}
}

// gatewayComparison compares one Gateway; its rules are compared as those of Services are.
type gatewayComparison struct{ serviceComparison }

func (g *gatewayComparison) compare(before, after *policy.Gateway) {
	g.facts(Change{Target: g.target}, certificateFacts(g.comparison.before, before), certificateFacts(g.comparison.after, after))
	old, now := gatewayListeners(before), gatewayListeners(after)
	for _, at := range slices.SortedFunc(maps.Keys(union(old, now)), compareListenerIDs) {
		g.listener(at, old[at], now[at])
	}
	ports := func(m *policy.Gateway) map[uint16]*policy.GatewayPort {
		out := make(map[uint16]*policy.GatewayPort)
		for i := range portsOfGateway(m) {
			out[m.Ports[i].Number] = &m.Ports[i]
		}
		return out
	}
	oldPorts, nowPorts := ports(before), ports(after)
	for _, number := range slices.Sorted(maps.Keys(union(oldPorts, nowPorts))) {
		at := Change{Target: g.target, Port: number}
		facts, nowFacts := gatewaySettingFacts(oldPorts[number]), gatewaySettingFacts(nowPorts[number])
		g.facts(at, facts, nowFacts)
		at.Object = g.target
		g.clientTimeRisks(at, oldPorts[number], nowPorts[number])
		g.trustRisks(at, oldPorts[number], nowPorts[number])
		if oldPorts[number] != nil && nowPorts[number] != nil && !slices.EqualFunc(ofListener(facts), ofListener(nowFacts), sameSetting) {
			g.risk(Risk{Target: g.target, Port: number, Code: ConnectionsClose, Message: "Envoy replaces the listener: " +
				"connections that are open on the port close when --drain-time-s is over, websockets too"})
		}
	}
}

// ofListener returns the settings that stand in a listener. How large bodies may be stands in virtual hosts.
func ofListener(facts []fact) []fact {
	return slices.DeleteFunc(slices.Clone(facts), func(f fact) bool { return f.field == "limits.bodyBytes" })
}

// sameSetting reports whether two facts say the same, whoever says it.
func sameSetting(a, b fact) bool { return a.field == b.field && a.value == b.value }

func portsOfGateway(m *policy.Gateway) []policy.GatewayPort {
	if m == nil {
		return nil
	}
	return m.Ports
}

func union[K comparable, V any](sides ...map[K]V) map[K]bool {
	out := make(map[K]bool)
	for _, s := range sides {
		for k := range s {
			out[k] = true
		}
	}
	return out
}

// listenerID tells listeners apart. One that moves to another port is another one.
type listenerID struct {
	port uint16
	name string
}

func compareListenerIDs(a, b listenerID) int {
	return cmp.Or(cmp.Compare(a.port, b.port), strings.Compare(a.name, b.name))
}

// gatewayListener is a listener with its port.
type gatewayListener struct {
	*policy.GatewayListener
	protocol policy.ListenerProtocol
}

func gatewayListeners(m *policy.Gateway) map[listenerID]gatewayListener {
	out := make(map[listenerID]gatewayListener)
	for i := range portsOfGateway(m) {
		p := &m.Ports[i]
		for j := range p.Listeners {
			out[listenerID{p.Number, p.Listeners[j].Name}] = gatewayListener{&p.Listeners[j], p.Protocol}
		}
	}
	return out
}

// text is the listener in one line.
func (l gatewayListener) text() string {
	s := "TLS, passed on"
	switch {
	case l.protocol == policy.ListenHTTP:
		s = "HTTP"
	case l.protocol == policy.ListenTCP:
		s = "TCP"
	case l.IsHTTP:
		s = "HTTPS"
	case l.Terminates:
		s = "TLS, ended here"
	}
	if l.Hostname != "" {
		s += ", host name " + l.Hostname
	}
	if l.Terminates {
		s += ", certificates " + strings.Join(l.Certificates, ", ")
	}
	if c := l.Clients; c != nil {
		how := "required"
		if c.Optional {
			how = "asked for, and not required"
		}
		s += fmt.Sprintf(", clients' certificates %s, by CAs sha256 %.8x", how, sha256.Sum256([]byte(c.CAs)))
	}
	return s
}

func (g *gatewayComparison) listener(id listenerID, before, after gatewayListener) {
	at := Change{Target: g.target, Port: id.port}
	facts := func(l gatewayListener) []fact {
		if l.GatewayListener == nil {
			return nil
		}
		return []fact{{field: "listener " + id.name, value: l.text()}}
	}
	g.facts(at, facts(before), facts(after))
	if before.GatewayListener != nil && after.GatewayListener == nil {
		g.risk(Risk{Target: g.target, Port: id.port, Code: ListenerRemoved, Message: fmt.Sprintf(
			"listener %s (%s) answers nothing any more", id.name, before.text())})
	}
	old, now := hostsOfListener(before), hostsOfListener(after)
	for _, domain := range slices.Sorted(maps.Keys(union(old, now))) {
		g.host(at, id.name, domain, old[domain], now[domain], after)
	}
	at.Host = id.name
	g.pairs(at, connectionViews(before), connectionViews(after))
}

// hostsOfListener returns the hosts for which there are rules, by their domains.
func hostsOfListener(l gatewayListener) map[string]*policy.GatewayHost {
	out := make(map[string]*policy.GatewayHost)
	if l.GatewayListener == nil {
		return out
	}
	for i := range l.Hosts {
		if h := &l.Hosts[i]; !h.Misdirected {
			out[h.Domain] = h
		}
	}
	return out
}

func (g *gatewayComparison) host(at Change, listener, domain string, before, after *policy.GatewayHost, now gatewayListener) {
	at.Host = listener + "/" + domain
	rules := func(h *policy.GatewayHost) []policy.Rule {
		if h == nil {
			return nil
		}
		return h.Rules
	}
	old := rules(before)
	g.pairs(at, httpViews(old), httpViews(rules(after)))
	if len(old) == 0 || now.GatewayListener == nil {
		return // a listener that goes is told as such
	}
	if after == nil {
		after = g.instead(now, domain)
	}
	if after == nil || len(after.Rules) == 0 {
		g.risk(Risk{Target: g.target, Port: at.Port, Host: at.Host, Code: HostLost, Message: "requests to " + domain + " are answered 404"})
		return
	}
	g.requestRisks(at, old, after.Rules)
}

// instead returns the host of a listener that takes what a domain took, nil for none.
func (g *gatewayComparison) instead(l gatewayListener, domain string) *policy.GatewayHost {
	var out *policy.GatewayHost
	for _, h := range hostsOfListener(l) {
		suffix, wild := strings.CutPrefix(h.Domain, "*")
		if wild && strings.HasSuffix(domain, suffix) && (out == nil || len(h.Domain) > len(out.Domain)) {
			out = h
		}
	}
	return out
}

func connectionViews(l gatewayListener) []ruleView {
	if l.GatewayListener == nil {
		return nil
	}
	return tcpViews(l.TCP)
}

// gatewaySettingFacts are the effective sections of GatewayPolicies, leaf by leaf.
func gatewaySettingFacts(p *policy.GatewayPort) []fact {
	if p == nil {
		return nil
	}
	text, err := json.Marshal(&p.Settings.GatewaySettings)
	if err != nil {
		return nil
	}
	var sections map[string]json.RawMessage
	if json.Unmarshal(text, &sections) != nil {
		return nil
	}
	var out []fact
	for _, section := range slices.Sorted(maps.Keys(sections)) {
		from := ""
		if ref, ok := p.Settings.From[section]; ok {
			from = ref.String()
		}
		fields := make(map[string]any)
		if json.Unmarshal(sections[section], &fields) != nil {
			// A list, which is compared as a whole: its order counts.
			out = append(out, fact{field: section, value: string(sections[section]), from: from})
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(fields)) {
			value, ok := fields[name].(string)
			if !ok {
				b, _ := json.Marshal(fields[name]) // it was JSON a moment ago
				value = string(b)
			}
			out = append(out, fact{field: section + "." + name, value: value, from: from})
		}
	}
	return out
}

// clientTimeRisks tells of what clients are given less time for.
func (g *gatewayComparison) clientTimeRisks(at Change, before, after *policy.GatewayPort) {
	if before == nil || after == nil || before.Settings.Timeout == nil || after.Settings.Timeout == nil {
		return
	}
	was, is := before.Settings.Timeout, after.Settings.Timeout
	for _, t := range []struct {
		name    string
		was, is *metav1.Duration
	}{
		{"request", was.Request, is.Request},
		{"requestHeaders", was.RequestHeaders, is.RequestHeaders},
		{"idle", was.Idle, is.Idle},
		{"streamIdle", was.StreamIdle, is.StreamIdle},
	} {
		if t.was != nil && t.is != nil {
			g.timeRisk(at, "timeout."+t.name, t.was.Duration, t.is.Duration)
		}
	}
}

// trustRisks tells of another belief in who the client is.
func (g *gatewayComparison) trustRisks(at Change, before, after *policy.GatewayPort) {
	if before == nil || after == nil {
		return
	}
	if was, is := before.Settings.TrustedHops(), after.Settings.TrustedHops(); was != is {
		g.risk(Risk{Target: g.target, Port: at.Port, Code: ClientAddress, Message: fmt.Sprintf(
			"%d entries of X-Forwarded-For are believed instead of %d: another address is taken for the client's", is, was)})
	}
	if was, is := before.Settings.PROXY(), after.Settings.PROXY(); was != is {
		what := "connections that begin with a PROXY protocol header are refused"
		if is {
			what = "connections without a PROXY protocol header are closed"
		}
		g.risk(Risk{Target: g.target, Port: at.Port, Code: ClientAddress, Message: what + ": change what stands in front at the same time"})
	}
}

// certificateFacts say which certificates clients are shown.
func certificateFacts(r catalog.Reader, m *policy.Gateway) []fact {
	if m == nil {
		return nil
	}
	var out []fact
	for i := range m.Certificates {
		out = append(out, fact{field: "certificate " + m.Certificates[i].Name, value: CertificateText(r, &m.Certificates[i])})
	}
	return out
}
