package file

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
)

// settle is how long a directory must be quiet before it is read: editors and
// ConfigMap updates touch it several times for one change.
const settle = 50 * time.Millisecond

// rescan is how often the directory is read without being told to: network
// file systems do not tell.
const rescan = 5 * time.Second

// Source reads a directory into the catalog.
type Source struct {
	dir string
	log *slog.Logger
	// files by path relative to dir. Run's own.
	files map[string]*fileState
	// keep stores a file's last good content for the next start; may be nil.
	keep Keeper
}

// Keeper remembers the last good content of files over a restart.
type Keeper interface {
	// GoodFiles returns the last good contents by file name.
	GoodFiles() map[string][]byte
	// KeepFiles stores them.
	KeepFiles(files map[string][]byte) error
}

type fileState struct {
	sum      [sha256.Size]byte
	good     rows
	content  []byte // that good was read from
	problems []Problem
}

// New returns a source of the directory.
func New(dir string, log *slog.Logger, keep Keeper) *Source {
	return &Source{dir: dir, log: log, files: make(map[string]*fileState), keep: keep}
}

// Load reads a directory once into a catalog and returns its problems.
func Load(dir string, cat *catalog.Catalog) ([]Problem, error) {
	s := New(dir, slog.New(slog.DiscardHandler), nil)
	if _, err := s.scan(); err != nil {
		return nil, err
	}
	return s.write(cat)
}

// Run reads the directory, and again whenever it changes, until the context
// ends. Its only error is the context's: what cannot be read changes nothing
// and is told in the source's status.
func (s *Source) Run(ctx context.Context, cat *catalog.Catalog) error {
	watcher, err := fsnotify.NewWatcher()
	var events <-chan fsnotify.Event
	if err != nil {
		s.log.Warn("cannot watch the configuration directory, reading it every few seconds instead", "dir", s.dir, "error", err)
	} else {
		defer watcher.Close()
		events = watcher.Events
	}
	if s.keep != nil {
		for name, content := range s.keep.GoodFiles() {
			good, problems := decode(name, content)
			if len(problems) == 0 {
				s.files[name] = &fileState{good: good, content: content}
			}
		}
	}
	ticker := time.NewTicker(rescan)
	defer ticker.Stop()
	var quiet <-chan time.Time = time.After(0)
	first := true
	for {
		// What can happen: the directory changed (wait until it is quiet), it
		// is quiet, it is time to look anyway, the end.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-events:
			quiet = time.After(settle)
			continue
		case <-quiet:
			quiet = nil
		case <-ticker.C:
		}
		if watcher != nil {
			s.watch(watcher)
		}
		changed, err := s.scan()
		if err != nil {
			s.fail(cat, err)
			continue
		}
		if !changed && !first {
			s.fresh(cat)
			continue
		}
		first = false
		problems, err := s.write(cat)
		if err != nil {
			s.fail(cat, err)
			continue
		}
		for _, p := range problems {
			s.log.Error("a file is wrong; what it last said correctly stays in force", "problem", p.Error())
		}
		s.log.Info("read the configuration directory", "dir", s.dir, "files", len(s.files), "problems", len(problems))
		s.store()
	}
}

// watch watches the directory and its subdirectories; a ConfigMap's are swapped.
func (s *Source) watch(w *fsnotify.Watcher) {
	_ = filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = w.Add(path) // a directory that cannot be watched is rescanned
		}
		return nil
	})
}

// scan reads what has changed in the directory. An error changes nothing:
// a directory that cannot be read is not an empty one.
func (s *Source) scan() (changed bool, err error) {
	names, err := s.names()
	if err != nil {
		return false, err
	}
	contents := make(map[string][]byte, len(names))
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(s.dir, name)) //nolint:gosec // the user's own directory
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone since it was listed
		}
		if err != nil {
			return false, fmt.Errorf("read %s: %w", name, err)
		}
		contents[name] = data
	}
	for name := range s.files {
		if _, ok := contents[name]; !ok {
			delete(s.files, name)
			changed = true
		}
	}
	for name, data := range contents {
		sum := sha256.Sum256(data)
		f := s.files[name]
		if f != nil && f.sum == sum {
			continue
		}
		changed = true
		if f == nil {
			f = &fileState{}
			s.files[name] = f
		}
		f.sum = sum
		good, problems := decode(name, data)
		f.problems = problems
		if len(problems) == 0 {
			f.good, f.content = good, data
		}
	}
	return changed, nil
}

