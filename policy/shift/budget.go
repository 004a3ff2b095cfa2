package shift

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// The defaults of an error budget.
const (
	defaultPeriod      = 30 * day
	defaultMaxBurnRate = 2
	day                = 24 * time.Hour
)

// Budget is how the error budget of a Service stands.
type Budget struct {
	// Objective is the success rate that is owed over Period, 0 to 1.
	Objective float64
	Period    time.Duration
	// MaxBurnRate bounds how many times faster failures may come than the objective allows.
	MaxBurnRate float64
	// Remaining is the part of the period's failures that is left, 1 for all of
	// them; below 0 it is overdrawn.
	Remaining float64
	// Burns are the pairs of windows of the burn rate.
	Burns []Burn
}

// Burn is how fast the budget is used up, over a long and a short window that
// end now. Both must exceed the bound: the long one so that a short burst does not decide,
// the short one so that what is over does not (Site Reliability Workbook,
// Alerting on SLOs, "multiwindow, multi-burn-rate alerts").
type Burn struct {
	Long, Short time.Duration
	// LongRate and ShortRate are the rates, 1 for as many failures as the objective allows.
	LongRate, ShortRate float64
	// Requests of the long window, Failed among them.
	Requests, Failed uint64
}

// burnWindows are the workbook's pairs for a period of 30 days. The workbook has a threshold
// for each, because it asks how urgently a person is needed; the guard asks
// whether to go on and has the spec's one. The first pair finds an outage in
// seconds and a small excess within an hour; the others are for Services with so few
// requests that an hour of them tells nothing.
var burnWindows = [...]struct{ long, short time.Duration }{
	{time.Hour, 5 * time.Minute},
	{6 * time.Hour, 30 * time.Minute},
	{3 * day, 6 * time.Hour},
}

// over reports whether both windows exceed the bound as measured.
func (b Burn) over(budget *Budget) bool {
	return b.LongRate > budget.MaxBurnRate && b.ShortRate > budget.MaxBurnRate
}

// sure reports whether the excess is significant: with little traffic a single
// failure is a burn rate of hundreds.
func (b Burn) sure(budget *Budget) bool {
	return binomialTail(b.Failed, b.Requests, budget.MaxBurnRate*(1-budget.Objective)) < significance(b.Long)
}

// Spend counts the requests, failures among them, that the Service had since
// last was computed, on both sides together, and returns the budget and what
// is to be kept of it. last is nil at first. An unreadable record is an error beside results that
// begin anew; a spec that cannot be read is one without.
//
// Counts are only ever added. A write of the result that fails loses nothing if
// the caller counts on and spends again with the last that was written.
func Spend(e *v1alpha1.ShiftErrorBudget, last *v1alpha1.ShiftBudget, now time.Time, requests, failed uint64) (*Budget, *v1alpha1.ShiftBudget, error) {
	objective, ok := number(e.Objective)
	if !ok || objective < 0 || objective >= 100 {
		return nil, nil, fmt.Errorf("guard.errorBudget.objective %q: must be a percentage below 100", e.Objective)
	}
	b := &Budget{Objective: objective / 100, Period: e.Period.Duration, MaxBurnRate: defaultMaxBurnRate}
	if e.MaxBurnRate != "" {
		if b.MaxBurnRate, ok = number(e.MaxBurnRate); !ok || b.MaxBurnRate < 0 {
			return nil, nil, fmt.Errorf("guard.errorBudget.maxBurnRate %q: must be a number that is not negative", e.MaxBurnRate)
		}
	}
	if b.Period <= 0 {
		b.Period = defaultPeriod
	}

	l := newLedger(b.Period)
	var problem error
	if last != nil && last.Record != "" {
		old, err := parseLedger(last.Record)
		if err != nil {
			problem = fmt.Errorf("status.budget.record: %w: the error budget begins anew", err)
		} else {
			l = old.forPeriod(b.Period)
		}
	}
	l.add(now, requests, failed)

	allowed := (100 - objective) / 100
	for _, w := range burnWindows {
		if w.long > b.Period && w != burnWindows[0] {
			continue
		}
		n, k := l.sum(w.long)
		shortN, shortK := l.sum(w.short)
		b.Burns = append(b.Burns, Burn{
			Long: w.long, Short: w.short, Requests: n, Failed: k,
			LongRate: rate(k, n) / allowed, ShortRate: rate(shortK, shortN) / allowed,
		})
	}
	b.Remaining = 1
	if n, k := l.sum(b.Period); n > 0 {
		// Traffic from before the record began is not known. It is assumed to be as much as
		// since then, without failures, so that a shift's first failure does not overdraw a
		// month's budget.
		b.Remaining = 1 - float64(k)/(allowed*float64(n)*float64(b.Period)/float64(l.span(b.Period)))
	}
	return b, &v1alpha1.ShiftBudget{
		Objective: e.Objective, Remaining: remainingText(b.Remaining), BurnRate: burnText(b.Burns[0].LongRate), Record: l.record(),
	}, problem
}

