package state

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// copySuffix ends the name of the second copy of a file.
const copySuffix = ".copy"

// precious reports whether traffic follows a file's content. An older
// generation would move traffic, so there are two copies of the newest one
// instead.
func precious(kind string) bool { return kind == homesFile || kind == shiftsFile }

// readPrecious reads a precious file, or its copy. If there is neither, that is
// no error: it is the first start. If neither can be read, they stay where they
// are and are not overwritten, until somebody has decided what to do.
func readPrecious[T any](d *Dir, kind string) (data T, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	path := d.file(kind)
	data, raw, err := load[T](path, kind)
	second, copied, secondErr := load[T](path+copySuffix, kind)
	if err == nil {
		d.written[kind] = raw
		if secondErr != nil || !bytes.Equal(raw, copied) {
			d.renew(path+copySuffix, kind, raw)
		}
		return data, nil
	}
	switch {
	case secondErr == nil:
		d.log.Error("a file of the state directory is spoiled or missing; its copy, which is as new, is read instead", "because", err)
		if !errors.Is(err, fs.ErrNotExist) {
			// For somebody to look at.
			if aside := setAside(path, err); aside != nil {
				d.log.Info("the spoiled file is set aside", "because", aside)
			}
		}
		d.written[kind] = copied
		d.renew(path, kind, copied)
		return second, nil
	case errors.Is(err, fs.ErrNotExist) && errors.Is(secondErr, fs.ErrNotExist):
		left, globErr := filepath.Glob(path + ".*")
		if globErr != nil || len(left) == 0 {
			return data, nil
		}
		err = fmt.Errorf("%s is missing, and %s is there", path, left[0])
	case errors.Is(err, fs.ErrNotExist):
		err = secondErr
	}
	d.unreadable[kind] = err
	return data, err
}

// renew makes one of the two files again from the other, so that there are two
// from the start on and not only from the next change. mu must be held.
func (d *Dir) renew(path, kind string, text []byte) {
	if err := put(path, text, false); err != nil {
		delete(d.written, kind) // the next write makes both
		d.log.Error("there is only one copy of a file of the state directory", "missing", path, "error", err)
	}
}

// keep says that a file must not be written over, and why.
func (d *Dir) keep(kind string, cause error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unreadable[kind] = cause
}

// begin says how to begin anew without a file that cannot be read.
func (d *Dir) begin(kind string) string {
	return fmt.Sprintf("stop, remove %s*, and start again", d.file(kind))
}
