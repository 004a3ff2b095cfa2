package api

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/shift/describe"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Series is how a shift went, as far as this replica has seen it.
type Series struct {
	// Share is the share of the target over time, oldest first: each holds until the next. It is from the shift's
	// history and outlives restarts.
	Share []SharePoint `json:"share"`
	// Points are the guard's figures over time, oldest first: every five seconds of the last half hour, every minute of
	// the last twelve hours, every quarter of an hour of the last 30 days, since this replica was started.
	Points []Point `json:"points"`
}

// SharePoint is a share from a time on.
type SharePoint struct {
	Time    time.Time `json:"time"`
	Percent float64   `json:"percent"`
}

// Point is what the guard saw at a time. Of a longer time it has the worst.
type Point struct {
	Time    time.Time `json:"time"`
	Percent float32   `json:"percent"`
	Source  Sample    `json:"source"`
	Target  Sample    `json:"target"`
}

// Sample is what a side answered in the guard's window. Figures that are not known are negative.
type Sample struct {
	Requests    uint32  `json:"requests"`
	SuccessRate float32 `json:"successRate"`
	P99         float32 `json:"p99Milliseconds"`
}

// How much is kept: of a shift at most 360+720+2880 points of 56 bytes, 217 KiB after 30 days, and of at most
// maxShifts shifts, 54 MiB; a shift of an hour takes 25 KiB.
const (
	sampleEvery = 5 * time.Second
	maxShifts   = 256
)

var seriesTiers = [...]struct{ slot, age time.Duration }{
	{sampleEvery, 30 * time.Minute}, {time.Minute, 12 * time.Hour}, {15 * time.Minute, 30 * 24 * time.Hour},
}

// ring is the points of one shift.
type ring struct {
	uid   string
	tiers [len(seriesTiers)][]Point
}

// add notes a point, and moves what grows old to longer slots.
func (r *ring) add(p *Point) {
	r.tiers[0] = append(r.tiers[0], *p)
	for i := range seriesTiers {
		n := 0
		for n < len(r.tiers[i]) && p.Time.Sub(r.tiers[i][n].Time) > seriesTiers[i].age {
			if i+1 < len(seriesTiers) {
				r.tiers[i+1] = merged(r.tiers[i+1], &r.tiers[i][n], seriesTiers[i+1].slot)
			}
			n++
		}
		r.tiers[i] = slices.Delete(r.tiers[i], 0, n)
	}
}

// merged adds a point to the slot that it belongs to.
func merged(to []Point, p *Point, slot time.Duration) []Point {
	at := p.Time.Truncate(slot)
	if n := len(to); n > 0 && to[n-1].Time.Equal(at) {
		last := &to[n-1]
		last.Percent = p.Percent
		last.Source.worse(&p.Source)
		last.Target.worse(&p.Target)
		return to
	}
	q := *p
	q.Time = at
	return append(to, q)
}

// worse keeps the worst of two samples.
func (s *Sample) worse(o *Sample) {
	s.Requests = max(s.Requests, o.Requests)
	s.P99 = max(s.P99, o.P99)
	if o.SuccessRate >= 0 && (s.SuccessRate < 0 || o.SuccessRate < s.SuccessRate) {
		s.SuccessRate = o.SuccessRate
	}
}

// points returns all of it, oldest first.
func (r *ring) points() []Point {
	out := []Point{}
	for _, t := range slices.Backward(r.tiers[:]) {
		out = append(out, t...)
	}
	return out
}

// History keeps how shifts went. It samples the statuses that every replica reads, so that each one can show it.
type History struct {
	mu    sync.Mutex
	rings map[discovery.Key]*ring
}

// NewHistory returns one that has seen nothing.
func NewHistory() *History { return &History{rings: make(map[discovery.Key]*ring)} }

// Run samples until the context ends; its only error is the context's.
func (h *History) Run(ctx context.Context, shifts func() []v1alpha1.TrafficShift) error {
	ticker := time.NewTicker(sampleEvery)
	defer ticker.Stop()
	for {
		h.Sample(shifts(), time.Now())
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// Sample notes where shifts stand. Those that are gone are forgotten, and those that are completed stand still.
func (h *History) Sample(shifts []v1alpha1.TrafficShift, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := make(map[discovery.Key]bool, len(shifts))
	for i := range shifts {
		s := &shifts[i]
		key := discovery.Key{Namespace: s.Namespace, Name: s.Name}
		seen[key] = true
		r := h.rings[key]
		if r == nil || r.uid != string(s.UID) {
			if s.Status.Phase == v1alpha1.ShiftCompleted || r == nil && len(h.rings) >= maxShifts {
				continue
			}
			r = &ring{uid: string(s.UID)}
			h.rings[key] = r
		}
		if s.Status.Phase != v1alpha1.ShiftCompleted {
			r.add(pointOf(s, now))
		}
	}
	for key := range h.rings {
		if !seen[key] {
			delete(h.rings, key)
		}
	}
}

func pointOf(s *v1alpha1.TrafficShift, now time.Time) *Point {
	p := &Point{Time: now.UTC().Truncate(time.Second), Percent: float32(number(describe.Percent(s))), Source: Sample{0, -1, -1}, Target: Sample{0, -1, -1}}
	a := s.Status.Analysis
	if a == nil {
		return p
	}
	_, to := sidesOf(s)
	source, target := a.Instances, a.Pods
	if to == discovery.Instances {
		source, target = a.Pods, a.Instances
	}
	p.Source.take(source)
	p.Target.take(target)
	return p
}

func (s *Sample) take(f *v1alpha1.ShiftFigures) {
	if f == nil || f.Requests == 0 {
		return
	}
	s.Requests = uint32(min(f.Requests, 1<<31))
	if r := known(f.SuccessRate); r != nil {
		s.SuccessRate = float32(*r)
	}
	if ms := milliseconds(f.P99); ms != nil {
		s.P99 = float32(*ms)
	}
}

// Of returns how a shift went.
func (h *History) Of(s *v1alpha1.TrafficShift, now time.Time) Series {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := Series{Share: shareOf(s, now), Points: []Point{}}
	if r := h.rings[discovery.Key{Namespace: s.Namespace, Name: s.Name}]; r != nil && r.uid == string(s.UID) {
		out.Points = r.points()
	}
	return out
}

// shareOf reads the share over time from a shift's history.
func shareOf(s *v1alpha1.TrafficShift, now time.Time) []SharePoint {
	out := []SharePoint{}
	for i := range slices.Backward(s.Status.History) {
		e := &s.Status.History[i]
		if len(out) == 0 {
			begin := e.Time.UTC()
			if !s.CreationTimestamp.IsZero() && s.CreationTimestamp.Time.Before(begin) && e.From == "0" {
				begin = s.CreationTimestamp.UTC()
			}
			out = append(out, SharePoint{begin, number(string(e.From))})
		}
		if p := number(string(e.To)); p != out[len(out)-1].Percent {
			out = append(out, SharePoint{e.Time.UTC(), p})
		}
	}
	if percent := number(describe.Percent(s)); len(out) == 0 || out[len(out)-1].Percent != percent {
		out = append(out, SharePoint{now.UTC(), percent})
	}
	return out
}
