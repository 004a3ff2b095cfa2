package observe

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
)

func route(name string) discovery.ObjectName {
	return discovery.ObjectName{Kind: "HTTPRoute", Key: discovery.Key{Namespace: "web", Name: name}}
}

func refOf(name string, generation int64) discovery.ObjectRef {
	return discovery.ObjectRef{Kind: "HTTPRoute", Key: discovery.Key{Namespace: "web", Name: name}, Generation: generation}
}

// at is a moment of the tests' clock, in seconds.
func at(seconds float64) time.Time {
	return time.Unix(1_800_000_000, 0).Add(time.Duration(seconds * float64(time.Second)))
}

// lacks is the definition that Summarize must meet: the proxy was there when
// the generation went out and has not acknowledged it.
func lacks(p Proxy, index uint64, since time.Time) bool {
	there := p.Joined < index || (p.Joined == index && p.Connected.Before(since))
	return there && p.Acknowledged < index
}

// What is found by searching is what looking at every proxy for every object finds.
func TestSummarizeEqualsDefinition(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 7))
		var in Local
		for i := range r.IntN(12) {
			in.Proxies = append(in.Proxies, Proxy{
				Node: fmt.Sprint("p", i), Joined: r.Uint64N(8), Acknowledged: r.Uint64N(8), Connected: at(float64(r.IntN(8))),
			})
		}
		for i := range r.IntN(12) {
			in.Objects = append(in.Objects, Object{Name: route(fmt.Sprint(i)), Generation: 1, Index: r.Uint64N(8), Since: at(float64(r.IntN(8)))})
		}
		s := Summarize(in)
		require.Equal(t, len(in.Proxies), s.Proxies)
		for _, o := range in.Objects {
			got := s.Objects[o.Name]
			var nodes []string
			for _, p := range in.Proxies {
				if o.Index > 0 && lacks(p, o.Index, o.Since) {
					nodes = append(nodes, p.Node)
				}
			}
			require.Equal(t, len(nodes), got.Laggards, "seed %d: %+v of %+v", seed, o, in.Proxies)
			require.Equal(t, o.Index == 0 || len(nodes) > 0, got.State == Pending, "seed %d", seed)
			require.Len(t, got.Nodes, min(len(nodes), maxNames))
			require.True(t, slices.IsSorted(got.Nodes))
			for _, n := range got.Nodes {
				require.Contains(t, nodes, n)
			}
		}
	}
}

// The order of the input makes no difference.
func TestSummarizeIsDeterministic(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	in := Local{Index: 9}
	for i := range 40 {
		in.Proxies = append(in.Proxies, Proxy{Node: fmt.Sprint("p", i%30), Joined: r.Uint64N(5), Acknowledged: r.Uint64N(9), Connected: at(float64(i))})
		in.Objects = append(in.Objects, Object{Name: route(fmt.Sprint(i)), Generation: 2, Index: r.Uint64N(9), Since: at(5)})
		in.Rejections = append(in.Rejections, Rejection{
			Resource: fmt.Sprint("CDS ", i), Node: "p1", Error: "no", Since: at(1), Objects: []discovery.ObjectRef{refOf(fmt.Sprint(i%7), 2)},
		})
	}
	want := Summarize(in)
	for range 20 {
		r.Shuffle(len(in.Proxies), func(i, j int) { in.Proxies[i], in.Proxies[j] = in.Proxies[j], in.Proxies[i] })
		r.Shuffle(len(in.Objects), func(i, j int) { in.Objects[i], in.Objects[j] = in.Objects[j], in.Objects[i] })
		r.Shuffle(len(in.Rejections), func(i, j int) {
			in.Rejections[i], in.Rejections[j] = in.Rejections[j], in.Rejections[i]
		})
		require.Equal(t, want, Summarize(in))
	}
}

