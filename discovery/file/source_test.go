package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/test/harness"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func svc(name string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {ports: [{port: 80}]}\n", name)
}

// world is a directory that a running source reads.
type world struct {
	t   *testing.T
	dir string
	cat *catalog.Catalog

	source *Source
}

func start(t *testing.T, dir string, keep LastGood) *world {
	t.Helper()
	w := &world{t, dir, catalog.New(), New(dir, slog.New(slog.DiscardHandler), keep)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.source.Run(ctx, w.cat) }()
	t.Cleanup(func() {
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
	})
	return w
}

func (w *world) write(name, text string) {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	require.NoError(w.t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(w.t, os.WriteFile(path, []byte(text), 0o600))
}

// services are the names of the catalog's Services, joined.
func services(r catalog.Reader) string {
	var out []string
	for s := range catalog.Services.All(r) {
		out = append(out, s.Name)
	}
	return strings.Join(out, " ")
}

// await waits until the catalog has these Services and the source's error
// contains this text ("" for no error).
func (w *world) await(want, problem string) *discovery.SourceStatus {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	feed := w.cat.Subscribe()
	defer feed.Close()
	for {
		r := w.cat.Read()
		status, ok := catalog.Sources.Get(r, Scope)
		if ok && services(r) == want && (problem == "") == (status.Error == "") && strings.Contains(status.Error, problem) {
			return status
		}
		if _, err := feed.Next(ctx); err != nil {
			w.t.Fatalf("waited for Services %q and an error with %q; there are %q, status %+v", want, problem, services(r), status)
		}
	}
}

func TestFilesComeChangeAndGo(t *testing.T) {
	w := &world{t: t, dir: t.TempDir()}
	w.write("a.yaml", svc("a"))
	w = start(t, w.dir, nil)
	status := w.await("a", "")
	require.True(t, status.Synced)

	w.write("b.yml", svc("b")+"---\n"+svc("c"))
	w.await("a b c", "")
	w.write("sub/deeper/d.json", `{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "d"}, "spec": {"ports": [{"port": 80}]}}`)
	w.await("a b c d", "")
	w.write("sub/deeper/e.yaml", svc("e")) // the directory is new and must be watched
	w.await("a b c d e", "")
	w.write(".hidden.yaml", "][")
	w.write("notes.txt", "][")
	w.write("b.yml~", "][")
	require.NoError(t, os.Remove(filepath.Join(w.dir, "b.yml")))
	w.await("a d e", "")
	require.NoError(t, os.RemoveAll(filepath.Join(w.dir, "sub")))
	w.await("a", "")
	w.write("a.yaml", "# nothing on purpose\n")
	w.await("", "")
}

func TestEditorsRename(t *testing.T) {
	w := &world{t: t, dir: t.TempDir()}
	w.write("a.yaml", svc("a"))
	w = start(t, w.dir, nil)
	w.await("a", "")
	for i := range 5 {
		name := fmt.Sprintf("a%d", i)
		w.write(".a.yaml.swp", svc(name))
		require.NoError(t, os.Rename(filepath.Join(w.dir, ".a.yaml.swp"), filepath.Join(w.dir, "a.yaml")))
		w.await(name, "")
	}
	// Others remove the file first.
	require.NoError(t, os.Remove(filepath.Join(w.dir, "a.yaml")))
	w.write("a.yaml", svc("b"))
	w.await("b", "")
}

// A ConfigMap's files link to ..data, which links to a directory that is
// swapped. Whoever reads the catalog must never see half of a swap.
func TestConfigMapSwap(t *testing.T) {
	dir := t.TempDir()
	publish := func(n int) {
		t.Helper()
		target := filepath.Join(dir, fmt.Sprintf("..2026_%d", n))
		require.NoError(t, os.Mkdir(target, 0o700))
		for _, f := range []string{"a", "b", "c"} {
			require.NoError(t, os.WriteFile(filepath.Join(target, f+".yaml"), []byte(svc(fmt.Sprintf("%s%d", f, n))), 0o600))
		}
		require.NoError(t, os.Symlink(filepath.Base(target), filepath.Join(dir, "..data_tmp")))
		require.NoError(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
		if n > 0 {
			require.NoError(t, os.RemoveAll(filepath.Join(dir, fmt.Sprintf("..2026_%d", n-1))))
		}
	}
	publish(0)
	for _, f := range []string{"a", "b", "c"} {
		require.NoError(t, os.Symlink(filepath.Join("..data", f+".yaml"), filepath.Join(dir, f+".yaml")))
	}
	w := start(t, dir, nil)
	w.await("a0 b0 c0", "")
	feed := w.cat.Subscribe()
	defer feed.Close()
	const last = 20
	for n := 1; n <= last; n++ {
		publish(n)
		harness.TakeTime(10 * time.Millisecond) // swaps come while others are being read
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		b, err := feed.Next(ctx)
		require.NoError(t, err)
		names := strings.Fields(services(b.Reader))
		require.Len(t, names, 3, "a torn reading: %v", names)
		require.True(t, names[0][1:] == names[1][1:] && names[1][1:] == names[2][1:], "a torn reading: %v", names)
		if names[0] == fmt.Sprintf("a%d", last) {
			return
		}
	}
}

func TestABrokenFileKeepsWhatItSaid(t *testing.T) {
	w := &world{t: t, dir: t.TempDir()}
	w.write("a.yaml", svc("a"))
	w.write("b.yaml", svc("b"))
	w = start(t, w.dir, nil)
	w.await("a b", "")
	w.write("b.yaml", svc("b2")+"---\nkind: [")
	status := w.await("a b", "b.yaml:6: not YAML")
	require.True(t, status.Synced, "the rest is up to date")
	require.False(t, status.ErrorSince.IsZero())
	w.write("a.yaml", svc("a2"))
	next := w.await("a2 b", "b.yaml:6")
	require.Equal(t, status.ErrorSince, next.ErrorSince)
	w.write("c.yaml", svc("c")+"bad: 1\n")
	w.await("a2 b", "(and 1 more)")
	w.write("c.yaml", svc("c"))
	w.write("b.yaml", svc("b3"))
	w.await("a2 b3 c", "")

	// A full disk leaves an empty file behind.
	w.write("b.yaml", "")
	w.await("a2 b3 c", "b.yaml:1: the file is empty")
	w.write("b.yaml", "# empty on purpose\n")
	w.await("a2 c", "")
}

func TestTheSameObjectInTwoFiles(t *testing.T) {
	w := &world{t: t, dir: t.TempDir()}
	w.write("a.yaml", strings.Replace(svc("web"), "port: 80", "port: 81", 1))
	w.write("b.yaml", "\n"+svc("web"))
	w = start(t, w.dir, nil)
	w.await("web", "b.yaml:2: Service default/web: it stands at a.yaml:1 already, which counts: remove one of them")
	s, _ := catalog.Services.Get(w.cat.Read(), "default/web")
	require.Equal(t, uint16(81), s.Ports[0].Port)
	require.NoError(t, os.Remove(filepath.Join(w.dir, "a.yaml")))
	w.await("web", "")
	s, _ = catalog.Services.Get(w.cat.Read(), "default/web")
	require.Equal(t, uint16(80), s.Ports[0].Port)
}

func TestADirectoryThatCannotBeReadChangesNothing(t *testing.T) {
	parent := t.TempDir()
	w := &world{t: t, dir: filepath.Join(parent, "config")}
	w.write("a.yaml", svc("a"))
	w.write("sub/b.yaml", svc("b"))
	w = start(t, w.dir, nil)
	w.await("a b", "")

	// Gone, and an empty mount point in its place.
	require.NoError(t, os.Rename(w.dir, w.dir+".away"))
	w.await("a b", "does not exist")
	require.NoError(t, os.Mkdir(w.dir, 0o700))
	w.await("a b", "no .yaml")
	require.NoError(t, os.Remove(w.dir))
	require.NoError(t, os.Rename(w.dir+".away", w.dir))
	w.await("a b", "")

	// It was made anew; changes in it must still be noticed at once.
	start := time.Now()
	w.write("a.yaml", svc("a2"))
	w.await("a2 b", "")
	require.Less(t, time.Since(start), rescan)

	// A link that leads nowhere, a FIFO, a loop, each in the file's place at
	// once: in between it would rightly be taken for removed.
	file, next := filepath.Join(w.dir, "a.yaml"), filepath.Join(w.dir, ".next")
	require.NoError(t, os.Symlink("nowhere.yaml", next))
	require.NoError(t, os.Rename(next, file))
	w.await("a2 b", "a.yaml:1: it cannot be read")
	require.NoError(t, syscall.Mkfifo(next, 0o600))
	require.NoError(t, os.Rename(next, file))
	w.await("a2 b", "a.yaml:1: it cannot be read: it is not a regular file")
	require.NoError(t, os.Symlink(".", filepath.Join(w.dir, "loop")))
	w.await("a2 b", "(and 1 more)")
	require.NoError(t, os.Remove(filepath.Join(w.dir, "loop")))
	require.NoError(t, os.Remove(filepath.Join(w.dir, "a.yaml")))
	w.await("b", "")
}

func TestASubdirectoryThatCannotBeRead(t *testing.T) {
	if os.Geteuid() == 0 {
		// Permissions do not stop root: the same through update.
		fs := make(files)
		fs.update(&scan{files: map[string][]byte{"sub/b.yaml": []byte(svc("b")), "a.yaml": []byte(svc("a"))}})
		broken := &scan{files: map[string][]byte{}, unreadable: map[string]error{"sub": errors.New("input/output error")}}
		require.True(t, fs.update(broken))
		m := fs.merge()
		require.Len(t, m.Services, 1)
		require.Equal(t, "b", m.Services[0].Name)
		require.Equal(t, "sub:1: it cannot be read: input/output error", m.summary())
		require.False(t, fs.update(broken), "nothing new")
		require.True(t, fs.update(&scan{files: map[string][]byte{"sub/b.yaml": []byte(svc("b2"))}}))
		m = fs.merge()
		require.Empty(t, m.problems)
		require.Equal(t, "b2", m.Services[0].Name)
		return
	}
	w := &world{t: t, dir: t.TempDir()}
	w.write("a.yaml", svc("a"))
	w.write("sub/b.yaml", svc("b"))
	w = start(t, w.dir, nil)
	w.await("a b", "")
	sub := filepath.Join(w.dir, "sub")
	require.NoError(t, os.Chmod(sub, 0))
	w.await("a b", "sub:1: it cannot be read")
	require.NoError(t, os.Chmod(sub, 0o700)) //nolint:gosec // a directory
	w.await("a b", "")
}

func TestALinkThatLeadsNowhereKeepsWhatItHeld(t *testing.T) {
	store := t.TempDir()
	for name, text := range map[string]string{"teams/one/b.yaml": svc("b"), "teams/c.yaml": svc("c")} {
		path := filepath.Join(store, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	w := &world{t: t, dir: t.TempDir()}
	w.write("a.yaml", svc("a"))
	link := filepath.Join(w.dir, "teams")
	require.NoError(t, os.Symlink(filepath.Join(store, "teams"), link))
	keep := &memory{}
	w = start(t, w.dir, keep)
	w.await("a b c", "")
	require.NoError(t, os.Rename(filepath.Join(store, "teams"), filepath.Join(store, "away")))
	w.await("a b c", "teams:1: it cannot be read: it is a link to "+filepath.Join(store, "teams")+", which does not exist")
	w.write("a.yaml", svc("a2"))
	w.await("a2 b c", "teams:1: it cannot be read")
	require.Eventually(t, func() bool { return keep.names() == "a.yaml teams/c.yaml teams/one/b.yaml" }, 5*time.Second, time.Millisecond)
	// A restart meanwhile loses nothing either.
	second := start(t, w.dir, keep)
	second.await("a2 b c", "teams:1: it cannot be read")
	require.Equal(t, "a.yaml teams/c.yaml teams/one/b.yaml", keep.names())
	// What the link held goes with the link.
	require.NoError(t, os.Remove(link))
	w.await("a2", "")
	second.await("a2", "")
}

// A directory that is removed and slowly filled again loses nothing, and what
// is removed by hand goes at once.
func TestMassRemovalIsHeldBack(t *testing.T) {
	w := &world{t: t, dir: filepath.Join(t.TempDir(), "config")}
	fill := func(names ...string) {
		require.NoError(t, os.MkdirAll(w.dir, 0o700))
		for _, n := range names {
			w.write(n+".yaml", svc(filepath.Base(n)))
		}
	}
	fill("a", "b", "c", "d", "e", "f", "z")
	keep := &memory{}
	w = start(t, w.dir, keep)
	w.await("a b c d e f z", "")
	require.NoError(t, os.Remove(filepath.Join(w.dir, "z.yaml")))
	w.await("a b c d e f", "") // an ordinary delete

	require.NoError(t, os.RemoveAll(w.dir))
	w.await("a b c d e f", "does not exist")
	fill("a")
	w.await("a b c d e f", "5 of 6 objects are gone at once, with 5 files, and stay until")
	fill("b", "c")
	w.await("a b c d e f", "3 of 6 objects are gone at once")
	require.NoError(t, os.WriteFile(filepath.Join(w.dir, "a.yaml"), []byte(svc("a2")), 0o600))
	w.await("a a2 b c d e f", "4 of 7 objects") // an edit meanwhile takes nothing either
	require.Eventually(t, func() bool { return strings.Contains(keep.names(), "d.yaml e.yaml f.yaml") }, 5*time.Second, time.Millisecond,
		"a restart meanwhile would lose nothing")
	fill("a", "d", "e", "f")
	w.await("a a2 b c d e f", "1 of 7")
	require.Equal(t, 1, w.source.Release())
	w.await("a b c d e f", "")

	// Not only where the directory was seen to be missing.
	fill("sub/g", "sub/h", "sub/i", "sub/k", "sub/l")
	w.await("a b c d e f g h i k l", "")
	away := filepath.Join(filepath.Dir(w.dir), "away")
	require.NoError(t, os.Rename(filepath.Join(w.dir, "sub"), away))
	w.await("a b c d e f g h i k l", "5 of 11 objects are gone at once, with 5 files")
	require.NoError(t, os.Rename(away, filepath.Join(w.dir, "sub")))
	w.await("a b c d e f g h i k l", "")
}

// What a directory lost while no control plane ran is compared with what the state
// directory says it held.
func TestMassRemovalWhileNothingRan(t *testing.T) {
	keep := &memory{}
	full := t.TempDir()
	for _, n := range []string{"a", "b", "c", "d", "e", "f"} {
		require.NoError(t, os.WriteFile(filepath.Join(full, n+".yaml"), []byte(svc(n)), 0o600))
	}
	start(t, full, keep).await("a b c d e f", "")
	require.Eventually(t, func() bool { return strings.Contains(keep.names(), "f.yaml") }, 5*time.Second, time.Millisecond)

	filling := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(filling, "a.yaml"), []byte(svc("a")), 0o600))
	for range 2 { // not at one restart only
		start(t, filling, &memory{files: keep.GoodFiles()}).await("a b c d e f", "5 of 6 objects are gone at once")
	}
	// One file that was removed on purpose is let go.
	require.NoError(t, os.Remove(filepath.Join(full, "f.yaml")))
	start(t, full, &memory{files: keep.GoodFiles()}).await("a b c d e", "")
}

func TestMassRemovalEnds(t *testing.T) {
	load := func(names ...string) files {
		found := &scan{files: make(map[string][]byte)}
		for _, n := range names {
			found.files[n+".yaml"] = []byte(svc("s-" + n))
		}
		fs := make(files)
		fs.update(found)
		return fs
	}
	var g removals
	now := time.Unix(1000, 0)
	apply := func(fs files) int {
		all := fs.merge()
		g.apply(all, func(file string) bool { return fs[file] != nil }, false, now)
		return len(all.Services)
	}
	all := strings.Split("abcdefghijklmno", "")
	require.Equal(t, 15, apply(load(all...)))
	require.Equal(t, 14, apply(load(all[:14]...)), "one file may go")
	now = now.Add(10 * time.Second)
	require.Equal(t, 11, apply(load(all[:11]...)), "and more")
	require.Equal(t, 11, apply(load(all[:9]...)), "a third of what there was within a minute is the limit")
	now = now.Add(removalHold - time.Second)
	require.Equal(t, 11, apply(load(all[:9]...)))
	now = now.Add(time.Second)
	require.Equal(t, 9, apply(load(all[:9]...)), "five minutes later it is meant")
	now = now.Add(removalWindow)
	require.Equal(t, 8, apply(load(all[:8]...)))
}

func TestALinkToTheDirectoryIsFollowed(t *testing.T) {
	parent := t.TempDir()
	for _, release := range []string{"r1", "r2"} {
		require.NoError(t, os.Mkdir(filepath.Join(parent, release), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(parent, release, "a.yaml"), []byte(svc(release)), 0o600))
	}
	link := filepath.Join(parent, "current")
	require.NoError(t, os.Symlink("r1", link))
	w := start(t, link, nil)
	w.await("r1", "")
	require.NoError(t, os.Symlink("r2", link+".new"))
	begin := time.Now()
	require.NoError(t, os.Rename(link+".new", link))
	w.await("r2", "")
	require.Less(t, time.Since(begin), rescan, "noticed without waiting for the next look")
}

// memory is a LastGood without a disk.
type memory struct {
	mu    sync.Mutex
	files map[string][]byte
	fail  error
}

func (m *memory) GoodFiles() map[string][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.files)
}

func (m *memory) KeepFiles(files map[string][]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	m.files = maps.Clone(files)
	return nil
}

func (m *memory) names() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(slices.Sorted(maps.Keys(m.files)), " ")
}

