package engine

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/policy/resolve"
)

// freezing is the engine's state of a freeze of configuration (discovery.Freeze).
type freezing struct {
	// complete reports whether the catalog has been filled; nil where freezes are not followed.
	complete func(catalog.Reader) bool
	// known is true once the catalog has been filled and it is known whether
	// there is a freeze.
	known bool
	// on is the freeze, nil for none.
	on *discovery.Freeze
	// before is the catalog as it was when the freeze began.
	before catalog.Reader

	// held is the freeze and before for who is not Run, nil for none.
	held atomic.Pointer[frozen]

	// moved are the Services whose shares have changed since the freeze began,
	// and are held.
	mu    sync.Mutex
	moved map[policy.Unit]struct{}
}

// frozen is a freeze with the catalog as it was when it began.
type frozen struct {
	*discovery.Freeze
	before catalog.Reader
}

// holdShares gives a Service's TCP ports the shares that they had before the
// freeze: these are in endpoints, which are not frozen.
func (f *freezing) holdShares(m *policy.Service) {
	if f.on == nil || !slices.ContainsFunc(m.Ports, func(p policy.Port) bool { return p.Protocol == policy.TCP && len(p.Backings) > 1 }) {
		return
	}
	if !m.HoldShares(resolve.BuildService(f.before, m.Key)) {
		return
	}
	f.mu.Lock()
	f.moved[policy.Unit{Kind: discovery.KindService, Key: m.Key}] = struct{}{}
	f.mu.Unlock()
}

// FollowFreezes makes the engine hold all configuration but endpoints while
// catalog.Freezes says so (snapshot.Store.Freeze). complete reports whether all
// sources have been read: rows that come before that are not new, and are
// compiled in spite of a freeze. Call it before Run.
func (e *Engine) FollowFreezes(complete func(catalog.Reader) bool) { e.freezing.complete = complete }

// followFreeze begins or ends a freeze if the catalog says so. before is the
// catalog that the snapshot was made of. It returns the units that must be
// compiled anew.
func (e *Engine) followFreeze(r, before catalog.Reader) []policy.Unit {
	f := &e.freezing
	on, ok := catalog.Freezes.Get(r, catalog.FreezeID)
	if !ok || !on.Config {
		on = nil
	}
	if f.known && (on == nil) == (f.on == nil) && (on == nil || on.Since.Equal(f.on.Since)) {
		return nil
	}
	was, first := f.on, !f.known
	f.known, f.on, f.before = true, on, before
	var held *frozen
	if on != nil {
		held = &frozen{on, before}
	}
	f.held.Store(held)
	since := time.Time{}
	if on != nil {
		since = on.Since
	}
	released := e.store.Freeze(since)
	switch {
	case on != nil:
		e.metrics.frozen.Set(1)
		e.log.Warn("the configuration is frozen: until it is not, proxies get changes of endpoints and nothing else",
			"by", on.By, "reason", on.Reason, "since", on.Since)
	case was != nil:
		e.metrics.frozen.Set(0)
		e.log.Info("the configuration is no longer frozen; what was held back goes out", "units", len(released))
	}
	if first {
		// A pin of an earlier run may be of an object that is gone by now. No
		// row leads to it, so its unit is added here.
		for _, p := range e.store.Pins() {
			released = append(released, p.Unit)
		}
	}
	units := f.moved
	if units == nil {
		units = make(map[policy.Unit]struct{})
	}
	f.moved = make(map[policy.Unit]struct{})
	for _, name := range released {
		if u, ok := unitNamed(name); ok {
			units[u] = struct{}{}
		}
	}
	if was != nil && on == nil {
		// Listeners that were declared meanwhile are of the catalog of before.
		for u := range e.byUnit {
			units[u] = struct{}{}
		}
	}
	return sortedUnits(units)
}

// declarationReader returns the catalog for declared listeners: they must fit
// the configuration in force.
func (e *Engine) declarationReader() catalog.Reader {
	if e.freezing.on != nil {
		return e.freezing.before
	}
	return e.catalog.Read()
}

// unitNamed returns the unit with a name in the snapshot; for a listener, the
// one that it leads to.
func unitNamed(name string) (policy.Unit, bool) {
	kind, key, _ := strings.Cut(name, "/")
	if kind == "listener" {
		d, err := naming.ParseDeclaration(key)
		if err != nil {
			return policy.Unit{}, false
		}
		return leadsTo(d)
	}
	namespace, name, _ := strings.Cut(key, "/")
	for _, known := range policy.UnitKinds() {
		if strings.EqualFold(kind, known) {
			return policy.Unit{Kind: known, Key: discovery.Key{Namespace: namespace, Name: name}}, true
		}
	}
	return policy.Unit{}, false
}
