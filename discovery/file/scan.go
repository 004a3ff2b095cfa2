package file

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
)

// maxDepth bounds how deep directories are followed.
const maxDepth = 16

var (
	errEmpty    = errors.New("it holds no .yaml, .yml or .json file; to serve nothing on purpose, leave one with a comment in it")
	errChanging = errors.New("it keeps changing while it is read")
)

// scan is what a directory held at one moment.
type scan struct {
	// files by slash-separated path below the directory.
	files map[string][]byte
	// unreadable files and directories, by path: what they held is not known.
	unreadable map[string]error
	// unread files have other names than configuration; true for those whose
	// name is nearly one's.
	unread map[string]bool
	// dirs are the directories themselves, to be watched.
	dirs []string
	// self is the directory that was read, and linked whether a link leads to it.
	self   fs.FileInfo
	linked bool
}

// known reports whether a path could be read, so that its absence means that
// it is gone.
func (s *scan) known(name string) bool {
	for p := name; p != "."; p = filepath.ToSlash(filepath.Dir(p)) {
		if _, bad := s.unreadable[p]; bad {
			return false
		}
	}
	return true
}

// read reads all configuration files below a directory. Its error means that
// nothing is known; one file or subdirectory that cannot be read is in the
// result.
//
// A directory without any file is an error too: it is what a volume leaves
// behind that is not mounted.
//
// All files are of the same moment: if one changes while others are being
// read, as when a ConfigMap's link is swapped, everything is read again.
func read(dir string) (*scan, error) {
	const attempts = 4
	for range attempts {
		before, err := list(dir)
		if err != nil {
			return nil, err
		}
		out := &scan{files: make(map[string][]byte), unreadable: before.unreadable, unread: before.unread, dirs: before.dirs, self: before.self, linked: before.linked}
		for name, info := range before.files {
			data, err := readFile(filepath.Join(dir, filepath.FromSlash(name)), info)
			if err != nil {
				out.unreadable[name] = err
				continue
			}
			out.files[name] = data
		}
		after, err := list(dir)
		if err != nil {
			return nil, err
		}
		if !maps.EqualFunc(before.files, after.files, unchanged) {
			continue
		}
		if len(out.files) == 0 && len(out.unreadable) == 0 {
			return nil, emptyOf(out.unread)
		}
		return out, nil
	}
	return nil, errChanging
}

// emptyOf says that no file was found, and which were probably meant to be.
func emptyOf(unread map[string]bool) error {
	var suspects []string
	for name, suspect := range unread {
		if suspect {
			suspects = append(suspects, name)
		}
	}
	if len(suspects) == 0 {
		return errEmpty
	}
	slices.Sort(suspects)
	const most = 5
	more := ""
	if n := len(suspects) - most; n > 0 {
		suspects, more = suspects[:most], fmt.Sprintf(" and %d more", n)
	}
	return fmt.Errorf("%w; not read are %s%s: rename them to end in .yaml", errEmpty, strings.Join(suspects, ", "), more)
}

func unchanged(a, b fs.FileInfo) bool {
	return a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && os.SameFile(a, b)
}

// readFile reads a regular file up to one byte more than decode takes.
func readFile(path string, info fs.FileInfo) ([]byte, error) {
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file") // a FIFO would never end
	}
	f, err := os.Open(path) //nolint:gosec // the user's own directory
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}

// listing is the files of a directory, not yet read.
type listing struct {
	files      map[string]fs.FileInfo
	unreadable map[string]error
	unread     map[string]bool
	dirs       []string
	self       fs.FileInfo
	linked     bool
}

// list finds the configuration files below a directory. It follows links. It
// leaves out names that begin with a dot: files of editors, and the "..data"
// that the files of a mounted ConfigMap link to.
func list(dir string) (*listing, error) {
	l := &listing{files: make(map[string]fs.FileInfo), unreadable: make(map[string]error), unread: make(map[string]bool)}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, errors.New("it is not a directory")
	}
	l.self = info
	if link, err := os.Lstat(filepath.Clean(dir)); err == nil {
		l.linked = link.Mode()&fs.ModeSymlink != 0
	}
	return l, l.walk(dir, "", []fs.FileInfo{info})
}

// walk lists one directory. Its error is about that directory alone.
func (l *listing) walk(dir, rel string, above []fs.FileInfo) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	l.dirs = append(l.dirs, dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		path, name := filepath.Join(dir, e.Name()), rel+e.Name()
		info, err := os.Stat(path)
		if err != nil {
			if err := unknown(path, err); err != nil {
				l.unreadable[name] = err
			}
			continue
		}
		switch {
		case info.IsDir():
			if len(above) >= maxDepth || slices.ContainsFunc(above, func(a fs.FileInfo) bool { return os.SameFile(a, info) }) {
				l.unreadable[name] = fmt.Errorf("directories lie more than %d deep, or a link leads back up", maxDepth)
				continue
			}
			if err := l.walk(path, name+"/", append(slices.Clip(above), info)); err != nil {
				l.unreadable[name] = err
			}
		case isConfig(name):
			l.files[name] = info
		default:
			l.unread[name] = nearlyConfig(name)
		}
	}
	return nil
}

// unknown returns an error that tells why the content of a directory's entry is
// not known, nil if the entry is gone by now. Its name does not matter: a link
// that leads nowhere, or a network file system that does not answer, may stand
// for a whole directory.
func unknown(path string, err error) error {
	info, lerr := os.Lstat(path)
	switch {
	case errors.Is(lerr, fs.ErrNotExist):
		return nil
	case lerr == nil && info.Mode()&fs.ModeSymlink != 0 && errors.Is(err, fs.ErrNotExist):
		target, rerr := os.Readlink(path)
		if rerr != nil {
			return err
		}
		return fmt.Errorf("it is a link to %s, which does not exist: mend the link, or remove it with what it held", target)
	}
	return err
}

func isConfig(name string) bool {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

// nearlyConfig reports whether a name looks like that of a configuration file,
// misspelt, or with something after it.
func nearlyConfig(name string) bool {
	ext := strings.ToLower(strings.TrimRight(filepath.Ext(name), "~0123456789"))
	if ext == ".toml" || ext == ".jsonl" || ext == ".jsonnet" || ext == ".js" {
		return false
	}
	switch inner := strings.TrimSuffix(name, filepath.Ext(name)); ext {
	case ".txt", ".bak", ".orig", ".old", ".tmp", ".disabled", ".off", ".save":
		return isConfig(inner)
	case "":
		return false
	}
	return discovery.Misspelt(ext[1:], []string{"yaml", "yml", "json"}) != "" || isConfig(ext)
}
