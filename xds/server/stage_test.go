package server_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// A changed configuration goes to one proxy first, and to the next only after
// that one has accepted it.
func TestStagedPush(t *testing.T) {
	r, first := joined(t)
	r.store.Stage(time.Hour, func() {}, func(snapshot.StageResult) {})
	second := r.connect(t)
	second.subscribe(resource.VirtualHost)
	second.subscribe(resource.Cluster)
	second.expect(resource.Cluster, []string{"c1"}, nil)
	second.subscribe(resource.Endpoint, "c1")
	second.expect(resource.Endpoint, []string{"c1"}, nil)
	second.expect(resource.VirtualHost, []string{"http/h1"}, nil)
	second.subscribe(resource.Listener)
	second.expect(resource.Listener, nil, nil)

	change := func(text string) {
		r.put("s", cluster("c1", "v1"), simple(resource.Endpoint, "c1", "e1"), simple(resource.Route, "http", "r"),
			simple(resource.VirtualHost, "http/h1", text, "c1"))
	}
	change("h2")
	m := first.next()
	require.Equal(t, []string{"http/h1"}, names(m))
	select {
	case m := <-second.got:
		t.Fatalf("the second proxy got %v before the first has accepted", names(m))
	case <-time.After(50 * time.Millisecond):
	}
	first.ack(m)
	second.expect(resource.VirtualHost, []string{"http/h1"}, nil)

	change("h3")
	first.nack(first.next(), "no such thing")
	first.expect(resource.VirtualHost, []string{"http/h1"}, nil) // what it has, for certain
	select {
	case m := <-second.got:
		t.Fatalf("the second proxy got %v, which the first has refused", names(m))
	case <-time.After(50 * time.Millisecond):
	}
	rejections := r.store.Rejections()
	require.Len(t, rejections, 1)
	require.Equal(t, "no such thing", rejections[0].Error)
	require.True(t, rejections[0].Pinned)

	change("h4")
	first.expect(resource.VirtualHost, []string{"http/h1"}, nil)
	second.expect(resource.VirtualHost, []string{"http/h1"}, nil)
	require.Empty(t, r.store.Rejections())

	index := r.store.Index()
	require.Eventually(t, func() bool {
		for _, p := range r.server.Progress() {
			if p.Acknowledged < index {
				return false
			}
		}
		return len(r.server.Progress()) == 2
	}, 5*time.Second, time.Millisecond)
}

// Among many resources that are refused together, the one at fault is found,
// and the others are accepted.
func TestSearchForTheRefused(t *testing.T) {
	r := newRig(t)
	r.store.Stage(time.Hour, func() {}, func(snapshot.StageResult) {})
	const n = 100
	for i := range n {
		r.put(fmt.Sprint("u", i), simple(resource.VirtualHost, fmt.Sprintf("http/h%02d", i), fmt.Sprint(i)))
	}
	bad := map[string]bool{"http/h17": true, "http/h63": true}
	c := r.connect(t)
	c.subscribe(resource.VirtualHost)
	accepted := make(map[string]bool)
	responses := 0
	refusals := 0 // of one resource alone
	for len(accepted) < n-len(bad) || refusals < len(bad) {
		m := c.next()
		responses++
		refuse := false
		for _, name := range names(m) {
			refuse = refuse || bad[name]
		}
		if refuse {
			if len(names(m)) == 1 {
				refusals++
			}
			c.nack(m, "something in it is wrong")
			continue
		}
		for _, name := range names(m) {
			accepted[name] = true
		}
		c.ack(m)
	}
	require.LessOrEqual(t, responses, 60, "the search must halve")
	require.Eventually(t, func() bool { return len(r.store.Rejections()) == len(bad) }, 5*time.Second, time.Millisecond)
	for _, rejection := range r.store.Rejections() {
		require.True(t, bad[rejection.Name])
	}
}
