package outcome

import (
	"maps"
	"slices"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
)

const (
	// missingAfter is after how long without a word a reporter is missing.
	missingAfter = 5 * time.Second
	// sweepEvery is how often what nobody reports any more is looked for.
	sweepEvery = time.Minute
	// maxSilent is how many silent proxies are named.
	maxSilent = 5
)

// Report has the counts of a reporter, and the state of its proxies.
type Report struct {
	Totals
	// Proxies is how many are connected to it.
	Proxies int
	// Silent names, by Service, some of the proxies whose load reports count
	// requests without outcomes.
	Silent map[discovery.Key][]string
	// Open is how many requests are under way now at a backing, by the proxies' last load reports
	// (Envoy: LRS, total_requests_in_progress): websockets and streams as long as they last. Of TCP: connections.
	Open map[Key]uint64
}

// Message is how a reporter tells its report.
type Message struct {
	// Session is the life of the reporter, in which its counts only grow. A
	// later session has a greater number.
	Session uint64
	// Sequence grows with every message of a session.
	Sequence uint64
	// Age is for how long the session has counted.
	Age time.Duration
	// Full is true if what is not in Totals is not counted any more. Else it has
	// not changed.
	Full bool
	Report
}

// Book keeps by time what reporters have counted, for a leader. It has no lock;
// its clock is the time that its methods are given, and where that goes back the
// Book's own stands still.
//
// What is told is noted at the time at which it is told, because only the Book's
// own clock can be trusted. After silence that is later than it happened, which
// is why nothing up to then counts as covered.
type Book struct {
	// origin is when the Book began, and elapsed its age when it was last told
	// anything. All times in the Book are ages of it.
	origin  time.Time
	elapsed time.Duration
	// since is from when on there is no gap in what was told.
	since     time.Duration
	reporters map[string]*reporter
	services  map[discovery.Key]*series
	swept     time.Duration
	scratch   tally
	texts     texts
}

// reporter is what is known of one that reports.
type reporter struct {
	session, sequence uint64
	// told is false before the session's first message.
	told bool
	// heard is when it last told anything, or when it was first expected to, and
	// until is up to when its session has told everything.
	heard, until time.Duration
	// gone ones are remembered because they may come back in the same session.
	gone bool
	last Report
}

// NewBook returns a book that begins now.
func NewBook(now time.Time) *Book {
	return &Book{origin: now, reporters: make(map[string]*reporter), services: make(map[discovery.Key]*series), texts: make(texts)}
}

// tick moves the clock on.
func (b *Book) tick(now time.Time) {
	age := now.Sub(b.origin)
	if age < b.elapsed {
		b.origin = now.Add(-b.elapsed) // the clock was set back
		return
	}
	b.elapsed = age
	if age-b.swept >= sweepEvery {
		b.sweep()
	}
}

// second is the one in which what is told now is noted.
func (b *Book) second() int64 { return int64(b.elapsed / time.Second) }

// gap notes that something up to now was not told, or is told only now.
func (b *Book) gap() {
	// The second that is under way has it.
	b.since = b.elapsed.Truncate(time.Second) + time.Second
}

// Expect says that there is a reporter. Until it has reported, and whenever it
// does not, it is missing.
func (b *Book) Expect(name string, now time.Time) {
	b.tick(now)
	r := b.reporters[name]
	switch {
	case r == nil:
		r = &reporter{heard: b.elapsed}
		if b.elapsed == 0 {
			// It was there before the Book and has counts to begin from.
			r.heard = -missingAfter - 1
		}
		b.reporters[name] = r
	case r.gone:
		r.gone, r.heard = false, b.elapsed
	}
}

// Gone notes that a reporter is gone. Its counts stay.
func (b *Book) Gone(name string, now time.Time) {
	b.tick(now)
	if r := b.reporters[name]; r != nil && !r.gone {
		if b.missing(r) {
			b.gap() // what it had counted since it was last heard of is lost
		}
		r.gone, r.last.Proxies, r.last.Silent, r.last.Open = true, 0, nil, nil
	}
}

// Heard says that a reporter has nothing new to tell.
func (b *Book) Heard(name string, now time.Time) {
	b.tick(now)
	if r := b.reporters[name]; r != nil && r.told && !r.gone {
		b.hear(r)
	}
}

