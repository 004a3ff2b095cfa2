package objects

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/manifests"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// crdSchema is the schema of a kind, as an API server holds it that has the CRD.
type crdSchema struct {
	structural *structuralschema.Structural
	validator  crdvalidation.SchemaValidator
	rules      *cel.Validator
}

// lazySchema returns a function that compiles version v1 (or our only one) of
// a CRD when it is first called. That takes up to 0.2 s for an HTTPRoute, which
// only those shall pay who read one from a file.
//
// The CRDs are part of the program, so one that does not compile is a mistake
// in the program that no test of the kind can miss, and it panics.
func lazySchema(crd string) func() *crdSchema {
	return sync.OnceValue(func() *crdSchema {
		s, err := compileSchema(crd)
		if err != nil {
			panic(fmt.Sprintf("objects: %s: %v", crd, err))
		}
		return s
	})
}

func compileSchema(path string) (*crdSchema, error) {
	text, err := manifests.CRDs.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(text, &crd); err != nil {
		return nil, err
	}
	i := slices.IndexFunc(crd.Spec.Versions, func(v apiextensionsv1.CustomResourceDefinitionVersion) bool {
		return v.Name == "v1" || v.Name == v1alpha1.Version
	})
	if i < 0 || crd.Spec.Versions[i].Schema == nil {
		return nil, fmt.Errorf("it has no schema of version v1 or %s", v1alpha1.Version)
	}
	var props apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(crd.Spec.Versions[i].Schema.OpenAPIV3Schema, &props, nil); err != nil {
		return nil, err
	}
	s := &crdSchema{}
	if s.structural, err = structuralschema.NewStructural(&props); err != nil {
		return nil, err
	}
	if s.validator, _, err = crdvalidation.NewSchemaValidator(&props); err != nil {
		return nil, err
	}
	s.rules = cel.NewValidator(s.structural, true, celconfig.PerCallLimit)
	return s, nil
}

// admit does with an object what an API server does that creates it: it fills
// in the defaults, in place, and checks the schema and its rules. The status
// is dropped, because it is a subresource of every kind that has one.
func (s *crdSchema) admit(object map[string]any) []v1alpha1.FieldError {
	delete(object, "status")
	var out []v1alpha1.FieldError
	for _, path := range pruning.PruneWithOptions(object, s.structural, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}) {
		out = append(out, unknownField(path))
	}
	defaulting.PruneNonNullableNullsWithoutDefaults(object, s.structural)
	defaulting.Default(object, s.structural)
	mistakes := slices.DeleteFunc(append(crdvalidation.ValidateCustomResource(nil, object, s.validator),
		listtype.ValidateListSetsAndMaps(nil, s.structural, object)...), isConsequence)
	for _, err := range mistakes {
		out = append(out, schemaError(err))
	}
	if !slices.ContainsFunc(mistakes, blocksRules) {
		broken, _ := s.rules.Validate(context.Background(), nil, s.structural, object, nil, celconfig.RuntimeCELCostBudget)
		for _, err := range broken {
			out = append(out, ruleError(err))
		}
	}
	// The validators walk maps in any order.
	slices.SortFunc(out, func(a, b v1alpha1.FieldError) int {
		return cmp.Or(strings.Compare(a.Field, b.Field), strings.Compare(a.Message, b.Message))
	})
	return out
}

// isConsequence reports whether a mistake only says that none of several
// schemas fits, which the mistakes beside it say better.
func isConsequence(err *field.Error) bool {
	return strings.Contains(err.Detail, "must validate one and only one schema") || strings.Contains(err.Detail, "must validate at least one schema")
}

// blocksRules reports whether rules cannot be evaluated over a mistake, as an
// API server decides it.
func blocksRules(err *field.Error) bool {
	switch err.Type { //nolint:exhaustive // the rest do not
	case field.ErrorTypeNotSupported, field.ErrorTypeRequired, field.ErrorTypeTooLong, field.ErrorTypeTooMany, field.ErrorTypeTypeInvalid:
		return true
	}
	return false
}

