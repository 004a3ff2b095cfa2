package shift

import (
	"encoding/base64"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

func threeNines() *v1alpha1.ShiftErrorBudget {
	return &v1alpha1.ShiftErrorBudget{Objective: "99.9", Period: metav1.Duration{Duration: 30 * day}, MaxBurnRate: "2"}
}

var monday = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

// spender spends in a row, each time with what was kept before.
type spender struct {
	t    *testing.T
	e    *v1alpha1.ShiftErrorBudget
	kept *v1alpha1.ShiftBudget
}

func (s *spender) spend(now time.Time, requests, failed uint64) *Budget {
	s.t.Helper()
	b, kept, err := Spend(s.e, s.kept, now, requests, failed)
	require.NoError(s.t, err)
	s.kept = kept
	return b
}

func TestSpendOverAPeriod(t *testing.T) {
	t.Parallel()
	s := spender{t: t, e: threeNines()}
	var b *Budget
	// Half of what is allowed, for a month, then for another: the first month is forgotten.
	for hour := range 60 * 24 {
		b = s.spend(monday.Add(time.Duration(hour)*time.Hour), 1_000_000, 500)
	}
	require.InDelta(t, .5, b.Remaining, .001)
	require.Equal(t, "50.0", s.kept.Remaining)
	require.Equal(t, "0.5", s.kept.BurnRate)
	// An outage of six minutes takes a tenth of an hour's requests: 100 of the 720 failures a million allows.
	b = s.spend(monday.Add(60*24*time.Hour), 1_000_000, 100_000)
	require.InDelta(t, .5-100_000./720_000, b.Remaining, .01)
	require.Greater(t, b.Burns[0].LongRate, 40.)
	for hour := range 24 * 32 {
		b = s.spend(monday.Add(time.Duration(60*24+1+hour)*time.Hour), 1_000_000, 0)
	}
	require.InDelta(t, 1, b.Remaining, 0, "a month later it is forgotten")
}

func TestSpendWindows(t *testing.T) {
	t.Parallel()
	s := spender{t: t, e: threeNines()}
	var b *Budget
	minute := func(i int) time.Time { return monday.Add(time.Duration(i) * time.Minute) }
	for i := range 24 * 60 {
		b = s.spend(minute(i), 6000, 0)
	}
	require.Len(t, b.Burns, 3)
	// 5 % of the requests fail for ten minutes.
	for i := range 10 {
		b = s.spend(minute(24*60+i), 6000, 300)
	}
	require.True(t, b.Burns[0].over(b) && b.Burns[0].sure(b), "%+v", b.Burns)
	require.InDelta(t, 50, b.Burns[0].ShortRate, .1)
	require.InDelta(t, 50./6, b.Burns[0].LongRate, 2)
	// It is over: the short window sees it first.
	for i := range 8 {
		b = s.spend(minute(24*60+10+i), 6000, 0)
	}
	require.False(t, b.Burns[0].over(b), "%+v", b.Burns)
	require.Greater(t, b.Burns[0].LongRate, 2.)
}

func TestSpendBeginsMildly(t *testing.T) {
	t.Parallel()
	s := spender{t: t, e: threeNines()}
	s.spend(monday, 1000, 0)
	b := s.spend(monday.Add(time.Minute), 1000, 5)
	require.Greater(t, b.Remaining, .99, "the first failures do not overdraw a month")
	require.Equal(t, "2.5", s.kept.BurnRate)
	require.False(t, b.Burns[0].sure(b))
}

func TestSpendClockJumps(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		jump time.Duration
	}{{"seconds back", -30 * time.Second}, {"minutes back", -5 * time.Minute}, {"a day back", -day}, {"a year back", -365 * day}, {"to 1970", -56 * 365 * day}, {"an hour forward", time.Hour}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := spender{t: t, e: threeNines()}
			now := monday
			for range 120 {
				now = now.Add(time.Minute)
				s.spend(now, 1000, 10)
			}
			b := s.spend(now.Add(c.jump), 1000, 10)
			require.EqualValues(t, 121_000, b.Burns[2].Requests, "nothing is lost")
			require.EqualValues(t, 1210, b.Burns[2].Failed)
			require.InDelta(t, 10, b.Burns[0].LongRate, .01)
			for i := range 30 {
				b = s.spend(now.Add(c.jump).Add(time.Duration(i)*time.Minute), 1000, 0)
			}
			require.Zero(t, b.Burns[0].ShortRate, "time goes on")
		})
	}
	early := spender{t: t, e: threeNines()}
	for i := range 30 {
		early.spend(monday.Add(time.Duration(i)*time.Minute), 1000, 10)
	}
	early.spend(time.Unix(300, 0), 1000, 10)
	before := early.spend(time.Unix(300, 0), 1000, 10).Burns[0].Requests
	require.Equal(t, before+1000, early.spend(time.Unix(300, 0), 1000, 10).Burns[0].Requests, "a clock that was never set")
	s := spender{t: t, e: threeNines()}
	s.spend(monday, 1000, 10)
	b := s.spend(monday.AddDate(3, 0, 0), 1000, 0)
	require.InDelta(t, 1, b.Remaining, 0, "years later all is forgotten")
}

