package state

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

var php = discovery.Key{Namespace: "web", Name: "php-web"}

// shiftRun is a running keeper of shifts, as one process has it.
type shiftRun struct {
	*Shifts
	t    *testing.T
	stop func()
}

// startShifts starts as a process does: what is stored is restored before
// anything runs. With no path, nothing is stored.
func startShifts(t *testing.T, path string) *shiftRun {
	t.Helper()
	var dir *Dir
	if path != "" {
		var err error
		dir, err = Open(path, quiet)
		require.NoError(t, err)
	}
	r := &shiftRun{Shifts: NewShifts(dir, catalog.New(), quiet), t: t}
	require.NoError(t, r.Restore())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.Run(ctx)
	}()
	r.stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(r.stop)
	return r
}

// apply is what the file source writes when a TrafficShift's file is there, or is not.
func (r *shiftRun) apply(key discovery.Key, there bool) {
	r.t.Helper()
	write(r.t, r.cat, func(tx *catalog.Tx) {
		catalog.Sources.Put(tx, &discovery.SourceStatus{Name: "file", Synced: true})
		name := discovery.ObjectName{Kind: discovery.KindTrafficShift, Key: key}
		if !there {
			catalog.Objects.Delete(tx, name.String())
			return
		}
		catalog.Objects.Put(tx, &discovery.Object{Scope: "file", Kind: discovery.KindTrafficShift, Key: key, Spec: &v1alpha1.TrafficShift{}})
	})
}

func (r *shiftRun) state(key discovery.Key) *discovery.ShiftState {
	row, _ := catalog.ShiftStates.Get(r.cat.Read(), key.String())
	return row
}

// await waits until the state is as check wants it.
func (r *shiftRun) await(key discovery.Key, what string, check func(*discovery.ShiftState) bool) *discovery.ShiftState {
	r.t.Helper()
	await(r.t, r.cat, what, func(catalog.Reader) bool { return !r.isDeleted(key) && check(r.state(key)) })
	return r.state(key)
}

// isDeleted reports whether the keeper has seen that a TrafficShift is gone.
func (r *shiftRun) isDeleted(key discovery.Key) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, deleted := r.deleted[key]
	return deleted
}

// fresh reports whether a state is that of a shift to which nothing has happened.
func fresh(s *discovery.ShiftState) bool { return s != nil && s.Status.Phase == "" }

// awaitDeleted waits until the keeper has seen that a TrafficShift is gone.
func (r *shiftRun) awaitDeleted(key discovery.Key) {
	r.t.Helper()
	require.Eventually(r.t, func() bool { return r.isDeleted(key) }, 20*time.Second, time.Millisecond, "the deletion is seen")
}

// move saves the next status as the controller would.
func (r *shiftRun) move(key discovery.Key, percent v1alpha1.Percent) error {
	r.t.Helper()
	next := *r.state(key)
	next.Status = next.Status.DeepCopy()
	next.Status.Phase, next.Status.Percent = v1alpha1.ShiftShifting, percent
	next.Status.StepStarted = &metav1.Time{Time: time.Unix(1_800_000_000, 123456789)}
	return r.Save(r.t.Context(), &next)
}