func TestLastGoodSurvivesARestart(t *testing.T) {
	keep := &memory{files: map[string][]byte{
		"broken.yaml": []byte(svc("old")), "gone.yaml": []byte(svc("gone")), "future.yaml": []byte("kind: Later\n"),
	}}
	w := &world{t: t, dir: t.TempDir()}
	w.write("broken.yaml", "][")
	w.write("new.yaml", svc("new"))
	w = start(t, w.dir, keep)
	status := w.await("new old", "broken.yaml:1: not YAML")
	require.True(t, status.Synced)
	require.Eventually(t, func() bool { return keep.names() == "broken.yaml new.yaml" }, 5*time.Second, time.Millisecond,
		"the broken file's last good content stays, that of the removed file goes")
}

func TestStartWithoutTheDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "config")
	cold := start(t, dir, nil)
	status := cold.await("", "does not exist")
	require.False(t, status.Ready(), "not yet known is not empty")

	warm := start(t, dir, &memory{files: map[string][]byte{"a.yaml": []byte(svc("a"))}})
	status = warm.await("a", "does not exist")
	require.True(t, status.LastKnownGood)
	require.False(t, status.Synced)
	require.NoError(t, os.Mkdir(dir, 0o700))
	warm.write("b.yaml", svc("b"))
	status = warm.await("b", "")
	require.True(t, status.Synced)
	require.False(t, status.LastKnownGood)
	cold.await("b", "")
}