// names lists the YAML and JSON files below the directory, sorted. Hidden ones
// are left out, as are the "..data" directories behind a ConfigMap's links.
func (s *Source) names() ([]string, error) {
	info, err := os.Stat(s.dir)
	if err != nil {
		return nil, fmt.Errorf("configuration directory: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("configuration directory: %s is not a directory", s.dir)
	}
	var out []string
	err = filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path != s.dir && strings.HasPrefix(d.Name(), ".") {
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		switch strings.ToLower(filepath.Ext(path)) {
		case ".yaml", ".yml", ".json":
		default:
			return nil
		}
		if info, err := os.Stat(path); err != nil || info.IsDir() {
			return nil //nolint:nilerr // a dangling link is no file
		}
		name, err := filepath.Rel(s.dir, path)
		out = append(out, name)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("configuration directory: %w", err)
	}
	slices.Sort(out)
	return out, nil
}

// write makes the files' last good rows the scope's content, in one transaction.
func (s *Source) write(cat *catalog.Catalog) ([]Problem, error) {
	var all rows
	at := make(map[string]string)
	var problems []Problem
	names := make([]string, 0, len(s.files))
	for name := range s.files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		f := s.files[name]
		problems = append(problems, f.problems...)
		// The same object in two files: the first file's counts.
		taken := func(object string) bool {
			if first, dup := at[object]; dup {
				file, line, _ := strings.Cut(f.good.at[object], ":")
				n := 0
				_, _ = fmt.Sscan(line, &n)
				problems = append(problems, Problem{file, n, object, "it stands at " + first + " already, which counts: remove one"})
				return true
			}
			at[object] = f.good.at[object]
			return false
		}
		for _, r := range f.good.Services {
			if !taken("Service " + r.Key.String()) {
				all.Services = append(all.Services, r)
			}
		}
		for _, r := range f.good.Endpoints {
			if !taken("EndpointSlice " + r.Key.String()) {
				all.Endpoints = append(all.Endpoints, r)
			}
		}
		for _, r := range f.good.Groups {
			if !taken("InstanceGroup " + r.Key.String()) {
				all.Groups = append(all.Groups, r)
			}
		}
	}
	status := &discovery.SourceStatus{Name: Scope, Synced: true, LastSync: time.Now()}
	if len(problems) > 0 {
		status.Error = problems[0].Error()
		if n := len(problems); n > 1 {
			status.Error += fmt.Sprintf(" (and %d more)", n-1)
		}
		status.ErrorSince = status.LastSync
	}
	_, err := cat.Write(time.Time{}, func(tx *catalog.Tx) error {
		catalog.Services.Replace(tx, Scope, all.Services)
		catalog.Endpoints.Replace(tx, Scope, all.Endpoints)
		catalog.InstanceGroups.Replace(tx, Scope, all.Groups)
		catalog.Sources.Put(tx, status)
		return nil
	})
	return problems, err
}

// fail tells that the directory cannot be read. If it never could, the source
// stays unsynced, unless a last known good is there to serve.
func (s *Source) fail(cat *catalog.Catalog, err error) {
	s.update(cat, func(st *discovery.SourceStatus) {
		if st.Error != err.Error() {
			s.log.Error("cannot read the configuration directory; nothing changes until it can be", "error", err)
			st.ErrorSince = time.Now()
		}
		st.Error = err.Error()
	})
	if len(s.files) > 0 {
		if st, ok := catalog.Sources.Get(cat.Read(), Scope); ok && !st.Synced && !st.LastKnownGood {
			if _, werr := s.write(cat); werr == nil {
				s.update(cat, func(st *discovery.SourceStatus) {
					st.Synced, st.LastKnownGood, st.Error = false, true, err.Error()
				})
			}
		}
	}
}

func (s *Source) fresh(cat *catalog.Catalog) {
	s.update(cat, func(st *discovery.SourceStatus) { st.LastSync = time.Now() })
}

func (s *Source) update(cat *catalog.Catalog, change func(*discovery.SourceStatus)) {
	_, _ = cat.Write(time.Time{}, func(tx *catalog.Tx) error { // fails only if the schema were wrong
		next := discovery.SourceStatus{Name: Scope}
		if old, ok := catalog.Sources.Get(tx.Reader, Scope); ok {
			next = *old
		}
		change(&next)
		catalog.Sources.Put(tx, &next)
		return nil
	})
}

// store keeps the last good contents for the next start.
func (s *Source) store() {
	if s.keep == nil {
		return
	}
	good := make(map[string][]byte, len(s.files))
	for name, f := range s.files {
		if f.content != nil {
			good[name] = f.content
		}
	}
	if err := s.keep.KeepFiles(good); err != nil {
		s.log.Error("cannot store the last good files; a restart would lose what a broken file last said", "error", err)
	}
}
