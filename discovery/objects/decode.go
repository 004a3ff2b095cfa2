package objects

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/json"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// MaxMistakes is how many mistakes are told, before a line says that there are
// more. The reader corrects these first, and a document of another format has
// one in every value.
const MaxMistakes = 100

var strictField = regexp.MustCompile(`^(unknown|duplicate) field "(.+)"$`)

// decodeStrict decodes JSON into an object and reports every value that does
// not fit, and every unknown or duplicate field. After mistakes the object has
// the valid parts, and rest is their JSON, so that checks can go on with it.
// After more than MaxMistakes it is empty, and decoding stops. into is a zero
// object.
func decodeStrict(data []byte, into any) (rest []byte, mistakes []v1alpha1.FieldError) {
	to := reflect.ValueOf(into).Elem()
	strict, err := json.UnmarshalStrict(data, into)
	if err == nil && len(strict) == 0 {
		return data, nil
	}
	for _, err := range strict {
		if m := strictField.FindStringSubmatch(err.Error()); m == nil || m[1] == "duplicate" {
			e := v1alpha1.FieldError{Message: err.Error(), Remedy: "correct it"}
			if m != nil {
				e = v1alpha1.FieldError{Field: m[2], Message: "it stands twice", Remedy: "remove one"}
			}
			mistakes = append(mistakes, e)
		}
	}
	var document any
	dec := stdjson.NewDecoder(bytes.NewReader(data))
	dec.UseNumber() // as it is written
	if decErr := dec.Decode(&document); decErr != nil {
		return nil, append(mistakes, misfit("", nil, decErr))
	}
	f := fitting{of: to.Type()}
	document, ok := f.fit("", document, to.Type())
	mistakes = append(mistakes, f.mistakes...)
	to.SetZero() // of what is half right
	if f.full() {
		return []byte("{}"), mistakes
	}
	if !ok {
		document = map[string]any{}
	}
	if rest, err = stdjson.Marshal(document); err == nil {
		err = json.UnmarshalCaseSensitivePreserveInts(rest, into)
	}
	if err != nil { // what fits part by part fits as a whole, but for values that nobody has thought of
		mistakes = append(mistakes, misfit("", nil, err))
	}
	return rest, mistakes
}

func unknownField(path string) v1alpha1.FieldError {
	return v1alpha1.FieldError{Field: path, Message: "there is no such field", Remedy: "correct or remove it"}
}

// fitting compares a document with a type, value by value. The decoder would
// report the first mistake only, and not where: it leaves out the index in a
// list, and knows no path at all for a type that decodes itself, like a duration.
type fitting struct {
	// of is the type of the whole document.
	of       reflect.Type
	mistakes []v1alpha1.FieldError
}

// full reports whether there are more mistakes than are told.
func (f *fitting) full() bool { return len(f.mistakes) > MaxMistakes }

// fit returns a value without the parts that do not fit a type, and records
// those. It returns false if nothing of it fits. An element of a list stays as
// null, so that the elements after it keep their places. It gives up once it is
// full.
func (f *fitting) fit(path string, v any, t reflect.Type) (any, bool) {
	if f.full() {
		return nil, false
	}
	t = indirect(t)
	decodesItself := reflect.PointerTo(t).Implements(reflect.TypeFor[stdjson.Unmarshaler]())
	if v == nil && decodesItself {
		return nil, false // as if it were not there, which is how an API server takes it; a duration refuses null
	}
	if !decodesItself {
		switch v := v.(type) {
		case map[string]any:
			if t.Kind() == reflect.Struct || t.Kind() == reflect.Map {
				return f.mapping(path, v, t), true
			}
		case []any:
			if e := element(t); e != nil {
				for i := range v {
					if child, ok := f.fit(path+"["+strconv.Itoa(i)+"]", v[i], e); ok {
						v[i] = child
					} else {
						v[i] = nil
					}
				}
				return v, true
			}
		}
	}
	text, err := stdjson.Marshal(v)
	if err == nil {
		err = json.UnmarshalCaseSensitivePreserveInts(text, reflect.New(t).Interface())
	}
	if err != nil {
		f.mistakes = append(f.mistakes, misfit(path, t, err))
		return nil, false
	}
	return v, true
}

