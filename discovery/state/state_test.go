package state

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	web   = discovery.Key{Namespace: "web", Name: "php-web"}
	ec2   = discovery.Key{Namespace: "web", Name: "ec2"}
	quiet = slog.New(slog.DiscardHandler)
)

func group() *discovery.InstanceGroup {
	return &discovery.InstanceGroup{Scope: "file", Key: ec2, Object: &v1alpha1.InstanceGroup{
		ObjectMeta: metav1.ObjectMeta{Namespace: ec2.Namespace, Name: ec2.Name},
		Spec: v1alpha1.InstanceGroupSpec{
			ServiceRef: v1alpha1.ServiceReference{Name: web.Name},
			Ports:      []v1alpha1.InstancePort{{Name: "http", Port: 8080}},
		},
	}}
}

func instances(ids ...string) *discovery.InstanceSet {
	set := &discovery.InstanceSet{Scope: "ec2", Key: ec2, Service: web}
	for i, id := range ids {
		set.Endpoints = append(set.Endpoints, discovery.Endpoint{
			ID: id, Address: fmt.Sprintf("10.0.0.%d", i), Zone: "ap-northeast-1a", Spot: i == 0, Weight: 4,
			Health: discovery.Health(i % 3), Reason: "because", //nolint:gosec // small
		})
	}
	return set
}

// unrecorded stands for the policy of homes.
func unrecorded(r catalog.Reader) (out []discovery.Home) {
	for svc := range catalog.Services.All(r) {
		if _, ok := catalog.Homes.Get(r, svc.Key.String()); ok {
			continue
		}
		home := discovery.Home{Key: svc.Key, Platform: discovery.Pods, Because: "there was no group"}
		for range catalog.InstanceGroups.Of(r, svc.Key) {
			home.Platform, home.Because = discovery.Instances, "there was a group"
		}
		out = append(out, home)
	}
	return out
}

// files is what the file source would write.
func files(t *testing.T, cat *catalog.Catalog, groups ...*discovery.InstanceGroup) {
	t.Helper()
	write(t, cat, func(tx *catalog.Tx) {
		catalog.Services.Put(tx, &discovery.Service{Scope: "file", Key: web, Ports: []discovery.ServicePort{{Name: "http", Port: 80}}})
		var rows []*discovery.Object
		for _, g := range groups {
			rows = append(rows, g.Row())
		}
		catalog.Objects.Replace(tx, "file", rows)
		catalog.Sources.Put(tx, &discovery.SourceStatus{Name: "file", Synced: true})
	})
}

func write(t *testing.T, cat *catalog.Catalog, fn func(*catalog.Tx)) {
	t.Helper()
	_, err := cat.Write(time.Time{}, func(tx *catalog.Tx) error { fn(tx); return nil })
	require.NoError(t, err)
}

// run starts a keeper over an existing or new directory ("" for none) and
// returns its catalog and how to stop it.
func run(t *testing.T, path string) (cat *catalog.Catalog, stop func()) {
	t.Helper()
	var dir *Dir
	if path != "" {
		var err error
		dir, err = Open(path, quiet)
		require.NoError(t, err)
	}
	k := NewKeeper(dir, unrecorded, quiet)
	cat = catalog.New()
	require.NoError(t, k.Restore(cat))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx, cat) }()
	stop = func() {
		cancel()
		if err, ok := <-done; ok {
			close(done)
			require.ErrorIs(t, err, context.Canceled)
		}
	}
	t.Cleanup(stop)
	return cat, stop
}

// await waits until the catalog is as wanted.
func await(t *testing.T, cat *catalog.Catalog, what string, is func(catalog.Reader) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	feed := cat.Subscribe()
	defer feed.Close()
	for !is(cat.Read()) {
		if _, err := feed.Next(ctx); err != nil {
			t.Fatalf("waited for: %s", what)
		}
	}
}

func published(r catalog.Reader) *discovery.EndpointSet {
	for s := range catalog.Endpoints.By(r, catalog.ByService, web.String()) {
		return s
	}
	return nil
}

func ready(r catalog.Reader) bool {
	s, ok := catalog.Sources.Get(r, PublishedScope)
	return ok && s.Ready()
}

