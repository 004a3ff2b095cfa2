package file

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery/catalog"
)

// A directory in which every file has a misspelt name says which they are.
func TestOnlyMisspeltFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"web.ymal", "b.ymal", "notes.txt"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(serviceYAML), 0o600))
	}
	_, err := Load(dir, catalog.New())
	require.ErrorIs(t, err, errEmpty)
	require.ErrorContains(t, err, "; not read are b.ymal, web.ymal: rename them to end in .yaml")
}

// Setups that stand beside each other are not told to lose their objects.
func TestTheSameObjectInTwoDirectories(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a/web.yaml", "b/web.yaml", "b/again.yaml"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(serviceYAML), 0o600))
	}
	loaded, err := Load(dir, catalog.New())
	require.NoError(t, err)
	require.Len(t, loaded.Problems, 2)
	const told = "it stands at a/web.yaml:1 already, which counts: remove one of them; if a and b are for meshes of their own, give one of the directories at a time"
	require.Equal(t, told, loaded.Problems[0].Message)
	require.Equal(t, told, loaded.Problems[1].Message)
	require.Equal(t, "remove one of them", oneOfTwo("b/web.yaml", "b/again.yaml"))
}
