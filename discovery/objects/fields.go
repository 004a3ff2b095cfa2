package objects

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// unknownFieldOf says of a field that a type does not have which one was
// probably meant: a neighbour, or the same name in another place.
func unknownFieldOf(path string, of reflect.Type) v1alpha1.FieldError {
	out := unknownField(path)
	parent, name := "", path
	if before, after, ok := strings.CutLast(path, "."); ok {
		parent, name = before, after
	}
	fields := fieldsOf(typeAt(of, parent))
	elsewhere := places(of, name)
	switch near := discovery.Misspelt(name, fields); {
	case near != "":
		out.Remedy = "did you mean " + near + "?"
	case len(elsewhere) > 0:
		out.Remedy = "it belongs to " + strings.Join(elsewhere[:min(len(elsewhere), 3)], " or ") + ": move it there"
	case discovery.Closest(name, fields) != "":
		out.Remedy = "did you mean " + discovery.Closest(name, fields) + "?"
	case len(fields) > 0 && len(fields) <= 16:
		out.Remedy = "correct or remove it; the fields here are " + strings.Join(fields, ", ")
	}
	return out
}

// typeAt returns the type of the value at a path, nil where there is none.
func typeAt(t reflect.Type, path string) reflect.Type {
	for path != "" && t != nil {
		path = strings.TrimLeft(path, ".")
		step := path
		if i := strings.IndexAny(path, ".["); i == 0 { // an index
			_, path, _ = strings.Cut(path, "]")
			t = element(t)
			continue
		} else if i > 0 {
			step = path[:i]
		}
		path = path[len(step):]
		t = fieldType(indirect(t), step)
	}
	return indirect(t)
}

func element(t reflect.Type) reflect.Type {
	if t = indirect(t); t != nil && t.Kind() == reflect.Slice {
		return t.Elem()
	}
	return nil
}

func indirect(t reflect.Type) reflect.Type {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// eachField calls f with the fields of a struct as they are named in JSON.
func eachField(t reflect.Type, f func(name string, t reflect.Type)) {
	if t == nil || t.Kind() != reflect.Struct || reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return
	}
	for field := range t.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case field.Anonymous && name == "" || strings.Contains(options, "inline"):
			eachField(indirect(field.Type), f)
		case name != "" && name != "-":
			f(name, field.Type)
		}
	}
}

func fieldsOf(t reflect.Type) []string {
	var out []string
	eachField(t, func(name string, _ reflect.Type) { out = append(out, name) })
	slices.Sort(out)
	return out
}

func fieldType(t reflect.Type, name string) reflect.Type {
	var out reflect.Type
	eachField(t, func(n string, ft reflect.Type) {
		if n == name {
			out = ft
		}
	})
	if out == nil && t != nil && t.Kind() == reflect.Map {
		return t.Elem()
	}
	return out
}

// places returns the paths in an object's spec to what has a field of a name,
// the shortest first.
func places(t reflect.Type, name string) []string {
	var out []string
	var walk func(path string, t reflect.Type, depth int)
	walk = func(path string, t reflect.Type, depth int) {
		if t = indirect(t); t == nil || depth > 8 {
			return
		}
		if t.Kind() == reflect.Slice {
			walk(path+"[]", t.Elem(), depth)
			return
		}
		eachField(t, func(n string, ft reflect.Type) {
			if n == name {
				out = append(out, path)
			}
			walk(path+"."+n, ft, depth+1)
		})
	}
	for _, top := range []string{"spec", "endpoints", "ports"} {
		if ft := fieldType(indirect(t), top); ft != nil {
			walk(top, ft, 0)
		}
	}
	if fieldType(indirect(t), name) != nil {
		out = append(out, "the object itself, beside kind and metadata")
	}
	slices.SortStableFunc(out, func(a, b string) int { return strings.Count(a, ".") - strings.Count(b, ".") })
	return slices.Compact(out)
}