func TestPublish(t *testing.T) {
	cat, _ := run(t, "")
	require.False(t, ready(cat.Read()), "nothing is known yet")
	files(t, cat, group())
	await(t, cat, "the keeper to have seen the group", func(r catalog.Reader) bool { return r.Revision() >= 2 })
	require.False(t, ready(cat.Read()), "EC2 has not been read")
	require.Nil(t, published(cat.Read()))

	write(t, cat, func(tx *catalog.Tx) { catalog.Instances.Put(tx, instances("i-1", "i-2")) })
	await(t, cat, "published endpoints", func(r catalog.Reader) bool { return ready(r) && published(r) != nil })
	set := published(cat.Read())
	require.Equal(t, discovery.Instances, set.Platform)
	require.Equal(t, "ec2", set.Group)
	require.Equal(t, []discovery.EndpointPort{{Name: "http", Port: 8080}}, set.Ports)
	require.Equal(t, discovery.Healthy, set.Endpoints[0].Health)

	write(t, cat, func(tx *catalog.Tx) {
		catalog.Checks.Put(tx, &discovery.HealthSet{Scope: "probe", Key: ec2, ByID: map[string]discovery.CheckedHealth{"i-1": {Reason: "HTTP 500"}}})
	})
	await(t, cat, "the check's result", func(r catalog.Reader) bool { return published(r).Endpoints[0].Health == discovery.Unhealthy })

	write(t, cat, func(tx *catalog.Tx) { catalog.Instances.Put(tx, instances()) })
	await(t, cat, "an empty group, which is not an unknown one", func(r catalog.Reader) bool {
		s := published(r)
		return s != nil && len(s.Endpoints) == 0
	})
	files(t, cat)
	await(t, cat, "the group's endpoints and instances to go", func(r catalog.Reader) bool {
		_, known := catalog.Instances.Get(r, ec2.String())
		return published(r) == nil && !known
	})
	require.True(t, ready(cat.Read()), "once ready, a change does not make it unready")
}

// A group that cannot have instances for now holds up no other, and is not
// taken for an empty one.
func TestWhatCannotBeReadHoldsUpNothingElse(t *testing.T) {
	cat, _ := run(t, "")
	typo := group()
	typo.Key = discovery.Key{Namespace: "team-x", Name: "typo"}
	files(t, cat, group(), typo)
	write(t, cat, func(tx *catalog.Tx) {
		catalog.Sources.Put(tx, &discovery.SourceStatus{Name: "ec2/own/eu-west-9", Error: "no such host"})
		catalog.Instances.Put(tx, instances("i-1"))
	})
	await(t, cat, "the note", func(r catalog.Reader) bool {
		s, _ := catalog.Sources.Get(r, PublishedScope)
		return s.Note == "InstanceGroup team-x/typo: EC2 has not answered yet"
	})
	require.False(t, ready(cat.Read()), "it may still be about to be read")
	write(t, cat, func(tx *catalog.Tx) {
		catalog.GroupStatuses.Put(tx, &discovery.GroupStatus{Scope: "ec2", Key: typo.Key, Error: "no such host"})
	})
	await(t, cat, "the rest to be served", ready)
	s, _ := catalog.Sources.Get(cat.Read(), PublishedScope)
	require.Equal(t, "InstanceGroup team-x/typo: not known, others are served meanwhile: no such host", s.Note)
	require.Len(t, published(cat.Read()).Endpoints, 1)
	for set := range catalog.Endpoints.All(cat.Read()) {
		require.NotEqual(t, "typo", set.Group, "not known is not empty")
	}
}

// A Service that comes between the marking of homes and their recording is not guessed either.
func TestNoHomeIsGuessedBetweenTwoLooks(t *testing.T) {
	path := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(path, homesFile+extension), []byte("x"), 0o600))
	d, err := Open(path, quiet)
	require.NoError(t, err)
	cat := catalog.New()
	k := NewKeeper(d, upstream.UnrecordedHomes, quiet)
	require.Error(t, k.Restore(cat))
	k.markUnknownHomes(cat)
	files(t, cat, group())
	write(t, cat, func(tx *catalog.Tx) {
		catalog.Endpoints.Put(tx, &discovery.EndpointSet{
			Scope: "file", Key: discovery.Key{Namespace: web.Namespace, Name: "slice"}, Service: web, Platform: discovery.Pods, Endpoints: []discovery.Endpoint{{ID: "p"}},
		})
		catalog.Sources.Put(tx, &discovery.SourceStatus{Name: HomesScope, Synced: true})
		catalog.Sources.Put(tx, &discovery.SourceStatus{Name: PublishedScope, Synced: true})
	})
	require.NotEmpty(t, upstream.UnrecordedHomes(cat.Read()))
	k.record(cat, time.Time{})
	home, recorded := catalog.Homes.Get(cat.Read(), web.String())
	require.Falsef(t, recorded, "%+v", home)
	k.markUnknownHomes(cat)
	home, _ = catalog.Homes.Get(cat.Read(), web.String())
	require.NotEmpty(t, home.Unknown)
}

