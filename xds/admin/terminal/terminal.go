// Package terminal is about the terminal that a command prints to: whether there is
// one, how large it is, and whether it is to have colours.
package terminal

import (
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/causeway-mesh/causeway/policy/phrase"
)

// Size returns the columns and rows of a writer's terminal. It returns 0 and 0 for a file or a pipe, which take lines of
// any length.
func Size(w io.Writer) (columns, rows int) {
	f, ok := w.(*os.File)
	if !ok || !Is(f) {
		return 0, 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ) //nolint:gosec // a file descriptor is small
	if err != nil || size.Col == 0 {
		return 80, 24
	}
	return int(size.Col), int(size.Row)
}

// Is reports whether a file is a terminal that understands control sequences.
func Is(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}

// Paint colours a text if its writer is a terminal, unless NO_COLOR says not to (no-color.org). For a terminal the text
// has no control characters in either case: proxies and people may have written some.
func Paint(w io.Writer, text string) string {
	if columns, _ := Size(w); columns == 0 {
		return text
	}
	if os.Getenv("NO_COLOR") != "" {
		return phrase.Plain(text)
	}
	return phrase.Paint(text)
}
