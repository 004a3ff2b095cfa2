package snapshot

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/xds/resource"
)

// ClusterGrace is how long a removed cluster stays with a proxy after the
// proxy acknowledged routes that no longer name it: a request that chose its
// route before may still be retried, and a retry looks the cluster up again.
const ClusterGrace = 5 * time.Second

// Limits of what one subscriber may ask for. They are far above a mesh of ten
// thousand Services and bound what a faulty or hostile client costs.
const (
	MaxNames      = 200_000
	MaxNameLength = 1024
	// MaxRoutes is how many route configurations' virtual hosts one stream may
	// follow: each is compared with every virtual host's name.
	MaxRoutes = 128
)

// Errors of Subscribe. The stream that causes one must end.
var (
	ErrTooManyRoutes = fmt.Errorf("a stream may follow the virtual hosts of at most %d route configurations", MaxRoutes)
	ErrTooManyNames  = fmt.Errorf("a stream may follow at most %d names", MaxNames)
	ErrNameTooLong   = fmt.Errorf("a resource name has at most %d bytes", MaxNameLength)
)

// Mode says how a subscriber is served.
type Mode struct {
	// StateOfTheWorld: a response lists all clusters or listeners, not only
	// changed ones, and virtual hosts go inside their route configuration.
	StateOfTheWorld bool
	// Ordered: routes wait for the clusters they name and clusters are removed
	// only after routes. False only for a client that asks for no clusters.
	Ordered bool
	// Names bounds the memory of what the subscriber asks for, nil for no bound.
	Names *Budget
}

// Subscriber is one stream's place in the store. Collect belongs to one
// goroutine; the other methods may be called concurrently with it.
type Subscriber struct {
	store *Store
	slot  uint32
	view  View
	mode  Mode
	class *class
	wake  chan struct{}
	// closed is true once the slot is free for another.
	closed bool

	// Collect reads and writes all of this with store.mu held for reading, as
	// it is the only one to do so; everyone else holds it for writing.
	dirty [resource.Types]bitset
	cause [resource.Types]time.Time

	wildcard [resource.Types]bool
	configs  []string               // route configurations whose virtual hosts are followed
	names    int                    // how many names are asked for
	bytes    int64                  // of the budget
	charged  [resource.Types]bitset // those of asked that the budget was charged with
	asked    [resource.Types]bitset
	due      [resource.Types]bitset // asked for and not answered yet
	first    [resource.Types]bool   // a first response is owed even if it is empty
	sent     [resource.Types]bitset // what the client has, as far as it accepted it
	held     [resource.Types]bitset // changes that must wait
	// clusters that were sent on this stream and whose endpoints were not sent
	// since: Envoy warms such a cluster for ever unless they are sent again,
	// though they did not change (envoy#13009).
	warming bitset
	// removing holds the clusters to be removed: [0] as soon as settled is
	// ClusterGrace ago, [1] a turn later.
	removing [2]bitset
	settled  time.Time
	// joined is the store's index when the subscriber came, through the one up
	// to which everything was handed over.
	joined, through uint64
}

