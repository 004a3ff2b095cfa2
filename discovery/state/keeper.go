// Package state does for a mesh without Kubernetes what the leader and etcd do
// with it: it publishes instances as endpoints, records Services' homes, and
// stores the last known good for a restart.
package state

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
)

// Scope is the scope of the homes that are recorded here, and the name of the
// status that tells whether the state can be stored.
const Scope = "state"

// PublishedScope is the scope of the endpoints that are published here, and
// the name of the status that tells whether the first are.
const PublishedScope = "instances"

const (
	// saveDelay gathers changes of instances, which are many in a scale-out
	// and each need the disk. Homes are stored at once.
	saveDelay = time.Second
	// retryDelay is how long to wait after a disk refused.
	retryDelay = 5 * time.Second
)

// Keeper publishes, records and remembers.
type Keeper struct {
	dir *Dir
	// homes returns the homes to record.
	homes func(catalog.Reader) []discovery.Home
	log   *slog.Logger

	// told are the groups with unknown instances, with the reason that was logged last. It is
	// Run's own.
	told map[string]string
	// restored are the ports of groups in an earlier run, until they are published
	// again. It is Run's own.
	restored map[discovery.Key][]discovery.EndpointPort
	// lost is why recorded homes could not be read, lostOf why single ones could not.
	lost   error
	lostOf map[discovery.Key]lostHome
}

// NewKeeper returns a keeper that stores in dir; with nil, nothing survives a
// restart. homes returns the homes that have to be recorded.
func NewKeeper(dir *Dir, homes func(catalog.Reader) []discovery.Home, log *slog.Logger) *Keeper {
	return &Keeper{dir: dir, homes: homes, log: log}
}

var _ catalog.Source = (*Keeper)(nil)

// Required implements catalog.Source. The states of TrafficShifts are among it, which Shifts keeps.
func (k *Keeper) Required() []string { return []string{PublishedScope, HomesScope, ShiftsScope} }

// Restore writes the state of an earlier run into the catalog. Call it before
// any source runs: it also says that no endpoint of an instance is published
// yet, so that nothing is served until Run has published them. Its error is for
// the log: it restores what it can read, and serving goes on with that.
func (k *Keeper) Restore(cat *catalog.Catalog) error {
	var errs []error
	var instances []instancesRecord
	var homes []homeRecord
	if k.dir != nil {
		var err error
		instances, err = read[[]instancesRecord](k.dir, instancesFile)
		errs = append(errs, err)
		homes, k.lost = readPrecious[[]homeRecord](k.dir, homesFile)
		errs = append(errs, k.lost)
	}
	_, err := cat.Write(time.Time{}, func(tx *catalog.Tx) error {
		for i := range instances {
			row, err := instances[i].row()
			if err != nil {
				errs = append(errs, err)
				continue
			}
			catalog.Instances.Put(tx, row)
			k.restorePorts(&instances[i], row)
		}
		for i := range homes {
			row, err := homes[i].row()
			if err != nil {
				k.lose(&homes[i], err)
				errs = append(errs, err)
				continue
			}
			catalog.Homes.Put(tx, row)
		}
		catalog.Sources.Put(tx, &discovery.SourceStatus{Name: PublishedScope})
		homes := &discovery.SourceStatus{Name: HomesScope, Synced: k.lost == nil && len(k.lostOf) == 0}
		if !homes.Synced {
			homes.Error, homes.ErrorSince = "homes cannot be read", time.Now()
		}
		catalog.Sources.Put(tx, homes)
		return nil
	})
	if err := errors.Join(append(errs, err)...); err != nil {
		return fmt.Errorf("restore the last known good: %w", err)
	}
	return nil
}

// restorePorts keeps a group's ports for the first publishing. Ports that its spec no longer mapped
// are held for as long as they have traffic, and a restart does not end that.
func (k *Keeper) restorePorts(rec *instancesRecord, set *discovery.InstanceSet) {
	if k.restored == nil {
		k.restored = make(map[discovery.Key][]discovery.EndpointPort)
	}
	for _, p := range rec.Ports {
		k.restored[set.Key] = append(k.restored[set.Key], discovery.EndpointPort{Name: p.Name, Port: p.Port})
	}
}

// hold adds the ports of an earlier run that must be held to a set, the first
// time that it is published. It adds none to another Service.
func (k *Keeper) hold(r catalog.Reader, set *discovery.EndpointSet) {
	svc, ok := catalog.Services.Get(r, set.Service.String())
	instances, known := catalog.Instances.Get(r, set.Key.String())
	if !ok || !known {
		return
	}
	if instances.Service == set.Service {
		set.Ports = discovery.HeldPorts(set.Ports, k.restored[set.Key], svc)
	}
	delete(k.restored, set.Key)
}

