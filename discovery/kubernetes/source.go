// Package kubernetes is the source that reads a cluster, and the effects that
// Causeway has on one: published instances, status, records of homes and the
// election of who does all that.
package kubernetes

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	clientdiscovery "k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/convert"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// The scopes of the rows that come from Kubernetes, which are also the names
// of their SourceStatus rows.
const (
	ScopeServices       = "kubernetes/services"
	ScopeEndpointSlices = "kubernetes/endpointslices"
	ScopeInstanceGroups = discovery.GroupsSource
	ScopeHomes          = "kubernetes/homes"
	ScopeConfigMaps     = "kubernetes/configmaps"
	ScopeSecrets        = "kubernetes/secrets"
	ScopeNamespaces     = "kubernetes/namespaces"
	ScopeFreeze         = "kubernetes/freeze"
)

// Scopes lists the sources that must have synced before anything is served:
// those above and one for each kind of route and policy, by its plural name.
func Scopes() []string {
	out := []string{ScopeServices, ScopeEndpointSlices, ScopeHomes, ScopeConfigMaps, ScopeSecrets, ScopeNamespaces, ScopeFreeze}
	for _, k := range policyKinds() {
		out = append(out, scopeOf(k))
	}
	return out
}

// Required implements catalog.Source.
func (c *Client) Required() []string { return Scopes() }

var _ catalog.Source = (*Client)(nil)

// Client reaches one cluster.
type Client struct {
	core     kubernetes.Interface
	served   clientdiscovery.DiscoveryInterfaceWithContext
	metadata metadata.Interface
	groups   rest.Interface
	// raw reads policy kinds, statuses writes their status. The latter has no
	// limit of its own: who writes status keeps one.
	raw, statuses rest.Interface
	// shifts reads and writes TrafficShifts, without a limit: a way back must not
	// wait until other requests are through.
	shifts rest.Interface
	types  *runtime.Scheme
	// Namespace is the control plane's own.
	Namespace string
	log       *slog.Logger
}

// NewClient returns a client of the cluster that config leads to.
func NewClient(config *rest.Config, namespace string, log *slog.Logger) (*Client, error) {
	c := rest.CopyConfig(config)
	c.UserAgent = "causeway"
	if c.QPS == 0 {
		c.QPS, c.Burst = 50, 100
	}
	typed := rest.CopyConfig(c)
	typed.ContentType, typed.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf+","+runtime.ContentTypeJSON
	core, err := kubernetes.NewForConfig(typed)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	out := &Client{
		core: core, served: clientdiscovery.ToDiscoveryInterfaceWithContext(core.Discovery()),
		Namespace: namespace, log: log,
	}
	if out.types, err = typesOf(); err != nil {
		return nil, err
	}
	if out.metadata, err = metadata.NewForConfig(c); err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	if out.raw, err = newRawClient(c); err != nil {
		return nil, err
	}
	unlimited := rest.CopyConfig(c)
	unlimited.QPS = -1
	if out.statuses, err = newRawClient(unlimited); err != nil {
		return nil, err
	}
	gv := v1alpha1.GroupVersion()
	for _, typed := range []*rest.Config{c, unlimited} {
		typed.GroupVersion, typed.APIPath = &gv, "/apis"
		typed.NegotiatedSerializer = serializer.NewCodecFactory(out.types).WithoutConversion()
	}
	if out.groups, err = rest.RESTClientFor(c); err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	if out.shifts, err = rest.RESTClientFor(unlimited); err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	return out, nil
}

// Run reads the cluster into the catalog until the context ends. Its only error
// is the context's. A part that cannot be read changes nothing and is reported
// in the sources' status.
//
// It uses client-go's reflectors, the core of informers, with a store that
// writes to the catalog: a list replaces a whole scope in one transaction, an
// event changes one row, and there is no second copy of every object.
func (c *Client) Run(ctx context.Context, cat *catalog.Catalog) error {
	g, ctx := errgroup.WithContext(ctx)
	services := c.core.CoreV1().Services(metav1.NamespaceAll)
	reflect(ctx, g, c, cat, ScopeServices, catalog.Services, &corev1.Service{},
		func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return services.List(ctx, o) },
		services.Watch, func(o *corev1.Service) (string, *discovery.Service) {
			return o.Namespace + "/" + o.Name, convert.Service(o, ScopeServices)
		})
	endpointSlices := c.core.DiscoveryV1().EndpointSlices(metav1.NamespaceAll)
	reflect(ctx, g, c, cat, ScopeEndpointSlices, catalog.Endpoints, &discoveryv1.EndpointSlice{},
		func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return endpointSlices.List(ctx, o)
		},
		endpointSlices.Watch, func(o *discoveryv1.EndpointSlice) (string, *discovery.EndpointSet) {
			return ScopeEndpointSlices + "|" + o.Namespace + "/" + o.Name, convert.EndpointSlice(o, ScopeEndpointSlices)
		})
	namespaces := c.core.CoreV1().Namespaces()
	reflect(ctx, g, c, cat, ScopeNamespaces, catalog.Objects, &corev1.Namespace{},
		func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return namespaces.List(ctx, o)
		},
		namespaces.Watch, func(o *corev1.Namespace) (string, *discovery.Object) {
			return discovery.ObjectName{Kind: discovery.KindNamespace, Key: discovery.Key{Name: o.Name}}.String(), convert.Object(o, ScopeNamespaces)
		})
	for _, kind := range policyKinds() {
		source := c.newKindSource(cat, kind)
		g.Go(func() error { return source.run(ctx) })
	}
	for _, kind := range []namedKind{c.configMaps(), c.secrets()} {
		g.Go(func() error { return c.readNamed(ctx, cat, kind) })
	}
	g.Go(func() error { return c.readHomes(ctx, cat) })
	c.readFreeze(ctx, g, cat)
	return g.Wait()
}

// reflect keeps a scope equal to a resource of the cluster.
func reflect[O runtime.Object, R any](ctx context.Context, g *errgroup.Group, c *Client, cat *catalog.Catalog,
	scope string, table catalog.Table[*R], expected O,
	list func(context.Context, metav1.ListOptions) (runtime.Object, error),
	watcher func(context.Context, metav1.ListOptions) (watch.Interface, error),
	convert func(O) (id string, row *R),
) {
	status := &status{cat: cat, name: scope, log: c.log}
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
	r := cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(lw, c.core), expected, store,
		cache.ReflectorOptions{Name: scope, Backoff: backoff()})
	g.Go(func() error {
		r.RunWithContext(ctx)
		return ctx.Err()
	})
	g.Go(func() error { return status.freshen(ctx) })
}

// backoff is how a failed list or watch is tried again. The upper bound is
// what a control plane may lag behind an API server that is back.
func backoff() *wait.Backoff {
	return &wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 1, Steps: 1000, Cap: 5 * time.Second}
}

// rows is the store of a reflector: it writes to the catalog.
type rows[O runtime.Object, R any] struct {
	cat     *catalog.Catalog
	scope   string
	table   catalog.Table[*R]
	convert func(O) (id string, row *R)
	status  *status
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
