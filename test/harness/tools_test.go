package harness

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A clean clone has each program that tests start: `make test` gets them all.
func TestMakeTestGetsEachTool(t *testing.T) {
	t.Parallel()
	root, err := Root()
	require.NoError(t, err)
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	require.NoError(t, err)
	line := regexp.MustCompile(`(?m)^tools-test:\n\t@\$\(GET\) (.*)$`).FindSubmatch(makefile)
	require.NotNil(t, line, "Makefile has no tools-test with a line of $(GET)")
	gets := strings.Fields(string(line[1]))
	for _, tool := range tools {
		require.Contains(t, gets, tool.get, "tests start %s: add %s to tools-test in Makefile", tool.name, tool.get)
	}
}
