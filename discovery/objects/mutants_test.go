package objects

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// oddities are what a field is replaced by.
func oddities() []any {
	return []any{
		nil, true, 0, -1, 1, 80, 1.5, 65536, 1 << 40, "", "a", "A", "0", "0s", "1ms", "-1s", "10h", "a b", "/a", "/a b", "*", "a.example.com", "192.0.2.1", "::1", "100.001",
		strings.Repeat("a", 300),
		[]any{},
		[]any{nil},
		[]any{"a", "a"},
		[]any{1},
		map[string]any{},
		map[string]any{"a": "b"},
		[]any{map[string]any{}},
	}
}

// mutants returns n objects, each a right one with a change or a few in its
// spec: a value replaced, a field removed, renamed or added, an item repeated.
func mutants(r *rand.Rand, n int) []specCase {
	var right []specCase
	for _, v := range specCases() {
		if v.mistake == "" && strings.Contains(v.text, "\nspec: {") {
			right = append(right, v)
		}
	}
	out := make([]specCase, 0, n)
	for len(out) < n {
		v := right[r.IntN(len(right))]
		var object map[string]any
		if err := yaml.Unmarshal([]byte(v.text), &object); err != nil {
			panic(err)
		}
		for range 1 + r.IntN(2) {
			object["spec"] = mutated(r, object["spec"])
		}
		if _, ok := object["spec"].(map[string]any); !ok {
			continue
		}
		text, err := json.Marshal(object)
		if err != nil {
			panic(err)
		}
		out = append(out, specCase{name: v.name, text: string(text)})
	}
	return out
}

// mutated changes one value somewhere in a tree.
func mutated(r *rand.Rand, v any) any {
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 {
			return map[string]any{"extra": 1}
		}
		keys := slices.Sorted(maps.Keys(v))
		key := keys[r.IntN(len(keys))]
		switch r.IntN(12) {
		case 0:
			delete(v, key)
		case 1:
			v[key+"s"] = v[key]
			delete(v, key)
		case 2:
			v[key] = oddities()[r.IntN(len(oddities()))]
		default:
			v[key] = mutated(r, v[key])
		}
		return v
	case []any:
		if len(v) == 0 {
			return []any{"a"}
		}
		i := r.IntN(len(v))
		switch r.IntN(10) {
		case 0:
			return append(v, v[i])
		case 1:
			return slices.Delete(v, i, i+1)
		default:
			v[i] = mutated(r, v[i])
		}
		return v
	}
	// Mostly of the same type, because another one is refused before anything else is looked at.
	odd := oddities()[r.IntN(len(oddities()))]
	for range 20 {
		if r.IntN(5) == 0 || reflect.TypeOf(odd) == reflect.TypeOf(v) || isNumber(odd) && isNumber(v) {
			break
		}
		odd = oddities()[r.IntN(len(oddities()))]
	}
	return odd
}

func isNumber(v any) bool {
	switch v.(type) {
	case int, float64:
		return true
	}
	return false
}

// Right objects that were changed at random are accepted or refused alike in a file
// and at the API server.
func TestFilesAndTheAPIServerAgreeOnMutants(t *testing.T) {
	server := apiServer(t, experimental)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	accepted, refused := 0, 0
	for _, v := range mutants(rand.New(rand.NewPCG(seed, 0)), 1500) {
		if server.compare(t, v) {
			accepted++
		} else {
			refused++
		}
	}
	t.Logf("%d were right, %d were wrong", accepted, refused)
	require.Greater(t, accepted, 100)
	require.Greater(t, refused, 500)
}
