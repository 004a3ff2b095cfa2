package api

import (
	"cmp"
	"maps"
	"net"
	"slices"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/explain"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/server"
	"github.com/causeway-mesh/causeway/xds/status"
)

// Service is a Service: who answers, and what holds for requests to it.
type Service struct {
	Time time.Time `json:"time"`
	ServiceRow

	// HomeBecause says what made its home the home.
	HomeBecause string `json:"homeBecause"`
	// Cohort is the key by which users move together, "" for each request on its own.
	Cohort string `json:"cohort,omitempty"`
	Ports  []Port `json:"ports"`
	// Findings are mistakes in its objects, and Groups what is wrong with the reading of its InstanceGroups.
	Findings []string `json:"findings,omitempty"`
	Groups   []string `json:"groups,omitempty"`
	// Endpoints, those that get no requests first.
	Endpoints []status.Endpoint `json:"endpoints"`
	// Objects that have a part in it, with what each does.
	Objects []Effect `json:"objects"`
	// Outcomes of the last minutes by backing, and Callers (proxies) that ask most: while a TrafficShift of it is there, on
	// the leader.
	Outcomes []BackingOutcome `json:"outcomes,omitempty"`
	Callers  []Failing        `json:"callers,omitempty"`
	// Traffic is who calls it and whom it calls, always.
	Traffic Traffic `json:"traffic"`
}

// Traffic is who calls a Service and whom its pods and instances call, by the load reports of the proxies that are connected to
// the control plane that answers. Load reports have no latencies.
type Traffic struct {
	// Seconds that the figures are of, up to two minutes.
	Seconds float64 `json:"seconds"`
	// CalledBy and Calls have those with the most requests first, at most 50.
	CalledBy []Call `json:"calledBy"`
	Calls    []Call `json:"calls"`
	// Callers are the workloads that Calls are of.
	Callers []string `json:"callers"`
	// More is true where there are more, or more than can be counted.
	More bool `json:"more,omitempty"`
}

// Call is what a workload has sent to a Service's backing.
type Call struct {
	// Workload is "namespace/name"; of a Gateway's proxies that of the Gateway.
	Workload string `json:"workload"`
	Gateway  bool   `json:"gateway,omitempty"`
	Service  string `json:"service"`
	Backing  string `json:"backing"`
	// Requests that were sent, or TCP connections; an attempt that is made again counts again.
	Requests uint64 `json:"requests"`
	// PerSecond is Requests by Seconds.
	PerSecond float64 `json:"perSecond"`
	// SuccessRate in percent of those that ended, absent for TCP.
	SuccessRate *float64 `json:"successRate,omitempty"`
	Failed      uint64   `json:"failed"`
}

// mostCalls is how many calls a view has.
const mostCalls = 50

// Port is a port of a Service.
type Port struct {
	Number   uint16 `json:"port"`
	Name     string `json:"name,omitempty"`
	Protocol string `json:"protocol"`
	// Failover is true where the backings stand in for each other, and FailoverBecause says why or why not.
	Failover        bool         `json:"failover"`
	FailoverBecause string       `json:"failoverBecause,omitempty"`
	Backings        []BackingRow `json:"backings"`
}

// Effect is an object and what it does, one sentence each.
type Effect struct {
	Kind      string   `json:"kind"`
	Namespace string   `json:"namespace,omitempty"`
	Name      string   `json:"name"`
	Does      []string `json:"does"`
}

// BackingOutcome is what callers got of a backing.
type BackingOutcome struct {
	Backing     string            `json:"backing"`
	Requests    uint64            `json:"requests"`
	SuccessRate *float64          `json:"successRate,omitempty"`
	P50         *float64          `json:"p50Milliseconds,omitempty"`
	P99         *float64          `json:"p99Milliseconds,omitempty"`
	Failures    map[string]uint64 `json:"failures,omitempty"`
}

// outcomesOver is the time of which a Service's outcomes are shown.
const outcomesOver = 2 * time.Minute

// ServiceOf returns a Service, nil for none. r is the catalog, inForce what proxies are configured by.
func ServiceOf(r, inForce catalog.Reader, proxies []server.ProxyStatus, key discovery.Key, w *outcome.Window, calls outcome.Calls, now time.Time) *Service {
	m := resolve.BuildService(inForce, key)
	list := status.Services(r, inForce, proxies, key.String())
	if m == nil || len(list) == 0 {
		return nil
	}
	s := &list[0]
	v := &Service{
		Time: now.UTC(), ServiceRow: serviceRow(m), HomeBecause: s.HomeCause, Cohort: s.Cohort, Findings: s.Findings, Groups: s.Groups,
		Endpoints: s.Endpoints, Objects: []Effect{}, Ports: []Port{},
	}
	v.FailedOver = resolve.FailedOver(inForce, key) > 0
	rank := func(e *status.Endpoint) int {
		return slices.Index([]string{"unhealthy", "draining", "healthy"}, e.Health)
	}
	slices.SortStableFunc(v.Endpoints, func(a, b status.Endpoint) int {
		return cmp.Or(cmp.Compare(rank(&a), rank(&b)), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Platform, b.Platform))
	})
	for i := range m.Ports {
		p := &m.Ports[i]
		port := Port{Number: p.Number, Name: p.Name, Protocol: explain.ProtocolText(p.Protocol), Failover: p.Failover, FailoverBecause: p.FailoverBecause, Backings: []BackingRow{}}
		for j := range p.Backings {
			port.Backings = append(port.Backings, backingRow(&p.Backings[j], p.Shares[j]))
		}
		v.Ports = append(v.Ports, port)
	}
	v.effects(inForce, m)
	if w != nil {
		v.outcomes(w)
	}
	v.Traffic = trafficOf(key, workloadsOf(v.Endpoints, proxies, key), calls)
	return v
}

