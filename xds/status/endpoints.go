package status

import (
	"fmt"
	"slices"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/xds/server"
)

// Endpoint is one endpoint of one port of a Service.
type Endpoint struct {
	Service  string `json:"service"`
	Port     uint16 `json:"port"`
	Platform string `json:"platform"`
	// Share of the traffic that the platform gets, in percent.
	Share   float64 `json:"share"`
	ID      string  `json:"id"`
	Address string  `json:"address"`
	Zone    string  `json:"zone"`
	// Node is the Kubernetes node that a pod runs on.
	Node   string `json:"node,omitempty"`
	Spot   bool   `json:"spot,omitempty"`
	Health string `json:"health"`
	Reason string `json:"reason,omitempty"`
}

// Service is a Service and all its endpoints.
type Service struct {
	Service   string `json:"service"`
	Home      string `json:"home"`
	HomeCause string `json:"homeBecause"`
	// Shift is the TrafficShift that is under way, as "namespace/name", with its cohort's key.
	Shift  string `json:"shift,omitempty"`
	Cohort string `json:"cohort,omitempty"`
	// Nodes is what the Service says of its callers' nodes, nil for nothing.
	Nodes    *Nodes   `json:"nodes,omitempty"`
	Findings []string `json:"findings,omitempty"`
	// Failover has, for each port with two backings, whether they stand in for each other.
	Failover []Failover `json:"failover,omitempty"`
	// Groups say what is wrong with the reading of the Service's InstanceGroups.
	Groups    []string   `json:"groups,omitempty"`
	Endpoints []Endpoint `json:"endpoints"`
}

// Failover is whether the backings of a port stand in for each other, and why.
type Failover struct {
	Port     uint16 `json:"port"`
	Failover bool   `json:"failover"`
	Because  string `json:"because"`
}

// Services returns the Services that are in force, or the named one, with the findings of the catalog r
// about them. proxies are the connected ones.
func Services(r, inForce catalog.Reader, proxies []server.ProxyStatus, only string) []Service {
	out := []Service{}
	var models []*policy.Service
	var about []discovery.ObjectName
	for svc := range catalog.Services.All(inForce) {
		if only != "" && svc.Key.String() != only {
			continue
		}
		m := resolve.BuildService(inForce, svc.Key)
		if m == nil {
			continue
		}
		models = append(models, m)
		for _, p := range m.Provenance {
			about = append(about, discovery.ObjectName{Kind: p.Kind, Key: p.Key})
		}
	}
	var found []policy.Finding
	if only == "" {
		found = resolve.Validate(r)
	} else {
		found = resolve.ValidateOnly(r, about)
	}
	findings := make(map[string][]string)
	for _, f := range found {
		findings[f.Object.String()] = append(findings[f.Object.String()], f.String())
	}
	for _, m := range models {
		v := Service{
			Service: m.Key.String(), Home: m.Home.String(), HomeCause: m.HomeBecause, Endpoints: []Endpoint{},
		}
		if m.Shift != nil {
			v.Shift = m.Shift.Object.Key.String()
			if m.Shift.Cohort != nil {
				v.Cohort = m.Shift.Cohort.String()
			}
		}
		for _, p := range m.Provenance {
			for _, f := range findings[p.String()] { // an object may stand in the provenance twice
				if !slices.Contains(v.Findings, f) {
					v.Findings = append(v.Findings, f)
				}
			}
		}
		v.Nodes = nodesOf(m, proxies)
		v.Groups = groupNotes(r, m.Key)
		for i := range m.Ports {
			p := &m.Ports[i]
			if len(p.Backings) > 1 {
				v.Failover = append(v.Failover, Failover{p.Number, p.Failover, p.FailoverBecause})
			}
			for j, b := range p.Backings {
				for _, z := range b.Zones {
					for _, e := range z.Endpoints {
						v.Endpoints = append(v.Endpoints, Endpoint{
							Service: v.Service, Port: p.Number, Platform: b.Platform.String(),
							Share: float64(p.Shares[j]) / policy.ShareTotal * 100,
							ID:    e.ID, Address: fmt.Sprintf("%s:%d", e.Address, e.Port), Zone: z.Name, Node: e.Node, Spot: e.Spot,
							Health: e.Health.String(), Reason: reason(e),
						})
					}
				}
			}
		}
		out = append(out, v)
	}
	return out
}

// groupNotes returns, for each InstanceGroup of a Service, why it has no
// instances, or why its instances are not from the newest answer.
func groupNotes(r catalog.Reader, service discovery.Key) []string {
	var out []string
	say := func(g discovery.Key, format string, args ...any) {
		out = append(out, fmt.Sprintf("InstanceGroup %s: %s", g, fmt.Sprintf(format, args...)))
	}
	for g := range catalog.InstanceGroups.Of(r, service) {
		st, ok := catalog.GroupStatuses.Get(r, g.Key.String())
		if !ok {
			continue
		}
		_, known := catalog.Instances.Get(r, g.Key.String())
		switch {
		case st.Error != "" && !known:
			say(g.Key, "its instances are not known, and proxies keep those that they have: %s", st.Error)
		case st.Error != "":
			say(g.Key, "what EC2 last told stays in force: %s", st.Error)
		case st.Empty != "":
			say(g.Key, "it has no instance: %s", st.Empty)
		case st.ScalingError != "":
			say(g.Key, "%s", st.ScalingError)
		}
		if st.GuardHeld > 0 {
			say(g.Key, "the never-empty guard %s", st.GuardReason)
		}
	}
	if queue, ok := catalog.Sources.Get(r, discovery.QueueSource); ok && queue.Note != "" && len(out) > 0 {
		out = append(out, "SQS: "+queue.Note)
	}
	return out
}

func reason(e policy.Endpoint) string {
	if e.Reason == "" && e.Health == discovery.Healthy {
		return "in service"
	}
	return e.Reason
}
