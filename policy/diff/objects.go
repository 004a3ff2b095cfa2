package diff

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/resolve"
)

// validity is how many errors an object has on both sides.
type validity struct{ before, after int }

// findings adds the findings that appear or go away and returns how many
// errors each object has.
func (c *comparison) findings() map[string]*validity {
	type id struct{ object, field, reason, message string }
	counts := make(map[string]*validity)
	read := func(r catalog.Reader, count func(*validity)) (map[id]policy.Finding, []id) {
		found := make(map[id]policy.Finding)
		var order []id
		for _, f := range resolve.Validate(r) {
			key := id{f.Object.String(), f.Field, f.Reason, f.Message}
			if _, twice := found[key]; !twice {
				order = append(order, key)
			}
			found[key] = f
			if counts[key.object] == nil {
				counts[key.object] = &validity{}
			}
			if f.Severity == policy.Error {
				count(counts[key.object])
			}
		}
		return found, order
	}
	before, old := read(c.before, func(v *validity) { v.before++ })
	after, now := read(c.after, func(v *validity) { v.after++ })
	tell := func(action Action, order []id, all, other map[id]policy.Finding) {
		for _, key := range order {
			if _, both := other[key]; both {
				continue
			}
			f := all[key]
			c.d.Findings = append(c.d.Findings, FindingChange{
				action, f.Severity.String(), key.object, f.Field, f.Reason, f.Message, f.Remedy,
			})
		}
	}
	tell(Added, now, after, before)
	tell(Removed, old, before, after)
	return counts
}

// objects adds the objects that are written, and those that become valid or
// invalid although nobody wrote them.
func (c *comparison) objects(counts map[string]*validity) {
	before, after := written(c.before), written(c.after)
	names := maps.Clone(before)
	maps.Copy(names, after)
	for name := range counts {
		names[name] = nil
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		change := ObjectChange{Object: name}
		old, had := before[name]
		now, has := after[name]
		switch {
		case !had && has:
			change.Action = Added
		case had && !has:
			change.Action = Removed
		case had && has && !bytes.Equal(old, now):
			change.Action = Changed
		}
		if v := counts[name]; v != nil && has {
			switch {
			case v.before == 0 && v.after > 0 && had:
				change.Validity = "becomes invalid"
			case v.before == 0 && v.after > 0:
				change.Validity = "is invalid"
			case v.before > 0 && v.after == 0:
				change.Validity = "heals"
			}
			if v.after > 0 && v.before == 0 {
				c.risk(Risk{Target: name, Code: ObjectInvalid, Message: "it " + change.Validity})
			}
		}
		if change.Action != "" || change.Validity != "" {
			c.d.Objects = append(c.d.Objects, change)
		}
	}
}

// written returns the objects as people write them, as JSON, by name.
func written(r catalog.Reader) map[string][]byte {
	out := make(map[string][]byte)
	put := func(name string, v any) {
		b, err := json.Marshal(v)
		if err != nil {
			b = []byte(err.Error())
		}
		out[name] = b
	}
	for s := range catalog.Services.All(r) {
		row := *s
		row.Scope, row.Generation = "", 0
		put("Service "+s.Key.String(), struct {
			Ports, IPs any
			Home, Name string
		}{row.Ports, row.ClusterIPs, row.Home, row.ExternalName})
	}
	for o := range catalog.Objects.All(r) {
		switch spec := o.Spec.(type) {
		case *corev1.Secret:
			put(o.Name().String(), Fingerprint(spec))
		case *corev1.Namespace:
			put(o.Name().String(), spec.Labels)
		default:
			put(o.Name().String(), specOf(o.Spec))
		}
	}
	return out
}

// specOf returns an object without its metadata.
func specOf(o any) any {
	b, err := json.Marshal(o)
	var fields map[string]json.RawMessage
	if err != nil || json.Unmarshal(b, &fields) != nil {
		return nil
	}
	delete(fields, "metadata")
	delete(fields, "status")
	return fields
}
