package server

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// Whatever parties want, take, give back and give up: nobody has more than he may, what fits is admitted, one's responses
// keep their order, and in the end nothing is left behind.
func TestRandomAdmissions(t *testing.T) {
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) { randomAdmissions(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

// wish is a response of a test.
type wish struct {
	party
	bytes    int64 // as admitted
	cancel   context.CancelFunc
	admitted chan int64 // 0 if it was not
}

func randomAdmissions(t *testing.T, rnd *rand.Rand) {
	t.Helper()
	a := newAdmission()
	var waiting, has []*wish
	take := func(from *[]*wish) *wish {
		i := rnd.IntN(len(*from))
		w := (*from)[i]
		*from = slices.Delete(*from, i, i+1)
		return w
	}
	settle := func() {
		synctest.Wait()
		first := make(map[party]bool) // somebody of it still waits
		waiting = slices.DeleteFunc(waiting, func(w *wish) bool {
			select {
			case w.bytes = <-w.admitted:
				require.False(t, first[w.party], "%v: a later response overtook an earlier one", w.party)
				has = append(has, w)
				return true
			default:
				first[w.party] = true
				return false
			}
		})
		checkAdmission(t, a, waiting, has)
	}
	identities, connections := 1+rnd.IntN(4), 1+rnd.IntN(12)
	for range 300 {
		switch n := rnd.IntN(10); {
		case n < 5:
			p := party{identity: fmt.Sprint(rnd.IntN(identities)), connection: fmt.Sprint(rnd.IntN(connections))}
			p.connection = p.identity + "-" + p.connection
			ctx, cancel := context.WithCancel(t.Context())
			w := &wish{party: p, cancel: cancel, admitted: make(chan int64, 1)}
			bytes := 1 + rnd.Int64N(admitPerConnection*5/4) // larger than one may have, too
			waiting = append(waiting, w)
			go func() {
				n, err := a.acquire(ctx, p, bytes)
				if err == nil {
					w.admitted <- n
				}
			}()
		case n < 8 && len(has) > 0:
			w := take(&has)
			a.release(w.party, w.bytes)
			w.cancel()
		case len(waiting) > 0:
			take(&waiting).cancel()
		}
		settle()
	}
	for len(waiting)+len(has) > 0 {
		if len(has) > 0 {
			w := take(&has)
			a.release(w.party, w.bytes)
			w.cancel()
		} else {
			t.Fatalf("nobody has anything, and %d wait", len(waiting))
		}
		settle()
	}
	require.Empty(t, a.shares)
	require.Empty(t, a.turns)
	require.Zero(t, a.held)
}

// checkAdmission compares what is held with what was admitted, and looks for somebody who waits without need.
func checkAdmission(t *testing.T, a *admission, waiting, has []*wish) {
	t.Helper()
	identities, connections, all := make(map[string]int64), make(map[string]int64), int64(0)
	for _, w := range has {
		identities[w.identity] += w.bytes
		connections[w.connection] += w.bytes
		all += w.bytes
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	require.Equal(t, all, a.held)
	require.LessOrEqual(t, all, int64(admitBytes))
	for _, n := range identities {
		require.LessOrEqual(t, n, int64(admitPerIdentity))
	}
	for _, n := range connections {
		require.LessOrEqual(t, n, int64(admitPerConnection))
	}
	count, fits, tooLarge := 0, "", false
	for _, identity := range slices.Sorted(maps.Keys(a.shares)) {
		s := a.shares[identity]
		require.Equal(t, identities[identity], s.held, identity)
		one, full := "", false // a connection that could go on, and whether it is the turn of one for which its identity has too much
		for connection, l := range s.lines {
			require.Equal(t, connections[connection], l.held, connection)
			count += len(l.waiting)
			if len(l.waiting) == 0 {
				continue
			}
			n := l.waiting[0].bytes
			switch {
			case l.held+n > admitPerConnection:
			case s.held+n > admitPerIdentity:
				full = true
			case a.held+n > admitBytes:
				tooLarge = true
			default:
				one = connection
			}
		}
		if !full && one != "" {
			fits = one
		}
	}
	require.Len(t, waiting, count)
	// One that fits waits only if it is another's turn, who waits until there is room.
	require.True(t, fits == "" || tooLarge, "%s waits although it may have what it wants and nobody is before it", fits)
}
