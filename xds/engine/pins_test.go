package engine

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// A restart fills the catalog bit by bit. What a proxy refused must not reach
// anybody because a Service was compiled before all of it was read.
func TestPinsSurviveACatalogThatIsBeingFilled(t *testing.T) {
	key := discovery.Key{Namespace: "a", Name: "s"}
	service := func(tx *catalog.Tx, home string) {
		catalog.Services.Put(tx, &discovery.Service{
			Scope: "test", Key: key, Home: home, Ports: []discovery.ServicePort{{Name: "http", Port: 80}},
		})
	}
	view := snapshot.View{Role: resource.Sidecar, Namespace: "a"}
	versions := func(s *snapshot.Store) map[string]string {
		out := make(map[string]string)
		for _, r := range s.Resources(view) {
			if r.Type == resource.Cluster {
				out[r.Name] = r.Version
			}
		}
		return out
	}
	cat := catalog.New()
	e, store := start(t, cat, func(e *Engine) { e.FollowFreezes(always) })
	commit(t, cat, e, func(tx *catalog.Tx) { service(tx, "Instances") })
	refused := versions(store)
	require.NotEmpty(t, refused)
	pin := snapshot.Pin{Unit: "service/a/s"}
	for name, version := range refused {
		pin.Rejected = append(pin.Rejected, snapshot.Rejection{Type: resource.Cluster, Name: name, Unit: pin.Unit, Versions: []string{version}})
	}

	for _, first := range []string{"nothing", "the home", "half of the Service"} {
		t.Run(first, func(t *testing.T) {
			restarted := snapshot.New()
			restarted.SetPins([]snapshot.Pin{pin})
			cat := catalog.New()
			read := func(r catalog.Reader) bool { s, ok := catalog.Sources.Get(r, "file"); return ok && s.Synced }
			e, _ := start(t, cat, func(e *Engine) { e.store = restarted; e.FollowFreezes(read) })
			switch first {
			case "the home":
				commit(t, cat, e, func(tx *catalog.Tx) { catalog.Homes.Put(tx, &discovery.Home{Scope: "state", Key: key}) })
			case "half of the Service":
				commit(t, cat, e, func(tx *catalog.Tx) { service(tx, "Pods") })
			}
			require.Len(t, restarted.Pins(), 1)
			commit(t, cat, e, func(tx *catalog.Tx) {
				service(tx, "Instances")
				catalog.Sources.Put(tx, &discovery.SourceStatus{Name: "file", Synced: true})
			})
			require.Len(t, restarted.Pins(), 1, "it is still what was refused")
			for name, version := range refused {
				require.NotEqual(t, version, versions(restarted)[name], name)
			}
			commit(t, cat, e, func(tx *catalog.Tx) { catalog.Services.Delete(tx, key.String()) })
			require.Empty(t, restarted.Pins(), "what is known to be gone ends it")
		})
	}
}
