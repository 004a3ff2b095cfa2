package outcome

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
)

var (
	php = discovery.Key{Namespace: "web", Name: "php-web"}
	api = discovery.Key{Namespace: "web", Name: "api"}
)

func podsOf(service discovery.Key) Key {
	return Key{Service: service, Port: 80, Platform: discovery.Pods}
}

// at is a moment of the tests' clock, in seconds, without a monotonic reading.
func at(seconds float64) time.Time {
	return time.Unix(1_800_000_000, 0).Add(time.Duration(seconds * float64(time.Second)))
}

// counted returns a report of requests to the pods of php-web, failures among them.
func counted(requests, failed uint64) Report {
	c := &Counts{Requests: requests, Endpoints: map[string]EndpointCounts{"pod-1": {requests, failed}}}
	c.Failures[ServerError] = failed
	c.Latency.Add(1000, requests)
	return Report{
		Totals: Totals{
			Outcomes: map[Key]*Counts{podsOf(php): c}, Load: map[Key]uint64{podsOf(php): requests},
			Pairs: map[Key]*Pairs{podsOf(php): {Compared: requests}},
		},
		Proxies: 3,
	}
}

// teller tells a Book about one reporter.
type teller struct {
	book              *Book
	name              string
	session, sequence uint64
	began             float64
}

func (t *teller) tells(seconds float64, requests, failed uint64) {
	t.sequence++
	t.book.Add(t.name, &Message{
		Session: t.session, Sequence: t.sequence, Full: true, Report: counted(requests, failed),
		Age: time.Duration((seconds - t.began) * float64(time.Second)),
	}, at(seconds))
}

func (t *teller) restarts(seconds float64) { t.session, t.sequence, t.began = t.session+1, 0, seconds }

func requests(b *Book, from, to float64) uint64 {
	w := b.Window(php, at(from), at(to))
	c := w.Counts(discovery.Pods)
	return c.Requests
}

func covered(b *Book, from, to float64) float64 {
	return b.Window(php, at(from), at(to)).Covered.Seconds()
}

// What was counted before the Book began is not a burst within its first window.
func TestFirstMessageIsBaseline(t *testing.T) {
	t.Parallel()
	b := NewBook(at(0))
	b.Expect("a", at(0))
	require.Zero(t, covered(b, -10, 4), "a was there before and has not been heard of")
	a := &teller{book: b, name: "a", session: 1, began: -1000}
	a.tells(4.5, 1_000_000, 5000)
	require.Zero(t, requests(b, -100, 5))
	a.tells(5.5, 1_000_010, 5001)
	require.EqualValues(t, 10, requests(b, -100, 6))
	require.InDelta(t, 1, covered(b, -100, 6), .01)
	require.Equal(t, Spent{Requests: 10, Failed: 1}, b.Spent(php))
	w := b.Window(php, at(0), at(6))
	require.EqualValues(t, 10, w.Issued(discovery.Pods))
	require.EqualValues(t, 10, w.Mirrored(discovery.Pods).Compared)
	require.Nil(t, w.Mirrored(discovery.Instances))
	c := w.Counts(discovery.Pods)
	require.Equal(t, EndpointCounts{10, 1}, c.Endpoints["pod-1"])
	require.EqualValues(t, 10, c.Latency.Total())
	require.Equal(t, 3, w.Proxies)
}

// A reporter that began after the Book is counted from its beginning, and so is
// its next life; a life that is over changes nothing any more.
func TestRestartedReporter(t *testing.T) {
	t.Parallel()
	b := NewBook(at(0))
	a := &teller{book: b, name: "a", session: 1, began: 10}
	a.tells(12, 100, 0)
	require.EqualValues(t, 100, requests(b, 0, 12))
	require.InDelta(t, 12, covered(b, 0, 12), .01, "nothing was missed")
	old := *a
	a.restarts(13)
	a.tells(14, 30, 0)
	require.EqualValues(t, 130, requests(b, 0, 14))
	require.InDelta(t, 14, covered(b, 0, 14), .01)
	old.tells(15, 500, 0)
	require.EqualValues(t, 130, requests(b, 0, 15))
	a.tells(16, 20, 0)
	require.EqualValues(t, 150, requests(b, 0, 16), "its counts are lower: it began anew")
	// A life that began before the last one was heard of is not counted twice.
	a.restarts(0)
	a.tells(17, 700, 0)
	require.EqualValues(t, 150, requests(b, 0, 17))
	require.Zero(t, covered(b, 0, 17))
}