// workloadsOf returns the workloads whose proxies are at the endpoints of a Service: at a pod's address, or with an instance's id.
func workloadsOf(endpoints []status.Endpoint, proxies []server.ProxyStatus, service discovery.Key) []string {
	at := make(map[string]bool, 2*len(endpoints))
	for i := range endpoints {
		host, _, _ := net.SplitHostPort(endpoints[i].Address)
		at[host], at[endpoints[i].ID] = true, true
	}
	var out []string
	for i := range proxies {
		p := &proxies[i]
		host, _, _ := net.SplitHostPort(p.Peer)
		_, _, _, instance, _ := naming.ParseNode(p.ID)
		if p.Namespace == service.Namespace && p.Role == resource.Sidecar && (host != "" && at[host] || at[instance]) {
			out = append(out, p.Namespace+"/"+p.Workload)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// trafficOf picks the calls of a Service and of its workloads.
func trafficOf(service discovery.Key, workloads []string, all outcome.Calls) Traffic {
	v := Traffic{Seconds: all.Over.Seconds(), CalledBy: []Call{}, Calls: []Call{}, Callers: []string{}, More: all.Dropped}
	v.Callers = append(v.Callers, workloads...)
	for i := range all.Calls {
		c := &all.Calls[i]
		caller := c.Caller.String()
		if c.Service == service {
			v.CalledBy = append(v.CalledBy, callOf(c, v.Seconds))
		}
		if _, is := slices.BinarySearch(workloads, caller); is && !c.Gateway {
			v.Calls = append(v.Calls, callOf(c, v.Seconds))
		}
	}
	for _, list := range []*[]Call{&v.CalledBy, &v.Calls} {
		slices.SortFunc(*list, func(a, b Call) int {
			return cmp.Or(cmp.Compare(b.Requests, a.Requests), cmp.Compare(a.Workload, b.Workload), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Backing, b.Backing))
		})
		v.More = v.More || len(*list) > mostCalls
		*list = (*list)[:min(len(*list), mostCalls)]
	}
	return v
}

func callOf(c *outcome.Call, seconds float64) Call {
	out := Call{Workload: c.Caller.String(), Gateway: c.Gateway, Service: c.Service.String(), Backing: c.Backing.String(), Requests: c.Issued, Failed: c.Failed}
	if seconds > 0 {
		out.PerSecond = float64(c.Issued) / seconds
	}
	if ended := c.Success + c.Failed; ended > 0 {
		out.SuccessRate = new(100 * float64(c.Success) / float64(ended))
	}
	return out
}

// effects fills in the objects that have a part in a Service.
func (v *Service) effects(r catalog.Reader, m *policy.Service) {
	seen := make(map[discovery.ObjectName]bool)
	add := func(ref discovery.ObjectRef) {
		name := discovery.ObjectName{Kind: ref.Kind, Key: ref.Key}
		if seen[name] || ref.Kind == discovery.KindSecret || ref.Kind == discovery.KindEndpointSlice {
			return
		}
		seen[name] = true
		e := Effect{Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name, Does: explain.Effects(r, m, ref)}
		if e.Does == nil {
			e.Does = []string{}
		}
		v.Objects = append(v.Objects, e)
	}
	for _, ref := range m.Provenance {
		add(ref)
	}
	for o := range catalog.Objects.By(r, catalog.ByRef, discovery.ObjectName{Kind: discovery.KindService, Key: m.Key}.String()) {
		add(o.Ref())
	}
}

// outcomes fills in what callers got.
func (v *Service) outcomes(w *outcome.Window) {
	callers := make(map[string]Failing)
	for _, b := range v.Backings {
		counts := w.Counts(discovery.BackingName(b.Name))
		out := BackingOutcome{Backing: b.Name, Requests: counts.Requests}
		if counts.Requests > 0 {
			rate := 100 * float64(counts.Requests-min(counts.Failed(), counts.Requests)) / float64(counts.Requests)
			p50, p99 := counts.Latency.Quantile(.5)/1000, counts.Latency.Quantile(.99)/1000
			out.SuccessRate, out.P50, out.P99 = &rate, &p50, &p99
		}
		for cause, n := range counts.Failures {
			if n > 0 {
				if out.Failures == nil {
					out.Failures = make(map[string]uint64)
				}
				out.Failures[outcome.Cause(cause).String()] = n //nolint:gosec // less than Causes
			}
		}
		for id, c := range counts.Callers {
			have := callers[id]
			callers[id] = Failing{id, have.Requests + c.Requests, have.Failures + c.Failures}
		}
		v.Outcomes = append(v.Outcomes, out)
	}
	for _, id := range slices.Sorted(maps.Keys(callers)) {
		v.Callers = append(v.Callers, callers[id])
	}
	slices.SortStableFunc(v.Callers, func(a, b Failing) int { return cmp.Compare(b.Requests, a.Requests) })
	v.Callers = v.Callers[:min(len(v.Callers), 20)]
}
