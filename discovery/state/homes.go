package state

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
)

// The names of the statuses that tell whether the homes of Services, and the states of
// TrafficShifts, have been read. If they cannot be read, the Services that need them are not
// known: proxies keep their configuration of these, and no traffic moves by a guess.
const (
	HomesScope  = discovery.HomesSource
	ShiftsScope = "shifts"
)

// lostHome is one Service's recorded home that could not be read. The annotation that it supersedes does not
// count any more, whatever the home is.
type lostHome struct {
	cause      error
	supersedes string
}

// lose notes that one Service's recorded home could not be read.
func (k *Keeper) lose(rec *homeRecord, cause error) {
	if k.lostOf == nil {
		k.lostOf = make(map[discovery.Key]lostHome)
	}
	k.lostOf[discovery.Key{Namespace: rec.Namespace, Name: rec.Service}] = lostHome{cause, rec.Supersedes}
	k.dir.keep(homesFile, cause)
}

// markUnknownHomes marks the Services whose home may have been recorded, cannot be read,
// and could be guessed wrong: those with endpoints, or an InstanceGroup, on both platforms.
// All others can have only one home.
func (k *Keeper) markUnknownHomes(cat *catalog.Catalog) {
	if k.lost == nil && len(k.lostOf) == 0 {
		return
	}
	r := cat.Read()
	if !sourcesRead(r) {
		return
	}
	cause := k.lost
	var unknown []discovery.Key
	for svc := range catalog.Services.All(r) {
		if k.lost == nil {
			home, lost := k.lostOf[svc.Key]
			if !lost {
				continue
			}
			cause = errors.Join(cause, home.cause)
		}
		if rec, recorded := catalog.Homes.Get(r, svc.Key.String()); recorded && rec.Unknown == "" || !recorded && !hasSeveral(r, svc.Key) {
			continue
		}
		unknown = append(unknown, svc.Key)
	}
	if cause == nil {
		cause = errors.New("they are of Services that are gone")
	}
	status := &discovery.SourceStatus{Name: HomesScope, Synced: true, ErrorSince: time.Now(), Error: k.homesProblem(unknown, cause)}
	old, told := catalog.Sources.Get(r, HomesScope)
	if told && old.Synced && old.Error == status.Error {
		return
	}
	k.log.Error("homes of Services are not known", "problem", status.Error)
	k.write(cat, time.Time{}, func(tx *catalog.Tx) {
		if told && old.Error != "" {
			status.ErrorSince = old.ErrorSince
		}
		for _, key := range unknown {
			if _, recorded := catalog.Homes.Get(tx.Reader, key.String()); !recorded {
				catalog.Homes.Put(tx, &discovery.Home{Scope: Scope, Key: key, Unknown: cause.Error(), Supersedes: k.lostOf[key].supersedes})
			}
		}
		catalog.Sources.Put(tx, status)
	})
}

// guess reports whether a home to be recorded may differ from the recorded one, which cannot be read. Services
// that came since the last markUnknownHomes are marked first; their own change triggers that.
func (k *Keeper) guess(r catalog.Reader, h *discovery.Home) bool {
	home, lost := k.lostOf[h.Key]
	if _, recorded := catalog.Homes.Get(r, h.Key.String()); recorded || k.lost == nil && !lost {
		return false
	}
	svc, ok := catalog.Services.Get(r, h.Key.String())
	return ok && (svc.Home == "" || svc.Home == home.supersedes) && hasSeveral(r, h.Key)
}

// homesProblem says whose homes cannot be read, and what to do.
func (k *Keeper) homesProblem(unknown []discovery.Key, cause error) string {
	if len(unknown) == 0 {
		return fmt.Sprintf("recorded homes cannot be read, and no Service needs them now: %v; to record homes again: %s", cause, k.dir.begin(homesFile))
	}
	return fmt.Sprintf("the home of %s cannot be read, so proxies keep what they have of it and nothing moves; all else is served: %v; put the file back and start again, or write the annotation mesh.causeway.dev/home: Instances or Pods on the Service",
		listed(unknown, discovery.KindService, "Services"), cause)
}

// listed names objects, the first few of many.
func listed(keys []discovery.Key, one, several string) string {
	names := make([]string, len(keys))
	for i, key := range keys {
		names[i] = key.String()
	}
	slices.Sort(names)
	if len(keys) == 1 {
		several = one
	}
	return several + " " + firstOf(names)
}

// hasSeveral reports whether a Service has more than one backing.
func hasSeveral(r catalog.Reader, service discovery.Key) bool {
	names := make(map[discovery.BackingName]bool)
	for range catalog.InstanceGroups.Of(r, service) {
		names[discovery.Instances] = true
	}
	for set := range catalog.Endpoints.By(r, catalog.ByService, service.String()) {
		if len(set.Endpoints) > 0 {
			names[set.Platform] = true
		}
	}
	return len(names) > 1
}
