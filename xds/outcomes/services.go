package outcomes

import (
	"net/netip"
	"sync"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/policy/upstream"
)

const (
	// fresh is how long a Service's data is used without a new look, and freshest how long where an endpoint is not in it:
	// proxies use a new endpoint at once, and what it answers first is what a bad release is known by. They hear of one
	// later than that, so its first report finds it.
	fresh, freshest = time.Second, 10 * time.Millisecond
	// lingers is how long an endpoint that is gone is still known: its last
	// answers are reported after it has left.
	lingers = 2 * time.Minute
	// unasked is how long after its last use a Service is forgotten.
	unasked = 10 * time.Minute
)

// Services answers a Recorder's questions from the catalog's rows.
type Services struct {
	catalog *catalog.Catalog
	now     func() time.Time

	mu       sync.Mutex
	services map[discovery.Key]*service
	swept    time.Time
}

// service is the data of a Service, as last read.
type service struct {
	read     time.Time
	revision uint64
	asked    time.Time
	shifted  bool
	// endpoints by their address and port.
	endpoints map[netip.AddrPort]endpoint
	// ports are what the model says of them, by number; nil while nobody has asked.
	ports map[uint16]port
}

type port struct {
	backings []discovery.BackingName
	// age of streams.
	age time.Duration
}

type endpoint struct {
	id       string
	platform discovery.BackingName
	seen     time.Time
}

// NewServices returns what a Recorder asks, from c's rows. now is time.Now if nil.
func NewServices(c *catalog.Catalog, now func() time.Time) *Services {
	if now == nil {
		now = time.Now
	}
	return &Services{catalog: c, now: now, services: make(map[discovery.Key]*service)}
}

// Shifted is a Recorder's Options.Shifted.
func (c *Services) Shifted(key discovery.Key) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.service(key, fresh).shifted
}

// Exists is a Recorder's Options.Exists.
func (c *Services) Exists(key discovery.Key) bool {
	_, ok := catalog.Services.Get(c.catalog.Read(), key.String())
	return ok
}

// Lookup is a Recorder's Options.Lookup.
func (c *Services) Lookup(key discovery.Key, _ uint16, address netip.AddrPort) (id string, platform discovery.BackingName, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.service(key, fresh).endpoints[address]
	if !ok {
		e, ok = c.service(key, freshest).endpoints[address]
	}
	return e.id, e.platform, ok
}

// StreamAge is a Recorder's Options.StreamAge. If a Service's backings differ, it is the shortest,
// because the answering backing is not looked at.
func (c *Services) StreamAge(key discovery.Key, number uint16) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.port(key, number).age
}

// Backings is a Recorder's Options.Backings.
func (c *Services) Backings(key discovery.Key, number uint16) []discovery.BackingName {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.port(key, number).backings
}

func (c *Services) port(key discovery.Key, number uint16) port {
	s := c.service(key, fresh)
	if s.ports == nil {
		s.ports = make(map[uint16]port)
		if m := resolve.BuildService(c.catalog.Read(), key); m != nil {
			for i := range m.Ports {
				p := &m.Ports[i]
				of := port{age: shortestAge(p)}
				for j := range p.Backings {
					of.backings = append(of.backings, p.Backings[j].Platform)
				}
				s.ports[p.Number] = of
			}
		}
	}
	return s.ports[number]
}

func shortestAge(p *policy.Port) time.Duration {
	shortest := time.Duration(0)
	for i := range p.Backings {
		if age := p.Backings[i].Settings.StreamAge().Value; age > 0 && (shortest == 0 || age < shortest) {
			shortest = age
		}
	}
	return shortest
}

// service returns a Service's data, not older than age.
func (c *Services) service(key discovery.Key, age time.Duration) *service {
	now := c.now()
	s := c.services[key]
	if s == nil {
		c.sweep(now)
		s = &service{}
		c.services[key] = s
	}
	s.asked = now
	if !s.read.IsZero() && now.Sub(s.read) < age {
		return s
	}
	r := c.catalog.Read()
	if !s.read.IsZero() && r.Revision() == s.revision {
		s.read = now
		return s
	}
	s.read, s.revision, s.ports = now, r.Revision(), nil
	object, _ := upstream.ShiftOf(r, key)
	s.shifted = object != nil // after its end too, until it is deleted
	if !s.shifted {
		s.endpoints = nil
		return s
	}
	s.readEndpoints(r, key, now)
	return s
}

func (s *service) readEndpoints(r catalog.Reader, key discovery.Key, now time.Time) {
	next := make(map[netip.AddrPort]endpoint, len(s.endpoints))
	for address, e := range s.endpoints {
		if now.Sub(e.seen) < lingers {
			next[address] = e
		}
	}
	for set := range catalog.Endpoints.By(r, catalog.ByService, key.String()) {
		for i := range set.Endpoints {
			ip, err := netip.ParseAddr(set.Endpoints[i].Address)
			if err != nil {
				continue // policy reports it
			}
			for _, p := range set.Ports {
				next[netip.AddrPortFrom(ip.Unmap(), p.Port)] = endpoint{set.Endpoints[i].ID, set.Platform, now}
			}
		}
	}
	s.endpoints = next
}

// sweep forgets Services that nobody asks about any more.
func (c *Services) sweep(now time.Time) {
	if now.Sub(c.swept) < unasked/10 {
		return
	}
	c.swept = now
	for key, s := range c.services {
		if now.Sub(s.asked) > unasked {
			delete(c.services, key)
		}
	}
}
