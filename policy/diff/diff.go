// Package diff compares two states of the mesh: which requests would go
// elsewhere, which policies would be in force, which objects would become
// invalid, and which of these changes are risky. It compares the meaning of
// objects, not their text: a route that is written differently and means the
// same is no change. It is pure, as policy is.
package diff

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/policy/upstream"
)

// Diff is what would change. Its lists are sorted by what they are about.
type Diff struct {
	// Objects that somebody would create, delete or edit.
	Objects []ObjectChange `json:"objects"`
	// Changes of what the mesh does.
	Changes []Change `json:"changes"`
	// Findings that would appear or go away.
	Findings []FindingChange `json:"findings"`
	// Risks are what a person should look at before they go on.
	Risks []Risk `json:"risks"`
}

// Empty reports whether nothing would change.
func (d *Diff) Empty() bool {
	return len(d.Objects) == 0 && len(d.Changes) == 0 && len(d.Findings) == 0
}

// actsOnProxies are the kinds whose whole meaning is what proxies do. An edit of
// another one, such as of a TrafficShift's guard, acts later or elsewhere.
var actsOnProxies = []string{
	discovery.KindService, discovery.KindEndpointSlice, discovery.KindHTTPRoute, discovery.KindGRPCRoute, discovery.KindTCPRoute, discovery.KindTLSRoute,
	discovery.KindReferenceGrant, discovery.KindBackendTLSPolicy, discovery.KindTrafficPolicy, discovery.KindGatewayPolicy, discovery.KindExternalService,
}

// Without reports whether nothing would change but the text of objects whose
// whole meaning is what proxies do.
func (d *Diff) Without() bool {
	return len(d.Changes) == 0 && len(d.Findings) == 0 && !slices.ContainsFunc(d.Objects, func(o ObjectChange) bool {
		kind, _, _ := strings.Cut(o.Object, " ")
		return o.Validity != "" || !slices.Contains(actsOnProxies, kind)
	})
}

// Action is what would become of something.
type Action string

// The actions.
const (
	Added   Action = "added"
	Removed Action = "removed"
	Changed Action = "changed"
)

// ObjectChange is an object that would be created, deleted or edited.
type ObjectChange struct {
	Action Action `json:"action"`
	// Object is "Kind namespace/name".
	Object string `json:"object"`
	// Validity is "becomes invalid" or "heals" where an edit or an edit of
	// something else makes that difference, else "".
	Validity string `json:"validity,omitempty"`
}

// Change is one thing that the mesh would do differently.
type Change struct {
	Action Action `json:"action"`
	// Target is the Service, the ExternalService, the Gateway or the Mesh that it is about, as "Kind namespace/name".
	Target string `json:"target"`
	// Port of the target, 0 for all of it.
	Port uint16 `json:"port,omitempty"`
	// Callers is the namespace whose callers have routes of their own
	// (consumer routes), "" for all others.
	Callers string `json:"callers,omitempty"`
	// Host is the place at a Gateway's port: "listener/domain", or the listener for connections.
	Host string `json:"host,omitempty"`
	// Object and Rule are the route and the rule of it, "rules[0].matches[1]", "" for what is no rule's.
	Object string `json:"object,omitempty"`
	Rule   string `json:"rule,omitempty"`
	// Field is what of it changes, "" for the whole of it.
	Field string `json:"field,omitempty"`
	// Before and After are the values, "" for none.
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	// BeforeFrom and AfterFrom are the policies that the values come from.
	BeforeFrom string `json:"beforeFrom,omitempty"`
	AfterFrom  string `json:"afterFrom,omitempty"`
}

// FindingChange is a finding that would appear (added) or go away (removed).
type FindingChange struct {
	Action   Action `json:"action"`
	Severity string `json:"severity"`
	Object   string `json:"object"`
	Field    string `json:"field,omitempty"`
	Reason   string `json:"reason,omitempty"`
	Message  string `json:"message"`
	Remedy   string `json:"remedy,omitempty"`
}

// Compare returns what would change if before became after. good are the certificates that Gateways have
// if those of a state fail.
func Compare(before, after catalog.Reader, good resolve.LastGood) *Diff {
	c := comparison{before: before, after: after, good: good, d: &Diff{
		Objects: []ObjectChange{}, Changes: []Change{}, Findings: []FindingChange{}, Risks: []Risk{},
	}}
	c.services()
	c.externals()
	c.gateways()
	c.mesh()
	c.groupsTakenAway()
	c.shiftsDeleted()
	c.objects(c.findings())
	c.sort()
	return c.d
}

// comparison is one run of Compare.
type comparison struct {
	before, after catalog.Reader
	good          resolve.LastGood
	d             *Diff
}