func TestShiftStates(t *testing.T) {
	for name, path := range map[string]string{"stored": t.TempDir(), "in memory": ""} {
		t.Run(name, func(t *testing.T) {
			r := startShifts(t, path)
			r.apply(php, true)
			first := r.await(php, "a state for a new shift", fresh)
			require.NotEmpty(t, first.Version)
			require.NoError(t, r.move(php, "1"))
			require.EqualValues(t, "1", r.state(php).Status.Percent)
			require.ErrorIs(t, r.Save(t.Context(), first), discovery.ErrConflict)
			foreign := *r.state(php)
			foreign.UID = "1234"
			require.ErrorIs(t, r.Save(t.Context(), &foreign), discovery.ErrConflict)
			unknown := *r.state(php)
			unknown.Name = "other"
			require.ErrorIs(t, r.Save(t.Context(), &unknown), discovery.ErrConflict)
			require.NoError(t, r.move(php, "10"))
			require.NoError(t, r.Protect(t.Context(), php))
			require.NoError(t, r.Release(t.Context(), php), "nothing to release while the file is there")
			before := r.state(php)
			require.EqualValues(t, "10", before.Status.Percent)

			r.stop()
			r = startShifts(t, path)
			if path == "" {
				require.Nil(t, r.state(php))
				return
			}
			require.Equal(t, before, r.state(php), "restored before any source runs, to the last digit")
			r.apply(php, true)
			require.NoError(t, r.move(php, "50"))
			require.NotEqual(t, before.Version, r.state(php).Version)
		})
	}
}

// A TrafficShift whose file goes is deleted, and one that comes back is another one.
func TestDeletedShiftsStartAnew(t *testing.T) {
	path := t.TempDir()
	r := startShifts(t, path)
	r.apply(php, true)
	r.await(php, "a state", fresh)
	require.NoError(t, r.move(php, "50"))

	write(t, r.cat, func(tx *catalog.Tx) { // an editor that replaces a file
		name := discovery.ObjectName{Kind: discovery.KindTrafficShift, Key: php}
		catalog.Objects.Delete(tx, name.String())
		catalog.Objects.Put(tx, &discovery.Object{Scope: "file", Kind: discovery.KindTrafficShift, Key: php, Generation: 2})
	})
	require.NoError(t, r.move(php, "51"), "that is an edit")
	old := r.state(php)

	r.apply(php, false)
	r.awaitDeleted(php)
	require.Equal(t, old, r.state(php), "the controller has yet to take note")
	require.ErrorIs(t, r.move(php, "100"), discovery.ErrConflict)
	r.apply(php, true)
	anew := r.await(php, "another shift", fresh)
	require.ErrorIs(t, r.Save(t.Context(), old), discovery.ErrConflict)
	require.NotEqual(t, old.Version, anew.Version)

	// Deleted, and the process dies before anybody has taken note.
	require.NoError(t, r.move(php, "50"))
	r.apply(php, false)
	r.awaitDeleted(php)
	r.stop()
	r = startShifts(t, path)
	require.EqualValues(t, "50", r.state(php).Status.Percent)
	r.apply(php, true)
	r.await(php, "another shift after the restart", fresh)

	// Deleted while nothing ran.
	require.NoError(t, r.move(php, "50"))
	r.stop()
	r = startShifts(t, path)
	r.apply(discovery.Key{Namespace: "web", Name: "another"}, true)
	r.awaitDeleted(php)
	r.apply(php, true)
	r.await(php, "another shift", fresh)

	// Released, it is gone for good.
	require.NoError(t, r.move(php, "50"))
	version := r.state(php).Version
	r.apply(php, false)
	r.awaitDeleted(php)
	require.NoError(t, r.Release(t.Context(), php))
	require.NoError(t, r.Release(t.Context(), php))
	require.Nil(t, r.state(php))
	r.stop()
	r = startShifts(t, path)
	require.Nil(t, r.state(php))
	r.apply(php, true)
	require.NotEqual(t, version, r.await(php, "a state", fresh).Version, "no version comes twice")
}

// spoil tries every way in which a crash or a disk may have left a file.
func spoil(t *testing.T, path string, then func(what string)) {
	t.Helper()
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	previous, err := os.ReadFile(path + copySuffix)
	require.NoError(t, err)
	for n := range len(whole) - 1 { // -1: the last byte is only a line's end
		for what, content := range map[string][]byte{"cut": whole[:n], "flipped": bytes.Join([][]byte{whole[:n], {whole[n] ^ 0x11}, whole[n+1:]}, nil)} {
			require.NoError(t, os.WriteFile(path, content, 0o600))
			require.NoError(t, os.WriteFile(path+copySuffix, previous, 0o600))
			then(fmt.Sprintf("%s at byte %d", what, n))
		}
	}
}

