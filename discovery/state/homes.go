package state

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
)

// The names of the statuses that tell whether the homes of Services, and the
// states of TrafficShifts, are known. While they are not, nothing is served:
// proxies keep what they have, and no traffic moves by a guess.
const (
	HomesScope  = discovery.HomesSource
	ShiftsScope = "shifts"
)

// lose notes that one Service's recorded home could not be read.
func (k *Keeper) lose(rec *homeRecord, cause error) {
	if k.lostOf == nil {
		k.lostOf = make(map[discovery.Key]error)
	}
	k.lostOf[discovery.Key{Namespace: rec.Namespace, Name: rec.Service}] = cause
	k.dir.keep(homesFile, cause)
}

// judgeHomes says that homes are known once no Service is left whose traffic a
// guess could move: one with endpoints, or an InstanceGroup, on both platforms.
func (k *Keeper) judgeHomes(cat *catalog.Catalog) {
	if k.lost == nil && len(k.lostOf) == 0 {
		return
	}
	r := cat.Read()
	if old, ok := catalog.Sources.Get(r, HomesScope); (ok && old.Synced) || !sourcesRead(r) {
		return
	}
	cause := k.lost
	var names []string
	for svc := range catalog.Services.All(r) {
		if k.lost == nil {
			err, lost := k.lostOf[svc.Key]
			if !lost {
				continue
			}
			cause = errors.Join(cause, err)
		}
		if onBoth(r, svc.Key) {
			names = append(names, svc.Key.String())
		}
	}
	status := &discovery.SourceStatus{Name: HomesScope, Synced: len(names) == 0, ErrorSince: time.Now()}
	if cause == nil {
		cause = errors.New("they are of Services that are gone")
	}
	if status.Synced {
		status.Error = fmt.Sprintf("recorded homes cannot be read, and no Service needs them now: %v; to record homes again: %s", cause, k.dir.begin(homesFile))
	} else {
		slices.Sort(names)
		status.Error = fmt.Sprintf("the homes of %s cannot be read, so nothing is served and nothing moves: %v; put the file back, or write the annotation mesh.causeway.dev/home on them, then %s",
			strings.Join(names, ", "), cause, k.dir.begin(homesFile))
	}
	if old, ok := catalog.Sources.Get(r, HomesScope); !ok || old.Error != status.Error {
		k.log.Error("homes of Services are not known", "problem", status.Error)
	}
	k.write(cat, time.Time{}, func(tx *catalog.Tx) {
		if old, ok := catalog.Sources.Get(tx.Reader, HomesScope); ok && old.Error != "" {
			status.ErrorSince = old.ErrorSince
		}
		catalog.Sources.Put(tx, status)
	})
}

// onBoth reports whether a Service has backings on both platforms.
func onBoth(r catalog.Reader, service discovery.Key) bool {
	pods, instances := false, false
	for range catalog.InstanceGroups.By(r, catalog.ByService, service.String()) {
		instances = true
	}
	for set := range catalog.Endpoints.By(r, catalog.ByService, service.String()) {
		if len(set.Endpoints) > 0 {
			pods = pods || set.Platform == discovery.Pods
			instances = instances || set.Platform == discovery.Instances
		}
	}
	return pods && instances
}
