package objects

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/resolve"
)

// The schema checks all that it can: an object that it accepts is never invalid
// on its own, however odd its values are.
func TestWhatTheSchemaTakesIsValid(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, v := range append(specCases(), mutants(rand.New(rand.NewPCG(seed, 0)), 2000)...) {
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

// More mistakes than are told are not looked for: each costs a search for what
// was meant, and is compared with each of the checks.
func TestMistakesAreBounded(t *testing.T) {
	list := strings.Repeat(`{"addresses":["x"],"zne":"a"},`, 5000)
	for name, spec := range map[string]string{
		"unknown fields":       `"endpoints":[` + list + `{"zone":"a"}]`,
		"values of no type":    `"endpoints":[` + strings.Repeat("1,", 5000) + `2]`,
		"in a mapping":         `"metadata":{"labels":{"a":[]` + numbered(5000, `,"l%d":1`) + `}}`,
		"fields of the object": `"a":1` + numbered(5000, `,"field%d":1`),
	} {
		t.Run(name, func(t *testing.T) {
			var s discoveryv1.EndpointSlice
			rest, mistakes := decodeStrict([]byte(`{"addressType":"IPv4",`+spec+`}`), &s)
			require.Len(t, mistakes, MaxMistakes+1)
			require.JSONEq(t, "{}", string(rest))
			require.Equal(t, discoveryv1.EndpointSlice{}, s)
			require.Equal(t, mistakes, together(rest, mistakes, checkEndpointSlice(&s)), "nothing is left to check")
		})
	}
}

func numbered(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}
