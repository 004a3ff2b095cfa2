package main

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/xds/server"
	"github.com/causeway-mesh/causeway/xds/status"
)

// A proxy that names itself with control sequences does nothing to the terminal of who lists the proxies; a file has its name
// to the byte.
func TestTablesArePlainOnATerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	hostile := []server.ProxyStatus{{ID: "sidecar~web~\x1b]0;owned\x07~\u202ei-1", Version: "1.40\x1b[2J"}}
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no terminal can be made: %v", err)
	}
	defer master.Close()
	require.NoError(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	defer tty.Close()

	c := &cobra.Command{}
	for _, format := range []string{"table", wide} {
		o := outputFlag{format: format}
		show := func(table *phrase.Table) {
			status.PrintProxies(table, hostile, func(s string) string { return s }, time.Now(), format == wide)
		}
		c.SetOut(tty)
		require.NoError(t, o.print(c, hostile, show))
		shown := make([]byte, 4096)
		got, err := master.Read(shown)
		require.NoError(t, err)
		require.Contains(t, string(shown[:got]), "owned")
		for _, bad := range []string{"\x1b]", "\x07", "\x1b[2J", "\u202e"} {
			require.NotContains(t, string(shown[:got]), bad, format)
		}
		file, err := os.Create(t.TempDir() + "/out")
		require.NoError(t, err)
		c.SetOut(file)
		require.NoError(t, o.print(c, hostile, show))
		require.NoError(t, file.Close())
		written, err := os.ReadFile(file.Name())
		require.NoError(t, err)
		require.Contains(t, string(written), "\x1b]0;owned\x07")
	}
}
