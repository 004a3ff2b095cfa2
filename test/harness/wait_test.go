package harness_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/test/harness"
)

// On a clock that only waiting moves.
func TestWaits(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		after time.Duration // the check's answer changes then
		wait  func(t harness.TB, check func() error)
		turns bool // from an error to none, or the other way
		want  string
	}{
		{"it comes", time.Second, eventually, true, ""},
		{"it comes too late", 4 * time.Second, eventually, true, "for a turn: not now"},
		{"it stays", 4 * time.Second, throughout, false, ""},
		{"it goes", time.Second, throughout, false, "a turn holds no more after 1s: not now"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				err := harness.Run(context.Background(), tc.name, nil, func(_ context.Context, tb harness.TB) {
					tc.wait(tb, func() error {
						if (time.Since(start) < tc.after) == tc.turns {
							return errors.New("not now")
						}
						return nil
					})
				})
				if tc.want == "" {
					require.NoError(t, err)
				} else {
					require.ErrorContains(t, err, tc.want)
				}
				require.Less(t, time.Since(start), 4*time.Second)
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		harness.TakeTime(1300 * time.Millisecond)
		second := time.Now().Unix()
		harness.NextSecond()
		require.Equal(t, second+1, time.Now().Unix())
		require.Zero(t, time.Now().Nanosecond())
	})
}

func eventually(t harness.TB, check func() error) {
	harness.Eventually(t, 3*time.Second, "a turn", check)
}

func throughout(t harness.TB, check func() error) {
	harness.Throughout(t, 3*time.Second, "a turn", check)
}
