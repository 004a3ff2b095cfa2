package snapshot

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/xds/resource"
)

// AuthorGrace is how long a proxy that refused something may be away before it
// has left for good: an Envoy that restarts, or loses its stream, is back by then.
const AuthorGrace = time.Minute

// Limits of what the store remembers about refusals. An Envoy build that refuses
// every Service of a mesh of ten thousand stays far below them. They bound the cost
// of a client that claims one class after the other.
const (
	maxHolds = 20_000
	// maxHoldsOfOwner bounds the holds of one namespace and identity: a client that claims one
	// build after the other must leave room for everybody else.
	maxHoldsOfOwner = maxHolds / 2
	// maxHoldsOfUnit bounds the holds of one unit by classes that differ only in
	// what a proxy claims without proof.
	maxHoldsOfUnit = 8
	// maxComplaints bounds the complaints about one resource, maxComplaintsOfAll those about
	// all.
	maxComplaints      = 16
	maxComplaintsOfAll = 50_000
)

// hold keeps a class at the last good configuration of a unit, because a proxy of the
// class refused the newer one. All other classes have the newer one. The hold ends
// when the class accepts a later configuration of the unit. When all proxies that
// refused it have left for good, one proxy of the class tries the newer configuration
// first, as with any change.
type hold struct {
	unit  string
	class *class
	pin   *Pin
	// good is the configuration that the class has, by name. A content without a
	// frame stands for a resource that the class does not have.
	good map[ref]*content
	// clusters are the clusters in good whose endpoints the class needs, with
	// their visibility.
	clusters map[string]resource.Visibility
	phase    phase
	// canary is the slot of the proxy that tries the configuration in force.
	// open are the resources that it has not answered yet, and due is when it
	// has taken too long.
	canary uint32
	open   map[ref]struct{}
	due    time.Time
	last   time.Time // which due never passes
	// lost counts the proxies that tried it before, in this trial.
	lost loss
	// wanting is true if a stage tries a change with other classes, and this class tries
	// it next.
	wanting bool
	// absent is when the last proxy that refused it went away, zero while one is
	// connected.
	absent time.Time
}

// phase is how far a hold is.
type phase uint8

const (
	// holding: the class has the last good configuration.
	holding phase = iota
	// trying: one proxy of the class has the configuration in force.
	trying
	// freed: the class has the configuration in force, and no proxy of it has
	// acknowledged that yet.
	freed
)

// nobody is no slot.
const nobody = ^uint32(0)

// heldContent is the content that a held class has for a name.
type heldContent struct {
	*content
	hold *hold
}

// frees reports whether a subscriber gets the configuration in force in spite
// of the hold.
func (h *hold) frees(sub *Subscriber) bool {
	return h.phase == freed || (h.phase == trying && h.canary == sub.slot)
}

// orphan reports whether the class may try again: all proxies that refused the configuration have left for good,
// or no proxy refused it (only connections ended) and the waiting time is over.
func (h *hold) orphan(now time.Time) bool {
	if again := h.again(); !again.IsZero() {
		return !now.Before(again)
	}
	return !h.absent.IsZero() && !now.Before(h.absent.Add(AuthorGrace))
}

// next is when the hold must be looked at without any event, zero for never.
func (h *hold) next() time.Time {
	switch {
	case h.phase == trying:
		return h.due
	case h.phase == holding && h.class.streams > 0 && !h.again().IsZero():
		return h.again()
	case h.phase == holding && !h.absent.IsZero() && h.class.streams > 0:
		return h.absent.Add(AuthorGrace)
	}
	return time.Time{}
}

func (u *unit) sortedHolds() []*hold {
	out := make([]*hold, 0, len(u.holds))
	for _, h := range u.holds {
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b *hold) int { return a.class.compare(b.class.Class) })
	return out
}

// complaint is a refusal by a proxy whose class has no last good configuration
// to go back to.
type complaint struct {
	Rejection
	class  *class
	node   string
	absent time.Time // since when the proxy is away
}

// ends is when the complaint expires, zero for never.
func (c *complaint) ends() time.Time {
	if c.absent.IsZero() {
		return time.Time{}
	}
	return c.absent.Add(AuthorGrace)
}

