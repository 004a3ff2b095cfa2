package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func key(name string) discovery.Key { return discovery.Key{Namespace: "web", Name: name} }

func service(scope, name string, generation int64) *discovery.Service {
	return &discovery.Service{Scope: scope, Key: key(name), Generation: generation}
}

func write(t *testing.T, c *catalog.Catalog, fn func(*catalog.Tx)) uint64 {
	t.Helper()
	rev, err := c.Write(time.Time{}, func(tx *catalog.Tx) error { fn(tx); return nil })
	require.NoError(t, err)
	return rev
}

func names(r catalog.Reader) []string {
	var out []string
	for s := range catalog.Services.All(r) {
		out = append(out, s.Name)
	}
	return out
}

func TestATransactionIsAllOrNothing(t *testing.T) {
	c := catalog.New()
	before := c.Read()
	boom := errors.New("boom")
	rev, err := c.Write(time.Time{}, func(tx *catalog.Tx) error {
		catalog.Services.Put(tx, service("s", "a", 1))
		return boom
	})
	require.ErrorIs(t, err, boom)
	require.Zero(t, rev)
	rev, err = c.Write(time.Time{}, func(tx *catalog.Tx) error {
		catalog.Services.Put(tx, service("s", "a", 1))
		catalog.Services.Replace(tx, "s", []*discovery.Service{service("other", "b", 1)})
		return nil
	})
	require.ErrorContains(t, err, `a row of scope "other" in a Replace of scope "s"`)
	require.Zero(t, rev)
	require.Empty(t, names(c.Read()))
	require.Panics(t, func() {
		_, _ = c.Write(time.Time{}, func(tx *catalog.Tx) error {
			catalog.Services.Put(tx, service("s", "a", 1))
			panic("a bug")
		})
	})
	require.Empty(t, names(c.Read()), "and the catalog is not locked for ever")

	rev = write(t, c, func(tx *catalog.Tx) {
		catalog.Services.Put(tx, service("s", "b", 1))
		catalog.Services.Put(tx, service("s", "a", 1))
		got, ok := catalog.Services.Get(tx.Reader, "web/a")
		require.True(t, ok, "a transaction reads what it wrote")
		require.Equal(t, int64(1), got.Generation)
	})
	require.Equal(t, uint64(1), rev)
	require.Equal(t, []string{"a", "b"}, names(c.Read()), "in the order of ids")
	require.Equal(t, uint64(1), c.Read().Revision())
	require.Empty(t, names(before), "a snapshot stays as it was")
	require.Zero(t, before.Revision())
}

func TestEqualRowsAreNoChange(t *testing.T) {
	c := catalog.New()
	feed := c.Subscribe()
	defer feed.Close()
	_, ok := feed.Take()
	require.False(t, ok, "nothing is there yet")
	write(t, c, func(tx *catalog.Tx) { catalog.Services.Put(tx, service("s", "a", 1)) })
	_, ok = feed.Take()
	require.True(t, ok)
	rev := write(t, c, func(tx *catalog.Tx) {
		catalog.Services.Put(tx, service("s", "a", 1))
		catalog.Services.Replace(tx, "s", []*discovery.Service{service("s", "a", 1)})
		catalog.Services.Delete(tx, "web/none")
	})
	require.Equal(t, uint64(1), rev)
	_, ok = feed.Take()
	require.False(t, ok)
}

func TestReplaceIsTheWholeScope(t *testing.T) {
	c := catalog.New()
	write(t, c, func(tx *catalog.Tx) {
		catalog.Services.Replace(tx, "s", []*discovery.Service{service("s", "a", 1), service("s", "b", 1), service("s", "c", 1)})
		catalog.Services.Put(tx, service("ss", "d", 1)) // a scope that the other's name begins
	})
	feed := c.Subscribe()
	defer feed.Close()
	_, ok := feed.Take()
	require.True(t, ok)
	write(t, c, func(tx *catalog.Tx) {
		catalog.Services.Replace(tx, "s", []*discovery.Service{service("s", "b", 1), service("s", "c", 2), service("s", "e", 1)})
	})
	require.Equal(t, []string{"b", "c", "d", "e"}, names(c.Read()))
	b, ok := feed.Take()
	require.True(t, ok)
	var got []string
	for _, ch := range b.Changes {
		row := ch.Before
		if row == nil {
			row = ch.After
		}
		got = append(got, fmt.Sprintf("%s %s %v %v", ch.Table, row.(*discovery.Service).Name, ch.Before != nil, ch.After != nil))
	}
	slices.Sort(got)
	require.Equal(t, []string{"services a true false", "services c true true", "services e false true"}, got,
		"exactly the rows that changed")
	write(t, c, func(tx *catalog.Tx) { catalog.Services.Replace(tx, "s", nil) })
	require.Equal(t, []string{"d"}, names(c.Read()))
}

