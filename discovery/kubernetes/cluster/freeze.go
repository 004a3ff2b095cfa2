package cluster

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/causeway-mesh/causeway/discovery"
)

// A freeze is recorded in the ConfigMap FreezeName of the control plane's own
// namespace, under FreezeKey.
const (
	FreezeName = "causeway-freeze"
	FreezeKey  = "freeze"
)

// FreezeIn returns the freeze in a ConfigMap, nil for none. A record that
// cannot be read freezes everything, because somebody wanted a freeze.
func FreezeIn(m *corev1.ConfigMap) *discovery.Freeze {
	text, ok := m.BinaryData[FreezeKey]
	if !ok {
		return nil
	}
	var rec *discovery.FreezeRecord
	if err := json.Unmarshal(text, &rec); err != nil {
		return discovery.UnreadableFreeze(ScopeFreeze, fmt.Sprintf("the record of a freeze in ConfigMap %s/%s", m.Namespace, m.Name), err, m.CreationTimestamp.Time)
	}
	return rec.Freeze(ScopeFreeze)
}
