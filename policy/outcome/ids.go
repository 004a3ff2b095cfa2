package outcome

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

const (
	// maxPartIDs is how many endpoints and how many callers of a backing are kept apart in a window and in the slot that is
	// under way, and slotIDs in each other one.
	maxPartIDs = 1000
	slotIDs    = 200
	// maxTexts is how many ids are known to be the same text.
	maxTexts = 20_000
	// maxTimed is the number of callers with answer times of their own in a slot. A caller with most of the slow
	// answers in a window is among them in its slots.
	maxTimed = 16
	// badWeight is how many good answers weigh as much as a bad or a slow one when the ids to keep are
	// chosen.
	badWeight = 20
)

// tallied is what is counted of an id.
type tallied[C any] interface {
	plus(C) C
	since(C) C
	zero() bool
	// weight says how much it matters.
	weight() uint64
}

// ids counts by id; it is sorted by id. If there are too many, it keeps the ones that
// matter most.
type ids[C tallied[C]] []entry[C]

type entry[C tallied[C]] struct {
	id string
	n  C
}

// with returns the sum of both, which mostly have the same ids.
func (s ids[C]) with(other ids[C]) ids[C] {
	i := 0
	for _, o := range other {
		for i < len(s) && s[i].id < o.id {
			i++
		}
		if i < len(s) && s[i].id == o.id {
			s[i].n = s[i].n.plus(o.n)
		} else {
			s = slices.Insert(s, i, o)
		}
	}
	return s.most(maxPartIDs, C.weight)
}

// most returns the n ids with the greatest weights.
func (s ids[C]) most(n int, weight func(C) uint64) ids[C] {
	if len(s) <= n {
		return s
	}
	s = slices.Clone(s)
	slices.SortFunc(s, func(a, b entry[C]) int {
		return cmp.Or(cmp.Compare(weight(b.n), weight(a.n)), strings.Compare(a.id, b.id))
	})
	s = slices.Clone(s[:n])
	slices.SortFunc(s, func(a, b entry[C]) int { return strings.Compare(a.id, b.id) })
	return s
}

// texts keeps each id once, for all slots and messages that have it.
type texts map[string]string

func (t texts) same(id string) string {
	if s, ok := t[id]; ok {
		return s
	}
	if len(t) >= maxTexts {
		clear(t)
	}
	t[id] = id
	return id
}

func (s ids[C]) byID() map[string]C {
	out := make(map[string]C, len(s))
	for i := range s {
		out[s[i].id] = s[i].n
	}
	return out
}

// grown returns by how much each count has grown since before.
func grown[C tallied[C]](now, before map[string]C, t texts) ids[C] {
	out := make(ids[C], 0, len(now))
	for id, c := range now {
		if d := c.since(before[id]); !d.zero() {
			out = append(out, entry[C]{t.same(id), d})
		}
	}
	slices.SortFunc(out, func(a, b entry[C]) int { return strings.Compare(a.id, b.id) })
	return out
}

func mergeIDs[C tallied[C]](to *map[string]C, from map[string]C) {
	if *to == nil && len(from) > 0 {
		*to = make(map[string]C, len(from))
	}
	for id, c := range from {
		(*to)[id] = (*to)[id].plus(c)
	}
}

func (e EndpointCounts) plus(o EndpointCounts) EndpointCounts {
	return EndpointCounts{plus(e.Requests, o.Requests), plus(e.Failures, o.Failures)}
}

func (e EndpointCounts) since(before EndpointCounts) EndpointCounts {
	if e.Requests < before.Requests {
		before = EndpointCounts{}
	}
	return EndpointCounts{since(e.Requests, before.Requests), since(e.Failures, before.Failures)}
}

func (e EndpointCounts) zero() bool { return e == EndpointCounts{} }

func (e EndpointCounts) weight() uint64 {
	return plus(e.Requests, badWeight*min(e.Failures, e.Requests))
}

func (c CallerCounts) plus(o CallerCounts) CallerCounts {
	c.Requests, c.Failures = plus(c.Requests, o.Requests), plus(c.Failures, o.Failures)
	c.Abandoned, c.FailedOver = plus(c.Abandoned, o.Abandoned), plus(c.FailedOver, o.FailedOver)
	if len(o.Latency.Buckets) > 0 {
		c.Latency.Merge(o.Latency)
	}
	return c
}

func (c CallerCounts) since(before CallerCounts) CallerCounts {
	if c.Requests < before.Requests || c.Abandoned < before.Abandoned || c.FailedOver < before.FailedOver {
		before = CallerCounts{}
	}
	out := CallerCounts{
		Requests: since(c.Requests, before.Requests), Failures: since(c.Failures, before.Failures),
		Abandoned: since(c.Abandoned, before.Abandoned), FailedOver: since(c.FailedOver, before.FailedOver),
	}
	if out.Requests > 0 {
		out.Latency = c.Latency
		out.Latency.Sub(before.Latency)
	}
	return out
}

func (c CallerCounts) zero() bool { return c.Requests+c.Abandoned+c.FailedOver == 0 }

func (c CallerCounts) weight() uint64 {
	return plus(c.Requests, badWeight*min(plus(plus(c.Failures, c.Abandoned), c.FailedOver), 1<<48))
}

// slowest is the part of all answers that are slow ones where it is asked whose matter.
const slowest = .05

// trim forgets of a slot that is over who mattered little, and gives back room that was for more.
func (p *part) trim() {
	p.trimTimes()
	p.endpoints = fitted(p.endpoints.most(slotIDs, EndpointCounts.weight))
	p.callers = fitted(p.callers.most(slotIDs, func(c CallerCounts) uint64 {
		if len(c.Latency.Buckets) > 0 {
			return math.MaxUint64 // those who had the slow answers
		}
		return c.weight()
	}))
	p.counts.Latency.Buckets = fitted(p.counts.Latency.Buckets)
	p.pairs.Answer.Buckets, p.pairs.Mirror.Buckets = fitted(p.pairs.Answer.Buckets), fitted(p.pairs.Mirror.Buckets)
	for i := range p.callers {
		h := &p.callers[i].n.Latency
		h.Buckets = fitted(h.Buckets)
	}
}

// fitted returns a list without much room for more.
func fitted[S ~[]E, E any](s S) S {
	if cap(s)-len(s) <= len(s)/8 {
		return s
	}
	return slices.Clone(s)
}

// trimTimes forgets how long the answers of those callers took that have few of all and few of the slow ones.
func (p *part) trimTimes() {
	timed := 0
	for i := range p.callers {
		if len(p.callers[i].n.Latency.Buckets) > 0 {
			timed++
		}
	}
	if timed <= maxTimed {
		return
	}
	slow := uint64(p.counts.Latency.Quantile(1 - slowest))
	weights := make(map[string]float64, timed)
	order := make([]int, len(p.callers))
	for i := range p.callers {
		c := &p.callers[i]
		order[i] = i
		weights[c.id] = float64(c.n.Latency.Total()) + badWeight*c.n.Latency.Above(slow)
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(weights[p.callers[b].id], weights[p.callers[a].id]), cmp.Compare(a, b))
	})
	for _, i := range order[maxTimed:] {
		p.callers[i].n.Latency = Histogram{}
	}
}
