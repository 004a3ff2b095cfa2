package shift

import (
	"math"
	"time"

	"github.com/causeway-mesh/causeway/policy/outcome"
)

// falseAlarmsPerDay is the accepted probability that the guard fails, within a
// day, a target that is just as good as its bound or as the source.
const falseAlarmsPerDay = 1e-3

// tests is the number of equal parts into which the false alarms are divided: success
// rate, errors, abandoned requests, latency, latency increase, three windows of the
// error budget, the statuses of all answers, and all tests of single paths. Tests of
// mirrored requests run while nothing else is tested.
const tests = 10

// statusTests is the number of parts of the statuses' share: three classes, the
// commonest codes, and whether the target admits callers that the source does not.
const statusTests = 3 + commonestCodes + 1

// pathTests is into how many parts that of the paths is divided: for each group of
// paths, and each rule, its failures and its statuses. There are never more, however
// few there are: then each test is stricter than it had to be.
const pathTests = 2 * (outcome.MaxPaths + 1) * (1 + statusTests)

// looksPerWindow is the price of looking all the time. The guard looks at a sliding
// window every half second, and each look is another chance to see what is not
// there. Looks a moment apart see nearly the same, so a window's worth of them
// counts as some tens of independent ones, not as 240; TestLooksPerWindow measures
// how many. They grow with the square of the level's quantile, to 55 for a single
// path and a window of ten seconds, and this is above it.
const looksPerWindow = 60

// significance returns the p-value below which a test over a window fails. It
// is Bonferroni's correction over all tests and all looks of a day, which holds whatever
// the tests have to do with each other. It is strict, yet it costs little: tails of counts
// fall so fast that a hundredth of the p-value takes few more failures.
func significance(window time.Duration) float64 {
	windows := max(1, float64(24*time.Hour)/float64(max(window, time.Second)))
	return falseAlarmsPerDay / (tests * looksPerWindow * windows)
}

// logChoose returns the logarithm of the binomial coefficient.
func logChoose(n, k float64) float64 {
	a, _ := math.Lgamma(n + 1)
	b, _ := math.Lgamma(k + 1)
	c, _ := math.Lgamma(n - k + 1)
	return a - b - c
}

// sumTail adds up the terms of a tail from its first one outwards: ratio(i) is
// the quotient of the terms i+1 and i, and falls with i from below 1.
func sumTail(first float64, ratio func(i float64) float64) float64 {
	sum, term := first, first
	for i := 0.; ; i++ {
		r := ratio(i)
		term *= r
		sum += term
		if r <= 0 || term <= sum*1e-9*(1-r) {
			return min(sum, 1)
		}
	}
}

// binomialTail returns the probability that k or more of n fail if each fails
// with probability p: the exact one-sided binomial test of a rate against a
// bound. Normal approximations, Wilson's bounds among them, are off by orders of magnitude at
// the rates and levels that matter here, a few failures where a tenth of one
// was expected. It returns 1 where k is no more than what was expected.
func binomialTail(k, n uint64, p float64) float64 {
	x, m := float64(k), float64(n)
	switch {
	case k == 0 || x <= m*p || p >= 1:
		return 1
	case k > n || p <= 0:
		return 0
	}
	first := math.Exp(logChoose(m, x) + x*math.Log(p) + (m-x)*math.Log1p(-p))
	return sumTail(first, func(i float64) float64 { return (m - x - i) / (x + i + 1) * p / (1 - p) })
}

// fisherTail returns the probability that k or more of the failures of two
// samples are in the first one if both fail at the same rate, whatever that is:
// Fisher's exact test, one-sided. k of n failed in the first sample, k2 of n2 in the second.
// It is exact where one side has a handful of requests and the other has millions, as
// at the first steps of a shift. It returns 1 where the first has no more than its part.
func fisherTail(k, n, k2, n2 uint64) float64 {
	x, m, failed, all := float64(k), float64(n), float64(k)+float64(k2), float64(n)+float64(n2)
	if n == 0 || n2 == 0 || x <= failed*m/all {
		return 1
	}
	first := math.Exp(logChoose(m, x) + logChoose(all-m, failed-x) - logChoose(all, failed))
	return sumTail(first, func(i float64) float64 {
		return (failed - x - i) * (m - x - i) / ((x + i + 1) * (all - failed - m + x + i + 1))
	})
}

// poissonLowerTail returns the probability of seeing k or fewer where mean were
// expected, 1 where k is no less than that.
func poissonLowerTail(k uint64, mean float64) float64 {
	x := float64(k)
	if x >= mean {
		return 1
	}
	logFactorial, _ := math.Lgamma(x + 1)
	return sumTail(math.Exp(x*math.Log(mean)-mean-logFactorial), func(i float64) float64 { return (x - i) / mean })
}