// Duplicates and what comes late change nothing.
func TestLateMessages(t *testing.T) {
	t.Parallel()
	b := NewBook(at(0))
	a := &teller{book: b, name: "a", session: 1, began: 1}
	a.tells(2, 10, 0)
	late := *a
	a.tells(3, 20, 0)
	a.tells(4, 30, 0)
	late.tells(5, 20, 0)
	late.tells(5, 30, 0)
	require.EqualValues(t, 30, requests(b, 0, 5))
	a.tells(6, 31, 0)
	require.EqualValues(t, 31, requests(b, 0, 6))
}

// What a reporter does not count any more begins anew when it does again, even
// where it then counts more than before; what it only does not mention goes on.
func TestForgottenCounts(t *testing.T) {
	t.Parallel()
	b := NewBook(at(0))
	a := &teller{book: b, name: "a", session: 1, began: 1}
	a.tells(2, 10, 0)
	b.Add("a", &Message{Session: 1, Sequence: 2}, at(3))
	a.sequence = 2
	a.tells(4, 15, 0)
	require.EqualValues(t, 15, requests(b, 0, 4))
	b.Add("a", &Message{Session: 1, Sequence: 4, Full: true}, at(5))
	a.sequence = 4
	a.tells(6, 20, 0)
	require.EqualValues(t, 35, requests(b, 0, 6))
	w := b.Window(php, at(0), at(6))
	require.EqualValues(t, 35, w.Issued(discovery.Pods))
	require.EqualValues(t, 35, w.Mirrored(discovery.Pods).Compared)
}

// While a reporter is silent nothing is covered, and afterwards only what comes
// then; what it counted meanwhile is not lost.
func TestMissingReporter(t *testing.T) {
	t.Parallel()
	b := NewBook(at(0))
	a := &teller{book: b, name: "a", session: 1, began: 1}
	c := &teller{book: b, name: "c", session: 1, began: 1}
	for s := 2.; s < 10; s++ {
		a.tells(s, uint64(s), 0)
		c.tells(s, uint64(s), 0)
	}
	for s := 10.; s < 20; s++ {
		a.tells(s, uint64(s), 0)
		w := b.Window(php, at(0), at(s))
		if s > 14 {
			require.Equal(t, []string{"c"}, w.Missing)
			require.Zero(t, w.Covered)
		} else {
			require.Empty(t, w.Missing)
			require.InDelta(t, s, w.Covered.Seconds(), .01)
		}
	}
	c.tells(20, 20, 0)
	require.Zero(t, covered(b, 0, 20))
	require.EqualValues(t, 39, requests(b, 0, 20))
	a.tells(22, 22, 0)
	c.tells(22, 22, 0)
	require.InDelta(t, 1, covered(b, 0, 22), .01)
	require.EqualValues(t, 5, requests(b, 21, 22), "the burst is not within what is covered")

	b.Heard("c", at(26))
	a.tells(26, 23, 0)
	require.InDelta(t, 5, covered(b, 0, 26), .01)
	b.Gone("c", at(27))
	require.InDelta(t, 6, covered(b, 0, 27), .01, "it said all before it went")
	a.tells(28, 24, 0)
	require.Empty(t, b.Window(php, at(0), at(28)).Missing)
	require.Equal(t, 3, b.Window(php, at(0), at(28)).Proxies, "its proxies went with it")

	// It comes back in the same life: what it has counted is still known.
	b.Expect("c", at(29))
	a.tells(29, 24, 0)
	c.tells(30, 26, 0)
	require.EqualValues(t, 24+26, requests(b, 0, 30), "each counted once")

	// It dies in silence: what it had counted since is lost.
	a.tells(37, 25, 0)
	b.Gone("c", at(37))
	a.tells(37.5, 26, 0)
	require.Zero(t, covered(b, 0, 37.9))
}

