package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// lockFile is held for as long as a control plane uses the directory.
const lockFile = "lock"

// Lock takes the directory for this process. It fails while another one has
// it: two would each undo what the other has stored. The kernel lets go of it
// when the process ends, however that comes about.
func (d *Dir) Lock() error {
	path := filepath.Join(d.path, lockFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the operator's own directory
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		defer f.Close() //nolint:errcheck // it was only read
		return fmt.Errorf("state directory %s: another control plane uses it%s: give every control plane a --state-dir of its own, or stop that one",
			d.path, holder(f))
	case err != nil: // a file system without locks
		d.log.Warn("cannot lock the state directory: make sure that no other control plane uses it", "dir", d.path, "error", err)
	}
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0) // it is for people alone
	}
	d.locked = f
	return nil
}

// holder says which process holds the lock, "" if that cannot be read.
func holder(f *os.File) string {
	text := make([]byte, 20)
	n, _ := f.ReadAt(text, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text[:n])))
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" (process %d)", pid)
}

// Close lets another control plane use the directory.
func (d *Dir) Close() error {
	if d.locked == nil {
		return nil
	}
	return d.locked.Close()
}
