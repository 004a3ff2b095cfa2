package outcomes

import (
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/causeway-mesh/causeway/policy/outcome"
)

// seats decide which ids have counts of their own if there are too many ids: those with the most reports of late. If the
// first ids kept their seats, later ones would never be named, even if most failures were theirs.
type seats struct {
	// recent and waiting count the reports of ids with and without a seat. Both are halved every minute.
	recent, waiting map[string]uint64
	// least is no more than what anyone seated has.
	least  uint64
	minute time.Time
}

// seatsKey says what is counted by id: of a backing where the path is none, else of a group of paths.
type seatsKey struct {
	outcome.PathKey
	port uint16
	kind seatsKind
}

type seatsKind uint8

const (
	callers seatsKind = iota
	endpoints
	issuers
)

func seatsOf(kind seatsKind, key outcome.Key) seatsKey {
	return seatsKey{kind: kind, port: key.Port, PathKey: outcome.PathKey{Service: key.Service, Platform: key.Platform}}
}

// badWeight is how many good answers weigh as much as a bad one for a seat.
const badWeight = 50

func weightOf(bad bool) uint64 {
	if bad {
		return badWeight
	}
	return 1
}

// take reports whether an id has a seat, and which id has given it up to it, "" for
// none.
func (s *seats) take(id string, known bool, seated iter.Seq[string], most int, weight uint64, now time.Time) (sits bool, gone string) {
	if now.Sub(s.minute) >= time.Minute {
		s.minute, s.least = now, 0
		halve(s.recent)
		halve(s.waiting)
	}
	if known {
		s.recent[id] += weight
		return true, ""
	}
	n := s.waiting[id] + weight
	// A quarter more, or two that are alike would change places all the time.
	if n <= s.least+s.least/4 || !s.find(seated, n, &gone) {
		if _, waits := s.waiting[id]; !waits && len(s.waiting) >= most {
			clear(s.waiting)
		}
		s.waiting[id] = n
		return false, ""
	}
	s.recent[id] = n
	delete(s.waiting, id)
	delete(s.recent, gone)
	return true, gone
}

// find looks for the seated id with the fewest reports, if they are fewer than n by a
// quarter.
func (s *seats) find(seated iter.Seq[string], n uint64, gone *string) bool {
	least, found := uint64(0), ""
	for id := range seated {
		if r := s.recent[id]; found == "" || r < least || r == least && id < found {
			least, found = r, id
		}
	}
	s.least = least
	if found == "" || n <= least+least/4 {
		return false
	}
	*gone = found
	return true
}

func halve(counts map[string]uint64) {
	for id, n := range counts {
		if n /= 2; n == 0 {
			delete(counts, id)
		} else {
			counts[id] = n
		}
	}
}

// sits reports whether an id has counts of its own. An id that gives up its seat is not counted any
// more.
func sits[C any](b *batch, key seatsKey, counts map[string]C, id string, known bool, most int, weight uint64) bool {
	s := b.seatsFor(key, known || len(counts) < most)
	if s == nil {
		return true
	}
	ok, gone := s.take(id, known || len(counts) < most, maps.Keys(counts), most, weight, b.now)
	if gone != "" {
		delete(counts, gone)
	}
	return ok
}

// seatsFor returns who sits, nil while there has been room for all.
func (b *batch) seatsFor(key seatsKey, room bool) *seats {
	s := b.seats[key]
	if s == nil && !room {
		s = &seats{recent: make(map[string]uint64), waiting: make(map[string]uint64), minute: b.now}
		b.seats[key] = s
	}
	return s
}

// name counts a name n times.
func (b *batch) name(key seatsKey, names *outcome.Names, name string, n uint64) {
	_, known := names.Find(name)
	room := known || len(*names) < outcome.MaxNames
	if s := b.seatsFor(key, room); s != nil {
		ok, gone := s.take(name, room, func(yield func(string) bool) {
			for _, o := range *names {
				if !yield(o.Name) {
					return
				}
			}
		}, outcome.MaxNames, n, b.now)
		if !ok {
			return
		}
		if i, found := names.Find(gone); gone != "" && found {
			*names = slices.Delete(*names, i, i+1)
		}
	}
	names.Add(name, n, outcome.MaxNames)
}
