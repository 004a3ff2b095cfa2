package policy

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
)

// CompareBool orders false before true.
func CompareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// CompareAge orders objects by who wins a tie: the oldest, then the first by
// "namespace/name" (Gateway API, "Conflict Resolution").
func CompareAge(a, b *discovery.Object) int {
	return cmp.Or(CompareCreated(a.Created, a.Key, b.Created, b.Key), cmp.Compare(a.Kind, b.Kind))
}

// CompareCreated orders what was created at two times: the oldest, then the first by
// "namespace/name". That is not the order of the namespaces: "a-b/x" comes before "a/x".
func CompareCreated(a time.Time, aKey discovery.Key, b time.Time, bKey discovery.Key) int {
	switch c := a.Compare(b); {
	case c != 0:
		return c
	case aKey.Namespace == bKey.Namespace:
		return cmp.Compare(aKey.Name, bKey.Name)
	}
	return cmp.Compare(aKey.String(), bKey.String())
}

// SortedRefs sorts references and leaves each once.
func SortedRefs(refs []discovery.ObjectRef) []discovery.ObjectRef {
	slices.SortFunc(refs, func(a, b discovery.ObjectRef) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Key.Name, b.Key.Name))
	})
	return slices.Compact(refs)
}
