package kubernetes

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/objects"
)

// maxConfigMaps bounds how many ConfigMaps are read: each costs a watch, and a
// mesh has few sets of CA certificates.
const maxConfigMaps = 500

// configMaps reads the ConfigMaps that policies name, and no others: a cluster
// may hold many megabytes of them. Each has a watch of its own, which begins
// and ends with the references to it.
type configMaps struct {
	client  *Client
	cat     *catalog.Catalog
	status  *status
	watches map[discovery.Key]*configMapWatch
	// excess are those that are named and not read.
	excess []discovery.Key
	// answers has what the API server said to a list.
	answers chan configMapAnswer
}

type configMapWatch struct {
	stop func()
	// answered is true once the ConfigMap, or that it may not be read, is known.
	answered, refused bool
}

type configMapAnswer struct {
	key     discovery.Key
	refused bool
}

// readConfigMaps keeps the rows of the ConfigMaps that are named equal to the
// cluster until the context ends.
func (c *Client) readConfigMaps(ctx context.Context, cat *catalog.Catalog) error {
	g, ctx := errgroup.WithContext(ctx)
	m := &configMaps{
		client: c, cat: cat, status: &status{cat: cat, name: ScopeConfigMaps, log: c.log},
		watches: make(map[discovery.Key]*configMapWatch), answers: make(chan configMapAnswer),
	}
	g.Go(func() error { return m.status.freshen(ctx) })
	g.Go(func() error { return m.run(ctx) })
	return g.Wait()
}

func (m *configMaps) run(ctx context.Context) error {
	feed := m.cat.Subscribe()
	defer feed.Close()
	defer func() {
		for _, w := range m.watches {
			w.stop()
		}
	}()
	synced := false
	for {
		// What can happen: references changed, a ConfigMap was listed, the end.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-feed.Wake():
			if b, ok := feed.Take(); ok && concernsConfigMaps(b) {
				m.follow(ctx, b.Reader)
			}
		case a := <-m.answers:
			if w := m.watches[a.key]; w != nil {
				changed := w.refused != a.refused
				w.answered, w.refused = true, a.refused
				if changed {
					m.tell()
				}
			}
		}
		if !synced && m.known() {
			synced = true
			m.status.write(func(st *discovery.SourceStatus) { st.Synced = true })
		}
	}
}

// concernsConfigMaps reports whether a batch may change what ConfigMaps are
// named, or whether all who name them are known.
func concernsConfigMaps(b catalog.Batch) bool {
	return slices.ContainsFunc(b.Changes, func(ch catalog.Change) bool {
		return ch.Table == catalog.Objects.Name() || ch.Table == catalog.Sources.Name()
	})
}

// known reports whether all objects that may name a ConfigMap have been read,
// and all ConfigMaps that they name.
func (m *configMaps) known() bool {
	r := m.cat.Read()
	for _, k := range policyKinds() {
		if st, ok := catalog.Sources.Get(r, scopeOf(k)); !ok || !st.Synced {
			return false
		}
	}
	for _, w := range m.watches {
		if !w.answered {
			return false
		}
	}
	return true
}

