package resolve

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery/objects"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Every kind that is read has a meaning, and a kind with conditions has a status.
func TestEveryKindHasAMeaning(t *testing.T) {
	t.Parallel()
	for _, k := range objects.Kinds() {
		if k.New == nil {
			continue // a row of a table of its own
		}
		meaning, ok := kindOf(k.Name)
		require.Truef(t, ok, "kindOf lacks %s", k.Name)
		require.NotNil(t, meaning.touches, k.Name)
		if _, ok := k.New().(v1alpha1.Conditioned); ok {
			require.NotNil(t, meaning.status, k.Name)
			require.NotNil(t, meaning.findings, k.Name)
		}
	}
}
