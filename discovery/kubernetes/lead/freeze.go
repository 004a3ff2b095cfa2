package lead

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
)

// ChangeFreeze records what a change makes of the freeze, nil for none.
func (s *Shifts) ChangeFreeze(ctx context.Context, change func(*discovery.Freeze) (*discovery.Freeze, error)) (*discovery.Freeze, error) {
	return ChangeFreeze(ctx, s.client, change)
}

// ChangeFreeze records what a change makes of the freeze, nil for none, and returns it. Every
// replica follows. The change is asked again if somebody else was faster; its error changes nothing.
func ChangeFreeze(ctx context.Context, c *cluster.Client, change func(*discovery.Freeze) (*discovery.Freeze, error)) (*discovery.Freeze, error) {
	var after *discovery.Freeze
	var refused error
	err := RecordsIn(c, cluster.FreezeName).Change(ctx, func(records map[string][]byte) {
		if after, refused = change(freezeOf(c, records)); refused != nil {
			return
		}
		delete(records, cluster.FreezeKey)
		if after == nil {
			return
		}
		var text []byte
		if text, refused = json.Marshal(after.Record()); refused == nil {
			records[cluster.FreezeKey] = text
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
func freezeOf(c *cluster.Client, records map[string][]byte) *discovery.Freeze {
	return cluster.FreezeIn(&corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: cluster.FreezeName}, BinaryData: records,
	})
}

// Freeze returns the freeze that is recorded, nil for none.
func Freeze(ctx context.Context, c *cluster.Client) (*discovery.Freeze, error) {
	records, err := RecordsIn(c, cluster.FreezeName).Load(ctx)
	if err != nil {
		return nil, err
	}
	return freezeOf(c, records), nil
}
