package shift

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

const (
	// notablePathFailures is by which part of its requests a path may fail more often on the target.
	notablePathFailures = 0.01
	// newPath: if the source should have had this many requests of a path, by its share, and has had
	// hardly any, then only the target's callers know the path.
	newPath = 50
	// reasonNames is how many names of a kind stand in a reason.
	reasonNames = 3
)

// pathPair is how both sides answered a group of paths, or a whole rule.
type pathPair struct {
	outcome.Path
	// whole is true for all paths of the rule together.
	whole          bool
	target, source *outcome.PathCounts
}

// name returns the path as it is told.
func (p *pathPair) name() string {
	name := p.Group
	switch {
	case p.whole:
		return "all paths of rule " + p.Rule
	case p.Rule == "":
		return "other paths"
	case name == "":
		name = "other paths"
	}
	if p.Rule != naming.DefaultRoute {
		name += " (rule " + p.Rule + ")"
	}
	return name
}

// remedy is the part of a spec that leaves the path out. All others together, and a whole rule, have no path
// that could be ignored.
func (p *pathPair) remedy() string {
	if p.Group == "" {
		return "guard.paths.comparison: Disabled"
	}
	return fmt.Sprintf("guard.paths.ignored: [%q]", withoutMethod(p.Group))
}

// pathPairs returns what is known of paths, sorted, and of their rules without the paths that are ignored.
func (e *evaluation) pathPairs() []*pathPair {
	all := make(map[outcome.Path]*pathPair)
	rules := make(map[string]*pathPair)
	of := func(path outcome.Path) (group, rule *pathPair) {
		if group = all[path]; group == nil {
			group = &pathPair{Path: path, target: &outcome.PathCounts{}, source: &outcome.PathCounts{}}
			all[path] = group
		}
		if rule = rules[path.Rule]; rule == nil {
			rule = &pathPair{Path: outcome.Path{Rule: path.Rule}, whole: true, target: &outcome.PathCounts{}, source: &outcome.PathCounts{}}
			rules[path.Rule] = rule
		}
		return group, rule
	}
	for path, c := range e.target.Paths {
		group, rule := of(path)
		group.target = c
		if !ignores(e.guard.Paths, path.Group) {
			rule.target.Merge(c, outcome.MaxNames)
		}
	}
	for path, c := range e.source.Paths {
		group, rule := of(path)
		group.source = c
		if !ignores(e.guard.Paths, path.Group) {
			rule.source.Merge(c, outcome.MaxNames)
		}
	}
	out := make([]*pathPair, 0, len(all)+len(rules))
	for _, p := range slices.SortedFunc(maps.Keys(all), func(a, b outcome.Path) int {
		return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Group, b.Group))
	}) {
		out = append(out, all[p])
	}
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		out = append(out, rules[name])
	}
	return out
}

// paths checks each group of paths, and each rule, against the same one of the source: what fails wholly
// and is a small part of the traffic is within the bound of the whole.
func (e *evaluation) paths() Verdict {
	if p := e.guard.Paths; e.o.TCP || p != nil && p.Comparison == v1alpha1.ComparisonDisabled {
		return content
	}
	pairs := e.pathPairs()
	rules := make(map[string]*pathPair)
	for _, p := range pairs {
		if p.whole {
			rules[p.Rule] = p
		}
	}
	worst, least := content, 1.
	for _, p := range pairs {
		if p.whole && (len(rules) == 1 || p.Rule == "") || ignores(e.guard.Paths, p.Group) {
			continue // what all rules have together is checked already
		}
		v, probability := e.path(p, rules[p.Rule])
		if v.Result == Pass || v.Result == Hold && worst.Result == Fail {
			continue
		}
		// If a rule and its path fail alike, the path says more.
		if v.Result != worst.Result || probability < least && !p.whole {
			worst, least = v, probability
		}
	}
	return worst
}

// path checks one group of paths, and returns how improbable what it found is. rule is the whole rule.
func (e *evaluation) path(p, rule *pathPair) (Verdict, float64) {
	v, probability := e.pathOfAll(p, rule)
	if v.Result != Fail {
		return v, probability
	}
	l := e.alone(p.target, e.alpha/pathTests)
	if l == nil {
		return v, probability
	}
	if others, _ := e.pathOfAll(&pathPair{Path: p.Path, whole: p.whole, target: l.rest, source: p.source}, rule); others.Result == Fail {
		return v, probability
	}
	return e.doubt(l, p.name()), probability
}

