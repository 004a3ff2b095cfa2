package ec2

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func ids(from, to int) []string {
	var out []string
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprintf("i-%03d", i))
	}
	return out
}

func TestGuard(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name      string
		size      int
		missing   int
		accounted int
		percent   int32
		held      int
	}{
		{"nothing is missing", 10, 0, 10, 30, 0},
		{"as many as may go", 10, 3, 7, 30, 0},
		{"one more", 10, 4, 6, 30, 4},
		{"an empty answer", 10, 10, 0, 30, 10},
		{"at least one may go", 3, 1, 2, 30, 0},
		{"two of three", 3, 2, 1, 30, 2},
		{"zero percent still lets one go", 10, 1, 9, 0, 0},
		{"the last one", 1, 1, 0, 30, 1},
		{"the last one, and a new one", 1, 1, 1, 30, 0},
		{"a guard that is switched off", 10, 10, 0, 100, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			held, next := guard{}.apply(&answerEffect{
				size: c.size, accounted: c.accounted, missing: ids(0, c.missing), maxPercent: c.percent,
			}, now)
			require.Len(t, held, c.held)
			require.Len(t, next.held, c.held)
			require.Len(t, next.removed, c.missing-c.held)
		})
	}
}

func TestGuardRemembers(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	// Ten endpoints; each answer lacks one more. Three go, then the window is full.
	g, size := guard{}, 10
	var held []string
	for i := range 4 {
		held, g = g.apply(&answerEffect{size: size, accounted: size - 1, missing: ids(i, i+1), maxPercent: 30}, at.Add(time.Duration(i)*time.Minute))
		size -= 1 - len(held)
	}
	require.Equal(t, ids(3, 4), held)
	// When the window is over the held one stays: time is no second source.
	held, g = g.apply(&answerEffect{size: size, accounted: size - 1, missing: ids(3, 4), maxPercent: 30}, at.Add(time.Hour))
	require.Equal(t, ids(3, 4), held)
	require.Empty(t, g.removed)
	// A release of before it was held is none; one of after it is.
	held, _ = g.apply(&answerEffect{size: size, accounted: size - 1, missing: ids(3, 4), maxPercent: 30, released: at.Add(2 * time.Minute)}, at.Add(time.Hour))
	require.Len(t, held, 1)
	held, next := g.apply(&answerEffect{size: size, accounted: size - 1, missing: ids(3, 4), maxPercent: 30, released: at.Add(3 * time.Minute)}, at.Add(time.Hour))
	require.Empty(t, held)
	require.Empty(t, next.removed, "what an SRE lets go does not count")
	held, _ = g.apply(&answerEffect{size: size, accounted: size - 1, missing: ids(3, 4), maxPercent: 30, released: at.Add(3*time.Minute - 1)}, at.Add(time.Hour))
	require.Len(t, held, 1, "held the moment after the release")
	// It is mentioned again, and missing again: that is a new hold, which the old release is not about.
	_, g = g.apply(&answerEffect{size: size, accounted: size, maxPercent: 30}, at.Add(time.Hour))
	require.Empty(t, g.held)
	held, _ = g.apply(&answerEffect{size: size, accounted: 0, missing: ids(3, 9), maxPercent: 30, released: at.Add(30 * time.Minute)}, at.Add(2*time.Hour))
	require.Len(t, held, 6)
	// A second source agrees on two of them.
	held, _ = g.apply(&answerEffect{
		size: size, accounted: 1, missing: ids(3, 9), maxPercent: 30, confirmed: map[string]string{"i-003": "x", "i-004": "x"},
	}, at.Add(2*time.Hour))
	require.Equal(t, ids(5, 9), held)
}