// Whatever of the file is lost, its copy has the same share: an older one would move traffic.
func TestSpoiledShifts(t *testing.T) {
	path := t.TempDir()
	r := startShifts(t, path)
	r.apply(php, true)
	r.await(php, "a state", fresh)
	require.NoError(t, r.move(php, "10"))
	require.NoError(t, r.move(php, "50"))
	r.stop()
	name := filepath.Join(path, shiftsFile+extension)
	spoil(t, name, func(what string) {
		d, err := Open(path, quiet)
		require.NoError(t, err)
		s := NewShifts(d, catalog.New(), quiet)
		require.NoError(t, s.Restore(), what)
		row, ok := catalog.ShiftStates.Get(s.cat.Read(), php.String())
		require.True(t, ok, what)
		require.EqualValues(t, "50", row.Status.Percent, what)
	})

	// Nothing of it is left: nothing is guessed, and every start says so.
	require.NoError(t, os.WriteFile(name, []byte("{"), 0o600))
	require.NoError(t, os.WriteFile(name+copySuffix, nil, 0o600))
	for range 2 {
		d, err := Open(path, quiet)
		require.NoError(t, err)
		s := NewShifts(d, catalog.New(), quiet)
		err = s.Restore()
		require.ErrorContains(t, err, "how far TrafficShifts have come")
		require.ErrorContains(t, err, name)
		status, ok := catalog.Sources.Get(s.cat.Read(), ShiftsScope)
		require.True(t, ok)
		require.False(t, status.Ready())
		write(t, s.cat, func(tx *catalog.Tx) {
			catalog.Objects.Put(tx, &discovery.Object{Scope: "file", Kind: discovery.KindTrafficShift, Key: php})
			catalog.Sources.Put(tx, &discovery.SourceStatus{Name: "file", Synced: true})
		})
		s.markUnknownShifts(s.cat.Read())
		status, _ = catalog.Sources.Get(s.cat.Read(), ShiftsScope)
		require.Contains(t, status.Error, "how far TrafficShift web/php-web came cannot be read, so proxies keep what they have of the Service and nothing moves; all else is served")
		require.True(t, status.Ready(), "everything else is served")
		state, _ := catalog.ShiftStates.Get(s.cat.Read(), php.String())
		require.NotEmpty(t, state.Unknown, "a share was guessed")
		write(t, s.cat, func(tx *catalog.Tx) {
			catalog.Objects.Delete(tx, discovery.ObjectName{Kind: discovery.KindTrafficShift, Key: php}.String())
		})
		s.markUnknownShifts(s.cat.Read())
		status, _ = catalog.Sources.Get(s.cat.Read(), ShiftsScope)
		require.Contains(t, status.Error, "none needs them now")
	}
	require.NoError(t, os.Remove(name))
	require.NoError(t, os.Remove(name+copySuffix))
	if left, _ := filepath.Glob(name + "*"); len(left) > 0 {
		for _, l := range left {
			require.NoError(t, os.Remove(l))
		}
	}
	d, err := Open(path, quiet)
	require.NoError(t, err)
	require.NoError(t, d.write(shiftsFile, shiftsRecord{Version: 7, Shifts: []shiftRecord{{Namespace: "web", Name: "php-web", Version: "7"}}}))
	require.ErrorContains(t, NewShifts(d, catalog.New(), quiet).Restore(), "TrafficShift web/php-web has no status")
}