func TestIndexes(t *testing.T) {
	c := catalog.New()
	set := func(scope, name, service string) *discovery.EndpointSet {
		return &discovery.EndpointSet{Scope: scope, Key: key(name), Service: key(service)}
	}
	group := func(name, service string) *discovery.InstanceGroup {
		return &discovery.InstanceGroup{Scope: "s", Key: key(name), Object: &v1alpha1.InstanceGroup{
			ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: name},
			Spec:       v1alpha1.InstanceGroupSpec{ServiceRef: v1alpha1.ServiceReference{Name: service}},
		}}
	}
	write(t, c, func(tx *catalog.Tx) {
		for _, s := range []*discovery.EndpointSet{set("k", "x", "a"), set("k", "w", "a"), set("i", "x", "a"), set("k", "y", "ab")} {
			catalog.Endpoints.Put(tx, s)
		}
		catalog.Objects.Put(tx, group("g", "a").Row())
		catalog.Objects.Put(tx, group("h", "ab").Row())
	})
	by := func(service string) []string {
		var out []string
		for s := range catalog.Endpoints.By(c.Read(), catalog.ByService, "web/"+service) {
			out = append(out, s.Scope+"/"+s.Name)
		}
		return out
	}
	require.Equal(t, []string{"i/x", "k/w", "k/x"}, by("a"), "one name in two scopes is two rows")
	require.Equal(t, []string{"k/y"}, by("ab"))
	for g := range catalog.InstanceGroups.Of(c.Read(), key("a")) {
		require.Equal(t, "g", g.Name)
	}
	write(t, c, func(tx *catalog.Tx) { // a row moves to another Service
		catalog.Endpoints.Put(tx, set("k", "x", "ab"))
		catalog.Endpoints.Delete(tx, "i|web/x")
	})
	require.Equal(t, []string{"k/w"}, by("a"))
	require.Equal(t, []string{"k/x", "k/y"}, by("ab"))
	for range catalog.Endpoints.All(c.Read()) {
		break // stopping early is fine
	}
}

func TestAFeedBeginsWithWhatIsThere(t *testing.T) {
	c := catalog.New()
	write(t, c, func(tx *catalog.Tx) {
		catalog.Endpoints.Put(tx, &discovery.EndpointSet{Scope: "s", Key: key("e"), Service: key("a")})
		catalog.Services.Put(tx, service("s", "a", 1))
		catalog.Sources.Put(tx, &discovery.SourceStatus{Name: "s"})
	})
	feed := c.Subscribe()
	defer feed.Close()
	b, ok := feed.Take()
	require.True(t, ok)
	var tables []string
	for _, ch := range b.Changes {
		require.Nil(t, ch.Before)
		tables = append(tables, ch.Table)
	}
	require.Equal(t, []string{"sources", "services", "endpoints"}, tables, "what refers to another row comes after it")
	require.Equal(t, uint64(1), b.Reader.Revision())
}

func TestNextWaitsAndEnds(t *testing.T) {
	c := catalog.New()
	feed := c.Subscribe()
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error)
	go func() { _, err := feed.Next(ctx); got <- err }()
	write(t, c, func(tx *catalog.Tx) { catalog.Services.Put(tx, service("s", "a", 1)) })
	require.NoError(t, <-got)
	go func() { _, err := feed.Next(ctx); got <- err }()
	cancel()
	require.ErrorIs(t, <-got, context.Canceled)
	feed.Close()
	write(t, c, func(tx *catalog.Tx) { catalog.Services.Put(tx, service("s", "b", 1)) })
	_, ok := feed.Take()
	require.False(t, ok, "a closed feed is given nothing")
}

