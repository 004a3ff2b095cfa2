package page

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/xds/api"
)

// shown is how many rows of a list a page has; a filter finds the others.
const shown = 100

// meshDoc is the first page.
func meshDoc(o *api.Overview, filter string, buttons node) *doc {
	d := &doc{title: "Mesh", live: true, head: []node{el("h1", "Mesh")}}
	if buttons != nil {
		d.head = append(d.head, buttons)
	}
	d.parts = append(d.parts, part{id: "now", body: meshNow(o)})
	d.parts = append(d.parts, part{id: "shifts", title: "Shifts", quiet: true, body: []node{shiftsTable(o.Shifts)}})
	d.parts = append(d.parts, part{id: "troubles", title: "Objects with trouble", quiet: true, body: troublesTable(o)})
	d.parts = append(d.parts, part{id: "services", title: "Services", quiet: true, body: servicesTable(o.Services, filter)})
	d.parts = append(d.parts, part{id: "sources", title: "What is read, and how fresh it is", quiet: true, body: []node{sourcesTable(o)}})
	d.parts = append(d.parts, part{id: "proxies", title: "Proxies and members", quiet: true, body: proxiesSummary(o)})
	return d
}

// bigDoc is for a screen on a wall: shifts and what is wrong.
func bigDoc(o *api.Overview) *doc {
	d := &doc{title: "Mesh", live: true, bare: true, head: []node{el("h1", "Causeway")}}
	d.parts = append(d.parts, part{id: "now", body: meshNow(o)}, part{id: "shifts", title: "Shifts", quiet: true, body: []node{shiftsTable(o.Shifts[:min(len(o.Shifts), 12)])}})
	wrong := slices.DeleteFunc(slices.Clone(o.Services), func(s api.ServiceRow) bool { return attention(&s) == 0 })
	d.parts = append(d.parts, part{id: "services", title: "Services that need a look", quiet: true, body: servicesTable(wrong, "")})
	return d
}

func meshNow(o *api.Overview) []node {
	out := []node{}
	switch {
	case !o.Serving:
		out = append(out, el("p", class("banner bad"), el("strong", "Not serving. "), "It waits for "+strings.Join(o.WaitsFor, ", ")))
	case o.Wrong:
		out = append(out, el("p", class("banner warn"), el("strong", "Something needs a look. "), wrongWords(o)))
	default:
		out = append(out, el("p", class("banner good"), el("strong", "All is well. "),
			fmt.Sprintf("%s, %s of %s proxies in sync.", phrase.Plural(len(o.Services), "Services"), thousands(o.Proxies.InSync), thousands(o.Proxies.Connected))))
	}
	if o.Freeze != nil {
		out = append(out, el("p", class("banner warn"), el("strong", "Frozen. "), o.Freeze.Text()))
	}
	leads := "leads"
	if !o.Leading {
		leads = "does not lead: of other replicas' proxies it knows nothing"
	}
	return append(out, el("p", class("hint"), fmt.Sprintf("Causeway %s; this control plane %s.", o.Version, leads)))
}

// wrongWords names what is wrong, the worst first.
func wrongWords(o *api.Overview) string {
	var words []string
	add := func(n int, one, many string) {
		switch {
		case n == 1:
			words = append(words, "1 "+one)
		case n > 1:
			words = append(words, thousands(n)+" "+many)
		}
	}
	n := 0
	for i := range o.Services {
		if o.Services[i].FailedOver {
			n++
		}
	}
	add(n, "Service has failed over", "Services have failed over")
	n = 0
	for i := range o.Shifts {
		if rolled(&o.Shifts[i]) {
			n++
		}
	}
	add(n, "shift was taken back or fails", "shifts were taken back or fail")
	n = 0
	for i := range o.Sources {
		if o.Sources[i].State != "ok" {
			n++
		}
	}
	add(n, "source cannot be read", "sources cannot be read")
	n = 0
	for i := range o.Troubles {
		if o.Troubles[i].Severity != "warning" {
			n++
		}
	}
	add(n, "object is not in force", "objects are not in force")
	n = len(o.Proxies.Behind)
	add(n, "proxy is behind", "proxies are behind")
	add(len(o.GuardHeld), "InstanceGroup is held by the never-empty guard", "InstanceGroups are held by the never-empty guard")
	return strings.Join(words, ", ") + "."
}

func rolled(s *api.ShiftRow) bool {
	return s.Phase == "RolledBack" || s.Phase == "RollingBack" || s.Verdict == "Fail"
}

func verdictBadge(s *api.ShiftRow) node {
	switch {
	case rolled(s):
		return badge("bad", cmp.Or(s.Verdict, s.Phase))
	case s.Verdict == "Pass":
		return badge("good", "Pass")
	case s.Verdict != "":
		return badge("warn", s.Verdict)
	}
	return badge("none", "–")
}

func shiftsTable(shifts []api.ShiftRow) node {
	rows := make([]line, 0, len(shifts))
	for i := range shifts[:min(len(shifts), shown)] {
		s := &shifts[i]
		share := el("span", class("share"), bar([]api.BackingRow{{Name: s.To, Percent: s.Percent}, {Name: s.From, Percent: 100 - s.Percent}}), " ", percent(s.Percent), " ", s.To)
		rows = append(rows, row(link(here("shifts", s.Namespace, s.Name), s.Namespace+"/"+s.Name), s.Phase, share, s.Step, verdictBadge(s), s.Waiting))
	}
	return table("TrafficShifts", []string{"Shift", "Phase", "Share", "Step", "Verdict", "Waits for"}, rows)
}