// A disk that is full refuses a step: nothing is routed by what is not stored.
func TestShiftsOnAFullDisk(t *testing.T) {
	if !alone(t) {
		return
	}
	signal.Ignore(syscall.SIGXFSZ)
	path := t.TempDir()
	r := startShifts(t, path)
	r.apply(php, true)
	r.await(php, "a state", fresh)
	require.NoError(t, r.move(php, "10"))
	before := r.state(php)

	full := func(f func() error) error {
		var limit syscall.Rlimit
		require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit))
		small := limit
		small.Cur = 64
		require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small))
		err := f()
		require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
		return err
	}
	require.ErrorIs(t, full(func() error { return r.move(php, "50") }), syscall.EFBIG)
	require.Equal(t, before, r.state(php))
	require.ErrorIs(t, full(func() error { return freeze(t, r.Shifts, discovery.FreezeOrder{By: "sre"}) }), syscall.EFBIG)
	_, frozen := catalog.Freezes.Get(r.cat.Read(), catalog.FreezeID)
	require.False(t, frozen)
	home := discovery.Home{Key: web, Platform: discovery.Pods, Because: "a shift"}
	require.ErrorIs(t, full(func() error { return r.RecordHome(t.Context(), home) }), syscall.EFBIG)
	_, moved := catalog.Homes.Get(r.cat.Read(), web.String())
	require.False(t, moved, "traffic does not go where a restart would not send it")
	r.apply(php, false)
	r.awaitDeleted(php)
	require.ErrorIs(t, full(func() error { return r.Release(t.Context(), php) }), syscall.EFBIG)
	require.Equal(t, before, r.state(php), "not released")

	r.stop()
	r = startShifts(t, path)
	require.Equal(t, before, r.state(php))
	require.NoError(t, r.Release(t.Context(), php))
	require.NoError(t, r.RecordHome(t.Context(), home))
	recorded, _ := catalog.Homes.Get(r.cat.Read(), web.String())
	require.Equal(t, discovery.Pods, recorded.Platform)
	text, err := os.ReadFile(filepath.Join(path, "homes.state"))
	require.NoError(t, err)
	require.Contains(t, string(text), `"php-web"`)
}

// Any history of steps, deletions, failing disks and restarts: the state is what was
// last stored, always.
func TestShiftHistories(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			path := filepath.Join(t.TempDir(), "state")
			away := path + ".away"
			r := startShifts(t, path)
			keys := []discovery.Key{php, {Namespace: "web", Name: "api"}}
			model, versions := make(map[discovery.Key]v1alpha1.Percent), make(map[string]bool)
			check := func() {
				t.Helper()
				for _, key := range keys {
					percent, ok := model[key]
					row := r.state(key)
					require.Equal(t, ok, row != nil)
					if ok {
						require.Equal(t, percent, row.Status.Percent)
					}
				}
			}
			there := make(map[discovery.Key]bool)
			for range 60 {
				key := keys[rnd.IntN(len(keys))]
				switch rnd.IntN(6) {
				case 0:
					if there[key] {
						continue
					}
					r.apply(key, true)
					there[key] = true
					r.await(key, "a new state", fresh)
					model[key] = ""
				case 1:
					if !there[key] {
						continue
					}
					r.apply(key, false)
					there[key] = false
					r.awaitDeleted(key)
					if rnd.IntN(2) == 0 {
						require.NoError(t, r.Release(t.Context(), key))
						delete(model, key)
					}
				case 2:
					if r.state(key) == nil {
						continue
					}
					require.NoError(t, os.Rename(path, away))
					err := r.move(key, "99")
					require.Error(t, err)
					require.NoError(t, os.Rename(away, path))
				case 3:
					r.stop()
					r = startShifts(t, path)
					check()
					write(t, r.cat, func(tx *catalog.Tx) { // the first reading of all files
						for key, is := range there {
							if is {
								catalog.Objects.Put(tx, &discovery.Object{Scope: "file", Kind: discovery.KindTrafficShift, Key: key})
							}
						}
						catalog.Sources.Put(tx, &discovery.SourceStatus{Name: "file", Synced: true})
					})
				default:
					percent := v1alpha1.Percent(fmt.Sprint(rnd.IntN(101)))
					if r.state(key) == nil {
						continue
					}
					err := r.move(key, percent)
					if !there[key] {
						require.ErrorIs(t, err, discovery.ErrConflict)
						continue
					}
					require.NoError(t, err)
					model[key] = percent
					require.False(t, versions[r.state(key).Version], "no version comes twice")
					versions[r.state(key).Version] = true
				}
				check()
			}
		})
	}
}

