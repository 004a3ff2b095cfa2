package rotate

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
)

// The steps of a rotation, and what becomes of a Secret that somebody has spoiled.
func TestRotationSteps(t *testing.T) {
	t.Parallel()
	r := New("a", "a.svc")
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := &corev1.Secret{Data: map[string][]byte{}}
	step := func(after time.Duration, trusted []byte, want string) {
		t.Helper()
		now = now.Add(after)
		what, err := r.Advance(s, trusted, now)
		require.NoError(t, err)
		if want == "" {
			require.Empty(t, what)
		} else {
			require.Contains(t, what, want)
		}
		_, err = r.Serving(s, now)
		require.NoError(t, err, "what is served is good at every time")
		require.True(t, bytes.Contains(Bundle(s), s.Data[keyCA]), "and trusted")
	}
	step(0, nil, "a new one is")
	step(59*24*time.Hour, Bundle(s), "")
	first := s.Data[keyCA]
	step(2*24*time.Hour, Bundle(s), "the next certificate is made")
	require.Equal(t, first, s.Data[keyCA])
	step(Settle/2, Bundle(s), "")
	step(Settle, first, "") // the API servers do not trust the next one yet
	step(0, Bundle(s), "the next certificate is served")
	require.Contains(t, string(Bundle(s)), string(first))
	step(Settle/2, Bundle(s), "")
	step(Settle, Bundle(s), "the former CA is forgotten")
	require.NotContains(t, string(Bundle(s)), string(first))

	// Nobody looked until it was over.
	step(365*24*time.Hour, Bundle(s), "a new one is")
	for _, key := range []string{keyCA, keyCert, keyKey} {
		s.Data[key] = []byte("spoiled")
		step(0, Bundle(s), "a new one is")
	}
	s.Data[keyNextCA] = []byte("spoiled")
	step(0, Bundle(s), "could not be read, and is forgotten")
	require.NotContains(t, string(Bundle(s)), "spoiled")
	r.Names = []string{"b.svc"}
	step(0, Bundle(s), "a new one is") // of another name
	require.Equal(t, 2, strings.Count(string(Bundle(s)), "BEGIN CERTIFICATE"), "the former stays trusted")
}