func (b *Book) hear(r *reporter) {
	if b.missing(r) || b.elapsed-r.until > missingAfter {
		b.gap()
	}
	r.heard, r.until = b.elapsed, b.elapsed
}

func (b *Book) missing(r *reporter) bool { return !r.gone && b.elapsed-r.heard > missingAfter }

// Add adds the counts of a reporter since its last message. Messages of older
// sessions, repeated and late ones change nothing. The Book keeps the message's
// report: it must not change afterwards.
//
// Counts of a session from before the Book began, or from before another session
// of the same reporter ended, were counted by somebody else or not at all. So
// the first message of a session only sets the base for the next ones.
func (b *Book) Add(name string, m *Message, now time.Time) {
	b.Expect(name, now)
	r := b.reporters[name]
	if m.Session < r.session || m.Session == r.session && r.told && m.Sequence <= r.sequence {
		return
	}
	count := true
	if m.Session != r.session || !r.told {
		before := time.Duration(0)
		if r.told {
			before = r.until
		}
		count = m.Age < b.elapsed-before
		if !count || m.Age > missingAfter {
			b.gap()
		}
		r.last, r.until = Report{}, b.elapsed
	}
	b.hear(r)
	r.session, r.sequence, r.told = m.Session, m.Sequence, true
	if r.last.Outcomes == nil {
		r.last.Totals = NewTotals()
	}
	for key, c := range m.Outcomes {
		if count && c.Changed(r.last.Outcomes[key]) {
			b.note(key, func(p *part) { p.addCounts(c, r.last.Outcomes[key], b.texts) })
			b.spend(key.Service, c, r.last.Outcomes[key])
		}
		r.last.Outcomes[key] = c
	}
	for key, p := range m.Pairs {
		if count && p.Changed(r.last.Pairs[key]) {
			b.note(key, func(to *part) { to.addPairs(p, r.last.Pairs[key]) })
		}
		r.last.Pairs[key] = p
	}
	for key, n := range m.Load {
		if count && n != r.last.Load[key] {
			b.note(key, func(p *part) {
				p.load = plus(p.load, since(n, r.last.Load[key]))
				p.issuers = p.issuers.merge(m.Issuers[key].since(r.last.Issuers[key]), slotNames)
			})
		}
		r.last.Load[key], r.last.Issuers[key] = n, m.Issuers[key]
	}
	for key, c := range m.Paths {
		if before := r.last.Paths[key]; count && c.Changed(before) {
			s := b.series(key.Service)
			s.paths.add(b.second(), key.Platform, key.Path, c.since(before))
		}
		r.last.Paths[key] = c
	}
	if m.Full {
		forget(r.last.Paths, m.Paths)
		forget(r.last.Outcomes, m.Outcomes)
		forget(r.last.Pairs, m.Pairs)
		forget(r.last.Load, m.Load)
		forget(r.last.Issuers, m.Load)
	}
	r.last.Proxies, r.last.Silent, r.last.Open = m.Proxies, m.Silent, m.Open
}

// forget deletes what is not there any more.
func forget[K comparable, V, W any](from map[K]V, there map[K]W) {
	maps.DeleteFunc(from, func(k K, _ V) bool {
		_, ok := there[k]
		return !ok
	})
}

func (b *Book) series(service discovery.Key) *series {
	s := b.services[service]
	if s == nil {
		s = &series{}
		b.services[service] = s
	}
	return s
}

func (b *Book) note(key Key, add func(*part)) {
	s := b.series(key.Service)
	add(s.part(b.second(), key.Port, key.Platform))
}

func (b *Book) spend(service discovery.Key, now, before *Counts) {
	s := b.services[service]
	if before == nil || restarted(now, before) {
		before = &Counts{}
	}
	s.spent.Requests = plus(s.spent.Requests, since(now.Requests, before.Requests)+since(now.FailedOver, before.FailedOver))
	s.spent.Failed = plus(s.spent.Failed, since(now.Failed(), before.Failed())+since(now.FailedOverFailures, before.FailedOverFailures))
	s.spent.Codes.Merge(now.Codes.Since(before.Codes))
}

// sweep forgets what is older than any window, and Services and reporters that
// are no more.
func (b *Book) sweep() {
	b.swept = b.elapsed
	named := make(map[discovery.Key]bool)
	for name, r := range b.reporters {
		if r.gone && b.elapsed-r.heard > kept {
			delete(b.reporters, name)
			continue
		}
		for key := range r.last.Outcomes {
			named[key.Service] = true
		}
	}
	for service, s := range b.services {
		s.compact(b.second())
		if s.empty() && !named[service] {
			delete(b.services, service)
		}
	}
}