// Traffic goes by homes: where they were recorded and cannot be read, nothing
// is guessed, and the file is not written over.
func TestHomesThatCannotBeRead(t *testing.T) {
	for name, spoil := range map[string]string{
		"spoiled": "x", "empty": "", "newer": `{"version":2,"kind":"homes","sha256":"","data":[]}`, "older": `{"version":0,"kind":"homes","sha256":"","data":[]}`,
	} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(path, homesFile+extension), []byte(spoil), 0o600))
			d, err := Open(path, quiet)
			require.NoError(t, err)
			cat := catalog.New()
			k := NewKeeper(d, upstream.UnrecordedHomes, quiet)
			require.ErrorContains(t, k.Restore(cat), homesFile+extension)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- k.Run(ctx, cat) }()
			// The slices are there once the files are read, as a source writes them in one go.
			write(t, cat, func(tx *catalog.Tx) {
				catalog.Instances.Put(tx, instances("i-1"))
				catalog.Endpoints.Put(tx, &discovery.EndpointSet{
					Scope: "file", Key: discovery.Key{Namespace: web.Namespace, Name: "slice"}, Service: web, Platform: discovery.Pods, Endpoints: []discovery.Endpoint{{ID: "p"}},
				})
			})
			files(t, cat, group())
			await(t, cat, "the status", func(r catalog.Reader) bool {
				s, _ := catalog.Sources.Get(r, HomesScope)
				return strings.Contains(s.Error, "the home of Service "+web.String()+" cannot be read, so proxies keep what they have of it and nothing moves; all else is served") &&
					strings.Contains(s.Error, "write the annotation mesh.causeway.dev/home: Instances or Pods on the Service")
			})
			s, _ := catalog.Sources.Get(cat.Read(), HomesScope)
			require.True(t, s.Ready(), "everything else is served")
			home, _ := catalog.Homes.Get(cat.Read(), web.String())
			require.NotEmpty(t, home.Unknown, "a home was guessed")

			// A Service on one platform has the only home that it can have. One that
			// comes later on both may have been recorded too.
			alone, late := discovery.Key{Namespace: "web", Name: "alone"}, discovery.Key{Namespace: "web", Name: "late"}
			write(t, cat, func(tx *catalog.Tx) {
				catalog.Services.Put(tx, &discovery.Service{Scope: "file", Key: alone, Ports: []discovery.ServicePort{{Name: "http", Port: 80}}})
				both := group()
				both.Key.Name = "late"
				both.Object.Spec.ServiceRef.Name = late.Name
				catalog.Objects.Put(tx, both.Row())
				catalog.Endpoints.Put(tx, &discovery.EndpointSet{Scope: "file", Key: late, Service: late, Platform: discovery.Pods, Endpoints: []discovery.Endpoint{{ID: "p"}}})
				catalog.Services.Put(tx, &discovery.Service{Scope: "file", Key: late, Ports: []discovery.ServicePort{{Name: "http", Port: 80}}})
			})
			await(t, cat, "the others", func(r catalog.Reader) bool {
				a, _ := catalog.Homes.Get(r, alone.String())
				l, _ := catalog.Homes.Get(r, late.String())
				s, _ := catalog.Sources.Get(r, HomesScope)
				return a != nil && a.Unknown == "" && l != nil && l.Unknown != "" && strings.Contains(s.Error, "of Services web/late, "+web.String()+" cannot")
			})

			// The annotation says it, without a restart.
			write(t, cat, func(tx *catalog.Tx) {
				for _, key := range []discovery.Key{web, late} {
					svc, _ := catalog.Services.Get(tx.Reader, key.String())
					stated := *svc
					stated.Home = upstream.HomePods
					catalog.Services.Put(tx, &stated)
				}
			})
			await(t, cat, "the annotation to count", func(r catalog.Reader) bool {
				h, _ := catalog.Homes.Get(r, web.String())
				s, _ := catalog.Sources.Get(r, HomesScope)
				return h.Unknown == "" && h.Platform == discovery.Pods && strings.Contains(s.Error, "no Service needs them now") &&
					strings.Contains(s.Error, "remove "+filepath.Join(path, "homes.state")+"*")
			})
			cancel()
			<-done
			left, err := os.ReadFile(filepath.Join(path, homesFile+extension))
			require.NoError(t, err)
			require.Equal(t, spoil, string(left))
		})
	}
}