// Envoy's words go to the object that is the cause, and not to those that are
// in force as they were.
func TestRefusals(t *testing.T) {
	refused := Rejection{
		Resource: "VHDS http/php-web.web:80", Node: "sidecar~web~cron~i-1", Error: "no such cluster", Since: at(10), Held: true,
		Objects: []discovery.ObjectRef{refOf("edited", 2), refOf("neighbour", 1)},
		Good:    []discovery.ObjectRef{refOf("edited", 1), refOf("neighbour", 1), refOf("removed", 1)},
	}
	alone := Rejection{
		Resource: "CDS new", Node: "sidecar~web~cron~i-1", Error: "bad", Since: at(10),
		Objects: []discovery.ObjectRef{refOf("new", 1)},
	}
	for name, c := range map[string]struct {
		object     Object
		rejections []Rejection
		want       ObjectSummary
	}{
		"the cause": {
			Object{Name: route("edited"), Generation: 2, Held: true},
			[]Rejection{refused},
			ObjectSummary{Generation: 2, State: Refused, Refusal: &Refusal{Resource: refused.Resource, Node: refused.Node, Error: "no such cluster", Held: true}},
		},
		"beside the cause, in force as it was": {
			Object{Name: route("neighbour"), Generation: 1, Index: 3, Held: true},
			[]Rejection{refused},
			ObjectSummary{Generation: 1, State: Acknowledged, Index: 3},
		},
		"beside the cause, after a restart": {
			Object{Name: route("neighbour"), Generation: 1, Held: true},
			[]Rejection{refused},
			ObjectSummary{Generation: 1, State: Acknowledged, Index: 7},
		},
		"edited while it is held": {
			Object{Name: route("neighbour"), Generation: 2, Held: true},
			[]Rejection{refused},
			ObjectSummary{Generation: 2, State: Refused, Refusal: &Refusal{
				Resource: refused.Resource, Node: refused.Node, Error: "no such cluster", Held: true, Culprit: "HTTPRoute web/edited (generation 2)",
			}},
		},
		"the cause, edited and not mended": {
			Object{Name: route("edited"), Generation: 3, Held: true},
			[]Rejection{refused},
			ObjectSummary{Generation: 3, State: Refused, Refusal: &Refusal{
				Resource: refused.Resource, Node: refused.Node, Error: "no such cluster", Held: true, Culprit: "HTTPRoute web/edited (generation 2)",
			}},
		},
		"new beside the cause": {
			Object{Name: route("another"), Generation: 1, Held: true},
			[]Rejection{refused},
			ObjectSummary{Generation: 1, State: Refused, Refusal: &Refusal{Held: true}},
		},
		"in force elsewhere": {
			Object{Name: route("another"), Generation: 1, Index: 2, Held: true},
			[]Rejection{refused},
			ObjectSummary{Generation: 1, State: Acknowledged, Index: 2},
		},
		"without anything good to go back to": {
			Object{Name: route("new"), Generation: 1, Index: 5},
			[]Rejection{alone},
			ObjectSummary{Generation: 1, State: Refused, Index: 5, Refusal: &Refusal{Resource: "CDS new", Node: alone.Node, Error: "bad"}},
		},
		"edited, and the resource stands": {
			Object{Name: route("new"), Generation: 2, Index: 6},
			[]Rejection{alone},
			ObjectSummary{Generation: 2, State: Refused, Index: 6, Refusal: &Refusal{
				Resource: "CDS new", Node: alone.Node, Error: "bad", Culprit: "HTTPRoute web/new (generation 1)",
			}},
		},
		"two mistakes: the newest word": {
			Object{Name: route("edited"), Generation: 2, Held: true},
			[]Rejection{refused, {Resource: "CDS x", Error: "later", Since: at(11), Held: true, Objects: []discovery.ObjectRef{refOf("edited", 2)}}},
			ObjectSummary{Generation: 2, State: Refused, Refusal: &Refusal{Resource: "CDS x", Error: "later", Held: true}},
		},
		"a later generation was refused, of which this replica hears soon": {
			Object{Name: route("new"), Generation: 0, Index: 4},
			[]Rejection{alone},
			ObjectSummary{State: Acknowledged, Index: 4},
		},
		"somebody else's": {
			Object{Name: route("other"), Generation: 1, Index: 4},
			[]Rejection{refused, alone},
			ObjectSummary{Generation: 1, State: Acknowledged, Index: 4},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := Summarize(Local{Index: 7, Objects: []Object{c.object}, Rejections: c.rejections})
			require.Equal(t, c.want, s.Objects[c.object.Name])
		})
	}
}

// What a proxy says is not ours: it is bounded and made text.
func TestTruncate(t *testing.T) {
	require.Equal(t, "short", truncate("short", 10))
	long := truncate(strings.Repeat("ü", 100), 11)
	require.Equal(t, "üüüü…", long)
	require.Equal(t, "a\uFFFDb", truncate("a\xffb", 10))
}

func refs(r ...discovery.ObjectRef) []discovery.ObjectRef { return r }
