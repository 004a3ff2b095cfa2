package remote

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// The leader is asked first: its identity is its pod's name and the number of its process.
func TestLeads(t *testing.T) {
	require.True(t, leads("causeway-7d4b9c6f5-abcde-1", "causeway-7d4b9c6f5-abcde"))
	require.False(t, leads("causeway-7d4b9c6f5-abcde-1", "causeway-7d4b9c6f5-fghij"))
	require.False(t, leads("causeway-7d4b9c6f5-abcde-1", "causeway-7d4b9c6f5"))
	require.False(t, leads("", ""))
}

// A context that is not there is the mistake of --context, and the files that were read are named.
func TestUnknownContext(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "config")
	require.NoError(t, os.WriteFile(file, []byte(`{apiVersion: v1, kind: Config, clusters: [{name: c, cluster: {server: "https://127.0.0.1:9"}}],
  contexts: [{name: c, context: {cluster: c}}], current-context: c}`), 0o600))
	_, err := (&Cluster{Kubeconfig: file, Context: "d"}).Config()
	require.EqualError(t, err, "--context: "+file+` has no context "d": 'kubectl config get-contexts' lists them`)
	_, err = (&Cluster{Kubeconfig: file, Context: "c"}).Config()
	require.NoError(t, err)
	_, err = (&Cluster{Kubeconfig: file + "-none", Context: "c"}).Config()
	require.ErrorContains(t, err, "--kubeconfig: stat "+file+"-none: no such file or directory")
}
