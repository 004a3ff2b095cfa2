package main

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/ec2"
	"github.com/causeway-mesh/causeway/policy"
)

// endpointView is one endpoint of one port of a Service.
type endpointView struct {
	Service  string `json:"service"`
	Port     uint16 `json:"port"`
	Platform string `json:"platform"`
	// Share of the traffic that the platform gets, in percent.
	Share   float64 `json:"share"`
	ID      string  `json:"id"`
	Address string  `json:"address"`
	Zone    string  `json:"zone"`
	Spot    bool    `json:"spot,omitempty"`
	Health  string  `json:"health"`
	Reason  string  `json:"reason,omitempty"`
}

// serviceView is a Service and all its endpoints.
type serviceView struct {
	Service   string `json:"service"`
	Home      string `json:"home"`
	HomeCause string `json:"homeBecause"`
	// Shift is the TrafficShift that is under way, as "namespace/name", with its cohort's key.
	Shift    string   `json:"shift,omitempty"`
	Cohort   string   `json:"cohort,omitempty"`
	Findings []string `json:"findings,omitempty"`
	// Failover says of each port that has two backings whether they stand in for each other.
	Failover []failoverView `json:"failover,omitempty"`
	// Groups say what is wrong with the reading of the Service's InstanceGroups.
	Groups    []string       `json:"groups,omitempty"`
	Endpoints []endpointView `json:"endpoints"`
}

// failoverView is whether the backings of a port stand in for each other, and why.
type failoverView struct {
	Port     uint16 `json:"port"`
	Failover bool   `json:"failover"`
	Because  string `json:"because"`
}

// serviceViews returns the Services of the catalog, or the one that is named.
func serviceViews(r catalog.Reader, only string) []serviceView {
	out := []serviceView{}
	findings := make(map[string][]string)
	for _, f := range policy.Validate(r) {
		findings[f.Object.String()] = append(findings[f.Object.String()], f.String())
	}
	for svc := range catalog.Services.All(r) {
		if only != "" && svc.Key.String() != only {
			continue
		}
		m := policy.BuildService(r, svc.Key)
		if m == nil {
			continue
		}
		v := serviceView{
			Service: svc.Key.String(), Home: m.Home.String(), HomeCause: m.HomeBecause, Endpoints: []endpointView{},
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
		v.Groups = groupNotes(r, svc.Key)
		for i := range m.Ports {
			p := &m.Ports[i]
			if len(p.Backings) > 1 {
				v.Failover = append(v.Failover, failoverView{p.Number, p.Failover, p.FailoverBecause})
			}
			for j, b := range p.Backings {
				for _, z := range b.Zones {
					for _, e := range z.Endpoints {
						v.Endpoints = append(v.Endpoints, endpointView{
							Service: v.Service, Port: p.Number, Platform: b.Platform.String(),
							Share: float64(p.Shares[j]) / policy.ShareTotal * 100,
							ID:    e.ID, Address: fmt.Sprintf("%s:%d", e.Address, e.Port), Zone: z.Name, Spot: e.Spot,
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

// groupNotes says of each InstanceGroup of a Service why it has no instances, or
// why what is known of them is not of the newest answer.
func groupNotes(r catalog.Reader, service discovery.Key) []string {
	var out []string
	say := func(g discovery.Key, format string, args ...any) {
		out = append(out, fmt.Sprintf("InstanceGroup %s: %s", g, fmt.Sprintf(format, args...)))
	}
	for g := range catalog.InstanceGroups.By(r, catalog.ByService, service.String()) {
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
	if queue, ok := catalog.Sources.Get(r, ec2.QueueSource); ok && queue.Note != "" && len(out) > 0 {
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

func endpointsCommand() *cobra.Command {
	var output outputFlag
	var admin adminFlag
	var namespace namespaceFlag
	c := &cobra.Command{
		Use:   "endpoints [NAMESPACE/SERVICE]",
		Short: "Who answers for a Service: platform, zone, health and the reason for it",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{}
			if len(args) == 1 {
				key, err := namespace.key(args[0], "Service")
				if err != nil {
					return err
				}
				query.Set("service", key.String())
			}
			var services []serviceView
			if err := admin.do(cmd.Context(), http.MethodGet, "/v1/endpoints", query, &services); err != nil {
				return err
			}
			if len(args) == 1 && len(services) == 0 {
				return fmt.Errorf("there is no Service %s: 'causeway endpoints' lists them all", query.Get("service"))
			}
			if len(args) == 0 && namespace.namespace != "" {
				services = slices.DeleteFunc(services, func(s serviceView) bool { return !strings.HasPrefix(s.Service, namespace.namespace+"/") })
			}
			return output.print(cmd, services, func(t *table) {
				for i, s := range services {
					if i > 0 {
						t.row(" ")
					}
					t.row(fmt.Sprintf("%s   home: %s (%s)", s.Service, s.Home, s.HomeCause))
					if s.Shift != "" {
						cohort := "every request on its own"
						if s.Cohort != "" {
							cohort = "cohorts by " + s.Cohort
						}
						t.row(fmt.Sprintf("  shifted by TrafficShift %s, %s", s.Shift, cohort))
					}
					for _, f := range s.Failover {
						mode := "to the other backing"
						if !f.Failover {
							mode = "none"
						}
						t.row(fmt.Sprintf("  port %d failover: %s (%s)", f.Port, mode, f.Because))
					}
					for _, f := range slices.Concat(s.Findings, s.Groups) {
						t.row("  " + f)
					}
					t.row("PORT", "PLATFORM", "SHARE", "ID", "ADDRESS", "ZONE", "SPOT", "HEALTH", "REASON")
					for _, e := range s.Endpoints {
						spot := ""
						if e.Spot {
							spot = "spot"
						}
						t.row(fmt.Sprint(e.Port), e.Platform, fmt.Sprintf("%g%%", e.Share), e.ID, e.Address, e.Zone, spot, e.Health, e.Reason)
					}
				}
			})
		},
	}
	c.ValidArgsFunction = completer(&namespace, names(&admin, "/v1/endpoints", func(services []serviceView) []discovery.Key {
		keys := make([]discovery.Key, len(services))
		for i := range services {
			keys[i].Namespace, keys[i].Name, _ = strings.Cut(services[i].Service, "/")
		}
		return keys
	}))
	output.add(c)
	admin.add(c)
	namespace.add(c)
	return c
}
