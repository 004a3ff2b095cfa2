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
		got, err := findWorkload(r, proxies, name, "")
		require.NoError(t, err)
		require.Equal(t, want, got, name)
	}
	got, err := findWorkload(r, proxies, "web/cron", "b")
	require.NoError(t, err)
	require.Equal(t, Workload{Namespace: "web", Zone: "b", Listener: "http/127.0.0.1:15001"}, got)
	_, err = findWorkload(r, proxies, "sidecar~web~cron~i-3", "")
	require.ErrorContains(t, err, "no proxy sidecar~web~cron~i-3 is connected")
	got, err = findWorkload(r, nil, "sidecar~web~cron~i-3", "c")
	require.NoError(t, err)
	require.Equal(t, Workload{Namespace: "web", Zone: "c"}, got)
}
