package file

import (
	"bytes"
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/objects"
)

// files is what is known of every file, by its path below the directory.
type files map[string]*fileState

type fileState struct {
	// read is the newest content, whether good or not; nil if it has not been read.
	read []byte
	// good is what the newest good content means.
	good content
	// problems of the newest content; unreadable is why there is none.
	problems   []Problem
	unreadable string
	// passed are the documents of the newest content that are none of the mesh's.
	passed []Passed
}

// update takes in what was found and reports whether anything is new.
func (fs files) update(found *scan) (changed bool) {
	for name, f := range fs {
		if _, ok := found.files[name]; ok {
			continue
		}
		if found.known(name) {
			delete(fs, name)
			changed = true
		} else if f.read != nil {
			f.read = nil
			changed = true
		}
	}
	for name, f := range fs {
		f.unreadable = ""
		if err, bad := found.unreadable[name]; bad {
			f.unreadable = err.Error()
		}
	}
	for name, err := range found.unreadable {
		if fs[name] == nil {
			fs[name] = &fileState{unreadable: err.Error()}
			changed = true
		}
	}
	for name, data := range found.files {
		if fs[name] == nil {
			fs[name] = &fileState{}
		}
		if f := fs[name]; f.read == nil || !bytes.Equal(f.read, data) {
			f.take(name, data)
			changed = true
		}
	}
	return changed
}

// take makes data the file's newest content.
func (f *fileState) take(name string, data []byte) {
	f.read = data
	if len(data) == 0 && len(f.good.at) > 0 {
		// An editor that truncates before it writes, or a full disk.
		f.problems = []Problem{{name, 1, "", "the file is empty, which hardly anyone means: remove it, or leave a comment in it"}}
		return
	}
	good, problems := decode(name, data)
	f.problems, f.passed = problems, good.passed
	if len(problems) == 0 {
		f.good = good
	}
}

// lasting returns the files' last good contents, without Secrets.
func (fs files) lasting() map[string][]byte {
	out := make(map[string][]byte, len(fs))
	for name, f := range fs {
		if f.good.lasting != nil {
			out[name] = f.good.lasting
		}
	}
	return out
}

// merged is what all files say together.
type merged struct {
	objects.Rows
	// from says at which file:line each object stands, by its "Kind namespace/name".
	from     map[string]string
	problems []Problem
	// held are the files that are gone and whose objects stay for a while.
	held map[string]struct{}
}

// merge joins the files' last good rows, in the order of their names. If an
// object is in two files, the first one counts.
func (fs files) merge() *merged {
	m := &merged{from: make(map[string]string)}
	for _, name := range slices.Sorted(maps.Keys(fs)) {
		f := fs[name]
		if f.unreadable != "" {
			m.problems = append(m.problems, Problem{name, 1, "", "it cannot be read: " + f.unreadable})
		}
		m.problems = append(m.problems, f.problems...)
		for _, r := range f.good.Services {
			if m.first(name, f, discovery.KindService, r.Key) {
				m.Services = append(m.Services, r)
			}
		}
		for _, r := range f.good.Endpoints {
			if m.first(name, f, discovery.KindEndpointSlice, r.Key) {
				m.Endpoints = append(m.Endpoints, r)
			}
		}
		for _, r := range f.good.Objects {
			if m.first(name, f, r.Kind, r.Key) {
				m.Objects = append(m.Objects, r)
			}
		}
	}
	return m
}

// oneOfTwo says what to do with two files that have the same object. Directories
// with setups of their own, such as the examples, are not meant to be read at once.
func oneOfTwo(a, b string) string {
	dirA, dirB := path.Dir(a), path.Dir(b)
	if dirA == dirB || dirA == "." || dirB == "." {
		return "remove one of them"
	}
	return fmt.Sprintf("remove one of them; if %s and %s are for meshes of their own, give one of the directories at a time", dirA, dirB)
}

// first reports whether no file before this one has the object.
func (m *merged) first(name string, f *fileState, kind string, key discovery.Key) bool {
	object := discovery.ObjectName{Kind: kind, Key: key}.String()
	if at, dup := m.from[object]; dup {
		m.problems = append(m.problems, Problem{
			name, f.good.at[object], object,
			"it stands at " + at + " already, which counts: " + oneOfTwo(at, name),
		})
		return false
	}
	m.from[object] = Problem{File: name, Line: f.good.at[object]}.Where()
	return true
}

// summary is the first problem and how many more there are.
func (m *merged) summary() string {
	switch len(m.problems) {
	case 0:
		return ""
	case 1:
		return m.problems[0].Error()
	}
	return fmt.Sprintf("%s (and %d more)", m.problems[0].Error(), len(m.problems)-1)
}
