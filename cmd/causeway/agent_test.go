package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/xds/agent/settings"
)

// The files of the package have names of flags, and values that these take.
func TestPackagedSettings(t *testing.T) {
	dir := filepath.Join("..", "..", "manifests", "package")
	c := agentRunCommand()
	require.NoError(t, settings.Apply([]string{filepath.Join(dir, "agent.yaml"), filepath.Join(dir, "agent-example.yaml")}, c.Flags()))
	require.Equal(t, "php-web", value(t, c, "workload"))
	require.Equal(t, "true", value(t, c, "ec2"))
	require.Contains(t, value(t, c, "captured-listen"), "240.0.0.0/4")

	// What user data writes has such names too.
	text, err := os.ReadFile(filepath.Join("..", "..", "manifests", "terraform", "hosts", "cloud-init.yaml.tftpl"))
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(text), "content: |\n")
	block, _, _ := strings.Cut(rest, "- path:")
	for line := range strings.SplitSeq(strings.TrimSpace(block), "\n") {
		name, _, _ := strings.Cut(strings.TrimSpace(line), ":")
		require.NotNil(t, c.Flags().Lookup(name), line)
	}
}

func value(t *testing.T, c *cobra.Command, flag string) string {
	t.Helper()
	f := c.Flags().Lookup(flag)
	require.NotNil(t, f)
	return f.Value.String()
}
