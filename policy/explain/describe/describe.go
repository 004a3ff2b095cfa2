// Package describe prints what package explain finds, for a person to read.
package describe

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/causeway-mesh/causeway/policy/explain"
	"github.com/causeway-mesh/causeway/policy/phrase"
)

// Request prints an explanation for a person: first what happens, then
// who answers and why, then the rest.
func Request(t *phrase.Table, e *explain.Explanation) {
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
		t.Row("Request:", fmt.Sprintf("%s %s://%s%s", e.Request.Method, g.Scheme, e.Request.Host, e.Request.Path))
		gateway(t, g, from)
	} else {
		t.Row("Request:", fmt.Sprintf("%s http://%s%s", e.Request.Method, e.Request.Host, e.Request.Path))
		t.Row("From:", from)
	}
	if v := e.VirtualHost; v != nil && (e.Answer == nil || e.Answer.Because != v.Because) {
		host(t, v)
	}
	if r := e.Rule; r != nil {
		t.Row("Rule:", fmt.Sprintf("%s, generation %d: %s", r, r.Generation, r.Text))
	}
	t.Row("Outcome:", e.Outcome())
	if a := e.Answer; a != nil {
		t.Row("Because:", a.Because)
	}
	if f := e.Fault; f != nil {
		t.Row("Fault:", f.Text())
	}
	cohort(t, e.Cohort)
	forwarded(t, e)
	backends(t, e)
	inbound(t, e)
	limits(t, e)
	listeners(t, e.Gateway)
	rules(t, "Matches too, but comes later:", e.Lost)
	rules(t, "Does not match:", e.Unmatched)
	envoy(t, &e.Envoy)
}

// inbound prints whether endpoints have sidecars of their own that take the request in.
func inbound(t *phrase.Table, e *explain.Explanation) {
	if with, of, ports := e.Inbound(); with > 0 {
		t.Row("Inbound:", fmt.Sprintf("%d of %d endpoints have a sidecar that takes what comes to its ports %s and passes it on unchanged; others get it themselves", with, of, strings.Join(ports, " or ")))
	}
}

func host(t *phrase.Table, v *explain.VirtualHost) {
	switch {
	case v.Service != "":
		t.Row("Target:", fmt.Sprintf("Service %s, port %d (%s)", v.Service, v.Port, v.Protocol))
	case v.Host != "":
		t.Row("Host:", v.Host)
	case v.ExternalService != "":
		t.Row("Target:", fmt.Sprintf("ExternalService %s, port %d (%s)", v.ExternalService, v.Port, v.Protocol))
	}
	t.Cells("", v.Because)
	switch v.Routes {
	case "producer":
		t.Row("Routes:", "those of the Service's own namespace (producer routes)")
	case "consumer":
		t.Row("Routes:", "those of the caller's namespace (consumer routes)")
	case "default":
		t.Row("Routes:", "none is attached: everything goes to the target itself")
	}
}

// forwarded prints the changes by filters: those of the request, once for
// backends with the same ones, and those of the answer.
func forwarded(t *phrase.Table, e *explain.Explanation) {
	printed := ""
	for i := range e.Backends {
		b := &e.Backends[i]
		if b.Answer != nil {
			continue
		}
		text := b.Forwarded.Text()
		if text != printed {
			t.Row("Backend gets:", text)
			printed = text
		}
	}
	if r := e.ResponseHeaders; r != nil {
		text := r.Text()
		if e.Answer != nil && e.Answer.HeadersOf != "" {
			text += " (of " + e.Answer.HeadersOf + ", which matches although it is not asked)"
		}
		t.Row("Answer gets:", text)
	}
	if c := e.CORS; c != nil {
		allowed := "the request's origin is not one of them"
		if c.Allowed {
			allowed = "the request's origin is one of them"
		}
		t.Row("CORS:", fmt.Sprintf("origins %s; %s", strings.Join(c.AllowOrigins, ", "), allowed))
	}
}

// cohort prints which side of a shift the request is on.
func cohort(t *phrase.Table, c *explain.Cohort) {
	if c == nil {
		return
	}
	t.Row("Shift:", "TrafficShift "+c.Shift)
	t.Row("Cohort:", c.Text())
	t.Cells("", c.Because)
}

func backends(t *phrase.Table, e *explain.Explanation) {
	if len(e.Backends) > 0 {
		t.Section("Backends:")
		t.Row("  REQUESTS", "OF 1,000,000", "BACKEND", "CLUSTER", "NOTE")
	}
	for i := range e.Backends {
		backend(t, &e.Backends[i])
	}
	for i := range e.Mirrors {
		m := &e.Mirrors[i]
		for _, target := range m.Backend.Targets {
			if target.Percent > 0 {
				t.Row("  "+explain.Percent(m.Percent*target.Percent/100)+" copied", "", m.Backend.Text(), target.Cluster, "its answer is dropped")
			}
		}
	}
	for i := range e.Backends {
		for j := range e.Backends[i].Targets {
			target(t, &e.Backends[i].Targets[j])
		}
	}
}

