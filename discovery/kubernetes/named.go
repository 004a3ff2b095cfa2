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
	"github.com/causeway-mesh/causeway/discovery/convert"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
)

// maxNamed bounds how many ConfigMaps are read, and how many Secrets: each costs
// a watch, and a mesh has few sets of CA certificates and certificates.
const maxNamed = 500

// namedKind is a kind whose objects are read only if others name them.
type namedKind struct {
	name, scope string
	// by says who names them, and share how fewer would do.
	by, share string
	// named returns what is named.
	named func(catalog.Reader) map[discovery.Key]struct{}
	zero  runtime.Object
	// in returns how the objects of a namespace are read.
	in func(namespace string) namedClient
	// refused returns the row of an object that was never read and that the
	// service account may not read, nil for none.
	refused func(discovery.Key) *discovery.Object
}

type namedClient struct {
	list  func(context.Context, metav1.ListOptions) (runtime.Object, error)
	watch func(context.Context, metav1.ListOptions) (watch.Interface, error)
}

// configMaps are those that policies name for their CA certificates.
func (s *Source) configMaps() namedKind {
	return namedKind{
		name: discovery.KindConfigMap, scope: cluster.ScopeConfigMaps, by: "policies", share: "share CA certificates between policies",
		named: func(r catalog.Reader) map[discovery.Key]struct{} {
			out := make(map[discovery.Key]struct{})
			for o := range catalog.Objects.All(r) {
				for _, ref := range o.Refs {
					if ref.Kind == discovery.KindConfigMap {
						out[ref.Key] = struct{}{}
					}
				}
			}
			return out
		},
		zero: &corev1.ConfigMap{},
		in: func(namespace string) namedClient {
			of := s.client.Core.CoreV1().ConfigMaps(namespace)
			return namedClient{func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return of.List(ctx, o) }, of.Watch}
		},
		refused: func(discovery.Key) *discovery.Object { return nil },
	}
}

// secrets are those that our Gateways name for their listeners' certificates.
func (s *Source) secrets() namedKind {
	return namedKind{
		name: discovery.KindSecret, scope: cluster.ScopeSecrets, by: "Gateways", share: "share certificates between listeners",
		named: certificateSecrets,
		zero:  &corev1.Secret{},
		in: func(namespace string) namedClient {
			of := s.client.Core.CoreV1().Secrets(namespace)
			return namedClient{func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return of.List(ctx, o) }, of.Watch}
		},
		refused: func(key discovery.Key) *discovery.Object {
			return &discovery.Object{
				Scope: cluster.ScopeSecrets, Kind: discovery.KindSecret, Key: key, Spec: &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}},
				Unreadable: "the control plane may not read it: bind the ClusterRole causeway-gateway-secrets to its service account in namespace " + key.Namespace,
			}
		},
	}
}

// namedObjects reads the objects of a kind that others name, and no others: a
// cluster may hold many megabytes of them that do not concern the mesh. Each
// has a watch of its own, which begins and ends with the references to it.
type namedObjects struct {
	namedKind
	client  *cluster.Client
	cat     *catalog.Catalog
	status  *sourceStatus
	watches map[discovery.Key]*namedWatch
	// excess are those that are named and not read.
	excess []discovery.Key
	// answers has what the API server said to a list.
	answers chan namedAnswer
}

type namedWatch struct {
	stop func()
	// answered is true once the object, or that it may not be read, is known.
	answered, refused bool
}

type namedAnswer struct {
	key     discovery.Key
	refused bool
}

// readNamed keeps the rows of a kind's objects that are named equal to the
// cluster until the context ends.
func (s *Source) readNamed(ctx context.Context, cat *catalog.Catalog, kind namedKind) error {
	g, ctx := errgroup.WithContext(ctx)
	n := &namedObjects{
		namedKind: kind, client: s.client, cat: cat, status: &sourceStatus{cat: cat, name: kind.scope, log: s.client.Log},
		watches: make(map[discovery.Key]*namedWatch), answers: make(chan namedAnswer),
	}
	g.Go(func() error { return n.status.freshen(ctx) })
	g.Go(func() error { return n.run(ctx) })
	return g.Wait()
}

func (n *namedObjects) run(ctx context.Context) error {
	feed := n.cat.Subscribe()
	defer feed.Close()
	defer func() {
		for _, w := range n.watches {
			w.stop()
		}
	}()
	synced := false
	for {
		// Events: references changed, an object was listed, the end.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-feed.Wake():
			if b, ok := feed.Take(); ok && mayName(b) {
				n.follow(ctx, b.Reader)
			}
		case a := <-n.answers:
			n.answer(a)
		}
		if !synced && n.known() {
			synced = true
			n.status.write(func(st *discovery.SourceStatus) { st.Synced = true })
		}
	}
}

// mayName reports whether a batch may change what is named, or whether all who
// name it are known.
func mayName(b catalog.Batch) bool {
	return slices.ContainsFunc(b.Changes, func(ch catalog.Change) bool {
		return ch.Table == catalog.Objects.Name() || ch.Table == catalog.Sources.Name()
	})
}

// answer applies an answer of the API server about an object. If an object was
// read before it is refused, its row stays.
func (n *namedObjects) answer(a namedAnswer) {
	w := n.watches[a.key]
	if w == nil {
		return
	}
	changed := w.refused != a.refused
	w.answered, w.refused = true, a.refused
	if !changed {
		return
	}
	if row := n.refused(a.key); row != nil && a.refused {
		n.write(func(tx *catalog.Tx) {
			if _, was := catalog.Objects.Get(tx.Reader, row.Name().String()); !was {
				catalog.Objects.Claim(tx, row)
			}
		})
	}
	n.tell()
}

