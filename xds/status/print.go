package status

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/xds/server"
)

// PrintService prints a Service and its endpoints.
func PrintService(t *phrase.Table, s *Service) {
	t.Row(fmt.Sprintf("%s   home: %s (%s)", s.Service, s.Home, s.HomeCause))
	if s.Shift != "" {
		cohort := "every request on its own"
		if s.Cohort != "" {
			cohort = "cohorts by " + s.Cohort
		}
		t.Row(fmt.Sprintf("  shifted by TrafficShift %s, %s", s.Shift, cohort))
	}
	for _, f := range s.Failover {
		mode := "to the other backing"
		if !f.Failover {
			mode = "none"
		}
		t.Row(fmt.Sprintf("  port %d failover: %s (%s)", f.Port, mode, f.Because))
	}
	where := "ZONE"
	if s.Nodes != nil {
		where = "ZONE/NODE"
		for _, line := range s.Nodes.Lines() {
			t.Row("  " + line)
		}
	}
	for _, f := range slices.Concat(s.Findings, s.Groups) {
		t.Row("  " + f)
	}
	t.Row("PORT", "PLATFORM", "SHARE", "ID", "ADDRESS", where, "SPOT", "HEALTH", "REASON")
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		spot, at := "", e.Zone
		if e.Spot {
			spot = "spot"
		}
		if s.Nodes != nil && e.Node != "" {
			at += "/" + e.Node
		}
		t.Row(fmt.Sprint(e.Port), e.Platform, fmt.Sprintf("%g%%", e.Share), e.ID, e.Address, at, spot, e.Health, e.Reason)
	}
}

// PrintProxies prints the proxies with their state by type, and below them what they have refused. text fits what
// Envoy says of it.
func PrintProxies(t *phrase.Table, proxies []server.ProxyStatus, text func(string) string, now time.Time, wide bool) {
	types := []string{"CDS", "EDS", "SDS", "LDS", "RDS", "VHDS"}
	head := append([]string{"PROXY", "SERVICE", "ZONE/NODE", "ENVOY", "AGE", "STATE"}, types...)
	if wide {
		head = append(head, "ROLE", "PROTOCOL", "PROVEN", "PEER", "LISTENERS")
	}
	t.Row(head...)
	for _, p := range proxies {
		at := p.Zone
		if p.NodeName != "" {
			at += "/" + p.NodeName
		}
		cells := []string{p.ID, p.Service, at, p.Version, now.Sub(p.Connected).Round(time.Second).String(), ProxyState(&p)}
		byType := make(map[string]server.TypeStatus)
		for _, s := range p.Types {
			byType[s.Type] = s
		}
		for _, name := range types {
			cells = append(cells, TypeState(byType[name]))
		}
		if wide {
			proven := "no"
			if p.Authenticated {
				proven = "yes"
			}
			cells = append(cells, string(p.Role), p.Protocol, proven, p.Peer, cmp.Or(strings.Join(p.Listeners, " "), "-"))
		}
		t.Row(cells...)
	}
	for _, p := range proxies {
		for _, s := range p.Types {
			if len(s.Rejected) > 0 {
				t.Row(fmt.Sprintf("\n%s rejected %s %v: %s", p.ID, s.Type, s.Rejected, text(s.Error)))
			}
		}
	}
	for _, p := range proxies {
		if len(p.HeldBack) > 0 {
			t.Row(fmt.Sprintf("\n%s has the last good configuration of %s: a proxy like it refused what is new", p.ID, strings.Join(p.HeldBack, ", ")))
		}
	}
}
