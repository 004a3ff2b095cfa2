package main

import (
	"net/netip"
	"sync"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/xds/outcomes"
)

// newOutcomes sets up what counts how requests to shifted Services end.
func (s *serve) newOutcomes() {
	endpoints := &endpointIndex{catalog: s.catalog, services: make(map[discovery.Key]*indexed)}
	s.outcomes = outcomes.New(outcomes.Options{
		Shifted: func(service discovery.Key) bool {
			_, shift := policy.ShiftOf(s.catalog.Read(), service)
			return shift != nil
		},
		Lookup: endpoints.lookup,
	})
}

// endpointIndex finds endpoints by their addresses, for the Services that are asked about.
type endpointIndex struct {
	catalog *catalog.Catalog

	mu       sync.Mutex
	services map[discovery.Key]*indexed
}

// indexed is the endpoints of a Service as they were a moment ago.
type indexed struct {
	at       time.Time
	revision uint64
	ports    map[uint16]map[netip.AddrPort]endpointAt
}

type endpointAt struct {
	id       string
	platform discovery.Platform
}

// How long an index holds while the catalog changes, and when one that nobody
// asks for is forgotten. An endpoint that went is still looked for until its
// last requests have been reported.
const (
	indexFresh = 500 * time.Millisecond
	indexKept  = 10 * time.Minute
)

func (x *endpointIndex) lookup(service discovery.Key, port uint16, address netip.AddrPort) (id string, platform discovery.Platform, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := time.Now()
	i := x.services[service]
	if i == nil || now.Sub(i.at) > indexFresh {
		i = x.index(service, i, now)
	}
	e, ok := i.ports[port][address]
	return e.id, e.platform, ok
}

// index brings the index of a Service up to date. What is gone stays in it
// until the address is another endpoint's.
func (x *endpointIndex) index(service discovery.Key, old *indexed, now time.Time) *indexed {
	for key, i := range x.services {
		if now.Sub(i.at) > indexKept {
			delete(x.services, key)
		}
	}
	reader := x.catalog.Read()
	if old != nil && old.revision == reader.Revision() {
		old.at = now
		return old
	}
	next := &indexed{at: now, revision: reader.Revision(), ports: make(map[uint16]map[netip.AddrPort]endpointAt)}
	if old != nil {
		next.ports = old.ports
	}
	x.services[service] = next
	model := policy.BuildService(reader, service)
	if model == nil {
		return next
	}
	for i := range model.Ports {
		p := &model.Ports[i]
		// Beyond this many the addresses are mostly of endpoints that went.
		if len(next.ports[p.Number]) > maxIndexed || next.ports[p.Number] == nil {
			next.ports[p.Number] = make(map[netip.AddrPort]endpointAt)
		}
		for j := range p.Backings {
			b := &p.Backings[j]
			for _, z := range b.Zones {
				for k := range z.Endpoints {
					e := &z.Endpoints[k]
					if a, err := netip.ParseAddr(e.Address); err == nil {
						next.ports[p.Number][netip.AddrPortFrom(a, e.Port)] = endpointAt{e.ID, b.Platform}
					}
				}
			}
		}
	}
	return next
}

// maxIndexed bounds the index of a port.
const maxIndexed = 20_000
