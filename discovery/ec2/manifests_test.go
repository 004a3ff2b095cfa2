package ec2

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestManifests: what SREs install is what the source understands.
func TestManifests(t *testing.T) {
	const dir = "../../manifests/iam"
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	require.NoError(t, err)
	require.Len(t, files, 5)
	for _, file := range files {
		data, err := os.ReadFile(file) //nolint:gosec // from the repository
		require.NoError(t, err)
		require.True(t, json.Valid(data), file)
	}
	data, err := os.ReadFile(filepath.Join(dir, "event-pattern.json"))
	require.NoError(t, err)
	var pattern struct {
		Source     []string `json:"source"`
		DetailType []string `json:"detail-type"`
	}
	require.NoError(t, json.Unmarshal(data, &pattern))
	require.ElementsMatch(t, slices.Collect(maps.Keys(documentedEvents)), pattern.DetailType)
	require.ElementsMatch(t, []string{"aws.ec2", "aws.autoscaling"}, pattern.Source)
}