// complain notes what a proxy refuses. mu must be held.
func (s *Store) complain(sub *Subscriber, r ref, bad *content, v nack) {
	list := s.complaints[r]
	made := complaint{Rejection: rejection(r.t, s.tables[r.t].entries[r.id].name, bad, sub, v), class: sub.class, node: sub.view.Node}
	if i := slices.IndexFunc(list, func(c complaint) bool { return c.class == made.class && c.node == made.node }); i >= 0 {
		list[i] = made
		return
	}
	if len(list) < maxComplaints && s.complained < maxComplaintsOfAll {
		s.complaints[r] = append(list, made)
		s.complained++
	}
}

// settleComplaints ends a class's complaints about a resource, because one of its proxies has acknowledged
// it. mu must be held.
func (s *Store) settleComplaints(r ref, c *class) {
	s.keepComplaints(r, func(o *complaint) bool { return o.class != c })
}

func (s *Store) keepComplaints(r ref, keep func(*complaint) bool) {
	list, ok := s.complaints[r]
	if !ok {
		return
	}
	had := len(list)
	list = slices.DeleteFunc(list, func(c complaint) bool { return !keep(&c) })
	s.complained -= had - len(list)
	if len(list) == 0 {
		delete(s.complaints, r)
	} else {
		s.complaints[r] = list
	}
}

// complains reports whether a proxy of the class has a complaint about a resource. mu must
// be held.
func (s *Store) complains(r ref, c *class) bool {
	return slices.ContainsFunc(s.complaints[r], func(o complaint) bool { return o.class == c })
}

// refuse handles a resource that a subscriber has refused. mu must be held.
func (s *Store) refuse(sub *Subscriber, r ref, frame *Frame, v nack, wake *bitset) {
	e := s.tables[r.t].entries[r.id]
	now := e.at(sub)
	if now.frame == nil || now.frameFor(&sub.view) != frame {
		return // something newer is on its way
	}
	h := e.held[sub.class]
	switch {
	case now == e.next:
		s.refuseTrial(sub, r, e, v, wake)
	case h != nil && h.hold.frees(sub):
		s.resume(sub, h.hold, r, e, v, wake)
	case h != nil, e.next != nil, e.accepted.has(sub.class.id):
		// It is this proxy's own matter.
	default:
		s.refuseLate(sub, r, e, v, wake)
	}
}

// refuseTrial holds a class at its last good configuration, because its canary
// refuses the new one. The other classes go on trying. mu must be held.
func (s *Store) refuseTrial(sub *Subscriber, r ref, e *entry, v nack, wake *bitset) {
	st := e.stage
	e.next.disputed = true
	if s.holdTried(st, sub, rejection(r.t, e.name, e.next, sub, v), false, wake) == nil {
		s.complain(sub, r, e.next, v)
		st.record(trial{sub.slot, r}, refused)
	}
	s.onStageEnd(StageRejected)
	if st.open == 0 && !st.owes() {
		s.pass(st, wake)
	}
}

// holdTried holds a class at its present configuration of the unit that a stage tries, and sends its canaries
// back to that. It returns nil if the class cannot be held. anew allows a hold that has no last good
// configuration: then the class is without the new resources. mu must be held.
func (s *Store) holdTried(st *stage, sub *Subscriber, why Rejection, anew bool, wake *bitset) *hold {
	u := s.units[st.unit]
	good := make(map[ref]*content)
	for _, r := range u.refs {
		if r.t.Configuration() {
			c := s.tables[r.t].entries[r.id].content
			good[r] = &c
		}
	}
	refs := slices.Clone(st.refs)
	for _, r := range refs {
		if r.t.Configuration() && good[r] == nil {
			c := s.tables[r.t].entries[r.id].content
			good[r] = &c
		}
	}
	h := s.newHold(st.unit, u, sub, good, why, anew)
	if h == nil {
		return nil
	}
	delete(st.lost, sub.class.Class) // it has its answer
	for slot := range st.canaries.all() {
		if other := s.streams[slot]; other != nil && other.class == sub.class {
			s.dismissCanary(st, other, refs, wake)
		}
	}
	return h
}

