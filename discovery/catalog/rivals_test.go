package catalog_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
)

// state is which source's row is in force of a Service, and which are set aside.
func state(r catalog.Reader) (inForce string, generation int64, rivals []string) {
	if s, ok := catalog.Services.Get(r, "web/a"); ok {
		inForce, generation = s.Scope, s.Generation
	}
	for rival := range catalog.Rivals.All(r) {
		rivals = append(rivals, rival.Scope)
	}
	return inForce, generation, rivals
}

// Two sources that name one object are told, and neither overwrites the other: which row is in force
// does not depend on who came first, and when one source lets go the other has it.
func TestTwoSourcesThatNameOneObject(t *testing.T) {
	for name, order := range map[string][]string{"files first": {"file", "kubernetes/services"}, "files last": {"kubernetes/services", "file"}} {
		t.Run(name, func(t *testing.T) {
			c := catalog.New()
			for _, scope := range order {
				write(t, c, func(tx *catalog.Tx) {
					catalog.Services.Replace(tx, scope, []*discovery.Service{service(scope, "a", 1), service(scope, scope, 1)})
				})
			}
			inForce, _, rivals := state(c.Read())
			require.Equal(t, "file", inForce)
			require.Equal(t, []string{"kubernetes/services"}, rivals)

			write(t, c, func(tx *catalog.Tx) { catalog.Services.Claim(tx, service("kubernetes/services", "a", 2)) })
			inForce, generation, _ := state(c.Read())
			require.Equal(t, "file", inForce, "a change of the other is none here")
			require.EqualValues(t, 1, generation)
			own, ok := catalog.Services.Own(c.Read(), "kubernetes/services", "web/a")
			require.True(t, ok)
			require.EqualValues(t, 2, own.Generation)

			write(t, c, func(tx *catalog.Tx) { catalog.Services.Replace(tx, "file", nil) })
			inForce, generation, rivals = state(c.Read())
			require.Equal(t, "kubernetes/services", inForce)
			require.EqualValues(t, 2, generation, "as it is by now")
			require.Empty(t, rivals)
			write(t, c, func(tx *catalog.Tx) { catalog.Services.Withdraw(tx, "file", "web/a") })
			inForce, _, _ = state(c.Read())
			require.Equal(t, "kubernetes/services", inForce, "nobody takes away what is another's")
			write(t, c, func(tx *catalog.Tx) { catalog.Services.Withdraw(tx, "kubernetes/services", "web/a") })
			inForce, _, _ = state(c.Read())
			require.Empty(t, inForce)
		})
	}
}

// Whatever sources do, and in whichever order, the first of those that have a row is in force and all others are set aside.
func TestRivalsProperty(t *testing.T) {
	scopes := []string{"a", "b", "c"}
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 0))
		c := catalog.New()
		has := map[string]int64{}
		for step := range 30 {
			scope := scopes[rng.IntN(len(scopes))]
			write(t, c, func(tx *catalog.Tx) {
				switch rng.IntN(4) {
				case 0:
					catalog.Services.Claim(tx, service(scope, "a", int64(step)))
					has[scope] = int64(step)
				case 1:
					catalog.Services.Withdraw(tx, scope, "web/a")
					delete(has, scope)
				case 2:
					catalog.Services.Replace(tx, scope, []*discovery.Service{service(scope, "a", int64(step))})
					has[scope] = int64(step)
				case 3:
					catalog.Services.Replace(tx, scope, nil)
					delete(has, scope)
				}
			})
			var want []string
			for _, s := range scopes {
				if _, ok := has[s]; ok {
					want = append(want, s)
				}
			}
			inForce, generation, rivals := state(c.Read())
			if len(want) == 0 {
				require.Empty(t, inForce)
				require.Empty(t, rivals)
				continue
			}
			require.Equal(t, want[0], inForce)
			require.Equal(t, has[inForce], generation)
			require.Equal(t, append([]string(nil), want[1:]...), rivals)
		}
	}
}
