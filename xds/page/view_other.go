package page

import (
	"bytes"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/policy/explain"
	"github.com/causeway-mesh/causeway/policy/explain/describe"
	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/xds/api"
	"github.com/causeway-mesh/causeway/xds/status"
)

// serviceDoc is the page of a Service.
func serviceDoc(s *api.Service) *doc {
	name := s.Namespace + "/" + s.Name
	d := &doc{title: "Service " + name, live: true, head: []node{el("p", class("crumbs"), link(here(), "Mesh")), el("h1", "Service "+name)}}
	now := []node{el("p", "Home: ", el("strong", s.Home), " ("+s.HomeBecause+"). ", serviceState(&s.ServiceRow))}
	if s.Cohort != "" {
		now = append(now, el("p", "Users move together by "+s.Cohort+"."))
	}
	if words := slices.Concat(s.Findings, s.Groups); len(words) > 0 {
		now = append(now, list(words))
	}
	d.parts = append(d.parts, part{id: "now", body: now})
	var ports []line
	for _, p := range s.Ports {
		var words []string
		for _, b := range p.Backings {
			words = append(words, fmt.Sprintf("%s %s, %d of %d usable", b.Name, percent(b.Percent), b.Usable, b.Known))
		}
		failover := "no: " + p.FailoverBecause
		if p.Failover {
			failover = "yes: " + p.FailoverBecause
		}
		if len(p.Backings) < 2 {
			failover = "one backing"
		}
		ports = append(ports, row(strings.TrimSpace(fmt.Sprintf("%d %s", p.Number, p.Name)), p.Protocol, el("div", bar(p.Backings), strings.Join(words, "; ")), failover))
	}
	d.parts = append(d.parts, part{id: "ports", title: "Ports and backings", quiet: true, body: []node{table("Ports", []string{"Port", "Protocol", "Backings", "Stand in for each other"}, ports)}})
	d.parts = append(d.parts, part{id: "outcomes", title: "What callers get", quiet: true, body: serviceOutcomes(s)})
	d.parts = append(d.parts, part{id: "traffic", title: "Who calls it, and whom it calls", quiet: true, body: serviceTraffic(s)})
	rows := make([]line, 0, shown)
	for i := range s.Endpoints[:min(len(s.Endpoints), 3*shown)] {
		e := &s.Endpoints[i]
		kind := map[string]string{"healthy": "good", "draining": "warn"}[e.Health]
		if kind == "" {
			kind = "bad"
		}
		where := e.Zone
		if e.Node != "" {
			where += ", node " + e.Node
		}
		if e.Spot {
			where += ", Spot"
		}
		rows = append(rows, row(e.ID, badge(kind, e.Health), e.Reason, e.Platform, fmt.Sprint(e.Port), e.Address, where))
	}
	endpoints := []node{table("Endpoints", []string{"Endpoint", "Health", "Reason", "Backing", "Port", "Address", "Where"}, rows)}
	if len(s.Endpoints) > 3*shown {
		endpoints = append(endpoints, el("p", class("hint"), fmt.Sprintf("The first %d of %s, those without requests first.", 3*shown, thousands(len(s.Endpoints)))))
	}
	d.parts = append(d.parts, part{id: "endpoints", title: "Endpoints", quiet: true, body: endpoints})
	var objects []line
	for _, o := range s.Objects {
		objects = append(objects, row(objectLink(objectName(o.Kind, o.Namespace, o.Name)), list(o.Does)))
	}
	d.parts = append(d.parts, part{id: "objects", title: "Routes, policies and other objects that act on it", quiet: true, body: []node{table("Objects", []string{"Object", "What it does"}, objects)}})
	return d
}

func objectName(kind, namespace, name string) string {
	if namespace == "" {
		return kind + " " + name
	}
	return kind + " " + namespace + "/" + name
}

