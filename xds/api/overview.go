package api

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/policy/shift/describe"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/xds/members"
	"github.com/causeway-mesh/causeway/xds/observe"
	"github.com/causeway-mesh/causeway/xds/status"
)

// Overview is the mesh at one look.
type Overview struct {
	// Time at which it was made.
	Time time.Time `json:"time"`
	// Version of the control plane.
	Version string `json:"version"`
	// Serving is false until everything is known; WaitsFor says what is not.
	Serving  bool     `json:"serving"`
	WaitsFor []string `json:"waitsFor,omitempty"`
	// Leading is false on a replica that another one leads.
	Leading bool `json:"leading"`
	// Wrong is true if anything needs somebody to look: what `causeway status` tells by its exit status.
	Wrong    bool                  `json:"wrong"`
	Replicas []observe.ReplicaView `json:"replicas,omitempty"`
	Sources  []status.Source       `json:"sources"`
	// Objects counts all that was read, and Refused those of them that a proxy refused.
	Objects int `json:"objects"`
	Refused int `json:"objectsRefused"`
	// Troubles are the objects that are not in force, wholly or in part; errors come first.
	Troubles []status.Trouble `json:"objectsWithTrouble"`
	// GuardHeld counts instances that the never-empty guard holds, by InstanceGroup.
	GuardHeld map[string]int `json:"guardHeld,omitempty"`
	Proxies   status.Proxies `json:"proxies"`
	// Members counts the agents by their state.
	Members  map[string]int    `json:"members,omitempty"`
	Shifts   []ShiftRow        `json:"shifts"`
	Services []ServiceRow      `json:"services"`
	Freeze   *discovery.Freeze `json:"freeze,omitempty"`
}

// ShiftRow is a TrafficShift in a list.
type ShiftRow struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Service   string `json:"service"`
	Phase     string `json:"phase"`
	// Percent of the traffic that To has.
	Percent float64 `json:"percent"`
	From    string  `json:"from"`
	To      string  `json:"to"`
	Step    string  `json:"step"`
	Verdict string  `json:"verdict,omitempty"`
	Budget  string  `json:"budgetRemaining,omitempty"`
	Waiting string  `json:"waiting,omitempty"`
	// Ended is true for one that has come to its end.
	Ended bool `json:"ended,omitempty"`
}

// ServiceRow is a Service in a list.
type ServiceRow struct {
	Namespace string       `json:"namespace"`
	Name      string       `json:"name"`
	Home      string       `json:"home"`
	Backings  []BackingRow `json:"backings"`
	// Shift is the TrafficShift in charge of it, as "namespace/name".
	Shift string `json:"shift,omitempty"`
	// FailedOver is true while a backing that has a share has no usable endpoint.
	FailedOver bool `json:"failedOver,omitempty"`
	// Stale says what is not known of it.
	Stale string `json:"stale,omitempty"`
	// Troubles counts its findings that are errors or refusals.
	Troubles int `json:"troubles,omitempty"`
}

// BackingRow is a backing of a Service: its share, and how many of its endpoints get requests.
type BackingRow struct {
	Name     string  `json:"name"`
	Percent  float64 `json:"percent"`
	Usable   int     `json:"usable"`
	Draining int     `json:"draining,omitempty"`
	Known    int     `json:"known"`
}

