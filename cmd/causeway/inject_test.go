package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// What is injected goes to the standard output, and a refusal leaves it empty.
func TestInject(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	config := write("inject.yaml", "image: agent:v1\nserviceCIDRs: [10.96.0.0/12]\n")
	const pod = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nspec:\n  containers: []\n"
	out, err := execute(t, "inject", "--config", config, "-n", "web", "-f", write("pod.yaml", pod))
	require.NoError(t, err, out)
	require.Contains(t, out, "name: causeway-proxy")

	out, err = execute(t, "inject", "--config", config, "-n", "web", "-f", write("host.yaml", pod+"  hostNetwork: true\n"))
	require.Equal(t, exitFindings, exitCode(err))
	require.Contains(t, out, "Pod web/a: refused: it has hostNetwork: true")
	require.NotContains(t, out, "apiVersion")

	none := filepath.Join(dir, "none.yaml")
	_, err = execute(t, "inject", "--config", none, "-f", "-")
	require.ErrorContains(t, err, "--config: ")
	require.ErrorContains(t, err, "give the file that the control plane has as --inject-config")
	_, err = execute(t, "inject", "--config", none, "-f", none)
	require.ErrorContains(t, err, "none.yaml: no such file or directory: give a file of YAML, or - for the standard input\n--config: open ")
	require.Equal(t, exitError, exitCode(err))
	_, err = execute(t, "inject", "--config", write("wrong.yaml", "{}"), "-f", "-")
	require.ErrorContains(t, err, "image: it is empty")
}
