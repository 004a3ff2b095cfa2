package page

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/xds/api"
)

// doc is a page.
type doc struct {
	title string
	// head stands above the parts and is not renewed: what somebody is about to press must not move.
	head  []node
	parts []part
	// live pages are renewed while they are looked at.
	live bool
	// bare pages have nothing to press, for a screen on a wall.
	bare bool
}

// part is a section of a page, which is renewed as a whole.
type part struct {
	id, title string
	body      []node
	// quiet parts change all the time and are not read out.
	quiet bool
}

// section returns a part as an element: a landmark with a name.
func (p *part) section() node {
	live := attribute{}
	if !p.quiet {
		live = attr("aria-live", "polite")
	}
	var heading any
	label := attr("aria-label", p.id)
	if p.title != "" {
		heading = el("h2", attr("id", p.id+"-title"), p.title)
		label = attr("aria-labelledby", p.id+"-title")
	}
	return el("section", attr("id", p.id), attr("data-part", p.id), label, live, heading, p.body)
}

// line is a row of a table: its first cell names it.
type line []any

// table returns a table with a caption for those who hear it. On a narrow screen each row is a block with the heads beside
// its cells; roles say that it is a table still.
func table(caption string, headers []string, rows []line) node {
	if len(rows) == 0 {
		return el("p", class("none"), "None.")
	}
	var heads []node
	for _, h := range headers {
		heads = append(heads, el("th", attr("scope", "col"), attr("role", "columnheader"), h))
	}
	body := make([]node, 0, len(rows))
	for _, r := range rows {
		cells := make([]node, 0, len(r))
		for i, c := range r {
			if i == 0 {
				cells = append(cells, el("th", attr("scope", "row"), attr("role", "rowheader"), c))
				continue
			}
			cells = append(cells, el("td", attr("role", "cell"), attr("data-head", headers[i]), el("div", c)))
		}
		body = append(body, el("tr", attr("role", "row"), cells))
	}
	return el("div", class("scroll"), attr("tabindex", "0"), attr("role", "region"), attr("aria-label", caption),
		el("table", attr("role", "table"), el("caption", class("hidden"), caption), el("thead", attr("role", "rowgroup"), el("tr", attr("role", "row"), heads)),
			el("tbody", attr("role", "rowgroup"), body)))
}

// row returns a row of a table.
func row(cells ...any) line { return cells }

// badge is a word with a colour; the word says it all.
func badge(kind, word string) node { return el("span", class("badge "+kind), word) }

func link(p path, parts ...any) node { return el("a", append([]any{to("href", p)}, parts...)...) }

// when is a time, and how long that is before now.
func when(t, now time.Time) node {
	if t.IsZero() {
		return text("–")
	}
	return el("time", attr("datetime", t.UTC().Format(time.RFC3339)), attr("title", t.UTC().Format(time.RFC3339)),
		t.UTC().Format("2006-01-02 15:04:05"), " UTC, ", ago(now.Sub(t)))
}

// ago is how long ago something was, or how soon it will be, to two digits or so.
func ago(d time.Duration) string {
	switch {
	case d < -time.Second:
		return "in " + roughly(-d)
	case d < time.Second:
		return "now"
	}
	return roughly(d) + " ago"
}

func roughly(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// figure writes a number with at most so many digits behind the point.
func figure(f float64, digits int) string {
	s := strconv.FormatFloat(f, 'f', digits, 64)
	if strings.Contains(s, ".") {
		s = strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// thousands writes a count with its thousands apart.
func thousands[N int | int64 | uint64](n N) string {
	s := strconv.FormatInt(int64(n), 10) //nolint:gosec // counts of requests
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

func percent(p float64) string { return figure(p, 2) + "\u00a0%" }

// rate is a success rate: the last nines matter, and 99.999 is not 100.
func rate(p *float64) string {
	if p == nil {
		return "–"
	}
	f := *p
	if f < 100 {
		f = math.Min(f, 99.999)
	}
	return figure(f, 3) + "\u00a0%"
}

func millis(ms *float64) string {
	switch {
	case ms == nil:
		return "–"
	case *ms >= 1000:
		return figure(*ms/1000, 2) + "\u00a0s"
	case *ms >= 10:
		return figure(*ms, 0) + "\u00a0ms"
	}
	return figure(*ms, 1) + "\u00a0ms"
}

// bar draws shares that sum to 100, with their names as text beside it.
func bar(backings []api.BackingRow) node {
	var rects []node
	x := 0.0
	for _, b := range backings {
		rects = append(rects, el("rect", class("fill "+sideClass(b.Name)), attr("x", figure(x, 3)), attr("y", "0"), attr("width", figure(b.Percent, 3)), attr("height", "8")))
		x += b.Percent
	}
	return el("svg", class("bar"), attr("viewBox", "0 0 100 8"), attr("preserveAspectRatio", "none"), attr("aria-hidden", "true"), rects)
}

// sideClass is the colour of a backing.
func sideClass(name string) string {
	switch name {
	case "pods":
		return "pods"
	case "instances":
		return "instances"
	}
	return "other"
}

// list returns sentences as a list.
func list(items []string) node {
	var out []node
	for _, s := range items {
		out = append(out, el("li", s))
	}
	return el("ul", out)
}

func objectPath(kind, namespace, name string) path {
	if namespace == "" {
		return here("objects", kind, name)
	}
	return here("objects", kind, namespace, name)
}

// kindName is what a kind of objects can be called: another text with a space in it is no object.
var kindName = regexp.MustCompile(`^[A-Za-z]+$`)

// objectLink leads to an object that is named "Kind namespace/name".
func objectLink(object string) node {
	kind, rest, ok := strings.Cut(object, " ")
	if !ok {
		return text("%s", object)
	}
	namespace, name, both := strings.Cut(rest, "/")
	if !both {
		namespace, name = "", rest
	}
	if name == "" || !kindName.MatchString(kind) {
		return text("%s", object)
	}
	if kind == "TrafficShift" {
		return link(here("shifts", namespace, name), object)
	}
	if kind == "Service" {
		return link(here("services", namespace, name), object)
	}
	return link(objectPath(kind, namespace, name), object)
}