func serviceOutcomes(s *api.Service) []node {
	if len(s.Outcomes) == 0 {
		return []node{el("p", class("none"), "How long answers take, and why requests fail, proxies report while there is a TrafficShift of the Service; the leader has it.")}
	}
	var rows, callers []line
	for _, o := range s.Outcomes {
		var causes []string
		for cause, n := range o.Failures {
			causes = append(causes, fmt.Sprintf("%s %s", thousands(n), cause))
		}
		slices.Sort(causes)
		rows = append(rows, row(o.Backing, thousands(o.Requests), rate(o.SuccessRate), millis(o.P50), millis(o.P99), strings.Join(causes, ", ")))
	}
	for _, c := range s.Callers {
		callers = append(callers, row(link(here("proxies", c.ID), c.ID), thousands(c.Requests), thousands(c.Failures)))
	}
	return []node{
		table("Outcomes of the last two minutes", []string{"Backing", "Requests", "Good", "p50", "p99", "Failures"}, rows),
		el("h3", "Proxies that ask most"), table("Callers", []string{"Caller's proxy", "Requests", "Failed"}, callers),
	}
}

// serviceTraffic says who calls a Service and whom it calls.
func serviceTraffic(s *api.Service) []node {
	t := &s.Traffic
	calls := func(of []api.Call, who string, name func(*api.Call) node) node {
		rows := make([]line, 0, len(of))
		for i := range of {
			c := &of[i]
			rows = append(rows, row(name(c), c.Backing, ratePerSecond(c.PerSecond), rate(c.SuccessRate), thousands(c.Failed)))
		}
		return table(who, []string{who, "Backing", "Requests", "Good", "Failed"}, rows)
	}
	out := []node{
		el("h3", "Who calls it"),
		calls(t.CalledBy, "Caller", func(c *api.Call) node {
			if c.Gateway {
				return el("span", "Gateway "+c.Workload)
			}
			return el("span", c.Workload)
		}),
		el("h3", "Whom it calls"),
	}
	if len(t.Callers) == 0 {
		out = append(out, el("p", class("none"), "No proxy that is connected here is at one of its endpoints, so it is not known: its pods and instances are no members, or have another replica."))
	} else {
		out = append(out, calls(t.Calls, "Service", func(c *api.Call) node {
			namespace, name, _ := strings.Cut(c.Service, "/")
			return link(here("services", namespace, name), c.Service)
		}))
	}
	hint := fmt.Sprintf("By the load reports of the last %s of the proxies that are connected to this control plane.", phrase.Roughly(time.Duration(t.Seconds)*time.Second))
	if t.More {
		hint += " There are more."
	}
	return append(out, el("p", class("hint"), hint))
}

// proxiesDoc lists the proxies.
func proxiesDoc(p *api.Proxies, filter string) *doc {
	d := &doc{title: "Proxies", live: true, head: []node{el("h1", "Proxies")}}
	all := p.Proxies
	if filter != "" {
		all = slices.DeleteFunc(slices.Clone(all), func(r api.ProxyRow) bool { return !strings.Contains(r.ID, filter) })
	}
	rows := make([]line, 0, shown)
	for i := range all[:min(len(all), shown)] {
		r := &all[i]
		kind := "good"
		if !r.Well {
			kind = "warn"
		}
		if r.Refuses != "" {
			kind = "bad"
		}
		rows = append(rows, row(link(here("proxies", r.ID), r.ID), r.Zone, r.Envoy, badge(kind, r.State), when(r.Connected, p.Time), phrase.Brief(r.Refuses)))
	}
	body := []node{
		el("form", attr("method", "get"), attr("role", "search"), to("action", here("proxies")),
			el("label", attr("for", "q"), "Part of a node id"), " ", el("input", attr("id", "q"), attr("name", "q"), attr("type", "search"), attr("value", filter)), " ",
			el("button", attr("type", "submit"), "Find")),
		el("p", class("hint"), fmt.Sprintf("%s of %s that are connected to this control plane.", thousands(min(len(all), shown)), thousands(len(p.Proxies)))),
		table("Proxies", []string{"Proxy", "Zone", "Envoy", "State", "Connected", "Refuses"}, rows),
	}
	d.parts = append(d.parts, part{id: "proxies", title: "Connected", quiet: true, body: body})
	return d
}

