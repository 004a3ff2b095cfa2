package state

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Shifts keeps how far TrafficShifts have come, and gives their controller
// what it needs of a host without Kubernetes. Its methods may be called concurrently.
//
// A status is on the disk before anything is routed by it. A TrafficShift whose
// file is gone is deleted; its state stays until the controller has taken note
// (Release). One that comes under the name of a deleted one starts anew.
type Shifts struct {
	dir *Dir
	cat *catalog.Catalog
	log *slog.Logger

	// mu is held from comparing versions to having written.
	mu      sync.Mutex
	version uint64 // the newest one that was given to any state
	// deleted are the states whose TrafficShift was seen to go.
	deleted map[discovery.Key]struct{}
	// lost is why the stored states could not be read, nil if they could.
	lost error
}

// shiftsRecord is the format on disk of all states.
type shiftsRecord struct {
	Version uint64        `json:"version"`
	Shifts  []shiftRecord `json:"shifts"`
}

type shiftRecord struct {
	Namespace string                       `json:"namespace"`
	Name      string                       `json:"name"`
	Version   string                       `json:"version"`
	Deleted   bool                         `json:"deleted,omitempty"`
	Status    *v1alpha1.TrafficShiftStatus `json:"status"`
}

// NewShifts returns the states of a catalog's shifts, stored in dir; with nil,
// nothing survives a restart.
func NewShifts(dir *Dir, cat *catalog.Catalog, log *slog.Logger) *Shifts {
	return &Shifts{dir: dir, cat: cat, log: log, deleted: make(map[discovery.Key]struct{})}
}

// Restore writes the states and the freeze of an earlier run into the catalog.
// Call it before any source runs. Its error is for the log: what could be read
// is restored, and serving goes on with it.
func (s *Shifts) Restore() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dir == nil {
		s.log.Warn("there is no state directory: after a restart every TrafficShift starts anew, its traffic at the Service's home")
		s.write(func(tx *catalog.Tx) {
			catalog.Sources.Put(tx, &discovery.SourceStatus{Name: ShiftsScope, Synced: true})
		})
		return nil
	}
	stored, err := readPrecious[shiftsRecord](s.dir, shiftsFile)
	var errs []error
	if s.lost = err; err != nil {
		errs = append(errs, fmt.Errorf("how far TrafficShifts have come: %w", err))
	}
	s.version = stored.Version
	var rows []*discovery.ShiftState
	for i := range stored.Shifts {
		rec := &stored.Shifts[i]
		key := discovery.Key{Namespace: rec.Namespace, Name: rec.Name}
		if rec.Status == nil {
			s.lost = fmt.Errorf("%s: the state of TrafficShift %s has no status", s.dir.file(shiftsFile), key)
			s.dir.keep(shiftsFile, s.lost)
			errs = append(errs, s.lost)
			continue
		}
		if rec.Deleted {
			s.deleted[key] = struct{}{}
		}
		rows = append(rows, &discovery.ShiftState{Scope: Scope, Key: key, Version: rec.Version, Status: rec.Status})
	}
	freeze, err := s.readFreeze()
	errs = append(errs, err)
	_, err = s.cat.Write(time.Time{}, func(tx *catalog.Tx) error {
		catalog.ShiftStates.Replace(tx, Scope, rows)
		if freeze != nil {
			catalog.Freezes.Put(tx, freeze)
		}
		known := &discovery.SourceStatus{Name: ShiftsScope, Synced: s.lost == nil}
		if s.lost != nil {
			known.Error, known.ErrorSince = s.lost.Error(), time.Now()
		}
		catalog.Sources.Put(tx, known)
		if lost := errors.Join(errs...); lost != nil {
			// The person who started this reads the log; others read the status later.
			catalog.Sources.Put(tx, &discovery.SourceStatus{Name: Scope, Synced: true, Note: lost.Error()})
		}
		return nil
	})
	if err := errors.Join(append(errs, err)...); err != nil {
		return fmt.Errorf("restore the state of shifts: %w", err)
	}
	return nil
}

// Run gives every TrafficShift a state, and notes deleted ones, until the
// context ends; its only error is the context's.
func (s *Shifts) Run(ctx context.Context) error {
	feed := s.cat.Subscribe()
	defer feed.Close()
	for {
		b, err := feed.Next(ctx)
		if err != nil {
			return err
		}
		look := false
		for _, ch := range b.Changes {
			look = look || ch.Table == catalog.Objects.Name() || ch.Table == catalog.Sources.Name()
			if o, ok := ch.After.(*discovery.Object); ok && o.Kind == discovery.KindTrafficShift && s.lost == nil {
				s.came(o.Key)
			}
		}
		if s.lost != nil {
			s.markUnknownShifts(b.Reader)
			continue
		}
		// This also finds shifts that were deleted while nothing ran.
		if look && sourcesRead(b.Reader) {
			for row := range catalog.ShiftStates.All(b.Reader) {
				s.went(row.Key)
			}
		}
	}
}

