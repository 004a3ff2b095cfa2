// Package conditions has what Causeway says in the statuses of objects: which part of a
// status is its own, how that part is merged with what others say, what has turned from
// one status to the next, and a digest by which two are compared. Who reads a cluster
// and who writes statuses have it in common. It is pure.
package conditions

import (
	"cmp"
	"encoding/json"
	"hash/fnv"
	"slices"
	"strings"
	"unicode/utf8"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Bounds of what a status holds, by the CRDs.
const (
	maxParents   = 32
	maxAncestors = 16
	maxMessage   = 32 << 10
)

// Of returns what the status of an object says, of everyone.
func Of(o metav1.Object) discovery.Status {
	switch o := o.(type) {
	case *gatewayv1.HTTPRoute:
		return discovery.Status{Parents: o.Status.Parents}
	case *gatewayv1.GRPCRoute:
		return discovery.Status{Parents: o.Status.Parents}
	case *gatewayv1.TCPRoute:
		return discovery.Status{Parents: o.Status.Parents}
	case *gatewayv1.TLSRoute:
		return discovery.Status{Parents: o.Status.Parents}
	case *gatewayv1.BackendTLSPolicy:
		return discovery.Status{Ancestors: o.Status.Ancestors}
	case *gatewayv1.Gateway:
		return discovery.Status{Gateway: &o.Status}
	case *gatewayv1.GatewayClass:
		return discovery.Status{Class: &o.Status}
	case v1alpha1.Conditioned:
		return discovery.Status{Conditions: o.StatusConditions()}
	}
	return discovery.Status{}
}

// Ours returns the part of a status that is ours to write.
func Ours(s discovery.Status) discovery.Status {
	return discovery.Status{
		Conditions: slices.DeleteFunc(slices.Clone(s.Conditions), func(c metav1.Condition) bool { return !IsOurs(c.Type) }),
		Parents: slices.DeleteFunc(slices.Clone(s.Parents), func(p gatewayv1.RouteParentStatus) bool {
			return p.ControllerName != v1alpha1.ControllerName
		}),
		Ancestors: slices.DeleteFunc(slices.Clone(s.Ancestors), func(a gatewayv1.PolicyAncestorStatus) bool {
			return a.ControllerName != v1alpha1.ControllerName
		}),
		Gateway: ourGateway(s.Gateway),
		Class:   ourClass(s.Class),
	}
}

// IsOurs reports whether a condition of one of our own kinds is ours. A
// tool may keep others there.
func IsOurs(kind string) bool {
	switch kind {
	case v1alpha1.ConditionAccepted, v1alpha1.ConditionResolvedRefs, v1alpha1.ConditionProgrammed:
		return true
	}
	return false
}

// Merge returns the new status of an object from its present and its wanted
// one. It keeps the times of conditions that did not change, and the entries of
// others in their places. programmed is nil while nothing is known, and then
// the present condition stays. Of the conditions of our own kinds it returns
// only ours, because server-side apply keeps the others.
func Merge(have, want discovery.Status, programmed *metav1.Condition, now metav1.Time) discovery.Status {
	out := discovery.Status{Gateway: MergeGateway(have.Gateway, want.Gateway, programmed, now), Class: mergeClass(have.Class, want.Class, now)}
	if want.Conditions != nil {
		out.Conditions = mergeConditions(have.Conditions, want.Conditions, programmed, now)
	}
	out.Parents = mergeEntries(have.Parents, want.Parents, maxParents, func(p *gatewayv1.RouteParentStatus) entry {
		return entry{p.ParentRef, p.ControllerName, &p.Conditions}
	}, programmed, now)
	out.Ancestors = mergeEntries(have.Ancestors, want.Ancestors, maxAncestors, func(a *gatewayv1.PolicyAncestorStatus) entry {
		return entry{a.AncestorRef, a.ControllerName, &a.Conditions}
	}, programmed, now)
	return out
}

func sameParent(a, b gatewayv1.ParentReference) bool { return apiequality.Semantic.DeepEqual(a, b) }

// entry is what the statuses of a route at a parent and of a policy at an ancestor have in common.
type entry struct {
	ref        gatewayv1.ParentReference
	controller gatewayv1.GatewayController
	conditions *[]metav1.Condition
}

// mergeEntries returns the new list: the entries of others in their places, ours of want, at most that many.
func mergeEntries[T any](have, want []T, most int, of func(*T) entry, programmed *metav1.Condition, now metav1.Time) []T {
	var out []T
	mine := slices.Clone(want)
	for i := range have {
		was := of(&have[i])
		if was.controller != v1alpha1.ControllerName {
			out = append(out, have[i])
			continue
		}
		at := slices.IndexFunc(mine, func(w T) bool { return sameParent(of(&w).ref, was.ref) })
		if at >= 0 {
			next := mine[at]
			is := of(&next)
			*is.conditions = mergeConditions(*was.conditions, *is.conditions, programmed, now)
			out = append(out, next)
			mine = slices.Delete(mine, at, at+1)
		}
	}
	for _, next := range mine {
		is := of(&next)
		*is.conditions = mergeConditions(nil, *is.conditions, programmed, now)
		out = append(out, next)
	}
	return fit(out, most, func(e T) bool { return of(&e).controller == v1alpha1.ControllerName })
}

// fit removes our own last entries from a list that has no room for them; the
// entries of others are not ours to remove.
func fit[T any](list []T, most int, our func(T) bool) []T {
	for i := len(list) - 1; i >= 0 && len(list) > most; i-- {
		if our(list[i]) {
			list = slices.Delete(list, i, i+1)
		}
	}
	return list
}

// mergeConditions returns the conditions that are wanted, in their order, with
// the time at which each turned. Others that were ours go.
func mergeConditions(have, want []metav1.Condition, programmed *metav1.Condition, now metav1.Time) []metav1.Condition {
	out := slices.Clone(want)
	said := apimeta.FindStatusCondition(have, v1alpha1.ConditionProgrammed)
	switch {
	case programmed != nil:
		out = append(out, *programmed)
	case said != nil:
		out = append(out, *said)
	}
	for i := range out {
		c := &out[i]
		c.Message = Clip(c.Message, maxMessage)
		c.LastTransitionTime = now
		if old := apimeta.FindStatusCondition(have, c.Type); old != nil && old.Status == c.Status && !old.LastTransitionTime.IsZero() {
			c.LastTransitionTime = old.LastTransitionTime
		}
	}
	return out
}

// Clip shortens a text to a number of bytes, at the end of a character.
func Clip(s string, most int) string {
	const ellipsis = "…"
	if len(s) <= most {
		return s
	}
	cut := most - len(ellipsis)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + ellipsis
}

// Digest returns a digest of our part of a status, without times and the order
// of entries, and one of its condition Programmed. That one is 0 if there is no
// such condition, and a special value if entries differ in it. A Gateway's
// listeners each have one: they are compared, not digested (discovery.ObservedStatus).
func Digest(s discovery.Status) (said, programmed uint64) {
	type entry struct {
		Ref        *gatewayv1.ParentReference
		Conditions []metav1.Condition
	}
	var entries []entry
	if s.Conditions != nil {
		entries = append(entries, entry{nil, s.Conditions})
	}
	for i := range s.Parents {
		entries = append(entries, entry{&s.Parents[i].ParentRef, s.Parents[i].Conditions})
	}
	for i := range s.Ancestors {
		entries = append(entries, entry{&s.Ancestors[i].AncestorRef, s.Ancestors[i].Conditions})
	}
	texts := digestTexts(s)
	for i, e := range entries {
		var rest []metav1.Condition
		found := uint64(0)
		for _, c := range e.Conditions {
			c.LastTransitionTime = metav1.Time{}
			c.Message = Clip(c.Message, maxMessage)
			if c.Type == v1alpha1.ConditionProgrammed {
				found = digestCondition(&c)
				continue
			}
			rest = append(rest, c)
		}
		slices.SortFunc(rest, func(a, b metav1.Condition) int { return strings.Compare(a.Type, b.Type) })
		text, _ := json.Marshal(entry{e.Ref, rest}) // of plain fields; it cannot fail
		texts = append(texts, string(text))
		if i > 0 && found != programmed {
			found = mixed
		}
		programmed = found
	}
	slices.Sort(texts)
	h := fnv.New64a()
	for _, t := range texts {
		_, _ = h.Write([]byte(t)) // never fails
		_, _ = h.Write([]byte{0})
	}
	return h.Sum64(), programmed
}

// mixed is the digest of Programmed where entries differ in it.
const mixed = 1

// digestCondition returns a digest of a condition without its time.
func digestCondition(c *metav1.Condition) uint64 {
	plain := *c
	plain.LastTransitionTime = metav1.Time{}
	plain.Message = Clip(plain.Message, maxMessage)
	text, _ := json.Marshal(plain) // of plain fields; it cannot fail
	h := fnv.New64a()
	_, _ = h.Write(text) // never fails
	return cmp.Or(h.Sum64(), mixed+1)
}

// Turned returns the conditions that have become False, or False for another
// reason, from one status to the next, each reason once.
func Turned(have, want discovery.Status) []metav1.Condition {
	var out []metav1.Condition
	compare := func(before, after []metav1.Condition) {
		for _, c := range after {
			if c.Status != metav1.ConditionFalse {
				continue
			}
			old := apimeta.FindStatusCondition(before, c.Type)
			if old != nil && old.Status == c.Status && old.Reason == c.Reason {
				continue
			}
			if !slices.ContainsFunc(out, func(o metav1.Condition) bool {
				return o.Type == c.Type && o.Reason == c.Reason && o.Message == c.Message
			}) {
				out = append(out, c)
			}
		}
	}
	compare(have.Conditions, want.Conditions)
	before := make(map[string][]metav1.Condition)
	conditionSets(have, func(where string, conditions []metav1.Condition) { before[where] = conditions })
	conditionSets(want, func(where string, conditions []metav1.Condition) {
		first := len(out)
		compare(before[where], conditions)
		for i := first; i < len(out); i++ {
			out[i].Message = where + out[i].Message
		}
	})
	for _, p := range want.Parents {
		i := slices.IndexFunc(have.Parents, func(h gatewayv1.RouteParentStatus) bool {
			return h.ControllerName == p.ControllerName && sameParent(h.ParentRef, p.ParentRef)
		})
		if i < 0 {
			compare(nil, p.Conditions)
		} else {
			compare(have.Parents[i].Conditions, p.Conditions)
		}
	}
	for _, a := range want.Ancestors {
		i := slices.IndexFunc(have.Ancestors, func(h gatewayv1.PolicyAncestorStatus) bool {
			return h.ControllerName == a.ControllerName && sameParent(h.AncestorRef, a.AncestorRef)
		})
		if i < 0 {
			compare(nil, a.Conditions)
		} else {
			compare(have.Ancestors[i].Conditions, a.Conditions)
		}
	}
	return out
}

// Generation returns the newest generation that a status speaks of.
func Generation(s discovery.Status) int64 {
	newest := int64(0)
	see := func(conditions []metav1.Condition) {
		for i := range conditions {
			newest = max(newest, conditions[i].ObservedGeneration)
		}
	}
	see(s.Conditions)
	conditionSets(s, func(_ string, conditions []metav1.Condition) { see(conditions) })
	for i := range s.Parents {
		see(s.Parents[i].Conditions)
	}
	for i := range s.Ancestors {
		see(s.Ancestors[i].Conditions)
	}
	return newest
}

// Same reports whether a status is as wanted: next has only our part of
// conditions, and all of lists.
func Same(have, next discovery.Status) bool {
	byType := func(a, b metav1.Condition) int { return strings.Compare(a.Type, b.Type) }
	mine, want := Ours(have).Conditions, slices.Clone(next.Conditions)
	slices.SortFunc(mine, byType)
	slices.SortFunc(want, byType)
	return apiequality.Semantic.DeepEqual(mine, want) && SameGateway(have.Gateway, next.Gateway) && sameClass(have.Class, next.Class) &&
		apiequality.Semantic.DeepEqual(have.Parents, next.Parents) && apiequality.Semantic.DeepEqual(have.Ancestors, next.Ancestors)
}

// Body returns the fields of a status that we write.
func Body(o metav1.Object, s discovery.Status) any {
	switch o.(type) {
	case *gatewayv1.BackendTLSPolicy:
		return map[string]any{"ancestors": listOf(s.Ancestors)}
	case *gatewayv1.Gateway:
		return s.Gateway
	case *gatewayv1.GatewayClass:
		return s.Class
	case v1alpha1.Conditioned:
		return map[string]any{"conditions": listOf(s.Conditions)}
	}
	return map[string]any{"parents": listOf(s.Parents)}
}

// listOf returns a list that is never null: the field is required.
func listOf[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
