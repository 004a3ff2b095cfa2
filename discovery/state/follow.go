package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
)

// followEvery is how often the state of another control plane is read.
const followEvery = time.Second

// ExpectOther says that the states come from another control plane, and are not
// known before they were read there; those of an earlier run serve until then.
// Call it after Restore.
func (s *Shifts) ExpectOther() {
	s.write(func(tx *catalog.Tx) {
		known := false
		for range catalog.ShiftStates.All(tx.Reader) {
			known = true
		}
		catalog.Sources.Put(tx, &discovery.SourceStatus{Name: ShiftsScope, LastKnownGood: known})
	})
}

// Follow reads the states of TrafficShifts, the homes of Services and the freeze from
// the state directory of another control plane, which carries the shifts out, until the
// context ends. If it cannot be read, the last state stays.
func (s *Shifts) Follow(ctx context.Context, path string) error {
	leader := &Dir{path: path, log: s.log}
	ticker := time.NewTicker(followEvery)
	defer ticker.Stop()
	told := ""
	for {
		problem := ""
		if err := s.take(leader); err != nil {
			problem = err.Error()
		}
		s.followed(problem)
		if problem != told && problem != "" {
			s.log.Warn("cannot read the state of the control plane that carries TrafficShifts out; what was read last stays in force", "problem", problem)
		} else if problem != told {
			s.log.Info("the state of the control plane that carries TrafficShifts out can be read again")
		}
		told = problem
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// followed tells whether the other control plane's state could be read.
func (s *Shifts) followed(problem string) {
	s.write(func(tx *catalog.Tx) {
		status := discovery.SourceStatus{Name: ShiftsScope}
		if old, ok := catalog.Sources.Get(tx.Reader, ShiftsScope); ok {
			status = *old
		}
		switch {
		case problem == "":
			status.Synced, status.Error, status.ErrorSince = true, "", time.Time{}
		case status.Error == "":
			status.ErrorSince = time.Now()
		}
		status.Error = problem
		catalog.Sources.Put(tx, &status)
	})
}

// readOther reads a file of another control plane, or its copy, and changes
// nothing there. A file that does not exist is the zero value if it may be missing.
func readOther[T any](d *Dir, kind string) (data T, err error) {
	data, _, err = load[T](d.file(kind), kind)
	if err != nil && precious(kind) {
		second, _, copyErr := load[T](d.file(kind)+copySuffix, kind)
		switch {
		case copyErr == nil:
			return second, nil
		case errors.Is(err, fs.ErrNotExist):
			err = copyErr // where a copy is, the file is not missing because there is nothing
		}
	}
	return data, err
}

// take reads the other control plane's state into the catalog. It reads states
// before homes: a completed shift stores its home first.
func (s *Shifts) take(leader *Dir) error {
	// The lock is there from the leader's first start on. Without it the
	// directory is the wrong one, or not mounted.
	if _, err := os.Stat(filepath.Join(leader.path, lockFile)); err != nil {
		return fmt.Errorf("--shifts-from: this is not the state directory of a control plane: %w", err)
	}
	stored, err := readOther[shiftsRecord](leader, shiftsFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	homes, err := readOther[[]homeRecord](leader, homesFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	freeze, err := readOther[*discovery.FreezeRecord](leader, freezeFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	states := make([]*discovery.ShiftState, 0, len(stored.Shifts))
	for i := range stored.Shifts {
		rec := &stored.Shifts[i]
		key := discovery.Key{Namespace: rec.Namespace, Name: rec.Name}
		if rec.Status == nil {
			return fmt.Errorf("the state of TrafficShift %s has no status", key)
		}
		states = append(states, &discovery.ShiftState{Scope: Scope, Key: key, Version: rec.Version, Status: rec.Status})
	}
	rows := make([]*discovery.Home, 0, len(homes))
	for i := range homes {
		row, err := homes[i].row()
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, frozen := catalog.Freezes.Get(s.cat.Read(), catalog.FreezeID)
	s.write(func(tx *catalog.Tx) {
		catalog.ShiftStates.Replace(tx, Scope, states)
		for _, row := range rows {
			catalog.Homes.Put(tx, row)
		}
		if row := freeze.Freeze(Scope); row != nil {
			catalog.Freezes.Put(tx, row)
		} else {
			catalog.Freezes.Delete(tx, catalog.FreezeID)
		}
	})
	s.version = stored.Version
	err = s.store(nil, discovery.Key{})
	if s.dir != nil && (freeze != nil || frozen) {
		// Shifts that the other control plane holds must not begin to move if this one starts while the
		// freeze cannot be read.
		err = errors.Join(err, s.dir.write(freezeFile, freeze))
	}
	return err
}
