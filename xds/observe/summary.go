package observe

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
)

// State is how far a generation has come with the proxies of one replica.
type State uint8

// The states of a generation.
const (
	// Pending: it is not in force yet, or proxies that were connected when it
	// went out have not acknowledged it.
	Pending State = iota + 1
	// Acknowledged: they have, all of them, however many they were.
	Acknowledged
	// Refused: a proxy has refused it, or it is held back because of another
	// object that was.
	Refused
)

// Summary is what a replica says of its proxies.
type Summary struct {
	// Proxies is how many are connected.
	Proxies int
	// Acknowledged is the greatest index of the replica's snapshot that one of them has
	// acknowledged. An object with that Index or a smaller one is in force on a proxy.
	Acknowledged uint64
	Objects      map[discovery.ObjectName]ObjectSummary
	// Gateways that any of the proxies is of.
	Gateways map[discovery.Key]*GatewayProxies
}

// ObjectSummary says how far an object's newest generation has come.
type ObjectSummary struct {
	Generation int64
	State      State
	// Index is Object.Index.
	Index uint64
	// Laggards counts the proxies that have not acknowledged the generation;
	// Nodes names up to five of them, those that are furthest behind, sorted.
	Laggards int
	Nodes    []string
	// Refusal is set in state Refused, and then says why.
	Refusal *Refusal
}

// Refusal is why a generation is refused.
type Refusal struct {
	Resource, Node, Error string
	// Held is true where the last good configuration holds instead.
	Held bool
	// Culprit is the object that was refused where it is another one, or an
	// earlier generation, "" where it is this one.
	Culprit string
}

func (o *ObjectSummary) equal(p *ObjectSummary) bool {
	if (o.Refusal == nil) != (p.Refusal == nil) || (o.Refusal != nil && *o.Refusal != *p.Refusal) {
		return false
	}
	return o.Generation == p.Generation && o.State == p.State && o.Index == p.Index && o.Laggards == p.Laggards &&
		slices.Equal(o.Nodes, p.Nodes)
}

// Summarize says how far the objects have come with the proxies that were
// connected when they went out. A proxy that came later has them from the start
// of its configuration and counts for the next generation; one that is gone
// does not count. The time that it takes grows with the number of objects and
// of proxies, not with their product.
func Summarize(in Local) Summary {
	out := Summary{
		Proxies: len(in.Proxies), Objects: make(map[discovery.ObjectName]ObjectSummary, len(in.Objects)), Gateways: gatewaysOf(in.Proxies),
	}
	for i := range in.Proxies {
		out.Acknowledged = max(out.Acknowledged, in.Proxies[i].Acknowledged)
	}
	f := newFleet(in.Proxies)
	refusals := refusalsByObject(in.Rejections)
	for i := range in.Objects {
		o := &in.Objects[i]
		s := ObjectSummary{Generation: o.Generation, Index: o.Index, State: Acknowledged}
		r, good := refusalOf(o, refusals[o.Name])
		if good && s.Index == 0 {
			s.Index = in.Index // since when is not known, at the latest by now
		}
		if s.Index == 0 {
			s.State = Pending
		} else if n := f.behind(s.Index, o.Since); n > 0 {
			s.State, s.Laggards, s.Nodes = Pending, n, f.names(s.Index, o.Since)
		}
		if r != nil {
			s = ObjectSummary{Generation: o.Generation, Index: o.Index, State: Refused, Refusal: r}
		}
		out.Objects[o.Name] = s
	}
	return out
}

// fleet is the connected proxies in the orders in which they are searched.
type fleet struct {
	// byIndex sorts by the greatest index that a proxy does not lack: the one
	// that it has acknowledged, or else the one at which it came.
	byIndex []*Proxy
	// fresh are those that have not acknowledged what was there when they
	// came, by the time of that.
	fresh []*Proxy
}

func newFleet(proxies []Proxy) *fleet {
	f := &fleet{byIndex: make([]*Proxy, len(proxies))}
	for i := range proxies {
		p := &proxies[i]
		f.byIndex[i] = p
		if p.Acknowledged < p.Joined {
			f.fresh = append(f.fresh, p)
		}
	}
	slices.SortFunc(f.byIndex, func(a, b *Proxy) int {
		return cmp.Or(cmp.Compare(has(a), has(b)), strings.Compare(a.Node, b.Node), a.Connected.Compare(b.Connected))
	})
	slices.SortFunc(f.fresh, func(a, b *Proxy) int {
		return cmp.Or(a.Connected.Compare(b.Connected), strings.Compare(a.Node, b.Node))
	})
	return f
}