// A reading whose files change underneath it is begun again.
func TestReadIsOfOneMoment(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.yaml"), []byte("a"), 0o600))
	found, err := read(dir)
	require.NoError(t, err)
	require.Equal(t, map[string][]byte{"a.yaml": []byte("a")}, found.files)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			_ = os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(strings.Repeat("x", 1+i%100)), 0o600)
		}
	})
	for range 50 {
		if _, err := read(dir); err != nil {
			require.ErrorIs(t, err, errChanging)
		}
	}
	cancel()
	wg.Wait()
}

// Where nothing is known from before, nothing is said to stay in force.
func TestTellsWhatStays(t *testing.T) {
	var log bytes.Buffer
	s := New(filepath.Join(t.TempDir(), "nowhere"), slog.New(slog.NewTextHandler(&log, nil)), nil)
	read := func(s *Source, known string) {
		cat := catalog.New()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx, cat) }()
		w := &world{t, s.dir, cat, s}
		w.await(known, "does not exist: make it, or name another one with --config")
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
	}
	read(s, "")
	require.Contains(t, log.String(), "nothing of it is known from before")
	require.NotContains(t, log.String(), "last known good")

	log.Reset()
	read(New(s.dir, slog.New(slog.NewTextHandler(&log, nil)), &memory{files: map[string][]byte{"a.yaml": []byte(svc("a"))}}), "a")
	require.Contains(t, log.String(), "what was last known good stays in force")
}
