package objects

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// FuzzObjects decodes arbitrary specs of every kind that a CRD defines.
func FuzzObjects(f *testing.F) {
	for _, v := range specCases() {
		data, err := yaml.YAMLToJSON([]byte(v.text))
		require.NoError(f, err)
		f.Add(string(data))
	}
	f.Fuzz(func(t *testing.T, text string) {
		var meta metav1.TypeMeta
		_ = json.Unmarshal([]byte(text), &meta)
		for _, k := range Kinds() {
			if meta.Kind != "" && meta.Kind != k.Name {
				continue
			}
			var rows, again Rows
			mistakes := k.Decode([]byte(text), "k", &rows)
			for _, m := range mistakes {
				require.NotEmpty(t, m.Message)
				require.NotEmpty(t, m.Remedy)
			}
			if len(mistakes) > 0 {
				require.Equal(t, Rows{}, rows)
			}
			require.Equal(t, mistakes, k.Decode([]byte(text), "k", &again), "the same words each time")
			require.Equal(t, rows, again)
			for _, o := range rows.Objects {
				require.Len(t, o.Refs, len(slices.Compact(slices.Clone(o.Refs))))
				for _, r := range o.Refs {
					require.NotEmpty(t, r.Kind)
					require.NotEmpty(t, r.Key.Name)
				}
			}
		}
	})
}

func BenchmarkDecodeHTTPRoute(b *testing.B) {
	data, err := yaml.YAMLToJSON([]byte(routes()[2].text))
	require.NoError(b, err)
	kind := Kinds()[slices.IndexFunc(Kinds(), func(k Kind) bool { return k.Name == "HTTPRoute" })]
	var rows Rows
	require.Empty(b, kind.Decode(data, "k", &rows))
	for b.Loop() {
		rows = Rows{}
		kind.Decode(data, "k", &rows)
	}
}