// ledger counts requests and failures by time, in tiers of ever wider buckets
// that each count everything. It is about a kilobyte, whatever the period.
type ledger struct {
	// since is the minute, from 1970, of the first count.
	since uint64
	// tiers from the narrowest buckets to the widest, all with the same newest minute.
	tiers []tier
}

// tier is a row of buckets of the same width.
type tier struct {
	// width in minutes.
	width uint64
	// size is how many buckets are kept.
	size int
	// newest is the number of the first bucket from 1970.
	newest uint64
	// buckets from the newest to the oldest.
	buckets []bucket
}

type bucket struct{ requests, failed uint64 }

const (
	minutesPerDay = 24 * 60
	// periodBuckets is how many buckets a period has at most.
	periodBuckets = 30
	// maxRecord bounds a record that is read, in characters.
	maxRecord = 8 << 10
	// recordVersion is the first byte of a record.
	recordVersion = 1
	// slack is by how many minutes the clock may be behind the newest count:
	// clocks of two leaders differ.
	slack = 10
)

// newLedger returns an empty ledger. A tier has one bucket more than the longest window that is
// asked of it, for the part of a bucket at each end.
func newLedger(period time.Duration) *ledger {
	days := max(1, (uint64(period)+uint64(day)-1)/uint64(day))
	width := (days + periodBuckets - 1) / periodBuckets
	return &ledger{tiers: []tier{
		{width: 1, size: 30 + 1},
		{width: 10, size: 36 + 1},
		{width: 120, size: 36 + 1},
		{width: width * minutesPerDay, size: int((days+width-1)/width) + 1},
	}}
}

// forPeriod returns the ledger with its last tier as wide as a period needs.
func (l *ledger) forPeriod(period time.Duration) *ledger {
	fresh := newLedger(period)
	fresh.since = l.since
	for i := range fresh.tiers {
		to, from := &fresh.tiers[i], &l.tiers[i]
		for k, b := range slices.Backward(from.buckets) {
			if uint64(k) <= from.newest {
				to.add((from.newest-uint64(k))*from.width, b)
			}
		}
	}
	return fresh
}

// add counts requests at a time. The clock may jump: a little back counts as the newest
// minute, far back moves the whole record to the new time, and forward lets
// counts grow old early.
func (l *ledger) add(now time.Time, requests, failed uint64) {
	minute := uint64(max(0, now.Unix())) / 60
	if newest := l.tiers[0].newest; len(l.tiers[0].buckets) == 0 {
		l.since = minute
	} else if minute < newest {
		if newest-minute <= slack {
			minute = newest
		}
		l.since -= min(l.since, newest-minute)
		for i := range l.tiers {
			l.tiers[i].newest = minute / l.tiers[i].width
		}
	}
	for i := range l.tiers {
		l.tiers[i].add(minute, bucket{requests, min(failed, requests)})
	}
}

// add counts into the bucket of a minute; one that is older than all is lost.
func (t *tier) add(minute uint64, b bucket) {
	at := minute / t.width
	switch {
	case len(t.buckets) == 0:
		t.newest, t.buckets = at, []bucket{{}}
	case at > t.newest:
		t.buckets = slices.Insert(t.buckets, 0, make([]bucket, min(at-t.newest, uint64(t.size)))...)
		t.buckets = t.buckets[:min(len(t.buckets), t.size)]
		t.newest = at
	}
	if i := t.newest - min(at, t.newest); i < uint64(len(t.buckets)) {
		t.buckets[i].requests += b.requests
		t.buckets[i].failed += b.failed
	}
}

