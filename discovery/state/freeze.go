package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
)

// ChangeFreeze stores the freeze that a change returns, nil for none, and returns it once it is
// on the disk. An error of the change changes nothing.
func (s *Shifts) ChangeFreeze(_ context.Context, change func(*discovery.Freeze) (*discovery.Freeze, error)) (*discovery.Freeze, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	row, _ := catalog.Freezes.Get(s.cat.Read(), catalog.FreezeID)
	row, err := change(row)
	if err != nil {
		return nil, err
	}
	if s.dir != nil {
		if err := s.dir.write(freezeFile, row.Record()); err != nil {
			return nil, fmt.Errorf("freeze: %w", err)
		}
	}
	s.write(func(tx *catalog.Tx) {
		if row == nil {
			catalog.Freezes.Delete(tx, catalog.FreezeID)
			return
		}
		own := *row
		own.Scope = Scope
		catalog.Freezes.Put(tx, &own)
	})
	return row, nil
}

// readFreeze returns the stored freeze, nil for none. The previous generation
// does not count here: it may say that nothing is frozen. A record that cannot
// be read freezes everything, because a spoiled file must not make anything
// move. It stays in place, and freezes again at the next start, until somebody
// lifts the freeze.
func (s *Shifts) readFreeze() (*discovery.Freeze, error) {
	s.dir.mu.Lock()
	defer s.dir.mu.Unlock()
	path := s.dir.file(freezeFile)
	rec, raw, err := load[*discovery.FreezeRecord](path, freezeFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return discovery.UnreadableFreeze(Scope, "the record of a freeze", err, time.Time{}),
			fmt.Errorf("everything is frozen until causeway unfreeze --owner causeway: %w", err)
	}
	s.dir.written[freezeFile] = raw
	return rec.Freeze(Scope), nil
}
