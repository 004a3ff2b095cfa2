package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// fits asserts that a text is no larger than a terminal of 80 columns and 24
// rows shows with the prompt below it.
func fits(t *testing.T, text string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	require.LessOrEqual(t, len(lines), 23, text)
	for _, l := range lines {
		require.LessOrEqual(t, utf8.RuneCountInString(l), 80, l)
	}
}

// A mesh that is well is a few lines and exit status 0.
func TestStatusOfAHealthyMesh(t *testing.T) {
	out, err := execute(t, "status", "--admin", liveDir(t, examples+"first-steps"))
	require.NoError(t, err, out)
	require.Contains(t, out, "serving")
	require.Contains(t, out, "all well")
	require.Contains(t, out, "proxies    0, 0 in sync")
	require.Contains(t, out, "frozen     nothing")
	fits(t, out)
}

// A mistake in an object is on the screen, with its remedy, and in the exit status.
func TestStatusNamesTrouble(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "web.yaml"), []byte(`apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop, namespace: web}
spec:
  parentRefs: [{group: "", kind: Service, name: nothing}]
  rules: [{backendRefs: [{name: nothing, port: 80}]}]
`), 0o600))
	out, err := execute(t, "status", "--admin", liveDir(t, dir))
	require.ErrorIs(t, err, errFindings)
	require.Equal(t, exitFindings, exitCode(err))
	require.Contains(t, out, "HTTPRoute web/shop")
	require.Contains(t, out, "nothing")
	_, err = execute(t, "status", "--admin", "127.0.0.1:1")
	require.Equal(t, exitError, exitCode(err))
}