// Subscribe adds a subscriber with nothing subscribed yet.
func (s *Store) Subscribe(v View, m Mode) *Subscriber {
	sub := &Subscriber{store: s, view: v, mode: m, wake: make(chan struct{}, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	sub.joined = s.index
	sub.class = s.classOf(v.Class())
	sub.class.streams++
	if n := len(s.free); n > 0 {
		sub.slot = s.free[n-1]
		s.free = s.free[:n-1]
		s.streams[sub.slot] = sub
	} else {
		sub.slot = uint32(len(s.streams)) //nolint:gosec // far below 2^32
		s.streams = append(s.streams, sub)
	}
	s.arrive(sub)
	return sub
}

// Close ends the subscription.
func (sub *Subscriber) Close() {
	s := sub.store
	// Names that only this stream asked for must not stay, or a client that
	// comes again and again with new ones would fill the memory. An Apply
	// that is under way collects them itself.
	alone := s.apply.TryLock()
	if alone {
		defer s.apply.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for t := range s.tables {
		s.wildcard[t].clear(sub.slot)
		for id := range sub.asked[t].all() {
			s.tables[t].entries[id].followers.clear(sub.slot)
		}
	}
	sub.closed = true
	sub.refund(sub.bytes)
	s.leave(sub)
	s.streams[sub.slot] = nil
	s.free = append(s.free, sub.slot)
	sub.class.streams--
	s.depart(sub)
	if alone {
		s.collect()
	}
}

// C has a value when there may be something to collect.
func (sub *Subscriber) C() <-chan struct{} { return sub.wake }

// Wake makes C have a value. Anyone may call it.
func (sub *Subscriber) Wake() {
	select {
	case sub.wake <- struct{}{}:
	default:
	}
}

// Held returns, sorted, the units that the subscriber's class has in an older
// version, because a proxy of the class refused the newer one.
func (sub *Subscriber) Held() []string {
	s := sub.store
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []string
	for h := range sub.class.holds {
		if !h.frees(sub) {
			out = append(out, h.unit)
		}
	}
	slices.Sort(out)
	return out
}

// View returns the subscriber's view.
func (sub *Subscriber) View() View { return sub.view }

// follows reports whether the subscriber asked for the entry, by name or at large.
func (sub *Subscriber) follows(t resource.Type, id uint32, e *entry) bool {
	if sub.asked[t].has(id) {
		return true
	}
	if sub.wildcard[t] || t != resource.VirtualHost {
		return sub.wildcard[t]
	}
	return slices.Contains(sub.configs, e.config)
}

// Known is a resource that a client says it has. The bytes are the request's
// own: a thousand clients that reconnect name three thousand resources each.
type Known struct{ Name, Version []byte }

// Add subscribes to names. "*" is every resource of the type; for virtual hosts
// the name of a route configuration is all of its virtual hosts. known are the versions that a client which reconnects says it
// has: they are not sent again.
func (sub *Subscriber) Add(t resource.Type, names []string, known []Known) error {
	s := sub.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if sub.closed {
		return nil
	}
	if sub.names+len(names)+len(known) > MaxNames {
		return ErrTooManyNames
	}
	large := false
	if len(names) > 64 {
		for _, b := range []*bitset{&sub.asked[t], &sub.due[t], &sub.dirty[t]} {
			b.grow(len(s.tables[t].entries))
		}
	}
	for _, name := range names {
		switch {
		case len(name) > MaxNameLength:
			return ErrNameTooLong
		case name == "*":
			sub.wildcard[t] = true
			large = true
		case t == resource.VirtualHost && !strings.Contains(name, "/"):
			if err := sub.followHosts(name); err != nil {
				return err
			}
			large = true
		default:
			id, ok := sub.ask(t, name)
			if !ok {
				return ErrTooManyNameBytes
			}
			sub.due[t].set(id)
			sub.dirty[t].set(id)
		}
	}
	if t == resource.Route && sub.mode.StateOfTheWorld {
		for _, name := range names {
			if err := sub.followHosts(name); err != nil {
				return err
			}
		}
	}
	for _, k := range known {
		if len(k.Name) > MaxNameLength {
			return ErrNameTooLong
		}
		// Also a name that is no resource any more: the client has it and must
		// be told that it is gone, in due order.
		id, ok := s.tables[t].ids[string(k.Name)]
		if !ok {
			if !sub.charge(string(k.Name)) {
				return ErrTooManyNameBytes
			}
			id = s.internLocked(t, string(k.Name))
		}
		sub.sent[t].set(id)
	}
	if t == resource.Route {
		sub.resendHosts(names, known)
	}
	if large {
		s.wildcard[t].set(sub.slot)
		sub.first[t] = sub.first[t] || len(known) == 0
		sub.followed(t, &sub.dirty[t])
	}
	// An Envoy that asks for endpoints before clusters lost its stream while a
	// cluster was warming: it has the endpoints and waits for them all the same.
	blind := sub.mode.Ordered && !sub.wildcard[resource.Cluster] && sub.asked[resource.Cluster].empty()
	for _, k := range known {
		id := s.tables[t].ids[string(k.Name)]
		e := s.tables[t].entries[id]
		c := e.at(sub)
		kept := c.frame != nil && c.standIn && sub.view.Sees(&c.visible)
		current := c.frame != nil && sub.view.Sees(&c.visible) && c.frameFor(&sub.view).Version == string(k.Version)
		if current && !(t == resource.Endpoint && (sub.isWarming(e) || blind)) {
			sub.dirty[t].clear(id)
			sub.due[t].clear(id)
			if c == &e.content { // in its former life
				e.accepted.set(sub.class.id)
			}
		} else if kept && !sub.mode.StateOfTheWorld {
			sub.dirty[t].clear(id)
			sub.due[t].clear(id)
		} else {
			sub.dirty[t].set(id)
		}
	}
	sub.Wake()
	return nil
}

// resendHosts makes sure that a route configuration which a client asks for
// anew comes with all its virtual hosts: Envoy asks for virtual hosts once per
// stream, and forgets those of a route configuration that it had dropped.
func (sub *Subscriber) resendHosts(routes []string, known []Known) {
	hosts := &sub.store.tables[resource.VirtualHost]
	for _, config := range routes {
		of := hosts.hosts[config]
		if of == nil || slices.ContainsFunc(known, func(k Known) bool { return string(k.Name) == config }) {
			continue
		}
		if large := sub.wildcard[resource.VirtualHost] || slices.Contains(sub.configs, config); !large {
			of = of.and(sub.asked[resource.VirtualHost])
		}
		for id := range of.all() {
			if sub.sent[resource.VirtualHost].has(id) && hosts.entries[id].at(sub).standIn { // it has nothing that it could keep
				sub.sent[resource.VirtualHost].clear(id)
			}
		}
		sub.dirty[resource.VirtualHost].or(of)
	}
}

// followed adds all names of a type that the subscriber follows at large. Those
// that are no resources now do not matter: nothing is sent of them.
func (sub *Subscriber) followed(t resource.Type, to *bitset) {
	table := &sub.store.tables[t]
	if sub.wildcard[t] {
		to.grow(len(table.entries))
		for id, e := range table.entries {
			if e != nil {
				to.set(uint32(id)) //nolint:gosec // an id
			}
		}
		return
	}
	for _, config := range sub.configs {
		to.or(table.hosts[config])
	}
}

// followHosts makes the subscriber follow the virtual hosts of a route configuration.
func (sub *Subscriber) followHosts(route string) error {
	if !slices.Contains(sub.configs, route) {
		if len(sub.configs) >= MaxRoutes {
			return ErrTooManyRoutes
		}
		sub.configs = append(sub.configs, strings.Clone(route)) // not a part of somebody's request
	}
	sub.store.wildcard[resource.VirtualHost].set(sub.slot)
	return nil
}

// Remove unsubscribes from names. A name that is still followed at large is
// sent again, as the protocol asks of a server.
func (sub *Subscriber) Remove(t resource.Type, names []string) {
	s := sub.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if sub.closed {
		return
	}
	for _, name := range names {
		if name == "*" || (t == resource.VirtualHost && !strings.Contains(name, "/")) {
			sub.wildcard[t] = sub.wildcard[t] && name != "*"
			sub.configs = slices.DeleteFunc(sub.configs, func(c string) bool { return c == name })
			if !sub.wildcard[t] && (t != resource.VirtualHost || len(sub.configs) == 0) {
				s.wildcard[t].clear(sub.slot)
			}
			for id := range sub.sent[t].all() {
				if !sub.follows(t, id, s.tables[t].entries[id]) {
					sub.forget(t, id)
				}
			}
			continue
		}
		id, ok := s.tables[t].ids[name]
		if !ok || !sub.asked[t].has(id) {
			continue
		}
		e := s.tables[t].entries[id]
		sub.asked[t].clear(id)
		sub.due[t].clear(id)
		sub.names--
		if sub.charged[t].has(id) {
			sub.charged[t].clear(id)
			sub.refund(int64(len(name)) + nameOverhead)
		}
		e.followers.clear(sub.slot)
		if sub.follows(t, id, e) {
			sub.dirty[t].set(id)
			sub.due[t].set(id)
			sub.Wake()
			continue
		}
		sub.forget(t, id)
	}
}

// forget notes that the client has dropped a resource itself.
func (sub *Subscriber) forget(t resource.Type, id uint32) {
	sub.sent[t].clear(id)
	sub.dirty[t].clear(id)
	sub.held[t].clear(id)
	if t == resource.Cluster {
		sub.warming.clear(id)
		sub.removing[0].clear(id)
		sub.removing[1].clear(id)
	}
}

// Has reports whether the client has the resource. What it refused it does not
// have.
func (sub *Subscriber) Has(t resource.Type, id uint32) bool {
	sub.store.mu.Lock() // Collect writes with only the read lock
	defer sub.store.mu.Unlock()
	return sub.sent[t].has(id)
}

// HasNamed is Has of a resource by its name.
func (sub *Subscriber) HasNamed(t resource.Type, name string) bool {
	e := sub.store.lookup(t, name)
	return e != nil && sub.Has(t, e.id)
}

// Asked returns how many names of a type the subscriber asked for, and whether
// it follows the type at large.
func (sub *Subscriber) Asked(t resource.Type) (names int, large bool) {
	sub.store.mu.RLock() // Collect does not write what is read here
	defer sub.store.mu.RUnlock()
	return sub.asked[t].count(), sub.wildcard[t] || (t == resource.VirtualHost && len(sub.configs) > 0)
}

// Names returns the names of the given ids, for what was sent in a response.
func (sub *Subscriber) Names(t resource.Type, ids []uint32) []string {
	sub.store.mu.RLock()
	defer sub.store.mu.RUnlock()
	out := make([]string, 0, len(ids))
	for _, id := range ids {
		if int(id) < len(sub.store.tables[t].entries) && sub.store.tables[t].entries[id] != nil {
			out = append(out, sub.store.tables[t].entries[id].name)
		}
	}
	return out
}

// Batch is what one response must carry.
type Batch struct {
	Type   resource.Type
	Frames []*Frame
	// IDs of the resources in Frames, for Subscriber.Names.
	IDs     []uint32
	Removed []string
	// Cause is when the oldest change in the batch happened at its source;
	// zero where the batch answers a request.
	Cause time.Time
	Index uint64
}

// Settled tells Collect what the client has acknowledged.
type Settled struct {
	Now time.Time
	// Routes is true if every listener, route and virtual host that was sent
	// is acknowledged and none of them stands rejected.
	Routes bool
}

// Collect returns what must be sent now, in the order in which it must be
// sent: clusters, their endpoints, then what routes to them, and removals of
// clusters last (make before break). again is when to call it anew although
// nothing wakes the subscriber, zero if there is no need.
func (sub *Subscriber) Collect(in Settled) (batches []Batch, again time.Time) {
	s := sub.store
	s.mu.RLock()
	defer s.mu.RUnlock()
	order := [resource.Types]resource.Type{
		resource.Cluster, resource.Endpoint, resource.Secret, resource.Listener, resource.Route, resource.VirtualHost,
	}
	if sub.mode.StateOfTheWorld { // hosts are inside routes
		order[4], order[5] = resource.VirtualHost, resource.Route
	}
	for _, t := range order {
		if b, ok := sub.collectType(t); ok {
			batches = append(batches, sub.apart(b)...)
		}
	}
	if sub.nothingLeft() {
		sub.through = s.index
	}
	// A response that goes out now is not acknowledged yet.
	in.Routes = in.Routes && !slices.ContainsFunc(batches, func(b Batch) bool { return b.Type >= resource.Listener })
	removals, again := sub.collectRemovals(in)
	return append(batches, removals...), again
}

// apart takes the resources that a proxy of the class has refused out of a batch.
// Each goes in a response of its own, because a refusal refuses all resources of a
// response.
func (sub *Subscriber) apart(b Batch) []Batch {
	s := sub.store
	if len(s.complaints) == 0 || len(b.IDs) < 2 || sub.mode.StateOfTheWorld {
		return []Batch{b}
	}
	out := []Batch{b}
	frames, ids := b.Frames[:0:0], b.IDs[:0:0]
	for i, id := range b.IDs {
		if s.complains(ref{b.Type, id}, sub.class) {
			out = append(out, Batch{Type: b.Type, Frames: b.Frames[i : i+1], IDs: b.IDs[i : i+1], Cause: b.Cause, Index: b.Index})
			continue
		}
		frames, ids = append(frames, b.Frames[i]), append(ids, id)
	}
	out[0].Frames, out[0].IDs = frames, ids
	if len(ids) == 0 && len(b.Removed) == 0 {
		return out[1:]
	}
	return out
}

// nothingLeft reports whether the client was sent all resources that it shall
// have. Pending removals do not count: a removed cluster and its endpoints go
// later, and nobody uses them.
func (sub *Subscriber) nothingLeft() bool {
	for t := range sub.dirty {
		if !sub.dirty[t].empty() || (resource.Type(t) != resource.Endpoint && !sub.held[t].empty()) {
			return false
		}
	}
	return true
}

// Progress returns the store's index when the subscriber came, and the one up
// to which everything that concerns it was handed over by Collect.
func (sub *Subscriber) Progress() (joined, through uint64) {
	sub.store.mu.Lock() // Collect writes with only the read lock
	defer sub.store.mu.Unlock()
	return sub.joined, sub.through
}

// Rewind takes back that everything up to the present was handed over: the
// client refused what came after an index.
func (sub *Subscriber) Rewind(index uint64) {
	sub.store.mu.Lock()
	defer sub.store.mu.Unlock()
	sub.through = min(sub.through, index)
}

func (sub *Subscriber) collectType(t resource.Type) (Batch, bool) {
	s := sub.store
	b := Batch{Type: t, Cause: sub.cause[t], Index: s.index}
	todo := sub.dirty[t]
	todo.or(sub.held[t])
	if todo.empty() && !sub.first[t] {
		return b, false
	}
	if sub.withholdsAll(t, todo) {
		sub.held[t], sub.dirty[t] = todo, nil
		return b, false
	}
	sub.cause[t] = time.Time{}
	sub.held[t] = nil
	sub.dirty[t] = nil
	if n := todo.count(); n > 0 {
		b.Frames, b.IDs = make([]*Frame, 0, n), make([]uint32, 0, n)
		sub.sent[t].grow(len(todo) * 64)
	}
	for id := range todo.all() {
		e := s.tables[t].entries[id]
		if e == nil {
			continue
		}
		c := e.at(sub)
		if c.frame == nil || !sub.view.Sees(&c.visible) || !sub.follows(t, id, e) {
			sub.collectGone(t, e, &b)
			continue
		}
		if c.standIn && !sub.mode.StateOfTheWorld && sub.sent[t].has(id) {
			sub.due[t].clear(id)
			continue // it keeps what it has
		}
		if sub.mustWait(t, e, c) {
			sub.held[t].set(id)
			continue
		}
		b.Frames = append(b.Frames, c.frameFor(&sub.view))
		b.IDs = append(b.IDs, id)
		sub.markSent(t, e, c)
	}
	// What was rejected or merely delivered out of turn may be asked for again at any time.
	if len(todo) > 0 && sub.dirty[t] == nil {
		clearAll(todo)
		sub.dirty[t] = todo // keep the allocation
	}
	if len(b.Frames) == 0 && len(b.Removed) == 0 && (!sub.first[t] || !sub.held[t].empty()) {
		return b, false
	}
	if t == resource.VirtualHost && len(b.Frames) == 0 && len(b.Removed) == 0 {
		b.Removed = sub.noHosts()
	}
	sub.first[t] = false
	if sub.mode.StateOfTheWorld {
		return sub.worldBatch(b)
	}
	return b, true
}

// mustWait reports whether a resource that is due must not be sent yet.
func (sub *Subscriber) mustWait(t resource.Type, e *entry, c *content) bool {
	world := sub.mode.StateOfTheWorld
	if sub.mode.Ordered && t >= resource.Listener && (!sub.ready(c, 0) || (world && t == resource.Route && sub.hostHeld(e.name))) {
		return true
	}
	// A cluster that stands in answers 503 for its own Service; to wait for it would hold up all others.
	return world && (c.standIn && t != resource.Cluster || t == resource.Route && sub.hostStandsIn(e.name))
}

// noHosts is how to say that there are no virtual hosts: Envoy 1.40 takes a
// response with neither resources nor removals for no answer and keeps the
// listener warming, so it is told that one which never was is gone.
func (sub *Subscriber) noHosts() []string {
	var out []string
	for id := range sub.asked[resource.Route].all() {
		out = append(out, sub.store.tables[resource.Route].entries[id].name+"/none")
	}
	return out
}

func clearAll(b bitset) {
	for i := range b {
		b[i] = 0
	}
}

// markSent notes that the client is sent a resource, with a content.
func (sub *Subscriber) markSent(t resource.Type, e *entry, c *content) {
	id := e.id
	sub.sent[t].set(id)
	sub.due[t].clear(id)
	switch t {
	case resource.Cluster:
		sub.removing[0].clear(id)
		sub.removing[1].clear(id)
		if !c.eds {
			return
		}
		sub.warming.set(id)
		if e.twin != nil && sub.asked[resource.Endpoint].has(e.twin.id) {
			sub.dirty[resource.Endpoint].set(e.twin.id)
		}
	case resource.Endpoint:
		if e.twin != nil {
			sub.warming.clear(e.twin.id)
		}
	}
}

// collectGone deals with an entry that the client should not have (any more).
func (sub *Subscriber) collectGone(t resource.Type, e *entry, b *Batch) {
	id := e.id
	if !sub.sent[t].has(id) {
		if sub.due[t].has(id) || (t == resource.Endpoint && sub.isWarming(e)) {
			// Asked for by name and not there: say so rather than stay silent,
			// or Envoy waits for its fetch timeout (envoy#9934).
			sub.due[t].clear(id)
			b.Removed = append(b.Removed, e.name)
			if t == resource.Endpoint && e.twin != nil {
				sub.warming.clear(e.twin.id)
			}
		}
		return
	}
	sub.due[t].clear(id)
	switch {
	case t == resource.Cluster && sub.mode.Ordered:
		if !sub.removing[0].has(id) && !sub.removing[1].has(id) {
			if sub.removing[0].empty() {
				sub.removing[0].set(id)
				sub.settled = time.Time{}
			} else {
				sub.removing[1].set(id)
			}
		}
	case t == resource.Endpoint && sub.hasCluster(e):
		sub.held[t].set(id) // goes with its cluster
	case t == resource.Secret:
		// The proxy drops it itself with the last listener that names it. Until
		// then connections are better served with an old certificate than not at all.
		sub.sent[t].clear(id)
	default:
		sub.sent[t].clear(id)
		b.Removed = append(b.Removed, e.name)
	}
}

// collectRemovals returns the removals of clusters whose time has come, with
// their endpoints behind them.
func (sub *Subscriber) collectRemovals(in Settled) (out []Batch, again time.Time) {
	if sub.removing[0].empty() {
		sub.removing[0], sub.removing[1] = sub.removing[1], nil
		if sub.removing[0].empty() {
			return nil, time.Time{}
		}
		sub.settled = time.Time{}
	}
	busy := !in.Routes
	for _, t := range []resource.Type{resource.Listener, resource.Route, resource.VirtualHost} {
		busy = busy || !sub.dirty[t].empty() || !sub.held[t].empty()
	}
	if busy {
		sub.settled = time.Time{}
		return nil, time.Time{} // an acknowledgement wakes us
	}
	if sub.settled.IsZero() {
		sub.settled = in.Now
	}
	if due := sub.settled.Add(ClusterGrace); in.Now.Before(due) {
		return nil, due
	}
	s := sub.store
	clusters := Batch{Type: resource.Cluster, Index: s.index}
	endpoints := Batch{Type: resource.Endpoint, Index: s.index}
	for id := range sub.removing[0].all() {
		sub.sent[resource.Cluster].clear(id)
		sub.warming.clear(id)
		e := s.tables[resource.Cluster].entries[id]
		if e == nil {
			continue
		}
		if c := e.at(sub); c.frame != nil && sub.view.Sees(&c.visible) {
			continue // came back meanwhile; collectType has sent it
		}
		clusters.Removed = append(clusters.Removed, e.name)
		if eds := e.twin; eds != nil && sub.sent[resource.Endpoint].has(eds.id) && eds.at(sub).frame == nil {
			sub.sent[resource.Endpoint].clear(eds.id)
			sub.held[resource.Endpoint].clear(eds.id)
			endpoints.Removed = append(endpoints.Removed, e.name)
		}
	}
	sub.removing[0], sub.removing[1] = sub.removing[1], nil
	sub.settled = time.Time{}
	if !sub.removing[0].empty() {
		again = in.Now.Add(ClusterGrace)
	}
	for _, b := range []Batch{clusters, endpoints} {
		if len(b.Removed) == 0 {
			continue
		}
		if sub.mode.StateOfTheWorld {
			if world, ok := sub.worldBatch(b); ok {
				out = append(out, world)
			}
			continue
		}
		out = append(out, b)
	}
	return out, again
}

// ready reports whether every cluster that a content names is known to the
// client together with its endpoints.
func (sub *Subscriber) ready(of *content, depth int) bool {
	for _, e := range of.needs.in(&sub.store.tables[resource.Cluster]) { // there is nothing to wait for of others
		c := e.at(sub)
		if c.frame == nil || !sub.view.Sees(&c.visible) {
			continue
		}
		if !sub.sent[resource.Cluster].has(e.id) {
			return false
		}
		if c.eds && !sub.hasEndpoints(e) {
			return false
		}
		// An aggregate cluster needs its members; nothing is deeper than that.
		if depth == 0 && !sub.ready(c, 1) {
			return false
		}
	}
	return true
}

// hasEndpoints reports whether the client has the endpoints of a cluster, or
// there is nothing to wait for because they are not known to anybody.
func (sub *Subscriber) hasEndpoints(cluster *entry) bool {
	eds := cluster.twin
	return eds == nil || sub.sent[resource.Endpoint].has(eds.id) || eds.at(sub).frame == nil
}

// hasCluster reports whether the client has the cluster of endpoints.
func (sub *Subscriber) hasCluster(endpoints *entry) bool {
	return endpoints.twin != nil && sub.sent[resource.Cluster].has(endpoints.twin.id)
}

// isWarming reports whether the client has the cluster of endpoints and waits for them.
func (sub *Subscriber) isWarming(endpoints *entry) bool {
	return endpoints.twin != nil && sub.warming.has(endpoints.twin.id)
}

// Lag is what a subscriber still has to get.
type Lag struct {
	// Pending counts changes that were not sent yet, Held those of them that
	// wait for a cluster or for an acknowledgement.
	Pending, Held int
}

// Lag returns what the subscriber still has to get. Anyone may call it.
func (sub *Subscriber) Lag() Lag {
	sub.store.mu.Lock() // Collect writes with only the read lock
	defer sub.store.mu.Unlock()
	var l Lag
	for t := range sub.dirty {
		l.Held += sub.held[t].count()
		l.Pending += sub.dirty[t].count()
	}
	l.Held += sub.removing[0].count() + sub.removing[1].count()
	l.Pending += l.Held
	return l
}
