// Package durable keeps files that must outlive a crash: it replaces them in one
// step, and lets one process at a time use a directory.
package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Replace replaces a file in one step: after a crash or a power cut there is the
// old one or the new one, with mode 0600. before, unless it is nil, is called once the
// new one is on the disk. A crash in between leaves a file ".NAME-*" beside it.
func Replace(path string, text []byte, before func() error) error {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*")
	if err != nil {
		return err //nolint:wrapcheck // it names the file
	}
	_, err = tmp.Write(text)
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil && before != nil {
		err = before()
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return syncDir(dir)
}

// Sweep removes what crashes have left beside a file. Nobody else may replace it meanwhile.
func Sweep(path string) error {
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"-*"))
	for _, file := range left {
		err = errors.Join(err, os.Remove(file))
	}
	return err //nolint:wrapcheck // it names the file
}

// syncDir makes a rename in a directory survive a power cut.
func syncDir(path string) error {
	dir, err := os.Open(path) //nolint:gosec // the operator's own directory
	if err != nil {
		return err //nolint:wrapcheck // it names the directory
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// HeldError says that another process has a lock.
type HeldError struct {
	// Process is its id, 0 if that cannot be read.
	Process int
}

func (e *HeldError) Error() string {
	if e.Process == 0 {
		return "another process has it"
	}
	return fmt.Sprintf("process %d has it", e.Process)
}

// Lock takes a file for this process and writes the process's id into it. The kernel lets go of it
// when the process ends, however that comes about; closing the file does so too. The
// error is a *HeldError if another process has it. On a file system without locks
// both the file and an error are returned.
func Lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the operator's own directory
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the file
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		defer f.Close() //nolint:errcheck // it was only read
		return nil, &HeldError{holder(f)}
	}
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0) // it is for people alone
	}
	return f, err //nolint:wrapcheck // the caller says what it is for
}

// holder returns which process holds a lock, 0 if that cannot be read.
func holder(f *os.File) int {
	text := make([]byte, 20)
	n, _ := f.ReadAt(text, 0)
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text[:n])))
	return pid
}
