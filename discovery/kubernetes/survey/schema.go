package survey

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/gateway-api/pkg/consts"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/discovery/objects"
	"github.com/causeway-mesh/causeway/manifests"
	"github.com/causeway-mesh/causeway/policy/installation"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

var crdResource = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// crds compares our CRDs in the cluster with those of this release.
func (s *survey) crds(ctx context.Context) error {
	for _, k := range objects.Kinds() {
		if k.Group() != v1alpha1.Group {
			continue
		}
		name := k.Resource + "." + v1alpha1.Group
		fact := installation.CRD{Name: name}
		live, err := s.objects.Resource(crdResource).Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return fmt.Errorf("CustomResourceDefinition %s: %w", name, err)
		default:
			fact.Installed = true
			text, err := manifests.CRDs.ReadFile(path.Join("crds", v1alpha1.Group+"_"+k.Resource+".yaml"))
			if err != nil {
				return fmt.Errorf("CustomResourceDefinition %s: %w", name, err)
			}
			var own map[string]any
			if err := yaml.Unmarshal(text, &own); err != nil {
				return fmt.Errorf("CustomResourceDefinition %s: %w", name, err)
			}
			ours, _ := fieldsOf(own)
			theirs, served := fieldsOf(live.Object)
			fact.Served, fact.Lacks, fact.Extra = served, without(ours, theirs), without(theirs, ours)
		}
		s.facts.CRDs = append(s.facts.CRDs, fact)
	}
	return nil
}

// gateway reads of which channels and versions the Gateway API's CRDs are.
func (s *survey) gateway(ctx context.Context) error {
	g := &s.facts.Gateway
	for _, k := range objects.Kinds() {
		if !k.Standard() {
			continue
		}
		g.Kinds++
		name := k.Resource + "." + k.Group()
		crd, err := s.meta.Resource(crdResource).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("CustomResourceDefinition %s: %w", name, err)
		}
		g.Installed++
		add(&g.Channels, crd.Annotations[consts.ChannelAnnotation])
		add(&g.Versions, crd.Annotations[consts.BundleVersionAnnotation])
	}
	return nil
}

// fieldsOf returns the fields of a CRD's schema in this release's version, and whether that is served.
func fieldsOf(crd map[string]any) (fields []string, served bool) {
	spec, _ := crd["spec"].(map[string]any)
	versions, _ := spec["versions"].([]any)
	for _, v := range versions {
		version, _ := v.(map[string]any)
		if version["name"] != v1alpha1.GroupVersion().Version {
			continue
		}
		served, _ = version["served"].(bool)
		s, _ := version["schema"].(map[string]any)
		s, _ = s["openAPIV3Schema"].(map[string]any)
		walk(s, "", &fields)
	}
	slices.Sort(fields)
	return fields, served
}

func walk(s map[string]any, at string, fields *[]string) {
	properties, _ := s["properties"].(map[string]any)
	for name, p := range properties {
		field := strings.TrimPrefix(at+"."+name, ".")
		*fields = append(*fields, field)
		property, _ := p.(map[string]any)
		walk(property, field, fields)
	}
	for _, below := range []string{"items", "additionalProperties"} {
		if of, ok := s[below].(map[string]any); ok {
			walk(of, at, fields)
		}
	}
}

// without returns what is in a and not in b; of a field and those below it the field alone.
func without(a, b []string) []string {
	var out []string
	for _, f := range a {
		if _, has := slices.BinarySearch(b, f); has || len(out) > 0 && strings.HasPrefix(f, out[len(out)-1]+".") {
			continue
		}
		out = append(out, f)
	}
	return out
}
