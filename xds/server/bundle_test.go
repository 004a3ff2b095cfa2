package server

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/mem"

	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// allFrames returns what a subscriber to all clusters of a store with n is sent.
func allFrames(t *testing.T, n int) ([]*snapshot.Frame, int) {
	t.Helper()
	store := snapshot.New()
	var up snapshot.Update
	for i := range n {
		up.Resources = append(up.Resources, resource.Resource{
			Type: resource.Cluster, Name: fmt.Sprintf("c%d", i),
			Body: resource.Parts{[]byte("a shared piece "), fmt.Appendf(nil, "and one of c%d", i)},
		})
	}
	store.Apply(time.Time{}, []snapshot.Update{up})
	sub := store.Subscribe(snapshot.View{}, snapshot.Mode{})
	t.Cleanup(sub.Close)
	require.NoError(t, sub.Add(resource.Cluster, []string{"*"}, nil))
	batches, _ := sub.Collect(snapshot.Settled{Now: time.Now()})
	require.Len(t, batches, 1)
	size := 0
	for _, f := range batches[0].Frames {
		size += f.Size
	}
	return batches[0].Frames, size
}

func TestBundlesJoinAndShare(t *testing.T) {
	frames, size := allFrames(t, 20)
	var pieces mem.BufferSlice
	for _, f := range frames {
		pieces = f.AppendDelta(pieces)
	}
	var b bundles
	first := b.join(resource.Cluster, frames, size).ReadOnlyData()
	require.Equal(t, pieces.Materialize(), first)
	again, _ := allFrames(t, 20)
	require.NotSame(t, frames[0], again[0])
	require.NotSame(t, &first[0], &b.join(resource.Cluster, again, size).ReadOnlyData()[0], "other frames may have other bytes")
	require.Same(t, &first[0], &b.join(resource.Cluster, frames, size).ReadOnlyData()[0])
	require.NotSame(t, &first[0], &b.join(resource.Cluster, frames[1:], size).ReadOnlyData()[0])
	for i := range 3 * bundlesKept {
		b.join(resource.Cluster, frames[:1+i%19], size)
		b.join(resource.Cluster, frames, size)
	}
	require.Len(t, b.recent[resource.Cluster], bundlesKept)
	require.Same(t, &first[0], &b.join(resource.Cluster, frames, size).ReadOnlyData()[0], "what is in use is kept")
}

func TestBundlesExpire(t *testing.T) {
	frames, size := allFrames(t, 20)
	synctest.Test(t, func(t *testing.T) {
		var b bundles
		b.join(resource.Cluster, frames, size)
		time.Sleep(bundleTime - time.Second) //nolint:forbidigo // on the test's own clock
		b.join(resource.Cluster, frames[1:], size)
		time.Sleep(2 * time.Second) //nolint:forbidigo // on the test's own clock
		synctest.Wait()
		b.mu.Lock()
		require.Len(t, b.recent[resource.Cluster], 1)
		b.mu.Unlock()
		time.Sleep(2 * bundleTime) //nolint:forbidigo // on the test's own clock
		synctest.Wait()
		b.mu.Lock()
		defer b.mu.Unlock()
		require.Empty(t, b.recent[resource.Cluster])
		require.Nil(t, b.timer)
	})
}
