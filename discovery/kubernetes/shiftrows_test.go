package kubernetes

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness/meshtest"
)

// A TrafficShift is two rows, which come, change and go together; its status is
// a change of one of them alone.
func TestShiftRows(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
	r := newReplica(t, kube, nil)
	const name = "TrafficShift web/moved"
	key := discovery.Key{Namespace: "web", Name: "moved"}
	state := func() *discovery.ShiftState {
		row, _ := catalog.ShiftStates.Get(r.Catalog.Read(), key.String())
		return row
	}
	// At no moment is there one row without the other.
	halves := make(chan string, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	feed := r.Catalog.Subscribe()
	go func() {
		defer close(halves)
		defer feed.Close()
		for {
			b, err := feed.Next(ctx)
			if err != nil {
				return
			}
			_, object := catalog.Objects.Get(b.Reader, name)
			_, withState := catalog.ShiftStates.Get(b.Reader, key.String())
			if object != withState {
				halves <- fmt.Sprintf("object %t, state %t", object, withState)
				return
			}
		}
	}()

	meshtest.ApplyShift(t, kube, "moved")
	row := r.WaitRow(t, name, "came", meshtest.There)
	// The state is there whenever the object is.
	require.NotNil(t, state())
	stored := meshtest.ReadShift(t, kube, "moved")
	require.Equal(t, []discovery.ObjectName{{Kind: "Service", Key: discovery.Key{Namespace: "web", Name: "php-web"}}}, row.Refs)
	require.Equal(t, string(stored.UID), state().UID)
	require.Equal(t, stored.ResourceVersion, state().Version)
	require.Equal(t, &v1alpha1.TrafficShiftStatus{}, state().Status)
	shift := row.Spec.(*v1alpha1.TrafficShift)
	require.Equal(t, stored.UID, shift.UID)
	require.Equal(t, stored.Generation, shift.Generation)
	require.Equal(t, stored.CreationTimestamp, shift.CreationTimestamp)
	require.EqualValues(t, 500, shift.Spec.Guard.MinRequests, "with the defaults")

	// What a status says changes the state, and not the object.
	patch := func(sub string, body string) {
		t.Helper()
		require.NoError(t, meshtest.API(t, kube).Patch(types.MergePatchType).AbsPath(meshtest.ShiftPath+"moved"+sub).Body([]byte(body)).Do(t.Context()).Error())
	}
	patch("/status", `{"status":{"phase":"Shifting","percent":"1","step":0,"shadowMethods":["GET"]}}`)
	waitState(t, r, key, "the status", func(s *discovery.ShiftState) bool { return s != nil && s.Status.Percent == "1" })
	require.Equal(t, meshtest.ReadShift(t, kube, "moved").ResourceVersion, state().Version)
	same, _ := catalog.Objects.Get(r.Catalog.Read(), name)
	require.Same(t, row, same, "a status is no change of the object")

	// Nor are labels and annotations that the mesh does not read; a command is.
	patch("", `{"metadata":{"labels":{"team":"web"},"annotations":{"example.com/note":"x"}}}`)
	waitState(t, r, key, "the version", func(s *discovery.ShiftState) bool {
		return s.Version == meshtest.ReadShift(t, kube, "moved").ResourceVersion
	})
	same, _ = catalog.Objects.Get(r.Catalog.Read(), name)
	require.Same(t, row, same)
	patch("", `{"metadata":{"annotations":{"`+v1alpha1.CommandAnnotation+`":"{}"},"finalizers":["`+v1alpha1.ShiftFinalizer+`"]}}`)
	row = r.WaitRow(t, name, "has the command", func(o *discovery.Object) bool {
		return o != nil && o.Spec.(*v1alpha1.TrafficShift).Annotations[v1alpha1.CommandAnnotation] == "{}"
	})
	shift = row.Spec.(*v1alpha1.TrafficShift)
	require.Equal(t, map[string]string{v1alpha1.CommandAnnotation: "{}"}, shift.Annotations)
	require.Equal(t, []string{v1alpha1.ShiftFinalizer}, shift.Finalizers)
	require.Equal(t, v1alpha1.TrafficShiftStatus{}, shift.Status)

	// Its deletion begins, and both rows stay until the finalizer goes.
	meshtest.DeleteObject(t, kube, "TrafficShift", "web", "moved")
	r.WaitRow(t, name, "is going", func(o *discovery.Object) bool {
		return o != nil && o.Spec.(*v1alpha1.TrafficShift).DeletionTimestamp != nil
	})
	require.EqualValues(t, "1", state().Status.Percent)
	patch("", `{"metadata":{"finalizers":null}}`)
	r.WaitRow(t, name, "went", meshtest.Gone)
	require.Nil(t, state())

	cancel()
	require.Empty(t, <-halves)
}

// A list after a watch was lost tells what went meanwhile, and a state of what
// another source has stays.
func TestShiftRowsAreReplaced(t *testing.T) {
	t.Parallel()
	cat := catalog.New()
	rows := &objectRows{
		cat: cat, unreadable: make(map[discovery.Key]discovery.Unread), noted: func() {},
		status: &sourceStatus{cat: cat, name: "kubernetes/trafficshifts"}, log: slog.New(slog.DiscardHandler),
	}
	for _, k := range cluster.Kinds() {
		if k.Name == discovery.KindTrafficShift {
			rows.kind = k
		}
	}
	raw := func(name, version, spec string) *cluster.Object {
		return &cluster.Object{
			ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: name, ResourceVersion: version},
			Text:       fmt.Appendf(nil, `{"metadata":{"namespace":"web","name":%q,"uid":"u","resourceVersion":%q},"spec":%s,"status":{"percent":"5"}}`, name, version, spec),
		}
	}
	const spec = `{"serviceRef":{"name":"a"},"steps":[{"percent":"5"}]}`
	_, err := cat.Write(time.Now(), func(tx *catalog.Tx) error {
		catalog.ShiftStates.Put(tx, &discovery.ShiftState{Scope: "file", Key: discovery.Key{Namespace: "web", Name: "file"}})
		return nil
	})
	require.NoError(t, err)
	require.NoError(t, rows.Replace([]any{raw("a", "1", spec), raw("b", "2", spec)}, ""))
	// What cannot be read keeps both of its rows; what is not listed loses both.
	require.NoError(t, rows.Replace([]any{raw("a", "3", `"odd"`)}, ""))
	state, ok := catalog.ShiftStates.Get(cat.Read(), "web/a")
	require.True(t, ok)
	require.Equal(t, "1", state.Version)
	require.EqualValues(t, "5", state.Status.Percent)
	_, ok = catalog.Objects.Get(cat.Read(), "TrafficShift web/a")
	require.True(t, ok)
	_, ok = catalog.ShiftStates.Get(cat.Read(), "web/b")
	require.False(t, ok)
	_, ok = catalog.ShiftStates.Get(cat.Read(), "web/file")
	require.True(t, ok)
	require.NoError(t, rows.Delete(raw("a", "4", spec)))
	_, ok = catalog.ShiftStates.Get(cat.Read(), "web/a")
	require.False(t, ok)
	require.NoError(t, rows.Update(raw("c", "5", spec)))
	require.NoError(t, rows.clear())
	_, ok = catalog.ShiftStates.Get(cat.Read(), "web/c")
	require.False(t, ok)
}

func waitState(t *testing.T, r *meshtest.Replica, key discovery.Key, what string, check func(*discovery.ShiftState) bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		row, _ := catalog.ShiftStates.Get(r.Catalog.Read(), key.String())
		return check(row)
	}, 30*time.Second, 20*time.Millisecond, "%s", what)
}
