package replica

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
)

// shared is what replicas share.
type shared struct {
	records map[string][]byte
	writes  int
}

func (s *shared) Change(_ context.Context, change func(map[string][]byte)) error {
	change(s.records)
	s.writes++
	return nil
}

// What agents say to any replica, the one that reads EC2 applies, until it is taken back or nothing is heard any more.
func TestLeaves(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 30, 20, 0, 0, 0, time.UTC)
	store := &shared{records: map[string][]byte{}}
	var heard, applied []discovery.Leaving
	follower := NewLeaves(LeavesOptions{
		Identity: "b", Store: store, Log: slog.New(slog.DiscardHandler), Apply: func([]discovery.Leaving, time.Time) {},
		Heard: func(time.Time) []discovery.Leaving { return heard },
	})
	leader := NewLeaves(LeavesOptions{
		Identity: "a", Store: store, Log: slog.New(slog.DiscardHandler), Apply: func(l []discovery.Leaving, _ time.Time) { applied = l },
		Heard: func(time.Time) []discovery.Leaving { return nil },
	})
	turn := func() {
		follower.turn(t.Context(), now)
		leader.Take(store.records)
		leader.turn(t.Context(), now)
	}
	turn()
	require.Empty(t, applied)
	require.Zero(t, store.writes, "nothing is nothing to tell")

	heard = []discovery.Leaving{{Instance: "i-1", Namespace: "web", Reason: "SpotInterruption: x", Heard: now}}
	turn()
	require.Equal(t, heard, applied)
	require.Equal(t, 1, store.writes)

	now = now.Add(30 * time.Second)
	heard = []discovery.Leaving{{Instance: "i-1", Namespace: "web", Reason: "SpotInterruption: x", Heard: now}}
	turn()
	require.Equal(t, 1, store.writes, "that it still holds need not be said at once")
	now = now.Add(time.Minute)
	heard[0].Heard = now
	turn()
	require.Equal(t, 2, store.writes)

	now = now.Add(discovery.LeavingFor)
	leader.turn(t.Context(), now)
	require.Empty(t, applied, "the replica that heard it is gone")

	heard = nil
	turn()
	require.Empty(t, store.records)
	alone := NewLeaves(LeavesOptions{Apply: func(l []discovery.Leaving, _ time.Time) { applied = l }, Heard: func(time.Time) []discovery.Leaving {
		return []discovery.Leaving{{Instance: "i-2"}}
	}})
	alone.turn(t.Context(), now)
	require.Len(t, applied, 1)
}
