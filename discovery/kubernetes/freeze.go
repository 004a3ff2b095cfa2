package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
)

// A freeze is recorded in a ConfigMap of the control plane's own namespace.
const (
	freezeName = "causeway-freeze"
	freezeKey  = "freeze"
)

// ChangeFreeze records what a change makes of the freeze, nil for none.
func (s *Shifts) ChangeFreeze(ctx context.Context, change func(*discovery.Freeze) (*discovery.Freeze, error)) (*discovery.Freeze, error) {
	return s.client.ChangeFreeze(ctx, change)
}

// ChangeFreeze records what a change makes of the freeze, nil for none, and returns it. Every
// replica follows. The change is asked again if somebody else was faster; its error changes nothing.
func (c *Client) ChangeFreeze(ctx context.Context, change func(*discovery.Freeze) (*discovery.Freeze, error)) (*discovery.Freeze, error) {
	var after *discovery.Freeze
	var refused error
	err := c.Records(freezeName).Change(ctx, func(records map[string][]byte) {
		if after, refused = change(c.freezeOf(records)); refused != nil {
			return
		}
		delete(records, freezeKey)
		if after == nil {
			return
		}
		var text []byte
		if text, refused = json.Marshal(after.Record()); refused == nil {
			records[freezeKey] = text
		}
	})
	switch {
	case refused != nil:
		return nil, refused
	case err != nil:
		return nil, fmt.Errorf("freeze: %w", err)
	}
	return after, nil
}

// freezeOf returns the freeze that a ConfigMap's data holds, nil for none.
func (c *Client) freezeOf(records map[string][]byte) *discovery.Freeze {
	return freezeIn(&corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: freezeName}, BinaryData: records,
	})
}

// readFreeze keeps the freeze in the catalog equal to the ConfigMap.
func (c *Client) readFreeze(ctx context.Context, g *errgroup.Group, cat *catalog.Catalog) {
	configMaps := c.core.CoreV1().ConfigMaps(c.Namespace)
	only := fields.OneTermEqualSelector("metadata.name", freezeName).String()
	reflect(ctx, g, c, cat, ScopeFreeze, catalog.Freezes, &corev1.ConfigMap{},
		func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = only
			return configMaps.List(ctx, o)
		},
		func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = only
			return configMaps.Watch(ctx, o)
		},
		func(m *corev1.ConfigMap) (string, *discovery.Freeze) { return catalog.FreezeID, freezeIn(m) })
}

// freezeIn returns the freeze in a ConfigMap, nil for none. A record that
// cannot be read freezes everything, because somebody wanted a freeze.
func freezeIn(m *corev1.ConfigMap) *discovery.Freeze {
	text, ok := m.BinaryData[freezeKey]
	if !ok {
		return nil
	}
	var rec *discovery.FreezeRecord
	if err := json.Unmarshal(text, &rec); err != nil {
		return discovery.UnreadableFreeze(ScopeFreeze, fmt.Sprintf("the record of a freeze in ConfigMap %s/%s", m.Namespace, m.Name), err, m.CreationTimestamp.Time)
	}
	return rec.Freeze(ScopeFreeze)
}

// Freeze returns the freeze that is recorded, nil for none.
func (c *Client) Freeze(ctx context.Context) (*discovery.Freeze, error) {
	records, err := c.Records(freezeName).Load(ctx)
	if err != nil {
		return nil, err
	}
	return c.freezeOf(records), nil
}