func TestCauseIsTheOldest(t *testing.T) {
	c := catalog.New()
	feed := c.Subscribe()
	defer feed.Close()
	now := time.Now()
	for i, cause := range []time.Time{now, now.Add(-time.Minute), now.Add(time.Minute)} {
		_, err := c.Write(cause, func(tx *catalog.Tx) error {
			catalog.Services.Put(tx, service("s", "a", int64(i)))
			return nil
		})
		require.NoError(t, err)
	}
	b, _ := feed.Take()
	require.True(t, b.Cause.Equal(now.Add(-time.Minute)))
	require.Len(t, b.Changes, 3, "one per commit")
	write(t, c, func(tx *catalog.Tx) { catalog.Services.Put(tx, service("s", "a", 9)) })
	b, _ = feed.Take()
	require.False(t, b.Cause.Before(now), "the earlier cause is not carried on")
}

// Whoever replays a feed has the tables, however many write at once and
// whenever it subscribed; and each batch's reader is the state that the
// changes lead to.
func TestFeedsReplayTheTables(t *testing.T) {
	const writers, rounds, readers = 4, 150, 3
	c := catalog.New()
	var wg sync.WaitGroup
	stop, cancel := context.WithCancel(t.Context())
	var following sync.WaitGroup
	follow := func() {
		feed := c.Subscribe()
		following.Go(func() {
			defer feed.Close()
			replayed := make(map[string]any)
			for {
				b, err := feed.Next(stop)
				if err != nil {
					// The rest that came before the end.
					if b, ok := feed.Take(); ok {
						replay(t, replayed, b)
					}
					if diff := cmp.Diff(dump(c.Read()), replayed); diff != "" {
						t.Error("after the last batch: " + diff)
					}
					return
				}
				replay(t, replayed, b)
			}
		})
	}
	follow()
	for w := range writers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 7)) //nolint:gosec // reproducible on purpose
			scope := fmt.Sprintf("s%d", w)
			for range rounds {
				_, err := c.Write(time.Time{}, func(tx *catalog.Tx) error {
					var rows []*discovery.Service
					for _, n := range rnd.Perm(8)[:rnd.IntN(8)] {
						rows = append(rows, service(scope, fmt.Sprintf("%s-%d", scope, n), int64(rnd.IntN(3))))
					}
					switch rnd.IntN(4) {
					case 0:
						catalog.Services.Replace(tx, scope, rows)
					case 1:
						for _, row := range rows {
							catalog.Services.Put(tx, row)
						}
					case 2:
						for _, row := range rows {
							catalog.Services.Delete(tx, row.Key.String())
						}
					case 3:
						catalog.Services.Replace(tx, scope, rows)
						catalog.Endpoints.Put(tx, &discovery.EndpointSet{Scope: scope, Key: key("e"), Service: key("a"), Generation: rnd.Int64N(3)})
						if rnd.IntN(2) == 0 {
							return errors.New("taken back")
						}
					}
					return nil
				})
				_ = err // some are meant to fail
			}
		})
	}
	for range readers - 1 {
		harness.TakeTime(time.Millisecond)
		follow() // late ones as well
	}
	wg.Wait()
	cancel()
	following.Wait()
}

// replay applies a batch to tables and checks that it fits and leads to its reader.
func replay(t *testing.T, tables map[string]any, b catalog.Batch) {
	t.Helper()
	for _, ch := range b.Changes {
		row := ch.After
		if row == nil {
			row = ch.Before
		}
		id := idOf(ch.Table, row)
		if before, was := tables[id]; was != (ch.Before != nil) || (was && before != ch.Before) {
			t.Errorf("%s: the change's Before is not what was there", id)
		}
		if ch.After == nil {
			delete(tables, id)
		} else {
			tables[id] = ch.After
		}
	}
	if !maps.Equal(tables, dump(b.Reader)) {
		t.Errorf("revision %d: the changes do not lead to the batch's reader", b.Reader.Revision())
	}
}

func idOf(table string, row any) string {
	switch row := row.(type) {
	case *discovery.Service:
		return table + "|" + row.Key.String()
	case *discovery.EndpointSet:
		return table + "|" + row.Scope + "|" + row.Key.String()
	}
	return ""
}

func dump(r catalog.Reader) map[string]any {
	out := make(map[string]any)
	for s := range catalog.Services.All(r) {
		out[idOf("services", s)] = s
	}
	for s := range catalog.Endpoints.All(r) {
		out[idOf("endpoints", s)] = s
	}
	return out
}

