package catalog

import (
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"

	memdb "github.com/hashicorp/go-memdb"

	"github.com/causeway-mesh/causeway/discovery"
)

// Table is a typed table of the catalog. T is a pointer to a row; rows are
// immutable from the moment they are written.
type Table[T any] struct {
	name    string
	id      func(T) string
	scope   func(T) string
	indexes map[Index]func(T) string
	// many are indexes under which a row stands more than once or not at all.
	many map[Index]func(T) []string
	// names returns what a row is about, of which several sources may have one (Claim); nil for tables
	// whose rows only one source writes.
	names func(T) discovery.ObjectName
	// after returns what is written in place of a row: the new one, with what is remembered of the one
	// before it, or that one again. nil: the new one.
	after func(before, row T) T
	// scoped tables have ids that begin with the row's scope and "|", and so no index of scopes: it would
	// cost as much memory as a small row.
	scoped bool
	// quiet tables are those that feeds are told nothing of: a change of such a row wakes nobody. Who
	// reads them looks when its time has come.
	quiet bool
}

// Index names a secondary index of a table.
type Index string

// The indexes that readers use. Every table that is not scoped also has the index of its rows' scopes.
const (
	ByService Index = "service"
	// ByKind finds Objects by their kind.
	ByKind Index = "kind"
	// ByRef finds Objects by the name of an object that they refer to
	// (discovery.ObjectName.String).
	ByRef Index = "ref"
	// ByHost finds Objects that claim a host.
	ByHost Index = "host"
	// ByAddress finds Services by a cluster IP, or by a virtual IPv4 address that they can have.
	ByAddress Index = "address"
	byScope   Index = "scope"
	byID      Index = "id"
)

// The catalog's tables. tables lists them all.
var (
	Services = Table[*discovery.Service]{
		name:  "services",
		id:    func(s *discovery.Service) string { return s.Key.String() },
		scope: func(s *discovery.Service) string { return s.Scope },
		many: map[Index]func(*discovery.Service) []string{
			ByAddress: addressesOf,
		},
		names: func(s *discovery.Service) discovery.ObjectName {
			return discovery.ObjectName{Kind: discovery.KindService, Key: s.Key}
		},
		after: discovery.Renamed,
	}
	// Objects are found by discovery.ObjectName.String.
	Objects = Table[*discovery.Object]{
		name:  "objects",
		id:    func(o *discovery.Object) string { return o.Name().String() },
		scope: func(o *discovery.Object) string { return o.Scope },
		indexes: map[Index]func(*discovery.Object) string{
			ByKind: func(o *discovery.Object) string { return o.Kind },
		},
		many: map[Index]func(*discovery.Object) []string{
			ByRef: func(o *discovery.Object) []string {
				out := make([]string, len(o.Refs))
				for i, r := range o.Refs {
					out[i] = r.String()
				}
				return out
			},
			ByHost: func(o *discovery.Object) []string { return o.Hosts },
		},
		names: (*discovery.Object).Name,
	}
	// Rivals are the rows of Services and Objects that are not in force, because another source names the same.
	Rivals = Table[*discovery.Rival]{
		name:  "rivals",
		id:    func(r *discovery.Rival) string { return r.Name.String() + "|" + r.Scope },
		scope: func(r *discovery.Rival) string { return r.Scope },
	}
	Endpoints = Table[*discovery.EndpointSet]{
		name:  "endpoints",
		id:    func(s *discovery.EndpointSet) string { return s.Scope + "|" + s.Key.String() },
		scope: func(s *discovery.EndpointSet) string { return s.Scope },
		// Its ids have the scope.
		scoped: true,
		indexes: map[Index]func(*discovery.EndpointSet) string{
			ByService: func(s *discovery.EndpointSet) string { return s.Service.String() },
		},
	}
	Instances = Table[*discovery.InstanceSet]{
		name:  "instances",
		id:    func(s *discovery.InstanceSet) string { return s.Key.String() },
		scope: func(s *discovery.InstanceSet) string { return s.Scope },
	}
	Checks = Table[*discovery.HealthSet]{
		name:  "checks",
		id:    func(s *discovery.HealthSet) string { return s.Key.String() },
		scope: func(s *discovery.HealthSet) string { return s.Scope },
	}
	GroupStatuses = Table[*discovery.GroupStatus]{
		name:  "groupstatuses",
		id:    func(s *discovery.GroupStatus) string { return s.Key.String() },
		scope: func(s *discovery.GroupStatus) string { return s.Scope },
	}
	Homes = Table[*discovery.Home]{
		name:  "homes",
		id:    func(h *discovery.Home) string { return h.Key.String() },
		scope: func(h *discovery.Home) string { return h.Scope },
	}
	ShiftStates = Table[*discovery.ShiftState]{
		name:  "shiftstates",
		id:    func(s *discovery.ShiftState) string { return s.Key.String() },
		scope: func(s *discovery.ShiftState) string { return s.Scope },
	}
	// Freezes has at most one row, FreezeID.
	Freezes = Table[*discovery.Freeze]{
		name:  "freezes",
		id:    func(*discovery.Freeze) string { return FreezeID },
		scope: func(f *discovery.Freeze) string { return f.Scope },
	}
	// EdgeStatuses are found by the Gateway's key. Only a replica that leads has any.
	EdgeStatuses = Table[*discovery.EdgeStatus]{
		name:  "edgestatuses",
		id:    func(s *discovery.EdgeStatus) string { return s.Key.String() },
		scope: func(s *discovery.EdgeStatus) string { return s.Scope },
	}
	// ObservedStatuses are found by discovery.ObservedStatus.ID. An older one never replaces a newer one of
	// the same object. Each write of a status comes back by the watch, and concerns none but who writes
	// statuses, which compares all of them once in a while: so the table is quiet.
	ObservedStatuses = Table[*discovery.ObservedStatus]{
		name:   "observedstatuses",
		id:     (*discovery.ObservedStatus).ID,
		scope:  func(s *discovery.ObservedStatus) string { return s.Scope },
		after:  discovery.NewerStatus,
		scoped: true,
		quiet:  true,
	}
	Sources = Table[*discovery.SourceStatus]{
		name:  "sources",
		id:    func(s *discovery.SourceStatus) string { return s.Name },
		scope: func(s *discovery.SourceStatus) string { return s.Name },
	}
)

