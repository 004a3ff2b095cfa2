package snapshot

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/xds/resource"
)

// What is remembered of refusals is bounded, however many proxies refuse however much, and goes with them.
func TestComplaintsAreBounded(t *testing.T) {
	s, _ := stagedStore(t)
	const clusters = maxComplaintsOfAll/maxComplaints + 100
	resources := make([]resource.Resource, clusters)
	for i := range resources {
		resources[i] = res(resource.VirtualHost, fmt.Sprint("http/h", i), "x")
	}
	apply(s, "u", resources...)
	kept := func() (n int) {
		for _, list := range s.complaints {
			n += len(list)
		}
		require.Equal(t, n, s.complained)
		return n
	}
	var subs []*Subscriber
	for i := range maxComplaints {
		sub := s.Subscribe(View{Node: fmt.Sprint("n", i)}, Mode{})
		subs = append(subs, sub)
		s.mu.Lock()
		for id, e := range s.tables[resource.VirtualHost].entries {
			s.complain(sub, ref{resource.VirtualHost, uint32(id)}, &e.content, nack{node: sub.view.Node, message: "no"}) //nolint:gosec // an id
		}
		s.mu.Unlock()
	}
	require.Equal(t, maxComplaintsOfAll, kept())
	for _, sub := range subs {
		sub.Close()
	}
	s.Expire(time.Now().Add(2 * AuthorGrace))
	require.Zero(t, kept())
}
