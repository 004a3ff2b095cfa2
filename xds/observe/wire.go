package observe

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/xds/observe/observev1"
)

// messages returns what a leader that was told before must be told now, in
// messages of bounded size: all of it if before is nil, nothing if nothing is new.
func messages(before *Summary, now *Summary) []*observev1.Summary {
	head := func() *observev1.Summary { return signOf(now) }
	var had map[discovery.ObjectName]ObjectSummary
	full := before == nil
	if !full {
		had = before.Objects
	}
	out := []*observev1.Summary{head()}
	last := out[0]
	last.Full = full
	size := 0
	grow := func(m proto.Message) {
		if size += proto.Size(m); size > chunk {
			size = proto.Size(m)
			last.More = true
			last = head()
			out = append(out, last)
		}
	}
	fresh := make([]discovery.ObjectName, 0, 16)
	for name, o := range now.Objects {
		if old, ok := had[name]; !ok || !old.equal(&o) {
			fresh = append(fresh, name)
		}
	}
	slices.SortFunc(fresh, compareNames)
	for _, name := range fresh {
		o := now.Objects[name]
		m := objectTo(name, &o)
		grow(m)
		last.Objects = append(last.Objects, m)
	}
	var gone []discovery.ObjectName
	for name := range had {
		if _, ok := now.Objects[name]; !ok {
			gone = append(gone, name)
		}
	}
	slices.SortFunc(gone, compareNames)
	for _, name := range gone {
		m := nameTo(name)
		grow(m)
		last.Removed = append(last.Removed, m)
	}
	if !full && len(last.GetObjects())+len(last.GetRemoved()) == 0 && before.Proxies == now.Proxies && before.Acknowledged == now.Acknowledged &&
		sameGateways(before.Gateways, now.Gateways) {
		return nil
	}
	return out
}

// signOf returns a message that says how many proxies there are and nothing of objects.
func signOf(s *Summary) *observev1.Summary {
	return &observev1.Summary{
		Proxies: uint32(s.Proxies), Acknowledged: s.Acknowledged, Gateways: gatewaysTo(s.Gateways), //nolint:gosec // far below 2^32
	}
}

func nameTo(n discovery.ObjectName) *observev1.Name {
	return &observev1.Name{Kind: n.Kind, Namespace: n.Namespace, Name: n.Key.Name}
}

func nameFrom(n *observev1.Name) discovery.ObjectName {
	return discovery.ObjectName{Kind: n.GetKind(), Key: discovery.Key{Namespace: n.GetNamespace(), Name: n.GetName()}}
}

func objectTo(name discovery.ObjectName, o *ObjectSummary) *observev1.Object {
	out := &observev1.Object{
		Name: nameTo(name), Generation: o.Generation, State: observev1.State(o.State), Index: o.Index,
		Laggards: uint32(o.Laggards), LaggardNodes: o.Nodes, //nolint:gosec // far below 2^32
	}
	if r := o.Refusal; r != nil {
		out.Rejection = &observev1.Rejection{Resource: r.Resource, Node: r.Node, Error: r.Error, Held: r.Held, Culprit: r.Culprit}
	}
	return out
}

// objectFrom is the inverse of objectTo. A state that a newer replica may have
// is taken for pending.
func objectFrom(o *observev1.Object) ObjectSummary {
	out := ObjectSummary{
		Generation: o.GetGeneration(), State: Pending, Index: o.GetIndex(), Laggards: int(o.GetLaggards()),
	}
	for _, n := range o.GetLaggardNodes()[:min(len(o.GetLaggardNodes()), maxNames)] {
		out.Nodes = append(out.Nodes, truncate(n, maxNode))
	}
	switch o.GetState() {
	case observev1.State_STATE_ACKNOWLEDGED:
		out.State = Acknowledged
	case observev1.State_STATE_REJECTED:
		r := o.GetRejection()
		out.State, out.Refusal = Refused, &Refusal{
			Resource: truncate(r.GetResource(), maxError), Node: truncate(r.GetNode(), maxNode),
			Error: truncate(r.GetError(), maxError), Held: r.GetHeld(), Culprit: truncate(r.GetCulprit(), maxError),
		}
	}
	return out
}