// proxyDoc is the page of one proxy.
func proxyDoc(p *api.Proxy, kind, name string) *doc {
	d := &doc{title: "Proxy " + p.ID, live: kind == "", head: []node{el("p", class("crumbs"), link(here(), "Mesh"), " / ", link(here("proxies"), "Proxies")), el("h1", "Proxy "+p.ID)}}
	state := "good"
	if !p.Well {
		state = "bad"
	}
	facts := []node{
		el("dt", "State"), el("dd", badge(state, p.State)), el("dt", "Workload"), el("dd", p.Service), el("dt", "Where"), el("dd", strings.TrimSpace(p.Zone+" "+p.Node)),
		el("dt", "Envoy"), el("dd", p.Envoy+", "+p.Status.Protocol), el("dt", "Connected"), el("dd", when(p.Connected, p.Time)),
	}
	if m := p.Member; m != nil {
		words := m.State(p.Time) + ", agent " + m.Agent
		if m.Why != "" {
			words += ": " + m.Why
		}
		facts = append(facts, el("dt", "Member"), el("dd", words))
	}
	if len(p.Status.HeldBack) > 0 {
		facts = append(facts, el("dt", "Held back"), el("dd", strings.Join(p.Status.HeldBack, ", ")))
	}
	var types []line
	for _, t := range p.Status.Types {
		word, color := status.TypeState(t), "good"
		switch {
		case len(t.Rejected) > 0:
			color = "bad"
		case word != "ok":
			color = "warn"
		}
		types = append(types, row(t.Type, badge(color, word)))
	}
	d.parts = append(d.parts, part{id: "now", body: []node{el("dl", class("facts"), facts), table("Acknowledged by type", []string{"Type", "State"}, types)}})
	var refusals []line
	for i := range p.Refusals {
		r := &p.Refusals[i]
		var from []node
		for _, o := range r.Objects {
			from = append(from, el("div", objectLink(o)))
		}
		held := "it is without it"
		if r.Held {
			held = "the last good configuration is in force"
		}
		refusals = append(refusals, row(r.Type+" "+r.Resource, el("code", r.Error), el("div", from), held))
	}
	if len(refusals) > 0 {
		d.parts = append(d.parts, part{id: "refusals", title: "What it refuses, in Envoy's words", body: []node{table("Refusals", []string{"Resource", "Envoy says", "It comes from", "Meanwhile"}, refusals)}})
	}
	if kind != "" {
		d.parts = append(d.parts, part{id: "content", title: kind + " " + name, body: []node{el("pre", attr("tabindex", "0"), p.Content)}})
	}
	rows := make([]line, 0, len(p.Resources))
	for i := range p.Resources[:min(len(p.Resources), 20*shown)] {
		r := &p.Resources[i]
		var shows any = r.Name
		if r.Type != "SDS" {
			shows = link(here("proxies", p.ID).with(url.Values{"type": {r.Type}, "name": {r.Name}}), r.Name)
		}
		var from []node
		for _, o := range r.Objects {
			from = append(from, objectLink(o), text(" "))
		}
		rows = append(rows, row(shows, r.Type, fmt.Sprint(r.Bytes), el("span", from)))
	}
	d.parts = append(d.parts, part{id: "resources", title: "Its configuration", quiet: true, body: []node{
		el("p", class("hint"), "Each opens as YAML, without secrets."), table("Resources", []string{"Resource", "Type", "Bytes", "Comes from"}, rows),
	}})
	return d
}

