package ec2

import (
	"maps"
	"slices"
	"time"
)

// guardWindow is how long a removal counts against maxPercent.
const guardWindow = 5 * time.Minute

// guard is the never-empty guard of one InstanceGroup. It decides about
// endpoints that an answer of the EC2 API does not account for: the answer does
// not mention them, or they no longer match the selector. An instance that the
// answer calls gone never comes here. The zero value is a guard that has seen
// nothing.
//
// A guard is a value: apply returns the next one.
type guard struct {
	// removed are the times of removals that nobody confirmed, oldest first.
	removed []time.Time
	// held endpoints, by id, and since when.
	held map[string]time.Time
}

// answerEffect is what an answer would do to the endpoints of a group.
type answerEffect struct {
	// size is how many endpoints there are, accounted how many of them, new
	// ones included, are in the answer.
	size, accounted int
	// missing are the endpoints that it does not account for.
	missing []string
	// confirmed are those of missing that a second source also calls gone.
	confirmed map[string]string
	// released: endpoints that are held since then or longer may go.
	released time.Time
	// maxPercent of the endpoints may go without a second source.
	maxPercent int32
}

// allowed is how many of a group of this size may go within guardWindow.
func allowed(size int, maxPercent int32) int {
	return max(1, size*int(maxPercent)/100)
}

// apply returns the endpoints that must stay, sorted, and the guard for the
// next answer. Of the newly missing endpoints all stay or none: an answer that
// lacks too many is not to be trusted about any.
//
// A held endpoint stays until the answer mentions it again, a second source
// agrees, or it is released; later, smaller gaps do not set it free. The last
// endpoints of a group are held however few they are, unless maxPercent is 100.
func (g guard) apply(e *answerEffect, now time.Time) (held []string, next guard) {
	next = guard{held: make(map[string]time.Time)}
	for _, at := range g.removed {
		if now.Sub(at) < guardWindow {
			next.removed = append(next.removed, at)
		}
	}
	var fresh []string
	for _, id := range e.missing {
		if _, ok := e.confirmed[id]; ok {
			continue
		}
		since, ok := g.held[id]
		switch {
		case !ok:
			fresh = append(fresh, id)
		case since.After(e.released):
			next.held[id] = since
		}
	}
	gone := len(next.removed) + len(next.held) + len(fresh)
	empties := e.accounted == 0 && e.maxPercent < 100
	if len(fresh) > 0 && (empties || gone > allowed(e.size+len(next.removed), e.maxPercent)) {
		for _, id := range fresh {
			next.held[id] = now
		}
		fresh = nil
	}
	for range fresh {
		next.removed = append(next.removed, now)
	}
	return slices.Sorted(maps.Keys(next.held)), next
}
