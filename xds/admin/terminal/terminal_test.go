package terminal

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// open returns both ends of a new terminal, of so many columns and rows.
func open(t *testing.T, columns, rows uint16) *os.File {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no terminal can be made: %v", err)
	}
	t.Cleanup(func() { _ = master.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminal can be made: %v", err)
	}
	t.Cleanup(func() { _ = slave.Close() })
	require.NoError(t, unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows}))
	return slave
}

// A terminal has colours, unless NO_COLOR or TERM says not to; a file and a pipe never have any.
func TestPaint(t *testing.T) {
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "xterm")
	const text = "  error: no\x1b[2J\n"
	tty := open(t, 132, 50)
	columns, rows := Size(tty)
	require.Equal(t, []int{132, 50}, []int{columns, rows})
	require.Equal(t, "  \x1b[31merror\x1b[0m: no[2J\n", Paint(tty, text))
	t.Setenv("NO_COLOR", "1")
	require.Equal(t, "  error: no[2J\n", Paint(tty, text))
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "dumb")
	require.Equal(t, text, Paint(tty, text))
	t.Setenv("TERM", "xterm")

	file, err := os.Create(t.TempDir() + "/out")
	require.NoError(t, err)
	defer file.Close()
	require.Equal(t, text, Paint(file, text), "a file has what there is, to the byte")
	require.Equal(t, text, Paint(&bytes.Buffer{}, text))
	columns, rows = Size(open(t, 0, 0))
	require.Equal(t, []int{80, 24}, []int{columns, rows}, "a terminal that does not know its size")
}
