package page

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/xds/api"
)

// A chart's size in units of its own. It is as wide as there is room and as high as the style says, on a phone too: areas and lines
// are stretched to that, while words and marks stand at their part of it and keep their size.
const (
	chartWidth, chartHeight = 720.0, 200.0
	chartLeft, chartRight   = 8.0, 8.0
	chartTop, chartBottom   = 18.0, 22.0
)

// chart is what is drawn: areas and lines, and above them words and marks.
type chart struct{ areas, marks []node }

// across and down are places in a chart, as parts of its width and height.
func across(x float64) string { return figure(100*x/chartWidth, 3) + "%" }
func down(y float64) string   { return figure(100*y/chartHeight, 3) + "%" }

// word is a text at a place, moved by so many pixels.
func word(kind string, x, y float64, anchor, dx, dy, said string) node {
	return el("text", class(kind), attr("x", across(x)), attr("y", down(y)), attr("dx", dx), attr("dy", dy), attr("text-anchor", anchor), said)
}

// frame places times and values in a chart.
type frame struct {
	from, until time.Time
	low, high   float64
}

func (f *frame) x(t time.Time) float64 {
	whole := f.until.Sub(f.from).Seconds()
	if whole <= 0 {
		return chartLeft
	}
	part := math.Max(0, math.Min(1, t.Sub(f.from).Seconds()/whole))
	return chartLeft + part*(chartWidth-chartLeft-chartRight)
}

func (f *frame) y(v float64) float64 {
	whole := f.high - f.low
	if whole <= 0 {
		whole = 1
	}
	part := math.Max(0, math.Min(1, (v-f.low)/whole))
	return chartHeight - chartBottom - part*(chartHeight-chartTop-chartBottom)
}

func at(x, y float64) string { return figure(x, 1) + "," + figure(y, 1) }

// axes are the lines and words around what is drawn.
func (f *frame) axes(c *chart, label func(float64) string) {
	for i := range 3 {
		v := f.low + (f.high-f.low)*float64(i)/2
		y := f.y(v)
		c.marks = append(c.marks,
			el("line", class("grid"), attr("x1", across(chartLeft)), attr("x2", across(chartWidth-chartRight)), attr("y1", down(y)), attr("y2", down(y))),
			word("axis", chartLeft, y, "start", "5", "-4", label(v)))
	}
	layout := "15:04:05"
	if f.until.Sub(f.from) > 24*time.Hour {
		layout = "01-02 15:04"
	}
	for i, anchor := range []string{"start", "middle", "end"} {
		t := f.from.Add(f.until.Sub(f.from) * time.Duration(i) / 2)
		c.marks = append(c.marks, word("axis", f.x(t), chartHeight, anchor, strconv.Itoa(5-5*i), "-6", t.UTC().Format(layout)))
	}
}

// shareChart draws the shares of both sides over time as stacked areas, with the events on it.
func shareChart(s *api.Shift) node {
	f := timesOf(s)
	f.low, f.high = 0, 100
	var edge []string
	last := 0.0
	for i, p := range s.Series.Share {
		x := f.x(p.Time)
		if i > 0 {
			edge = append(edge, at(x, f.y(last)))
		}
		edge = append(edge, at(x, f.y(p.Percent)))
		last = p.Percent
	}
	end := f.x(f.until)
	edge = append(edge, at(end, f.y(last)))
	target := append(append([]string{at(chartLeft, f.y(0))}, edge...), at(end, f.y(0)))
	if len(s.Series.Share) > 0 {
		target[0] = at(f.x(s.Series.Share[0].Time), f.y(0))
	}
	c := chart{areas: []node{
		el("rect", class("fill "+sideClass(s.From)), attr("x", figure(chartLeft, 1)), attr("y", figure(chartTop, 1)),
			attr("width", figure(chartWidth-chartLeft-chartRight, 1)), attr("height", figure(chartHeight-chartTop-chartBottom, 1))),
		el("polygon", class("fill "+sideClass(s.To)), attr("points", strings.Join(target, " "))),
	}}
	f.axes(&c, func(v float64) string { return figure(v, 0) + " %" })
	events(&c, s, &f)
	c.marks = append(c.marks, word("area", chartWidth-chartRight, f.y(100), "end", "-6", "16", s.From), word("area", chartWidth-chartRight, f.y(0), "end", "-6", "-6", s.To))
	return c.drawing("The share of "+s.To+" and "+s.From+" over time", shareWords(s))
}