// A clock that is set back moves nothing into another window, loses nothing and
// stops nothing.
func TestClockIsSetBack(t *testing.T) {
	t.Parallel()
	b := NewBook(at(1000))
	a := &teller{book: b, name: "a", session: 1, began: 1008}
	a.tells(1010, 10, 0)
	a.began = 8
	a.tells(11, 20, 1)
	require.EqualValues(t, 20, requests(b, 0, 11))
	a.tells(12, 30, 2)
	require.EqualValues(t, 10, requests(b, 11.5, 12))
	require.EqualValues(t, 30, requests(b, 0, 12))
	require.InDelta(t, 12, covered(b, 0, 12), 1.1)
	require.Equal(t, Spent{Requests: 30, Failed: 2}, b.Spent(php))
	a.tells(5000, 40, 2)
	require.Zero(t, covered(b, 0, 5000), "an hour without a word")
	require.EqualValues(t, 10, requests(b, 4990, 5000))
}

// Windows of whichever length end with the sums that were told in them.
func TestWindowsAgainstModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30) {
		m := newModel(seed)
		for range 400 {
			m.step()
		}
		m.check(t)
	}
}

// model is what is delivered to a Book, noted one by one.
type model struct {
	r       *rand.Rand
	seed    uint64
	now     float64
	book    *Book
	tellers []*modelTeller
	// delivered is what arrived at which second, and what was counted then.
	delivered []delivery
	spent     uint64
	monotone  bool
}

type delivery struct {
	second int64
	counts map[Key]uint64
}

// modelTeller is a reporter whose messages are late, doubled and lost.
type modelTeller struct {
	name              string
	session, sequence uint64
	began             float64
	counts            map[Key]uint64
	told              map[Key]uint64
	heard             float64
	known             bool
	history           []*Message
}

func newModel(seed uint64) *model {
	m := &model{r: rand.New(rand.NewPCG(seed, 3)), seed: seed, book: NewBook(at(0)), monotone: true}
	for i := range 3 {
		m.tellers = append(m.tellers, &modelTeller{
			name: fmt.Sprint("r", i), session: 1, began: float64(-i * 50), counts: make(map[Key]uint64), told: make(map[Key]uint64),
		})
	}
	return m
}

func (m *model) step() {
	m.now += m.r.Float64() * 4
	for _, t := range m.tellers {
		if t.began > m.now {
			continue
		}
		for _, service := range []discovery.Key{php, api} {
			for _, platform := range []discovery.BackingName{discovery.Pods, discovery.Instances} {
				if m.r.IntN(2) == 0 {
					t.counts[Key{Service: service, Port: uint16(80 + m.r.IntN(2)), Platform: platform}] += m.r.Uint64N(50)
				}
			}
		}
		switch m.r.IntN(10) {
		case 0: // it is lost
			t.sequence++
		case 1: // what is old comes again
			if len(t.history) > 0 {
				m.book.Add(t.name, t.history[m.r.IntN(len(t.history))], at(m.now))
			}
		case 2: // it dies and comes back
			t.session, t.sequence, t.began, t.counts = t.session+1, 0, m.now+m.r.Float64(), make(map[Key]uint64)
			t.told = make(map[Key]uint64)
		case 3:
			m.book.Heard(t.name, at(m.now))
			m.heard(t)
		default:
			m.deliver(t)
		}
	}
	n := m.book.Spent(php).Requests
	m.monotone = m.monotone && n >= m.spent
	m.spent = n
}

func (m *model) heard(t *modelTeller) {
	if t.known {
		t.heard = m.now
	}
}

func (m *model) deliver(t *modelTeller) {
	t.sequence++
	msg := &Message{
		Session: t.session, Sequence: t.sequence, Full: m.r.IntN(2) == 0,
		Age:    time.Duration((m.now - t.began) * float64(time.Second)),
		Report: Report{Totals: Totals{Outcomes: make(map[Key]*Counts), Load: maps.Clone(t.counts)}},
	}
	for key, n := range t.counts {
		if !msg.Full && n == t.told[key] {
			continue
		}
		c := &Counts{Requests: n, Endpoints: map[string]EndpointCounts{"e": {Requests: n}}}
		c.Failures[Reset] = n / 2
		c.Latency.Add(uint64(key.Port), n)
		msg.Outcomes[key] = c
	}
	first := len(t.history) == 0 || t.history[len(t.history)-1].Session != t.session
	d := delivery{second: int64(m.now), counts: make(map[Key]uint64)}
	if !first || t.began > t.heard {
		for key, n := range t.counts {
			if first {
				d.counts[key] = n
			} else {
				d.counts[key] = n - t.told[key]
			}
		}
	}
	m.delivered = append(m.delivered, d)
	t.told, t.known, t.heard = maps.Clone(t.counts), true, m.now
	t.history = append(t.history, msg)
	m.book.Add(t.name, msg, at(m.now))
}

