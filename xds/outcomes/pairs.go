package outcomes

import (
	"hash/maphash"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/outcome"
)

// Bounds of answers that wait for the other one of their pair.
const (
	maxPending = 50_000
	maxWait    = time.Minute
)

// answer is one half of a pair.
type answer struct {
	mirror    bool
	platform  discovery.BackingName
	failed    bool
	class     uint8 // of the status: 2 for 200 to 299
	size      uint64
	latency   uint64
	since     time.Time
	ambiguous bool
}

// pending are answers that wait for the other one of their pair. If there are
// too many, the oldest are forgotten.
type pending struct {
	seed    maphash.Seed
	answers map[uint64]*answer
	// order of arrival, from head on. It still has answers that were paired
	// meanwhile.
	order []arrival
	head  int
}

type arrival struct {
	id    uint64
	since time.Time
}

func newPending() *pending {
	return &pending{seed: maphash.MakeSeed(), answers: make(map[uint64]*answer)}
}

// pairID is what a request and its copy have in common.
type pairID struct {
	node, requestID string
	method          int32
	outcome.Key
}

// meet returns the answer that waits for this one, or keeps this one waiting. Two
// answers of the same kind with the same id come from requests to which their caller
// gave the same id: nobody can tell which copy belongs to which, so none is
// compared.
func (p *pending) meet(id pairID, a *answer) (*answer, bool) {
	p.expire(a.since)
	h := maphash.Comparable(p.seed, id)
	other := p.answers[h]
	switch {
	case other == nil:
		p.answers[h] = a
		p.order = append(p.order, arrival{h, a.since})
		for len(p.order)-p.head > maxPending {
			p.drop()
		}
		return nil, false
	case other.ambiguous || other.mirror == a.mirror:
		other.ambiguous = true
		return nil, false
	}
	delete(p.answers, h)
	return other, true
}

// expire forgets what has waited for too long, and old arrivals that were paired.
func (p *pending) expire(now time.Time) {
	for p.head < len(p.order) {
		oldest := p.order[p.head]
		if a := p.answers[oldest.id]; a != nil && a.since.Equal(oldest.since) && now.Sub(oldest.since) <= maxWait {
			return
		}
		p.drop()
	}
}

// drop forgets the oldest arrival.
func (p *pending) drop() {
	oldest := p.order[p.head]
	if a := p.answers[oldest.id]; a != nil && a.since.Equal(oldest.since) {
		delete(p.answers, oldest.id)
	}
	p.head++
	if p.head > len(p.order)/2 {
		p.order = append(p.order[:0], p.order[p.head:]...)
		p.head = 0
	}
}

// compare counts a pair.
func compare(to *outcome.Pairs, a, b *answer) {
	caller, mirror := a, b
	if caller.mirror {
		caller, mirror = b, a
	}
	to.Compared++
	if caller.class != mirror.class {
		to.StatusDiffers++
	}
	if differ(caller.size, mirror.size) {
		to.SizeDiffers++
	}
	if mirror.failed && !caller.failed {
		to.MirrorFailed++
	}
	to.Answer.Add(caller.latency, 1)
	to.Mirror.Add(mirror.latency, 1)
}

// differ reports whether sizes differ by more than a tenth of the caller's and 64 bytes.
func differ(caller, mirror uint64) bool {
	d := max(caller, mirror) - min(caller, mirror)
	return d > 64 && d > caller/10
}