func (f *fitting) mapping(path string, v map[string]any, t reflect.Type) map[string]any {
	for _, k := range slices.Sorted(maps.Keys(v)) {
		if f.full() {
			break
		}
		child := k
		if path != "" {
			child = path + "." + k
		}
		ft := fieldType(t, k)
		if ft == nil {
			f.mistakes = append(f.mistakes, unknownFieldOf(child, f.of))
			delete(v, k)
			continue
		}
		fitted, ok := f.fit(child, v[k], ft)
		if ok {
			v[k] = fitted
		} else {
			delete(v, k)
		}
	}
	return v
}

// misfit says that a value does not fit its type.
func misfit(path string, t reflect.Type, cause error) v1alpha1.FieldError {
	out := v1alpha1.FieldError{Field: path, Message: cause.Error(), Remedy: "correct the value"}
	if kind, ok := errors.AsType[*stdjson.UnmarshalTypeError](cause); ok {
		out.Message = "it is " + article(kind.Value)
		out.Remedy = "write " + wanted(kind.Type)
		switch t {
		case reflect.TypeFor[metav1.Duration]():
			out.Remedy = "write a string with a unit, for example 5s"
		case reflect.TypeFor[intstr.IntOrString]():
			out.Remedy = "write a whole number, or a name as a string"
		}
	}
	if strings.HasPrefix(out.Message, "time: ") { // a duration, to most people's mind with days
		out.Remedy = "write hours, minutes and seconds, for example 24h or 1h30m"
	}
	return out
}

// together joins the mistakes of decoding with those that checks of the rest
// found. It leaves out mistakes that only follow from parts that decoding left
// out. If decoding found too many, there is nothing left to check.
func together(rest []byte, decoding, checks []v1alpha1.FieldError) []v1alpha1.FieldError {
	if len(decoding) == 0 {
		return checks
	}
	if len(decoding) > MaxMistakes {
		return decoding
	}
	var document any
	_ = stdjson.Unmarshal(rest, &document) // without one, nothing is in it
	out := slices.Clone(decoding)
	for _, c := range checks {
		missing := !has(document, c.Field)
		if !slices.ContainsFunc(decoding, func(d v1alpha1.FieldError) bool { return follows(c.Field, missing, d) }) {
			out = append(out, c)
		}
	}
	return out
}

// follows reports whether a mistake of a field may be there only because another
// field was left out: it is about that field, a part of it, or its parent. A
// missing field beside an unknown one may be what was meant by it.
func follows(field string, missing bool, from v1alpha1.FieldError) bool {
	if within(field, from.Field) || within(from.Field, field) {
		return true
	}
	parent, _, _ := strings.CutLast(from.Field, ".")
	return missing && from.Message == unknownField("").Message && within(field, parent)
}

// has reports whether a document has a value at a path.
func has(v any, path string) bool {
	for path != "" {
		path = strings.TrimLeft(path, ".[]")
		step := path
		if i := strings.IndexAny(path, ".[]"); i >= 0 {
			step = path[:i]
		}
		path = path[len(step):]
		switch of := v.(type) {
		case map[string]any:
			child, ok := of[step]
			if !ok {
				return false
			}
			v = child
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(of) {
				return false
			}
			v = of[i]
		default:
			return step == ""
		}
	}
	return true
}

// within reports whether a path is another one or a part of it.
func within(path, of string) bool {
	rest, ok := strings.CutPrefix(path, of)
	return ok && (of == "" || rest == "" || rest[0] == '.' || rest[0] == '[')
}

// Misfit says that a value of an object is of the wrong type.
func Misfit(cause *stdjson.UnmarshalTypeError) v1alpha1.FieldError {
	return misfit(cause.Field, cause.Type, cause)
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