// follow starts and ends watches, so that they are of what is named.
func (m *configMaps) follow(ctx context.Context, r catalog.Reader) {
	named := make(map[discovery.Key]struct{})
	for o := range catalog.Objects.All(r) {
		for _, ref := range o.Refs {
			if ref.Kind == "ConfigMap" {
				named[ref.Key] = struct{}{}
			}
		}
	}
	keys := slices.SortedFunc(maps.Keys(named), func(a, b discovery.Key) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	m.excess = nil
	if len(keys) > maxConfigMaps {
		for _, key := range keys[maxConfigMaps:] {
			delete(named, key)
		}
		keys, m.excess = keys[:maxConfigMaps], keys[maxConfigMaps:]
	}
	for key, w := range m.watches {
		if _, ok := named[key]; ok {
			continue
		}
		w.stop()
		delete(m.watches, key)
		m.write(func(tx *catalog.Tx) { catalog.Objects.Delete(tx, configMapName(key).String()) })
	}
	for _, key := range keys {
		if m.watches[key] == nil {
			m.watches[key] = &configMapWatch{stop: m.watch(ctx, key)}
		}
	}
	m.tell()
}

// tell puts into the source's status which ConfigMaps are not read.
func (m *configMaps) tell() {
	var notes []string
	if len(m.excess) > 0 {
		notes = append(notes, fmt.Sprintf("policies name %d ConfigMaps, and no more than %d are read, so %s and those after it are not: share CA certificates between policies",
			maxConfigMaps+len(m.excess), maxConfigMaps, m.excess[0]))
	}
	var refused []string
	for key, w := range m.watches {
		if w.refused {
			refused = append(refused, key.String())
		}
	}
	if len(refused) > 0 {
		slices.Sort(refused)
		notes = append(notes, "the service account may not list and watch these ConfigMaps, which policies name: "+strings.Join(refused, ", "))
	}
	note := strings.Join(notes, "; ")
	st, ok := catalog.Sources.Get(m.cat.Read(), ScopeConfigMaps)
	if ok && st.Note == note || !ok && note == "" {
		return
	}
	m.status.write(func(st *discovery.SourceStatus) { st.Note = note })
	if note != "" {
		m.client.log.Warn("some ConfigMaps that policies name are not read", "why", note)
	}
}

func configMapName(key discovery.Key) discovery.ObjectName {
	return discovery.ObjectName{Kind: "ConfigMap", Key: key}
}

// watch starts the reflector of a ConfigMap and returns what stops it and waits for its end.
func (m *configMaps) watch(ctx context.Context, key discovery.Key) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	of := m.client.core.CoreV1().ConfigMaps(key.Namespace)
	only := fields.OneTermEqualSelector("metadata.name", key.Name).String()
	answer := func(refused bool) {
		select {
		case m.answers <- configMapAnswer{key, refused}:
		case <-ctx.Done():
		}
	}
	// What is forbidden in one namespace is no failure of the API server, and
	// must not keep the mesh from starting.
	attempted := func(ctx context.Context, err error) {
		if apierrors.IsForbidden(err) {
			answer(true)
			return
		}
		m.status.attempted(ctx, err)
	}
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = only
			out, err := of.List(ctx, o)
			attempted(ctx, err)
			return out, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = only
			out, err := of.Watch(ctx, o)
			attempted(ctx, err)
			return out, err
		},
	}
	store := &configMapStore{m: m, key: key, listed: func() { answer(false) }}
	r := cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(lw, m.client.core), &corev1.ConfigMap{}, store,
		cache.ReflectorOptions{Name: ScopeConfigMaps + "/" + key.String(), Backoff: backoff()})
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.RunWithContext(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

func (m *configMaps) write(change func(*catalog.Tx)) {
	_, err := m.cat.Write(time.Now(), func(tx *catalog.Tx) error {
		change(tx)
		return nil
	})
	if err != nil {
		m.client.log.Error("cannot take a ConfigMap", "error", err)
	}
}

// configMapStore is the store of one ConfigMap's reflector.
type configMapStore struct {
	m      *configMaps
	key    discovery.Key
	listed func()
}

// Add implements cache.ReflectorStore.
func (s *configMapStore) Add(o any) error { return s.Update(o) }

// Update implements cache.ReflectorStore.
func (s *configMapStore) Update(o any) error {
	row := objects.Object(o.(*corev1.ConfigMap), ScopeConfigMaps)
	s.m.write(func(tx *catalog.Tx) {
		if row == nil {
			catalog.Objects.Delete(tx, configMapName(s.key).String())
		} else {
			catalog.Objects.Put(tx, row)
		}
	})
	return nil
}

// Delete implements cache.ReflectorStore.
func (s *configMapStore) Delete(any) error {
	s.m.write(func(tx *catalog.Tx) { catalog.Objects.Delete(tx, configMapName(s.key).String()) })
	return nil
}

// Replace implements cache.ReflectorStore.
func (s *configMapStore) Replace(list []any, _ string) error {
	defer s.listed()
	if len(list) == 0 {
		return s.Delete(nil)
	}
	return s.Update(list[0])
}

// Resync implements cache.ReflectorStore.
func (s *configMapStore) Resync() error { return nil }