func (c *comparison) sort() {
	d := c.d
	slices.SortStableFunc(d.Objects, func(a, b ObjectChange) int { return strings.Compare(a.Object, b.Object) })
	slices.SortStableFunc(d.Changes, func(a, b Change) int {
		return cmp.Or(strings.Compare(a.Target, b.Target), cmp.Compare(a.Port, b.Port), strings.Compare(a.Callers, b.Callers), strings.Compare(a.Host, b.Host))
	})
	slices.SortFunc(d.Risks, func(a, b Risk) int {
		return cmp.Or(strings.Compare(a.Target, b.Target), cmp.Compare(a.Port, b.Port), strings.Compare(a.Callers, b.Callers), strings.Compare(a.Host, b.Host),
			strings.Compare(string(a.Code), string(b.Code)), strings.Compare(a.Message, b.Message))
	})
	d.Risks = slices.Compact(d.Risks)
}

// keys returns the keys of both sides, sorted, each once.
func keys(sides ...map[discovery.Key]bool) []discovery.Key {
	all := make(map[discovery.Key]bool)
	for _, s := range sides {
		maps.Copy(all, s)
	}
	return slices.SortedFunc(maps.Keys(all), func(a, b discovery.Key) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
}

func serviceKeys(r catalog.Reader) map[discovery.Key]bool {
	out := make(map[discovery.Key]bool)
	for s := range catalog.Services.All(r) {
		out[s.Key] = true
	}
	return out
}

func objectKeys(r catalog.Reader, kind string) map[discovery.Key]bool {
	out := make(map[discovery.Key]bool)
	for o := range catalog.Objects.By(r, catalog.ByKind, kind) {
		out[o.Key] = true
	}
	return out
}

func (c *comparison) services() {
	for _, key := range keys(serviceKeys(c.before), serviceKeys(c.after)) {
		before, after := resolve.BuildService(c.before, key), resolve.BuildService(c.after, key)
		s := &serviceComparison{
			comparison: c, before: before, after: after,
			target: discovery.ObjectName{Kind: discovery.KindService, Key: key}.String(),
		}
		s.compare()
	}
}

func (c *comparison) externals() {
	const kind = discovery.KindExternalService
	for _, key := range keys(objectKeys(c.before, kind), objectKeys(c.after, kind)) {
		before, after := upstream.BuildExternal(c.before, key), upstream.BuildExternal(c.after, key)
		target := discovery.ObjectName{Kind: kind, Key: key}.String()
		c.facts(Change{Target: target}, externalFacts(before), externalFacts(after))
		for _, host := range lost(hostsOf(before), hostsOf(after)) {
			c.risk(Risk{Target: target, Code: HostLost, Message: "requests to " + host + " are not carried by it any more"})
		}
	}
}

func hostsOf(m *policy.External) []string {
	if m == nil {
		return nil
	}
	return m.Hosts
}

func lost(before, after []string) []string {
	return slices.DeleteFunc(slices.Clone(before), func(s string) bool { return slices.Contains(after, s) })
}

func (c *comparison) mesh() {
	mode := func(m *policy.Mesh) []fact {
		switch {
		case m.AllowAny:
			return []fact{{field: "egress.mode", value: "AllowAny"}}
		case m.CapturedAny:
			return []fact{{field: "egress.mode", value: "RegistryOnly, but for captured connections"}}
		}
		return []fact{{field: "egress.mode", value: "RegistryOnly"}}
	}
	before, after := resolve.BuildMesh(c.before), resolve.BuildMesh(c.after)
	target := policy.MeshUnit().String()
	c.facts(Change{Target: target}, mode(before), mode(after))
	if before.AllowAny && !after.AllowAny {
		c.risk(Risk{Target: target, Code: Answers404, Message: "requests to hosts that no object declares are answered 404"})
	}
	if before.CapturedAny && !after.CapturedAny {
		c.risk(Risk{Target: target, Code: Answers404, Message: "captured connections to addresses of no Service are closed"})
	}
}

// facts adds the differences of two lists of facts, in the order of the second;
// what is only in the first comes after.
func (c *comparison) facts(at Change, before, after []fact) {
	old := make(map[string]fact, len(before))
	for _, f := range before {
		old[f.field] = f
	}
	add := func(action Action, b, a fact, field string) {
		change := at
		change.Action, change.Field = action, field
		change.Before, change.After, change.BeforeFrom, change.AfterFrom = b.value, a.value, b.from, a.from
		c.d.Changes = append(c.d.Changes, change)
	}
	seen := make(map[string]bool, len(after))
	for _, a := range after {
		seen[a.field] = true
		switch b, ok := old[a.field]; {
		case !ok:
			add(Added, fact{}, a, a.field)
		case b.value != a.value || b.from != a.from:
			add(Changed, b, a, a.field)
		}
	}
	for _, b := range before {
		if !seen[b.field] {
			add(Removed, b, fact{}, b.field)
		}
	}
}