// attention orders Services by how much they need a look.
func attention(s *api.ServiceRow) int {
	n := 0
	if s.FailedOver {
		n += 100
	}
	if s.Troubles > 0 {
		n += 50
	}
	if s.Stale != "" {
		n += 20
	}
	for _, b := range s.Backings {
		if b.Percent > 0 && b.Usable == 0 {
			n += 30
		}
	}
	return n
}

func servicesTable(services []api.ServiceRow, filter string) []node {
	all := slices.Clone(services)
	if filter != "" {
		all = slices.DeleteFunc(all, func(s api.ServiceRow) bool { return !strings.Contains(s.Namespace+"/"+s.Name, filter) })
	}
	slices.SortStableFunc(all, func(a, b api.ServiceRow) int {
		under := func(s *api.ServiceRow) int {
			if s.Shift != "" {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(attention(&b), attention(&a)), cmp.Compare(under(&b), under(&a)))
	})
	rows := make([]line, 0, shown)
	for i := range all[:min(len(all), shown)] {
		s := &all[i]
		var shares []node
		for _, b := range s.Backings {
			health := fmt.Sprintf("%s: %s, %d of %d usable", b.Name, percent(b.Percent), b.Usable, b.Known)
			shares = append(shares, el("div", class("backing"), el("span", class("key "+sideClass(b.Name)), ""), health))
		}
		rows = append(rows, row(link(here("services", s.Namespace, s.Name), s.Namespace+"/"+s.Name), serviceState(s), s.Home, el("div", bar(s.Backings), shares)))
	}
	out := []node{table("Services", []string{"Service", "State", "Home", "Shares and health"}, rows)}
	if len(services) > shown || filter != "" {
		out = append([]node{
			el("form", attr("method", "get"), attr("role", "search"), to("action", here()),
				el("label", attr("for", "q"), "Part of NAMESPACE/NAME"), " ", el("input", attr("id", "q"), attr("name", "q"), attr("type", "search"), attr("value", filter)), " ",
				el("button", attr("type", "submit"), "Find")),
			el("p", class("hint"), fmt.Sprintf("%s of %s Services; those that need a look come first.", thousands(min(len(all), shown)), thousands(len(services)))),
		}, out...)
	}
	return out
}

func serviceState(s *api.ServiceRow) node {
	var out []node
	add := func(n node) { out = append(out, n, text(" ")) }
	if s.FailedOver {
		add(badge("bad", "failed over"))
	}
	if s.Troubles > 0 {
		add(badge("bad", fmt.Sprintf("%d with trouble", s.Troubles)))
	}
	if s.Stale != "" {
		add(badge("warn", s.Stale))
	}
	if s.Shift != "" {
		namespace, name, _ := strings.Cut(s.Shift, "/")
		add(link(here("shifts", namespace, name), "shifting"))
	}
	if out == nil {
		return badge("good", "well")
	}
	return el("span", out)
}

func troublesTable(o *api.Overview) []node {
	rows := make([]line, 0, min(len(o.Troubles), shown))
	for _, t := range o.Troubles[:min(len(o.Troubles), shown)] {
		kind := "bad"
		if t.Severity == "warning" {
			kind = "warn"
		}
		rows = append(rows, row(objectLink(t.Object), badge(kind, t.Severity), t.Text))
	}
	for _, g := range slices.Sorted(maps.Keys(o.GuardHeld)) {
		rows = append(rows, row(text("InstanceGroup %s", g), badge("warn", "held"),
			el("span", fmt.Sprintf("%d instances that EC2 no longer mentions. ", o.GuardHeld[g]), link(here("act").with(url.Values{"action": {"release"}, "name": {g}}), "What to do"))))
	}
	out := []node{table("Objects with trouble", []string{"Object", "State", "What"}, rows)}
	if len(o.Troubles) > shown {
		out = append(out, el("p", class("hint"), fmt.Sprintf("The first %d of %s.", shown, thousands(len(o.Troubles)))))
	}
	return out
}

func sourcesTable(o *api.Overview) node {
	rows := make([]line, 0, len(o.Sources))
	for _, s := range o.Sources {
		kind, words := "good", s.Note
		if s.State != "ok" {
			kind = "bad"
			words = strings.TrimSpace(s.Error + " " + s.Note)
		}
		rows = append(rows, row(s.Name, badge(kind, s.State), when(s.LastSync, o.Time), words))
	}
	return table("Sources", []string{"Source", "State", "Last read", "Note"}, rows)
}

func proxiesSummary(o *api.Overview) []node {
	out := []node{el("p", link(here("proxies"), fmt.Sprintf("%s proxies", thousands(o.Proxies.Connected))), fmt.Sprintf(", %s in sync.", thousands(o.Proxies.InSync)))}
	if len(o.Members) > 0 {
		var words []string
		for _, state := range slices.Sorted(maps.Keys(o.Members)) {
			words = append(words, fmt.Sprintf("%d %s", o.Members[state], state))
		}
		out = append(out, el("p", "Members: "+strings.Join(words, ", ")+"."))
	}
	rows := make([]line, 0, shown)
	for _, b := range o.Proxies.Behind[:min(len(o.Proxies.Behind), shown)] {
		rows = append(rows, row(link(here("proxies", b.ID), b.ID), badge("warn", b.State), b.Error))
	}
	if len(rows) > 0 {
		out = append(out, table("Proxies that are not in sync", []string{"Proxy", "State", "Why"}, rows))
	}
	var replicas []line
	for _, r := range o.Replicas {
		if r.Name != "" {
			replicas = append(replicas, row(r.Name, r.State, thousands(r.Proxies)))
		}
	}
	if len(replicas) > 0 {
		out = append(out, table("Replicas", []string{"Replica", "State", "Proxies"}, replicas))
	}
	return out
}
