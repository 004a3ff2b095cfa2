package manifests_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/file"
	"github.com/causeway-mesh/causeway/policy/resolve"
)

// shifts is the folder of the examples of TrafficShifts, which share services.yaml.
const shifts = "manifests/examples/shift"

// Each example is right on its own beside the Services, and is in the list.
func TestShiftExamples(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root(t), shifts, "*.yaml"))
	require.NoError(t, err)
	require.Len(t, files, 8)
	services := read(t, shifts, "services.yaml")
	for _, path := range files {
		name := filepath.Base(path)
		t.Run(strings.TrimSuffix(name, ".yaml"), func(t *testing.T) {
			t.Parallel()
			text := read(t, shifts, name)
			require.True(t, strings.HasPrefix(text, "# "), "it says what it is for")
			require.Contains(t, read(t, "manifests", "examples", "README.md"), "](shift/"+name+")")
			alone := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(alone, "services.yaml"), []byte(services), 0o600))
			require.NoError(t, os.WriteFile(filepath.Join(alone, name), []byte(text), 0o600))
			cat := catalog.New()
			loaded, err := file.Load(alone, cat)
			require.NoError(t, err)
			require.Empty(t, loaded.Problems)
			for _, f := range resolve.Validate(cat.Read()) {
				require.Equal(t, "shadow-only.yaml", name, "%s", f)
				require.Contains(t, f.Message, "no traffic moves", "the one warning is what the example is for")
			}
		})
	}
}

// yamlIn returns the YAML in the fenced blocks of a document.
func yamlIn(t *testing.T, document ...string) []string {
	t.Helper()
	var out []string
	for i, part := range strings.Split(read(t, document...), "```") {
		if block, ok := strings.CutPrefix(part, "yaml\n"); ok && i%2 == 1 {
			out = append(out, block)
		}
	}
	return out
}

// The TrafficShift that the README shows, and what the guide shows beside it, is
// taken by a real API server as it stands, and needs nothing but its Service.
func TestDocumentedShifts(t *testing.T) {
	kube := withRoutes.Take(t)
	applied := 0
	for _, block := range append(yamlIn(t, "README.md"), yamlIn(t, "docs", "migration.md")...) {
		if !strings.HasPrefix(block, "apiVersion: ") {
			continue
		}
		require.NotEmpty(t, kube.ApplyYAML(t, block))
		applied++
		if !strings.Contains(block, "kind: TrafficShift\n") {
			continue
		}
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "services.yaml"), []byte(read(t, shifts, "services.yaml")), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "shift.yaml"), []byte(block), 0o600))
		flawless(t, dir)
	}
	require.Equal(t, 2, applied, "the README's TrafficShift, and the guide's Roles")
}

// What the guide shows of a spec is part of one that is right.
func TestDocumentedPartsOfShifts(t *testing.T) {
	parts := 0
	for _, block := range yamlIn(t, "docs", "migration.md") {
		if strings.HasPrefix(block, "apiVersion: ") {
			continue
		}
		spec := "  serviceRef: {name: php-web}\n"
		if !strings.HasPrefix(block, "steps:") {
			spec += "  steps: [{percent: \"100\", hold: 1h}]\n"
		}
		for line := range strings.Lines(block) {
			spec += "  " + line
		}
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "services.yaml"), []byte(read(t, shifts, "services.yaml")), 0o600))
		text := "apiVersion: mesh.causeway.dev/v1alpha1\nkind: TrafficShift\nmetadata: {name: php-web, namespace: web}\nspec:\n" + spec
		require.NoError(t, os.WriteFile(filepath.Join(dir, "shift.yaml"), []byte(text), 0o600))
		flawless(t, dir)
		parts++
	}
	require.Equal(t, 2, parts)
}
