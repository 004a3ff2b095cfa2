package shift

import (
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// exactBinomialTail adds up the tail in rational numbers.
func exactBinomialTail(k, n int64, p *big.Rat) float64 {
	q := new(big.Rat).Sub(big.NewRat(1, 1), p)
	power := func(r *big.Rat, e int64) *big.Rat {
		return new(big.Rat).SetFrac(new(big.Int).Exp(r.Num(), big.NewInt(e), nil), new(big.Int).Exp(r.Denom(), big.NewInt(e), nil))
	}
	sum := new(big.Rat)
	for i := k; i <= n; i++ {
		term := new(big.Rat).SetInt(new(big.Int).Binomial(n, i))
		sum.Add(sum, term.Mul(term, power(p, i)).Mul(term, power(q, n-i)))
	}
	f, _ := sum.Float64()
	return f
}

func TestBinomialTail(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		k, n int64
		p    *big.Rat
	}{
		{1, 1, big.NewRat(1, 1000)},
		{3, 3, big.NewRat(1, 1000)},
		{25, 500, big.NewRat(1, 1000)},
		{30, 30, big.NewRat(1, 2)},
		{8, 500, big.NewRat(1, 1000)},
		{200, 1000, big.NewRat(1, 10)},
		{101, 1000, big.NewRat(1, 10)},
	} {
		require.InEpsilon(t, exactBinomialTail(c.k, c.n, c.p), binomialTail(uint64(c.k), uint64(c.n), ratFloat(c.p)), 1e-6, "%+v", c)
	}
	require.InEpsilon(t, 1, binomialTail(1, 1000, .001), 0, "no evidence in what was expected")
	require.InEpsilon(t, 1, binomialTail(0, 0, .001), 0)
	require.Zero(t, binomialTail(1, 1000, 0), "where nothing is allowed one is too many")
	require.InEpsilon(t, 1, binomialTail(5, 1000, 1), 0)
	require.Less(t, binomialTail(1_020_000, 1_000_000_000, .001), 1e-50)
}

func ratFloat(r *big.Rat) float64 { f, _ := r.Float64(); return f }

// TestFisherTail compares with the hypergeometric distribution in whole numbers.
func TestFisherTail(t *testing.T) {
	t.Parallel()
	exact := func(k, n, k2, n2 int64) float64 {
		sum := new(big.Int)
		for x := k; x <= min(n, k+k2); x++ {
			sum.Add(sum, new(big.Int).Mul(new(big.Int).Binomial(n, x), new(big.Int).Binomial(n2, k+k2-x)))
		}
		return ratFloat(new(big.Rat).SetFrac(sum, new(big.Int).Binomial(n+n2, k+k2)))
	}
	for _, c := range [][4]int64{{3, 4, 1, 4}, {30, 30, 0, 1000}, {12, 20, 500, 1000}, {5, 100, 2, 100_000}, {50, 1000, 5, 900}, {1, 1, 0, 1}} {
		require.InEpsilon(t, exact(c[0], c[1], c[2], c[3]),
			fisherTail(uint64(c[0]), uint64(c[1]), uint64(c[2]), uint64(c[3])), 1e-6, "%v", c)
	}
	require.InEpsilon(t, 1, fisherTail(1, 100, 1, 100), 0)
	require.InEpsilon(t, 1, fisherTail(5, 5, 0, 0), 0, "there is nothing to compare with")
	require.InEpsilon(t, 1, fisherTail(0, 0, 5, 5), 0)
	require.InDelta(t, 0, fisherTail(100_000, 10_000_000, 9_000_000, 1_000_000_000), 1e-100)
}

func TestPoissonLowerTail(t *testing.T) {
	t.Parallel()
	require.InEpsilon(t, math.Exp(-14), poissonLowerTail(0, 14), 1e-9)
	require.InEpsilon(t, math.Exp(-20)*(1+20+200), poissonLowerTail(2, 20), 1e-6)
	require.InEpsilon(t, 1, poissonLowerTail(3, 3), 0)
	require.InEpsilon(t, 1, poissonLowerTail(0, 0), 0)
}

// poisson draws from a Poisson distribution.
func poisson(r *rand.Rand, mean float64) uint64 {
	if mean > 50 {
		return uint64(max(0, math.Round(mean+math.Sqrt(mean)*r.NormFloat64())))
	}
	n, product, limit := uint64(0), r.Float64(), math.Exp(-mean)
	for product > limit {
		n++
		product *= r.Float64()
	}
	return n
}

// TestLooksPerWindow measures what it costs to look all the time: how many
// independent looks the sliding window of a target that is exactly as bad as its bound amounts to.
// The figure grows slowly as the level gets stricter, towards the 32 of a Gaussian
// process at the guard's level, which looksPerWindow is above.
func TestLooksPerWindow(t *testing.T) {
	t.Parallel()
	const window, days, perDay = 120, 150, 24 * 60 * 60
	r := rand.New(rand.NewPCG(5, 6))
	for _, expected := range []float64{1, 10, 100} {
		const n, p = 1_000_000, 1e-6
		// A million requests for each failure that is expected: Poisson, which
		// has more in its tail than any binomial distribution with that mean.
		least := make([]float64, days)
		for d := range least {
			var ring [window]uint64
			sum, most := uint64(0), uint64(0)
			for second := range perDay + window {
				failed := poisson(r, expected/window)
				sum += failed - ring[second%window]
				ring[second%window] = failed
				if second >= window {
					most = max(most, sum)
				}
			}
			least[d] = binomialTail(most, uint64(n*expected), p)
		}
		require.Greater(t, slices.Min(least), significance(window*time.Second), "no false alarm on any day")
		for _, level := range []float64{1e-4, 1e-5} {
			below := 0
			for _, p := range least {
				if p < level {
					below++
				}
			}
			windows := float64(perDay / window)
			looks := -math.Log(1-min(float64(below), days-.5)/days) / level / windows
			t.Logf("%3.0f failures expected in a window, p < %.0e on %2d of %d days: %.0f looks per window", expected, level, below, days, looks)
			require.Less(t, looks, float64(looksPerWindow))
		}
	}
}

func TestSignificance(t *testing.T) {
	t.Parallel()
	require.InEpsilon(t, 1e-3, significance(2*time.Minute)*tests*looksPerWindow*720, 1e-9)
	require.Less(t, significance(10*time.Second), significance(2*time.Minute), "more windows are more looks")
	require.InEpsilon(t, significance(24*time.Hour), significance(30*24*time.Hour), 1e-9)
	require.Positive(t, significance(0))
}