func TestHomesAreReadFromTheirCopy(t *testing.T) {
	path := t.TempDir()
	d, err := Open(path, quiet)
	require.NoError(t, err)
	require.NoError(t, d.write(homesFile, []homeRecord{{Namespace: "web", Service: "a", Platform: "instances"}}))
	require.NoError(t, d.write(homesFile, []homeRecord{{Namespace: "web", Service: "a", Platform: "pods"}}))
	name := filepath.Join(path, homesFile+extension)
	for _, spoil := range []func() error{
		func() error { return os.WriteFile(name, []byte("x"), 0o600) },
		func() error { return os.WriteFile(name+copySuffix, []byte("x"), 0o600) },
		func() error { return os.Remove(name) },
		func() error { return os.Remove(name + copySuffix) }, // as an earlier version left it
	} {
		require.NoError(t, spoil())
		d, err = Open(path, quiet)
		require.NoError(t, err)
		got, err := readPrecious[[]homeRecord](d, homesFile)
		require.NoError(t, err)
		require.Equal(t, "pods", got[0].Platform, "the newest, not the generation before")
		whole, err := os.ReadFile(name)
		require.NoError(t, err)
		second, err := os.ReadFile(name + copySuffix)
		require.NoError(t, err)
		require.Equal(t, string(whole), string(second), "there are two from the start on, not only from the next change")
		require.NoError(t, d.write(homesFile, append(got, homeRecord{Namespace: "web", Service: "b", Platform: "pods"})))
		require.NoError(t, d.write(homesFile, got))
	}
}

func TestTwoControlPlanesOnOneDirectory(t *testing.T) {
	path := t.TempDir()
	first, err := Open(path, quiet)
	require.NoError(t, err)
	require.NoError(t, first.Lock())
	second, err := Open(path, quiet)
	require.NoError(t, err)
	require.ErrorContains(t, second.Lock(), fmt.Sprintf("another control plane uses it (process %d): give every control plane a --state-dir of its own", os.Getpid()))
	require.NoError(t, first.Close())
	require.NoError(t, second.Lock())
	require.NoError(t, second.Close())
}

func TestHomesAreRecordedAndSurvive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	cat, stop := run(t, path)
	files(t, cat, group())
	write(t, cat, func(tx *catalog.Tx) { catalog.Instances.Put(tx, instances("i-1")) })
	await(t, cat, "the home", func(r catalog.Reader) bool {
		h, ok := catalog.Homes.Get(r, web.String())
		return ok && h.Platform == discovery.Instances
	})
	await(t, cat, "the store", func(r catalog.Reader) bool {
		s, ok := catalog.Sources.Get(r, Scope)
		return ok && s.Error == ""
	})
	stop()

	cat, _ = run(t, path)
	files(t, cat) // the group was deleted while nothing ran
	await(t, cat, "ready", ready)
	h, _ := catalog.Homes.Get(cat.Read(), web.String())
	require.Equal(t, discovery.Instances, h.Platform)
	_, known := catalog.Instances.Get(cat.Read(), ec2.String())
	require.False(t, known, "a group made anew must not start from old instances")
}

