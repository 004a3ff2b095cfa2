package page

import (
	"fmt"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/xds/api"
)

// shiftDoc is the page of a shift: what somebody who was woken must see first stands first.
func shiftDoc(s *api.Shift, buttons node) *doc {
	d := &doc{title: "TrafficShift " + s.Namespace + "/" + s.Name, live: true}
	d.head = []node{
		el("p", class("crumbs"), link(here(), "Mesh"), " / Service ", link(here("services", s.Namespace, s.Service), s.Namespace+"/"+s.Service)),
		el("h1", "Shift "+s.Namespace+"/"+s.Name),
	}
	kind, word, why := judged(s)
	d.parts = append(d.parts, part{id: "verdict", body: []node{el("p", class("banner "+kind), el("strong", word))}},
		part{id: "now", quiet: true, body: append([]node{el("p", class("why"), why)}, append(shiftNotes(s), shiftFacts(s))...)})
	d.parts = append(d.parts, part{id: "sides", quiet: true, body: []node{el("div", class("cards"), []node{sideCard(&s.Target, "to", s), sideCard(&s.Source, "from", s)})}})
	if buttons != nil {
		d.head = append(d.head, buttons)
	}
	share := []node{shareChart(s), el("p", class("hint"), "Each mark on it is an entry of the history below.")}
	d.parts = append(d.parts,
		part{id: "share", title: "Share over time", quiet: true, body: share},
		part{id: "bounds", title: "The guard's figures and their bounds", quiet: true, body: []node{boundsTable(s)}},
		part{id: "figures", title: "Figures over time", quiet: true, body: figureCharts(s)},
		part{id: "steps", title: "Steps", quiet: true, body: []node{stepsTable(s)}},
		part{id: "statuses", title: "How both sides answer", quiet: true, body: []node{statusTable(s), pathTable(s), shadowText(s)}},
		part{id: "failing", title: "Who fails most", quiet: true, body: failingTables(s)},
	)
	if p := notesPart(s); p != nil {
		d.parts = append(d.parts, *p)
	}
	d.parts = append(d.parts, part{id: "history", title: "History", quiet: true, body: []node{historyTable(s)}})
	return d
}

// judged says in a word and a sentence whether the shift harms anyone.
func judged(s *api.Shift) (kind, word, why string) {
	switch {
	case s.Phase == "RolledBack" || s.Phase == "RollingBack":
		for i := range s.History {
			if h := &s.History[i]; h.Event == "RollBack" {
				return "bad", "Taken back by " + actor(h.Actor), h.Reason
			}
		}
		return "bad", "Taken back", s.Waiting
	case s.Verdict == "Fail":
		return "bad", "The guard sees harm", s.Reason
	case s.Ended:
		return "good", "Complete: the " + s.To + " are the Service's home", ""
	case s.Verdict == "Hold":
		return "warn", "The guard holds", s.Reason
	case s.Verdict == "Pass":
		return "good", "No harm seen", s.Reason
	}
	return "none", "Nothing is judged yet", s.Waiting
}

func shiftNotes(s *api.Shift) []node {
	var out []node
	if s.Frozen != "" {
		out = append(out, el("p", class("banner warn"), el("strong", "Frozen. "), s.Frozen))
	}
	if s.Pin != "" {
		out = append(out, el("p", class("banner warn"), el("strong", "Pinned at "+s.Pin+" %. "), "spec.pin holds whatever the steps and the guard say."))
	}
	return out
}

func shiftFacts(s *api.Shift) node {
	facts := []node{el("dt", "Phase"), el("dd", s.Phase+", step "+s.Step), el("dt", "Requests"), el("dd", ratePerSecond(s.RequestsPerSecond)+" to both sides")}
	if s.Waiting != "" {
		waiting := s.Waiting
		if _, _, why := judged(s); len(why) > longest {
			waiting = strings.ReplaceAll(waiting, why, "see above")
		}
		facts = append(facts, el("dt", "Waits for"), el("dd", waiting))
	}
	if s.Next != "" {
		facts = append(facts, el("dt", "Next"), el("dd", s.Next))
	}
	if !s.NextAt.IsZero() {
		facts = append(facts, el("dt", "At the earliest"), el("dd", when(s.NextAt, s.Time)))
	}
	if b := s.Budget; b != nil && b.Remaining != "" {
		facts = append(facts, el("dt", "Error budget"), el("dd", fmt.Sprintf("%s %% of what %s %% allows is left", b.Remaining, b.Objective)))
	}
	if c := s.Command; c != nil {
		words := fmt.Sprintf("%s by %s: %s", c.Action, c.Actor, c.Result)
		if c.Message != "" {
			words += ": " + c.Message
		}
		facts = append(facts, el("dt", "Last command"), el("dd", words))
	}
	return el("dl", class("facts"), facts)
}

