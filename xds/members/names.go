package members

import (
	"container/list"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/xds/members/membersv1"
)

// NameOf returns what agents are told of a Service, nil if there is none of this name.
func NameOf(r catalog.Reader, key discovery.Key) *membersv1.Service {
	svc, ok := catalog.Services.Get(r, key.String())
	if !ok {
		return nil
	}
	out := &membersv1.Service{
		Namespace: key.Namespace, Name: key.Name, ClusterIps: upstream.OwnAddresses(r, svc), Headless: len(svc.ClusterIPs) == 0 && svc.ExternalName == "",
	}
	if svc.ExternalName != "" && !hasEndpoints(r, key) {
		out.ExternalName = svc.ExternalName
		return out
	}
	for _, p := range upstream.ServicePorts(svc) {
		out.Ports = append(out.Ports, &membersv1.Port{Name: p.Name, Number: uint32(p.Port)})
	}
	if out.GetHeadless() {
		out.Hosts = hostsOf(r, key)
	}
	if len(out.GetPorts()) > 0 { // else the mesh does not serve it
		out.VirtualAddresses = upstream.VirtualAddresses(r, svc)
	}
	return out
}

// hostsOf returns the pods of a Service that have names, by name. Pods that fail have none, as in Kubernetes' DNS.
func hostsOf(r catalog.Reader, key discovery.Key) []*membersv1.Host {
	var out []*membersv1.Host
	at := make(map[string]*membersv1.Host)
	for set := range catalog.Endpoints.By(r, catalog.ByService, key.String()) {
		for i := range set.Endpoints {
			e := &set.Endpoints[i]
			if e.Hostname == "" || e.Health == discovery.Unhealthy {
				continue
			}
			h := at[e.Hostname]
			if h == nil {
				h = &membersv1.Host{Name: e.Hostname}
				at[e.Hostname] = h
				out = append(out, h)
			}
			h.Addresses = append(h.Addresses, e.Address)
		}
	}
	for _, h := range out {
		slices.Sort(h.GetAddresses())
		h.Addresses = slices.Compact(h.GetAddresses())
	}
	slices.SortFunc(out, func(a, b *membersv1.Host) int { return strings.Compare(a.GetName(), b.GetName()) })
	return out
}

// named reports whether pods of a set have names.
func named(s *discovery.EndpointSet) bool {
	return slices.ContainsFunc(s.Endpoints, func(e discovery.Endpoint) bool { return e.Hostname != "" })
}

// hasEndpoints reports whether anybody answers for a Service within the mesh.
func hasEndpoints(r catalog.Reader, key discovery.Key) bool {
	for range catalog.InstanceGroups.Of(r, key) {
		return true
	}
	for range catalog.Endpoints.By(r, catalog.ByService, key.String()) {
		return true
	}
	return false
}

// touched yields the Services whose names a change may concern: their own, and those that
// share an address with it, of which the oldest has it.
func touched(r catalog.Reader, c *catalog.Change, yield func(discovery.Key)) {
	for _, row := range [2]any{c.Before, c.After} {
		switch row := row.(type) {
		case *discovery.Service:
			if row == nil {
				continue
			}
			yield(row.Key)
			addresses := append([]string(nil), row.ClusterIPs...)
			for choice := range discovery.VirtualChoices {
				addresses = append(addresses, discovery.VirtualAddress(row.Key, choice).String())
			}
			for _, a := range addresses {
				for other := range catalog.Services.By(r, catalog.ByAddress, a) {
					yield(other.Key)
				}
			}
		case *discovery.EndpointSet:
			switch {
			case row == nil:
			case named(row):
				yield(row.Service)
			default:
				yieldExternal(r, row.Service, yield)
			}
		case *discovery.Object:
			if row == nil {
				continue
			}
			if g, ok := discovery.GroupOf(row); ok {
				yieldExternal(r, g.Service(), yield)
			}
		}
	}
}

// yieldExternal yields a Service of the type ExternalName: endpoints make it one of the mesh.
func yieldExternal(r catalog.Reader, key discovery.Key, yield func(discovery.Key)) {
	if svc, ok := catalog.Services.Get(r, key.String()); ok && svc.ExternalName != "" {
		yield(key)
	}
}