// OverviewOf returns the mesh at one look, of what is in force.
func OverviewOf(mesh *status.Mesh, inForce catalog.Reader, replicas []observe.ReplicaView, agents []members.Member, now time.Time) *Overview {
	v := &Overview{
		Time: now.UTC(), Version: mesh.Version, Serving: mesh.Serving, WaitsFor: mesh.WaitsFor, Leading: mesh.Leading, Wrong: mesh.Wrong(),
		Replicas: replicas, Sources: mesh.Sources, Objects: mesh.Objects, Refused: mesh.Refused, Troubles: mesh.NotRight,
		GuardHeld: mesh.GuardHeld, Proxies: mesh.Proxies, Shifts: []ShiftRow{}, Services: []ServiceRow{}, Freeze: mesh.Shifts.Freeze,
	}
	for i := range agents {
		if v.Members == nil {
			v.Members = make(map[string]int)
		}
		v.Members[agents[i].State(now)]++
	}
	for i := range mesh.Shifts.Shifts {
		v.Shifts = append(v.Shifts, shiftRow(&mesh.Shifts.Shifts[i]))
	}
	slices.SortStableFunc(v.Shifts, func(a, b ShiftRow) int { return cmp.Compare(rankOf(&a), rankOf(&b)) })
	troubles := make(map[string]int)
	for i := range mesh.NotRight {
		if t := &mesh.NotRight[i]; t.Severity != policy.Warning.String() {
			troubles[t.Object]++
		}
	}
	failed := make(map[string]bool, len(mesh.FailedOver))
	for _, name := range mesh.FailedOver {
		failed[name] = true
	}
	for s := range catalog.Services.All(inForce) {
		m := resolve.BuildService(inForce, s.Key)
		if m == nil {
			continue
		}
		row := serviceRow(m)
		row.FailedOver = failed[s.Key.String()]
		for _, ref := range m.Provenance {
			row.Troubles += troubles[discovery.ObjectName{Kind: ref.Kind, Key: ref.Key}.String()]
		}
		v.Services = append(v.Services, row)
	}
	return v
}

// rankOf has shifts that somebody should look at first, and those that are over last.
func rankOf(s *ShiftRow) int {
	switch {
	case s.Phase == string(v1alpha1.ShiftRollingBack), s.Phase == string(v1alpha1.ShiftRolledBack), s.Verdict == "Fail":
		return 0
	case s.Ended:
		return 2
	}
	return 1
}

func shiftRow(s *v1alpha1.TrafficShift) ShiftRow {
	from, to := sidesOf(s)
	return ShiftRow{
		Namespace: s.Namespace, Name: s.Name, Service: s.Spec.ServiceRef.Name, Phase: describe.Phase(s), Percent: number(describe.Percent(s)),
		From: from.String(), To: to.String(), Step: describe.Step(s), Verdict: describe.Verdict(s), Budget: describe.Budget(s),
		Waiting: s.Status.Waiting, Ended: s.Status.Phase == v1alpha1.ShiftCompleted,
	}
}

// serviceRow counts each endpoint once, though it is one of each port: those of the port of which most are known.
func serviceRow(m *policy.Service) ServiceRow {
	row := ServiceRow{Namespace: m.Namespace, Name: m.Name, Home: m.Home.String(), Stale: m.Unknown, Backings: []BackingRow{}}
	if m.Shift != nil {
		row.Shift = m.Shift.Object.Key.String()
	}
	for i := range m.Ports {
		p := &m.Ports[i]
		for j := range p.Backings {
			b := backingRow(&p.Backings[j], p.Shares[j])
			at := slices.IndexFunc(row.Backings, func(have BackingRow) bool { return have.Name == b.Name })
			switch {
			case at < 0:
				row.Backings = append(row.Backings, b)
			case row.Backings[at].Known < b.Known:
				row.Backings[at] = b
			}
			if p.Backings[j].Unknown && row.Stale == "" {
				row.Stale = fmt.Sprintf("the %s are not read yet", b.Name)
			}
		}
	}
	return row
}

func backingRow(b *policy.Backing, share uint32) BackingRow {
	out := BackingRow{Name: b.Platform.String(), Percent: float64(share) / policy.ShareTotal * 100}
	for i := range b.Zones {
		for j := range b.Zones[i].Endpoints {
			out.Known++
			switch b.Zones[i].Endpoints[j].Health {
			case discovery.Healthy:
				out.Usable++
			case discovery.Draining:
				out.Draining++
			case discovery.Unhealthy:
			}
		}
	}
	return out
}
