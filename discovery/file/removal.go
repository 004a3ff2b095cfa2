package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/objects"
)

// A directory that is removed and filled again lacks most of its files for a
// while, and so does one with a broken volume or checkout. Objects go with
// their files, but not that many at once.
const (
	// removalWindow is how long a file that went counts.
	removalWindow = time.Minute
	// removalPercent of the objects may go within the window, with their files;
	// those of removalFiles files may always go.
	removalPercent = 33
	removalFiles   = 4
	// removalHold is how long objects beyond that stay, from when the
	// directory last lost or got back any of them.
	removalHold = 5 * time.Minute
)

// removals is the guard against mass removal. It decides about objects that a
// whole reading lacks because their files are gone. It never holds back a
// change in a file, unless the directory was missing or empty before and is
// being filled.
type removals struct {
	// last are the objects in force after the reading before.
	last *merged
	// gone are the files that went within the window.
	gone []goneFile
	// held objects, by their "Kind namespace/name", and until when they stay.
	held  map[string]struct{}
	until time.Time
	// refilled is true from the moment when the directory was missing, empty or
	// replaced, until all objects are back or the missing ones are released.
	refilled bool
	// self is the directory of the last reading.
	self fs.FileInfo
}

// read records a successful reading. Another directory than before was removed
// and made anew, unless it is reached by a link, which is swapped when all is
// there.
func (g *removals) read(found *scan) {
	if g.self != nil && !found.linked && !os.SameFile(g.self, found.self) {
		g.refilled = true
	}
	g.self = found.self
}

type goneFile struct {
	at      time.Time
	name    string
	objects int
}

// apply adds to a reading the objects that must stay, and a problem that says
// so. has reports whether a file is there. release sets all held objects free.
func (g *removals) apply(all *merged, has func(file string) bool, release bool, now time.Time) {
	before := g.held
	g.held = make(map[string]struct{})
	if release || (len(before) > 0 && !now.Before(g.until)) {
		before, g.refilled = nil, false
		release = true
	}
	var fresh []string
	files := make(map[string]int)
	if g.last != nil && !release {
		several := g.last.severalFiles()
		for object, at := range g.last.from {
			if _, there := all.from[object]; there {
				continue
			}
			file := at[:strings.LastIndexByte(at, ':')]
			switch _, was := before[object]; {
			case was:
				g.held[object] = struct{}{}
			case (g.refilled && several) || !has(file):
				fresh = append(fresh, object)
				files[file]++
			}
		}
	}
	if len(g.held) < len(before) || len(fresh) > 0 {
		g.until = now.Add(removalHold)
	}
	if len(fresh) > 0 && g.tooMany(files, now) {
		for _, object := range fresh {
			g.held[object] = struct{}{}
		}
	} else {
		for file, n := range files {
			g.gone = append(g.gone, goneFile{now, file, n})
		}
	}
	if len(g.held) == 0 {
		g.refilled = false
	} else {
		g.keep(all)
	}
	g.last = all
}

// tooMany reports whether these files, with the number of their objects, may not go.
func (g *removals) tooMany(files map[string]int, now time.Time) bool {
	g.gone = slices.DeleteFunc(g.gone, func(f goneFile) bool { return now.Sub(f.at) >= removalWindow })
	if len(files) == 0 {
		return false
	}
	if (g.refilled && g.last.severalFiles()) || len(g.held) > 0 {
		return true
	}
	lost, count := 0, len(files)
	for _, n := range files {
		lost += n
	}
	size := len(g.last.from)
	for _, f := range g.gone {
		lost, size, count = lost+f.objects, size+f.objects, count+1
	}
	return count > removalFiles && lost*100 > size*removalPercent
}

// severalFiles reports whether the objects come from more than one file: a
// single one is often written by being moved into place.
func (m *merged) severalFiles() bool {
	first := ""
	for _, at := range m.from {
		file := at[:strings.LastIndexByte(at, ':')]
		if first == "" {
			first = file
		}
		if file != first {
			return true
		}
	}
	return false
}

// keep adds the held objects to a reading.
func (g *removals) keep(all *merged) {
	total := len(all.from) + len(g.held)
	files := make(map[string]struct{})
	is := func(kind string, key discovery.Key) bool {
		object := discovery.ObjectName{Kind: kind, Key: key}.String()
		if _, held := g.held[object]; !held {
			return false
		}
		at := g.last.from[object]
		all.from[object] = at
		files[at[:strings.LastIndexByte(at, ':')]] = struct{}{}
		return true
	}
	old := g.last.Rows
	all.Rows = objects.Rows{
		Services:  append(slices.Clone(all.Services), kept(old.Services, func(r *discovery.Service) bool { return is(discovery.KindService, r.Key) })...),
		Endpoints: append(slices.Clone(all.Endpoints), kept(old.Endpoints, func(r *discovery.EndpointSet) bool { return is(discovery.KindEndpointSlice, r.Key) })...),
		Objects:   append(slices.Clone(all.Objects), kept(old.Objects, func(r *discovery.Object) bool { return is(r.Kind, r.Key) })...),
	}
	all.held = files
	all.problems = slices.Insert(all.problems, 0, Problem{Message: fmt.Sprintf(
		"%d of %d objects are gone at once, with %d files, and stay until %s, because the directory may be being filled: put the files back, or let the objects go now: causeway guard release --config",
		len(g.held), total, len(files), g.until.UTC().Format(time.RFC3339))})
}

func kept[R any](rows []R, is func(R) bool) []R {
	return slices.DeleteFunc(slices.Clone(rows), func(r R) bool { return !is(r) })
}

// isGone reports whether an error of reading the directory means that it is
// missing or empty, which is how filling it anew begins.
func isGone(err error) bool { return errors.Is(err, errEmpty) || errors.Is(err, fs.ErrNotExist) }

// Release sets free the objects that are held because too many were gone at
// once, and returns how many they are.
func (s *Source) Release() int {
	held := int(s.heldNow.Load()) // before they are free
	select {
	case s.release <- struct{}{}:
	default: // one is on its way
	}
	return held
}