func TestFreezeSurvives(t *testing.T) {
	path := t.TempDir()
	r := startShifts(t, path)
	frozen := func() *discovery.Freeze {
		row, _ := catalog.Freezes.Get(r.cat.Read(), catalog.FreezeID)
		return row
	}
	restart := func() {
		r.stop()
		r = startShifts(t, path)
	}
	require.Nil(t, frozen())
	require.NoError(t, unfreeze(t, r.Shifts, "sre"))
	order := discovery.FreezeOrder{Config: true, By: "sre", Reason: "an incident", Since: time.Unix(1_800_000_000, 7)}
	require.NoError(t, freeze(t, r.Shifts, order))
	want := (*discovery.Freeze)(nil).With(Scope, order)
	require.Equal(t, want, frozen())
	restart()
	require.Equal(t, want, frozen())
	other := discovery.FreezeOrder{By: "dba", Since: time.Unix(1_800_000_060, 0)}
	require.NoError(t, freeze(t, r.Shifts, other))
	restart()
	require.Equal(t, want.With(Scope, other), frozen(), "the second one lifts nothing")
	require.NoError(t, unfreeze(t, r.Shifts, "dba"))
	require.Equal(t, want, frozen())

	// The generation before says that nothing is frozen, which counts for nothing.
	name := filepath.Join(path, freezeFile+extension)
	require.FileExists(t, name+".previous")
	require.NoError(t, os.WriteFile(name, []byte("{"), 0o600))
	for range 2 {
		d, err := Open(path, quiet)
		require.NoError(t, err)
		s := NewShifts(d, catalog.New(), quiet)
		require.ErrorContains(t, s.Restore(), "everything is frozen until causeway unfreeze")
		row, ok := catalog.Freezes.Get(s.cat.Read(), catalog.FreezeID)
		require.True(t, ok)
		require.True(t, row.Config)
		require.Contains(t, row.Reason, name)
	}
	r.stop()
	require.NoError(t, unfreeze(t, r.Shifts, "sre"))
	restart()
	require.Nil(t, frozen())

	// What a release of before there were owners has stored.
	order.Since = want.Since
	require.NoError(t, r.dir.write(freezeFile, order))
	restart()
	require.Equal(t, want, frozen())
	require.NoError(t, unfreeze(t, r.Shifts, "sre"))
	require.Nil(t, frozen())
}

func freeze(t *testing.T, s *Shifts, o discovery.FreezeOrder) error {
	t.Helper()
	_, err := s.ChangeFreeze(t.Context(), func(f *discovery.Freeze) (*discovery.Freeze, error) { return f.With(Scope, o), nil })
	return err
}

func unfreeze(t *testing.T, s *Shifts, owner string) error {
	t.Helper()
	_, err := s.ChangeFreeze(t.Context(), func(f *discovery.Freeze) (*discovery.Freeze, error) { f, _ = f.Without(owner); return f, nil })
	return err
}

// A home that a shift records is on the disk when the call returns, whatever
// the keeper of homes stores at the same time.
func TestShiftRecordsHome(t *testing.T) {
	path := t.TempDir()
	d, err := Open(path, quiet)
	require.NoError(t, err)
	cat := catalog.New()
	s := NewShifts(d, cat, quiet)
	for i := range 30 {
		home := discovery.Home{Scope: Scope, Key: web, Platform: discovery.Backings()[i%2], Because: fmt.Sprint("shift ", i), Supersedes: "Instances"}
		done := make(chan error, 1)
		go func() { done <- d.storeHomes(cat) }()
		require.NoError(t, s.RecordHome(t.Context(), home))
		require.NoError(t, <-done)
		again, err := Open(path, quiet)
		require.NoError(t, err)
		restored := catalog.New()
		require.NoError(t, NewKeeper(again, unrecorded, quiet).Restore(restored))
		got, ok := catalog.Homes.Get(restored.Read(), web.String())
		require.True(t, ok)
		require.Equal(t, &home, got)
	}
}