func backend(t *phrase.Table, b *explain.Backend) {
	if b.Answer != nil {
		t.Row("  "+explain.Percent(b.Percent), b.Interval.Text(), "none", "", "answered "+b.Answer.Text()+": "+b.Answer.Because)
		return
	}
	if len(b.Targets) == 0 {
		t.Row("  "+explain.Percent(b.Percent), b.Interval.Text(), b.Text(), "", b.Note)
	}
	for i := range b.Targets {
		target := &b.Targets[i]
		t.Row("  "+explain.Percent(target.Percent), target.Interval.Text(), b.Text(), target.Cluster, target.Note())
	}
}

func target(t *phrase.Table, target *explain.Target) {
	if target.Percent == 0 || (len(target.Zones) == 0 && target.Resolves == "") {
		return
	}
	title := "Endpoints of " + target.AnsweredBy + ":"
	t.Section(title)
	if target.TLS != "" {
		t.Row("  TLS:", target.TLS)
	}
	for _, s := range target.Timeouts {
		t.Row("  Timeout "+s.Name+":", s.Value, from(s.From))
	}
	for _, p := range target.Policies {
		t.Row("  "+p.Section+":", p.From)
	}
	if target.Nodes != "" {
		t.Row("  Nodes:", target.Nodes)
	}
	if target.Resolves != "" {
		t.Row("  Resolved by DNS:", target.Resolves)
		return
	}
	t.Text("")
	t.Row("  ZONE", "REQUESTS", "ENDPOINT", "ADDRESS", "WEIGHT", "HEALTH", "REASON")
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
			t.Cells("  "+name, requests, id, e.Address, strconv.Itoa(int(e.Weight)), e.Health, e.Reason)
			name = ""
		}
	}
}

func from(source string) string { return "(" + source + ")" }

func limits(t *phrase.Table, e *explain.Explanation) {
	if len(e.Timeouts) == 0 && e.Retry == nil && e.SessionPersistence == nil && len(e.Policies) == 0 {
		return
	}
	t.Section("Limits and policies:")
	for _, s := range e.Timeouts {
		t.Row("  Timeout "+s.Name+":", s.Value, from(s.From))
	}
	if r := e.Retry; r != nil {
		retry(t, r)
	}
	if s := e.SessionPersistence; s != nil {
		t.Row("  Session:", s.Value, from(s.From))
	}
	for _, p := range e.Policies {
		t.Row("  Section "+p.Section+":", p.From)
		if p.Void {
			t.Cells("", "nothing of it holds: "+p.Replaced[0].By+" is there instead")
			continue
		}
		for _, r := range p.Replaced {
			t.Cells("", fmt.Sprintf("not its %s: %s replaces it", r.Field, r.By))
		}
	}
}

// retry prints when a request is sent again, each part with what states it.
func retry(t *phrase.Table, r *explain.Retry) {
	switch {
	case r.Attempts > 0:
		times := "once"
		if r.Attempts > 1 {
			times = fmt.Sprintf("up to %d times", r.Attempts)
		}
		t.Row("  Sent again:", times, from(r.From))
		t.Row("    after:", strings.Join(r.On, ", "), from(r.OnFrom))
		if len(r.StatusCodes) > 0 {
			t.Row("    of status:", strings.Trim(fmt.Sprint(r.StatusCodes), "[]"), from(r.StatusCodesFrom))
		}
		t.Row("    back-off:", r.Backoff, from(r.BackoffFrom))
	case r.OnFrom != "": // it is retryOn that says never
		t.Row("  Sent again:", "never", from(r.OnFrom))
	default:
		t.Row("  Sent again:", "never", from(r.From))
	}
	t.Cells("", r.Because)
}

func rules(t *phrase.Table, title string, rules []explain.OtherRule) {
	if len(rules) == 0 {
		return
	}
	t.Section(title)
	for i := range rules {
		t.Row("  "+rules[i].String(), rules[i].Text, rules[i].Because)
	}
}

func envoy(t *phrase.Table, e *explain.Envoy) {
	t.Section("In Envoy:")
	if e.Listener != "" {
		t.Row("  Listener:", e.Listener)
	}
	for _, name := range e.Listeners {
		t.Row("  Listener:", name)
	}
	for _, name := range e.Certificates {
		t.Row("  Certificate:", name)
	}
	if e.RouteConfig != "" {
		t.Row("  Route configuration:", e.RouteConfig)
	}
	if e.VirtualHost != "" {
		t.Row("  Virtual host:", e.VirtualHost)
	}
	for _, r := range e.Routes {
		t.Row("  Route:", r)
	}
	for i, c := range e.Clusters {
		if i == 0 {
			t.Row("  Clusters:", c)
		} else {
			t.Cells("", c)
		}
	}
}
