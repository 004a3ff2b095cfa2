package kubernetes

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/gateway-api/pkg/consts"
	"sigs.k8s.io/json"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
	"github.com/causeway-mesh/causeway/discovery/objects"
)

// How soon the source looks again whether a kind is served, also while the API
// server does not say, and how long it waits until an existing CRD is served:
// after that nothing waits for the kind any more.
const (
	lookFirst   = 200 * time.Millisecond
	lookMost    = 30 * time.Second
	lookFailing = 5 * time.Second
	lookGrace   = 10 * time.Second
)

// kindSource keeps the rows of a policy kind equal to the cluster, for as long
// as the kind's CRD is installed. Without it there are no objects, and that is
// known: nothing waits for them.
type kindSource struct {
	client *cluster.Client
	cat    *catalog.Catalog
	kind   objects.Kind
	status *sourceStatus
	rows   *objectRows
	// crd is nil until the CRD, or that there is none, was read.
	crd atomic.Pointer[crdState]
	// look has a value when it must be looked again whether the kind is served.
	look chan struct{}
}

// crdState is what a CRD's metadata says.
type crdState struct {
	installed bool
	// generation changes with the schema.
	generation int64
	// channel and bundle of the Gateway API that the CRD is from, "" for other CRDs.
	channel, bundle string
}

func (s *Source) newKindSource(cat *catalog.Catalog, kind objects.Kind) *kindSource {
	st := &sourceStatus{cat: cat, name: kind.Source(), log: s.client.Log}
	k := &kindSource{client: s.client, cat: cat, kind: kind, status: st, look: make(chan struct{}, 1)}
	k.rows = &objectRows{
		cat: cat, kind: kind, status: st, log: s.client.Log,
		unreadable: make(map[discovery.Key]discovery.Unread), noted: k.lookAgain,
	}
	return k
}

// run reads the kind until the context ends.
func (k *kindSource) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return k.status.freshen(ctx) })
	g.Go(func() error { return k.watchCRD(ctx) })
	g.Go(func() error { return k.follow(ctx) })
	return g.Wait()
}

// lookAgain makes follow look whether the kind is served.
func (k *kindSource) lookAgain() {
	select {
	case k.look <- struct{}{}:
	default:
	}
}

// follow starts and stops the reading of the kind as its CRD comes and goes.
func (k *kindSource) follow(ctx context.Context) error {
	reading, stop := "", func() {}
	defer func() { stop() }()
	var schemaRead int64        // the CRD's generation that is read, 0 while it is not known
	var reread <-chan time.Time // when to read again after a change of it
	began, pause := time.Now(), lookFirst
	failed := false
	for {
		version, err := k.served(ctx)
		if err == nil && (failed || reading == "") {
			k.status.attempted(ctx, nil)
		}
		failed = err != nil
		settled := false
		switch crd := k.crd.Load(); {
		case err != nil:
			k.status.attempted(ctx, err)
		case version != "" && version == reading:
			settled = true
			if crd != nil && crd.generation != schemaRead {
				// A watch that began under the old schema may have left out fields of
				// the new one, and does not send the objects again. For a moment the
				// API server still uses the old schema.
				if schemaRead != 0 {
					stop()
					stop = k.read(ctx, version)
					reread = time.After(lookGrace)
				}
				schemaRead = crd.generation
			}
		case version != "":
			stop()
			stop, reading = k.read(ctx, version), version
			settled = true
		case crd != nil && !crd.installed:
			// Both the CRD and what it serves are gone, and so are the objects.
			stop()
			stop, reading = func() {}, ""
			if err := k.rows.clear(); err != nil {
				k.client.Log.Error("cannot forget the objects of a kind", "kind", k.kind.Name, "error", err)
			}
		case reading == "" && time.Since(began) >= lookGrace:
			// There may be objects, but nobody can read them: a mesh that lacks the
			// kind goes on, and none of its objects counts as gone.
			unread, all := k.unserved(ctx)
			k.status.write(func(st *discovery.SourceStatus) { st.Synced, st.Unread, st.UnreadAll = true, unread, all })
		}
		if err == nil {
			k.tell(version)
		}
		var timer <-chan time.Time
		if !settled {
			most := lookMost
			if err != nil {
				most = lookFailing
			}
			pause = min(pause, most)
			timer = time.After(pause)
			pause *= 2
		}
		// Events: the CRD changed or the reading failed, it is time to look or
		// to read again, the end.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer:
		case <-reread:
			if reading != "" {
				stop()
				stop = k.read(ctx, reading)
			}
			reread = nil
		case <-k.look:
			pause = lookFirst
		}
	}
}

