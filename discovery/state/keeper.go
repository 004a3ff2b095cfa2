// Package state does for a mesh without Kubernetes what the leader and etcd do
// with it: it publishes instances as endpoints, records Services' homes, and
// remembers the last known good over a restart.
package state

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
}

// NewKeeper returns a keeper that stores in dir; with nil, nothing survives a
// restart. homes returns the homes that have to be recorded.
func NewKeeper(dir *Dir, homes func(catalog.Reader) []discovery.Home, log *slog.Logger) *Keeper {
	return &Keeper{dir, homes, log}
}

// Restore writes what an earlier run has stored into the catalog. Call it
// before any source runs: it also tells that no endpoint of an instance is
// published yet, so that nothing is served until Run has. Its error is for the
// log: what could be read is restored, and serving goes on with it.
func (k *Keeper) Restore(cat *catalog.Catalog) error {
	var errs []error
	var instances []instancesRecord
	var homes []homeRecord
	if k.dir != nil {
		var err error
		instances, err = read[[]instancesRecord](k.dir, instancesFile)
		errs = append(errs, err)
		homes, err = read[[]homeRecord](k.dir, homesFile)
		errs = append(errs, err)
	}
	_, err := cat.Write(time.Time{}, func(tx *catalog.Tx) error {
		for i := range instances {
			row, err := instances[i].row()
			if err != nil {
				errs = append(errs, err)
				continue
			}
			catalog.Instances.Put(tx, row)
		}
		for i := range homes {
			row, err := homes[i].row()
			if err != nil {
				errs = append(errs, err)
				continue
			}
			catalog.Homes.Put(tx, row)
		}
		catalog.Sources.Put(tx, &discovery.SourceStatus{Name: PublishedScope})
		return nil
	})
	if err := errors.Join(append(errs, err)...); err != nil {
		return fmt.Errorf("restore the last known good: %w", err)
	}
	return nil
}

// Run publishes, records and stores until the context ends; its only error is
// the context's. What cannot be stored is told in the status and tried again;
// serving does not depend on it.
func (k *Keeper) Run(ctx context.Context, cat *catalog.Catalog) error {
	feed := cat.Subscribe()
	defer feed.Close()
	var due <-chan time.Time // when to store instances, nil if they are
	for {
		// What can happen: rows changed, it is time to store, the end.
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
type concern struct{ publish, record, storeHomes, storeInstances bool }

func concerns(b catalog.Batch) (todo concern) {
	for _, c := range b.Changes {
		switch c.Table {
		case catalog.InstanceGroups.Name(), catalog.Sources.Name():
			todo.publish, todo.record = true, true
		case catalog.Instances.Name():
			todo.publish, todo.storeInstances = true, true
		case catalog.Checks.Name():
			todo.publish = true
		case catalog.Services.Name():
			todo.publish, todo.record = true, true
		case catalog.Homes.Name():
			todo.record, todo.storeHomes = true, true
		}
	}
	return todo
}

// publish makes the published endpoints what the instances and their checks
// say. Endpoints of a group that is gone go with it; a group that EC2 has not
// been read for has none yet.
func (k *Keeper) publish(cat *catalog.Catalog, cause time.Time) {
	k.write(cat, cause, func(tx *catalog.Tx) {
		var sets []*discovery.EndpointSet
		complete := sourcesRead(tx.Reader)
		for g := range catalog.InstanceGroups.All(tx.Reader) {
			set := catalog.PublishInstances(tx.Reader, g)
			if set == nil {
				complete = false
				continue
			}
			set.Scope = PublishedScope
			sets = append(sets, set)
		}
		catalog.Endpoints.Replace(tx, PublishedScope, sets)
		if !complete {
			return
		}
		forgetOrphans(tx)
		catalog.Sources.Put(tx, &discovery.SourceStatus{Name: PublishedScope, Synced: true})
	})
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

// sourcesRead reports whether every other source has been read, and there is one.
func sourcesRead(r catalog.Reader) bool {
	read := false
	for s := range catalog.Sources.All(r) {
		if s.Name == PublishedScope || s.Name == Scope {
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
