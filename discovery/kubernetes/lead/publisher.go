package lead

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/convert"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// sliceSize is how many instances one EndpointSlice holds, as many as
// Kubernetes' own controller puts into one.
const sliceSize = 100

// publishRetry is how soon a write that failed is tried again.
const publishRetry = time.Second

// publisher writes instances as EndpointSlices.
type publisher struct {
	client *cluster.Client
	cat    *catalog.Catalog
	// published is what the API server has, as of our last read or write, by
	// group and name.
	published map[discovery.Key]map[string]*discoveryv1.EndpointSlice
}

// Publish keeps EndpointSlices equal to the instances of EC2 and their checks,
// until the context ends. Only the leader runs it.
//
// It writes nothing about a group that this term has not read: no row in table
// Instances means "not known", and the slices stay as they are.
func Publish(ctx context.Context, c *cluster.Client, cat *catalog.Catalog) error {
	p := &publisher{client: c, cat: cat}
	feed := cat.Subscribe()
	defer feed.Close()
	dirty := make(map[discovery.Key]struct{})
	var retry <-chan time.Time
	for {
		// Events: a group's rows changed, a failed write is due again, the end.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-feed.Wake():
			if b, ok := feed.Take(); ok {
				for _, ch := range b.Changes {
					if turnsGone(ch) {
						for key := range p.published {
							dirty[key] = struct{}{}
						}
					}
					for _, row := range [2]any{ch.Before, ch.After} {
						if key, ok := groupOf(row); ok {
							dirty[key] = struct{}{}
						}
						if svc, ok := row.(*discovery.Service); ok { // its ports may have been renamed
							for g := range catalog.InstanceGroups.Of(b.Reader, svc.Key) {
								dirty[g.Key] = struct{}{}
							}
						}
					}
				}
			}
		case <-retry:
		}
		retry = nil
		if len(dirty) == 0 {
			continue
		}
		if p.published == nil {
			if err := p.load(ctx); err != nil {
				c.Log.Warn("cannot read the published EndpointSlices; trying again", "error", err)
				retry = time.After(publishRetry)
				continue
			}
			for key := range p.published {
				dirty[key] = struct{}{}
			}
		}
		for _, key := range slices.SortedFunc(maps.Keys(dirty), compareKeys) {
			if err := p.publish(ctx, key); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				c.Log.Warn("cannot publish a group's instances; trying again", "group", key.String(), "error", err)
				p.published = nil // read again what is there
				retry = time.After(publishRetry)
				continue
			}
			delete(dirty, key)
		}
	}
}

// tellsGone reports whether a group without a row is gone, according to the
// source's status: that is so unless it is one of those that cannot be read.
func tellsGone(st *discovery.SourceStatus, known bool) bool {
	return known && st.Synced && st.Error == ""
}

// turnsGone reports whether a change may make groups count as gone that did not
// before: deleting a group that cannot be read changes no row of it.
func turnsGone(ch catalog.Change) bool {
	old, was := ch.Before.(*discovery.SourceStatus)
	now, is := ch.After.(*discovery.SourceStatus)
	if !is || now.Name != cluster.ScopeInstanceGroups || !tellsGone(now, true) {
		return false
	}
	return !tellsGone(old, was) || !discovery.SameUnread(old, now)
}

func compareKeys(a, b discovery.Key) int { return strings.Compare(a.String(), b.String()) }

// groupOf returns the group that a changed row is about.
func groupOf(row any) (discovery.Key, bool) {
	switch r := row.(type) {
	case *discovery.Object:
		return r.Key, r.Kind == discovery.KindInstanceGroup
	case *discovery.InstanceSet:
		return r.Key, true
	case *discovery.HealthSet:
		return r.Key, true
	}
	return discovery.Key{}, false
}

func (p *publisher) load(ctx context.Context) error {
	list, err := p.client.Core.DiscoveryV1().EndpointSlices(metav1.NamespaceAll).List(ctx, metav1.ListOptions{
		LabelSelector: discoveryv1.LabelManagedBy + "=" + v1alpha1.ManagedBy,
	})
	if err != nil {
		return fmt.Errorf("list EndpointSlices: %w", err)
	}
	p.published = make(map[discovery.Key]map[string]*discoveryv1.EndpointSlice)
	for i := range list.Items {
		s := &list.Items[i]
		p.remember(discovery.Key{Namespace: s.Namespace, Name: s.Labels[v1alpha1.InstanceGroupLabel]}, s)
	}
	return nil
}