// dismissCanary sends a canary back to the configuration of its class. mu must
// be held.
func (s *Store) dismissCanary(st *stage, sub *Subscriber, refs []ref, wake *bitset) {
	st.canaries.clear(sub.slot)
	for _, r := range refs {
		if _, tries := st.tried[trial{sub.slot, r}]; tries {
			st.forget(trial{sub.slot, r})
			sub.mark(r, st.cause)
			wake.set(sub.slot)
		}
	}
}

// refuseLate holds a class at the previous configuration, because a proxy refuses
// the one in force. No canary of the class refused it before: the class had none, or
// it was silent. mu must be held.
func (s *Store) refuseLate(sub *Subscriber, r ref, e *entry, v nack, wake *bitset) {
	since, bad := e.changed, e.content
	e.disputed = true
	u := s.units[bad.unit]
	if e.before == nil || u == nil || slices.Equal(e.before.versions(), bad.versions()) {
		s.complain(sub, r, &bad, v)
		return
	}
	good := make(map[ref]*content)
	for _, r := range u.refs {
		if !r.t.Configuration() {
			continue
		}
		e := s.tables[r.t].entries[r.id]
		c := e.content
		if e.changed == since {
			if c = (content{visible: e.visible}); e.before != nil { // otherwise there was nothing
				c = *e.before
			}
		}
		good[r] = &c
	}
	h := s.newHold(bad.unit, u, sub, good, rejection(r.t, e.name, &bad, sub, v), false)
	if h == nil {
		s.complain(sub, r, &bad, v)
		return
	}
	s.markClass(h, wake, nobody)
	s.onStageEnd(StageRejected)
}

// newHold holds a unit for a subscriber's class. It returns nil if there is no
// last good configuration and anew is false. mu must be held.
func (s *Store) newHold(name string, u *unit, sub *Subscriber, good map[ref]*content, why Rejection, anew bool) *hold {
	past := anew
	for _, c := range good {
		past = past || c.frame != nil
	}
	alike := 0
	for c := range u.holds {
		if c.Namespace == sub.class.Namespace && c.Identity == sub.class.Identity {
			alike++
		}
	}
	if !past || alike >= maxHoldsOfUnit || len(s.holds) >= maxHolds || s.holdsOf[sub.class.owner()] >= maxHoldsOfOwner {
		return nil
	}
	class := sub.class.Class
	h := s.addHold(name, u, sub.class, good, &Pin{Unit: name, Class: &class, Rejected: []Rejection{why}})
	h.pin.Good = s.resourcesOf(h)
	s.pinsChanged()
	return h
}

func (s *Store) addHold(name string, u *unit, c *class, good map[ref]*content, p *Pin) *hold {
	h := &hold{unit: name, class: c, pin: p, good: good, canary: nobody, clusters: make(map[string]resource.Visibility)}
	if u.holds == nil {
		u.holds = make(map[*class]*hold)
	}
	u.holds[c] = h
	c.holds[h] = struct{}{}
	s.holds[h] = struct{}{}
	s.holdsOf[c.owner()]++
	for r, g := range good {
		e := s.tables[r.t].entries[r.id]
		e.hold(h, g)
		if r.t == resource.Cluster && g.frame != nil && g.eds {
			h.clusters[e.name] = g.visible
		}
	}
	for cluster := range h.clusters {
		if e := s.tables[resource.Endpoint].entry(cluster); e != nil {
			s.holdEndpointsFor(h, e, &content{unit: name, frame: e.last, visible: e.visible})
		}
	}
	return h
}

func (e *entry) hold(h *hold, c *content) {
	if e.held == nil {
		e.held = make(map[*class]*heldContent)
	}
	e.held[h.class] = &heldContent{c, h}
}

func (e *entry) release(h *hold) {
	if have := e.held[h.class]; have != nil && have.hold == h {
		delete(e.held, h.class)
	}
	if len(e.held) == 0 {
		e.held = nil
	}
}

// holdEndpoints keeps the endpoints of clusters that are held for somebody: they are
// the newest, or the last where the cluster is no more to others. was is what they were. mu must be held.
func (s *Store) holdEndpoints(e *entry, was *content) {
	name := e.unit
	if name == "" {
		name = was.unit
	}
	if u := s.units[name]; u != nil {
		for _, h := range u.holds {
			s.holdEndpointsFor(h, e, was)
		}
	}
}