// Rows are immutable once written. The catalog hands out the very row that was
// written, so only readers that keep to it make this hold; what the catalog
// itself does must not change one.
func TestRowsAreFrozen(t *testing.T) {
	c := catalog.New()
	row := &discovery.EndpointSet{Scope: "s", Key: key("e"), Service: key("a"), Endpoints: []discovery.Endpoint{{ID: "b"}, {ID: "a"}}}
	write(t, c, func(tx *catalog.Tx) { catalog.Endpoints.Put(tx, row) })
	old := c.Read()
	next := *row
	next.Endpoints = slices.Clone(row.Endpoints)
	next.Endpoints[0].Health = discovery.Draining
	write(t, c, func(tx *catalog.Tx) { catalog.Endpoints.Put(tx, &next) })
	write(t, c, func(tx *catalog.Tx) { catalog.Endpoints.Replace(tx, "s", nil) })
	got, ok := catalog.Endpoints.Get(old, "s|web/e")
	require.True(t, ok)
	require.Same(t, row, got)
	require.Equal(t, []discovery.Endpoint{{ID: "b"}, {ID: "a"}}, got.Endpoints)
}

func BenchmarkPut(b *testing.B) {
	c := catalog.New()
	_, err := c.Write(time.Time{}, func(tx *catalog.Tx) error {
		for i := range 10_000 {
			catalog.Services.Put(tx, service("s", fmt.Sprintf("svc-%d", i), 0))
		}
		return nil
	})
	require.NoError(b, err)
	feed := c.Subscribe()
	defer feed.Close()
	feed.Take()
	i := int64(0)
	b.ReportAllocs()
	for b.Loop() {
		i++
		_, err := c.Write(time.Time{}, func(tx *catalog.Tx) error {
			catalog.Services.Put(tx, service("s", fmt.Sprintf("svc-%d", i%10_000), i))
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		feed.Take()
	}
}

func TestWhatATransactionTakesBackIsNoChange(t *testing.T) {
	c := catalog.New()
	feed := c.Subscribe()
	defer feed.Close()
	write(t, c, func(tx *catalog.Tx) {
		catalog.Services.Put(tx, service("s", "a", 1))
		catalog.Services.Delete(tx, "web/a")
		catalog.Services.Put(tx, service("s", "b", 1))
		catalog.Services.Put(tx, service("s", "b", 2))
	})
	b, ok := feed.Take()
	require.True(t, ok)
	require.Len(t, b.Changes, 1)
	require.Nil(t, b.Changes[0].Before)
	require.Equal(t, int64(2), b.Changes[0].After.(*discovery.Service).Generation)
}

// A quiet table is part of transactions as every other, but no feed is told of it.
func TestQuietTables(t *testing.T) {
	c := catalog.New()
	row := func(version string) *discovery.ObservedStatus {
		return &discovery.ObservedStatus{Scope: "s", Name: discovery.ObjectName{Kind: "Mesh", Key: discovery.Key{Name: "m"}}, UID: "u", Version: version}
	}
	require.Zero(t, write(t, c, func(tx *catalog.Tx) { catalog.ObservedStatuses.Put(tx, row("1")) }))
	feed := c.Subscribe()
	defer feed.Close()
	_, ok := feed.Take()
	require.False(t, ok, "a new feed is not told of them either")
	old := c.Read()
	require.Zero(t, write(t, c, func(tx *catalog.Tx) { catalog.ObservedStatuses.Put(tx, row("2")) }))
	require.Empty(t, feed.Wake())
	_, ok = feed.Take()
	require.False(t, ok)
	got, _ := catalog.ObservedStatuses.Get(old, row("").ID())
	require.Equal(t, "1", got.Version, "a snapshot stays as it is")
	require.EqualValues(t, 1, write(t, c, func(tx *catalog.Tx) {
		catalog.ObservedStatuses.Put(tx, row("3"))
		catalog.Services.Put(tx, service("s", "a", 1))
	}))
	b, ok := feed.Take()
	require.True(t, ok)
	require.Len(t, b.Changes, 1)
	require.Equal(t, catalog.Services.Name(), b.Changes[0].Table)
	got, _ = catalog.ObservedStatuses.Get(b.Reader, row("").ID())
	require.Equal(t, "3", got.Version)
	write(t, c, func(tx *catalog.Tx) { catalog.ObservedStatuses.Replace(tx, "s", []*discovery.ObservedStatus{row("2")}) })
	got, _ = catalog.ObservedStatuses.Get(c.Read(), row("").ID())
	require.Equal(t, "3", got.Version, "a list may be older than what a writer was answered")
	write(t, c, func(tx *catalog.Tx) { catalog.ObservedStatuses.Replace(tx, "s", nil) })
	_, ok = catalog.ObservedStatuses.Get(c.Read(), row("").ID())
	require.False(t, ok)
}