// A port whose name was edited is held over a restart: it is still the instances that have its traffic.
func TestHeldPortsSurvive(t *testing.T) {
	service := func(name string) *discovery.Service {
		return &discovery.Service{Scope: "file", Key: web, Ports: []discovery.ServicePort{{Name: name, Port: 80}, {Name: "admin", Port: 81}}}
	}
	mapped := func(name string) *discovery.InstanceGroup {
		g := group()
		g.Object.Spec.Ports = []v1alpha1.InstancePort{{Name: name, Port: 8080}, {Name: "admin", Port: 8081}}
		return g
	}
	port := func(name string, number uint16) discovery.EndpointPort {
		return discovery.EndpointPort{Name: name, Port: number}
	}
	read := func(cat *catalog.Catalog, svc *discovery.Service, g *discovery.InstanceGroup) {
		write(t, cat, func(tx *catalog.Tx) {
			catalog.Services.Put(tx, svc)
			catalog.Objects.Put(tx, g.Row())
			catalog.Sources.Put(tx, &discovery.SourceStatus{Name: "file", Synced: true})
		})
	}
	for name, c := range map[string]struct {
		svc   *discovery.Service
		group *discovery.InstanceGroup
		want  []discovery.EndpointPort
	}{
		"the Service renames it": {service("web"), mapped("http"), []discovery.EndpointPort{port("http", 8080), port("admin", 8081), port("web", 8080)}},
		"the group renames it":   {service("http"), mapped("web"), []discovery.EndpointPort{port("web", 8080), port("admin", 8081), port("http", 8080)}},
		"nobody does":            {service("http"), mapped("http"), []discovery.EndpointPort{port("http", 8080), port("admin", 8081)}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state")
			cat, stop := run(t, path)
			read(cat, service("http"), mapped("http"))
			write(t, cat, func(tx *catalog.Tx) { catalog.Instances.Put(tx, instances("i-1")) })
			await(t, cat, "endpoints", func(r catalog.Reader) bool { return published(r) != nil })
			read(cat, c.svc, c.group)
			held := func(r catalog.Reader) bool {
				s := published(r)
				return s != nil && slices.Equal(s.Ports, c.want)
			}
			await(t, cat, "the edit", held)
			stop()
			for range 2 { // a second restart is as good
				cat, stop = run(t, path)
				read(cat, c.svc, c.group)
				await(t, cat, "ready", ready)
				require.Equal(t, c.want, published(cat.Read()).Ports)
				stop()
			}
		})
	}
}

func TestInstancesSurvive(t *testing.T) {
	path := t.TempDir()
	cat, stop := run(t, path)
	files(t, cat, group())
	want := instances("i-1", "i-2", "i-3")
	write(t, cat, func(tx *catalog.Tx) { catalog.Instances.Put(tx, want) })
	await(t, cat, "the store", func(catalog.Reader) bool {
		_, err := os.Stat(filepath.Join(path, instancesFile+extension))
		return err == nil
	})
	stop()

	cat, _ = run(t, path)
	got, ok := catalog.Instances.Get(cat.Read(), ec2.String())
	require.True(t, ok, "restored before any source runs")
	require.Equal(t, want, got)
	require.False(t, ready(cat.Read()))
	files(t, cat, group())
	await(t, cat, "published from what was last known", func(r catalog.Reader) bool { return ready(r) && published(r) != nil })
}

func TestSpoiledFiles(t *testing.T) {
	path := t.TempDir()
	d, err := Open(path, quiet)
	require.NoError(t, err)
	name := filepath.Join(path, "instances"+extension)
	one, two, three := []homeRecord{{Because: "one"}}, []homeRecord{{Because: "two"}}, []homeRecord{{Because: "three"}}
	require.NoError(t, d.write("instances", one))
	require.NoError(t, d.write("instances", two))
	whole, err := os.ReadFile(name)
	require.NoError(t, err)

	reopen := func() *Dir {
		d, err := Open(path, quiet)
		require.NoError(t, err)
		return d
	}
	for n := range len(whole) - 1 { // -1: the last byte is only a line's end
		require.NoError(t, os.WriteFile(name, whole[:n], 0o600))
		got, err := read[[]homeRecord](reopen(), "instances")
		require.NoError(t, err)
		require.Equal(t, one, got, "cut after %d bytes: the generation before", n)
	}
	for n := range len(whole) - 1 {
		bad := bytes.Clone(whole)
		bad[n] ^= 0x11
		require.NoError(t, os.WriteFile(name, bad, 0o600))
		got, err := read[[]homeRecord](reopen(), "instances")
		require.NoError(t, err)
		require.Equal(t, one, got, "byte %d spoiled: the generation before", n)
	}

	// What is spoiled must not take the place of the good generation.
	require.NoError(t, os.WriteFile(name, []byte("spoiled"), 0o600))
	d = reopen()
	_, err = read[[]homeRecord](d, "instances")
	require.NoError(t, err)
	require.NoError(t, d.write("instances", three))
	require.NoError(t, os.WriteFile(name, nil, 0o600))
	got, err := read[[]homeRecord](reopen(), "instances")
	require.NoError(t, err)
	require.Equal(t, one, got)

	require.NoError(t, os.WriteFile(name, nil, 0o600))
	require.NoError(t, os.WriteFile(name+".previous", []byte("{}"), 0o600))
	_, err = read[[]homeRecord](reopen(), "instances")
	require.ErrorContains(t, err, "cut or spoiled")
	require.NoError(t, os.WriteFile(name, []byte(`{"version":2,"kind":"instances"}`), 0o600))
	_, err = read[[]homeRecord](reopen(), "instances")
	require.ErrorContains(t, err, "of version 2")
	require.NoError(t, os.WriteFile(name, bytes.Replace(whole, []byte(`"instances"`), []byte(`"files"`), 1), 0o600))
	_, err = read[[]homeRecord](reopen(), "instances")
	require.ErrorContains(t, err, `it holds "files"`)

	// Serving goes on with nothing, and every start says so until there is something.
	k := NewKeeper(reopen(), unrecorded, quiet)
	require.Error(t, k.Restore(catalog.New()))
}