// explainDoc answers what becomes of a request.
func explainDoc(q *explain.Question, asked bool, e *explain.Explanation, err error) *doc {
	d := &doc{title: "Explain", head: []node{el("h1", "What becomes of a request")}}
	input := func(id, label, value, hint string) node {
		return el("div", class("field"), el("label", attr("for", id), label), el("input", attr("id", id), attr("name", id), attr("type", "text"), attr("value", value), attr("placeholder", hint), attr("maxlength", "2048")))
	}
	form := el("form", attr("method", "get"), to("action", here("explain")),
		input("from", "From: a workload, a Service, or a proxy's node id", q.From, "web/cron"), input("gateway", "or at a Gateway, from outside", q.Gateway, "edge/public"),
		input("method", "Method", q.Method, "GET"), input("url", "URL", q.URL, "http://php-web.web/cart?id=1"),
		el("div", class("field"), el("label", attr("for", "header"), "A header, as Name: value"), el("input", attr("id", "header"), attr("name", "header"), attr("type", "text"), attr("value", strings.Join(q.Headers, "\n")), attr("maxlength", "2048"))),
		el("button", attr("type", "submit"), "Explain"))
	d.parts = append(d.parts, part{id: "question", title: "The question", quiet: true, body: []node{form, el("p", class("hint"), "Nothing is sent. The same: causeway explain request")}})
	if !asked {
		return d
	}
	if err != nil {
		d.parts = append(d.parts, part{id: "answer", title: "The answer", body: []node{el("p", class("banner bad"), err.Error())}})
		return d
	}
	var b bytes.Buffer
	t := phrase.NewTable(&b)
	describe.Request(t, e)
	_ = t.Flush() // a buffer takes everything
	kind := "good"
	if e.Fails() {
		kind = "bad"
	}
	d.parts = append(d.parts, part{id: "answer", title: "The answer", body: []node{el("p", class("banner "+kind), e.Outcome()), el("pre", attr("tabindex", "0"), b.String())}})
	return d
}

// objectDoc is the page of an object.
func objectDoc(o *status.Object) *doc {
	d := &doc{title: o.Object, live: true, head: []node{el("p", class("crumbs"), link(here(), "Mesh")), el("h1", o.Object)}}
	now := []node{el("p", fmt.Sprintf("Generation %d: %s", o.Generation, o.State))}
	if o.Frozen != "" {
		now = append(now, el("p", class("banner warn"), o.Frozen))
	}
	var conditions []line
	for _, c := range o.Conditions {
		kind := "good"
		if c.Status != "True" {
			kind = "warn"
		}
		conditions = append(conditions, row(strings.TrimSpace(c.Parent+" "+c.Type), badge(kind, c.Status), c.Reason, c.Message))
	}
	d.parts = append(d.parts, part{id: "now", body: now}, part{id: "conditions", title: "Conditions", quiet: true, body: []node{table("Conditions", []string{"Condition", "Status", "Reason", "Message"}, conditions)}})
	effects := []node{el("p", class("none"), "Nothing by itself.")}
	if len(o.Effects) > 0 {
		effects = []node{list(o.Effects)}
	}
	d.parts = append(d.parts, part{id: "effects", title: "What it does", quiet: true, body: effects})
	var resources, proxies []line
	for i := range o.Resources[:min(len(o.Resources), shown)] {
		resources = append(resources, row(o.Resources[i].Name, o.Resources[i].Type, o.Resources[i].SeenBy))
	}
	for i := range o.Proxies[:min(len(o.Proxies), shown)] {
		proxies = append(proxies, row(link(here("proxies", o.Proxies[i].ID), o.Proxies[i].ID), o.Proxies[i].State))
	}
	d.parts = append(d.parts, part{id: "resources", title: "In Envoy", quiet: true, body: []node{table("Resources", []string{"Resource", "Type", "Seen by"}, resources)}},
		part{id: "proxies", title: "Who has it", quiet: true, body: []node{table("Proxies", []string{"Proxy", "State"}, proxies)}})
	return d
}

// changesDoc says what changed when, by whom, and who has it.
func changesDoc(c *api.Changes) *doc {
	d := &doc{title: "Changes", live: true, head: []node{el("h1", "What changed")}}
	rows := make([]line, 0, shown)
	for i := range c.Changes[:min(len(c.Changes), 2*shown)] {
		x := &c.Changes[i]
		name := objectName(x.Kind, x.Namespace, x.Name)
		var object any = name
		if x.Kind != "Freeze" {
			object = objectLink(name)
		}
		what := x.What
		if x.Generation > 0 {
			what += fmt.Sprintf(", generation %d", x.Generation)
		}
		rows = append(rows, row(x.Time.UTC().Format(time.DateTime), object, what, x.By, strings.TrimSpace(x.Detail+" "+x.State)))
	}
	d.parts = append(d.parts, part{id: "changes", title: "Newest first", quiet: true, body: []node{
		el("p", class("hint"), "Objects since this control plane was started, TrafficShifts as far as their history reaches."),
		table("Changes", []string{"Time (UTC)", "Object", "What", "By", "Detail"}, rows),
	}})
	return d
}
