package outcome

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHistogramQuantiles(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		var h Histogram
		var values []uint64
		for range 2000 {
			v := uint64(r.ExpFloat64() * float64(uint64(1)<<r.IntN(30)))
			values = append(values, v)
			h.Add(v, 1)
		}
		slices.Sort(values)
		require.EqualValues(t, len(values), h.Total())
		for _, q := range []float64{.5, .9, .99} {
			want := float64(values[int(q*float64(len(values)))-1])
			require.InDelta(t, want, h.Quantile(q), want*.08+1.5)
			above := 0
			for _, v := range values {
				if float64(v) > want {
					above++
				}
			}
			require.InDelta(t, above, h.Above(uint64(want)), 60)
		}
	}
}

func TestHistogramBuckets(t *testing.T) {
	t.Parallel()
	last := uint16(0)
	for exponent := range 64 {
		for _, v := range []uint64{1 << exponent, 1<<exponent + 1<<exponent/3, 1<<exponent + (1<<exponent - 1)} {
			index := bucketOf(v)
			require.GreaterOrEqual(t, index, last, v)
			last = index
			low, width := bounds(index)
			require.LessOrEqual(t, low, float64(v))
			require.GreaterOrEqual(t, low+width, float64(v))
			require.LessOrEqual(t, width, max(1, float64(v)/16))
		}
	}
}

func TestHistogramMergeAndSub(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		var a, b, both Histogram
		for range r.IntN(100) {
			v := uint64(r.IntN(10_000))
			a.Add(v, 2)
			both.Add(v, 2)
		}
		for range r.IntN(100) {
			v := uint64(r.IntN(10_000))
			b.Add(v, 1)
			both.Add(v, 1)
		}
		sum := a.Clone()
		sum.Merge(b)
		require.ElementsMatch(t, both.Buckets, sum.Buckets)
		sum.Sub(b)
		require.ElementsMatch(t, a.Buckets, sum.Buckets)
		sum.Sub(both)
		require.Zero(t, sum.Total(), "counts never go backwards")
	}
}

// Without takes away what a coarse histogram counted, and of no bucket more than it has.
func TestHistogramWithout(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	var all, others, own Histogram
	for i := range 20_000 {
		v := uint64(math.Exp(r.NormFloat64()+8)) * (1 + uint64(i%5/4)*20)
		all.Add(v, 1)
		if i%5 == 4 {
			own.AddCoarse(v)
		} else {
			others.Add(v, 1)
		}
	}
	got := all.Without(own)
	require.EqualValues(t, 16_000, got.Total())
	for _, q := range []float64{.5, .9, .99} {
		require.InEpsilon(t, others.Quantile(q), got.Quantile(q), .05, q)
	}
	require.Less(t, len(own.Buckets), 100)
	var none Histogram
	require.Empty(t, none.Without(own).Buckets)
	require.Equal(t, all, all.Without(none))
}