func TestUnknownRecordsAreLeftOut(t *testing.T) {
	path := t.TempDir()
	d, err := Open(path, quiet)
	require.NoError(t, err)
	require.NoError(t, d.write(homesFile, []homeRecord{{"web", "a", "lambdas", "", ""}, {"web", "b", "instances", "so", "Pods"}}))
	require.NoError(t, d.write(instancesFile, []instancesRecord{
		{"ec2", "web", "a", "a", "", []endpointRecord{{ID: "i-1", Address: "10.0.0.1", Health: "DREAMING"}}, nil},
		{"ec2", "web", "b", "b", "123456789012", []endpointRecord{{ID: "i-1", Address: "10.0.0.1", Health: "DRAINING"}}, nil},
	}))
	cat := catalog.New()
	err = NewKeeper(d, unrecorded, quiet).Restore(cat)
	require.ErrorContains(t, err, `"lambdas" is no platform`)
	require.ErrorContains(t, err, "DREAMING")
	_, ok := catalog.Homes.Get(cat.Read(), "web/b")
	require.True(t, ok)
	_, ok = catalog.Instances.Get(cat.Read(), "web/b")
	require.True(t, ok)
}

// An annotation that a completed shift has superseded states no home, even if the home that the shift recorded is not known.
func TestUnknownHomesSupersedeAnnotations(t *testing.T) {
	t.Parallel()
	d, err := Open(t.TempDir(), quiet)
	require.NoError(t, err)
	require.NoError(t, d.write(homesFile, []homeRecord{{"web", "a", "lambdas", "a shift", "Instances"}}))
	cat, k := catalog.New(), NewKeeper(d, unrecorded, quiet)
	require.ErrorContains(t, k.Restore(cat), "lambdas")
	a := discovery.Key{Namespace: "web", Name: "a"}
	_, err = cat.Write(time.Time{}, func(tx *catalog.Tx) error {
		catalog.Sources.Put(tx, &discovery.SourceStatus{Name: "test", Synced: true})
		catalog.Services.Put(tx, &discovery.Service{Scope: "test", Key: a, Home: "Instances"})
		for _, b := range discovery.Backings() {
			catalog.Endpoints.Put(tx, &discovery.EndpointSet{
				Scope: "test", Key: discovery.Key{Namespace: "web", Name: b.String()}, Service: a, Platform: b, Endpoints: []discovery.Endpoint{{ID: b.String()}},
			})
		}
		return nil
	})
	require.NoError(t, err)
	require.True(t, k.guess(cat.Read(), &discovery.Home{Key: a, Platform: discovery.Instances}))
	k.markUnknownHomes(cat)
	home, ok := catalog.Homes.Get(cat.Read(), a.String())
	require.True(t, ok)
	require.NotEmpty(t, home.Unknown)
	require.Equal(t, "Instances", home.Supersedes)
}