// A control plane that follows has the states, homes and the freeze of the one
// that steps, keeps them where that cannot be read, and over a restart.
func TestFollow(t *testing.T) {
	theirs := t.TempDir()
	leader := startShifts(t, theirs)
	d, err := Open(theirs, quiet)
	require.NoError(t, err)
	require.NoError(t, d.Lock())
	leader.apply(php, true)
	leader.await(php, "a state", fresh)
	require.NoError(t, leader.move(php, "25"))
	require.NoError(t, leader.RecordHome(t.Context(), discovery.Home{Key: web, Platform: discovery.Instances, Because: "so"}))
	require.NoError(t, freeze(t, leader.Shifts, discovery.FreezeOrder{By: "sre"}))

	ours := t.TempDir()
	follow := func(path string) (*catalog.Catalog, func()) {
		own, err := Open(ours, quiet)
		require.NoError(t, err)
		s := NewShifts(own, catalog.New(), quiet)
		require.NoError(t, s.Restore())
		s.ExpectOther()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Follow(ctx, path) }()
		return s.cat, func() { cancel(); <-done }
	}
	at := func(percent string) func(catalog.Reader) bool {
		return func(r catalog.Reader) bool {
			row, ok := catalog.ShiftStates.Get(r, php.String())
			status, _ := catalog.Sources.Get(r, ShiftsScope)
			return ok && string(row.Status.Percent) == percent && status.Ready()
		}
	}
	cat, stop := follow(theirs)
	await(t, cat, "the leader's state", at("25"))
	home, ok := catalog.Homes.Get(cat.Read(), web.String())
	require.True(t, ok)
	require.Equal(t, discovery.Instances, home.Platform)
	want, frozen := catalog.Freezes.Get(cat.Read(), catalog.FreezeID)
	require.True(t, frozen)
	stop()
	cat, stop = follow(filepath.Join(theirs, "not-mounted"))
	got, frozen := catalog.Freezes.Get(cat.Read(), catalog.FreezeID)
	require.True(t, frozen, "the other one cannot be read after a restart")
	require.Equal(t, want, got)
	stop()
	cat, stop = follow(theirs)
	require.NoError(t, unfreeze(t, leader.Shifts, "sre"))
	require.NoError(t, leader.move(php, "50"))
	await(t, cat, "the next step", at("50"))
	_, frozen = catalog.Freezes.Get(cat.Read(), catalog.FreezeID)
	require.False(t, frozen)
	stop()

	cat, stop = follow(filepath.Join(theirs, "not-mounted"))
	_, frozen = catalog.Freezes.Get(cat.Read(), catalog.FreezeID)
	require.False(t, frozen)
	await(t, cat, "what was read before the restart", at("50"))
	await(t, cat, "the error", func(r catalog.Reader) bool {
		status, _ := catalog.Sources.Get(r, ShiftsScope)
		return strings.Contains(status.Error, "--shifts-from") && status.LastKnownGood && !status.Synced
	})
	stop()

	// The file is missing and its copy is spoiled: that is not the same as no states.
	leader.stop()
	shifts := filepath.Join(theirs, shiftsFile+extension)
	require.NoError(t, os.Remove(shifts))
	require.NoError(t, os.WriteFile(shifts+copySuffix, []byte("{"), 0o600))
	cat, stop = follow(theirs)
	await(t, cat, "the error", func(r catalog.Reader) bool {
		status, _ := catalog.Sources.Get(r, ShiftsScope)
		return strings.Contains(status.Error, "spoiled")
	})
	row, ok := catalog.ShiftStates.Get(cat.Read(), php.String())
	require.True(t, ok && row.Status.Percent == "50")
	stop()
	ours = t.TempDir()
	cat, stop = follow(t.TempDir())
	await(t, cat, "not known is not empty", func(r catalog.Reader) bool {
		status, _ := catalog.Sources.Get(r, ShiftsScope)
		return status.Error != "" && !status.Ready()
	})
	stop()
}