// longest is how many bytes of what stands above already may be said again.
const longest = 60

// actor is who did something: the guard and the steps are no names.
func actor(name string) string {
	if name == "guard" || name == "steps" || name == "spec" {
		return "the " + name
	}
	return name
}

func ratePerSecond(r float64) string {
	if r < 10 {
		return figure(r, 1) + "/s"
	}
	return thousands(int64(r+.5)) + "/s"
}

func sideCard(side *api.Side, word string, s *api.Shift) node {
	facts := []node{
		el("dt", "good"), el("dd", rate(side.SuccessRate)),
		el("dt", "p50"), el("dd", millis(side.P50)),
		el("dt", "p99"), el("dd", millis(side.P99)),
		el("dt", "requests in "+s.Window), el("dd", thousands(side.Requests)),
	}
	if side.Open > 0 {
		facts = append(facts, el("dt", "open"), el("dd", thousands(side.Open)))
	}
	if side.StoodIn > 0 {
		facts = append(facts, el("dt", "answered for the other side"), el("dd", thousands(side.StoodIn)))
	}
	return el("div", class("card "+sideClass(side.Backing)),
		el("h3", el("span", class("side"), word+" "), side.Backing), el("p", class("large"), percent(side.Percent)), el("dl", class("facts"), facts))
}

func boundsTable(s *api.Shift) node {
	rows := make([]line, 0, len(s.Bounds))
	for _, b := range s.Bounds {
		kind := map[string]string{"met": "good", "broken": "bad"}[b.State]
		if kind == "" {
			kind = "none"
		}
		rows = append(rows, row(b.Name, b.Value, b.Bound, badge(kind, b.State)))
	}
	return table("The guard's figures and their bounds", []string{"Figure", "Now", "Bound", "State"}, rows)
}

func figureCharts(s *api.Shift) []node {
	if len(s.Series.Points) < 2 {
		return []node{el("p", class("none"), "No figures were seen yet by this control plane.")}
	}
	var success, latency *float64
	for i := range s.Bounds {
		b := &s.Bounds[i]
		switch {
		case strings.HasPrefix(b.Name, "success rate"):
			success = b.Limit
		case strings.HasPrefix(b.Name, "p99 of"):
			latency = b.Limit
		}
	}
	return []node{
		el("h3", "Success rate"),
		lineChart(s, "Success rate", func(p *api.Sample) float64 { return float64(p.SuccessRate) }, success, func(v float64) string { return figure(v, 2) }, 99, 100),
		el("h3", "p99 in milliseconds"),
		lineChart(s, "p99 in milliseconds", func(p *api.Sample) float64 { return float64(p.P99) }, latency, func(v float64) string { return figure(v, 0) }, 0, 10),
		el("p", class("hint"), el("span", class("key pods"), "pods"), " ", el("span", class("key instances"), "instances")),
	}
}

func stepsTable(s *api.Shift) node {
	rows := make([]line, 0, len(s.Steps))
	for i, step := range s.Steps {
		what := percent(step.Percent)
		if step.Shadow > 0 {
			what = "copies of " + percent(step.Shadow)
		}
		hold := step.Hold
		if step.Approval {
			hold = strings.TrimPrefix(hold+", approval", ", ")
		}
		state := map[string]node{"done": badge("good", "done"), "current": badge("now", "now"), "ahead": badge("none", "ahead")}[step.State]
		rows = append(rows, row(fmt.Sprint(i+1), what, hold, state))
	}
	return table("Steps of the shift", []string{"Step", "Share", "Holds for", "State"}, rows)
}