// alone reports whether the test has the process to itself; if not, it has been
// run in one of its own. A limit on the size of files is the whole process's:
// go test's own log of the files that tests open would hit it as well.
func alone(t *testing.T) bool {
	t.Helper()
	const name = "CAUSEWAY_TEST_ALONE"
	if os.Getenv(name) == t.Name() {
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$") //nolint:gosec // this test
	cmd.Env = append(os.Environ(), name+"="+t.Name())
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "PASS")
	return false
}

// A disk that is full leaves the old file whole, and is told of; when there is
// room again, the newest state is stored. The limit on a file's size makes
// the kernel refuse in the middle of a write, as a full disk does.
func TestFullDisk(t *testing.T) {
	if !alone(t) {
		return
	}
	signal.Ignore(syscall.SIGXFSZ)
	path := t.TempDir()
	d, err := Open(path, quiet)
	require.NoError(t, err)
	good := map[string][]byte{"a.yaml": []byte("small")}
	require.NoError(t, d.KeepFiles(good))

	var limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit))
	small := limit
	small.Cur = 4096
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small))
	err = d.KeepFiles(map[string][]byte{"a.yaml": bytes.Repeat([]byte("big"), 4096)})
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
	require.ErrorIs(t, err, syscall.EFBIG)
	require.Equal(t, good, d.GoodFiles())
	entries, err := os.ReadDir(path)
	require.NoError(t, err)
	require.Len(t, entries, 1, "no temporary file stays")
	d, err = Open(path, quiet)
	require.NoError(t, err)
	require.Equal(t, good, d.GoodFiles())
	require.NoError(t, d.KeepFiles(map[string][]byte{"a.yaml": bytes.Repeat([]byte("big"), 4096)}))
}

func TestAFailureIsToldAndRetried(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	cat, _ := run(t, path)
	require.NoError(t, os.RemoveAll(path))
	files(t, cat, group())
	write(t, cat, func(tx *catalog.Tx) { catalog.Instances.Put(tx, instances("i-1")) })
	await(t, cat, "the failure", func(r catalog.Reader) bool {
		s, ok := catalog.Sources.Get(r, Scope)
		return ok && strings.Contains(s.Error, "no such file") && s.Ready() && !s.ErrorSince.IsZero()
	})
	await(t, cat, "endpoints all the same", func(r catalog.Reader) bool { return published(r) != nil })
	require.NoError(t, os.Mkdir(path, 0o700))
	await(t, cat, "the store", func(r catalog.Reader) bool {
		s, ok := catalog.Sources.Get(r, Scope)
		return ok && s.Error == ""
	})
	for _, kind := range []string{instancesFile, homesFile} {
		_, err := os.Stat(filepath.Join(path, kind+extension))
		require.NoError(t, err)
	}
}

func TestLeftoversGo(t *testing.T) {
	path := t.TempDir()
	left := filepath.Join(path, ".homes"+extension+"-123")
	require.NoError(t, os.WriteFile(left, nil, 0o600))
	_, err := Open(path, quiet)
	require.NoError(t, err)
	_, err = os.Stat(left)
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = Open(filepath.Join(path, "x\x00y"), quiet)
	require.Error(t, err)
	file := filepath.Join(path, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = Open(file, quiet)
	require.ErrorIs(t, err, syscall.ENOTDIR)
}

func FuzzDecode(f *testing.F) {
	for _, kind := range []any{[]homeRecord{{"web", "a", "pods", "so", ""}}, []instancesRecord{{"ec2", "web", "a", "a", "", []endpointRecord{{ID: "i-1"}}, nil}}} {
		text, err := encode("instances", kind)
		require.NoError(f, err)
		f.Add(text)
	}
	f.Add([]byte(`{"version":1,"kind":"instances","sha256":"74234e98afe7498fb5daf1f36ac2d78acc339464f950703b8c019892f982b90b","data":null}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := decode[[]instancesRecord](raw, "instances")
		if err != nil {
			require.Nil(t, got)
			return
		}
		for i := range got {
			if row, err := got[i].row(); err == nil {
				require.Len(t, row.Endpoints, len(got[i].Endpoints))
			}
		}
		text, err := encode("instances", got)
		require.NoError(t, err)
		again, err := decode[[]instancesRecord](text, "instances")
		require.NoError(t, err)
		require.Len(t, again, len(got))
	})
}