func (s *Store) holdEndpointsFor(h *hold, e *entry, was *content) {
	visible, needed := h.clusters[e.name]
	if !needed {
		return
	}
	c := e.content
	if c.frame == nil {
		if e.held[h.class] != nil || was.frame == nil {
			return
		}
		c = *was
	} else if c.visible == visible {
		e.release(h)
		return
	}
	c.visible = visible
	e.hold(h, &c)
}

// resourcesOf returns what a class has of a unit. mu must be held.
func (s *Store) resourcesOf(h *hold) []resource.Resource {
	var out []resource.Resource
	add := func(t resource.Type, e *entry, c *content) {
		if c != nil && c.frame != nil {
			out = append(out, c.resource(t, e.name))
		}
	}
	for r, c := range h.good {
		add(r.t, s.tables[r.t].entries[r.id], c)
	}
	for cluster := range h.clusters {
		if e := s.tables[resource.Endpoint].entry(cluster); e != nil {
			add(resource.Endpoint, e, e.forClass(h.class))
		}
	}
	slices.SortFunc(out, func(a, b resource.Resource) int {
		if a.Type != b.Type {
			return int(a.Type) - int(b.Type)
		}
		return strings.Compare(a.Name, b.Name)
	})
	return out
}

// restore holds a unit for a class because another replica or an earlier run does. mu must be held.
func (s *Store) restore(p *Pin, wake *bitset) {
	c := s.classOf(*p.Class)
	u := s.units[p.Unit]
	if u == nil {
		u = &unit{}
		s.units[p.Unit] = u
	}
	if u.holds[c] != nil {
		return
	}
	good := make(map[ref]*content)
	var endpoints []*resource.Resource
	for i := range p.Good {
		r := &p.Good[i]
		if !r.Type.Configuration() {
			endpoints = append(endpoints, r)
			continue
		}
		id := s.internLocked(r.Type, r.Name)
		good[ref{r.Type, id}], _ = nextContent(s.tables[r.Type].entries[id], p.Unit, r)
	}
	for _, r := range u.refs {
		if r.t.Configuration() && good[r] == nil {
			good[r] = &content{visible: s.tables[r.t].entries[r.id].visible}
		}
	}
	h := s.addHold(p.Unit, u, c, good, p)
	for _, r := range endpoints {
		id := s.internLocked(r.Type, r.Name)
		e := s.tables[r.Type].entries[id]
		was, _ := nextContent(e, p.Unit, r)
		s.holdEndpointsFor(h, e, was)
	}
	if !slices.ContainsFunc(p.Rejected, func(r Rejection) bool { return s.present(c, r.Node) }) {
		h.absent = time.Now()
	}
	s.markClass(h, wake, nobody)
}

// renew follows a change of a unit that is held for somebody. mu must be held.
func (s *Store) renew(p *plan, wake *bitset) {
	u := s.units[p.unit]
	if u == nil {
		return
	}
	for _, h := range u.sortedHolds() {
		for _, r := range p.refs {
			if r.t.Configuration() && h.good[r] == nil {
				e := s.tables[r.t].entries[r.id]
				h.good[r] = &content{visible: e.newest().visible}
				e.hold(h, h.good[r])
			}
		}
		switch refuses := h.pin.refuses(p.resources); {
		case refuses && h.phase != holding:
			s.goBack(h, wake)
		case refuses:
			h.wanting = false
		case u.stage != nil:
			h.wanting = true
		case h.phase == holding, h.phase == trying && p.configures():
			s.retryChanged(h, p.changedRefs, wake)
		}
	}
}

// settleFreed forgets what a class could go back to, where its unit becomes
// something else again. mu must be held.
func (s *Store) settleFreed(p *plan, wake *bitset) {
	u := s.units[p.unit]
	if u == nil || len(u.holds) == 0 || !p.configures() {
		return
	}
	for _, h := range u.sortedHolds() {
		if h.phase == freed && !h.pin.refuses(p.resources) {
			s.lift(h, wake)
		}
	}
}