// schemaError words what a schema refuses.
func schemaError(err *field.Error) v1alpha1.FieldError {
	out := v1alpha1.FieldError{Field: err.Field, Message: fmt.Sprintf("%s is not allowed", shown(err.BadValue)), Remedy: "correct it"}
	// The validator writes "spec.ports[0] in body should be ...".
	detail := err.Detail
	if _, after, ok := strings.Cut(detail, " in body "); ok {
		detail = after
	}
	if detail != "" {
		out.Remedy = "it " + detail
	}
	if pattern, ok := strings.CutPrefix(detail, "should match '"); ok {
		out.Remedy = inWords(strings.TrimSuffix(pattern, "'"))
	}
	if format, ok := strings.CutPrefix(detail, "must be of type "); ok {
		out.Message, out.Remedy = ofFormat(err.Field, err.BadValue, format)
	}
	if strings.HasPrefix(detail, "should have ") { // so many items
		out.Message = "it has " + shown(err.BadValue)
	}
	switch err.Type { //nolint:exhaustive // the others are worded by their detail
	case field.ErrorTypeRequired:
		out.Message, out.Remedy = "it is missing", "write it"
	case field.ErrorTypeDuplicate:
		out.Message, out.Remedy = shown(err.BadValue)+" stands twice", "remove one"
	case field.ErrorTypeNotSupported:
		if _, values, ok := strings.Cut(err.Detail, "supported values: "); ok {
			out.Remedy = oneOf(err.BadValue, supported(values))
		}
	case field.ErrorTypeTooLong, field.ErrorTypeTooMany:
		out.Message = "it is too long"
	}
	return out
}

// ruleError words the break of a rule. The message of a rule of ours ends with
// a colon and the remedy; its first word, if that is "it", stands for the value.
func ruleError(err *field.Error) v1alpha1.FieldError {
	out := v1alpha1.FieldError{Field: err.Field, Message: err.Detail, Remedy: "correct it"}
	if out.Field == "<nil>" { // the object as a whole
		out.Field = ""
	}
	if i := strings.LastIndex(err.Detail, ": "); i >= 0 {
		out.Message, out.Remedy = err.Detail[:i], err.Detail[i+2:]
	} else {
		out.Message, out.Remedy = worded(err.Detail)
	}
	if rest, ok := strings.CutPrefix(out.Message, "it "); ok {
		out.Message = shown(err.BadValue) + " " + rest
	}
	return out
}

// shown returns a value as a message shows it: a scalar as it is written,
// anything else without its content.
func shown(v any) string {
	switch r := reflect.ValueOf(v); r.Kind() { //nolint:exhaustive // the rest are scalars
	case reflect.String:
		return fmt.Sprintf("%q", r.String())
	case reflect.Map, reflect.Slice, reflect.Pointer, reflect.Struct, reflect.Invalid:
		return "it"
	}
	return fmt.Sprint(v)
}

// decodeCustom decodes an object of a kind that a CRD defines. into is a zero
// object of the kind; it gets the object with its defaults. rest is the part of it that is right.
func decodeCustom(data []byte, into any, s *crdSchema) (rest []byte, errs []v1alpha1.FieldError) {
	// Types first: what does not fit, or is unknown, is told best by them.
	rest, errs = decodeStrict(data, into)
	var object map[string]any
	if err := utiljson.Unmarshal(rest, &object); err != nil {
		return rest, append(errs, v1alpha1.FieldError{Message: err.Error(), Remedy: "correct the value"})
	}
	if object == nil {
		return rest, append(errs, v1alpha1.FieldError{Message: "it is null", Remedy: "write an object"})
	}
	if errs = together(rest, errs, s.admit(object)); len(errs) > 0 {
		return rest, errs
	}
	reflect.ValueOf(into).Elem().SetZero() // what is decoded anew has the defaults
	text, err := json.Marshal(object)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return rest, []v1alpha1.FieldError{{Message: err.Error(), Remedy: "correct the value"}}
	}
	return rest, nil
}
