package routing

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/policy"
)

func TestDivideIsExactAndFair(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 20000 {
		weights := make([]uint32, 1+rnd.IntN(16))
		var sum float64
		for i := range weights {
			if rnd.IntN(3) > 0 {
				weights[i] = uint32(rnd.IntN([]int{3, 100, maxWeight + 1}[rnd.IntN(3)]))
			}
			sum += float64(weights[i])
		}
		total := []uint32{policy.ShareTotal, uint32(rnd.IntN(policy.ShareTotal))}[rnd.IntN(2)]
		parts := divide(total, weights)
		var got uint32
		for i, part := range parts {
			got += part
			if sum > 0 {
				require.InDelta(t, float64(total)*float64(weights[i])/sum, float64(part), 1, "%v of %d", weights, total)
			}
			if weights[i] == 0 {
				require.Zero(t, part)
			}
		}
		if sum > 0 {
			require.Equal(t, total, got, "%v", weights)
		} else {
			require.Zero(t, got)
		}
	}
}

// Raising the share of pods must never take a user away from them: the part of
// the pods, which comes first, only ever grows.
func TestPartOfPodsOnlyGrows(t *testing.T) {
	for _, weight := range []uint32{1, 3, 333333, 999999, policy.ShareTotal} {
		last := uint32(0)
		for share := uint32(0); share <= policy.ShareTotal; share += 997 {
			b := policy.Backend{Targets: []policy.Target{{Share: share}, {Share: policy.ShareTotal - share}}}
			allot(&b, weight)
			require.GreaterOrEqual(t, b.Targets[0].Share, last)
			require.Equal(t, weight, b.Targets[0].Share+b.Targets[1].Share)
			last = b.Targets[0].Share
		}
	}
}

func TestAllottingKeepsTheOriginal(t *testing.T) {
	shared := []policy.Target{{Share: policy.ShareTotal}}
	b := policy.Backend{Targets: shared}
	allot(&b, 5)
	require.Equal(t, uint32(policy.ShareTotal), shared[0].Share)
}