// sum returns the counts of a window that ends now, rounded up to whole
// buckets of the narrowest tier that has it.
func (l *ledger) sum(window time.Duration) (requests, failed uint64) {
	minutes := (uint64(window) + uint64(time.Minute) - 1) / uint64(time.Minute)
	t := &l.tiers[len(l.tiers)-1]
	for i := range l.tiers {
		if uint64(l.tiers[i].size-1)*l.tiers[i].width >= minutes {
			t = &l.tiers[i]
			break
		}
	}
	n := min(uint64(len(t.buckets)), (minutes+t.width-1)/t.width+1)
	for _, b := range t.buckets[:n] {
		requests += b.requests
		failed += b.failed
	}
	return requests, failed
}

// span returns how long the ledger has counted, at most period and at least a minute.
func (l *ledger) span(period time.Duration) time.Duration {
	minutes := max(1, l.tiers[0].newest-min(l.since, l.tiers[0].newest))
	if minutes >= uint64(period/time.Minute) {
		return period
	}
	return time.Duration(minutes) * time.Minute
}

// record returns the ledger as a string: varints in base64, where
// empty buckets are counted rather than written.
func (l *ledger) record() string {
	out := binary.AppendUvarint([]byte{recordVersion}, l.since)
	out = binary.AppendUvarint(out, l.tiers[0].newest)
	out = binary.AppendUvarint(out, l.tiers[len(l.tiers)-1].width/minutesPerDay)
	for _, t := range l.tiers {
		out = binary.AppendUvarint(out, uint64(len(t.buckets)))
		for i := 0; i < len(t.buckets); i++ {
			b := t.buckets[i]
			out = binary.AppendUvarint(out, b.requests)
			if b.requests > 0 {
				out = binary.AppendUvarint(out, b.failed)
				continue
			}
			run := 1
			for i+run < len(t.buckets) && t.buckets[i+run].requests == 0 {
				run++
			}
			out = binary.AppendUvarint(out, uint64(run))
			i += run - 1
		}
	}
	return base64.RawStdEncoding.EncodeToString(out)
}

var errRecord = errors.New("it is damaged")

// parseLedger reads what record has written.
func parseLedger(record string) (*ledger, error) {
	if len(record) > maxRecord {
		return nil, fmt.Errorf("%w: it is longer than %d characters", errRecord, maxRecord)
	}
	in, err := base64.RawStdEncoding.DecodeString(record)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errRecord, err)
	}
	if len(in) == 0 || in[0] != recordVersion {
		return nil, fmt.Errorf("%w: it is of another version", errRecord)
	}
	r := &recordReader{in: in[1:]}
	l := &ledger{since: r.next(maxMinute)}
	newest := r.next(maxMinute)
	width := max(1, r.next(maxMinute/minutesPerDay))
	l.tiers = newLedger(time.Duration(min(width*periodBuckets, maxDays)) * day).tiers
	l.tiers[len(l.tiers)-1].width = width * minutesPerDay
	for i := range l.tiers {
		t := &l.tiers[i]
		t.newest = newest / t.width
		n := int(r.next(uint64(t.size)))
		for len(t.buckets) < n && !r.damaged {
			b := bucket{requests: r.next(maxCount)}
			if b.requests > 0 {
				b.failed = r.next(b.requests)
				t.buckets = append(t.buckets, b)
				continue
			}
			t.buckets = append(t.buckets, make([]bucket, r.next(uint64(n-len(t.buckets))))...)
		}
		r.damaged = r.damaged || n == 0
	}
	if r.damaged || len(r.in) > 0 || l.since > newest {
		return nil, errRecord
	}
	return l, nil
}

// Bounds of a record's counts, far above any real ones, so that sums do not
// overflow.
const (
	maxMinute = 1 << 40
	maxCount  = 1 << 56
	maxDays   = 100_000
)

// recordReader reads varints until one is missing or too large.
type recordReader struct {
	in      []byte
	damaged bool
}

func (r *recordReader) next(most uint64) uint64 {
	v, n := binary.Uvarint(r.in)
	if n <= 0 || v > most {
		r.damaged = true
		return 0
	}
	r.in = r.in[n:]
	return v
}