func TestCredentials(t *testing.T) {
	s := NewShifts(nil, catalog.New(), quiet)
	dir := t.TempDir()
	read := func(ref v1alpha1.CredentialsReference) (map[string][]byte, error) {
		return s.Credentials(t.Context(), "web", ref)
	}
	// As a mounted Secret is: links to files of a directory that a link leads to.
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "..v1"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "..v1", "token"), []byte("t0p\n"), 0o600))
	require.NoError(t, os.Symlink("..v1", filepath.Join(dir, "..data")))
	require.NoError(t, os.Symlink(filepath.Join("..data", "token"), filepath.Join(dir, "token")))
	require.NoError(t, os.Symlink("nowhere", filepath.Join(dir, "broken")))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "username"), []byte("a\r\nb\r\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".swp"), []byte("x"), 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "sub"), 0o700))
	got, err := read(v1alpha1.CredentialsReference{Directory: dir})
	require.NoError(t, err)
	require.Equal(t, map[string][]byte{"token": []byte("t0p"), "username": []byte("a\r\nb")}, got)

	require.NoError(t, os.WriteFile(filepath.Join(dir, "big"), make([]byte, maxCredentials), 0o600))
	_, err = read(v1alpha1.CredentialsReference{Directory: dir})
	require.ErrorContains(t, err, "have more than 1048576 bytes")
	_, err = read(v1alpha1.CredentialsReference{Directory: filepath.Join(dir, "none")})
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = read(v1alpha1.CredentialsReference{SecretName: "s"})
	require.ErrorContains(t, err, "needs Kubernetes")
	_, err = read(v1alpha1.CredentialsReference{})
	require.ErrorContains(t, err, "directory is missing")
}

func TestShiftEventsAreLogged(t *testing.T) {
	var text strings.Builder
	s := NewShifts(nil, catalog.New(), slog.New(slog.NewTextHandler(&text, nil)))
	require.NoError(t, s.Restore())
	require.Contains(t, text.String(), "after a restart every TrafficShift starts anew")
	require.NoError(t, s.Event(t.Context(), discovery.ShiftEvent{Key: php, Reason: "RollBack", Message: "it failed", Warning: true}))
	require.Contains(t, text.String(), `level=WARN msg="a TrafficShift" shift=web/php-web reason=RollBack message="it failed"`)
	_, there, err := s.Autoscaler(t.Context(), "web", "php-web")
	require.NoError(t, err)
	require.False(t, there)
	terminating, err := s.Terminating(t.Context(), "web")
	require.NoError(t, err)
	require.False(t, terminating)
}

// Whatever stands in the file, the start goes on, and what is restored is whole.
func FuzzRestoreShifts(f *testing.F) {
	good, err := encode(shiftsFile, shiftsRecord{Version: 2, Shifts: []shiftRecord{
		{Namespace: "web", Name: "php-web", Version: "2", Status: &v1alpha1.TrafficShiftStatus{Percent: "10"}},
	}})
	require.NoError(f, err)
	f.Add(good)
	f.Add([]byte(`{"version":1,"kind":"shifts","sha256":"","data":{"shifts":[{}]}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		path := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(path, shiftsFile+extension), raw, 0o600))
		d, err := Open(path, quiet)
		require.NoError(t, err)
		s := NewShifts(d, catalog.New(), quiet)
		if s.Restore() != nil {
			return
		}
		for row := range catalog.ShiftStates.All(s.cat.Read()) {
			require.NotNil(t, row.Status)
		}
	})
}