// has is the greatest index of a generation that a proxy does not hold up.
func has(p *Proxy) uint64 { return max(p.Acknowledged, p.Joined) }

// late yields the proxies that came before a generation that changed nothing,
// at the very index of its effect, and have not acknowledged that yet.
func (f *fleet) late(index uint64, since time.Time, yield func(*Proxy)) {
	for _, p := range f.fresh {
		if !p.Connected.Before(since) {
			return
		}
		if p.Joined == index {
			yield(p)
		}
	}
}

func (f *fleet) behind(index uint64, since time.Time) int {
	n, _ := slices.BinarySearchFunc(f.byIndex, index, func(p *Proxy, index uint64) int { return cmp.Compare(has(p), index) })
	f.late(index, since, func(*Proxy) { n++ })
	return n
}

func (f *fleet) names(index uint64, since time.Time) []string {
	var out []string
	for _, p := range f.byIndex {
		if has(p) >= index || len(out) == maxNames {
			break
		}
		out = append(out, truncate(p.Node, maxNode))
	}
	f.late(index, since, func(p *Proxy) {
		if len(out) < maxNames {
			out = append(out, truncate(p.Node, maxNode))
		}
	})
	slices.Sort(out)
	return out
}

// mention is a rejection that has to do with an object.
type mention struct {
	*Rejection
	// refused and good are the object's generations in what was refused and in
	// what holds instead, -1 where it is not part of that.
	refused, good int64
}

// refusalsByObject returns the rejections that mention each object, newest first.
func refusalsByObject(rejections []Rejection) map[discovery.ObjectName][]mention {
	if len(rejections) == 0 {
		return nil
	}
	out := make(map[discovery.ObjectName][]mention)
	for i := range rejections {
		r := &rejections[i]
		mentions := make(map[discovery.ObjectName]mention, len(r.Objects))
		of := func(ref discovery.ObjectRef) (discovery.ObjectName, mention) {
			name := discovery.ObjectName{Kind: ref.Kind, Key: ref.Key}
			if m, ok := mentions[name]; ok {
				return name, m
			}
			return name, mention{r, -1, -1}
		}
		for _, ref := range r.Objects {
			name, m := of(ref)
			m.refused = max(m.refused, ref.Generation)
			mentions[name] = m
		}
		for _, ref := range r.Good {
			name, m := of(ref)
			m.good = max(m.good, ref.Generation)
			mentions[name] = m
		}
		for name, m := range mentions {
			out[name] = append(out[name], m)
		}
	}
	for _, list := range out {
		slices.SortFunc(list, func(a, b mention) int {
			return cmp.Or(b.Since.Compare(a.Since), strings.Compare(a.Resource, b.Resource), strings.Compare(a.Node, b.Node))
		})
	}
	return out
}

// refusalOf returns why an object's newest generation is refused, nil if it is
// not. good is true if it is part of a configuration that holds instead of what
// another object's mistake has spoilt.
func refusalOf(o *Object, mentions []mention) (r *Refusal, good bool) {
	var other *mention
	for i := range mentions {
		m := &mentions[i]
		switch {
		case m.Held && m.good >= o.Generation:
			good = true
		case m.refused == o.Generation:
			return newRefusal(m.Rejection, ""), false
		case m.Held && !o.Held, m.refused < 0 && !m.Held, m.refused > o.Generation, other != nil:
		default:
			// An earlier generation was refused, or another object beside this
			// one: the resource stands as it was, or is held as it was.
			other = m
		}
	}
	switch {
	case other != nil:
		return newRefusal(other.Rejection, culprit(other.Rejection)), false
	case o.Held && o.Index == 0 && !good:
		return &Refusal{Held: true}, false
	}
	return nil, good
}

func newRefusal(r *Rejection, culprit string) *Refusal {
	return &Refusal{
		Resource: truncate(r.Resource, maxError), Node: truncate(r.Node, maxNode), Error: truncate(r.Error, maxError),
		Held: r.Held, Culprit: culprit,
	}
}

// culprit names what was refused: the most specific object that is not the same
// in what holds instead.
func culprit(r *Rejection) string {
	for _, ref := range r.Objects {
		if !slices.Contains(r.Good, ref) {
			return generationOf(ref)
		}
	}
	return ""
}

// truncate cuts a text that is not ours to a length in bytes, at a rune's end.
func truncate(s string, most int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= most {
		return s
	}
	const dots = "…"
	return strings.ToValidUTF8(s[:most-len(dots)], "") + dots
}
