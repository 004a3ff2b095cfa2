package snapshot

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/xds/resource"
)

// Names of resources cost nobody anything: a fleet of a thousand proxies that follow the endpoints of a
// thousand clusters each is served, and what is no resource is counted once and given back once.
func TestNamesOfResourcesAreNotCounted(t *testing.T) {
	s := New()
	const clusters, proxies = 1000, 50
	names := make([]string, clusters)
	resources := make([]resource.Resource, clusters)
	for i := range names {
		names[i] = fmt.Sprintf("web/service-%04d/80/pods", i)
		resources[i] = res(resource.Endpoint, names[i], "x")
	}
	apply(s, "mesh", resources...)
	all := NewBudget(clusters*(nameOverhead+int64(len(names[0]))), nil) // what one of them would take
	subs := make([]*Subscriber, proxies)
	for i := range subs {
		subs[i] = s.Subscribe(View{}, Mode{Names: NewBudget(all.most, all)})
		require.NoError(t, subs[i].Add(resource.Endpoint, names, nil), "proxy %d", i)
	}
	require.Zero(t, all.used)

	// A name that is no resource is counted, also once it has become one.
	require.NoError(t, subs[0].Add(resource.Endpoint, []string{"absent"}, nil))
	cost := int64(len("absent")) + nameOverhead
	require.Equal(t, cost, all.used)
	require.NoError(t, subs[1].Add(resource.Endpoint, []string{"absent"}, nil))
	require.Equal(t, 2*cost, all.used, "it stays for whoever follows it last")
	s.Apply(time.Time{}, []Update{{Unit: "other", Resources: []resource.Resource{res(resource.Endpoint, "absent", "x")}}})
	require.NoError(t, subs[2].Add(resource.Endpoint, []string{"absent"}, nil))
	require.Equal(t, 2*cost, all.used)
	for _, sub := range subs[:3] {
		sub.Remove(resource.Endpoint, []string{"absent"})
	}
	require.Zero(t, all.used, "what was not counted is not given back")
	for _, sub := range subs {
		sub.Close()
	}
	require.Zero(t, all.used)
}
