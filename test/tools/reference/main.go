// Command reference writes the reference of our kinds, in Markdown, from the
// CRDs whose files it is given, in their order:
//
//	go run ./test/tools/reference manifests/crds/*.yaml > docs/reference.md
package main

import (
	"bufio"
	"fmt"
	"os"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		os.Exit(1)
	}
}

func run(files []string) error {
	out := bufio.NewWriter(os.Stdout)
	w := newWriter(out)
	w.head()
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(text, &crd); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		for i := range crd.Spec.Versions {
			if v := &crd.Spec.Versions[i]; v.Served && v.Schema != nil {
				w.kind(&crd, v)
			}
		}
	}
	return out.Flush()
}
