package engine

import (
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
// never good stays as it is: the compiler leaves it out, and closes the names of
// a listener that has no other.
func (c *certificates) keep(m *policy.Gateway) {
	c.mu.Lock()
	defer c.mu.Unlock()
	had, now := c.good[m.Key], make(map[string]policy.Certificate)
	for i := range m.Certificates {
		cert := &m.Certificates[i]
		if cert.Failed != "" {
			old := had[cert.Name]
			cert.Chain, cert.Key = old.Chain, old.Key
		}
		if len(cert.Key) > 0 {
			now[cert.Name] = *cert
		}
	}
	if c.good == nil {
		c.good = make(map[discovery.Key]map[string]policy.Certificate)
	}
	c.good[m.Key] = now
}

// forget drops what is known of a Gateway that is gone.
func (c *certificates) forget(gateway discovery.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.good, gateway)
}