// FreezeID is the id of the only row of Freezes.
const FreezeID = "freeze"

// table is a Table of any row.
type table interface {
	Name() string
	schema() *memdb.TableSchema
	isQuiet() bool
}

func addressesOf(s *discovery.Service) []string {
	out := slices.Clone(s.ClusterIPs)
	for choice := range discovery.VirtualChoices {
		out = append(out, discovery.VirtualAddress(s.Key, choice).String())
	}
	return out
}

// tables lists every table, in the order in which a new feed hands them out:
// rows that refer to others come after them.
func tables() []table {
	return []table{
		Sources,
		Homes,
		Freezes,
		ShiftStates,
		Services,
		Objects,
		Rivals,
		Endpoints,
		Instances,
		Checks,
		GroupStatuses,
		EdgeStatuses,
		ObservedStatuses,
	}
}

func schema() *memdb.DBSchema {
	s := &memdb.DBSchema{Tables: make(map[string]*memdb.TableSchema)}
	for _, t := range tables() {
		s.Tables[t.Name()] = t.schema()
	}
	return s
}

// Name returns the table's name, as Change.Table gives it.
func (t Table[T]) Name() string { return t.name }

func (t Table[T]) isQuiet() bool { return t.quiet }

// Get returns the row with this id: a row's Key as "namespace/name", or a source's name.
func (t Table[T]) Get(r Reader, id string) (T, bool) {
	row, err := r.txn.First(t.name, string(byID), id)
	mustRead(err)
	if row == nil {
		var none T
		return none, false
	}
	return row.(T), true
}

// All yields every row in the order of ids.
func (t Table[T]) All(r Reader) iter.Seq[T] { return t.iterate(r, byID+"_prefix", "") }

// By yields the rows whose index has this value, in the order of ids.
func (t Table[T]) By(r Reader, index Index, value string) iter.Seq[T] {
	return t.iterate(r, index, value)
}

// ofScope yields the rows of a scope.
func (t Table[T]) ofScope(r Reader, scope string) iter.Seq[T] {
	if t.scoped {
		return t.iterate(r, byID+"_prefix", scope+"|")
	}
	return t.iterate(r, byScope, scope)
}

func (t Table[T]) iterate(r Reader, index Index, value string) iter.Seq[T] {
	return func(yield func(T) bool) {
		it, err := r.txn.Get(t.name, string(index), value)
		mustRead(err)
		for row := it.Next(); row != nil; row = it.Next() {
			if !yield(row.(T)) {
				return
			}
		}
	}
}

