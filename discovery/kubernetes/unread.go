package kubernetes

import (
	"cmp"
	stdjson "encoding/json"

	"sigs.k8s.io/json"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
)

// unreadOf returns what can be said of an object whose fields do not all fit.
func unreadOf(o *cluster.Object, why string) discovery.Unread {
	out := discovery.Unread{Key: discovery.Key{Namespace: o.Namespace, Name: o.Name}, Why: why}
	var whole struct {
		Spec map[string]stdjson.RawMessage `json:"spec"`
	}
	if json.UnmarshalCaseSensitivePreserveInts(o.Text, &whole) != nil {
		return out
	}
	_, tls := whole.Spec["tls"]
	out.NoTLS = !tls
	add := func(kind, namespace, name string) {
		if name != "" {
			key := discovery.Key{Namespace: cmp.Or(namespace, o.Namespace), Name: name}
			out.Targets = append(out.Targets, discovery.ObjectName{Kind: kind, Key: key})
		}
	}
	add(discovery.KindService, "", readPart[reference](whole.Spec["serviceRef"]).Name)
	// Versions before targetRefs have one targetRef.
	for _, ref := range append(readPart[[]reference](whole.Spec["targetRefs"]), readPart[reference](whole.Spec["targetRef"])) {
		add(ref.Kind, "", ref.Name)
	}
	for _, ref := range readPart[[]reference](whole.Spec["parentRefs"]) {
		add(cmp.Or(ref.Kind, discovery.KindGateway), ref.Namespace, ref.Name)
	}
	out.Hosts = readPart[[]string](whole.Spec["hostnames"])
	return out
}

// reference is what the references of all kinds have.
type reference struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// readPart decodes a part of an object. What does not fit is as if it were not there.
func readPart[T any](text stdjson.RawMessage) (out T) {
	if len(text) == 0 || json.UnmarshalCaseSensitivePreserveInts(text, &out) != nil {
		var none T
		return none
	}
	return out
}