func statusTable(s *api.Shift) node {
	type pair struct{ source, target string }
	all := make(map[string]*pair)
	var order []string
	put := func(list []api.Status, to func(*pair) *string) {
		for _, c := range list {
			if all[c.Code] == nil {
				all[c.Code] = &pair{"–", "–"}
				order = append(order, c.Code)
			}
			*to(all[c.Code]) = percent(c.Percent)
		}
	}
	put(s.Target.Statuses, func(p *pair) *string { return &p.target })
	put(s.Source.Statuses, func(p *pair) *string { return &p.source })
	var rows []line
	for _, code := range order {
		rows = append(rows, row(code, all[code].target, all[code].source))
	}
	return el("div", el("h3", "Statuses"), table("Statuses of both sides", []string{"Status", s.To, s.From}, rows))
}

func pathTable(s *api.Shift) node {
	rows := make([]line, 0, len(s.Paths))
	for i := range s.Paths {
		p := &s.Paths[i]
		rows = append(rows, row(el("code", p.Path), pathCell(&p.Target), pathCell(&p.Source)))
	}
	return el("div", el("h3", "Paths that differ most"), table("Paths of both sides", []string{"Path", s.To, s.From}, rows))
}

func pathCell(f *api.Figures) node {
	if f.Requests == 0 {
		return text("none")
	}
	words := make([]string, 0, 3)
	for _, c := range f.Statuses[:min(len(f.Statuses), 3)] {
		words = append(words, c.Code+" "+percent(c.Percent))
	}
	return text("%s good of %s (%s)", rate(f.SuccessRate), thousands(f.Requests), strings.Join(words, ", "))
}

func shadowText(s *api.Shift) node {
	if s.ShadowPercent == 0 {
		return nil
	}
	words := percent(s.ShadowPercent) + " of the requests are copied to the " + s.To + "."
	if c := s.Shadow; c != nil && c.Compared > 0 {
		words += fmt.Sprintf(" Of %s pairs %s differ in status and %s in size; p99 %s, of the copies %s.",
			thousands(c.Compared), thousands(c.StatusDiffers), thousands(c.SizeDiffers), c.P99, c.ShadowP99)
	}
	return el("div", el("h3", "Copies"), el("p", words))
}

func failingTables(s *api.Shift) []node {
	var rows []line
	for _, side := range []*api.Side{&s.Target, &s.Source} {
		for _, f := range side.Endpoints {
			rows = append(rows, row(f.ID, side.Backing, "answered", thousands(f.Failures), thousands(f.Requests)))
		}
		for _, f := range side.Callers {
			rows = append(rows, row(el("a", to("href", here("proxies", f.ID)), f.ID), side.Backing, "called", thousands(f.Failures), thousands(f.Requests)))
		}
	}
	if len(rows) == 0 {
		return []node{el("p", class("none"), "Nobody has failed in the last "+s.Window+", as far as this control plane knows. The leader knows it of all.")}
	}
	return []node{table("Endpoints and callers with failed requests", []string{"Who", "Side", "Role", "Failed", "of"}, rows)}
}

func notesPart(s *api.Shift) *part {
	var body []node
	for i := range s.Conditions {
		if c := &s.Conditions[i]; c.Status == "False" && c.Reason != "Completed" {
			body = append(body, el("p", badge("warn", c.Type+" "+c.Reason), " ", c.Message))
		}
	}
	if s.LeftOut != "" {
		body = append(body, el("p", s.LeftOut))
	}
	if len(s.Advice) > 0 {
		body = append(body, el("h3", "Capacity"), list(s.Advice))
	}
	if len(s.Preflight) > 0 {
		body = append(body, el("h3", "Before traffic moves"), list(s.Preflight))
	}
	if len(body) == 0 {
		return nil
	}
	return &part{id: "notes", title: "What else to know", body: body, quiet: true}
}

func historyTable(s *api.Shift) node {
	rows := make([]line, 0, len(s.History))
	for i := range s.History {
		h := &s.History[i]
		share := percent(h.To)
		if h.From != h.To {
			share = percent(h.From) + " → " + share
		}
		rows = append(rows, row(h.Time.Format(time.DateTime), share, h.Event, h.Reason, h.Actor))
	}
	return table("History, newest first, times in UTC", []string{"Time (UTC)", "Share", "Event", "Why", "By"}, rows)
}
