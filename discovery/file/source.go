// Package file is the source that reads a directory of YAML: the same objects
// as in Kubernetes, for a mesh without it.
//
// It changes nothing that it could not read. If a file has a mistake, its last
// good content stays. If the directory cannot be read, everything stays.
// Objects go only with a file that is gone from a directory that can be read.
package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
)

// Scope is the scope of every row that comes from files, and the source's name.
const Scope = "file"

const (
	// settle is how long a directory must be quiet before it is read: editors
	// and ConfigMap updates touch it several times for one change.
	settle = 50 * time.Millisecond
	// settleMost is the longest wait for that: a file that is written all the
	// time must not keep a change from being read.
	settleMost = time.Second
	// rescan is how often the directory is read without an event: network file
	// systems send none.
	rescan = 5 * time.Second
)

// LastGood remembers the last good content of files over a restart, but no
// Secrets: after a restart with a broken file, its Secrets are not known.
type LastGood interface {
	// GoodFiles returns the last good contents by file name.
	GoodFiles() map[string][]byte
	// KeepFiles stores them in place of what is stored.
	KeepFiles(files map[string][]byte) error
}

// Source reads a directory into the catalog.
type Source struct {
	dir  string
	log  *slog.Logger
	keep LastGood

	// What follows is Run's own.

	files files
	// told are the problems that were logged, each once.
	told map[string]struct{}
	// kept is the content that was stored last, nil if storing failed.
	kept map[string][]byte
	// lasted is the content that was to be stored last.
	lasted   map[string][]byte
	removals removals

	release chan struct{}
	heldNow atomic.Int64 // objects that the guard against mass removal holds
}

// New returns a source of the directory. If keep is nil, a file that is broken
// when the process starts has no last good content.
func New(dir string, log *slog.Logger, keep LastGood) *Source {
	return &Source{dir: dir, log: log, keep: keep, files: files{}, release: make(chan struct{}, 1)}
}

var _ catalog.Source = (*Source)(nil)

// Required implements catalog.Source.
func (s *Source) Required() []string { return []string{Scope} }

// Run reads the directory, and again whenever it changes, until the context
// ends. Its only error is the context's. It reports problems in the source's
// status and in the log; they change nothing.
func (s *Source) Run(ctx context.Context, cat *catalog.Catalog) error {
	var events <-chan fsnotify.Event
	var errs <-chan error
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		s.log.Warn("cannot watch the configuration directory: it is read every few seconds instead", "dir", s.dir, "error", err)
	} else {
		defer watcher.Close() //nolint:errcheck // there is nothing left to do about it
		events, errs = watcher.Events, watcher.Errors
	}
	s.restore()
	if watcher != nil {
		s.watch(watcher, nil) // before the first reading, which then misses nothing
	}
	ticker := time.NewTicker(rescan)
	defer ticker.Stop()
	quiet := time.NewTimer(0)
	defer quiet.Stop()
	var since time.Time // the first event that was not read yet
	release := false
	for {
		// Events: something in the directory changed, it has been quiet since,
		// events were lost, it is time for a rescan, held objects are released,
		// the end.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-events:
			if s.foreign(e) {
				continue
			}
			if since.IsZero() {
				since = time.Now()
			}
			quiet.Reset(min(settle, settleMost-time.Since(since)))
			continue
		case err := <-errs:
			s.log.Debug("events of the configuration directory were lost; it is read", "error", err)
		case <-quiet.C:
		case <-ticker.C:
		case <-s.release:
			release = true
		}
		since = time.Time{}
		grown := s.reload(cat, watcher, release)
		release = false
		if grown {
			// A directory that is only watched from now on may have changed
			// after it was read.
			quiet.Reset(settle)
		}
	}
}

// foreign reports whether an event is of a neighbour of the directory.
func (s *Source) foreign(e fsnotify.Event) bool {
	dir := filepath.Clean(s.dir)
	return filepath.Dir(e.Name) == filepath.Dir(dir) && e.Name != dir
}

// restore takes the files' last good contents of an earlier run for what they
// said last. Files that are gone by now lose them with the first reading.
func (s *Source) restore() {
	if s.keep == nil {
		return
	}
	s.kept = s.keep.GoodFiles()
	s.lasted = s.kept
	for _, name := range slices.Sorted(maps.Keys(s.kept)) {
		good, problems := decode(name, s.kept[name])
		if len(problems) > 0 {
			s.log.Error("what a file said in an earlier run is not understood any more and is dropped", "problem", problems[0].Error())
			continue
		}
		s.files[name] = &fileState{good: good}
	}
	if len(s.files) > 0 {
		s.removals.last = s.files.merge()
	}
}