func (p *publisher) remember(group discovery.Key, s *discoveryv1.EndpointSlice) {
	if p.published[group] == nil {
		p.published[group] = make(map[string]*discoveryv1.EndpointSlice)
	}
	p.published[group][s.Name] = s
}

// publish updates a group's slices with as few writes as possible.
func (p *publisher) publish(ctx context.Context, key discovery.Key) error {
	if p.published == nil {
		if err := p.load(ctx); err != nil {
			return err
		}
	}
	r := p.cat.Read()
	api := p.client.Core.DiscoveryV1().EndpointSlices(key.Namespace)
	group, ok := catalog.InstanceGroups.Get(r, key.String())
	if !ok {
		if st, ok := catalog.Sources.Get(r, cluster.ScopeInstanceGroups); !tellsGone(st, ok) || st.UnreadObject(key) != "" {
			return nil // not known to be gone
		}
		for name := range p.published[key] {
			if err := p.remove(ctx, key, name); err != nil {
				return err
			}
		}
		return nil
	}
	set := catalog.PublishInstances(r, group)
	if set == nil {
		return nil
	}
	have := make([]discoveryv1.EndpointSlice, 0, len(p.published[key]))
	for _, name := range slices.Sorted(maps.Keys(p.published[key])) {
		have = append(have, *p.published[key][name])
	}
	want := convert.Slices(set, have, sliceSize)
	kept := make(map[string]bool)
	for i := range want {
		s := &want[i]
		kept[s.Name] = true
		s.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: v1alpha1.GroupVersion().String(), Kind: discovery.KindInstanceGroup, Name: group.Name, UID: group.Object.UID,
		}}
		old := p.published[key][s.Name]
		if old != nil && sameSlice(old, s) {
			continue
		}
		var written *discoveryv1.EndpointSlice
		var err error
		if old == nil {
			written, err = api.Create(ctx, s, metav1.CreateOptions{})
		} else {
			// The resource version fences a leader that does not know yet
			// that it no longer is one.
			s.ResourceVersion = old.ResourceVersion
			written, err = api.Update(ctx, s, metav1.UpdateOptions{})
		}
		if err != nil {
			return fmt.Errorf("write EndpointSlice %s: %w", s.Name, err)
		}
		p.remember(key, written)
	}
	// Removals last: an endpoint that moved to another slice is there before
	// it goes here.
	for _, name := range slices.Sorted(maps.Keys(p.published[key])) {
		if !kept[name] {
			if err := p.remove(ctx, key, name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *publisher) remove(ctx context.Context, key discovery.Key, name string) error {
	s := p.published[key][name]
	err := p.client.Core.DiscoveryV1().EndpointSlices(key.Namespace).Delete(ctx, name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &s.UID, ResourceVersion: &s.ResourceVersion},
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete EndpointSlice %s: %w", name, err)
	}
	delete(p.published[key], name)
	return nil
}

// sameSlice compares what the publisher writes; others may have added labels.
func sameSlice(have, want *discoveryv1.EndpointSlice) bool {
	for k, v := range want.Labels {
		if have.Labels[k] != v {
			return false
		}
	}
	if _, spot := want.Labels[v1alpha1.SpotLabel]; !spot && have.Labels[v1alpha1.SpotLabel] != "" {
		return false
	}
	for _, k := range []string{v1alpha1.ReasonsAnnotation, v1alpha1.WeightAnnotation} {
		if have.Annotations[k] != want.Annotations[k] {
			return false
		}
	}
	return have.AddressType == want.AddressType && apiequality.Semantic.DeepEqual(have.Ports, want.Ports) &&
		apiequality.Semantic.DeepEqual(have.Endpoints, want.Endpoints) &&
		apiequality.Semantic.DeepEqual(have.OwnerReferences, want.OwnerReferences)
}
