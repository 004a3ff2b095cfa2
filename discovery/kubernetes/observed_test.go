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

// Each status that is written comes back by the watch. It is noted, and wakes
// nobody: no unit is compiled again for it. What comes late is not noted.
func TestAChangeOfAStatusAloneWakesNobody(t *testing.T) {
	t.Parallel()
	cat := catalog.New()
	kind, _ := objects.Named(discovery.KindTrafficPolicy)
	rows := &objectRows{
		cat: cat, kind: kind, unreadable: make(map[discovery.Key]discovery.Unread), noted: func() {},
		status: &sourceStatus{cat: cat, name: kind.Source()}, log: slog.New(slog.DiscardHandler),
	}
	raw := func(uid, version, spec, message string) *cluster.Object {
		return &cluster.Object{
			ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "a"},
			Text: fmt.Appendf(nil, `{"metadata":{"namespace":"web","name":"a","uid":%q,"resourceVersion":%q},"spec":%s,
				"status":{"conditions":[{"type":"Accepted","status":"True","reason":"Accepted","message":%q}]}}`, uid, version, spec, message),
		}
	}
	const id, spec = "kubernetes/trafficpolicies|web/a", `{"targetRefs":[{"kind":"Service","name":"a"}]}`
	observed := func() *discovery.ObservedStatus {
		row, ok := catalog.ObservedStatuses.Get(cat.Read(), id)
		require.True(t, ok)
		return row
	}
	require.NoError(t, rows.Replace([]any{raw("u", "9", spec, "one")}, ""))
	feed := cat.Subscribe()
	defer feed.Close()
	<-feed.Wake()
	first, _ := feed.Take()
	for _, ch := range first.Changes {
		require.NotEqual(t, catalog.ObservedStatuses.Name(), ch.Table)
	}
	before, revision := observed(), cat.Read().Revision()
	require.Equal(t, "9", before.Version)

	require.NoError(t, rows.Update(raw("u", "10", spec, "two")))
	after := observed()
	require.Equal(t, "10", after.Version)
	require.NotEqual(t, before.Said, after.Said)
	select {
	case <-feed.Wake():
		b, _ := feed.Take()
		t.Fatalf("a feed wakes for %+v", b.Changes)
	default:
	}
	require.Equal(t, revision, cat.Read().Revision(), "who waits for a revision to be served must not wait for this one")

	require.NoError(t, rows.Update(raw("u", "9", spec, "one")))
	require.Same(t, after, observed(), "what is older comes late")
	require.NoError(t, rows.Replace([]any{raw("u", "10", `"odd"`, "three")}, ""))
	require.Same(t, after, observed(), "what was read of it before holds")
	require.NoError(t, rows.Update(raw("v", "8", spec, "one")))
	require.Equal(t, "v", observed().UID, "another object of the name")

	_, woken := feed.Take()
	require.True(t, woken, "it is another object")
	require.NoError(t, rows.Delete(raw("v", "8", spec, "one")))
	_, ok := catalog.ObservedStatuses.Get(cat.Read(), id)
	require.False(t, ok)
	require.NoError(t, rows.Update(raw("v", "12", spec, "one")))
	require.NoError(t, rows.clear())
	_, ok = catalog.ObservedStatuses.Get(cat.Read(), id)
	require.False(t, ok)
}
