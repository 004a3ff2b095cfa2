package routing

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0s": 0, "1h": time.Hour, "1m30s": 90 * time.Second, "500ms": 500 * time.Millisecond,
		"1h2h20m10m": 3*time.Hour + 30*time.Minute, "00060m": time.Hour, "99999h": 99999 * time.Hour,
	} {
		got, err := parseDuration(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "0", "1", "s", "1.5s", "-1s", "+1s", "1d", "100000s", "1h1h1h1h1h", "1s ", " 1s", "1µs", "1H"} {
		_, err := parseDuration(text)
		require.Error(t, err, text)
	}
}
