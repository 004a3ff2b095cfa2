package engine

import (
	"slices"
	"sync"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
)

// certificates remembers the last good certificates of each Gateway: a Secret
// that is deleted by mistake, or whose chain and key are replaced one after the
// other, must not take away what is served with it. They are in memory alone.
type certificates struct {
	mu   sync.Mutex
	good map[discovery.Key]map[string]policy.Certificate
}

// keep puts the last good certificates in place of those that failed. What was
// never good is left out, with the listeners that have no other: a proxy would wait
// for it, and with it everything else on the port.
func (c *certificates) keep(m *policy.Gateway) {
	c.mu.Lock()
	defer c.mu.Unlock()
	had, now := c.good[m.Key], make(map[string]policy.Certificate)
	usable := m.Certificates[:0]
	for _, cert := range m.Certificates {
		if cert.Failed != "" {
			old, ok := had[cert.Name]
			if !ok {
				continue
			}
			cert.Chain, cert.Key = old.Chain, old.Key
		}
		if len(cert.Key) > 0 {
			now[cert.Name] = cert
		}
		usable = append(usable, cert)
	}
	m.Certificates = usable
	if c.good == nil {
		c.good = make(map[discovery.Key]map[string]policy.Certificate)
	}
	c.good[m.Key] = now
	withoutMissing(m)
}

// forget drops what is known of a Gateway that is gone.
func (c *certificates) forget(gateway discovery.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.good, gateway)
}

// withoutMissing takes certificates that the Gateway does not have out of its
// listeners, and listeners that terminate TLS and have none left out of it.
func withoutMissing(m *policy.Gateway) {
	for i := range m.Ports {
		p := &m.Ports[i]
		for j := range p.Listeners {
			l := &p.Listeners[j]
			l.Certificates = slices.DeleteFunc(l.Certificates, func(name string) bool {
				return !slices.ContainsFunc(m.Certificates, func(c policy.Certificate) bool { return c.Name == name })
			})
		}
		p.Listeners = slices.DeleteFunc(p.Listeners, func(l policy.GatewayListener) bool { return l.Terminates && len(l.Certificates) == 0 })
	}
	m.Ports = slices.DeleteFunc(m.Ports, func(p policy.GatewayPort) bool { return len(p.Listeners) == 0 })
}
