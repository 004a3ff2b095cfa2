package lint

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/policy"
)

// Every rule has a name of its own and stands in the documentation.
func TestRulesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/gitops.md")
	require.NoError(t, err)
	seen := make(map[string]bool)
	var want strings.Builder
	for _, r := range Rules() {
		require.False(t, seen[r.Name], r.Name)
		require.NotEqual(t, r.object == nil, r.value == nil, r.Name)
		seen[r.Name] = true
		doc := r.Doc
		if r.Severity == policy.Error {
			doc += " (an error)"
		}
		fmt.Fprintf(&want, "| `%s` | %s |\n", r.Name, doc)
	}
	require.Contains(t, string(text), want.String(), "docs/gitops.md, What is hardly meant, must have this table:\n%s", want.String())
}
