package outcome

import (
	"time"

	"github.com/causeway-mesh/causeway/discovery"
)

// tiers say how precisely the past of paths is kept: by how long a slot is and
// up to which age it is so. Paths are many, so it is less precise than that of their
// sum: the window of a verdict about them begins up to ten seconds later, and
// that of an hour a minute.
var tiers = [...]struct{ slot, age int64 }{{1, 40}, {10, 300}, {60, int64(kept / time.Second)}}

// slotNames is how many endpoints and callers of a path are kept for each slot.
// Those that matter are the commonest in all of them.
const slotNames = 4

// pathSeries is what was told of the paths of one Service, by time. With all
// groups busy and failing it takes less than 16 MiB, and commonly less than 3 (TestPathsAreBounded).
type pathSeries struct {
	// slots of each tier, in the order of time.
	slots [len(tiers)][]pathSlot
	// known are the paths that are kept apart, by the second in which they were seen last.
	known map[Path]int64
}

// pathSlot is what was told in the time that begins with a second of the Book's age.
type pathSlot struct {
	second int64
	parts  map[pathPart]*PathCounts
}

type pathPart struct {
	platform discovery.Platform
	Path
}

// admit returns the path by which one is counted: beyond the bound, that of all others.
func (s *pathSeries) admit(p Path, second int64) Path {
	if s.known == nil {
		s.known = make(map[Path]int64)
	}
	for _, candidate := range []Path{p, {Rule: p.Rule}} {
		if _, ok := s.known[candidate]; ok || len(s.known) < MaxPaths {
			s.known[candidate] = second
			return candidate
		}
	}
	return Path{}
}

// add counts what was told in a second.
func (s *pathSeries) add(second int64, platform discovery.Platform, p Path, c *PathCounts) {
	p = s.admit(p, second)
	s.compact(second)
	slotAt(&s.slots[0], second).add(pathPart{platform, p}, c)
}

func slotAt(slots *[]pathSlot, second int64) *pathSlot {
	if n := len(*slots); n == 0 || (*slots)[n-1].second != second {
		*slots = append(*slots, pathSlot{second: second, parts: make(map[pathPart]*PathCounts)})
	}
	return &(*slots)[len(*slots)-1]
}

func (s *pathSlot) add(part pathPart, c *PathCounts) {
	to := s.parts[part]
	if to == nil {
		to = &PathCounts{}
		s.parts[part] = to
	}
	to.Merge(c, slotNames)
}

// compact keeps what is older less precisely, and what is too old no more.
func (s *pathSeries) compact(now int64) {
	for tier := range tiers {
		slots := s.slots[tier]
		n := 0
		for n < len(slots) && slots[n].second < now-tiers[tier].age {
			if tier+1 < len(tiers) {
				begin := slots[n].second - slots[n].second%tiers[tier+1].slot
				to := slotAt(&s.slots[tier+1], begin)
				for part, c := range slots[n].parts {
					to.add(part, c)
				}
			}
			n++
		}
		if n > 0 {
			s.slots[tier] = append(slots[:0:0], slots[n:]...)
		}
	}
	for p, seen := range s.known {
		if seen < now-int64(kept/time.Second) {
			delete(s.known, p)
		}
	}
}

func (s *pathSeries) empty() bool {
	for _, slots := range s.slots {
		if len(slots) > 0 {
			return false
		}
	}
	return true
}

// sum adds up the slots that begin in a window, its end included.
func (s *pathSeries) sum(service discovery.Key, begin, end time.Duration, out map[PathKey]*PathCounts) {
	for _, slots := range s.slots {
		for i := range slots {
			if at := time.Duration(slots[i].second) * time.Second; at < begin || at > end {
				continue
			}
			for part, c := range slots[i].parts {
				key := PathKey{Service: service, Platform: part.platform, Path: part.Path}
				to := out[key]
				if to == nil {
					to = &PathCounts{}
					out[key] = to
				}
				to.Merge(c, MaxNames)
			}
		}
	}
}