// served returns the best version of the kind that the API server serves, "" for none.
func (k *kindSource) served(ctx context.Context) (string, error) {
	for _, version := range k.kind.Versions() {
		if has, err := k.has(ctx, version); has || err != nil {
			return version, err
		}
	}
	return "", nil
}

// has reports whether the API server serves the kind in a version.
func (k *kindSource) has(ctx context.Context, version string) (bool, error) {
	list, err := k.client.Served.ServerResourcesForGroupVersionWithContext(ctx, version)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("discover %s: %w", version, err)
	}
	return slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == k.kind.Resource }), nil
}

// unserved returns the objects of a kind that is served in no version that is read. all says
// why there may be others, "" if there are none.
func (k *kindSource) unserved(ctx context.Context) (unread []discovery.Unread, all string) {
	why := notServed(k.kind)
	if k.crd.Load() == nil {
		why = fmt.Sprintf("the API server does not serve %s, and whether its CRD is installed cannot be read: allow the control plane to list CRDs", k.kind.Name)
	}
	other, err := k.otherVersion(ctx)
	if err != nil {
		return nil, fmt.Sprintf("%s; its objects cannot be listed: %v", why, err)
	}
	if other == "" {
		if k.kind.Standard() {
			return nil, "" // whoever installed the CRD serves it to nobody
		}
		return nil, why
	}
	text, err := k.client.Objects.Get().AbsPath("/apis", other, k.kind.Resource).Do(ctx).Raw()
	var list cluster.List
	if err == nil {
		err = json.UnmarshalCaseSensitivePreserveInts(text, &list)
	}
	if err != nil {
		return nil, fmt.Sprintf("%s; its objects cannot be listed: %v", why, err)
	}
	for i := range list.Items {
		unread = append(unread, unreadOf(&list.Items[i], why))
	}
	return someUnread(k.kind, unread)
}

// otherVersion returns a version of the kind's group that serves it, "" for none.
func (k *kindSource) otherVersion(ctx context.Context) (string, error) {
	gv, _ := schema.ParseGroupVersion(k.kind.APIVersion) // from the list of kinds
	groups, err := k.client.Served.ServerGroupsWithContext(ctx)
	if err != nil {
		return "", err
	}
	for i := range groups.Groups {
		if groups.Groups[i].Name != gv.Group {
			continue
		}
		for _, v := range groups.Groups[i].Versions {
			if has, err := k.has(ctx, v.GroupVersion); has || err != nil {
				return v.GroupVersion, err
			}
		}
	}
	return "", nil
}

// notServed says that a kind is installed in versions that this release does not read.
func notServed(k objects.Kind) string {
	return fmt.Sprintf("the installed CRD of %s does not serve %s: install the one of this release", k.Name, k.APIVersion)
}