// TestSpendSurvivesLeaders hands the record from leader to leader, each with
// a clock of its own, and adds up to the same as one leader.
func TestSpendSurvivesLeaders(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	s := spender{t: t, e: threeNines()}
	requests, failed := uint64(0), uint64(0)
	var b *Budget
	for i := range 3000 {
		n := uint64(r.IntN(1000))
		k := uint64(r.IntN(int(n)/100 + 1))
		requests, failed = requests+n, failed+k
		skew := time.Duration(r.IntN(8)-4) * time.Minute
		b = s.spend(monday.Add(time.Duration(i)*30*time.Second+skew), n, k)
	}
	require.Equal(t, requests, b.Burns[2].Requests)
	require.Equal(t, failed, b.Burns[2].Failed)
}

// TestSpendBetweenTwoClocks has two leaders in turn whose clocks differ: that must not age what is counted.
func TestSpendBetweenTwoClocks(t *testing.T) {
	t.Parallel()
	s := spender{t: t, e: threeNines()}
	var b *Budget
	for i := range 300 {
		b = s.spend(monday.Add(time.Duration(i)*10*time.Second-time.Duration(i%2)*5*time.Minute), 100, 1)
	}
	require.EqualValues(t, 30_000, b.Burns[0].Requests)
}

func TestSpendAnotherPeriod(t *testing.T) {
	t.Parallel()
	s := spender{t: t, e: threeNines()}
	for hour := range 30 * 24 {
		s.spend(monday.Add(time.Duration(hour)*time.Hour), 1000, 1)
	}
	last := monday.Add(30 * 24 * time.Hour)
	require.InDelta(t, 0, s.spend(last, 0, 0).Remaining, .01)
	for _, days := range []int{90, 7, 365, 30, 1} {
		s.e.Period.Duration = time.Duration(days) * day
		b := s.spend(last, 0, 0)
		require.Greater(t, b.Remaining, -.1, "%d days", days)
		require.Less(t, b.Remaining, .95, "%d days", days)
	}
	s.e.Period.Duration = time.Hour
	require.Len(t, s.spend(last, 0, 0).Burns, 1, "windows longer than the period say nothing about it")
}

func TestRecordIsSmall(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		perMinute uint64
		most      int
	}{{"idle", 0, 80}, {"100 requests per second", 6000, 1000}, {"5,000 requests per second", 300_000, 1250}} {
		s := spender{t: t, e: threeNines()}
		for minute := 0; minute < 35*24*60; minute += 10 {
			step := 10
			if minute > 34*24*60 {
				step = 1
			}
			for i := range 10 / step {
				if i < 10/step && step == 1 || i == 0 {
					s.spend(monday.Add(time.Duration(minute+i)*time.Minute), c.perMinute*uint64(step), c.perMinute*uint64(step)/700)
				}
				if minute < 34*24*60-60 && i > 0 {
					break
				}
			}
		}
		t.Logf("%s: %d characters", c.name, len(s.kept.Record))
		require.Less(t, len(s.kept.Record), c.most, c.name)
	}
}

func TestSpendRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ objective, burn, want string }{
		{"100", "2", `guard.errorBudget.objective "100": must be a percentage below 100`},
		{"high", "2", `guard.errorBudget.objective "high": must be a percentage below 100`},
		{"99.9", "fast", `guard.errorBudget.maxBurnRate "fast": must be a number that is not negative`},
	} {
		_, _, err := Spend(&v1alpha1.ShiftErrorBudget{Objective: v1alpha1.Percent(c.objective), MaxBurnRate: v1alpha1.Decimal(c.burn)}, nil, monday, 1, 0)
		require.EqualError(t, err, c.want)
	}
	b, kept, err := Spend(&v1alpha1.ShiftErrorBudget{Objective: "99.9"}, &v1alpha1.ShiftBudget{Record: "AQ"}, monday, 1000, 1)
	require.EqualError(t, err, "status.budget.record: it is damaged: the error budget begins anew")
	require.Equal(t, 30*day, b.Period)
	require.InDelta(t, 2, b.MaxBurnRate, 0)
	require.NotEmpty(t, kept.Record)
}

// FuzzParseLedger reads any record without a panic, and what is read is written the same
// and can be spent from.
func FuzzParseLedger(f *testing.F) {
	l := newLedger(30 * day)
	f.Add(l.record())
	for i := range 100 {
		l.add(monday.Add(time.Duration(i*i)*time.Minute), uint64(i*1000), uint64(i))
		f.Add(l.record())
	}
	f.Add("")
	f.Add("AQ")
	f.Add(base64.RawStdEncoding.EncodeToString([]byte{1, 0, 0, 1, 1, 5, 9}))
	f.Fuzz(func(t *testing.T, record string) {
		l, err := parseLedger(record)
		if err != nil {
			return
		}
		again, err := parseLedger(l.record())
		require.NoError(t, err)
		require.Equal(t, l, again)
		for _, period := range []time.Duration{time.Hour, 7 * day, 365 * day} {
			b, kept, err := Spend(&v1alpha1.ShiftErrorBudget{Objective: "99.9", Period: metav1.Duration{Duration: period}},
				&v1alpha1.ShiftBudget{Record: record}, monday, 100, 1)
			require.NoError(t, err)
			require.LessOrEqual(t, b.Remaining, 1.)
			_, err = parseLedger(kept.Record)
			require.NoError(t, err)
		}
	})
}
