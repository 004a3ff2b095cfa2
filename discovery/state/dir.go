package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/causeway-mesh/causeway/discovery/durable"
)

// version of the files' format. A file of another version is not read: a
// newer one may mean something that this program would get wrong.
const version = 1

// extension of the files, chosen so that a state directory inside a
// configuration directory is not read as configuration.
const extension = ".state"

// The files of a directory.
const (
	instancesFile = "instances"
	homesFile     = "homes"
	contentsFile  = "files"
	shiftsFile    = "shifts"
	freezeFile    = "freeze"
)

// Dir is a state directory. Its methods may be called concurrently.
type Dir struct {
	path string
	log  *slog.Logger
	// locked is the open file that keeps others out, nil where that is not possible.
	locked *os.File

	// homes is held from reading homes in the catalog to having stored them, so
	// that none is stored over a newer one.
	homes sync.Mutex

	mu sync.Mutex
	// written is what each file is known to hold, nil where it is not: such a
	// file must not take the place of its previous generation.
	written map[string][]byte
	// unreadable are the files that could not be read, with the reason. They
	// must not be overwritten, because traffic follows their content.
	unreadable map[string]error
	good       map[string][]byte // contents of configuration files
}

// envelope is the content of a file. The sum tells a whole file from one that
// was cut by a crash or a full disk, or spoiled by the disk.
type envelope struct {
	Version int             `json:"version"`
	Kind    string          `json:"kind"`
	SHA256  string          `json:"sha256"`
	Data    json.RawMessage `json:"data"`
}

// Open opens a state directory and makes it if it is missing.
func Open(path string, log *slog.Logger) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	d := &Dir{path: path, log: log, written: make(map[string][]byte), unreadable: make(map[string]error)}
	// A temporary file that a crash in the middle of writing has left behind.
	leftovers, err := filepath.Glob(filepath.Join(path, ".*"+extension+"*-*"))
	if err != nil {
		return nil, fmt.Errorf("state directory %q: %w", path, err)
	}
	for _, name := range leftovers {
		if err := os.Remove(name); err != nil {
			log.Warn("cannot remove a temporary file", "file", name, "error", err)
		}
	}
	good, err := read[map[string][]byte](d, contentsFile)
	if err != nil {
		log.Error("cannot read what configuration files last said", "error", err)
	}
	d.good = good
	return d, nil
}

// GoodFiles returns the last good contents of configuration files.
func (d *Dir) GoodFiles() map[string][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.good
}

// KeepFiles stores the last good contents of configuration files.
func (d *Dir) KeepFiles(files map[string][]byte) error {
	if err := d.write(contentsFile, files); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.good = files
	return nil
}

func (d *Dir) file(kind string) string { return filepath.Join(d.path, kind+extension) }

// read reads a file, or the generation before it if the file is missing or
// spoiled. If there is neither, that is no error: it is the first start. A
// spoiled file is set aside for somebody to look at.
func read[T any](d *Dir, kind string) (data T, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	data, raw, err := load[T](d.file(kind), kind)
	if err == nil {
		d.written[kind] = raw
		return data, nil
	}
	missing := errors.Is(err, fs.ErrNotExist)
	if !missing {
		err = setAside(d.file(kind), err)
	}
	previous, _, previousErr := load[T](d.file(kind)+".previous", kind)
	if previousErr != nil && !errors.Is(previousErr, fs.ErrNotExist) {
		previousErr = setAside(d.file(kind)+".previous", previousErr)
	}
	switch {
	case previousErr == nil:
		d.log.Error("the state is of the generation before the last", "because", err)
		return previous, nil
	case missing && errors.Is(previousErr, fs.ErrNotExist):
		return data, lost(d.file(kind))
	case missing:
		return data, previousErr
	}
	return data, err
}

// setAside renames a spoiled file, so that the next generation does not
// replace it, and returns what was wrong with it and where it is now.
func setAside(path string, cause error) error {
	aside := path + ".spoiled"
	if err := os.Rename(path, aside); err != nil {
		return errors.Join(cause, err)
	}
	return fmt.Errorf("%w; it is kept as %s", cause, aside)
}

// lost returns an error if there is nothing to read because it was set aside at
// an earlier start, and nothing was stored since.
func lost(path string) error {
	if _, err := os.Stat(path + ".spoiled"); err != nil {
		return nil //nolint:nilerr // there was nothing
	}
	return fmt.Errorf("%s was spoiled at an earlier start and is kept as %s.spoiled; nothing newer is stored", path, path)
}

func load[T any](path, kind string) (data T, raw []byte, err error) {
	raw, err = os.ReadFile(path) //nolint:gosec // the operator's own directory
	if err != nil {
		return data, nil, err
	}
	data, err = decode[T](raw, kind)
	if err != nil {
		return data, nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, raw, nil
}

// decode reads a file's text. It returns all of it or nothing.
func decode[T any](raw []byte, kind string) (T, error) {
	var e envelope
	var data, none T
	if err := json.Unmarshal(raw, &e); err != nil {
		return none, fmt.Errorf("it is cut or spoiled: %w", err)
	}
	if e.Version != version {
		return none, fmt.Errorf("it is of version %d, this program reads %d", e.Version, version)
	}
	if e.Kind != kind {
		return none, fmt.Errorf("it holds %q instead of %q", e.Kind, kind)
	}
	if sum(e.Data) != e.SHA256 {
		return none, errors.New("it is spoiled: its checksum is wrong")
	}
	if err := json.Unmarshal(e.Data, &data); err != nil {
		return none, fmt.Errorf("its data: %w", err)
	}
	return data, nil
}

func encode(kind string, data any) ([]byte, error) {
	text, err := json.Marshal(data)
	if err != nil {
		return nil, err
	}
	out, err := json.Marshal(envelope{version, kind, sum(text), text})
	return append(out, '\n'), err
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// write replaces a file, so that a crash at any moment leaves the old or the
// new one whole. It returns when the new one is on the disk.
func (d *Dir) write(kind string, data any) error {
	text, err := encode(kind, data)
	if err != nil {
		return fmt.Errorf("state %s: %w", kind, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if bytes.Equal(text, d.written[kind]) {
		return nil
	}
	if err := d.unreadable[kind]; err != nil {
		return fmt.Errorf("state %s is not written over: %w", kind, err)
	}
	if err := d.replace(kind, text); err != nil {
		return fmt.Errorf("state %s: %w", kind, err)
	}
	d.written[kind] = text
	return nil
}

func (d *Dir) replace(kind string, text []byte) error {
	if precious(kind) {
		// The copy comes first: where the file itself is whole, it counts.
		if err := put(d.file(kind)+copySuffix, text, false); err != nil {
			return err
		}
		return put(d.file(kind), text, false)
	}
	return put(d.file(kind), text, d.written[kind] != nil)
}

// put replaces one file, and keeps what it was as the previous generation if asked to.
func put(path string, text []byte, previous bool) error {
	if !previous {
		return durable.Replace(path, text, nil)
	}
	return durable.Replace(path, text, func() error { return keepPrevious(path) })
}

// keepPrevious makes the current file the previous generation as well, without
// a moment in which there is no current one.
func keepPrevious(path string) error {
	tmp := path + ".previous.new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := os.Link(path, tmp)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // somebody removed it; there is no previous generation then
	case errors.Is(err, errors.ErrUnsupported), errors.Is(err, fs.ErrPermission):
		return nil // a file system without links keeps one generation only
	case err != nil:
		return err
	}
	return os.Rename(tmp, path+".previous")
}
