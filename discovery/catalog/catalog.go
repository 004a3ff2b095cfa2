// Package catalog holds everything that sources know in one place: typed
// tables, written in transactions, read as immutable snapshots. It is the only
// importer of go-memdb.
//
// A commit yields exactly the rows that changed (Change), in the order of
// commits, except for those of tables that are quiet: nobody acts on them at once. It does not use go-memdb's own watch sets: they start a goroutine
// for every 32 watched channels, and wake for changes that are none.
package catalog

import (
	"context"
	"fmt"
	"sync"
	"time"

	memdb "github.com/hashicorp/go-memdb"

	"github.com/causeway-mesh/causeway/discovery"
)

// Catalog holds the tables. Its methods may be called concurrently; writes are serialized.
type Catalog struct {
	db *memdb.MemDB
	// quiet are the tables of which feeds are told nothing.
	quiet map[string]bool

	mu       sync.Mutex // held for a whole write, so that feeds see commits in order
	revision uint64
	commits  uint64
	feeds    map[*Feed]struct{}
}

// New returns an empty catalog.
func New() *Catalog {
	db, err := memdb.NewMemDB(schema())
	if err != nil {
		panic(fmt.Sprintf("catalog: the schema is wrong: %v", err))
	}
	c := &Catalog{db: db, quiet: make(map[string]bool), feeds: make(map[*Feed]struct{})}
	for _, t := range tables() {
		c.quiet[t.Name()] = t.isQuiet()
	}
	return c
}

// Reader is an immutable snapshot of all tables at one revision. It stays valid for ever.
type Reader struct {
	txn      *memdb.Txn
	revision uint64
	commits  uint64
}

// Revision counts the commits that feeds were told of before this snapshot was taken.
func (r Reader) Revision() uint64 { return r.revision }

// Commits counts all commits that changed something before this snapshot was taken, also those of
// quiet tables.
func (r Reader) Commits() uint64 { return r.commits }

// Read returns a snapshot of what is committed.
func (c *Catalog) Read() Reader {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reader(c.db.Txn(false))
}

// reader returns what reads in a transaction. mu must be held.
func (c *Catalog) reader(txn *memdb.Txn) Reader {
	return Reader{txn: txn, revision: c.revision, commits: c.commits}
}

// Tx is a write transaction.
type Tx struct {
	Reader
	err error
}

func (tx *Tx) fail(err error) {
	if tx.err == nil {
		tx.err = err
	}
}

// Change is one row that a commit changed: Before is nil for a new row, After for a deleted one.
type Change struct {
	Table         string
	Before, After any
}

// Concerns reports whether the change is of an Object of a kind.
func (c *Change) Concerns(kind string) bool {
	for _, row := range [2]any{c.Before, c.After} {
		if o, ok := row.(*discovery.Object); ok && o != nil && o.Kind == kind {
			return true
		}
	}
	return false
}

// Batch is the changes of one or more consecutive commits, oldest first.
type Batch struct {
	Changes []Change
	// Reader is the state after the last of the changes.
	Reader Reader
	// Cause is when the oldest of the changes happened at its source, as far as the source knows.
	Cause time.Time
}

// Write runs fn in a transaction and commits it if fn returns nil: all of it or
// nothing. cause is when the change happened at the source, now if zero. It
// returns the revision after the commit, which is unchanged if no row is that feeds are told of.
func (c *Catalog) Write(cause time.Time, fn func(tx *Tx) error) (revision uint64, err error) {
	if cause.IsZero() {
		cause = time.Now()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	txn := c.db.Txn(true)
	defer txn.Abort() // does nothing after a commit
	txn.TrackChanges()
	tx := &Tx{Reader: c.reader(txn)}
	if err := fn(tx); err != nil {
		return c.revision, err
	}
	if tx.err != nil {
		return c.revision, tx.err
	}
	changes := txn.Changes()
	if len(changes) == 0 {
		return c.revision, nil
	}
	txn.Commit()
	c.commits++
	out := make([]Change, 0, len(changes))
	for _, ch := range changes {
		if !c.quiet[ch.Table] {
			out = append(out, Change{Table: ch.Table, Before: ch.Before, After: ch.After})
		}
	}
	if len(out) == 0 {
		return c.revision, nil
	}
	c.revision++
	for f := range c.feeds {
		f.deliver(out, cause)
	}
	return c.revision, nil
}

// Feed hands a reader every change since it subscribed, exactly once, of all tables that are not quiet. A slow
// reader gets the changes of many commits in one Batch and holds up nobody.
type Feed struct {
	catalog *Catalog
	wake    chan struct{}

	mu      sync.Mutex
	pending []Change
	cause   time.Time
}

// Subscribe starts a feed. Its first batch is every row that is there already,
// as new rows. Close ends it.
func (c *Catalog) Subscribe() *Feed {
	f := &Feed{catalog: c, wake: make(chan struct{}, 1)}
	c.mu.Lock()
	defer c.mu.Unlock()
	txn := c.db.Txn(false)
	var existing []Change
	for _, table := range tables() {
		if table.isQuiet() {
			continue
		}
		it, err := txn.Get(table.Name(), string(byID)+"_prefix", "")
		mustRead(err)
		for row := it.Next(); row != nil; row = it.Next() {
			existing = append(existing, Change{Table: table.Name(), After: row})
		}
	}
	if len(existing) > 0 {
		f.deliver(existing, time.Now())
	}
	c.feeds[f] = struct{}{}
	return f
}

// Close ends the feed. Next must not be called any more.
func (f *Feed) Close() {
	f.catalog.mu.Lock()
	defer f.catalog.mu.Unlock()
	delete(f.catalog.feeds, f)
}

// Wake returns a channel that has a value whenever there may be something to take.
func (f *Feed) Wake() <-chan struct{} { return f.wake }

// Take returns what has changed since the last Take, false if nothing has.
func (f *Feed) Take() (Batch, bool) {
	// The catalog's lock makes the reader and the changes the same moment.
	f.catalog.mu.Lock()
	defer f.catalog.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.pending) == 0 {
		return Batch{}, false
	}
	b := Batch{
		Changes: f.pending,
		Cause:   f.cause,
		Reader:  f.catalog.reader(f.catalog.db.Txn(false)),
	}
	f.pending, f.cause = nil, time.Time{}
	return b, true
}

// Next waits for a change and takes it. Its only error is the context's.
func (f *Feed) Next(ctx context.Context) (Batch, error) {
	for {
		if b, ok := f.Take(); ok {
			return b, nil
		}
		select {
		case <-ctx.Done():
			return Batch{}, ctx.Err()
		case <-f.wake:
		}
	}
}

func (f *Feed) deliver(changes []Change, cause time.Time) {
	f.mu.Lock()
	f.pending = append(f.pending, changes...)
	if f.cause.IsZero() || cause.Before(f.cause) {
		f.cause = cause
	}
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}
