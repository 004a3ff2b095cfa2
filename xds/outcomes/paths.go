package outcomes

import (
	"slices"
	"strings"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/policy/outcome"
)

// Bounds of the groups of paths that a recorder learns of one Service.
const (
	// maxRules is how many rules have a group of all their other paths, and maxGroups how many groups
	// there are besides.
	maxRules  = 16
	maxGroups = outcome.MaxPaths - maxRules
	// maxOwned and maxOwnedRules are how many of them one proxy may cause. A proxy that asks for arbitrary
	// paths leaves room for others.
	maxOwned      = maxGroups * 2 / 3
	maxOwnedRules = maxRules * 2 / 3
	// maxSiblings is how many groups differ in their last segment only; further ones are that segment's "*".
	maxSiblings = 12
	// admittedAt is how many requests a path needs, within a few minutes, for a group of its own
	// once a quarter of the groups are there; maxCandidates are counted for that.
	admittedAt    = 10
	maxCandidates = 256
	// maxEvictions is how many groups give way to busier ones within a minute:
	// each time all counts are told anew.
	maxEvictions = 4
	maxRuleName  = 256
)

// paths are the groups that the paths of one Service fall into. Both backings
// have the same ones, or they could not be compared.
type paths struct {
	groups map[outcome.Path]*group
	// candidates have no group of their own yet.
	candidates map[outcome.Path]int
	// rules by name.
	rules      map[string]*group
	owned      map[string]int
	ownedRules map[string]int
	siblings   map[outcome.Path]int
	// backings are those of which anything was counted.
	backings []discovery.BackingName
	// minute is when the groups were last looked through, and evictions how many have gone since.
	minute    time.Time
	evictions int
}

// group is what is known of one, or of a rule.
type group struct {
	// owner is the proxy that reported it first.
	owner string
	// recent counts its requests of late: it is halved every minute.
	recent int
}

func newPaths() *paths {
	return &paths{
		groups: make(map[outcome.Path]*group), candidates: make(map[outcome.Path]int), rules: make(map[string]*group),
		owned: make(map[string]int), ownedRules: make(map[string]int), siblings: make(map[outcome.Path]int),
	}
}

// parentOf returns the group of all paths that differ from one in the last segment only, "" for
// none: the first segment tells applications apart.
func parentOf(group string) string {
	i := strings.LastIndexByte(group, '/')
	if i <= strings.IndexByte(group, '/') {
		return ""
	}
	return group[:i+1] + variable
}

// of returns the path under which a request is counted, and the paths that are no longer counted because
// they made room for it.
func (p *paths) of(rule, name, node string, now time.Time) (path outcome.Path, gone []outcome.Path) {
	if now.Sub(p.minute) >= time.Minute {
		p.pass(now)
	}
	r := p.rules[rule]
	if r == nil {
		if len(p.rules) >= maxRules || p.ownedRules[node] >= maxOwnedRules {
			var made bool
			if gone, made = p.forgetRule(node); !made {
				return outcome.Path{}, nil
			}
		}
		r = &group{owner: node}
		p.rules[strings.Clone(rule)] = r
		p.ownedRules[node]++
	}
	r.recent++
	path = outcome.Path{Rule: rule, Group: name}
	if g := p.groups[path]; g != nil {
		g.recent++
		return path, gone
	}
	if parent := parentOf(name); parent != "" && parent != name {
		up := outcome.Path{Rule: rule, Group: parent}
		if p.siblings[up] >= maxSiblings {
			path = up
			if g := p.groups[path]; g != nil {
				g.recent++
				return path, gone
			}
		}
	}
	other := outcome.Path{Rule: rule}
	n := p.candidates[path] + 1
	switch {
	case len(p.groups) >= maxGroups/4 && n < admittedAt:
		p.candidate(path, n)
		return other, gone
	case p.owned[node] >= maxOwned, len(p.groups) >= maxGroups:
		// A proxy that has used up its part evicts only its own groups: where one proxy has all the traffic,
		// arbitrary paths of that proxy must not keep out the paths that matter later.
		least := p.evict(n, node, p.owned[node] >= maxOwned)
		if least == nil {
			p.candidate(path, n)
			return other, gone
		}
		gone = append(gone, *least)
	}
	delete(p.candidates, path)
	path = own(path)
	p.groups[path] = &group{owner: node, recent: n}
	p.owned[node]++
	p.siblings[outcome.Path{Rule: path.Rule, Group: parentOf(path.Group)}]++
	return path, gone
}

// own returns a path that keeps no message in memory.
func own(path outcome.Path) outcome.Path {
	return outcome.Path{Rule: strings.Clone(path.Rule), Group: strings.Clone(path.Group)}
}

// candidate counts the requests of a path without a group of its own.
func (p *paths) candidate(path outcome.Path, n int) {
	if _, known := p.candidates[path]; !known {
		if len(p.candidates) >= maxCandidates {
			clear(p.candidates)
		}
		path = own(path)
	}
	p.candidates[path] = n
}

// pass forgets a part of what was asked before.
func (p *paths) pass(now time.Time) {
	p.minute, p.evictions = now, 0
	for _, g := range p.groups {
		g.recent /= 2
	}
	for _, r := range p.rules {
		r.recent /= 2
	}
	for path, n := range p.candidates {
		if n /= 2; n == 0 {
			delete(p.candidates, path)
		} else {
			p.candidates[path] = n
		}
	}
}

