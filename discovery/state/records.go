package state

import (
	"fmt"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
)

// The records below are the format on disk. They are apart from the catalog's
// rows so that these may change without a file losing its meaning.

type instancesRecord struct {
	Scope     string           `json:"scope"`
	Namespace string           `json:"namespace"`
	Group     string           `json:"group"`
	Service   string           `json:"service"` // in the group's namespace
	Account   string           `json:"account,omitempty"`
	Endpoints []endpointRecord `json:"endpoints"`
	// Ports are those that the instances answered for, held ones among them.
	Ports []portRecord `json:"ports,omitempty"`
}

type portRecord struct {
	Name string `json:"name"`
	Port uint16 `json:"port"`
}

type endpointRecord struct {
	ID      string `json:"id"`
	Address string `json:"address"`
	Zone    string `json:"zone,omitempty"`
	Node    string `json:"node,omitempty"`
	Spot    bool   `json:"spot,omitempty"`
	Weight  uint32 `json:"weight,omitempty"`
	Health  string `json:"health"`
	Reason  string `json:"reason,omitempty"`
}

type homeRecord struct {
	Namespace string `json:"namespace"`
	Service   string `json:"service"`
	Platform  string `json:"platform"`
	Because   string `json:"because"`
	// Supersedes is the value of the home annotation that does not count.
	Supersedes string `json:"supersedes,omitempty"`
}

func instancesRecords(r catalog.Reader) []instancesRecord {
	out := []instancesRecord{}
	for set := range catalog.Instances.All(r) {
		rec := instancesRecord{
			Scope: set.Scope, Namespace: set.Namespace, Group: set.Name, Service: set.Service.Name, Account: set.Account,
			Endpoints: make([]endpointRecord, len(set.Endpoints)),
		}
		for i, e := range set.Endpoints {
			rec.Endpoints[i] = endpointRecord{e.ID, e.Address, e.Zone, e.Node, e.Spot, e.Weight, e.Health.String(), e.Reason}
		}
		for s := range catalog.Endpoints.By(r, catalog.ByService, set.Service.String()) {
			if s.Scope != PublishedScope || s.Group != set.Name {
				continue
			}
			for _, p := range s.Ports {
				rec.Ports = append(rec.Ports, portRecord{p.Name, p.Port})
			}
		}
		out = append(out, rec)
	}
	return out
}

func (rec *instancesRecord) row() (*discovery.InstanceSet, error) {
	set := &discovery.InstanceSet{
		Scope:   rec.Scope,
		Key:     discovery.Key{Namespace: rec.Namespace, Name: rec.Group},
		Service: discovery.Key{Namespace: rec.Namespace, Name: rec.Service},
		Account: rec.Account,
	}
	for _, e := range rec.Endpoints {
		health, ok := healthNamed(e.Health)
		if !ok || e.ID == "" || e.Address == "" {
			return nil, fmt.Errorf("InstanceGroup %s: %+v is no endpoint", set.Key, e)
		}
		set.Endpoints = append(set.Endpoints, discovery.Endpoint{
			ID: e.ID, Address: e.Address, Zone: e.Zone, Node: e.Node, Spot: e.Spot, Weight: e.Weight, Health: health, Reason: e.Reason,
		})
	}
	return set, nil
}

func healthNamed(name string) (discovery.Health, bool) {
	for _, h := range []discovery.Health{discovery.Healthy, discovery.Unhealthy, discovery.Draining} {
		if h.String() == name {
			return h, true
		}
	}
	return 0, false
}

func homeRecords(r catalog.Reader) []homeRecord {
	out := []homeRecord{}
	for h := range catalog.Homes.All(r) {
		if h.Unknown != "" {
			continue
		}
		out = append(out, recordOf(h))
	}
	return out
}

func recordOf(h *discovery.Home) homeRecord {
	return homeRecord{h.Namespace, h.Name, h.Platform.String(), h.Because, h.Supersedes}
}

func (rec *homeRecord) row() (*discovery.Home, error) {
	if backing, ok := discovery.ParseBacking(rec.Platform); ok {
		return &discovery.Home{
			Scope: Scope, Key: discovery.Key{Namespace: rec.Namespace, Name: rec.Service}, Platform: backing,
			Because: rec.Because, Supersedes: rec.Supersedes,
		}, nil
	}
	return nil, fmt.Errorf("home of Service %s/%s: %q is no platform", rec.Namespace, rec.Service, rec.Platform)
}
