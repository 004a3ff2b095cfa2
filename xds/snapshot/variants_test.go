package snapshot

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/xds/resource"
)

// perNode is a Service's cluster with endpoints for callers on nodes; other is
// for those on a node without, "" for nothing of their own.
func perNode(all string, byNode map[string]string, other string) Update {
	eds := res(resource.Endpoint, "c", all)
	eds.ByZone = map[string]resource.Parts{"z": {[]byte(all + " from z")}}
	for node, text := range byNode {
		if eds.ByNode == nil {
			eds.ByNode = make(map[string]resource.Parts)
		}
		eds.ByNode[node] = resource.Parts{[]byte(text)}
	}
	if other != "" {
		eds.OtherNodes = resource.Parts{[]byte(other)}
	}
	return Update{Unit: "service/web/c", Resources: []resource.Resource{res(resource.Cluster, "c", "cluster"), eds}}
}

// got is what a client has been sent of the endpoints since it was asked last, "-" for nothing.
func (c *tester) got(t *testing.T) string {
	t.Helper()
	out := "-"
	for range 2 { // clusters first
		for _, b := range c.receive(time.Unix(1, 0)) {
			if b.Type == resource.Endpoint {
				require.Len(t, b.Frames, 1)
				out = string(b.Frames[0].body().Bytes())
			}
			c.answer(t, b)
		}
		require.NoError(t, c.sub.Add(resource.Endpoint, c.wanted, nil))
		c.wanted = nil
	}
	return out
}

// Who says its node gets that node's endpoints; who says none, or one that makes no
// difference, gets them by zone. A change reaches those alone whose own it changes.
func TestNodesGetTheirVariant(t *testing.T) {
	s := New()
	s.Apply(time.Time{}, []Update{perNode("ab", map[string]string{"n1": "a", "n2": "b"}, "none")})
	one := newTester(t, s, "one", View{Zone: "z", NodeName: "n1"})
	two := newTester(t, s, "two", View{Zone: "z", NodeName: "n2"})
	three := newTester(t, s, "three", View{Zone: "z", NodeName: "n3"})
	host := newTester(t, s, "host", View{Zone: "z"})
	far := newTester(t, s, "far", View{Zone: "elsewhere"})
	all := func() [5]string {
		return [5]string{one.got(t), two.got(t), three.got(t), host.got(t), far.got(t)}
	}
	require.Equal(t, [5]string{"a", "b", "none", "ab from z", "ab"}, all())

	s.Apply(time.Time{}, []Update{perNode("abc", map[string]string{"n1": "ac", "n2": "b"}, "none")})
	require.Equal(t, [5]string{"ac", "-", "-", "abc from z", "abc"}, all(), "a pod comes on n1")
	for _, c := range []*tester{two, three} {
		_, through := c.sub.Progress()
		require.Equal(t, s.Index(), through, "it has all that there is, or objects would wait for it for ever")
	}

	s.Apply(time.Time{}, []Update{perNode("bc", map[string]string{"n2": "b", "n3": "c"}, "none")})
	require.Equal(t, [5]string{"none", "-", "c", "bc from z", "bc"}, all(), "the pods of n1 go, and one comes on n3")

	s.Apply(time.Time{}, []Update{perNode("bc", nil, "")})
	require.Equal(t, [5]string{"bc from z", "bc from z", "bc from z", "-", "-"}, all(), "the node makes no difference any more")

	s.Apply(time.Time{}, []Update{perNode("bc", map[string]string{"n2": "b first"}, "")})
	require.Equal(t, [5]string{"-", "b first", "-", "-", "-"}, all(), "a node that is not named is as none")

	s.Apply(time.Time{}, []Update{{Unit: "service/web/c"}})
	s.Apply(time.Time{}, []Update{perNode("d", map[string]string{"n1": "d"}, "none")})
	require.Equal(t, [5]string{"d", "none", "none", "d from z", "d"}, all(), "the Service goes and comes back")
}

// What is stored of a unit that was refused has the variants of nodes too.
func TestNodesOutliveAPin(t *testing.T) {
	up := perNode("ab", map[string]string{"n1": "a"}, "none")
	want := up.Resources[1]
	c, _ := nextContent(nil, up.Unit, &want)
	text, err := json.Marshal(c.resource(resource.Endpoint, "c"))
	require.NoError(t, err)
	var back resource.Resource
	require.NoError(t, json.Unmarshal(text, &back))
	for _, p := range []resource.Place{{Node: "n1"}, {Node: "n2"}, {Zone: "z"}, {Zone: "y"}} {
		require.Equal(t, string(want.For(p).Bytes()), string(back.For(p).Bytes()), "%+v", p)
		require.Equal(t, string(want.For(p).Bytes()), string(c.frameFor(&View{Zone: p.Zone, NodeName: p.Node}).body().Bytes()), "%+v", p)
	}
	require.Equal(t, resourceVersions(&want), c.versions())
	require.Len(t, c.versions(), 4)
}
