package engine

import (
	"fmt"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/resolve"
)

// InForce is what proxies are configured by.
type InForce struct {
	// Catalog is the catalog. While the configuration is frozen, it is the one of the freeze's
	// begin with the newest endpoints.
	Catalog catalog.Reader
	// Freeze is the freeze of configuration, nil for none.
	Freeze *discovery.Freeze
	// LastGood are the certificates that replace those in the catalog that fail.
	LastGood resolve.LastGood
}

// InForce returns the state from which the proxies' configuration is compiled. A replica that was started in a
// freeze has taken over pins of others. They are not part of it: only their bytes are known, not their meaning.
func (e *Engine) InForce() (InForce, error) {
	out := InForce{Catalog: e.catalog.Read(), LastGood: e.certificates.lastGood()}
	f := e.freezing.held.Load()
	if f == nil {
		return out, nil
	}
	out.Freeze = f.Freeze
	// Owners come and go while it lasts.
	if now, ok := catalog.Freezes.Get(out.Catalog, catalog.FreezeID); ok && now.Config {
		out.Freeze = now
	}
	held, err := held(f.before, out.Catalog)
	if err != nil {
		return out, fmt.Errorf("the catalog of before the freeze: %w", err)
	}
	out.Catalog = held.Read()
	return out, nil
}

// held returns a catalog with the configuration from before a freeze and all other rows of now.
func held(before, now catalog.Reader) (*catalog.Catalog, error) {
	out := catalog.New()
	_, err := out.Write(time.Time{}, func(tx *catalog.Tx) error {
		put(tx, catalog.Services, before)
		put(tx, catalog.Rivals, before)
		put(tx, catalog.Homes, before)
		put(tx, catalog.ShiftStates, before)
		// Certificates are facts, as endpoints are.
		for o := range catalog.Objects.All(before) {
			if o.Kind != discovery.KindSecret {
				catalog.Objects.Put(tx, o)
			}
		}
		for o := range catalog.Objects.By(now, catalog.ByKind, discovery.KindSecret) {
			catalog.Objects.Put(tx, o)
		}
		put(tx, catalog.Endpoints, now)
		put(tx, catalog.Instances, now)
		put(tx, catalog.Checks, now)
		put(tx, catalog.GroupStatuses, now)
		put(tx, catalog.Freezes, now)
		put(tx, catalog.Sources, now)
		return nil
	})
	return out, err
}

func put[T any](tx *catalog.Tx, t catalog.Table[T], from catalog.Reader) {
	for row := range t.All(from) {
		t.Put(tx, row)
	}
}
