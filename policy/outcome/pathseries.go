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
	// known are the paths that are kept apart, and waiting others that may be busier.
	known   map[Path]*pathRank
	waiting map[Path]uint64
	// minute is when ranks were last halved, and swaps how many paths have given way since.
	minute int64
	swaps  int
}

// pathRank is when a path was seen last, and how much it matters of late.
type pathRank struct {
	seen int64
	rank uint64
}

const (
	// maxSwaps is how many paths give way to busier ones within a minute.
	maxSwaps = 8
	// rankHalves is after how many seconds what was before counts half.
	rankHalves = 60
)

// pathSlot is what was told in the time that begins with a second of the Book's age.
type pathSlot struct {
	second int64
	parts  map[pathPart]*PathCounts
}

type pathPart struct {
	platform discovery.BackingName
	Path
}

// admit returns the path under which a path is counted: beyond the bound it is the one for all others. Paths are
// kept apart by their number of requests, where a failure counts as many, and not by who came first: somebody who
// tries a thousand paths must not keep out the path that has the traffic afterwards.
func (s *pathSeries) admit(p Path, second int64, weight uint64) Path {
	if s.known == nil {
		s.known, s.waiting = make(map[Path]*pathRank), make(map[Path]uint64)
	}
	if second-s.minute >= rankHalves {
		s.pass(second)
	}
	for _, candidate := range []Path{p, {Rule: p.Rule}} {
		r := s.known[candidate]
		if r == nil && candidate == p && len(s.known) >= MaxPaths {
			r = s.swap(p, weight)
		}
		if r == nil && len(s.known) < MaxPaths {
			r = &pathRank{}
			s.known[candidate] = r
		}
		if r != nil {
			r.seen, r.rank = second, plus(r.rank, weight)
			return candidate
		}
	}
	return Path{}
}

func (s *pathSeries) pass(second int64) {
	s.minute, s.swaps = second, 0
	for _, r := range s.known {
		r.rank /= 2
	}
	for p, n := range s.waiting {
		if n /= 2; n == 0 {
			delete(s.waiting, p)
		} else {
			s.waiting[p] = n
		}
	}
}

// swap gives a path the place of the one that matters least, nil if that one matters more. The counts of the removed path
// go to all others.
func (s *pathSeries) swap(p Path, weight uint64) *pathRank {
	n := plus(s.waiting[p], weight)
	var least Path
	var found *pathRank
	for path, r := range s.known {
		if found == nil || r.rank < found.rank || r.rank == found.rank && (path.Rule < least.Rule || path.Rule == least.Rule && path.Group < least.Group) {
			least, found = path, r
		}
	}
	// A quarter more, or two that are alike would change places all the time.
	if s.swaps >= maxSwaps || n <= found.rank+found.rank/4 {
		if _, waits := s.waiting[p]; !waits && len(s.waiting) >= MaxPaths {
			clear(s.waiting)
		}
		s.waiting[p] = n
		return nil
	}
	s.swaps++
	delete(s.waiting, p)
	delete(s.known, least)
	into := Path{Rule: least.Rule}
	if s.known[into] == nil || into == least {
		into = Path{}
	}
	for _, slots := range s.slots {
		for i := range slots {
			for from, c := range slots[i].parts {
				if from.Path == least && into != least {
					delete(slots[i].parts, from)
					slots[i].add(pathPart{from.platform, into}, c)
				}
			}
		}
	}
	r := &pathRank{rank: n - weight}
	s.known[p] = r
	return r
}

// add counts what was told in a second.
func (s *pathSeries) add(second int64, platform discovery.BackingName, p Path, c *PathCounts) {
	p = s.admit(p, second, plus(c.Requests, badWeight*min(c.Failures, c.Requests)))
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

// compact merges older counts into longer slots, and drops those that are too
// old.
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
	for p, r := range s.known {
		if r.seen < now-int64(kept/time.Second) {
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