// Run publishes, records and stores until the context ends; its only error is
// the context's. If something cannot be stored, it says so in the status and
// tries again; serving does not depend on it.
func (k *Keeper) Run(ctx context.Context, cat *catalog.Catalog) error {
	feed := cat.Subscribe()
	defer feed.Close()
	var due <-chan time.Time // when to store instances, nil if they are
	for {
		// Events: rows changed, it is time to store, the end.
		select {
		case <-ctx.Done():
			k.save(cat, true)
			return ctx.Err()
		case <-due:
			due = nil
			if !k.save(cat, true) {
				due = time.After(retryDelay)
			}
		case <-feed.Wake():
			b, ok := feed.Take()
			if !ok {
				continue
			}
			todo := concerns(b)
			if todo.publish {
				k.publish(cat, b.Cause)
			}
			if todo.record || todo.markHomes {
				k.markUnknownHomes(cat)
			}
			if todo.record {
				k.record(cat, b.Cause)
			}
			later := todo.storeInstances
			if todo.storeHomes && !k.save(cat, false) {
				later = true
			}
			if later && due == nil {
				due = time.After(saveDelay)
			}
		}
	}
}

// concern says what there is to do after a change.
type concern struct{ publish, record, markHomes, storeHomes, storeInstances bool }

func concerns(b catalog.Batch) (todo concern) {
	for _, c := range b.Changes {
		switch c.Table {
		case catalog.Objects.Name():
			if c.Concerns(discovery.KindInstanceGroup) {
				todo.publish, todo.record, todo.storeInstances = true, true, true
			}
		case catalog.Sources.Name():
			todo.publish, todo.record = true, true
		case catalog.Instances.Name():
			todo.publish, todo.storeInstances = true, true
		case catalog.Checks.Name(), catalog.GroupStatuses.Name():
			todo.publish = true
		case catalog.Services.Name(): // its ports may have been renamed
			todo.publish, todo.record, todo.storeInstances = true, true, true
		case catalog.Endpoints.Name():
			todo.markHomes = true
		case catalog.Homes.Name():
			todo.record, todo.storeHomes = true, true
		}
	}
	return todo
}

// publish computes the published endpoints from the instances and their checks.
// Endpoints of a deleted group go with it; a group that EC2 has not been read for
// has none yet.
//
// Publishing is complete when every group has instances, or cannot have any for now
// because it is refused or its account and region cannot be read. The instances of
// such a group are unknown, which is not the same as none, and it holds up no
// other.
func (k *Keeper) publish(cat *catalog.Catalog, cause time.Time) {
	unknown := make(map[string]string)
	k.write(cat, cause, func(tx *catalog.Tx) {
		var sets []*discovery.EndpointSet
		var waiting []string
		for g := range catalog.InstanceGroups.All(tx.Reader) {
			set := catalog.PublishInstances(tx.Reader, g)
			if set == nil {
				if st, tried := catalog.GroupStatuses.Get(tx.Reader, g.Key.String()); tried && st.Error != "" {
					unknown[g.Key.String()] = st.Error
				} else {
					waiting = append(waiting, g.Key.String())
				}
				continue
			}
			set.Scope = PublishedScope
			k.hold(tx.Reader, set)
			sets = append(sets, set)
		}
		catalog.Endpoints.Replace(tx, PublishedScope, sets)
		if !sourcesRead(tx.Reader) {
			return
		}
		status, ok := catalog.Sources.Get(tx.Reader, PublishedScope)
		ready := len(waiting) == 0 || (ok && status.Synced)
		if ready {
			forgetOrphans(tx)
		}
		catalog.Sources.Put(tx, &discovery.SourceStatus{Name: PublishedScope, Synced: ready, Note: noteOf(waiting, unknown)})
	})
	k.tell(unknown)
}

// named bounds how many objects a note names.
const named = 3

// firstOf joins names, the first few of many.
func firstOf(names []string) string {
	more := ""
	if n := len(names) - named; n > 0 {
		names, more = names[:named], fmt.Sprintf(" and %d more", n)
	}
	return strings.Join(names, ", ") + more
}

// noteOf says which groups have no instances yet, and why, "" if all have.
func noteOf(waiting []string, unknown map[string]string) string {
	var out []string
	add := func(names []string, what string) {
		if len(names) == 0 {
			return
		}
		out = append(out, fmt.Sprintf("InstanceGroup %s: %s", firstOf(names), what))
	}
	add(waiting, "EC2 has not answered yet")
	names := slices.Sorted(maps.Keys(unknown))
	if len(names) > 0 {
		add(names, "not known, others are served meanwhile: "+unknown[names[0]])
	}
	return strings.Join(out, "; ")
}

