package replica

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What stands in a replica's Lease can be reached, or it says how to make it so.
func TestReachable(t *testing.T) {
	for name, c := range map[string]struct{ listen, podIP, want, err string }{
		"an address":          {"10.0.0.7:18001", "", "10.0.0.7:18001", ""},
		"any, in a Pod":       {"[::]:18001", "10.0.0.7", "10.0.0.7:18001", ""},
		"any, IPv6":           {"[::]:18001", "fd00::7", "[fd00::7]:18001", ""},
		"any, not in a Pod":   {"0.0.0.0:18001", "", "", "set the environment variable POD_IP"},
		"any, with a mistake": {"[::]:18001", "here", "", "--observe-listen: other replicas cannot reach [::]:18001"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Reachable(c.listen, c.podIP)
			if c.err != "" {
				require.ErrorContains(t, err, c.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}