// configures reports whether the plan changes more than endpoints.
func (p *plan) configures() bool {
	is := func(c change) bool { return c.t.Configuration() }
	return slices.ContainsFunc(p.changes, is) || slices.ContainsFunc(p.removed, is)
}

// changedRefs yields what the plan changes or removes.
func (p *plan) changedRefs(yield func(ref) bool) {
	for _, c := range slices.Concat(p.changes, p.removed) {
		if !yield(c.ref) {
			return
		}
	}
}

// goBack gives the class its last good configuration. mu must be held.
func (s *Store) goBack(h *hold, wake *bitset) {
	h.phase, h.canary, h.open, h.wanting, h.lost = holding, nobody, nil, false, loss{}
	s.markClass(h, wake, nobody)
}

// resume keeps a hold, because the class's proxy refuses the newer configuration too.
// mu must be held.
func (s *Store) resume(sub *Subscriber, h *hold, r ref, e *entry, v nack, wake *bitset) {
	e.disputed = true
	p := *h.pin
	p.Rejected = append(slices.Clone(p.Rejected), rejection(r.t, e.name, &e.content, sub, v))
	if len(p.Rejected) > maxRejections {
		p.Rejected = p.Rejected[1:]
	}
	h.pin, h.absent = &p, time.Time{}
	s.goBack(h, wake)
	s.pinsChanged()
	s.onStageEnd(StageRejected)
}

// retry has one proxy of the class try the configuration in force. mu must be
// held.
func (s *Store) retry(h *hold, wake *bitset) {
	former := h.canary
	h.wanting, h.open, h.canary, h.lost = false, make(map[ref]struct{}), nobody, loss{}
	if h.class.streams == 0 {
		s.lift(h, wake)
		return
	}
	var canary *Subscriber
	differs := s.differences(h)
	for _, r := range differs {
		e := s.tables[r.t].entries[r.id]
		if e.frame == nil {
			continue // no proxy answers a removal
		}
		s.followers(r, e, h.good[r].visible, func(sub *Subscriber) {
			if sub.class == h.class && !sub.mode.StateOfTheWorld && sub.view.Sees(&e.visible) {
				h.open[r] = struct{}{}
				if canary == nil || sub.slot < canary.slot {
					canary = sub
				}
			}
		})
	}
	for r := range h.open {
		if e := s.tables[r.t].entries[r.id]; !canary.follows(r.t, r.id, e) || !canary.view.Sees(&e.visible) {
			delete(h.open, r)
		}
	}
	if canary == nil {
		s.lift(h, wake)
		return
	}
	now := time.Now()
	h.phase, h.canary, h.due, h.last = trying, canary.slot, now.Add(s.silence), now.Add(searchTime*s.silence)
	for _, sub := range s.at(slots(former, canary.slot)) {
		for _, r := range differs {
			sub.mark(r, time.Now())
		}
		wake.set(sub.slot)
	}
}

// slots returns a set of slots, without nobody's.
func slots(of ...uint32) (out bitset) {
	for _, slot := range of {
		if slot != nobody {
			out.set(slot)
		}
	}
	return out
}

// differences returns the resources that the class has in another version than the one in
// force. mu must be held.
func (s *Store) differences(h *hold) []ref {
	var out []ref
	for r, good := range h.good {
		e := s.tables[r.t].entries[r.id]
		if (good.frame != nil || e.frame != nil) && !good.same(&e.content) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, compareRefs)
	return out
}

func compareRefs(a, b ref) int { return cmp.Or(cmp.Compare(a.t, b.t), cmp.Compare(a.id, b.id)) }

// retried notes that a proxy of the class has acknowledged a resource that is in force. mu must
// be held.
func (s *Store) retried(h *hold, r ref, wake *bitset) {
	delete(h.open, r)
	if len(h.open) == 0 && h.phase != holding {
		s.lift(h, wake)
		s.onStageEnd(StageAccepted)
	}
}