// known reports whether all objects that may name one of the kind have been
// read, and all that they name.
func (n *namedObjects) known() bool {
	r := n.cat.Read()
	for _, k := range cluster.Kinds() {
		if st, ok := catalog.Sources.Get(r, k.Source()); !ok || !st.Synced {
			return false
		}
	}
	for key := range n.named(r) {
		if w := n.watches[key]; (w == nil || !w.answered) && !slices.Contains(n.excess, key) {
			return false
		}
	}
	return true
}

// follow starts and ends watches, so that they are of what is named.
func (n *namedObjects) follow(ctx context.Context, r catalog.Reader) {
	named := n.named(r)
	keys := slices.SortedFunc(maps.Keys(named), func(a, b discovery.Key) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	n.excess = nil
	if len(keys) > maxNamed {
		for _, key := range keys[maxNamed:] {
			delete(named, key)
		}
		keys, n.excess = keys[:maxNamed], keys[maxNamed:]
	}
	for key, w := range n.watches {
		if _, ok := named[key]; ok {
			continue
		}
		w.stop()
		delete(n.watches, key)
		n.write(func(tx *catalog.Tx) { catalog.Objects.Withdraw(tx, n.scope, n.id(key)) })
	}
	for _, key := range keys {
		if n.watches[key] == nil {
			n.watches[key] = &namedWatch{stop: n.watch(ctx, key)}
		}
	}
	n.tell()
}

// tell puts into the source's status what is named and not read.
func (n *namedObjects) tell() {
	var notes []string
	if len(n.excess) > 0 {
		notes = append(notes, fmt.Sprintf("%s name %d %ss, and no more than %d are read, so %s and those after it are not: %s",
			n.by, maxNamed+len(n.excess), n.name, maxNamed, n.excess[0], n.share))
	}
	var refused []string
	for key, w := range n.watches {
		if w.refused {
			refused = append(refused, key.String())
		}
	}
	if len(refused) > 0 {
		slices.Sort(refused)
		notes = append(notes, fmt.Sprintf("the service account may not list and watch these %ss, which %s name: %s", n.name, n.by, strings.Join(refused, ", ")))
	}
	note := strings.Join(notes, "; ")
	st, ok := catalog.Sources.Get(n.cat.Read(), n.scope)
	if ok && st.Note == note || !ok && note == "" {
		return
	}
	n.status.write(func(st *discovery.SourceStatus) { st.Note = note })
	if note != "" {
		n.client.Log.Warn("some objects that others name are not read", "kind", n.name, "why", note)
	}
}

// id returns the row's id of an object.
func (n *namedObjects) id(key discovery.Key) string {
	return discovery.ObjectName{Kind: n.name, Key: key}.String()
}

// watch starts the reflector of an object and returns what stops it and waits for its end.
func (n *namedObjects) watch(ctx context.Context, key discovery.Key) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	of := n.in(key.Namespace)
	only := fields.OneTermEqualSelector("metadata.name", key.Name).String()
	answer := func(refused bool) {
		select {
		case n.answers <- namedAnswer{key, refused}:
		case <-ctx.Done():
		}
	}
	// A refusal in one namespace is no failure of the API server, and must not
	// keep the mesh from starting.
	attempted := func(ctx context.Context, err error) {
		if apierrors.IsForbidden(err) {
			answer(true)
			return
		}
		n.status.attempted(ctx, err)
	}
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = only
			out, err := of.list(ctx, o)
			attempted(ctx, err)
			return out, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = only
			out, err := of.watch(ctx, o)
			attempted(ctx, err)
			return out, err
		},
	}
	store := &namedStore{n: n, key: key, listed: func() { answer(false) }}
	r := cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(lw, n.client.Core), n.zero, store,
		cache.ReflectorOptions{Name: n.scope + "/" + key.String(), Backoff: cluster.Backoff()})
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

func (n *namedObjects) write(change func(*catalog.Tx)) {
	_, err := n.cat.Write(time.Now(), func(tx *catalog.Tx) error {
		change(tx)
		return nil
	})
	if err != nil {
		n.client.Log.Error("cannot take an object that others name", "kind", n.name, "error", err)
	}
}

// namedStore is the store of one object's reflector.
type namedStore struct {
	n      *namedObjects
	key    discovery.Key
	listed func()
}

// Add implements cache.ReflectorStore.
func (s *namedStore) Add(o any) error { return s.Update(o) }

// Update implements cache.ReflectorStore.
func (s *namedStore) Update(o any) error {
	row := convert.Object(o.(metav1.Object), s.n.scope)
	s.n.write(func(tx *catalog.Tx) {
		if row == nil {
			catalog.Objects.Withdraw(tx, s.n.scope, s.n.id(s.key))
		} else {
			catalog.Objects.Claim(tx, row)
		}
	})
	return nil
}

// Delete implements cache.ReflectorStore.
func (s *namedStore) Delete(any) error {
	s.n.write(func(tx *catalog.Tx) { catalog.Objects.Withdraw(tx, s.n.scope, s.n.id(s.key)) })
	return nil
}

// Replace implements cache.ReflectorStore.
func (s *namedStore) Replace(list []any, _ string) error {
	defer s.listed()
	if len(list) == 0 {
		return s.Delete(nil)
	}
	return s.Update(list[0])
}

// Resync implements cache.ReflectorStore.
func (s *namedStore) Resync() error { return nil }