// Put writes a row, in place of the one with the same id. A row that equals
// what is there is no change. A source that may not be the only one to name an object claims it instead.
func (t Table[T]) Put(tx *Tx, row T) {
	old, err := tx.txn.First(t.name, string(byID), t.id(row))
	tx.fail(err)
	if old != nil && t.after != nil {
		row = t.after(old.(T), row)
	}
	if old != nil && reflect.DeepEqual(old, any(row)) {
		return
	}
	tx.fail(tx.txn.Insert(t.name, row))
}

// Delete removes the row with this id, if it is there.
func (t Table[T]) Delete(tx *Tx, id string) {
	old, err := tx.txn.First(t.name, string(byID), id)
	tx.fail(err)
	if old != nil {
		tx.fail(tx.txn.Delete(t.name, old))
	}
}

// Replace makes rows the whole content of a scope: what the scope holds now
// and rows does not is withdrawn. Every row's Scope must be scope.
func (t Table[T]) Replace(tx *Tx, scope string, rows []T) {
	keep := make(map[string]struct{}, len(rows))
	for _, row := range rows {
		if got := t.scope(row); got != scope {
			tx.fail(fmt.Errorf("catalog: %s: a row of scope %q in a Replace of scope %q", t.name, got, scope))
			return
		}
		keep[t.id(row)] = struct{}{}
	}
	var gone []string
	for row := range t.ofScope(tx.Reader, scope) {
		if _, ok := keep[t.id(row)]; !ok {
			gone = append(gone, t.id(row))
		}
	}
	for id := range t.rivalsOf(tx.Reader, scope) {
		if _, ok := keep[id]; !ok {
			gone = append(gone, id)
		}
	}
	for _, id := range gone {
		t.Withdraw(tx, scope, id)
	}
	for _, row := range rows {
		t.Claim(tx, row)
	}
}

func (t Table[T]) schema() *memdb.TableSchema {
	s := &memdb.TableSchema{Name: t.name, Indexes: map[string]*memdb.IndexSchema{
		string(byID): {Name: string(byID), Unique: true, Indexer: indexer[T](t.id)},
	}}
	if !t.scoped {
		s.Indexes[string(byScope)] = &memdb.IndexSchema{Name: string(byScope), Indexer: indexer[T](t.scope)}
	}
	for name, of := range t.indexes {
		s.Indexes[string(name)] = &memdb.IndexSchema{Name: string(name), Indexer: indexer[T](of)}
	}
	for name, of := range t.many {
		s.Indexes[string(name)] = &memdb.IndexSchema{Name: string(name), AllowMissing: true, Indexer: multiIndexer[T](of)}
	}
	return s
}

// multiIndexer indexes a row by each of several strings.
type multiIndexer[T any] func(T) []string

// FromObject implements memdb.MultiIndexer.
func (f multiIndexer[T]) FromObject(row any) (ok bool, keys [][]byte, err error) {
	for _, s := range f(row.(T)) {
		keys = append(keys, append([]byte(s), 0))
	}
	return len(keys) > 0, keys, nil
}

// FromArgs implements memdb.Indexer.
func (multiIndexer[T]) FromArgs(args ...any) ([]byte, error) {
	return indexer[T](nil).FromArgs(args...)
}

// indexer indexes a row by a string that a function takes from it.
type indexer[T any] func(T) string

// FromObject implements memdb.Indexer. The final NUL keeps "a" from matching "ab".
func (f indexer[T]) FromObject(row any) (ok bool, key []byte, err error) {
	return true, append([]byte(f(row.(T))), 0), nil
}

var errArgs = errors.New("catalog: an index takes one string")

// FromArgs implements memdb.Indexer.
func (f indexer[T]) FromArgs(args ...any) ([]byte, error) {
	if len(args) != 1 {
		return nil, errArgs
	}
	s, ok := args[0].(string)
	if !ok {
		return nil, errArgs
	}
	return append([]byte(s), 0), nil
}

// PrefixFromArgs implements memdb.PrefixIndexer.
func (f indexer[T]) PrefixFromArgs(args ...any) ([]byte, error) {
	key, err := f.FromArgs(args...)
	if err != nil {
		return nil, err
	}
	return key[:len(key)-1], nil
}

// mustRead panics on an error of a read: the schema is fixed and checked when
// the catalog is made, so only a table or index that does not exist can cause one.
func mustRead(err error) {
	if err != nil {
		panic(fmt.Sprintf("catalog: %v", err))
	}
}
