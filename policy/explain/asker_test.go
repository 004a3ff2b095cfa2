package explain

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery/catalog"
)

func TestFindWorkload(t *testing.T) {
	r := catalog.New().Read()
	proxies := []Proxy{
		{ID: "sidecar~web~cron~i-1", Service: "web/jobs", Zone: "a", Listeners: []string{"http/127.0.0.1:15001", "tcp/127.0.0.1:3306=data/mysql:3306"}},
		{ID: "sidecar~web~cron~i-2", Service: "web/jobs", Zone: "b", Listeners: []string{"http/127.0.0.1:15001"}},
	}
	for name, want := range map[string]Workload{
		"sidecar~web~cron~i-2": {Namespace: "web", Zone: "b", Listener: "http/127.0.0.1:15001"},
		"web/cron":             {Namespace: "web", Zone: "a", OtherZones: []string{"b"}, Listener: "http/127.0.0.1:15001"},
		"web/jobs":             {Namespace: "web", Zone: "a", OtherZones: []string{"b"}, Listener: "http/127.0.0.1:15001"},
	} {
		got, err := findWorkload(r, proxies, name, place{})
		require.NoError(t, err)
		require.Equal(t, want, got, name)
	}
	got, err := findWorkload(r, proxies, "web/cron", place{zone: "b"})
	require.NoError(t, err)
	require.Equal(t, Workload{Namespace: "web", Zone: "b", Listener: "http/127.0.0.1:15001"}, got)
	_, err = findWorkload(r, proxies, "sidecar~web~cron~i-3", place{})
	require.ErrorContains(t, err, "no proxy sidecar~web~cron~i-3 is connected")
	got, err = findWorkload(r, nil, "sidecar~web~cron~i-3", place{zone: "c"})
	require.NoError(t, err)
	require.Equal(t, Workload{Namespace: "web", Zone: "c"}, got)
}

// A workload is on the node that its proxies say, or on the one that is asked for.
func TestFindWorkloadByNode(t *testing.T) {
	proxies := []Proxy{
		{ID: "sidecar~web~cron~i-1", Zone: "a"}, {ID: "sidecar~web~cron~p-1", Zone: "a", Node: "n1"}, {ID: "sidecar~web~cron~p-3", Zone: "a", Node: "n3"},
	}
	r := catalog.New().Read()
	for at, want := range map[place]Workload{
		{}:           {Namespace: "web", Zone: "a", Node: "n1", OtherNodes: []string{"n3"}},
		{node: "n3"}: {Namespace: "web", Zone: "a", Node: "n3"},
		{node: "n4"}: {Namespace: "web", Zone: "a", Node: "n4"},
		{zone: "b"}:  {Namespace: "web", Zone: "b"},
	} {
		got, err := findWorkload(r, proxies, "web/cron", at)
		require.NoError(t, err)
		require.Equal(t, want, got, "%+v", at)
	}
	got, err := findWorkload(r, proxies, "sidecar~web~cron~p-3", place{})
	require.NoError(t, err)
	require.Equal(t, Workload{Namespace: "web", Zone: "a", Node: "n3"}, got)
}
