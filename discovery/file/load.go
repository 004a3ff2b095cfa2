package file

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
)

// Stdin is the path that means the standard input, and its name in messages.
const (
	Stdin     = "-"
	stdinName = "stdin"
)

// Loaded is what reading files once found out.
type Loaded struct {
	Problems []Problem
	// Passed are documents and files that are none of the mesh's.
	Passed []Passed
	// Files is how many files were read.
	Files int

	at    map[string]string
	files files
	// index is made when it is first asked for.
	index map[string]*located
}

// located is an object where it is written down.
type located struct {
	name discovery.ObjectName
	file string
	tree tree
	data []byte
	// read is true if the object's file has no mistakes, so that it counts.
	read bool
}

// Origin returns the "file:line" that an object was read at, "" for one that
// was not read.
func (l *Loaded) Origin(o discovery.ObjectRef) string {
	return l.at[discovery.ObjectName{Kind: o.Kind, Key: o.Key}.String()]
}

// Line returns the "file:line" of a field of an object that was read, or of as
// much of its path as is written down; "" for an object that was not read.
func (l *Loaded) Line(o discovery.ObjectRef, field string) string {
	at := l.located()[discovery.ObjectName{Kind: o.Kind, Key: o.Key}.String()]
	if at == nil || !at.read {
		return l.Origin(o)
	}
	return Problem{File: at.file, Line: at.tree.find(field)}.Where()
}

// Unread returns the "file:line" of an object that is written down but does
// not count, because its file has mistakes; "" for any other.
func (l *Loaded) Unread(o discovery.ObjectName) string {
	at := l.located()[o.String()]
	if at == nil || at.read {
		return ""
	}
	return Problem{File: at.file, Line: at.tree.line()}.Where()
}

// Written is an object as it is written down, without defaults.
type Written struct {
	discovery.ObjectName
	Value map[string]any
}

// Written returns the objects that were read as they are written down, sorted
// by where they stand.
func (l *Loaded) Written() []Written {
	all := slices.SortedFunc(maps.Values(l.located()), func(a, b *located) int {
		if c := strings.Compare(a.file, b.file); c != 0 {
			return c
		}
		return a.tree.line() - b.tree.line()
	})
	out := make([]Written, 0, len(all))
	for _, o := range all {
		w := Written{ObjectName: o.name}
		if o.read && json.Unmarshal(o.data, &w.Value) == nil {
			out = append(out, w)
		}
	}
	return out
}

// located returns the objects by their names. If an object is written twice, it
// is the one that counts.
func (l *Loaded) located() map[string]*located {
	if l.index != nil {
		return l.index
	}
	l.index = make(map[string]*located)
	for _, name := range slices.Sorted(maps.Keys(l.files)) {
		f := l.files[name]
		if tooManyAliases(f.read) {
			continue
		}
		aliases := 0
		for _, doc := range documents(normal(name, f.read)) {
			if doc.blank() {
				continue
			}
			if tree, data, err := doc.parse(&aliases); err == nil {
				l.locate(name, tree, data, len(f.problems) == 0)
			}
		}
	}
	return l.index
}

// locate notes where an object stands, or each one of a List.
func (l *Loaded) locate(file string, tree tree, data []byte, read bool) {
	var m meta
	if !tree.isMapping() || json.Unmarshal(data, &m) != nil {
		return
	}
	if isList(m) {
		for i, item := range m.Items {
			l.locate(file, tree.at("items").at(strconv.Itoa(i)), item, read)
		}
		return
	}
	kind, known := kindOf(m)
	if !known {
		return
	}
	name := m.name(kind)
	if old := l.index[name.String()]; old == nil || !old.read && read {
		l.index[name.String()] = &located{name, file, tree, data, read}
	}
}

// Load reads a directory once into a catalog. Its error means that the
// directory cannot be read; what is wrong in its files is in the result.
func Load(dir string, cat *catalog.Catalog) (*Loaded, error) {
	found, err := read(dir)
	if err != nil {
		return nil, fmt.Errorf("configuration directory %s: %w", dir, err)
	}
	return load(found, cat), nil
}

// LoadAll reads files, directories and, for the path "-", the standard input
// once into a catalog, as if all were in one directory. A file that is named is
// read whatever it is called. Its error means that one of them cannot be read.
func LoadAll(paths []string, stdin io.Reader, cat *catalog.Catalog) (*Loaded, error) {
	all := &scan{files: make(map[string][]byte), unreadable: make(map[string]error), unread: make(map[string]bool)}
	for _, path := range paths {
		one, prefix, err := readPath(path, stdin, len(paths) == 1)
		if err != nil {
			return nil, err
		}
		for name, data := range one.files {
			all.files[prefix+name] = data
		}
		for name, err := range one.unreadable {
			all.unreadable[prefix+name] = err
		}
		for name, suspect := range one.unread {
			all.unread[prefix+name] = suspect
		}
	}
	return load(all, cat), nil
}

// readPath reads one of several paths. The prefix is what its files' names have
// before them in messages.
func readPath(path string, stdin io.Reader, only bool) (found *scan, prefix string, err error) {
	if path == Stdin {
		data, err := io.ReadAll(io.LimitReader(stdin, maxFile+1))
		if err != nil {
			return nil, "", fmt.Errorf("standard input: %w", err)
		}
		return &scan{files: map[string][]byte{stdinName: data}}, "", nil
	}
	info, err := os.Stat(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = errors.New("there is no such file or directory")
		}
		return nil, "", fmt.Errorf("%s: %w", path, err)
	}
	if info.IsDir() {
		found, err := read(path)
		if err != nil {
			return nil, "", fmt.Errorf("configuration directory %s: %w", path, err)
		}
		if only {
			return found, "", nil
		}
		return found, filepath.ToSlash(filepath.Clean(path)) + "/", nil
	}
	data, err := readFile(path, info)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", path, err)
	}
	return &scan{files: map[string][]byte{filepath.ToSlash(path): data}}, "", nil
}

// load puts what was read into a catalog.
func load(found *scan, cat *catalog.Catalog) *Loaded {
	s := New("", slog.New(slog.DiscardHandler), nil)
	s.files.update(found)
	all := s.files.merge()
	s.write(cat, all, discovery.SourceStatus{Name: Scope, Synced: true, Error: all.summary()})
	out := &Loaded{Problems: all.problems, Files: len(found.files), at: all.from, files: s.files}
	for _, name := range slices.Sorted(maps.Keys(s.files)) {
		out.Passed = append(out.Passed, s.files[name].passed...)
	}
	for _, name := range slices.Sorted(maps.Keys(found.unread)) {
		out.Passed = append(out.Passed, unreadFile(name, found.unread[name]))
	}
	return out
}

// unreadFile says why a file is not read.
func unreadFile(name string, suspect bool) Passed {
	p := Passed{File: name, What: "not read: its name does not end in .yaml, .yml or .json", Suspect: suspect}
	if suspect {
		p.What += "; rename it if it is meant"
	}
	return p
}