// tell logs which groups' instances are not known, each once for each cause.
func (k *Keeper) tell(unknown map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(unknown)) {
		if k.told[name] != unknown[name] {
			k.log.Warn("the instances of an InstanceGroup are not known; everything else is served, and proxies keep the endpoints that they have of it",
				"group", name, "because", unknown[name])
		}
	}
	for name := range k.told {
		if _, still := unknown[name]; !still {
			k.log.Info("the instances of an InstanceGroup are known now, or it is gone", "group", name)
		}
	}
	k.told = unknown
}

// forgetOrphans removes restored instances of groups that were deleted while
// nothing ran: a group that is made anew under the name must not start from them.
func forgetOrphans(tx *catalog.Tx) {
	var orphans []string
	for set := range catalog.Instances.All(tx.Reader) {
		if _, ok := catalog.InstanceGroups.Get(tx.Reader, set.Key.String()); !ok {
			orphans = append(orphans, set.Key.String())
		}
	}
	for _, id := range orphans {
		catalog.Instances.Delete(tx, id)
	}
}

// sourcesRead reports whether every source of objects has been read, and there is one.
func sourcesRead(r catalog.Reader) bool {
	read := false
	for s := range catalog.Sources.All(r) {
		if s.OfInstances() || slices.Contains([]string{PublishedScope, Scope, HomesScope, ShiftsScope}, s.Name) {
			continue
		}
		if !s.Ready() {
			return false
		}
		read = true
	}
	return read
}

// record writes the homes that have to be recorded.
func (k *Keeper) record(cat *catalog.Catalog, cause time.Time) {
	k.write(cat, cause, func(tx *catalog.Tx) {
		for _, h := range k.homes(tx.Reader) {
			if k.guess(tx.Reader, &h) {
				continue
			}
			h.Scope = Scope
			catalog.Homes.Put(tx, &h)
		}
	})
}

func (k *Keeper) write(cat *catalog.Catalog, cause time.Time, fn func(*catalog.Tx)) {
	if _, err := cat.Write(cause, func(tx *catalog.Tx) error { fn(tx); return nil }); err != nil {
		k.log.Error("cannot write into the catalog; please report this as a bug", "error", err)
	}
}

// storeHomes stores the homes that the catalog has.
func (d *Dir) storeHomes(cat *catalog.Catalog) error {
	d.homes.Lock()
	defer d.homes.Unlock()
	return d.write(homesFile, homeRecords(cat.Read()))
}

// storeHome stores the catalog's homes with one of them replaced, and then calls stored. Nobody else stores
// homes in between, who would not know of it.
func (d *Dir) storeHome(cat *catalog.Catalog, home *discovery.Home, stored func()) error {
	d.homes.Lock()
	defer d.homes.Unlock()
	records := slices.DeleteFunc(homeRecords(cat.Read()), func(r homeRecord) bool {
		return r.Namespace == home.Namespace && r.Service == home.Name
	})
	records = append(records, recordOf(home))
	slices.SortFunc(records, func(a, b homeRecord) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Service, b.Service))
	})
	if err := d.write(homesFile, records); err != nil {
		return err
	}
	stored()
	return nil
}

// save stores homes, and instances if asked to, and tells in the status whether it could.
func (k *Keeper) save(cat *catalog.Catalog, instances bool) (ok bool) {
	if k.dir == nil {
		return true
	}
	err := k.dir.storeHomes(cat)
	if instances {
		err = errors.Join(err, k.dir.write(instancesFile, instancesRecords(cat.Read())))
	}
	k.write(cat, time.Time{}, func(tx *catalog.Tx) {
		old, known := catalog.Sources.Get(tx.Reader, Scope)
		status := discovery.SourceStatus{Name: Scope, Synced: true, LastSync: time.Now()}
		if known {
			status.Note = old.Note
		}
		if err != nil {
			status.Error, status.ErrorSince = err.Error(), status.LastSync
			status.LastSync = time.Time{}
			if known {
				status.LastSync = old.LastSync
			}
			if known && old.Error != "" {
				status.ErrorSince = old.ErrorSince
			}
		}
		if err != nil && (!known || old.Error != status.Error) {
			k.log.Error("cannot store the state; serving goes on, but a restart would lose what changed since", "error", err)
		}
		catalog.Sources.Put(tx, &status)
	})
	return err == nil
}
