package file

import (
	"fmt"
	"log/slog"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
)

// Loaded is what reading a directory once found out.
type Loaded struct {
	Problems []Problem
	at       map[string]string
}

// Origin returns the "file:line" that an object was read at, "" for one that
// was not read.
func (l *Loaded) Origin(o discovery.ObjectRef) string {
	return l.at[discovery.ObjectName{Kind: o.Kind, Key: o.Key}.String()]
}

// Load reads a directory once into a catalog. Its error means that the
// directory cannot be read; what is wrong in its files is in the result.
func Load(dir string, cat *catalog.Catalog) (*Loaded, error) {
	found, err := read(dir)
	if err != nil {
		return nil, fmt.Errorf("configuration directory %s: %w", dir, err)
	}
	s := New(dir, slog.New(slog.DiscardHandler), nil)
	s.files.update(found)
	all := s.files.merge()
	s.write(cat, all, discovery.SourceStatus{Name: Scope, Synced: true, Error: all.summary()})
	return &Loaded{all.problems, all.from}, nil
}