// Spent is how many requests to a Service have ended, on both sides together, how
// many of them failed, and with which codes: what an error budget is charged with.
type Spent struct {
	Requests, Failed uint64
	Codes            Codes
}

// Spent returns what has been spent since the Book began. It only grows, until
// nobody has reported of the Service for an hour.
func (b *Book) Spent(service discovery.Key) Spent {
	if s := b.services[service]; s != nil {
		out := s.spent
		out.Codes = slices.Clone(out.Codes)
		return out
	}
	return Spent{}
}

// Window is what was told of a Service in a window of time.
type Window struct {
	// Totals of the window, by port and platform.
	Totals
	// Covered is for how long, up to the end of the window, nothing is missing in
	// it; at most its length.
	Covered time.Duration
	// Proxies is how many proxies are connected to any reporter; Silent names, sorted, at most five
	// of those whose load reports count requests of which the outcomes do not arrive.
	Proxies int
	Silent  []string
	// Missing names, sorted, the reporters that have told nothing for five seconds.
	Missing []string
	// Open is how many requests are under way at the end of the window, by platform.
	Open map[discovery.BackingName]uint64
}

// Window returns what was told of a Service from one time to another, both within
// the last hour. It begins with a full second, and further back than 150 seconds
// with a full ten, than 15 minutes with a full minute: never earlier than it should.
func (b *Book) Window(service discovery.Key, from, to time.Time) Window {
	begin, end := from.Sub(b.origin), to.Sub(b.origin)
	w := Window{Totals: NewTotals()}
	if s := b.services[service]; s != nil {
		s.sum(service, begin, end, &w.Totals, &b.scratch)
		s.paths.sum(service, begin, end, w.Totals.Paths)
	}
	for _, name := range slices.Sorted(maps.Keys(b.reporters)) {
		r := b.reporters[name]
		if r.gone {
			continue
		}
		w.Proxies += r.last.Proxies
		w.Silent = append(w.Silent, r.last.Silent[service]...)
		for key, n := range r.last.Open {
			if key.Service == service {
				if w.Open == nil {
					w.Open = make(map[discovery.BackingName]uint64)
				}
				w.Open[key.Platform] += n
			}
		}
		if max(end, b.elapsed)-r.heard > missingAfter {
			w.Missing = append(w.Missing, name)
		}
	}
	slices.Sort(w.Silent)
	w.Silent = slices.Compact(w.Silent)
	w.Silent = w.Silent[:min(len(w.Silent), maxSilent)]
	if len(w.Missing) == 0 {
		w.Covered = max(end-max(b.since, begin), 0)
	}
	return w
}

// Counts returns what callers got of a backing, all ports together.
func (w *Window) Counts(p discovery.BackingName) Counts {
	var out Counts
	for key, c := range w.Outcomes {
		if key.Platform == p {
			out.merge(c)
		}
	}
	return out
}

// PathsOf returns how the requests of single groups of paths to a backing ended.
func (w *Window) PathsOf(p discovery.BackingName) map[Path]*PathCounts {
	out := make(map[Path]*PathCounts)
	for key, c := range w.Paths {
		if key.Platform == p {
			out[key.Path] = c
		}
	}
	return out
}

// Issued returns the requests to a backing by load reports, all ports together.
func (w *Window) Issued(p discovery.BackingName) uint64 {
	n := uint64(0)
	for key, issued := range w.Load {
		if key.Platform == p {
			n = plus(n, issued)
		}
	}
	return n
}

// IssuersOf returns the part of single proxies in the requests to a backing by load reports, all ports together.
func (w *Window) IssuersOf(p discovery.BackingName) Names {
	var out Names
	for key, names := range w.Totals.Issuers {
		if key.Platform == p {
			out = out.Sum(names)
		}
	}
	return out
}

// Mirrored compares the answers of a backing to mirrored requests with those
// that callers got, all ports together; nil if none was mirrored to it.
func (w *Window) Mirrored(p discovery.BackingName) *Pairs {
	var out *Pairs
	for key, pairs := range w.Pairs {
		if key.Platform != p {
			continue
		}
		if out == nil {
			out = &Pairs{}
		}
		out.merge(pairs)
	}
	return out
}
