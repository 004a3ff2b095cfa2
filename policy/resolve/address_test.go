package resolve

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
)

// Envoy refuses all virtual hosts if two have the same name, so a cluster IP
// belongs to one Service, and the other says so.
func TestClusterIPBelongsToOne(t *testing.T) {
	cat := catalog.New()
	service := func(name string, age time.Duration) *discovery.Service {
		return &discovery.Service{
			Scope: "test", Key: discovery.Key{Namespace: "web", Name: name}, ClusterIPs: []string{"10.96.0.7"},
			Ports: []discovery.ServicePort{{Name: "http", Port: 80}}, Created: time.Unix(1000, 0).Add(-age),
		}
	}
	_, err := cat.Write(time.Time{}, func(tx *catalog.Tx) error {
		catalog.Services.Put(tx, service("b-old", time.Hour))
		catalog.Services.Put(tx, service("a-new", 0))
		catalog.Services.Put(tx, service("c-new", 0))
		return nil
	})
	require.NoError(t, err)
	r := cat.Read()
	require.Equal(t, []string{"10.96.0.7"}, BuildService(r, discovery.Key{Namespace: "web", Name: "b-old"}).ClusterIPs)
	require.Empty(t, BuildService(r, discovery.Key{Namespace: "web", Name: "a-new"}).ClusterIPs)
	require.Empty(t, BuildService(r, discovery.Key{Namespace: "web", Name: "c-new"}).ClusterIPs)
	var told []string
	for _, f := range Validate(r) {
		if f.Reason == policy.ReasonConflicted {
			told = append(told, f.Object.Name)
			require.Contains(t, f.Message, "web/b-old")
		}
	}
	require.Equal(t, []string{"a-new", "c-new"}, told)
}

// The names of these two Services have the same first choice of a virtual address.
func TestVirtualAddressBelongsToOne(t *testing.T) {
	cat := catalog.New()
	older, newer := discovery.Key{Namespace: "web", Name: "s6868"}, discovery.Key{Namespace: "web", Name: "s53"}
	require.Equal(t, discovery.VirtualAddress(older, 0), discovery.VirtualAddress(newer, 0))
	row := func(key discovery.Key, created int64) *discovery.Service {
		return &discovery.Service{Scope: "test", Key: key, Ports: []discovery.ServicePort{{Name: "http", Port: 80}}, Created: time.Unix(created, 0)}
	}
	write := func(f func(*catalog.Tx)) (touched []policy.Unit) {
		feed := cat.Subscribe()
		defer feed.Close()
		feed.Take() // what was there before
		_, err := cat.Write(time.Time{}, func(tx *catalog.Tx) error { f(tx); return nil })
		require.NoError(t, err)
		b, ok := feed.Take()
		require.True(t, ok)
		for _, c := range b.Changes {
			Touched(b.Reader, c.Before, c.After, func(u policy.Unit) { touched = append(touched, u) })
		}
		return touched
	}
	first := func(key discovery.Key) string { return BuildService(cat.Read(), key).Virtual[0] }
	write(func(tx *catalog.Tx) { catalog.Services.Put(tx, row(newer, 2000)) })
	require.Equal(t, "241.38.238.107", first(newer))

	require.Contains(t, write(func(tx *catalog.Tx) { catalog.Services.Put(tx, row(older, 1000)) }), policy.ServiceUnit(newer))
	require.Equal(t, "241.38.238.107", first(older))
	require.Equal(t, discovery.VirtualAddress(newer, 1).String(), first(newer))

	require.Contains(t, write(func(tx *catalog.Tx) { catalog.Services.Delete(tx, older.String()) }), policy.ServiceUnit(newer))
	require.Equal(t, "241.38.238.107", first(newer))
}
