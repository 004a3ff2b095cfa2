package kubernetes

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/convert"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/conditions"
	"github.com/causeway-mesh/causeway/discovery/objects"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// objectRows is the store of a policy kind's reflector: it writes rows of
// catalog.Objects and, for who writes statuses, of catalog.ObservedStatuses. The
// status of a TrafficShift is also a row of catalog.ShiftStates. All are written
// in one transaction: nobody sees a spec with the status of another one.
type objectRows struct {
	cat    *catalog.Catalog
	kind   objects.Kind
	status *sourceStatus
	log    *slog.Logger
	// noted is called when note has something else to say.
	noted func()

	mu sync.Mutex
	// unreadable has the objects that cannot be decoded, by their key.
	unreadable map[discovery.Key]discovery.Unread
}

// Add implements cache.ReflectorStore.
func (s *objectRows) Add(o any) error { return s.Update(o) }

// Update implements cache.ReflectorStore.
func (s *objectRows) Update(o any) error {
	raw := o.(*cluster.Object)
	read := s.read(raw)
	_, err := s.cat.Write(time.Now(), func(tx *catalog.Tx) error {
		if read.object != nil {
			catalog.Objects.Claim(tx, read.object)
			catalog.ObservedStatuses.Put(tx, read.observed)
		}
		if read.state != nil {
			catalog.ShiftStates.Put(tx, read.state)
		}
		s.putUnread(tx, false)
		return nil
	})
	return err
}

// Delete implements cache.ReflectorStore.
func (s *objectRows) Delete(o any) error {
	raw := o.(*cluster.Object)
	name := s.name(raw)
	s.readable(raw, nil)
	_, err := s.cat.Write(time.Now(), func(tx *catalog.Tx) error {
		catalog.Objects.Withdraw(tx, s.status.name, name.String())
		catalog.ObservedStatuses.Delete(tx, s.observedID(name))
		if s.kind.Name == discovery.KindTrafficShift {
			catalog.ShiftStates.Delete(tx, name.Key.String())
		}
		s.putUnread(tx, false)
		return nil
	})
	return err
}

// Replace implements cache.ReflectorStore: a list has all objects.
func (s *objectRows) Replace(list []any, _ string) error {
	all := make([]*discovery.Object, 0, len(list))
	observed := make([]*discovery.ObservedStatus, 0, len(list))
	var states []*discovery.ShiftState
	var kept []discovery.ObjectName
	there := make(map[discovery.Key]struct{}, len(list))
	for i, o := range list {
		raw := o.(*cluster.Object)
		name := s.name(raw)
		there[name.Key] = struct{}{}
		if read := s.read(raw); read.object != nil {
			all, observed = append(all, read.object), append(observed, read.observed)
			if read.state != nil {
				states = append(states, read.state)
			}
		} else {
			kept = append(kept, name)
		}
		list[i] = nil // the object's memory may go while the others are decoded
	}
	s.mu.Lock()
	maps.DeleteFunc(s.unreadable, func(k discovery.Key, _ discovery.Unread) bool {
		_, ok := there[k]
		return !ok
	})
	s.mu.Unlock()
	_, err := s.cat.Write(time.Now(), func(tx *catalog.Tx) error {
		for _, name := range kept {
			if row, ok := catalog.Objects.Own(tx.Reader, s.status.name, name.String()); ok {
				all = append(all, row)
			}
			if row, ok := catalog.ObservedStatuses.Get(tx.Reader, s.observedID(name)); ok {
				observed = append(observed, row)
			}
			if s.kind.Name != discovery.KindTrafficShift {
				continue
			}
			if state, ok := catalog.ShiftStates.Get(tx.Reader, name.Key.String()); ok {
				states = append(states, state)
			}
		}
		catalog.Objects.Replace(tx, s.status.name, all)
		catalog.ObservedStatuses.Replace(tx, s.status.name, observed)
		if s.kind.Name == discovery.KindTrafficShift {
			catalog.ShiftStates.Replace(tx, s.status.name, states)
		}
		s.putUnread(tx, true)
		return nil
	})
	return err
}

// Resync implements cache.ReflectorStore.
func (s *objectRows) Resync() error { return nil }

// name returns the name of an object, whatever its content is.
func (s *objectRows) name(o *cluster.Object) discovery.ObjectName {
	return discovery.ObjectName{Kind: s.kind.Name, Key: discovery.Key{Namespace: o.Namespace, Name: o.Name}}
}

