package observe

import (
	"cmp"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/xds/observe/observev1"
)

// Bounds of what is told of one group of paths, whatever replicas say.
const (
	maxRule  = 512
	maxGroup = 256
	maxCodes = 64
)

func comparePaths(a, b outcome.PathKey) int {
	return cmp.Or(
		cmp.Compare(a.Service.Namespace, b.Service.Namespace), cmp.Compare(a.Service.Name, b.Service.Name),
		discovery.CompareBackings(a.Platform, b.Platform), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Group, b.Group),
	)
}

func codesTo(codes outcome.Codes) []*observev1.CodeCount {
	out := make([]*observev1.CodeCount, len(codes))
	for i, c := range codes {
		out[i] = &observev1.CodeCount{Code: uint32(c.Code), Count: c.N}
	}
	return out
}

func codesFrom(codes []*observev1.CodeCount) outcome.Codes {
	var out outcome.Codes
	for _, c := range codes[:min(len(codes), maxCodes)] {
		out.Add(outcome.Code(min(c.GetCode(), 1<<16-1)), clamp(c.GetCount())) //nolint:gosec // bounded
	}
	return out
}

func namesTo(names outcome.Names) []*observev1.NameCount {
	out := make([]*observev1.NameCount, len(names))
	for i, n := range names {
		out[i] = &observev1.NameCount{Name: truncate(n.Name, maxNode), Count: n.N}
	}
	return out
}

func namesFrom(names []*observev1.NameCount) outcome.Names {
	var out outcome.Names
	for _, n := range names[:min(len(names), outcome.MaxNames)] {
		out.Add(truncate(n.GetName(), maxNode), clamp(n.GetCount()), outcome.MaxNames)
	}
	return out
}

func pathTo(key outcome.PathKey, p *outcome.PathCounts) *observev1.PathCounts {
	return &observev1.PathCounts{
		Backing: backingTo(outcome.Key{Service: key.Service, Platform: key.Platform}),
		Rule:    truncate(key.Rule, maxRule), Group: truncate(key.Group, maxGroup),
		Requests: p.Requests, Failures: p.Failures, Codes: codesTo(p.Codes),
		Endpoints: namesTo(p.Endpoints), Callers: namesTo(p.Callers),
	}
}

// pathFrom returns what a message counts of.
func pathFrom(p *observev1.PathCounts) (outcome.PathKey, bool) {
	backing, ok := backingFrom(p.GetBacking())
	return outcome.PathKey{
		Service: discovery.Key{Namespace: backing.Service.Namespace, Name: backing.Service.Name}, Platform: backing.Platform,
		Path: outcome.Path{Rule: truncate(p.GetRule(), maxRule), Group: truncate(p.GetGroup(), maxGroup)},
	}, ok
}

func pathCountsFrom(p *observev1.PathCounts) *outcome.PathCounts {
	return &outcome.PathCounts{
		Requests: clamp(p.GetRequests()), Failures: clamp(p.GetFailures()), Codes: codesFrom(p.GetCodes()),
		Endpoints: namesFrom(p.GetEndpoints()), Callers: namesFrom(p.GetCallers()),
	}
}