// maxRemoved bounds how many names that are gone are remembered for agents that have them. An agent that
// has missed more is told all names anew.
const maxRemoved = 10_000

// book has the names of the mesh in the order in which they changed last. An agent's stream remembers one number, up to
// which it was told, however many names there are and however slow it is.
type book struct {
	mu sync.Mutex
	// index counts changes; behind is the index up to which removals are forgotten.
	index, behind uint64
	// through is the catalog's revision that the names are of.
	through uint64
	entries map[discovery.Key]*list.Element // of *entry
	// order has the newest change last.
	order   *list.List
	removed int
	// changed is closed and replaced with every change.
	changed chan struct{}
}

// entry is a name as it is since an index; service is nil for one that is gone.
type entry struct {
	key     discovery.Key
	index   uint64
	service *membersv1.Service
}

func newBook() *book {
	return &book{index: 1, entries: make(map[discovery.Key]*list.Element), order: list.New(), changed: make(chan struct{})}
}

// set takes over what is known of some Services, nil for those that are gone, as of a revision of the catalog.
func (b *book) set(services map[discovery.Key]*membersv1.Service, revision uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, s := range services {
		b.setOne(key, s)
	}
	b.forget()
	b.through = revision
	close(b.changed) // also for who waits for the revision
	b.changed = make(chan struct{})
}

func (b *book) setOne(key discovery.Key, s *membersv1.Service) {
	old := b.entries[key]
	if old == nil && s == nil {
		return
	}
	if old != nil {
		e := old.Value.(*entry) //nolint:forcetypeassert,errcheck // the list has nothing else
		if e.service == nil && s == nil || e.service != nil && s != nil && proto.Equal(e.service, s) {
			return
		}
		if e.service == nil {
			b.removed--
		}
		b.order.Remove(old)
	}
	if s == nil {
		b.removed++
	}
	b.index++
	b.entries[key] = b.order.PushBack(&entry{key: key, index: b.index, service: s})
}

// forget forgets the oldest removals while there are too many. mu must be held.
func (b *book) forget() {
	for at := b.order.Front(); at != nil && b.removed > maxRemoved; {
		next := at.Next()
		if e := at.Value.(*entry); e.service == nil { //nolint:forcetypeassert,errcheck // as above
			b.behind = e.index
			b.order.Remove(at)
			delete(b.entries, e.key)
			b.removed--
		}
		at = next
	}
}

// all returns the keys of all Services that there are.
func (b *book) all() []discovery.Key {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]discovery.Key, 0, len(b.entries))
	for key, at := range b.entries {
		if at.Value.(*entry).service != nil { //nolint:forcetypeassert // as above
			out = append(out, key)
		}
	}
	return out
}

// wait returns what is closed with the next change, and the catalog's revision that the names are of.
func (b *book) wait() (changed <-chan struct{}, through uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed, b.through
}

// chunk is how many bytes of names go into a message.
const chunk = 64 << 10

// since returns what an agent must be told that was told up to an index, 0 for nothing, in messages of bounded size; the index that it
// then was told up to; and what is closed with the next change. It returns no message if there is nothing to tell.
func (b *book) since(told uint64) (out []*membersv1.Names, through uint64, changed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	full := told == 0 || told < b.behind
	var last *membersv1.Names
	size := 0
	grow := func(m proto.Message) {
		if size += proto.Size(m) + 4; last == nil || size > chunk {
			if last != nil {
				last.More = true
			}
			last, size = &membersv1.Names{Full: full && last == nil}, proto.Size(m)+4
			out = append(out, last)
		}
	}
	for at := b.order.Back(); at != nil; at = at.Prev() {
		e := at.Value.(*entry) //nolint:forcetypeassert,errcheck // as above
		switch {
		case full && e.service == nil:
		case !full && e.index <= told:
			return out, b.index, b.changed
		case e.service != nil:
			grow(e.service)
			last.Services = append(last.Services, e.service)
		default:
			gone := &membersv1.ServiceName{Namespace: e.key.Namespace, Name: e.key.Name}
			grow(gone)
			last.Removed = append(last.Removed, gone)
		}
	}
	if full && last == nil {
		out = []*membersv1.Names{{Full: true}}
	}
	return out, b.index, b.changed
}
