package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A dry run prints the rules and needs no kernel; mistakes name the flag and end 1.
func TestAgentCapture(t *testing.T) {
	out, err := execute(t, strings.Fields("agent capture --mode host --proxy-users 991 --destinations 192.0.2.7:3306 --dry-run")...)
	require.NoError(t, err)
	require.Contains(t, out, "ip daddr @mesh_port3306_4 tcp dport 3306 counter redirect to :15002")

	for line, want := range map[string]string{
		"agent capture": `--mode: "" is neither pod nor host`,
		"agent capture --mode pod --inbound-ports web": `--inbound-ports: "web" is neither a port nor a range of ports`,
		"agent capture --mode pod --config /nowhere":   "--config: open /nowhere",
		"agent capture pod":                            "agent capture takes no arguments and got pod",
		"agent release --drain-timeout -1s":            "--drain-timeout: -1s is negative",
	} {
		out, err := execute(t, strings.Fields(line)...)
		require.ErrorContains(t, err, want)
		require.Equal(t, exitError, exitCode(err))
		require.Empty(t, out)
	}
}
