package status

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/conditions"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Status is written at most this often: a flapping group must not become a
// stream of writes, nor the passing of time one.
const (
	statusEvery   = time.Second
	lastSyncEvery = time.Minute
)

// eventsMost bounds how many instances one change names in Events.
const eventsMost = 10

// fieldManager owns the fields that are written by server-side apply.
const fieldManager = "causeway"

// reasonFailedOver is one of policy's condition Serving.
const reasonFailedOver = "FailedOver"

// groupWriter writes InstanceGroup status and Events.
type groupWriter struct {
	client   *cluster.Client
	cat      *catalog.Catalog
	others   func(catalog.Reader, discovery.Key) []metav1.Condition
	recorder events.EventRecorder
	written  map[discovery.Key]*v1alpha1.InstanceGroupStatus
}

// WriteGroups keeps the status of InstanceGroups true until the context ends.
// others returns the conditions that are known elsewhere; changed has a
// value when others than rows may have changed them. Only the leader runs it.
func WriteGroups(ctx context.Context, c *cluster.Client, cat *catalog.Catalog,
	others func(catalog.Reader, discovery.Key) []metav1.Condition, changed <-chan struct{},
) error {
	recorder, shutdown, err := c.NewRecorder(ctx)
	if err != nil {
		return err
	}
	defer shutdown()
	w := &groupWriter{
		client: c, cat: cat, others: others, recorder: recorder,
		written: make(map[discovery.Key]*v1alpha1.InstanceGroupStatus),
	}
	feed := cat.Subscribe()
	defer feed.Close()
	ticker := time.NewTicker(statusEvery)
	defer ticker.Stop()
	due := false
	for {
		// Events: rows changed, something else did, it is time to write, the end.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-feed.Wake():
			if b, ok := feed.Take(); ok {
				due = true
				w.announce(b)
			}
			continue
		case <-changed:
			due = true
			continue
		case <-ticker.C:
		}
		if !due {
			continue
		}
		due = false
		r := cat.Read()
		for g := range catalog.InstanceGroups.All(r) {
			if err := w.write(ctx, r, g); err != nil && ctx.Err() == nil {
				c.Log.Warn("cannot write a status; trying again", "group", g.Key.String(), "error", err)
				delete(w.written, g.Key)
				due = true
			}
		}
	}
}

// write writes a group's status if it differs from what is there.
func (w *groupWriter) write(ctx context.Context, r catalog.Reader, g *discovery.InstanceGroup) error {
	have, ok := w.written[g.Key]
	if !ok {
		var current v1alpha1.InstanceGroup
		err := w.client.Groups.Get().Namespace(g.Namespace).Resource("instancegroups").Name(g.Name).Do(ctx).Into(&current)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		have = &current.Status
	}
	want := have.DeepCopy()
	for _, c := range w.others(r, g.Key) {
		apimeta.SetStatusCondition(&want.Conditions, c)
	}
	st, read := catalog.GroupStatuses.Get(r, g.Key.String())
	for _, c := range conditions.OfReading(st, read, g.Object.Generation) {
		apimeta.SetStatusCondition(&want.Conditions, c)
	}
	if read {
		want.Instances = st.Counts
		if want.LastSync == nil || st.LastSync.Sub(want.LastSync.Time) >= lastSyncEvery {
			if !st.LastSync.IsZero() {
				want.LastSync = &metav1.Time{Time: st.LastSync.Truncate(time.Second)}
			}
		}
	}
	// Without a row, or with one that does not have it yet, nothing newer is known.
	if set, ok := catalog.Instances.Get(r, g.Key.String()); ok && set.Account != "" {
		want.Account = set.Account
	}
	if apiequality.Semantic.DeepEqual(have, want) {
		w.written[g.Key] = have
		return nil
	}
	body, err := json.Marshal(map[string]any{
		"apiVersion": v1alpha1.GroupVersion().String(), "kind": discovery.KindInstanceGroup,
		"metadata": map[string]string{"namespace": g.Namespace, "name": g.Name},
		"status":   want,
	})
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	err = w.client.Groups.Patch(types.ApplyPatchType).Namespace(g.Namespace).Resource("instancegroups").Name(g.Name).
		SubResource("status").Param("fieldManager", fieldManager).Param("force", "true").Body(body).Do(ctx).Error()
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	w.events(g, have, want)
	w.written[g.Key] = want
	return nil
}

// events tells of the conditions that turned.
func (w *groupWriter) events(g *discovery.InstanceGroup, have, want *v1alpha1.InstanceGroupStatus) {
	for _, c := range want.Conditions {
		old := apimeta.FindStatusCondition(have.Conditions, c.Type)
		if old != nil && old.Status == c.Status && old.Reason == c.Reason || old == nil && c.Status != metav1.ConditionFalse && c.Type != v1alpha1.ConditionGuardEngaged {
			continue
		}
		bad := c.Status == metav1.ConditionFalse || c.Reason == reasonFailedOver
		if c.Type == v1alpha1.ConditionProgrammed && !bad && (old == nil || old.Status != metav1.ConditionFalse) {
			continue // every edit is on its way for a moment
		}
		if c.Type == v1alpha1.ConditionGuardEngaged {
			bad = c.Status == metav1.ConditionTrue
			if old == nil && !bad {
				continue
			}
		}
		kind := corev1.EventTypeNormal
		if bad {
			kind = corev1.EventTypeWarning
		}
		w.event(g.Key, g.Object, kind, c.Type+c.Reason, c.Message)
	}
}

// announce tells of instances that drain or go, with the reason.
func (w *groupWriter) announce(b catalog.Batch) {
	for _, ch := range b.Changes {
		before, _ := ch.Before.(*discovery.InstanceSet)
		after, _ := ch.After.(*discovery.InstanceSet)
		if before == nil || after == nil {
			continue
		}
		g, ok := catalog.InstanceGroups.Get(b.Reader, after.Key.String())
		if !ok {
			continue
		}
		now := make(map[string]discovery.Endpoint)
		for _, e := range after.Endpoints {
			now[e.ID] = e
		}
		told := make(map[string]string)
		for _, old := range before.Endpoints {
			e, ok := now[old.ID]
			switch {
			case !ok:
				told[old.ID] = "InstanceRemoved"
			case e.Health == discovery.Draining && old.Health != discovery.Draining:
				told[old.ID] = "InstanceDraining"
			}
		}
		ids := slices.Sorted(maps.Keys(told))
		for i, id := range ids {
			if i == eventsMost {
				w.event(after.Key, g.Object, corev1.EventTypeNormal, "InstancesChanged", fmt.Sprintf("and %d more instances", len(ids)-i))
				break
			}
			w.event(after.Key, g.Object, corev1.EventTypeNormal, told[id], fmt.Sprintf("%s: %s", id, now[id].Reason))
		}
	}
}

func (w *groupWriter) event(key discovery.Key, g *v1alpha1.InstanceGroup, kind, reason, message string) {
	about := &v1alpha1.InstanceGroup{}
	about.APIVersion, about.Kind = v1alpha1.GroupVersion().String(), discovery.KindInstanceGroup
	about.Namespace, about.Name, about.UID = key.Namespace, key.Name, g.UID
	w.recorder.Eventf(about, nil, kind, reason, eventAction, "%s", message)
}
