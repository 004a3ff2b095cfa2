package shift

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

func TestPercent(t *testing.T) {
	t.Parallel()
	for h := Hundredths(0); h <= Whole; h++ {
		parsed, err := ParsePercent(h.Percent())
		require.NoError(t, err)
		require.Equal(t, h, parsed)
		share, ok := upstream.Millionths(h.Percent())
		require.True(t, ok)
		require.Equal(t, share, h.Millionths(), "the mesh routes by the same number")
	}
	for given, want := range map[v1alpha1.Percent]v1alpha1.Percent{"0": "0", "0.10": "0.1", "0.01": "0.01", "050": "50", "100.00": "100", "12.5": "12.5"} {
		parsed, err := ParsePercent(given)
		require.NoError(t, err)
		require.Equal(t, want, parsed.Percent())
	}
	for _, bad := range []v1alpha1.Percent{"", ".", ".5", "5.", "-1", "+1", "1e1", "0.001", "100.01", "101", "1000", "1 ", "５"} {
		_, err := ParsePercent(bad)
		require.Error(t, err, "%q", bad)
	}
	require.Equal(t, "0.1 %", Hundredths(10).String())
	require.InDelta(t, .001, Hundredths(10).Part(), 1e-12)
}