func (m *model) check(t *testing.T) {
	t.Helper()
	require.True(t, m.monotone, "seed %d", m.seed)
	for _, length := range []float64{0.5, 10, 60, 140, 600, 3000} {
		// Further back than the seconds are kept, windows begin with a full ten, and then with a full minute.
		from := m.now - length
		for tier, t := range seriesTiers[1:] {
			if length > float64(seriesTiers[tier].age) {
				from = math.Ceil((m.now-length)/float64(t.slot)) * float64(t.slot)
			}
		}
		want := make(map[Key]uint64)
		for _, d := range m.delivered {
			if float64(d.second) >= from {
				for key, n := range d.counts {
					want[key] += n
				}
			}
		}
		for _, service := range []discovery.Key{php, api} {
			w := m.book.Window(service, at(from), at(m.now))
			for key, c := range w.Outcomes {
				require.Equal(t, want[key], c.Requests, "seed %d: %v over %vs", m.seed, key, length)
				require.Equal(t, want[key], c.Latency.Total(), "seed %d: %v over %vs", m.seed, key, length)
				require.Equal(t, want[key], c.Endpoints["e"].Requests)
				require.Equal(t, want[key], w.Load[key])
				delete(want, key)
			}
		}
		for key, n := range want {
			require.Zero(t, n, "seed %d: %v over %vs", m.seed, key, length)
		}
	}
}

// What nobody tells of any more is forgotten, and so is who is gone.
func TestForgets(t *testing.T) {
	t.Parallel()
	b := NewBook(at(0))
	a := &teller{book: b, name: "a", session: 1, began: 1}
	for s := 2.; s < 8000; s++ {
		a.tells(s, uint64(s), 0)
	}
	s := b.services[php]
	for i, tier := range seriesTiers {
		require.LessOrEqual(t, len(s.slots[i]), int(tier.age/tier.slot)+1)
	}
	require.EqualValues(t, 3560, requests(b, 4400, 7999), "it begins with a full minute")
	b.Gone("a", at(8000))
	b.Add("z", &Message{Session: 1, Sequence: 1, Full: true}, at(8001+kept.Seconds()+sweepEvery.Seconds()))
	b.Heard("z", at(8100+2*kept.Seconds()))
	require.Empty(t, b.services)
	require.Len(t, b.reporters, 1)
}

// Numbers that nobody can have counted stay numbers.
func TestSumsStayAtTheLargest(t *testing.T) {
	t.Parallel()
	b := NewBook(at(0))
	a := &teller{book: b, name: "a", session: 1, began: 1}
	last := uint64(0)
	for s := 2.; s < 400; s += 2 {
		a.tells(s, math.MaxUint64/2, math.MaxUint64/2)
		a.tells(s+1, 1, 1)
		spent := b.Spent(php)
		require.GreaterOrEqual(t, spent.Requests, last)
		require.Equal(t, spent.Requests, spent.Failed)
		last = spent.Requests
	}
	w := b.Window(php, at(0), at(400))
	c := w.Counts(discovery.Pods)
	require.Equal(t, uint64(math.MaxUint64), c.Requests)
	require.Equal(t, uint64(math.MaxUint64), c.Latency.Total())
}

// Silent proxies are named by their Service, a few of them.
func TestSilentProxies(t *testing.T) {
	t.Parallel()
	b := NewBook(at(0))
	for i := range 4 {
		r := counted(1, 0)
		r.Silent = map[discovery.Key][]string{php: {fmt.Sprint("node-", i), "node-x", fmt.Sprint("nodf-", i)}, api: {"other"}}
		b.Add(fmt.Sprint("r", i), &Message{Session: 1, Sequence: 1, Report: r}, at(1))
	}
	w := b.Window(php, at(0), at(1))
	require.Equal(t, []string{"node-0", "node-1", "node-2", "node-3", "node-x"}, w.Silent)
	require.Equal(t, 12, w.Proxies)
}

