// Package kubernetes is the source that reads a cluster. It writes nothing there: who
// acts on a cluster (packages lead and status) learns of it from the catalog alone.
package kubernetes

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/convert"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
)

// Scopes lists the sources that must have synced before anything is served:
// those of package cluster and one for each kind of route and policy, by its plural name.
func Scopes() []string {
	out := []string{cluster.ScopeServices, cluster.ScopeEndpointSlices, cluster.ScopeHomes, cluster.ScopeConfigMaps, cluster.ScopeSecrets, cluster.ScopeNamespaces, cluster.ScopeFreeze}
	for _, k := range cluster.Kinds() {
		out = append(out, k.Source())
	}
	return out
}

// Required implements catalog.Source.
func (s *Source) Required() []string { return Scopes() }

var _ catalog.Source = (*Source)(nil)

// Source reads one cluster.
type Source struct{ client *cluster.Client }

// NewSource returns the source of the cluster that a client reaches.
func NewSource(c *cluster.Client) *Source { return &Source{c} }

// Run reads the cluster into the catalog until the context ends. Its only error
// is the context's. A part that cannot be read changes nothing and is reported
// in the sources' status.
//
// It uses client-go's reflectors, the core of informers, with a store that
// writes to the catalog: a list replaces a whole scope in one transaction, an
// event changes one row, and there is no second copy of every object.
func (s *Source) Run(ctx context.Context, cat *catalog.Catalog) error {
	g, ctx := errgroup.WithContext(ctx)
	services := s.client.Core.CoreV1().Services(metav1.NamespaceAll)
	reflect(ctx, g, s.client, cat, cluster.ScopeServices, catalog.Services, &corev1.Service{},
		func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return services.List(ctx, o) },
		services.Watch, func(o *corev1.Service) (string, *discovery.Service) {
			return o.Namespace + "/" + o.Name, convert.Service(o, cluster.ScopeServices)
		})
	endpointSlices := s.client.Core.DiscoveryV1().EndpointSlices(metav1.NamespaceAll)
	reflect(ctx, g, s.client, cat, cluster.ScopeEndpointSlices, catalog.Endpoints, &discoveryv1.EndpointSlice{},
		func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return endpointSlices.List(ctx, o)
		},
		endpointSlices.Watch, func(o *discoveryv1.EndpointSlice) (string, *discovery.EndpointSet) {
			return cluster.ScopeEndpointSlices + "|" + o.Namespace + "/" + o.Name, convert.EndpointSlice(o, cluster.ScopeEndpointSlices)
		})
	namespaces := s.client.Core.CoreV1().Namespaces()
	reflect(ctx, g, s.client, cat, cluster.ScopeNamespaces, catalog.Objects, &corev1.Namespace{},
		func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return namespaces.List(ctx, o)
		},
		namespaces.Watch, func(o *corev1.Namespace) (string, *discovery.Object) {
			return discovery.ObjectName{Kind: discovery.KindNamespace, Key: discovery.Key{Name: o.Name}}.String(), convert.Object(o, cluster.ScopeNamespaces)
		})
	for _, kind := range cluster.Kinds() {
		source := s.newKindSource(cat, kind)
		g.Go(func() error { return source.run(ctx) })
	}
	for _, kind := range []namedKind{s.configMaps(), s.secrets()} {
		g.Go(func() error { return s.readNamed(ctx, cat, kind) })
	}
	g.Go(func() error { return s.readHomes(ctx, cat) })
	s.readFreeze(ctx, g, cat)
	return g.Wait()
}

// reflect keeps a scope equal to a resource of the cluster.
func reflect[O runtime.Object, R any](ctx context.Context, g *errgroup.Group, c *cluster.Client, cat *catalog.Catalog,
	scope string, table catalog.Table[*R], expected O,
	list func(context.Context, metav1.ListOptions) (runtime.Object, error),
	watcher func(context.Context, metav1.ListOptions) (watch.Interface, error),
	convert func(O) (id string, row *R),
) {
	status := &sourceStatus{cat: cat, name: scope, log: c.Log}
	store := &rows[O, R]{cat: cat, scope: scope, table: table, convert: convert, status: status}
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			out, err := list(ctx, o)
			status.attempted(ctx, err)
			return out, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			out, err := watcher(ctx, o)
			status.attempted(ctx, err)
			return out, err
		},
	}
	r := cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(lw, c.Core), expected, store,
		cache.ReflectorOptions{Name: scope, Backoff: cluster.Backoff()})
	g.Go(func() error {
		r.RunWithContext(ctx)
		return ctx.Err()
	})
	g.Go(func() error { return status.freshen(ctx) })
}

// rows is the store of a reflector: it writes to the catalog.
type rows[O runtime.Object, R any] struct {
	cat     *catalog.Catalog
	scope   string
	table   catalog.Table[*R]
	convert func(O) (id string, row *R)
	status  *sourceStatus
}

// Add implements cache.ReflectorStore.
func (s *rows[O, R]) Add(o any) error { return s.put(o) }

// Update implements cache.ReflectorStore.
func (s *rows[O, R]) Update(o any) error { return s.put(o) }

func (s *rows[O, R]) put(o any) error {
	id, row := s.convert(o.(O))
	_, err := s.cat.Write(time.Now(), func(tx *catalog.Tx) error {
		if row == nil {
			s.table.Withdraw(tx, s.scope, id)
		} else {
			s.table.Claim(tx, row)
		}
		return nil
	})
	return err
}

// Delete implements cache.ReflectorStore.
func (s *rows[O, R]) Delete(o any) error {
	id, _ := s.convert(o.(O))
	_, err := s.cat.Write(time.Now(), func(tx *catalog.Tx) error {
		s.table.Withdraw(tx, s.scope, id)
		return nil
	})
	return err
}

// Replace implements cache.ReflectorStore: a list has all objects.
func (s *rows[O, R]) Replace(list []any, _ string) error {
	all := make([]*R, 0, len(list))
	for i, o := range list {
		if _, row := s.convert(o.(O)); row != nil {
			all = append(all, row)
		}
		list[i] = nil // the object's memory may go while the others are converted
	}
	_, err := s.cat.Write(time.Now(), func(tx *catalog.Tx) error {
		s.table.Replace(tx, s.scope, all)
		s.status.put(tx, func(st *discovery.SourceStatus) { st.Synced = true })
		return nil
	})
	return err
}

// Resync implements cache.ReflectorStore.
func (s *rows[O, R]) Resync() error { return nil }