// markUnknownShifts marks the TrafficShifts if their states cannot be read: nobody knows who
// has the traffic of their Services. A new shift begins, but takes no step until its state can
// be stored.
func (s *Shifts) markUnknownShifts(r catalog.Reader) {
	old, ok := catalog.Sources.Get(r, ShiftsScope)
	if !ok || !sourcesRead(r) {
		return
	}
	var unknown []discovery.Key
	for o := range catalog.Objects.By(r, catalog.ByKind, discovery.KindTrafficShift) {
		if state, known := catalog.ShiftStates.Get(r, o.Key.String()); known && state.Unknown != "" || !known && !old.Synced {
			unknown = append(unknown, o.Key)
		}
	}
	status := &discovery.SourceStatus{Name: ShiftsScope, Synced: true, ErrorSince: old.ErrorSince}
	if len(unknown) == 0 {
		status.Error = fmt.Sprintf("states of TrafficShifts cannot be read, and none needs them now: %v; to store states again: %s", s.lost, s.dir.begin(shiftsFile))
	} else {
		status.Error = fmt.Sprintf("how far %s came cannot be read, so proxies keep what they have of the Service and nothing moves; all else is served: %v; put the file back and start again, or to have it begin anew, its traffic at home: %s",
			listed(unknown, discovery.KindTrafficShift, discovery.KindTrafficShift+"s"), s.lost, s.dir.begin(shiftsFile))
	}
	if old.Synced && old.Error == status.Error {
		return
	}
	s.log.Error("states of TrafficShifts are not known", "problem", status.Error)
	s.write(func(tx *catalog.Tx) {
		for _, key := range unknown {
			catalog.ShiftStates.Put(tx, &discovery.ShiftState{Scope: Scope, Key: key, Status: &v1alpha1.TrafficShiftStatus{}, Unknown: s.lost.Error()})
		}
		catalog.Sources.Put(tx, status)
	})
}

// came makes sure that a TrafficShift has a state, and that it is not one of another.
func (s *Shifts) came(key discovery.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, deleted := s.deleted[key]
	if _, ok := catalog.ShiftStates.Get(s.cat.Read(), key.String()); ok && !deleted {
		return
	}
	s.version++
	row := &discovery.ShiftState{Scope: Scope, Key: key, Version: s.versionText(), Status: &v1alpha1.TrafficShiftStatus{}}
	delete(s.deleted, key)
	if err := s.store(row, discovery.Key{}); err != nil {
		// Nothing has happened to the shift yet that a restart could lose, and a
		// predecessor's status is still marked as deleted there.
		s.log.Warn("cannot store that a TrafficShift is new", "shift", key.String(), "error", err)
	}
	s.write(func(tx *catalog.Tx) { catalog.ShiftStates.Put(tx, row) })
}

// went remembers that a TrafficShift is deleted, if it is.
func (s *Shifts) went(key discovery.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.cat.Read()
	if _, ok := catalog.ShiftStates.Get(r, key.String()); !ok {
		return
	}
	if _, there := catalog.Objects.Get(r, discovery.ObjectName{Kind: discovery.KindTrafficShift, Key: key}.String()); there {
		return
	}
	if _, noted := s.deleted[key]; noted {
		return
	}
	s.deleted[key] = struct{}{}
	if err := s.store(nil, discovery.Key{}); err != nil {
		s.log.Error("cannot store that a TrafficShift is deleted", "shift", key.String(), "error", err)
	}
}