// lift ends a hold. mu must be held.
func (s *Store) lift(h *hold, wake *bitset) {
	if h.phase != freed {
		s.letGo(h, wake)
	}
	u := s.units[h.unit]
	for r := range h.good {
		s.tables[r.t].entries[r.id].release(h)
	}
	for cluster := range h.clusters {
		if e := s.tables[resource.Endpoint].entry(cluster); e != nil {
			e.release(h)
		}
	}
	delete(u.holds, h.class)
	delete(h.class.holds, h)
	delete(s.holds, h)
	owner := h.class.owner()
	if s.holdsOf[owner]--; s.holdsOf[owner] == 0 {
		delete(s.holdsOf, owner)
	}
	s.dismiss(h.class)
	s.discard(h.unit, u)
	s.pinsChanged()
}

// letGo gives the class the configuration in force. mu must be held.
func (s *Store) letGo(h *hold, wake *bitset) {
	s.index++
	if u := s.units[h.unit]; u != nil {
		u.changed = s.index
	}
	canary := h.canary
	h.phase, h.canary = freed, nobody
	s.markClass(h, wake, canary)
}

// markClass marks the resources in which the class differs as due for all its
// proxies, but for one subscriber. mu must be held.
func (s *Store) markClass(h *hold, wake *bitset, spare uint32) {
	mark := func(r ref, visible resource.Visibility) {
		s.followers(r, s.tables[r.t].entries[r.id], visible, func(sub *Subscriber) {
			if sub.class == h.class && sub.slot != spare {
				sub.mark(r, time.Now())
				wake.set(sub.slot)
			}
		})
	}
	for _, r := range s.differences(h) {
		mark(r, h.good[r].visible)
	}
	for cluster, visible := range h.clusters {
		if e := s.tables[resource.Endpoint].entry(cluster); e != nil && e.held[h.class] != nil {
			mark(ref{resource.Endpoint, e.id}, visible)
		}
	}
}

// expireHolds ends the trials that take too long, and the complaints of proxies
// that have left for good. mu must be held.
func (s *Store) expireHolds(now time.Time, wake *bitset) {
	for h := range s.holds {
		switch {
		case h.phase == trying && !now.Before(h.due):
			s.tryOn(h, now, wake)
		case h.phase == holding && h.orphan(now) && h.class.streams > 0:
			s.retry(h, wake)
		}
	}
	for r := range s.complaints {
		s.keepComplaints(r, func(c *complaint) bool { return c.absent.IsZero() || now.Before(c.ends()) })
	}
}

// arrive notes that a subscriber has come. It may be a proxy that refused something.
// If all those have left for good, this one tries the newer configuration. mu must
// be held.
func (s *Store) arrive(sub *Subscriber) {
	now := time.Now()
	for h := range sub.class.holds {
		switch {
		case h.by(sub.view.Node):
			h.absent = time.Time{}
		case h.phase == holding && h.orphan(now) && !sub.mode.StateOfTheWorld:
			h.open = make(map[ref]struct{})
			for _, r := range s.differences(h) {
				if s.tables[r.t].entries[r.id].frame != nil {
					h.open[r] = struct{}{}
				}
			}
			h.phase, h.canary, h.due, h.lost = trying, sub.slot, now.Add(searchTime*s.silence), loss{}
			h.last = h.due.Add(searchTime * s.silence)
		}
	}
	for _, list := range s.complaints {
		for i := range list {
			if list[i].class == sub.class && list[i].node == sub.view.Node {
				list[i].absent = time.Time{}
			}
		}
	}
}

// depart notes that a subscriber has gone; its slot is empty already. mu must be held.
func (s *Store) depart(sub *Subscriber) {
	now := time.Now()
	known := make(map[string]bool)
	present := func(node string) bool { // each is looked for once among all streams
		if _, ok := known[node]; !ok {
			known[node] = s.present(sub.class, node)
		}
		return known[node]
	}
	for h := range sub.class.holds {
		if h.by(sub.view.Node) && !slices.ContainsFunc(h.pin.Rejected, func(r Rejection) bool { return present(r.Node) }) {
			h.absent = now
		}
	}
	for _, list := range s.complaints {
		for i := range list {
			if list[i].class == sub.class && list[i].node == sub.view.Node && !present(sub.view.Node) {
				list[i].absent = now
			}
		}
	}
	s.dismiss(sub.class)
}

// by reports whether a proxy is one of those that refused the configuration.
func (h *hold) by(node string) bool {
	return slices.ContainsFunc(h.pin.Rejected, func(r Rejection) bool { return r.Node == node })
}
