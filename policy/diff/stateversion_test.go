package diff_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/policy/diff"
)

// Without the groups of an older control plane, every group would look new.
func TestStateOfAnOlderVersion(t *testing.T) {
	t.Parallel()
	var v diff.State
	require.NoError(t, json.Unmarshal([]byte(`{"instanceGroups": []}`), &v))
	_, err := v.Catalog()
	require.ErrorContains(t, err, "older version of the control plane")
}
