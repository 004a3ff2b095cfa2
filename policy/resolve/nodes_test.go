package resolve

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
)

// on puts an endpoint on a node.
func on(node string, e discovery.Endpoint) discovery.Endpoint {
	e.Node = node
	return e
}

func onNodes() *discovery.EndpointSet {
	return slice("s1", at8080,
		on("n1", pod("a", "10.0.0.1", "z1", discovery.Healthy)), on("n2", pod("b", "10.0.0.2", "z1", discovery.Healthy)),
		on("n3", pod("c", "10.0.0.3", "z2", discovery.Healthy)), on("n3", pod("d", "10.0.0.4", "z2", discovery.Draining)))
}

func TestNodeModes(t *testing.T) {
	for name, c := range map[string]struct {
		change func(s *discovery.Service)
		want   policy.NodeMode
	}{
		"nothing said":                    {func(*discovery.Service) {}, policy.AnyNode},
		"Local":                           {func(s *discovery.Service) { s.LocalTraffic = true }, policy.OwnNodeOnly},
		"PreferSameNode":                  {func(s *discovery.Service) { s.Distribution = "PreferSameNode" }, policy.OwnNodeFirst},
		"PreferClose is of zones":         {func(s *discovery.Service) { s.Distribution = "PreferClose" }, policy.AnyNode},
		"PreferSameZone is of zones":      {func(s *discovery.Service) { s.Distribution = "PreferSameZone" }, policy.AnyNode},
		"Local holds over a distribution": {func(s *discovery.Service) { s.LocalTraffic, s.Distribution = true, "PreferSameNode" }, policy.OwnNodeOnly},
	} {
		t.Run(name, func(t *testing.T) {
			svc := service(http80)
			c.change(svc)
			m := BuildService(rows{
				services: []*discovery.Service{svc}, groups: []*discovery.InstanceGroup{group("ec2", maps8080)}, sets: []*discovery.EndpointSet{onNodes()},
			}.reader(t), web)
			require.Equal(t, c.want, m.Ports[0].Backings[0].Nodes)
			require.Equal(t, policy.AnyNode, m.Ports[0].Backings[1].Nodes, "instances run on no node")
			require.Equal(t, "n1", m.Ports[0].Backings[0].Zones[0].Endpoints[0].Node)
		})
	}
}

// Local narrows what a caller reaches to its own node; one that says no node reaches all.
func TestBackingFromANode(t *testing.T) {
	build := func(change func(s *discovery.Service)) *policy.Backing {
		svc := service(http80)
		change(svc)
		return &BuildService(rows{services: []*discovery.Service{svc}, sets: []*discovery.EndpointSet{onNodes()}}.reader(t), web).Ports[0].Backings[0]
	}
	local := build(func(s *discovery.Service) { s.LocalTraffic = true })
	for node, want := range map[string][]string{
		"n1": {"z1: web/a 10.0.0.1:8080 HEALTHY"},
		"n3": {"z2: web/c 10.0.0.3:8080 HEALTHY", "z2: web/d 10.0.0.4:8080 DRAINING"},
		"n4": nil,
		"":   endpointsOf(*local),
	} {
		require.Equal(t, want, endpointsOf(*local.From(node)), "node %q", node)
		require.Equal(t, want != nil, local.From(node).Usable(), "node %q", node)
	}
	prefers := build(func(s *discovery.Service) { s.Distribution = "PreferSameNode" })
	require.Equal(t, prefers, prefers.From("n4"), "it prefers and keeps nobody away")
	own, rest := policy.ZonesFrom(prefers.Zones, "n2")
	require.Equal(t, []string{"z1: web/b 10.0.0.2:8080 HEALTHY"}, endpointsOf(policy.Backing{Zones: own}))
	require.Len(t, endpointsOf(policy.Backing{Zones: rest}), 3)
}

// What keeps a Service from what it says is told, and that it is done is not.
func TestNodeFindings(t *testing.T) {
	in := func(change func(s *discovery.Service), more ...func(*rows)) []string {
		svc := service(http80)
		change(svc)
		in := rows{services: []*discovery.Service{svc}, sets: []*discovery.EndpointSet{onNodes()}}
		for _, m := range more {
			m(&in)
		}
		var out []string
		for _, f := range Validate(in.reader(t)) {
			require.Equal(t, policy.Warning, f.Severity)
			out = append(out, f.String())
		}
		return out
	}
	local := func(s *discovery.Service) { s.LocalTraffic = true }
	prefers := func(s *discovery.Service) { s.Distribution = "PreferSameNode" }
	require.Empty(t, in(local))
	require.Empty(t, in(prefers))
	require.Equal(t, []string{
		"warning: Service web/php-web: spec.trafficDistribution: PreferSameNode has no effect: internalTrafficPolicy: Local keeps callers to the pods of their own node: remove one of the two",
	}, in(func(s *discovery.Service) { local(s); prefers(s) }))

	nameless := func(in *rows) {
		in.sets = append(in.sets, slice("s2", at8080, pod("e", "10.0.0.5", "z1", discovery.Healthy), pod("f", "10.0.0.6", "z1", discovery.Healthy)))
	}
	require.Equal(t, []string{
		"warning: Service web/php-web: spec.internalTrafficPolicy: 2 endpoints name no node and answer no caller that says which node it is on, for example in EndpointSlice web/s2: write endpoints[].nodeName",
	}, in(local, nameless))
	require.Equal(t, []string{
		"warning: Service web/php-web: spec.trafficDistribution: 2 endpoints name no node and are not preferred by callers on their node, for example in EndpointSlice web/s2: write endpoints[].nodeName",
	}, in(prefers, nameless))
	require.Empty(t, in(func(*discovery.Service) {}, nameless), "nodes matter to nobody")

	both := func(in *rows) {
		in.groups = []*discovery.InstanceGroup{group("ec2", maps8080)}
		in.homes = []*discovery.Home{{Key: web, Platform: discovery.Pods}}
	}
	require.Contains(t, in(local, both),
		"warning: Service web/php-web: spec.internalTrafficPolicy: port 80: a caller whose node has no usable pod is answered by the instances, whatever their share, because failover is on (the default): "+
			"run a pod on every node that has callers, or annotate mesh.causeway.dev/failover: None for 503 instead, or OtherBacking to say that it is meant")
	require.NotContains(t, strings.Join(in(func(s *discovery.Service) { local(s); s.Failover = "OtherBacking" }, both), "\n"), "internalTrafficPolicy")
	require.Empty(t, in(func(s *discovery.Service) { local(s); s.Failover = "None" }, both, func(in *rows) { in.groups = nil }))
}
