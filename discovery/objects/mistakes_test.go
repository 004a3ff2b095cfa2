package objects

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/resolve"
)

// What a schema can judge, it judges: an object that it takes is never invalid
// on its own, however odd its values are.
func TestWhatTheSchemaTakesIsValid(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, v := range append(verdicts(), mutants(rand.New(rand.NewPCG(seed, 0)), 2000)...) {
		_, row, mistakes := offline(t, v.text)
		if len(mistakes) > 0 {
			continue
		}
		cat := catalog.New()
		_, err := cat.Write(time.Time{}, func(tx *catalog.Tx) error {
			catalog.Objects.Put(tx, row)
			return nil
		})
		require.NoError(t, err)
		for _, f := range resolve.Validate(cat.Read()) {
			require.NotEqual(t, policy.ReasonInvalid, f.Reason, "%s\n%s", v, f)
		}
	}
}
