package manifests_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// edges is the folder of the examples of Gateways, which share services.yaml.
const edges = "manifests/examples/edge"

// Each example is right on its own beside the Services, and all are together.
func TestEdgeExamples(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root(t), edges, "*.yaml"))
	require.NoError(t, err)
	require.Len(t, files, 4)
	services := read(t, edges, "services.yaml")
	for _, path := range files {
		name := filepath.Base(path)
		t.Run(strings.TrimSuffix(name, ".yaml"), func(t *testing.T) {
			t.Parallel()
			text := read(t, edges, name)
			require.True(t, strings.HasPrefix(text, "# "), "it says what it is for")
			require.Contains(t, read(t, "manifests", "examples", "README.md"), "](edge/"+name+")")
			alone := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(alone, "services.yaml"), []byte(services), 0o600))
			require.NoError(t, os.WriteFile(filepath.Join(alone, name), []byte(text), 0o600))
			flawless(t, alone)
		})
	}
	flawless(t, filepath.Join(root(t), edges))
}

// What the guide shows of Gateways works as it stands.
func TestEdgeDocuments(t *testing.T) {
	for _, document := range [][]string{{"docs", "edge.md"}} {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "services.yaml"), []byte(read(t, edges, "services.yaml")), 0o600))
		n := 0
		for _, block := range yamlIn(t, document...) {
			if strings.Contains(block, "kind: Gateway\n") {
				n++
				require.NoError(t, os.WriteFile(filepath.Join(dir, "gateway.yaml"), []byte(block), 0o600))
				flawless(t, dir)
			}
		}
		require.Positive(t, n, "%v", document)
	}
}
