package members

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/xds/members/membersv1"
)

func key(name string) discovery.Key { return discovery.Key{Namespace: "web", Name: name} }

func put(t *testing.T, c *catalog.Catalog, services ...*discovery.Service) {
	t.Helper()
	_, err := c.Write(time.Time{}, func(tx *catalog.Tx) error {
		catalog.Services.Replace(tx, "test", services)
		return nil
	})
	require.NoError(t, err)
}

func TestNameOf(t *testing.T) {
	http := []discovery.ServicePort{{Name: "http", Port: 80}}
	virtual := []string{discovery.VirtualAddress(key("users"), 0).String(), discovery.VirtualAddress6(key("users")).String()}
	for name, c := range map[string]struct {
		row  *discovery.Service
		want *membersv1.Service
	}{
		"with a cluster IP": {
			&discovery.Service{ClusterIPs: []string{"10.96.0.1", "fd00::1"}, Ports: http},
			&membersv1.Service{ClusterIps: []string{"10.96.0.1", "fd00::1"}, VirtualAddresses: virtual, Ports: []*membersv1.Port{{Name: "http", Number: 80}}},
		},
		"headless": {
			&discovery.Service{Ports: http},
			&membersv1.Service{Headless: true, VirtualAddresses: virtual, Ports: []*membersv1.Port{{Name: "http", Number: 80}}},
		},
		"external":              {&discovery.Service{ExternalName: "example.org", Ports: http}, &membersv1.Service{ExternalName: "example.org"}},
		"without a port":        {&discovery.Service{ClusterIPs: []string{"10.96.0.1"}}, &membersv1.Service{ClusterIps: []string{"10.96.0.1"}}},
		"that does not exist":   {nil, nil},
		"of a file, port twice": {&discovery.Service{ClusterIPs: []string{"10.96.0.1"}, Ports: append(http, http...)}, &membersv1.Service{ClusterIps: []string{"10.96.0.1"}, VirtualAddresses: virtual, Ports: []*membersv1.Port{{Name: "http", Number: 80}}}},
	} {
		t.Run(name, func(t *testing.T) {
			cat := catalog.New()
			if c.row != nil {
				c.row.Scope, c.row.Key = "test", key("users")
				c.want.Namespace, c.want.Name = "web", "users"
				put(t, cat, c.row)
			}
			require.Empty(t, cmp.Diff(c.want, NameOf(cat.Read(), key("users")), protocmp.Transform()))
		})
	}
}

// A Service of the type ExternalName is the mesh's own once somebody in it answers.
func TestExternalNameWithEndpoints(t *testing.T) {
	cat := catalog.New()
	put(t, cat, &discovery.Service{Scope: "test", Key: key("users"), ExternalName: "example.org", Ports: []discovery.ServicePort{{Port: 80}}})
	feed := cat.Subscribe()
	defer feed.Close()
	feed.Take()
	_, err := cat.Write(time.Time{}, func(tx *catalog.Tx) error {
		catalog.Endpoints.Replace(tx, "test", []*discovery.EndpointSet{{Scope: "test", Name: "a", Service: key("users")}})
		return nil
	})
	require.NoError(t, err)
	batch, ok := feed.Take()
	require.True(t, ok)
	var keys []discovery.Key
	touched(batch.Reader, &batch.Changes[0], func(k discovery.Key) { keys = append(keys, k) })
	require.Equal(t, []discovery.Key{key("users")}, keys)
	require.Empty(t, NameOf(batch.Reader, key("users")).GetExternalName())
}

// The pods of a headless Service have names, those of another Service have none; and a change of them is told.
func TestHosts(t *testing.T) {
	cat := catalog.New()
	ports := []discovery.ServicePort{{Name: "mysql", Port: 3306}}
	put(t, cat, &discovery.Service{Scope: "test", Key: key("db"), Ports: ports}, &discovery.Service{Scope: "test", Key: key("users"), Ports: ports, ClusterIPs: []string{"10.96.0.1"}})
	feed := cat.Subscribe()
	defer feed.Close()
	feed.Take()
	endpoints := func(more ...discovery.Endpoint) map[discovery.Key]bool {
		_, err := cat.Write(time.Time{}, func(tx *catalog.Tx) error {
			catalog.Endpoints.Replace(tx, "test", []*discovery.EndpointSet{
				{Scope: "test", Key: key("four"), Service: key("db"), Platform: discovery.Pods, Endpoints: more},
				{Scope: "test", Key: key("six"), Service: key("db"), Platform: discovery.Pods, Endpoints: []discovery.Endpoint{{ID: "web/db-0", Hostname: "db-0", Address: "fd00::7"}}},
				{Scope: "test", Key: key("users"), Service: key("users"), Platform: discovery.Pods, Endpoints: []discovery.Endpoint{{ID: "web/users-0", Hostname: "users-0", Address: "10.0.0.1"}}},
			})
			return nil
		})
		require.NoError(t, err)
		batch, ok := feed.Take()
		require.True(t, ok)
		keys := make(map[discovery.Key]bool)
		for i := range batch.Changes {
			touched(batch.Reader, &batch.Changes[i], func(k discovery.Key) { keys[k] = true })
		}
		return keys
	}
	endpoints(
		discovery.Endpoint{ID: "web/db-1", Hostname: "db-1", Address: "10.0.3.8", Health: discovery.Draining}, discovery.Endpoint{ID: "web/db-0", Hostname: "db-0", Address: "10.0.3.7"},
		discovery.Endpoint{ID: "web/db-2", Hostname: "db-2", Address: "10.0.3.9", Health: discovery.Unhealthy}, discovery.Endpoint{ID: "web/other", Address: "10.0.3.10"},
	)
	want := []*membersv1.Host{{Name: "db-0", Addresses: []string{"10.0.3.7", "fd00::7"}}, {Name: "db-1", Addresses: []string{"10.0.3.8"}}}
	require.Empty(t, cmp.Diff(want, NameOf(cat.Read(), key("db")).GetHosts(), protocmp.Transform()))
	require.Empty(t, NameOf(cat.Read(), key("users")).GetHosts())
	require.Equal(t, map[discovery.Key]bool{key("db"): true}, endpoints(), "they are gone")
	require.Empty(t, cmp.Diff([]*membersv1.Host{{Name: "db-0", Addresses: []string{"fd00::7"}}}, NameOf(cat.Read(), key("db")).GetHosts(), protocmp.Transform()))
}

