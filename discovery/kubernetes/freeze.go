package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

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

// freezeRecord is a freeze, as JSON in the ConfigMap.
type freezeRecord struct {
	Config bool      `json:"config"`
	By     string    `json:"by"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

// SetFreeze records a freeze, or lifts it (nil).
func (s *Shifts) SetFreeze(ctx context.Context, f *discovery.Freeze) error {
	return s.client.SetFreeze(ctx, f)
}

// SetFreeze records a freeze, or lifts it (nil). Every replica follows.
func (c *Client) SetFreeze(ctx context.Context, f *discovery.Freeze) error {
	var text []byte
	if f != nil {
		var err error
		if text, err = json.Marshal(freezeRecord{f.Config, f.By, f.Reason, f.Since.UTC().Truncate(time.Second)}); err != nil {
			return fmt.Errorf("freeze: %w", err)
		}
	}
	return c.Records(freezeName).Change(ctx, func(records map[string][]byte) {
		delete(records, freezeKey)
		if text != nil {
			records[freezeKey] = text
		}
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

// freezeIn returns the freeze that a ConfigMap holds, nil for none. What cannot
// be read freezes everything: somebody wanted a freeze.
func freezeIn(m *corev1.ConfigMap) *discovery.Freeze {
	text, ok := m.BinaryData[freezeKey]
	if !ok {
		return nil
	}
	var rec freezeRecord
	if err := json.Unmarshal(text, &rec); err != nil {
		return &discovery.Freeze{
			Scope: ScopeFreeze, Config: true, By: "causeway", Since: m.CreationTimestamp.UTC(),
			Reason: fmt.Sprintf("the record of a freeze in ConfigMap %s/%s cannot be read (%v); if nothing is to be frozen: causeway unfreeze",
				m.Namespace, m.Name, err),
		}
	}
	return &discovery.Freeze{Scope: ScopeFreeze, Config: rec.Config, By: rec.By, Reason: rec.Reason, Since: rec.Since}
}

// Freeze returns the freeze that is recorded, nil for none.
func (c *Client) Freeze(ctx context.Context) (*discovery.Freeze, error) {
	records, err := c.Records(freezeName).Load(ctx)
	if err != nil {
		return nil, err
	}
	return freezeIn(&corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: freezeName}, BinaryData: records,
	}), nil
}
