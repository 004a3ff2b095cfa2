package snapshot

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/xds/resource"
)

// Thousands of names come and go, and their ids become others': what was looked up once says what a look-up of
// now would say.
func TestNamesComeAndGo(t *testing.T) {
	for seed := range uint64(2) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		s, now := New(), time.Unix(1e9, 0)
		sub := s.Subscribe(View{}, Mode{Ordered: true})
		for _, rt := range []resource.Type{resource.Cluster, resource.Listener} {
			require.NoError(t, sub.Add(rt, []string{"*"}, nil))
		}
		require.NoError(t, sub.Add(resource.VirtualHost, []string{"r1/*", "r7/*"}, nil))
		reused := false
		for round := range 12 {
			var updates []Update
			for u := range 20 {
				updates = append(updates, namesOfUnit(rnd, u))
			}
			s.Apply(now, updates)
			for range 4 { // what is new, what it waited for, what is removed
				now = now.Add(2 * ClusterGrace)
				sub.Collect(Settled{Routes: true, Now: now})
			}
			if round%3 == 2 { // it asks for what there is, and what there was
				names := []string{fmt.Sprint("c", rnd.IntN(6000)), fmt.Sprint("c", rnd.IntN(6000))}
				require.NoError(t, sub.Add(resource.Endpoint, names, nil))
			}
			checkNames(t, s)
			s.mu.Lock()
			s.collect() // names go and none comes
			s.mu.Unlock()
			checkNames(t, s)
			for rt := range s.tables {
				reused = reused || len(s.tables[rt].free) > 0
			}
		}
		require.True(t, reused, "no name was forgotten: the test has too few")
		sub.Close()
	}
}

// namesOfUnit is a unit of a hundred clusters out of its three hundred, with and without endpoints, and of virtual hosts that
// name clusters of all units.
func namesOfUnit(rnd *rand.Rand, u int) Update {
	up := Update{Unit: fmt.Sprint("u", u)}
	for _, i := range rnd.Perm(300)[:100] {
		name := fmt.Sprint("c", u*300+i)
		if rnd.IntN(4) > 0 {
			up.Resources = append(up.Resources, res(resource.Cluster, name, "x"))
		}
		if rnd.IntN(4) > 0 {
			up.Resources = append(up.Resources, res(resource.Endpoint, name, "x"))
		}
		if rnd.IntN(4) == 0 {
			host := fmt.Sprintf("r%d/%s", rnd.IntN(10), name)
			up.Resources = append(up.Resources, res(resource.VirtualHost, host, "x", fmt.Sprint("c", rnd.IntN(6000)), name))
		}
	}
	return up
}

// checkNames compares everything that the tables remember about names with a look-up by name.
func checkNames(t *testing.T, s *Store) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for rt := range s.tables {
		tb, known, dead := &s.tables[rt], 0, 0
		hosts := make(map[string]bitset)
		free := bitset{}
		for _, id := range tb.free {
			free.set(id)
		}
		for i, e := range tb.entries {
			id := uint32(i)
			if (e == nil) != free.has(id) {
				t.Fatalf("%d: an id is free if nobody has it, and only then", id)
			}
			if e == nil {
				continue
			}
			known++
			if e.frame == nil {
				dead++
			}
			config, _, _ := strings.Cut(e.name, "/")
			of := hosts[config]
			of.set(id)
			hosts[config] = of
			twin := (*entry)(nil)
			switch resource.Type(rt) {
			case resource.Cluster:
				twin = s.tables[resource.Endpoint].entry(e.name)
			case resource.Endpoint:
				twin = s.tables[resource.Cluster].entry(e.name)
			}
			clusters := &s.tables[resource.Cluster]
			if e.id != id || tb.entry(e.name) != e || e.twin != twin || !slices.Equal(lookedUp(clusters, e.needs), e.needs.in(clusters)) {
				t.Fatalf("%v %s: its id, its twin or what it needs are not what a look-up finds", resource.Type(rt), e.name)
			}
		}
		require.Len(t, tb.ids, known)
		require.Equal(t, dead, tb.dead, resource.Type(rt))
		require.Len(t, tb.entries, known+len(tb.free))
		if resource.Type(rt) == resource.VirtualHost {
			require.Len(t, tb.hosts, len(hosts))
			for config, of := range hosts {
				remembered := tb.hosts[config]
				require.Equal(t, slices.Collect(of.all()), slices.Collect(remembered.all()), config)
			}
		}
	}
}

func lookedUp(clusters *table, n *needs) (out []*entry) {
	for _, name := range n.names() {
		if e := clusters.entry(name); e != nil {
			out = append(out, e)
		}
	}
	return out
}