// TestGuardProperties plays random histories of answers and checks what an SRE
// relies on, whatever happens.
func TestGuardProperties(t *testing.T) {
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 7)) //nolint:gosec // reproducible
		percent := int32(r.IntN(100))
		now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
		alive := make(map[string]struct{})
		for _, id := range ids(0, 1+r.IntN(40)) {
			alive[id] = struct{}{}
		}
		born := len(alive)
		var g guard
		type removal struct {
			at   time.Time
			base int
		}
		var unconfirmed []removal
		for range 60 {
			now = now.Add(time.Duration(r.IntN(90)) * time.Second)
			lack := r.Float64() * r.Float64() * r.Float64()
			e := &answerEffect{size: len(alive), maxPercent: percent, confirmed: make(map[string]string)}
			for _, id := range sortedKeys(alive) {
				if r.Float64() >= lack {
					e.accounted++
					continue
				}
				e.missing = append(e.missing, id)
				if r.IntN(10) == 0 {
					e.confirmed[id] = "agreed"
				}
			}
			if r.IntN(5) == 0 {
				e.released = now.Add(-time.Duration(r.IntN(600)) * time.Second)
			}
			before := g
			held, next := g.apply(e, now)
			g = next
			heldNow := make(map[string]struct{})
			for _, id := range held {
				heldNow[id] = struct{}{}
				require.True(t, slices.Contains(e.missing, id), "seed %d: only what is missing is held: %s", seed, id)
				require.NotContains(t, e.confirmed, id, "seed %d: what a second source agrees on goes", seed)
			}
			gone := 0
			for _, id := range e.missing {
				_, stays := heldNow[id]
				since, wasHeld := before.held[id]
				if stays {
					if wasHeld {
						require.Equal(t, since, next.held[id], "seed %d: held since then, not anew", seed)
					}
					continue
				}
				delete(alive, id)
				if _, ok := e.confirmed[id]; ok {
					continue
				}
				if wasHeld {
					require.False(t, since.After(e.released), "seed %d: held once, it goes only when it is released", seed)
					continue
				}
				gone++
				unconfirmed = append(unconfirmed, removal{now, e.size})
			}
			if gone > 0 {
				require.Positive(t, e.accounted, "seed %d: nothing unconfirmed empties the group", seed)
			}
			inWindow := 0
			for _, u := range unconfirmed {
				if now.Sub(u.at) < guardWindow {
					inWindow++
				}
			}
			if gone > 0 {
				base := e.size + inWindow - gone
				require.LessOrEqual(t, inWindow, max(1, base*int(percent)/100), "seed %d: more than maxPercent went in five minutes", seed)
			}
			for range r.IntN(3) { // scale-out
				alive[fmt.Sprintf("i-%03d", born)] = struct{}{}
				born++
			}
		}
	}
}

// TestGuardIsMonotone: an answer that lacks more never removes more without a second source.
func TestGuardIsMonotone(t *testing.T) {
	now := time.Now()
	for size := 1; size <= 40; size++ {
		for percent := int32(0); percent < 100; percent += 7 {
			everHeld := false
			for lack := 0; lack <= size; lack++ {
				held, _ := guard{}.apply(&answerEffect{size: size, accounted: size - lack, missing: ids(0, lack), maxPercent: percent}, now)
				if everHeld {
					require.Len(t, held, lack, "size %d, %d %%, %d missing", size, percent, lack)
				}
				everHeld = everHeld || len(held) > 0
			}
			require.True(t, everHeld, "an empty answer is always held")
		}
	}
}

func sortedKeys(m map[string]struct{}) []string { return slices.Sorted(maps.Keys(m)) }

func TestParseRelease(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 500, time.UTC)
	for value, want := range map[string]string{
		"2026-11-23T12:00:00Z":           "2026-11-23T12:00:00.999999999Z",
		"2026-11-23T12:00:00.25Z":        "2026-11-23T12:00:00.25Z",
		"2026-11-23T21:00:00+09:00":      "2026-11-23T21:00:00.999999999+09:00",
		"2026-11-23T12:00:59Z":           "2026-11-23T12:00:59.999999999Z",
		"2026-11-23T12:01:01Z":           "",
		"2099-01-01T00:00:00Z":           "",
		"true":                           "",
		"":                               "",
		"2026-11-23 12:00:00 +0000 UTC":  "",
		"9999999999-01-01T00:00:00.000Z": "",
	} {
		got, err := parseRelease(value, now)
		if want == "" {
			require.Error(t, err, value)
			continue
		}
		require.NoError(t, err, value)
		require.Equal(t, want, got.Format(time.RFC3339Nano))
	}
}