// Two Services whose names give the same virtual address: the older one has it, and who shares it is touched.
func TestSharedAddresses(t *testing.T) {
	cat := catalog.New()
	early, late := time.Unix(1, 0), time.Unix(2, 0)
	ports := []discovery.ServicePort{{Name: "http", Port: 80}}
	a := &discovery.Service{Scope: "test", Key: key("a"), ClusterIPs: []string{"10.96.0.1"}, Ports: ports, Created: early}
	b := &discovery.Service{Scope: "test", Key: key("b"), ClusterIPs: []string{"10.96.0.1"}, Ports: ports, Created: late}
	put(t, cat, b)
	feed := cat.Subscribe()
	defer feed.Close()
	feed.Take()
	put(t, cat, a, b)
	batch, _ := feed.Take()
	require.Len(t, batch.Changes, 1)
	keys := make(map[discovery.Key]bool)
	touched(batch.Reader, &batch.Changes[0], func(k discovery.Key) { keys[k] = true })
	require.Equal(t, map[discovery.Key]bool{key("a"): true, key("b"): true}, keys)
	require.Empty(t, NameOf(batch.Reader, key("b")).GetClusterIps())
}

// reader is an agent that is told names.
type reader struct {
	told uint64
	has  map[discovery.Key]string
}

func (r *reader) read(b *book) (messages int) {
	out, through, _ := b.since(r.told)
	r.told = through
	for i, m := range out {
		if m.GetFull() {
			r.has = make(map[discovery.Key]string)
		}
		if m.GetMore() != (i < len(out)-1) {
			panic("more")
		}
		if proto.Size(m) > chunk+1024 {
			panic("too large")
		}
		for _, s := range m.GetServices() {
			r.has[discovery.Key{Namespace: s.GetNamespace(), Name: s.GetName()}] = s.GetExternalName()
		}
		for _, s := range m.GetRemoved() {
			delete(r.has, discovery.Key{Namespace: s.GetNamespace(), Name: s.GetName()})
		}
	}
	return len(out)
}

// However names change and however rarely an agent reads, it has in the end what there is.
func TestBook(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	b, truth := newBook(), make(map[discovery.Key]string)
	readers := make([]reader, 4)
	for step := range 5000 {
		k := key(fmt.Sprint("s", random.IntN(200)))
		changes := map[discovery.Key]*membersv1.Service{k: nil}
		delete(truth, k)
		if random.IntN(3) > 0 {
			truth[k] = fmt.Sprint(random.IntN(3))
			changes[k] = &membersv1.Service{Namespace: k.Namespace, Name: k.Name, ExternalName: truth[k]}
		}
		b.set(changes, uint64(step))
		for i := range readers {
			if random.IntN(1<<(2*i)) == 0 {
				readers[i].read(b)
				require.True(t, maps.Equal(truth, readers[i].has), "reader %d at %d", i, step)
			}
		}
	}
	require.Len(t, b.all(), len(truth))
}

// What was told once is not told again, and an agent that has missed too many removals is told all.
func TestBookIsBounded(t *testing.T) {
	b, r := newBook(), reader{}
	require.Equal(t, 1, r.read(b), "an empty mesh is told")
	require.NotNil(t, r.has)
	all := make(map[discovery.Key]*membersv1.Service)
	gone := make(map[discovery.Key]*membersv1.Service)
	for i := range maxRemoved + 100 {
		k := key(fmt.Sprint("service-with-a-name-", i))
		all[k], gone[k] = &membersv1.Service{Namespace: k.Namespace, Name: k.Name}, nil
	}
	b.set(all, 1)
	require.Greater(t, r.read(b), 4)
	require.Len(t, r.has, len(all))
	require.Zero(t, r.read(b))
	b.set(all, 2)
	require.Zero(t, r.read(b), "nothing has changed")
	b.set(gone, 3)
	require.Len(t, b.entries, maxRemoved)
	out, _, _ := b.since(r.told)
	require.True(t, out[0].GetFull())
	r.read(b)
	require.Empty(t, r.has)
}
