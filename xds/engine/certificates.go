package engine

import (
	"maps"
	"sync"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/resolve"
)

// certificates remembers the last good certificates of each Gateway: a Secret
// that is deleted by mistake, or whose chain and key are replaced one after the
// other, must not take away what is served with it. They are in memory alone.
type certificates struct {
	mu   sync.Mutex
	good resolve.LastGood
}

// keep puts the last good certificates in place of those that failed, and remembers those that are good.
func (c *certificates) keep(m *policy.Gateway) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.good == nil {
		c.good = make(resolve.LastGood)
	}
	c.good[m.Key] = m.KeepCertificates(c.good[m.Key])
}

// forget drops what is known of a Gateway that is gone.
func (c *certificates) forget(gateway discovery.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.good, gateway)
}

// lastGood returns what is remembered.
func (c *certificates) lastGood() resolve.LastGood {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.good)
}
