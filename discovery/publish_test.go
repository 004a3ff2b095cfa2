package discovery

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// A newcomer waits for its first passed check while others are there.
func TestNewInstancesWaitForTheirFirstCheck(t *testing.T) {
	const pending = "CheckPending: it waits for its first passed check"
	one, two := Endpoint{ID: "i-1", Address: "10.0.0.1"}, Endpoint{ID: "i-2", Address: "10.0.0.2"}
	passed, failed := CheckedHealth{Healthy: true}, CheckedHealth{Reason: "CheckFailed: x"}
	unhealthy := func(e Endpoint, reason string) Endpoint {
		e.Health, e.Reason = Unhealthy, reason
		return e
	}
	none := map[string]CheckedHealth{}
	had := func(es ...Endpoint) map[string]Endpoint {
		out := make(map[string]Endpoint)
		for _, e := range es {
			out[e.ID] = e
		}
		return out
	}
	draining := one
	draining.Health = Draining
	for name, c := range map[string]struct {
		instances []Endpoint
		results   map[string]CheckedHealth // nil: nobody checks
		before    Published
		want      []Endpoint
	}{
		"the first of a backing":                     {[]Endpoint{one, two}, none, Published{}, []Endpoint{one, two}},
		"a newcomer":                                 {[]Endpoint{one, two}, map[string]CheckedHealth{"i-1": passed}, Published{Own: had(one)}, []Endpoint{one, unhealthy(two, pending)}},
		"a newcomer before any check":                {[]Endpoint{one, two}, none, Published{Own: had(one)}, []Endpoint{one, unhealthy(two, pending)}},
		"it still waits":                             {[]Endpoint{one, two}, none, Published{Own: had(one, unhealthy(two, pending))}, []Endpoint{one, unhealthy(two, pending)}},
		"it has passed":                              {[]Endpoint{one, two}, map[string]CheckedHealth{"i-2": passed}, Published{Own: had(one, unhealthy(two, pending))}, []Endpoint{one, two}},
		"it has failed":                              {[]Endpoint{one, two}, map[string]CheckedHealth{"i-2": failed}, Published{Own: had(one, unhealthy(two, pending))}, []Endpoint{one, unhealthy(two, failed.Reason)}},
		"the control plane has restarted":            {[]Endpoint{one, two}, none, Published{Own: had(one, two)}, []Endpoint{one, two}},
		"nobody checks":                              {[]Endpoint{one, two}, nil, Published{Own: had(one)}, []Endpoint{one, two}},
		"the others are draining":                    {[]Endpoint{draining, two}, none, Published{Own: had(one)}, []Endpoint{draining, two}},
		"the others fail":                            {[]Endpoint{one, two}, map[string]CheckedHealth{"i-1": failed}, Published{Own: had(one)}, []Endpoint{unhealthy(one, failed.Reason), two}},
		"the others are another group's":             {[]Endpoint{one, two}, none, Published{Others: true}, []Endpoint{unhealthy(one, pending), unhealthy(two, pending)}},
		"an address that is given to an instance id": {[]Endpoint{one, two}, none, Published{Own: had(one, Endpoint{ID: "i-2", Address: "10.0.0.3"})}, []Endpoint{one, unhealthy(two, pending)}},
	} {
		t.Run(name, func(t *testing.T) {
			g := &InstanceGroup{Object: &v1alpha1.InstanceGroup{Spec: v1alpha1.InstanceGroupSpec{HealthCheck: &v1alpha1.HealthCheck{}}}}
			var checks *HealthSet
			if c.results != nil {
				checks = &HealthSet{ByID: c.results}
			}
			got := PublishInstances(g, &InstanceSet{Endpoints: c.instances}, checks, c.before)
			require.Equal(t, c.want, got.Endpoints)
			g.Object.Spec.HealthCheck = nil
			for _, e := range PublishInstances(g, &InstanceSet{Endpoints: c.instances}, nil, c.before).Endpoints {
				require.NotEqual(t, Unhealthy, e.Health, "without a healthCheck nobody waits")
			}
		})
	}
}

// An edit of a name takes no port from the instances that answer for it.
func TestPortsThatNothingMapsAreHeld(t *testing.T) {
	port := func(name string, n uint16) EndpointPort { return EndpointPort{Name: name, Port: n} }
	two := &Service{Ports: []ServicePort{{Name: "http", Port: 80}, {Name: "admin", Port: 81}}}
	renamed := Renamed(two, &Service{Ports: []ServicePort{{Name: "web", Port: 80}, {Name: "admin", Port: 81}}})
	require.Equal(t, []ServicePort{{Name: "web", Port: 80, Was: "http"}, {Name: "admin", Port: 81}}, renamed.Ports)
	require.Equal(t, renamed.Ports, Renamed(renamed, &Service{Ports: []ServicePort{{Name: "web", Port: 80}, {Name: "admin", Port: 81}}}).Ports, "read again")
	swapped := Renamed(two, &Service{Ports: []ServicePort{{Name: "admin", Port: 80}, {Name: "http", Port: 81}}})
	require.Empty(t, swapped.Ports[0].Was, "a name that another port has means that one")
	for name, c := range map[string]struct {
		svc                 *Service
		ports, before, want []EndpointPort
	}{
		"all is mapped":            {two, []EndpointPort{port("http", 1), port("admin", 2)}, nil, []EndpointPort{port("http", 1), port("admin", 2)}},
		"never was":                {two, []EndpointPort{port("admin", 2)}, []EndpointPort{port("admin", 2)}, []EndpointPort{port("admin", 2)}},
		"the group renames it":     {two, []EndpointPort{port("web", 1), port("admin", 2)}, []EndpointPort{port("http", 1), port("admin", 2)}, []EndpointPort{port("web", 1), port("admin", 2), port("http", 1)}},
		"the group drops it":       {two, []EndpointPort{port("admin", 2)}, []EndpointPort{port("http", 1), port("admin", 2)}, []EndpointPort{port("admin", 2), port("http", 1)}},
		"it is still held":         {two, []EndpointPort{port("admin", 2)}, []EndpointPort{port("admin", 2), port("http", 1)}, []EndpointPort{port("admin", 2), port("http", 1)}},
		"the Service renames it":   {renamed, []EndpointPort{port("http", 1), port("admin", 2)}, []EndpointPort{port("http", 1), port("admin", 2)}, []EndpointPort{port("http", 1), port("admin", 2), port("web", 1)}},
		"the Service drops it":     {&Service{Ports: two.Ports[1:]}, []EndpointPort{port("admin", 2)}, []EndpointPort{port("http", 1), port("admin", 2)}, []EndpointPort{port("admin", 2)}},
		"the only one of each":     {&Service{Ports: two.Ports[:1]}, []EndpointPort{port("web", 3)}, []EndpointPort{port("http", 1)}, []EndpointPort{port("web", 3)}},
		"the group gives a number": {two, []EndpointPort{port("http", 9), port("admin", 2)}, []EndpointPort{port("http", 1), port("admin", 2)}, []EndpointPort{port("http", 9), port("admin", 2)}},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, HeldPorts(c.ports, c.before, c.svc))
		})
	}
}
