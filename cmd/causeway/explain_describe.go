package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/causeway-mesh/causeway/policy/explain"
)

// describeRequest prints an explanation for a person: first what happens, then
// who answers and why, then the rest.
func describeRequest(t *table, e *explain.Explanation) {
	from := "namespace " + e.From.Namespace
	if e.From.Name != "" {
		from = e.From.Name + ", " + from
	}
	if e.From.Zone != "" {
		from += ", zone " + e.From.Zone
	}
	if len(e.From.OtherZones) > 0 {
		from += fmt.Sprintf(" (it is in %s too: choose with --zone)", strings.Join(e.From.OtherZones, ", "))
	}
	if e.From.Node != "" {
		from += ", node " + e.From.Node
	}
	switch n := len(e.From.OtherNodes); {
	case n == 1:
		from += fmt.Sprintf(" (it is on %s too: choose with --node)", e.From.OtherNodes[0])
	case n > 1:
		from += fmt.Sprintf(" (it is on %d others too, such as %s: choose with --node)", n, e.From.OtherNodes[0])
	}
	if g := e.Gateway; g != nil {
		t.row("Request:", fmt.Sprintf("%s %s://%s%s", e.Request.Method, g.Scheme, e.Request.Host, e.Request.Path))
		describeGateway(t, g, from)
	} else {
		t.row("Request:", fmt.Sprintf("%s http://%s%s", e.Request.Method, e.Request.Host, e.Request.Path))
		t.row("From:", from)
	}
	if v := e.VirtualHost; v != nil && (e.Answer == nil || e.Answer.Because != v.Because) {
		describeHost(t, v)
	}
	if r := e.Rule; r != nil {
		t.row("Rule:", fmt.Sprintf("%s, generation %d: %s", r, r.Generation, r.Text))
	}
	t.row("Outcome:", e.Outcome())
	if a := e.Answer; a != nil {
		t.row("Because:", a.Because)
	}
	if f := e.Fault; f != nil {
		t.row("Fault:", f.Text())
	}
	describeCohort(t, e.Cohort)
	describeForwarded(t, e)
	describeBackends(t, e)
	describeLimits(t, e)
	describeListeners(t, e.Gateway)
	describeRules(t, "Matches too, but comes later:", e.Lost)
	describeRules(t, "Does not match:", e.Unmatched)
	describeEnvoy(t, &e.Envoy)
}

// text prints a line that belongs to no column.
func (t *table) text(s string) { _, _ = io.WriteString(t.w, s+"\n") } // Flush returns the error

// cells prints a row in which an empty cell stays empty.
func (t *table) cells(cells ...string) { t.text(strings.Join(cells, "\t")) }

func section(t *table, title string) {
	t.text("")
	t.text(title)
}

func describeHost(t *table, v *explain.VirtualHost) {
	switch {
	case v.Service != "":
		t.row("Target:", fmt.Sprintf("Service %s, port %d (%s)", v.Service, v.Port, v.Protocol))
	case v.Host != "":
		t.row("Host:", v.Host)
	case v.ExternalService != "":
		t.row("Target:", fmt.Sprintf("ExternalService %s, port %d (%s)", v.ExternalService, v.Port, v.Protocol))
	}
	t.cells("", v.Because)
	switch v.Routes {
	case "producer":
		t.row("Routes:", "those of the Service's own namespace (producer routes)")
	case "consumer":
		t.row("Routes:", "those of the caller's namespace (consumer routes)")
	case "default":
		t.row("Routes:", "none is attached: everything goes to the target itself")
	}
}

// describeForwarded prints the changes by filters: those of the request, once for
// backends with the same ones, and those of the answer.
func describeForwarded(t *table, e *explain.Explanation) {
	printed := ""
	for i := range e.Backends {
		b := &e.Backends[i]
		if b.Answer != nil {
			continue
		}
		text := b.Forwarded.Text()
		if text != printed {
			t.row("Backend gets:", text)
			printed = text
		}
	}
	if r := e.ResponseHeaders; r != nil {
		text := r.Text()
		if e.Answer != nil && e.Answer.HeadersOf != "" {
			text += " (of " + e.Answer.HeadersOf + ", which matches although it is not asked)"
		}
		t.row("Answer gets:", text)
	}
	if c := e.CORS; c != nil {
		allowed := "the request's origin is not one of them"
		if c.Allowed {
			allowed = "the request's origin is one of them"
		}
		t.row("CORS:", fmt.Sprintf("origins %s; %s", strings.Join(c.AllowOrigins, ", "), allowed))
	}
}

// describeCohort prints which side of a shift the request is on.
func describeCohort(t *table, c *explain.Cohort) {
	if c == nil {
		return
	}
	t.row("Shift:", "TrafficShift "+c.Shift)
	t.row("Cohort:", c.Text())
	t.cells("", c.Because)
}

func describeBackends(t *table, e *explain.Explanation) {
	if len(e.Backends) > 0 {
		section(t, "Backends:")
		t.row("  REQUESTS", "OF 1,000,000", "BACKEND", "CLUSTER", "NOTE")
	}
	for i := range e.Backends {
		describeBackend(t, &e.Backends[i])
	}
	for i := range e.Mirrors {
		m := &e.Mirrors[i]
		for _, target := range m.Backend.Targets {
			if target.Percent > 0 {
				t.row("  "+explain.Percent(m.Percent*target.Percent/100)+" copied", "", m.Backend.Text(), target.Cluster, "its answer is dropped")
			}
		}
	}
	for i := range e.Backends {
		for j := range e.Backends[i].Targets {
			describeTarget(t, &e.Backends[i].Targets[j])
		}
	}
}

