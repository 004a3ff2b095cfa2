package outcome

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
)

// seriesTiers are the precision of older counts, as tiers are for paths: by the second for the guard's default
// window and a little more, then by ten seconds, then by the minute up to the longest window. A port whose
// backings have 30 endpoints and 30 callers each takes less than 5 MiB in an hour, and with any number of them
// less than 20 (TestSeriesIsBounded).
var seriesTiers = [...]struct{ slot, age int64 }{{1, 150}, {10, 900}, {60, int64(kept / time.Second)}}

const kept = time.Hour + 10*time.Second

// series is what was told of one Service, by time.
type series struct {
	// slots of each tier, in the order of time.
	slots [len(seriesTiers)][]slot
	paths pathSeries
	// spent is the sum since the Book began.
	spent Spent
}

// slot is what was told in the time that begins with a second of the Book's age.
type slot struct {
	second int64
	parts  []*part
}

// part is what was told of one backing of a port.
type part struct {
	port     uint16
	platform discovery.BackingName
	counts   Counts // without Endpoints
	// endpoints and callers sorted by id.
	endpoints ids[EndpointCounts]
	callers   ids[CallerCounts]
	pairs     Pairs
	load      uint64
	issuers   Names
}

// part returns the one of the newest slot that something is added to.
func (s *series) part(second int64, port uint16, platform discovery.BackingName) *part {
	if newest := s.slots[0]; len(newest) > 0 && newest[len(newest)-1].second != second {
		for _, p := range newest[len(newest)-1].parts {
			p.trim()
		}
		s.compact(second)
	}
	return seriesSlot(&s.slots[0], second).part(port, platform)
}

// seriesSlot returns the last slot, which begins with a second.
func seriesSlot(slots *[]slot, second int64) *slot {
	if n := len(*slots); n == 0 || (*slots)[n-1].second != second {
		*slots = append(*slots, slot{second: second})
	}
	return &(*slots)[len(*slots)-1]
}

func (s *slot) part(port uint16, platform discovery.BackingName) *part {
	for _, p := range s.parts {
		if p.port == port && p.platform == platform {
			return p
		}
	}
	p := &part{port: port, platform: platform}
	s.parts = append(s.parts, p)
	return p
}

// compact merges older counts into longer slots, and drops those that are too
// old.
func (s *series) compact(now int64) {
	for tier, t := range seriesTiers {
		n := 0
		for n < len(s.slots[tier]) && s.slots[tier][n].second < now-t.age {
			if tier+1 < len(seriesTiers) {
				from := s.slots[tier][n]
				to := seriesSlot(&s.slots[tier+1], from.second-from.second%seriesTiers[tier+1].slot)
				for _, p := range from.parts {
					sum := to.part(p.port, p.platform)
					sum.merge(p)
					sum.trim()
				}
			}
			n++
		}
		s.slots[tier] = slices.Delete(s.slots[tier], 0, n)
	}
	s.paths.compact(now)
}

func (s *series) empty() bool {
	for _, slots := range s.slots {
		if len(slots) > 0 {
			return false
		}
	}
	return s.paths.empty()
}

// sum adds up the slots that begin in a window, its end included.
func (s *series) sum(service discovery.Key, begin, end time.Duration, out *Totals, t *tally) {
	byKey := make(map[Key][]*part)
	for _, slots := range s.slots {
		i, _ := slices.BinarySearchFunc(slots, begin, func(s slot, begin time.Duration) int {
			return cmp.Compare(time.Duration(s.second)*time.Second, begin)
		})
		for _, slot := range slots[i:] {
			if time.Duration(slot.second)*time.Second > end {
				break
			}
			for _, p := range slot.parts {
				key := Key{Service: service, Port: p.port, Platform: p.platform}
				byKey[key] = append(byKey[key], p)
			}
		}
	}
	for key, parts := range byKey {
		all := &part{}
		for _, p := range parts {
			all.counts.addScalars(&p.counts)
			all.endpoints = all.endpoints.with(p.endpoints)
			all.callers = all.callers.with(p.callers)
			all.pairs.addScalars(&p.pairs)
			all.load, all.issuers = plus(all.load, p.load), all.issuers.merge(p.issuers, MaxNames)
		}
		counts, pairs := &all.counts, &all.pairs
		counts.Endpoints, counts.Callers = all.endpoints.byID(), all.callers.byID()
		counts.Latency = t.sum(parts, func(p *part) *Histogram { return &p.counts.Latency })
		if counts.Meant() > 0 {
			out.Outcomes[key] = counts
		}
		if pairs.Compared > 0 {
			pairs.Answer = t.sum(parts, func(p *part) *Histogram { return &p.pairs.Answer })
			pairs.Mirror = t.sum(parts, func(p *part) *Histogram { return &p.pairs.Mirror })
			out.Pairs[key] = pairs
		}
		if all.load > 0 {
			out.Load[key], out.Issuers[key] = all.load, all.issuers
		}
	}
}

