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

// freezeRecord is the format on disk of a freeze, null for none.
type freezeRecord struct {
	Config bool      `json:"config"`
	By     string    `json:"by"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

// SetFreeze records a freeze, or lifts it (nil). It returns when that is on the disk.
func (s *Shifts) SetFreeze(_ context.Context, f *discovery.Freeze) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var row *discovery.Freeze
	var rec *freezeRecord
	if f != nil {
		rec = &freezeRecord{f.Config, f.By, f.Reason, f.Since.UTC().Truncate(time.Second)}
		row = rec.row()
	}
	if s.dir != nil {
		if err := s.dir.write(freezeFile, rec); err != nil {
			return fmt.Errorf("freeze: %w", err)
		}
	}
	s.write(func(tx *catalog.Tx) {
		if row == nil {
			catalog.Freezes.Delete(tx, catalog.FreezeID)
			return
		}
		catalog.Freezes.Put(tx, row)
	})
	return nil
}

func (rec *freezeRecord) row() *discovery.Freeze {
	return &discovery.Freeze{Scope: Scope, Config: rec.Config, By: rec.By, Reason: rec.Reason, Since: rec.Since}
}

// readFreeze returns the freeze that is stored, nil for none. The generation
// before does not count here: it may say that nothing is frozen. What cannot be
// read freezes everything, because nothing may begin to move by a spoiled file;
// it stays where it is, and does so again at the next start, until it is lifted.
func (s *Shifts) readFreeze() (*discovery.Freeze, error) {
	s.dir.mu.Lock()
	defer s.dir.mu.Unlock()
	path := s.dir.file(freezeFile)
	rec, raw, err := load[*freezeRecord](path, freezeFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return &discovery.Freeze{
			Scope: Scope, Config: true, By: "causeway", Since: time.Now().UTC().Truncate(time.Second),
			Reason: fmt.Sprintf("the record of a freeze cannot be read (%v); if nothing is to be frozen: causeway unfreeze", err),
		}, fmt.Errorf("everything is frozen until causeway unfreeze: %w", err)
	}
	s.dir.written[freezeFile] = raw
	if rec == nil {
		return nil, nil
	}
	return rec.row(), nil
}