// reload reads the directory and writes what changed, and lets go what is held
// back if asked to. It reports whether it found directories that were not watched before.
func (s *Source) reload(cat *catalog.Catalog, watcher *fsnotify.Watcher, release bool) (grown bool) {
	found, err := read(s.dir)
	if watcher != nil {
		grown = s.watch(watcher, found)
	}
	if err != nil {
		s.removals.refilled = s.removals.refilled || isGone(err)
		s.fail(cat, unreadable(s.dir, err))
		return grown
	}
	changed := s.files.update(found)
	all := s.files.merge()
	s.removals.read(found)
	s.removals.apply(all, func(file string) bool { return s.files[file] != nil }, release, time.Now())
	s.heldNow.Store(int64(len(s.removals.held)))
	s.write(cat, all, discovery.SourceStatus{Name: Scope, Synced: true, LastSync: time.Now(), Error: all.summary()})
	s.tell(all.problems)
	if changed {
		s.log.Info("read the configuration directory", "dir", s.dir, "files", len(found.files), "problems", len(all.problems))
	}
	s.store(all.held)
	return grown
}

// watch watches every directory that was found, and the one above: there the
// link to the directory may be swapped, or the directory made anew. A directory
// that cannot be watched is read every few seconds all the same. It reports
// whether any is new.
func (s *Source) watch(w *fsnotify.Watcher, found *scan) (grown bool) {
	before := len(w.WatchList())
	dirs := []string{filepath.Dir(filepath.Clean(s.dir)), s.dir}
	if found != nil {
		dirs = append(dirs, found.dirs...)
	}
	for _, dir := range dirs {
		// Adding one again is how a directory is followed that was replaced.
		_ = w.Add(dir)
	}
	return len(w.WatchList()) > before
}

// fail reports that the directory cannot be read. Until it is read for the
// first time, the content of an earlier run serves.
func (s *Source) fail(cat *catalog.Catalog, err error) {
	s.tell([]Problem{{Message: err.Error()}})
	if old, ok := catalog.Sources.Get(cat.Read(), Scope); ok {
		status := *old
		status.Error = err.Error()
		s.write(cat, nil, status)
		return
	}
	if len(s.files) == 0 {
		s.write(cat, nil, discovery.SourceStatus{Name: Scope, Error: err.Error()})
		return
	}
	s.write(cat, s.files.merge(), discovery.SourceStatus{Name: Scope, LastKnownGood: true, Error: err.Error()})
}

// unreadable says what to do about a directory that cannot be read.
func unreadable(dir string, err error) error {
	if _, gone := os.Stat(dir); errors.Is(gone, fs.ErrNotExist) {
		return fmt.Errorf("the configuration directory %s does not exist: make it, or name another one with --config", dir)
	}
	return fmt.Errorf("configuration directory %s: %w", dir, err)
}

// write writes rows, if any, and the status in one transaction.
func (s *Source) write(cat *catalog.Catalog, all *merged, status discovery.SourceStatus) {
	_, err := cat.Write(time.Time{}, func(tx *catalog.Tx) error {
		if all != nil {
			catalog.Services.Replace(tx, Scope, all.Services)
			catalog.Endpoints.Replace(tx, Scope, all.Endpoints)
			catalog.Objects.Replace(tx, Scope, all.Objects)
		}
		status.ErrorSince = time.Time{}
		if status.Error != "" {
			status.ErrorSince = time.Now()
			if old, ok := catalog.Sources.Get(tx.Reader, Scope); ok && old.Error != "" {
				status.ErrorSince = old.ErrorSince
			}
		}
		catalog.Sources.Put(tx, &status)
		return nil
	})
	if err != nil {
		s.log.Error("cannot write what the files say into the catalog; please report this as a bug", "error", err)
	}
}

// tell logs the problems that were not there the last time.
func (s *Source) tell(problems []Problem) {
	now := make(map[string]struct{}, len(problems))
	for _, p := range problems {
		text := p.Message
		if p.File != "" {
			text = p.Error()
		}
		now[text] = struct{}{}
		if _, old := s.told[text]; !old {
			if len(s.files) == 0 {
				s.log.Error("the configuration cannot be read, and nothing of it is known from before: correct it; it is read again every few seconds", "problem", text)
			} else {
				s.log.Error("the configuration is wrong or cannot be read; what was last known good stays in force", "problem", text)
			}
		}
	}
	s.told = now
}

// store stores the last good contents for the next start, including files that are gone
// and whose objects are held. If that fails, the next reading tries again.
func (s *Source) store(held map[string]struct{}) {
	if s.keep == nil {
		return
	}
	good := s.files.lasting()
	for name := range held {
		if text, ok := s.lasted[name]; ok && good[name] == nil {
			good[name] = text
		}
	}
	s.lasted = good
	if s.kept != nil && maps.EqualFunc(good, s.kept, bytes.Equal) {
		return
	}
	s.kept = good
	if err := s.keep.KeepFiles(good); err != nil {
		s.kept = nil
		s.log.Error("cannot store the last good files: until it can, a restart would lose what a broken file last said", "error", err)
	}
}
