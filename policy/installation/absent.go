package installation

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/policy/phrase"
)

// Group is pods of one workload that are absent for one reason.
type Group struct {
	Namespace, Workload, Reason, Remedy string
	Pods                                []string
}

// Text says who should be members and why they are not.
func (g *Group) Text() string {
	verb := "are not members"
	if len(g.Pods) == 1 {
		verb = "is no member"
	}
	return fmt.Sprintf("%s of %s/%s %s: %s", phrase.Plural(len(g.Pods), "pods"), g.Namespace, g.Workload, verb, g.Reason)
}

// Grouped joins pods of one workload.
func Grouped(pods []Pod) []*Group {
	var out []*Group
	for i := range pods {
		p := &pods[i]
		at := slices.IndexFunc(out, func(g *Group) bool {
			return g.Namespace == p.Namespace && g.Workload == p.Workload && g.Reason == p.Reason
		})
		if at < 0 {
			at = len(out)
			out = append(out, &Group{Namespace: p.Namespace, Workload: p.Workload, Reason: p.Reason, Remedy: p.Remedy})
		}
		out[at].Pods = append(out[at].Pods, p.Name)
	}
	slices.SortStableFunc(out, func(a, b *Group) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Workload, b.Workload))
	})
	return out
}

// Unconnected returns those of the injected pods whose Envoy is none of the connected ones, with the reason.
func Unconnected(injected []Pod, connected []string) []Pod {
	known := make(map[string]bool, len(connected))
	for _, id := range connected {
		known[id[strings.LastIndexByte(id, '~')+1:]] = true
	}
	var out []Pod
	for _, p := range injected {
		if !known[p.ID] {
			p.Reason = "it is injected and not connected to the control plane"
			p.Remedy = fmt.Sprintf("kubectl -n %s logs %s -c causeway-proxy says why", p.Namespace, p.Name)
			out = append(out, p)
		}
	}
	return out
}

// Print writes results as lines of at most 80 columns: the verdict, the fact, and below it the remedy.
func Print(t *phrase.Table, results []Result) {
	for _, r := range results {
		text := fmt.Sprintf("  %-10s %s\n", r.Verdict, r.Fact)
		if r.Remedy != "" {
			text += fmt.Sprintf("             %s\n", r.Remedy)
		}
		lines := phrase.Wrap(text, width)
		t.Text(lines[:len(lines)-1])
	}
	switch n := count(results, Failed); {
	case n > 0:
		t.Text(fmt.Sprintf("\n%d failed", n))
	case count(results, Warning) > 0:
		t.Text(fmt.Sprintf("\nnothing failed; %s", phrase.Plural(count(results, Warning), "warnings")))
	default:
		t.Text("\nit works")
	}
}

// width of the narrowest terminal in use.
const width = 80

func count(results []Result, v Verdict) int {
	n := 0
	for _, r := range results {
		if r.Verdict == v {
			n++
		}
	}
	return n
}
