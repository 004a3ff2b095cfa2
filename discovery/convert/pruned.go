package convert

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// pruned returns the fields of a spec that its writer gave and the API server
// dropped, because the installed CRD belongs to another channel or version of
// the Gateway API.
//
// Only an object written as `kubectl apply` writes it shows that: an annotation
// has what was applied. Once somebody else has edited the object, a missing
// field may have been removed on purpose, and the annotation proves nothing.
func pruned(o metav1.Object, spec any) []string {
	applied := o.GetAnnotations()[corev1.LastAppliedConfigAnnotation]
	if applied == "" || !newestIsApplied(o.GetManagedFields()) {
		return nil
	}
	var given struct {
		Spec any `json:"spec"`
	}
	text, err := json.Marshal(spec)
	var kept any
	if err != nil || json.Unmarshal(text, &kept) != nil || json.Unmarshal([]byte(applied), &given) != nil {
		return nil
	}
	return missing(nil, "spec", given.Spec, kept)
}

// newestIsApplied reports whether the writer of the annotation was the last one
// to change the object, apart from its status.
func newestIsApplied(entries []metav1.ManagedFieldsEntry) bool {
	var applied, newest metav1.Time
	for i := range entries {
		e := &entries[i]
		if e.Subresource != "" || e.Time == nil {
			continue
		}
		if e.FieldsV1 != nil && bytes.Contains(e.FieldsV1.GetRawBytes(), []byte(`"f:`+corev1.LastAppliedConfigAnnotation+`"`)) {
			applied = *e.Time
		}
		if newest.Before(e.Time) {
			newest = *e.Time
		}
	}
	return !applied.IsZero() && !applied.Before(&newest)
}

// missing appends the paths of what was given and not kept. Empty values do not
// count, because a typed object leaves them out.
func missing(out []string, path string, given, kept any) []string {
	switch given := given.(type) {
	case map[string]any:
		kept, _ := kept.(map[string]any)
		for _, k := range slices.Sorted(maps.Keys(given)) {
			child := path + "." + k
			if v, ok := kept[k]; ok {
				out = missing(out, child, given[k], v)
			} else if !empty(given[k]) {
				out = append(out, child)
			}
		}
	case []any:
		kept, ok := kept.([]any)
		if !ok || len(kept) != len(given) {
			return out
		}
		for i := range given {
			out = missing(out, path+"["+strconv.Itoa(i)+"]", given[i], kept[i])
		}
	}
	return out
}

func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case float64:
		return v == 0
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}