// tally adds up many histograms.
type tally []uint64

func (t *tally) sum(parts []*part, of func(*part) *Histogram) Histogram {
	if *t == nil {
		*t = make(tally, int(bucketOf(math.MaxUint64))+1)
	}
	n := 0
	for _, p := range parts {
		for _, b := range of(p).Buckets {
			if (*t)[b.Index] == 0 {
				n++
			}
			(*t)[b.Index] = plus((*t)[b.Index], b.Count)
		}
	}
	if n == 0 {
		return Histogram{}
	}
	out := make([]Bucket, 0, n)
	for i, count := range *t {
		if count > 0 {
			out = append(out, Bucket{uint16(i), count})
			(*t)[i] = 0
		}
	}
	return Histogram{out}
}

// addCounts adds what was counted since before; nil is nothing.
func (p *part) addCounts(now, before *Counts, t texts) {
	if before == nil || restarted(now, before) {
		before = &Counts{}
	}
	d := Counts{
		Requests: since(now.Requests, before.Requests), Abandoned: since(now.Abandoned, before.Abandoned),
		FailedOver: since(now.FailedOver, before.FailedOver), FailedOverFailures: since(now.FailedOverFailures, before.FailedOverFailures),
		Latency: now.Latency.Clone(), Codes: now.Codes.Since(before.Codes),
	}
	for i := range d.Failures {
		d.Failures[i] = since(now.Failures[i], before.Failures[i])
	}
	d.Latency.Sub(before.Latency)
	p.counts.addScalars(&d)
	p.counts.Latency.Merge(d.Latency)
	p.endpoints = p.endpoints.with(grown(now.Endpoints, before.Endpoints, t))
	p.callers = p.callers.with(grown(now.Callers, before.Callers, t))
}

// addPairs adds what was compared since before; nil is nothing.
func (p *part) addPairs(now, before *Pairs) {
	if before == nil || now.Compared < before.Compared {
		before = &Pairs{}
	}
	d := Pairs{
		Compared: since(now.Compared, before.Compared), StatusDiffers: since(now.StatusDiffers, before.StatusDiffers),
		SizeDiffers: since(now.SizeDiffers, before.SizeDiffers), MirrorFailed: since(now.MirrorFailed, before.MirrorFailed),
		Answer: now.Answer.Clone(), Mirror: now.Mirror.Clone(),
	}
	d.Answer.Sub(before.Answer)
	d.Mirror.Sub(before.Mirror)
	p.pairs.merge(&d)
}

func (p *part) merge(other *part) {
	p.counts.addScalars(&other.counts)
	p.counts.Latency.Merge(other.counts.Latency)
	p.endpoints, p.callers = p.endpoints.with(other.endpoints), p.callers.with(other.callers)
	p.pairs.merge(&other.pairs)
	p.load, p.issuers = plus(p.load, other.load), p.issuers.merge(other.issuers, slotNames)
}

// restarted reports whether counts began anew.
func restarted(now, before *Counts) bool {
	return now.Requests < before.Requests || now.Abandoned < before.Abandoned || now.FailedOver < before.FailedOver
}

// since returns by how much a count has grown. A lower one began anew.
func since(now, before uint64) uint64 {
	if now < before {
		return now
	}
	return now - before
}

// plus adds; a sum that is too large stays at the largest number.
func plus(a, b uint64) uint64 {
	if sum := a + b; sum >= a {
		return sum
	}
	return math.MaxUint64
}

func (c *Counts) merge(other *Counts) {
	c.addScalars(other)
	c.Latency.Merge(other.Latency)
	mergeIDs(&c.Endpoints, other.Endpoints)
	mergeIDs(&c.Callers, other.Callers)
}

func (c *Counts) addScalars(other *Counts) {
	c.Requests, c.Abandoned = plus(c.Requests, other.Requests), plus(c.Abandoned, other.Abandoned)
	c.FailedOver, c.FailedOverFailures = plus(c.FailedOver, other.FailedOver), plus(c.FailedOverFailures, other.FailedOverFailures)
	for i := range c.Failures {
		c.Failures[i] = plus(c.Failures[i], other.Failures[i])
	}
	c.Codes.Merge(other.Codes)
}

func (p *Pairs) merge(other *Pairs) {
	p.addScalars(other)
	p.Answer.Merge(other.Answer)
	p.Mirror.Merge(other.Mirror)
}

func (p *Pairs) addScalars(other *Pairs) {
	p.Compared, p.StatusDiffers = plus(p.Compared, other.Compared), plus(p.StatusDiffers, other.StatusDiffers)
	p.SizeDiffers, p.MirrorFailed = plus(p.SizeDiffers, other.SizeDiffers), plus(p.MirrorFailed, other.MirrorFailed)
}