// tell puts into the source's status what is installed.
func (k *kindSource) tell(version string) {
	note := ""
	crd := k.crd.Load()
	switch {
	case version == "" && crd != nil && crd.installed:
		note = notServed(k.kind)
	case version == "":
		note = k.kind.Name + " is not installed: apply its CRD to use it; until then the mesh does without"
	case crd != nil && crd.channel != "":
		note = fmt.Sprintf("Gateway API %s, %s channel", crd.bundle, crd.channel)
		if crd.channel == channelStandard {
			note += ": the API server drops fields that only the experimental channel has"
		}
	}
	if unreadable := k.rows.note(); unreadable != "" {
		if note != "" {
			note += "; "
		}
		note += unreadable
	}
	old, _ := catalog.Sources.Get(k.cat.Read(), k.status.name)
	if old == nil && note == "" || old != nil && old.Note == note {
		return
	}
	k.status.write(func(st *discovery.SourceStatus) { st.Note = note })
	if note != "" {
		k.client.Log.Info("a kind's CRD", "kind", k.kind.Name, "is", note)
	}
}

// read starts the reflector of a version and returns what stops it and waits for its end.
func (k *kindSource) read(ctx context.Context, version string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	gv, _ := schema.ParseGroupVersion(version) // from the list of kinds
	path := []string{"/apis", gv.Group, gv.Version, k.kind.Resource}
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			var out cluster.List
			err := k.client.Objects.Get().AbsPath(path...).VersionedParams(&o, metav1.ParameterCodec).Do(ctx).Into(&out)
			k.attempted(ctx, err)
			return &out, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.Watch = true
			w, err := k.client.Objects.Get().AbsPath(path...).VersionedParams(&o, metav1.ParameterCodec).Watch(ctx)
			k.attempted(ctx, err)
			return w, err
		},
	}
	r := cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(lw, k.client.Core), &cluster.Object{}, k.rows,
		cache.ReflectorOptions{Name: k.status.name, Backoff: cluster.Backoff()})
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

// attempted notes the result of a request. "Not found" may mean that the CRD is gone.
func (k *kindSource) attempted(ctx context.Context, err error) {
	k.status.attempted(ctx, err)
	if apierrors.IsNotFound(err) {
		k.lookAgain()
	}
}

// The annotations by which the Gateway API's CRDs say what they are, and the
// channel that lacks experimental fields.
const (
	channelAnnotation = consts.ChannelAnnotation
	bundleAnnotation  = consts.BundleVersionAnnotation
	channelStandard   = "standard"
)

// watchCRD follows the metadata of the kind's CRD.
func (k *kindSource) watchCRD(ctx context.Context) error {
	gv, _ := schema.ParseGroupVersion(k.kind.APIVersion) // from the list of kinds
	crds := k.client.Metadata.Resource(schema.GroupVersionResource{
		Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions",
	})
	only := fields.OneTermEqualSelector("metadata.name", k.kind.Resource+"."+gv.Group).String()
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = only
			return crds.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = only
			return crds.Watch(ctx, o)
		},
	}
	slow := cluster.Backoff()
	slow.Cap = lookMost
	cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(lw, k.client.Core), &metav1.PartialObjectMetadata{},
		(*crdStore)(k), cache.ReflectorOptions{Name: "CRD of " + k.status.name, Backoff: slow}).RunWithContext(ctx)
	return ctx.Err()
}

// crdStore is the store of the reflector of a kind's CRD.
type crdStore kindSource

func (s *crdStore) set(state crdState) {
	s.crd.Store(&state)
	(*kindSource)(s).lookAgain()
}

// Add implements cache.ReflectorStore.
func (s *crdStore) Add(o any) error { return s.Update(o) }

// Update implements cache.ReflectorStore.
func (s *crdStore) Update(o any) error {
	crd := o.(*metav1.PartialObjectMetadata)
	s.set(crdState{
		installed: true, generation: crd.Generation,
		channel: crd.Annotations[channelAnnotation], bundle: crd.Annotations[bundleAnnotation],
	})
	return nil
}

// Delete implements cache.ReflectorStore.
func (s *crdStore) Delete(any) error {
	s.set(crdState{})
	return nil
}

// Replace implements cache.ReflectorStore.
func (s *crdStore) Replace(list []any, _ string) error {
	if len(list) == 0 {
		s.set(crdState{})
		return nil
	}
	return s.Update(list[0])
}

// Resync implements cache.ReflectorStore.
func (s *crdStore) Resync() error { return nil }