// Save writes a status. It fails with discovery.ErrConflict if the state is not
// of the version that the status was computed from, and changes nothing when it fails.
func (s *Shifts) Save(_ context.Context, state *discovery.ShiftState) error {
	status, err := asStored(state.Status)
	if err != nil {
		return fmt.Errorf("TrafficShift %s: %w", state.Key, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	current, ok := catalog.ShiftStates.Get(s.cat.Read(), state.Key.String())
	_, deleted := s.deleted[state.Key]
	if !ok || deleted || current.Version != state.Version || state.UID != "" {
		return fmt.Errorf("TrafficShift %s: %w", state.Key, discovery.ErrConflict)
	}
	s.version++
	row := &discovery.ShiftState{Scope: Scope, Key: state.Key, Version: s.versionText(), Status: status}
	if err := s.store(row, discovery.Key{}); err != nil {
		return fmt.Errorf("TrafficShift %s: %w", state.Key, err)
	}
	s.write(func(tx *catalog.Tx) { catalog.ShiftStates.Put(tx, row) })
	return nil
}

// asStored returns a status as a restart would read it: times in whole seconds.
func asStored(status *v1alpha1.TrafficShiftStatus) (*v1alpha1.TrafficShiftStatus, error) {
	text, err := json.Marshal(status)
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	out := new(v1alpha1.TrafficShiftStatus)
	if err := json.Unmarshal(text, out); err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	return out, nil
}

func (s *Shifts) versionText() string { return strconv.FormatUint(s.version, 10) }

// store stores all states with one in place of what it was, and without
// another. mu must be held.
func (s *Shifts) store(changed *discovery.ShiftState, without discovery.Key) error {
	if s.dir == nil {
		return nil
	}
	rec := shiftsRecord{Version: s.version, Shifts: []shiftRecord{}}
	add := func(row *discovery.ShiftState) {
		_, deleted := s.deleted[row.Key]
		rec.Shifts = append(rec.Shifts, shiftRecord{row.Namespace, row.Name, row.Version, deleted, row.Status})
	}
	for row := range catalog.ShiftStates.All(s.cat.Read()) {
		if row.Scope == Scope && row.Key != without && (changed == nil || row.Key != changed.Key) {
			add(row)
		}
	}
	if changed != nil {
		add(changed)
	}
	slices.SortFunc(rec.Shifts, func(a, b shiftRecord) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	return s.dir.write(shiftsFile, rec)
}

func (s *Shifts) write(change func(*catalog.Tx)) {
	if _, err := s.cat.Write(time.Now(), func(tx *catalog.Tx) error { change(tx); return nil }); err != nil {
		s.log.Error("cannot write into the catalog; please report this as a bug", "error", err)
	}
}

// Protect does nothing: a file can be removed whatever anybody wants.
func (s *Shifts) Protect(context.Context, discovery.Key) error { return nil }

// Release removes the state of a TrafficShift that is deleted.
func (s *Shifts) Release(_ context.Context, key discovery.Key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.cat.Read()
	if _, there := catalog.Objects.Get(r, discovery.ObjectName{Kind: discovery.KindTrafficShift, Key: key}.String()); there {
		return nil
	}
	if _, ok := catalog.ShiftStates.Get(r, key.String()); !ok {
		return nil
	}
	if err := s.store(nil, key); err != nil {
		return fmt.Errorf("TrafficShift %s: %w", key, err)
	}
	delete(s.deleted, key)
	s.write(func(tx *catalog.Tx) { catalog.ShiftStates.Delete(tx, key.String()) })
	return nil
}

// RecordHome records a Service's home, first on the disk: where the traffic goes must be what a
// restart would do. It changes nothing when it fails.
func (s *Shifts) RecordHome(_ context.Context, home discovery.Home) error {
	home.Scope = Scope
	put := func() { s.write(func(tx *catalog.Tx) { catalog.Homes.Put(tx, &home) }) }
	if s.dir == nil {
		put()
		return nil
	}
	if err := s.dir.storeHome(s.cat, &home, put); err != nil {
		return fmt.Errorf("home of Service %s: %w", home.Key, err)
	}
	return nil
}

// Event logs what happened to a TrafficShift.
func (s *Shifts) Event(ctx context.Context, e discovery.ShiftEvent) error {
	level := slog.LevelInfo
	if e.Warning {
		level = slog.LevelWarn
	}
	s.log.Log(ctx, level, "a TrafficShift", "shift", e.Key.String(), "reason", e.Reason, "message", e.Message)
	return nil
}

// maxCredentials bounds a directory of credentials, as the API server does a Secret.
const maxCredentials = 1 << 20

// Credentials returns the files of a directory by their names, without the end
// of their last line. They are read anew each time, so that they can be renewed.
func (s *Shifts) Credentials(_ context.Context, _ string, ref v1alpha1.CredentialsReference) (map[string][]byte, error) {
	switch {
	case ref.SecretName != "":
		return nil, fmt.Errorf("credentials: secretName %q needs Kubernetes; without it, give directory, with one file for each key", ref.SecretName)
	case ref.Directory == "":
		return nil, errors.New("credentials: directory is missing; give one with one file for each key")
	}
	entries, err := os.ReadDir(ref.Directory)
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	out := make(map[string][]byte)
	size := int64(0)
	for _, e := range entries {
		path := filepath.Join(ref.Directory, e.Name())
		info, err := os.Stat(path) // what a link leads to
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone since, or a link that leads nowhere
		}
		if err != nil {
			return nil, fmt.Errorf("credentials: %w", err)
		}
		if !info.Mode().IsRegular() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if size += info.Size(); size > maxCredentials {
			return nil, fmt.Errorf("credentials: the files of %s have more than %d bytes; give a directory with nothing but one file for each key", ref.Directory, maxCredentials)
		}
		text, err := os.ReadFile(path) //nolint:gosec // the operator's own directory
		if err != nil {
			return nil, fmt.Errorf("credentials: %w", err)
		}
		out[e.Name()] = []byte(strings.TrimRight(string(text), "\r\n"))
	}
	return out, nil
}

// Autoscaler returns false: without Kubernetes nothing scales pods.
func (s *Shifts) Autoscaler(context.Context, string, string) (discovery.Autoscaler, bool, error) {
	return discovery.Autoscaler{}, false, nil
}

// Terminating returns false: without Kubernetes no namespace is ever deleted.
func (s *Shifts) Terminating(context.Context, string) (bool, error) { return false, nil }
