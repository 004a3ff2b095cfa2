package snapshot

import (
	"errors"

	"github.com/causeway-mesh/causeway/xds/resource"
)

// ErrTooManyNameBytes ends a stream whose names take more memory than it may have, or
// its connection, or all together.
var ErrTooManyNameBytes = errors.New("the names that are followed take too much memory: the stream's, its connection's or all streams' part is used up")

// nameOverhead is about what a name costs beside its bytes.
const nameOverhead = 160

// Budget bounds the memory for the names of subscribers: those that they ask for and those
// that they say they have. Names of resources are not counted: they are stored once,
// however many subscribers ask for them. A Budget with a parent is a part of it. The Store
// guards it.
type Budget struct {
	most, used int64
	parent     *Budget
}

// NewBudget returns a budget of a number of bytes, within another one if that is
// not nil.
func NewBudget(most int64, parent *Budget) *Budget {
	return &Budget{most: most, parent: parent}
}

// take takes n bytes of the budget and of all that it is within, or nothing.
func (b *Budget) take(n int64) bool {
	if b == nil {
		return true
	}
	if b.used+n > b.most || !b.parent.take(n) {
		return false
	}
	b.used += n
	return true
}

func (b *Budget) give(n int64) {
	if b != nil {
		b.used -= n
		b.parent.give(n)
	}
}

// ask has the subscriber follow a name, unless its budget is used up. mu must be held.
func (sub *Subscriber) ask(t resource.Type, name string) (id uint32, ok bool) {
	s := sub.store
	id, interned := s.tables[t].ids[name]
	if interned && sub.asked[t].has(id) {
		return id, true
	}
	// The name of a resource is there for all, whoever asks for it.
	charged := !interned || s.tables[t].entries[id].gone()
	if charged && !sub.charge(name) {
		return 0, false
	}
	if !interned {
		id = s.internLocked(t, name)
	}
	if charged {
		sub.charged[t].set(id)
	}
	sub.asked[t].set(id)
	sub.names++
	s.tables[t].entries[id].followers.set(sub.slot)
	return id, true
}

// charge takes what a name costs from the subscriber's budget.
func (sub *Subscriber) charge(name string) bool {
	n := int64(len(name)) + nameOverhead
	if !sub.mode.Names.take(n) {
		return false
	}
	sub.bytes += n
	return true
}

func (sub *Subscriber) refund(n int64) {
	sub.bytes -= n
	sub.mode.Names.give(n)
}