func TestHistogramOf(t *testing.T) {
	t.Parallel()
	h := HistogramOf([]Bucket{{7, 1}, {3, 2}, {7, 4}, {9, 0}, {math.MaxUint16, 8}, {3, math.MaxUint64}})
	require.Equal(t, []Bucket{{3, math.MaxUint64}, {7, 5}}, h.Buckets)
}

// busy returns what a replica tells of a Service with thirty endpoints.
func busy(n uint64) Report {
	r := Report{Totals: Totals{Outcomes: make(map[Key]*Counts)}}
	for _, platform := range []discovery.BackingName{discovery.Pods, discovery.Instances} {
		c := &Counts{Requests: n * 30, Endpoints: make(map[string]EndpointCounts)}
		for i := range uint64(30) {
			c.Endpoints[fmt.Sprint("i-0123456789abcdef", i)] = EndpointCounts{Requests: n}
			c.Latency.Add(1000+500*i, n)
		}
		r.Outcomes[Key{Service: php, Port: 80, Platform: platform}] = c
	}
	return r
}

func BenchmarkAdd(b *testing.B) {
	book := NewBook(at(0))
	b.ReportAllocs()
	for n := uint64(1); b.Loop(); n++ {
		book.Add("a", &Message{Session: 1, Sequence: n, Full: true, Report: busy(n)}, at(float64(n)))
	}
}

func BenchmarkWindow(b *testing.B) {
	book := NewBook(at(0))
	for n := range uint64(4000) {
		book.Add("a", &Message{Session: 1, Sequence: n + 1, Full: true, Report: busy(n)}, at(float64(n)))
	}
	for _, length := range []float64{30, 120, 3600} {
		b.Run(fmt.Sprintf("%vs", length), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				book.Window(php, at(4000-length), at(4000))
			}
		})
	}
}

// Of more callers than can be kept apart those are that matter, whenever they came; and of those of whom it is known how
// long their answers took, whoever had the slow ones.
func TestCallersThatMatterAreKept(t *testing.T) {
	t.Parallel()
	start := time.Unix(1_700_000_000, 0)
	b := NewBook(start)
	key := podsOf(php)
	c := &Counts{}
	m := func(sequence uint64, c *Counts) *Message {
		return &Message{Session: 1, Sequence: sequence, Report: Report{Totals: Totals{Outcomes: map[Key]*Counts{key: c}}}}
	}
	next := func(callers int) *Counts {
		out := &Counts{Requests: c.Requests, Callers: maps.Clone(c.Callers), Latency: c.Latency.Clone()}
		if out.Callers == nil {
			out.Callers = make(map[string]CallerCounts)
		}
		for i := range callers {
			id := fmt.Sprintf("caller-%04d", i)
			own := out.Callers[id]
			own.Requests, own.Latency = own.Requests+2, own.Latency.Clone()
			own.Latency.AddCoarse(1000)
			own.Latency.AddCoarse(1000)
			out.Callers[id] = own
			out.Requests += 2
			out.Latency.Add(1000, 2)
		}
		c = out
		return out
	}
	b.Expect("r", start)
	b.Add("r", m(1, next(maxPartIDs)), start.Add(time.Second))
	late := next(maxPartIDs)
	bad := CallerCounts{Requests: 50, Failures: 50, Abandoned: 7, FailedOver: 3}
	for range 50 {
		bad.Latency.AddCoarse(900_000)
	}
	late.Callers["zz-late"] = bad
	late.Requests += 50
	late.Failures[ServerError] = 50
	late.Latency.Add(900_000, 50)
	b.Add("r", m(2, late), start.Add(2*time.Second))
	b.Add("r", m(3, next(1)), start.Add(3*time.Second))
	for _, at := range []time.Duration{3 * time.Second, 1000 * time.Second} {
		b.tick(start.Add(at))
		b.sweep()
		w := b.Window(php, start, start.Add(at))
		got := w.Counts(key.Platform)
		require.GreaterOrEqual(t, len(got.Callers), slotIDs)
		own := got.Callers["zz-late"]
		require.EqualValues(t, 50, own.Failures)
		require.EqualValues(t, 7, own.Abandoned)
		require.EqualValues(t, 3, own.FailedOver)
		require.EqualValues(t, 50, own.Latency.Total())
		timed := 0
		for _, caller := range got.Callers {
			if caller.Latency.Total() > 0 {
				timed++
			}
		}
		require.LessOrEqual(t, timed, 3*maxTimed)
	}
}
