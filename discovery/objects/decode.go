package objects

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"sigs.k8s.io/json"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

var strictField = regexp.MustCompile(`^(unknown|duplicate) field "(.+)"$`)

// decodeStrict decodes JSON into an object and reports every unknown or
// duplicate field, or else the first value that does not fit.
func decodeStrict(data []byte, into any) []v1alpha1.FieldError {
	strict, err := json.UnmarshalStrict(data, into)
	if err != nil {
		return []v1alpha1.FieldError{misfit(data, into, err)}
	}
	var out []v1alpha1.FieldError
	for _, err := range strict {
		e := unknownField("")
		switch m := strictField.FindStringSubmatch(err.Error()); {
		case m == nil:
			e.Message = err.Error()
		case m[1] == "duplicate":
			e.Field, e.Message, e.Remedy = m[2], "it stands twice", "remove one"
		default:
			e = unknownFieldOf(m[2], reflect.TypeOf(into))
		}
		out = append(out, e)
	}
	return out
}

func unknownField(path string) v1alpha1.FieldError {
	return v1alpha1.FieldError{Field: path, Message: "there is no such field", Remedy: "correct or remove it"}
}

// misfit says which value of a document does not fit the object's type.
func misfit(data []byte, into any, cause error) v1alpha1.FieldError {
	out := v1alpha1.FieldError{Message: cause.Error(), Remedy: "correct the value"}
	if kind, ok := errors.AsType[*stdjson.UnmarshalTypeError](cause); ok {
		out.Message = "it is " + article(kind.Value)
		out.Remedy = "write " + wanted(kind.Type)
	}
	if strings.HasPrefix(out.Message, "time: ") { // a duration, to most people's mind with days
		out.Remedy = "write hours, minutes and seconds, for example 24h or 1h30m"
	}
	var document any
	dec := stdjson.NewDecoder(bytes.NewReader(data))
	dec.UseNumber() // as it is written
	if dec.Decode(&document) != nil {
		return out
	}
	out.Field = locate(document, func(v any) bool {
		text, err := stdjson.Marshal(v)
		if err != nil {
			return false
		}
		_, err = json.UnmarshalStrict(text, reflect.New(reflect.TypeOf(into).Elem()).Interface())
		return err != nil
	})
	if len(out.Field) > 0 && out.Field[0] == '.' {
		out.Field = out.Field[1:]
	}
	return out
}

// locate returns the path of the value that makes a document fail: the last of
// the shortest part of it that does. The decoder itself does not say: it
// leaves out the index in a list, and knows no path at all for a type that
// decodes itself, like a duration.
func locate(v any, fails func(any) bool) string {
	switch v := v.(type) {
	case map[string]any:
		part := make(map[string]any, len(v))
		if fails(part) {
			return ""
		}
		for _, k := range slices.Sorted(maps.Keys(v)) {
			part[k] = v[k]
			if fails(part) {
				return "." + k + locate(v[k], func(child any) bool { part[k] = child; return fails(part) })
			}
		}
	case []any:
		if fails([]any{}) {
			return ""
		}
		n := sort.Search(len(v), func(i int) bool { return fails(v[:i+1]) })
		if n < len(v) {
			part := slices.Clone(v[:n+1])
			return "[" + strconv.Itoa(n) + "]" + locate(v[n], func(child any) bool { part[n] = child; return fails(part) })
		}
	}
	return ""
}

// article returns the name of a JSON value's kind for a sentence.
func article(kind string) string {
	switch kind {
	case "object":
		return "a mapping"
	case "array":
		return "a list"
	case "bool":
		return "true or false"
	}
	return "a " + kind
}

// wanted says what a value of a type looks like.
func wanted(t reflect.Type) string {
	switch t.Kind() { //nolint:exhaustive // the rest cannot stand in an object
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number"
	case reflect.String:
		return "a string, in quotes if it looks like something else"
	case reflect.Slice, reflect.Array:
		return "a list"
	}
	return "a mapping"
}