// forgetRule makes room for one more rule of a proxy. It removes a rule with all its groups that had no request for
// minutes. Otherwise a route that was renamed or deleted would keep its place for ever.
func (p *paths) forgetRule(node string) (gone []outcome.Path, made bool) {
	own := p.ownedRules[node] >= maxOwnedRules
	name := ""
	for rule, r := range p.rules {
		if r.recent == 0 && (!own || r.owner == node) && (!made || rule < name) {
			name, made = rule, true
		}
	}
	if !made {
		return nil, false
	}
	if owner := p.rules[name].owner; p.ownedRules[owner] > 1 {
		p.ownedRules[owner]--
	} else {
		delete(p.ownedRules, owner)
	}
	delete(p.rules, name)
	gone = append(gone, outcome.Path{Rule: name})
	for path := range p.groups {
		if path.Rule == name {
			p.drop(path)
			gone = append(gone, path)
		}
	}
	return gone, true
}

// evict removes the group with the fewest requests, if it has fewer than n. A proxy that has used up its part evicts
// one of its own.
func (p *paths) evict(n int, node string, own bool) *outcome.Path {
	var least outcome.Path
	found := false
	for path, g := range p.groups {
		if own && g.owner != node {
			continue
		}
		if g.recent < n || found && g.recent == n && (path.Rule < least.Rule || path.Rule == least.Rule && path.Group < least.Group) {
			least, n, found = path, g.recent, true
		}
	}
	if !found || p.evictions >= maxEvictions {
		return nil
	}
	p.evictions++
	p.drop(least)
	return &least
}

func (p *paths) drop(path outcome.Path) {
	owner := p.groups[path].owner
	delete(p.groups, path)
	if p.owned[owner]--; p.owned[owner] <= 0 {
		delete(p.owned, owner)
	}
	up := outcome.Path{Rule: path.Rule, Group: parentOf(path.Group)}
	if p.siblings[up]--; p.siblings[up] <= 0 {
		delete(p.siblings, up)
	}
}

// ruleOf returns the name of the rule that a route belongs to, "HTTPRoute/web/shop/0": a rule has a route for each
// of its matches, and several by what is done with their requests.
func ruleOf(route string) string {
	name, _ := naming.CutVariant(route)
	name = naming.RuleOf(name)
	return name[:min(len(name), maxRuleName)]
}

// askedFor returns the path that the caller has asked for, whatever was sent on.
func askedFor(r *accesslogv3.HTTPRequestProperties) string {
	if p := r.GetOriginalPath(); p != "" {
		return p
	}
	return r.GetPath()
}

// codeOf returns the status of the application's answer. It returns false for an answer of the proxy
// itself that is no failure: it says nothing about the application.
func codeOf(e *accesslogv3.HTTPAccessLogEntry, v result) (outcome.Code, bool) {
	r := e.GetResponse()
	if r.GetResponseCodeDetails() != viaUpstream {
		return outcome.NoAnswer, v.failed
	}
	if s, ok := grpcStatus(r); ok {
		return outcome.GRPCCode(s), true
	}
	if v.failed && v.cause != outcome.ServerError {
		return outcome.NoAnswer, true // it began well and broke off
	}
	return outcome.HTTPCode(r.GetResponseCode().GetValue()), true
}

// path counts an outcome by its status and by the requested path.
func (b *batch) path(t target, v result, e *accesslogv3.HTTPAccessLogEntry) {
	common := e.GetCommonProperties()
	code, ok := codeOf(e, v)
	if v.abandoned || !ok || failedOver(t, common, v) {
		return
	}
	if c := b.counts(t.Key); c != nil {
		c.Codes.Add(code, 1)
	}
	p := b.paths[t.Service]
	if p == nil {
		p = newPaths()
		b.paths[t.Service] = p
	}
	path, gone := p.of(ruleOf(common.GetRouteName()), groupFor(e.GetRequest()), b.id, b.now)
	for _, gone := range gone {
		for _, backing := range p.backings {
			key := outcome.PathKey{Service: t.Service, Platform: backing, Path: gone}
			delete(b.totals.Paths, key)
			delete(b.seats, seatsKey{PathKey: key, kind: callers})
			delete(b.seats, seatsKey{PathKey: key, kind: endpoints})
		}
	}
	if !slices.Contains(p.backings, t.Platform) {
		p.backings = append(p.backings, t.Platform)
	}
	key := outcome.PathKey{Service: t.Service, Platform: t.Platform, Path: path}
	c := b.totals.Paths[key]
	if c == nil {
		c = &outcome.PathCounts{}
		b.totals.Paths[key] = c
	}
	c.Requests++
	c.Codes.Add(code, 1)
	if v.failed {
		c.Failures++
	}
	if !v.failed && code.Good() {
		return
	}
	b.name(seatsKey{PathKey: key, kind: callers}, &c.Callers, b.id, 1)
	if address, ok := addressOf(common.GetUpstreamRemoteAddress()); ok {
		if id, _, ok := b.opts.Lookup(t.Service, t.Port, address); ok {
			b.name(seatsKey{PathKey: key, kind: endpoints}, &c.Endpoints, id, 1)
		}
	}
}
