package v1alpha1

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every annotation and label that this package names is one that `validate` knows.
func TestMetadataNamesAreAllOfThem(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "names.go", nil, 0)
	require.NoError(t, err)
	listed := make(map[string]bool)
	ast.Inspect(f, func(n ast.Node) bool {
		if l, ok := n.(*ast.CompositeLit); ok {
			for _, e := range l.Elts {
				if id, ok := e.(*ast.Ident); ok {
					listed[id.Name] = true
				}
			}
		}
		return true
	})
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.ValueSpec); ok {
			name := s.Names[0].Name
			if strings.HasSuffix(name, "Annotation") || strings.HasSuffix(name, "Label") {
				require.True(t, listed[name], "list %s among the metadataNames, with the kinds that it means something on", name)
			}
		}
		return true
	})
	require.NotEmpty(t, MetadataNames("annotations", "Service"))
}