func describeBackend(t *table, b *explain.Backend) {
	if b.Answer != nil {
		t.row("  "+explain.Percent(b.Percent), b.Interval.Text(), "none", "", "answered "+b.Answer.Text()+": "+b.Answer.Because)
		return
	}
	if len(b.Targets) == 0 {
		t.row("  "+explain.Percent(b.Percent), b.Interval.Text(), b.Text(), "", b.Note)
	}
	for i := range b.Targets {
		target := &b.Targets[i]
		t.row("  "+explain.Percent(target.Percent), target.Interval.Text(), b.Text(), target.Cluster, target.Note())
	}
}

func describeTarget(t *table, target *explain.Target) {
	if target.Percent == 0 || (len(target.Zones) == 0 && target.Resolves == "") {
		return
	}
	title := "Endpoints of " + target.AnsweredBy + ":"
	section(t, title)
	if target.TLS != "" {
		t.row("  TLS:", target.TLS)
	}
	for _, s := range target.Timeouts {
		t.row("  Timeout "+s.Name+":", s.Value, from(s.From))
	}
	for _, p := range target.Policies {
		t.row("  "+p.Section+":", p.From)
	}
	if target.Nodes != "" {
		t.row("  Nodes:", target.Nodes)
	}
	if target.Resolves != "" {
		t.row("  Resolved by DNS:", target.Resolves)
		return
	}
	t.text("")
	t.row("  ZONE", "REQUESTS", "ENDPOINT", "ADDRESS", "WEIGHT", "HEALTH", "REASON")
	for _, z := range target.Zones {
		name := z.Name
		if name == "" {
			name = "(unknown)"
		}
		switch {
		case z.OwnNode:
			name += " (own node)"
		case z.Own:
			name += " (own)"
		}
		for i, e := range z.Endpoints {
			requests := ""
			if i == 0 {
				requests = explain.Percent(z.Percent)
			}
			id := e.ID
			if e.Spot {
				id += " (spot)"
			}
			t.cells("  "+name, requests, id, e.Address, strconv.Itoa(int(e.Weight)), e.Health, e.Reason)
			name = ""
		}
	}
}

func from(source string) string { return "(" + source + ")" }

func describeLimits(t *table, e *explain.Explanation) {
	if len(e.Timeouts) == 0 && e.Retry == nil && e.SessionPersistence == nil && len(e.Policies) == 0 {
		return
	}
	section(t, "Limits and policies:")
	for _, s := range e.Timeouts {
		t.row("  Timeout "+s.Name+":", s.Value, from(s.From))
	}
	if r := e.Retry; r != nil {
		describeRetry(t, r)
	}
	if s := e.SessionPersistence; s != nil {
		t.row("  Session:", s.Value, from(s.From))
	}
	for _, p := range e.Policies {
		t.row("  Section "+p.Section+":", p.From)
		if p.Void {
			t.cells("", "nothing of it holds: "+p.Replaced[0].By+" is there instead")
			continue
		}
		for _, r := range p.Replaced {
			t.cells("", fmt.Sprintf("not its %s: %s replaces it", r.Field, r.By))
		}
	}
}

// describeRetry prints when a request is sent again, each part with what states it.
func describeRetry(t *table, r *explain.Retry) {
	switch {
	case r.Attempts > 0:
		times := "once"
		if r.Attempts > 1 {
			times = fmt.Sprintf("up to %d times", r.Attempts)
		}
		t.row("  Sent again:", times, from(r.From))
		t.row("    after:", strings.Join(r.On, ", "), from(r.OnFrom))
		if len(r.StatusCodes) > 0 {
			t.row("    of status:", strings.Trim(fmt.Sprint(r.StatusCodes), "[]"), from(r.StatusCodesFrom))
		}
		t.row("    back-off:", r.Backoff, from(r.BackoffFrom))
	case r.OnFrom != "": // it is retryOn that says never
		t.row("  Sent again:", "never", from(r.OnFrom))
	default:
		t.row("  Sent again:", "never", from(r.From))
	}
	t.cells("", r.Because)
}

func describeRules(t *table, title string, rules []explain.OtherRule) {
	if len(rules) == 0 {
		return
	}
	section(t, title)
	for i := range rules {
		t.row("  "+rules[i].String(), rules[i].Text, rules[i].Because)
	}
}

func describeEnvoy(t *table, e *explain.Envoy) {
	section(t, "In Envoy:")
	if e.Listener != "" {
		t.row("  Listener:", e.Listener)
	}
	for _, name := range e.Listeners {
		t.row("  Listener:", name)
	}
	for _, name := range e.Certificates {
		t.row("  Certificate:", name)
	}
	if e.RouteConfig != "" {
		t.row("  Route configuration:", e.RouteConfig)
	}
	if e.VirtualHost != "" {
		t.row("  Virtual host:", e.VirtualHost)
	}
	for _, r := range e.Routes {
		t.row("  Route:", r)
	}
	for i, c := range e.Clusters {
		if i == 0 {
			t.row("  Clusters:", c)
		} else {
			t.cells("", c)
		}
	}
}