func shareWords(s *api.Shift) string {
	words := make([]string, 0, len(s.Series.Share))
	for _, p := range s.Series.Share {
		words = append(words, fmt.Sprintf("%s %s", p.Time.UTC().Format(time.DateTime), percent(p.Percent)))
	}
	return "Share of the " + s.To + ": " + strings.Join(words, ", ")
}

// timesOf returns a frame from the shift's begin until now.
func timesOf(s *api.Shift) frame {
	f := frame{from: s.Time, until: s.Time}
	if len(s.Series.Share) > 0 {
		f.from = s.Series.Share[0].Time
	}
	if len(s.Series.Points) > 0 && s.Series.Points[0].Time.Before(f.from) {
		f.from = s.Series.Points[0].Time
	}
	if f.until.Sub(f.from) < time.Minute {
		f.from = f.until.Add(-time.Minute)
	}
	return f
}

// events are marks with their words in a title, which browsers show and screen readers read.
func events(c *chart, s *api.Shift, f *frame) {
	for i := range s.History {
		h := &s.History[i]
		if h.Time.Before(f.from) {
			continue
		}
		kind := "event"
		if h.Event == "RollBack" || h.Event == "FailedOver" {
			kind = "event bad"
		}
		x := across(f.x(h.Time))
		c.marks = append(c.marks, el("g", class(kind),
			el("title", fmt.Sprintf("%s %s: %s to %s, by %s: %s", h.Time.UTC().Format(time.DateTime), h.Event, percent(h.From), percent(h.To), h.Actor, h.Reason)),
			el("line", attr("x1", x), attr("x2", x), attr("y1", down(chartTop-6)), attr("y2", down(chartHeight-chartBottom))),
			el("circle", attr("cx", x), attr("cy", down(chartTop-8)), attr("r", "4"))))
	}
}

// lineChart draws a figure of both sides over time, with its bound.
func lineChart(s *api.Shift, title string, of func(*api.Sample) float64, bound *float64, label func(float64) string, low, high float64) node {
	f := timesOf(s)
	for i := range s.Series.Points {
		for _, sample := range []*api.Sample{&s.Series.Points[i].Source, &s.Series.Points[i].Target} {
			if v := of(sample); v >= 0 {
				low, high = math.Min(low, v), math.Max(high, v)
			}
		}
	}
	if bound != nil {
		low, high = math.Min(low, *bound), math.Max(high, *bound)
	}
	f.low, f.high = math.Floor(low), math.Ceil(high) // words at the axis are round
	var c chart
	f.axes(&c, label)
	for _, side := range []struct {
		name string
		of   func(*api.Point) *api.Sample
	}{{s.From, func(p *api.Point) *api.Sample { return &p.Source }}, {s.To, func(p *api.Point) *api.Sample { return &p.Target }}} {
		for _, points := range pieces(s, &f, func(p *api.Point) float64 { return of(side.of(p)) }) {
			c.areas = append(c.areas, el("polyline", class("line "+sideClass(side.name)), attr("points", points)))
		}
	}
	if bound != nil {
		y, dy := f.y(*bound), "-4"
		if y < chartTop+16 { // above it is no room
			dy = "14"
		}
		c.marks = append(c.marks, el("line", class("bound"), attr("x1", across(chartLeft)), attr("x2", across(chartWidth-chartRight)), attr("y1", down(y)), attr("y2", down(y))),
			word("axis bound", chartWidth-chartRight, y, "end", "-6", dy, "bound "+label(*bound)))
	}
	return c.drawing(title, title+" of both sides; the tables below have the figures of now")
}

// pieces are the parts of a line without a gap: where nothing is known nothing is drawn.
func pieces(s *api.Shift, f *frame, of func(*api.Point) float64) []string {
	var out, now []string
	var last time.Time
	flush := func() {
		if len(now) == 1 {
			now = append(now, now[0])
		}
		if len(now) > 0 {
			out = append(out, strings.Join(now, " "))
		}
		now = nil
	}
	for i := range s.Series.Points {
		p := &s.Series.Points[i]
		v := of(p)
		if v < 0 || !last.IsZero() && p.Time.Sub(last) > 20*time.Minute {
			flush()
		}
		if last = p.Time; v >= 0 {
			now = append(now, at(f.x(p.Time), f.y(v)))
		}
	}
	flush()
	return out
}

func (c *chart) drawing(title, words string) node {
	return el("svg", class("chart"), attr("role", "img"), el("title", title), el("desc", words),
		el("svg", attr("viewBox", fmt.Sprintf("0 0 %g %g", chartWidth, chartHeight)), attr("preserveAspectRatio", "none"), attr("width", "100%"), attr("height", "100%"), c.areas),
		c.marks)
}
