package catalog

import (
	"iter"
	"slices"

	"github.com/causeway-mesh/causeway/discovery"
)

// Claim writes a source's row. Where another source has one of the same name, the row of the
// scope that comes first by name is in force, whoever came first, and the other is a
// discovery.Rival for as long as both are there.
func (t Table[T]) Claim(tx *Tx, row T) {
	id, scope := t.id(row), t.scope(row)
	old, taken := t.Get(tx.Reader, id)
	if t.names == nil || !taken || t.scope(old) == scope {
		t.Put(tx, row)
		return
	}
	if t.scope(old) < scope {
		t.setAside(tx, row)
		return
	}
	Rivals.Delete(tx, t.rivalID(row, scope))
	t.setAside(tx, old)
	t.Put(tx, row)
}

// Withdraw takes back what a source says of an id. Where another source names the same, its row is in force from then on.
func (t Table[T]) Withdraw(tx *Tx, scope, id string) {
	old, ok := t.Get(tx.Reader, id)
	if !ok {
		return
	}
	if t.names == nil {
		t.Delete(tx, id)
		return
	}
	if t.scope(old) != scope {
		Rivals.Delete(tx, t.rivalID(old, scope))
		return
	}
	for next := range Rivals.iterate(tx.Reader, byID+"_prefix", t.rivalID(old, "")) {
		Rivals.Delete(tx, Rivals.id(next))
		t.Put(tx, next.Row.(T))
		return
	}
	t.Delete(tx, id)
}

// Own returns what a source says of an id, whether or not its row is in force.
func (t Table[T]) Own(r Reader, scope, id string) (T, bool) {
	row, ok := t.Get(r, id)
	if !ok || t.scope(row) == scope || t.names == nil {
		return row, ok
	}
	if rival, aside := Rivals.Get(r, t.rivalID(row, scope)); aside {
		return rival.Row.(T), true
	}
	var none T
	return none, false
}

// setAside keeps a row that is not in force.
func (t Table[T]) setAside(tx *Tx, row T) {
	Rivals.Put(tx, &discovery.Rival{Scope: t.scope(row), Name: t.names(row), Row: row})
}

// rivalID returns the id of the Rival of a scope that has the name of a row.
func (t Table[T]) rivalID(row T, scope string) string {
	return Rivals.id(&discovery.Rival{Scope: scope, Name: t.names(row)})
}

// rivalsOf yields the ids of a scope's rows that are not in force.
func (t Table[T]) rivalsOf(r Reader, scope string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if t.names == nil {
			return
		}
		for _, rival := range slices.Collect(Rivals.By(r, byScope, scope)) {
			if row, ok := rival.Row.(T); ok && !yield(t.id(row)) {
				return
			}
		}
	}
}

// ScopeOf returns the scope of the row that is in force of a name, "" for none.
func ScopeOf(r Reader, name discovery.ObjectName) string {
	if name.Kind == discovery.KindService {
		if s, ok := Services.Get(r, name.Key.String()); ok {
			return s.Scope
		}
		return ""
	}
	if o, ok := Objects.Get(r, name.String()); ok {
		return o.Scope
	}
	return ""
}