// observedID returns the id of the row of catalog.ObservedStatuses of an object.
func (s *objectRows) observedID(name discovery.ObjectName) string {
	return (&discovery.ObservedStatus{Scope: s.status.name, Name: name}).ID()
}

// rowsOfObject are the rows of one object, all nil if it cannot be decoded.
type rowsOfObject struct {
	object   *discovery.Object
	observed *discovery.ObservedStatus
	state    *discovery.ShiftState // of a TrafficShift
}

// read returns the rows of an object. If it cannot be decoded, its former rows
// stay.
func (s *objectRows) read(raw *cluster.Object) rowsOfObject {
	typed, err := raw.Decode(s.kind)
	name := s.name(raw)
	s.readable(raw, err)
	if err != nil {
		return rowsOfObject{}
	}
	out := rowsOfObject{object: convert.Object(typed, s.status.name), observed: conditions.Observed(s.kind, typed)}
	if shift, ok := typed.(*v1alpha1.TrafficShift); ok {
		out.state = &discovery.ShiftState{
			Scope: s.status.name, Key: name.Key,
			UID: string(shift.UID), Version: shift.ResourceVersion, Status: &shift.Status,
		}
	}
	return out
}

// readable notes whether an object could be decoded.
func (s *objectRows) readable(raw *cluster.Object, err error) {
	key := s.name(raw).Key
	s.mu.Lock()
	_, was := s.unreadable[key]
	if err == nil {
		delete(s.unreadable, key)
		s.mu.Unlock()
		if was {
			s.noted()
		}
		return
	}
	s.unreadable[key] = unreadOf(raw, err.Error())
	s.mu.Unlock()
	if !was {
		s.noted()
		s.log.Warn("an object does not fit the version of its kind that this release reads; what was read of it before holds",
			"object", discovery.ObjectName{Kind: s.kind.Name, Key: key}.String(), "error", err)
	}
}

func byKey(a, b discovery.Key) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// putUnread writes into the source's status which existing objects have no row,
// in the same transaction as the rows: nobody sees an existing object as gone.
// A list has all existing objects.
func (s *objectRows) putUnread(tx *catalog.Tx, list bool) {
	s.mu.Lock()
	var unread []discovery.Unread
	for key, u := range s.unreadable {
		if _, ok := catalog.Objects.Own(tx.Reader, s.status.name, discovery.ObjectName{Kind: s.kind.Name, Key: key}.String()); !ok {
			unread = append(unread, u)
		}
	}
	s.mu.Unlock()
	var next discovery.SourceStatus
	next.Unread, next.UnreadAll = someUnread(s.kind, unread)
	old, _ := catalog.Sources.Get(tx.Reader, s.status.name)
	if !list && discovery.SameUnread(old, &next) {
		return
	}
	s.status.put(tx, func(st *discovery.SourceStatus) {
		st.Unread, st.UnreadAll = next.Unread, next.UnreadAll
		if list {
			st.Synced = true
		}
	})
}

// someUnread returns as many objects of a kind that cannot be read as a status has, and says that there are others.
func someUnread(kind objects.Kind, unread []discovery.Unread) (some []discovery.Unread, others string) {
	slices.SortFunc(unread, func(a, b discovery.Unread) int { return byKey(a.Key, b.Key) })
	if more := len(unread) - discovery.MaxUnread; more > 0 {
		return slices.Clip(unread[:discovery.MaxUnread]), fmt.Sprintf("%d more objects of kind %s cannot be read", more, kind.Name)
	}
	return unread, ""
}

// maxUnreadable is how many objects that cannot be decoded are named.
const maxUnreadable = 3

// note says which objects cannot be decoded, "" for none.
func (s *objectRows) note() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.unreadable) == 0 {
		return ""
	}
	keys := slices.SortedFunc(maps.Keys(s.unreadable), byKey)
	text := fmt.Sprintf("%d objects do not fit this release; what was read of them before holds: ", len(keys))
	for i, k := range keys {
		if i == maxUnreadable {
			return text + "..."
		}
		if i > 0 {
			text += "; "
		}
		text += displayName(k) + ": " + s.unreadable[k].Why
	}
	return text
}

// displayName returns the key as kubectl takes it.
func displayName(k discovery.Key) string {
	if k.Namespace == "" {
		return k.Name
	}
	return k.String()
}

// clear forgets all objects: their kind is gone.
func (s *objectRows) clear() error {
	return s.Replace(nil, "")
}