// pathOfAll is path, whoever reports it.
func (e *evaluation) pathOfAll(p, rule *pathPair) (Verdict, float64) {
	const figure = "paths"
	level, suspect := e.alpha/pathTests, suspicion/pathTests
	failed, n := p.target.Failures, p.target.Requests
	k2, n2 := p.source.Failures, p.source.Requests
	absent := e.absent(n, n2)
	against := e.sourceName
	if absent {
		// Nobody asks the source for it: what comes nearest is the rest of its rule.
		k2, n2 = rule.source.Failures, rule.source.Requests
		against += " for the rest of its rule, since nobody asks them for this path"
	}
	reason := func() string {
		text := fmt.Sprintf("%s answered %s %% of %s requests to %s, %s %s %%", e.targetName, successPercent(failed, n), thousands(n), p.name(),
			against, successPercent(k2, n2))
		if !absent {
			text += " of " + thousands(n2)
		}
		return text + ": " + e.blame(p.target, func(c outcome.Code) bool { f, _ := meaningOf(e.guard).of(c); return f })
	}
	excess := notablePathFailures
	if absent {
		excess = outageRate
	}
	if pr := e.compare(failed, n, k2, n2, excess); pr < level && failed >= earlyFailures && e.enough(failed, n) {
		return Verdict{Fail, figure, reason()}, pr
	} else if pr < suspect {
		return hold(figure, "%s; not enough evidence to roll back", reason()), pr
	}
	if failed >= earlyFailures && !absent && rate(failed, n) > .5 && n2 < e.comparable() && rate(k2, n2) < rate(failed, n)/2 &&
		binomialTail(failed, n, .5) < level {
		return hold(figure, "%s. %s get too few requests for it to be compared with. If it is meant to fail, state %s",
			reason(), upper(e.sourceName), p.remedy()), level
	}
	return e.pathStatuses(p, rule, absent)
}

// pathStatuses compares the statuses of a group of paths.
func (e *evaluation) pathStatuses(p, rule *pathPair, absent bool) (Verdict, float64) {
	const figure = "paths"
	excess, ok := e.statusExcess(notablePathStatus)
	if !ok {
		return content, 1
	}
	codes := p.source.Codes
	if absent {
		codes = rule.source.Codes
	}
	d := e.differs(p.target.Codes, codes, max(excess, notablePathStatus))
	if d == nil || absent && d.within {
		return content, 1
	}
	reason := e.statusReason(d, p.name()) + e.blameAfter(p.target, d.in)
	switch level := e.alpha / pathTests; {
	case d.p >= suspicion/pathTests:
		return content, 1
	case absent && d.what != "4xx" && !strings.HasPrefix(d.what, "4"):
		return content, 1 // a new page may redirect
	case absent && d.p < level:
		return hold(figure, "%s for the rest of its rule, since nobody asks them for this path. If this is as it should be, state %s",
			reason, p.remedy()), d.p
	case d.letsIn:
		return hold(figure, "%s. Look whether %s let in whom they should not; if all is well, state %s",
			reason, e.targetName, p.remedy()), d.p
	case d.p < level && d.k >= earlyFailures && e.enough(d.k, d.n):
		return Verdict{Fail, figure, reason}, d.p
	}
	return hold(figure, "%s; not enough evidence to roll back", reason), d.p
}

// comparable is how many requests of a path the source must have had to be compared with.
func (e *evaluation) comparable() uint64 { return min(e.minRequests, newPath) }

// absent reports whether the source had hardly any requests of a path although by its share it should
// have had many: the path is new, and only what the target has served leads to it.
func (e *evaluation) absent(n, n2 uint64) bool {
	others := float64(policy.ShareTotal - e.share)
	if e.share == 0 || others == 0 || !e.alive() {
		return false
	}
	expected := float64(n) * others / float64(e.share)
	return expected >= newPath && float64(n2)*10 < expected
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// blame says which statuses of a set there were, by which endpoints, and who got them.
func (e *evaluation) blame(c *outcome.PathCounts, in func(outcome.Code) bool) string {
	var codes []string
	for _, count := range c.Codes.Commonest() {
		if in(count.Code) && len(codes) < reasonNames {
			codes = append(codes, fmt.Sprintf("%s (%s)", count.Code, thousands(count.N)))
		}
	}
	parts := []string{strings.Join(codes, ", ")}
	if len(c.Endpoints) > 0 {
		parts = append(parts, "by "+countsText(e.endpoint, c.Endpoints))
	}
	if len(c.Callers) > 0 {
		parts = append(parts, "for "+countsText("caller", c.Callers))
	}
	if parts[0] == "" {
		parts = parts[1:]
	}
	return strings.Join(parts, " ")
}

// blameAfter is blame after another text, without the codes.
func (e *evaluation) blameAfter(c *outcome.PathCounts, in func(outcome.Code) bool) string {
	if text := e.blame(c, in); text != "" {
		return ": " + text
	}
	return ""
}

// countsText names a few of what is counted, the commonest first.
func countsText(kind string, names outcome.Names) string {
	var parts []string
	for _, n := range names.Commonest() {
		if len(parts) == reasonNames {
			break
		}
		parts = append(parts, fmt.Sprintf("%s (%s)", n.Name, thousands(n.N)))
	}
	if len(names) > 1 {
		kind += "s"
	}
	text := kind + " " + strings.Join(parts, ", ")
	if more := len(names) - len(parts); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// where says on which paths most answers of a set came, by which endpoints, and who got them.
func (e *evaluation) where(paths map[outcome.Path]*outcome.PathCounts, in func(outcome.Code) bool) string {
	all := &outcome.PathCounts{}
	var groups outcome.Names
	for path, c := range paths {
		n := uint64(0)
		for _, count := range c.Codes {
			if in(count.Code) {
				n += count.N
			}
		}
		if n == 0 {
			continue
		}
		all.Merge(c, len(all.Endpoints)+outcome.MaxNames)
		pair := pathPair{Path: path}
		groups.Add(pair.name(), n, len(paths))
	}
	if len(groups) == 0 {
		return ""
	}
	return "; on " + countsText("path", groups) + e.blameAfter(all, in)
}
