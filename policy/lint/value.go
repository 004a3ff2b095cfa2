package lint

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
)

// value is a value in an object.
type value struct {
	// path of the value, for example "spec.rules[0].name"; name is its field's, that of the list for an item.
	path, name string
	// v is the value as JSON has it.
	v any
	// parent is the mapping that the value, or the list that it is an item of, stands in.
	parent map[string]any
}

// each calls f with every value in an object's fields but its metadata and
// status, parents first, in the order of their names.
func each(object map[string]any, f func(*value)) {
	for _, key := range slices.Sorted(maps.Keys(object)) {
		switch key {
		case "apiVersion", "kind", "metadata", "status":
		default:
			walk(&value{path: key, name: key, v: object[key], parent: object}, f)
		}
	}
}

func walk(v *value, f func(*value)) {
	f(v)
	switch children := v.v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(children)) {
			walk(&value{path: v.path + "." + key, name: key, v: children[key], parent: children}, f)
		}
	case []any:
		for i, item := range children {
			walk(&value{path: fmt.Sprintf("%s[%d]", v.path, i), name: v.name, v: item, parent: v.parent}, f)
		}
	}
}

// at returns the value at a path of fields, nil without one.
func at(v any, path ...string) any {
	for _, step := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[step]
	}
	return v
}

// text returns the string at a path of fields, "" without one.
func text(v any, path ...string) string {
	s, _ := at(v, path...).(string)
	return s
}

// number returns the number at a path of fields, be it a number or a decimal string.
func number(v any, path ...string) (float64, bool) {
	switch n := at(v, path...).(type) {
	case float64:
		return n, true
	case int64:
		return float64(n), true
	case string:
		f, err := strconv.ParseFloat(n, 64)
		return f, err == nil
	}
	return 0, false
}

// span returns the duration at a path of fields.
func span(v any, path ...string) (time.Duration, bool) {
	d, err := time.ParseDuration(text(v, path...))
	return d, err == nil
}

// items returns the items of the list at a path of fields that are mappings.
func items(v any, path ...string) []map[string]any {
	list, _ := at(v, path...).([]any)
	out := make([]map[string]any, len(list)) // nil for what is no mapping, so that indexes hold
	for i := range list {
		out[i], _ = list[i].(map[string]any)
	}
	return out
}

// texts returns the strings in the list at a path of fields.
func texts(v any, path ...string) []string {
	list, _ := at(v, path...).([]any)
	out := make([]string, len(list))
	for i := range list {
		out[i], _ = list[i].(string)
	}
	return out
}

// mapping returns the value if it is a mapping.
func (v *value) mapping() (map[string]any, bool) {
	m, ok := v.v.(map[string]any)
	return m, ok
}
