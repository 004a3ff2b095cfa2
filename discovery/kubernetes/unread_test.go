package kubernetes

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
	"github.com/causeway-mesh/causeway/discovery/objects"
)

// What is there and has no row is told in the transaction that could take it for
// gone, with the Service that it is about where that much can be read.
func TestUnreadRows(t *testing.T) {
	t.Parallel()
	cat := catalog.New()
	kind, _ := objects.Named(discovery.KindInstanceGroup)
	rows := &objectRows{
		cat: cat, kind: kind, unreadable: make(map[discovery.Key]discovery.Unread), noted: func() {},
		status: &sourceStatus{cat: cat, name: cluster.ScopeInstanceGroups}, log: slog.New(slog.DiscardHandler),
	}
	raw := func(name, spec string) *cluster.Object {
		return &cluster.Object{
			ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: name},
			Text:       fmt.Appendf(nil, `{"metadata":{"namespace":"web","name":%q},"spec":%s}`, name, spec),
		}
	}
	const good, odd = `{"serviceRef":{"name":"a"}}`, `{"serviceRef":{"name":"a"},"ports":"odd"}`
	unread := func() map[string]string {
		out := make(map[string]string)
		st, _ := catalog.Sources.Get(cat.Read(), cluster.ScopeInstanceGroups)
		require.Empty(t, st.UnreadAll)
		for _, u := range st.Unread {
			require.NotEmpty(t, u.Why)
			out[u.Name] = ""
			if u.Targets != nil {
				require.Len(t, u.Targets, 1)
				out[u.Name] = u.Targets[0].Name
			}
		}
		return out
	}
	require.NoError(t, rows.Replace([]any{raw("odd", odd), raw("good", good), raw("none", `"odd"`)}, ""))
	require.Equal(t, map[string]string{"odd": "a", "none": ""}, unread())
	require.NoError(t, rows.Update(raw("good", odd)))
	require.Equal(t, map[string]string{"odd": "a", "none": ""}, unread(), "what was read of it before holds")
	require.NoError(t, rows.Update(raw("odd", good)))
	require.Equal(t, map[string]string{"none": ""}, unread())
	require.NoError(t, rows.Update(raw("new", odd)))
	require.Equal(t, map[string]string{"none": "", "new": "a"}, unread())
	require.NoError(t, rows.Delete(raw("new", odd)))
	require.NoError(t, rows.Replace([]any{raw("good", odd), raw("odd", good)}, ""))
	require.Empty(t, unread())
	var many []any
	for i := range discovery.MaxUnread + 1 {
		many = append(many, raw(fmt.Sprint(i), odd))
	}
	require.NoError(t, rows.Replace(many, ""))
	st, _ := catalog.Sources.Get(cat.Read(), cluster.ScopeInstanceGroups)
	require.Len(t, st.Unread, discovery.MaxUnread)
	require.Equal(t, "1 more objects of kind InstanceGroup cannot be read", st.UnreadAll)
	require.NotEmpty(t, st.UnreadObject(discovery.Key{Namespace: "web", Name: "any"}), "which ones is not known")
	require.NoError(t, rows.clear())
	require.Empty(t, unread(), "a kind that is not installed has no objects")
}

// The name of each source, by which policy asks what it could not read, is the one that it has.
func TestNamesOfSources(t *testing.T) {
	for _, k := range cluster.Kinds() {
		if name := discovery.KubernetesSource(k.Name); name != "" {
			require.Equal(t, k.Source(), name)
		}
	}
}

// What can be read of an object is read, whatever else does not fit.
func TestUnreadObject(t *testing.T) {
	t.Parallel()
	name := func(kind, namespace, name string) discovery.ObjectName {
		return discovery.ObjectName{Kind: kind, Key: discovery.Key{Namespace: namespace, Name: name}}
	}
	for text, want := range map[string]discovery.Unread{
		`"odd"`:                                 {},
		`{}`:                                    {NoTLS: true},
		`{"serviceRef":{"name":"a"},"ports":1}`: {NoTLS: true, Targets: []discovery.ObjectName{name("Service", "web", "a")}},
		`{"serviceRef":1}`:                      {NoTLS: true},
		`{"targetRefs":[{"kind":"Service","name":"a"},{"kind":"Gateway","name":"b"}],"tls":1}`: {Targets: []discovery.ObjectName{name("Service", "web", "a"), name("Gateway", "web", "b")}},
		`{"targetRefs":[{"kind":"Service","name":"a"},{"kind":1}]}`:                            {NoTLS: true},
		`{"targetRef":{"kind":"Service","name":"a","namespace":"web"}}`:                        {NoTLS: true, Targets: []discovery.ObjectName{name("Service", "web", "a")}},
		`{"parentRefs":[{"name":"a"},{"kind":"Service","name":"b","namespace":"shop"}],"hostnames":["c"],"rules":1}`: {
			NoTLS: true, Targets: []discovery.ObjectName{name("Gateway", "web", "a"), name("Service", "shop", "b")}, Hosts: []string{"c"},
		},
	} {
		raw := &cluster.Object{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "odd"}, Text: fmt.Appendf(nil, `{"spec":%s}`, text)}
		want.Key, want.Why = discovery.Key{Namespace: "web", Name: "odd"}, "why"
		require.Equal(t, want, unreadOf(raw, "why"), text)
	}
}
