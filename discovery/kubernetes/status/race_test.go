package status

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/kubetest"
	"github.com/causeway-mesh/causeway/test/harness/meshtest"
)

func routeNamed(name string) string {
	return fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %s, namespace: web}
spec:
  parentRefs: [{group: "", kind: Service, name: php-web}]
  rules: [{matches: [{path: {value: /%s}}], backendRefs: [{name: php-web, port: 80}]}]
`, name, name)
}

// meddle keeps an entry of another controller in the status of a route up to
// date, as a good citizen does: it reads, changes its own and writes what it read.
func meddle(ctx context.Context, t *testing.T, kube *kubetest.Kube, name string, round int) error {
	t.Helper()
	path := meshtest.PathIn("HTTPRoute", "web", name)
	for ctx.Err() == nil {
		raw, err := meshtest.API(t, kube).Get().AbsPath(path).DoRaw(ctx)
		if err != nil {
			return err
		}
		var route gatewayv1.HTTPRoute
		if err := json.Unmarshal(raw, &route); err != nil {
			return err
		}
		entry := gatewayv1.RouteParentStatus{
			ParentRef: gatewayv1.ParentReference{Name: "a-gateway"}, ControllerName: "other.example/gateway",
			Conditions: []metav1.Condition{{
				Type: "Accepted", Status: metav1.ConditionTrue, Reason: "Accepted", Message: fmt.Sprint("round ", round), LastTransitionTime: metav1.Now(),
			}},
		}
		parents := []gatewayv1.RouteParentStatus{entry}
		for _, p := range route.Status.Parents {
			if p.ControllerName != entry.ControllerName {
				parents = append(parents, p)
			}
		}
		route.Status.Parents = parents
		body, err := json.Marshal(&route)
		if err != nil {
			return err
		}
		err = meshtest.API(t, kube).Put().AbsPath(path + "/status").Body(body).Do(ctx).Error()
		if !apierrors.IsConflict(err) {
			return err
		}
	}
	return ctx.Err()
}

// Two who believe to lead and another controller write the same statuses while
// a user edits the objects: in the end everyone's newest word is there.
func TestStatusRace(t *testing.T) {
	t.Parallel()
	const n, rounds = 20, 5
	kube := servers.Take(t)
	kube.ApplyYAML(t, meshtest.Service)
	a, b := newReplica(t, kube, nil), newReplica(t, kube, nil)
	writers := []*writer{startPolicyStatus(t, a, nil), startPolicyStatus(t, b, nil)}
	name := func(i int) string { return fmt.Sprintf("r%02d", i) }
	for i := range n {
		kube.ApplyYAML(t, routeNamed(name(i)))
	}
	for round := 1; round <= rounds; round++ {
		for i := range n {
			require.NoError(t, meddle(t.Context(), t, kube, name(i), round))
			if i%2 == 0 {
				body := fmt.Sprintf(`{"spec":{"hostnames":["round%d.example"]}}`, round)
				require.NoError(t, meshtest.API(t, kube).Patch(types.MergePatchType).AbsPath(meshtest.PathIn("HTTPRoute", "web", name(i))).Body([]byte(body)).Do(t.Context()).Error())
			}
		}
	}
	for i := range n {
		meshtest.WaitCondition(t, kube, "HTTPRoute", "web", name(i), "Accepted", metav1.ConditionTrue, "")
		_, parents, _ := meshtest.StatusOf(t, kube, "HTTPRoute", "web", name(i))
		require.Len(t, parents, 2)
		for _, p := range parents {
			if p.ControllerName != v1alpha1.ControllerName {
				require.Equal(t, fmt.Sprint("round ", rounds), p.Conditions[0].Message)
			}
		}
	}
	for _, w := range writers {
		require.Zero(t, w.count(t, "causeway_status_rewrites_total", ""), "what two leaders say alike is no quarrel")
		require.Less(t, w.count(t, "causeway_status_writes_total", ""), 3*n*(rounds+1))
	}
}

// before is a transport that does something before each request that it is for.
type before struct {
	http.RoundTripper
	do func(*http.Request)
}

// RoundTrip implements http.RoundTripper.
func (b before) RoundTrip(r *http.Request) (*http.Response, error) {
	b.do(r)
	return b.RoundTripper.RoundTrip(r)
}

// Another controller writes between our reading and our writing: its entry stays.
func TestStatusConflict(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
	kube.ApplyYAML(t, meshtest.Service+"---"+routeNamed("a"))
	var conflicts atomic.Int32
	config := kube.ServiceAccountConfig(t, "causeway-system", "causeway")
	config.Wrap(func(rt http.RoundTripper) http.RoundTripper {
		return before{rt, func(r *http.Request) {
			if r.Method == http.MethodPatch && strings.HasSuffix(r.URL.Path, "/httproutes/a/status") && conflicts.Add(1) <= 2 {
				if err := meddle(r.Context(), t, kube, "a", int(conflicts.Load())); err != nil {
					t.Error(err)
				}
			}
		}}
	})
	r := newReplica(t, kube, config)
	w := startPolicyStatus(t, r, nil)
	meshtest.WaitCondition(t, kube, "HTTPRoute", "web", "a", "Accepted", metav1.ConditionTrue, "")
	_, parents, _ := meshtest.StatusOf(t, kube, "HTTPRoute", "web", "a")
	require.Len(t, parents, 2)
	require.Equal(t, "round 2", parents[0].Conditions[0].Message)
	require.EqualValues(t, 3, conflicts.Load())
	// The status is there before the writer has its answer and counts.
	harness.Eventually(t, 20*time.Second, "the write is counted", func() error {
		if w.count(t, "causeway_status_writes_total", resultWritten) == 0 {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	require.Equal(t, 1, w.count(t, "causeway_status_writes_total", ""), "conflicts are settled at once")
}

// A replica whose rows are old does not take back what a newer leader has said,
// and does not take the observation of its predecessor for that of a new object.
func TestStaleRows(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
	kube.ApplyYAML(t, meshtest.Service+"---"+routeNamed("a"))
	r := newReplica(t, kube, nil)
	w := startPolicyStatus(t, r, nil)
	meshtest.WaitCondition(t, kube, "HTTPRoute", "web", "a", "Accepted", metav1.ConditionTrue, "")
	old := r.WaitRow(t, "HTTPRoute web/a", "is there", meshtest.There)
	body := []byte(`{"spec":{"hostnames":["a.example"]}}`)
	require.NoError(t, meshtest.API(t, kube).Patch(types.MergePatchType).AbsPath(meshtest.PathIn("HTTPRoute", "web", "a")).Body(body).Do(t.Context()).Error())
	meshtest.WaitCondition(t, kube, "HTTPRoute", "web", "a", "Accepted", metav1.ConditionTrue, "")
	put := func(row *discovery.Object) {
		_, err := r.Catalog.Write(time.Time{}, func(tx *catalog.Tx) error {
			catalog.Objects.Put(tx, row)
			return nil
		})
		require.NoError(t, err)
	}
	before, _, _ := meshtest.StatusOf(t, kube, "HTTPRoute", "web", "a")
	put(old)
	harness.Eventually(t, 20*time.Second, "the old row was looked at", func() error {
		if w.count(t, "causeway_status_writes_total", resultUnchanged) == 0 {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	now, _, _ := meshtest.StatusOf(t, kube, "HTTPRoute", "web", "a")
	require.Equal(t, before.ResourceVersion, now.ResourceVersion)

	// Another object of the same name.
	meshtest.DeleteObject(t, kube, "HTTPRoute", "web", "a")
	r.WaitRow(t, "HTTPRoute web/a", "is gone", meshtest.Gone)
	kube.ApplyYAML(t, routeNamed("a"))
	meshtest.WaitCondition(t, kube, "HTTPRoute", "web", "a", "Accepted", metav1.ConditionTrue, "")
}

// The API server dies while statuses are written: afterwards all are.
func TestStatusOutage(t *testing.T) {
	t.Parallel()
	const n = 120
	kube := servers.Take(t)
	kube.ApplyYAML(t, meshtest.Service)
	for i := range n {
		body := fmt.Sprintf(`{"apiVersion":"mesh.causeway.dev/v1alpha1","kind":"ExternalService","metadata":{"name":"e%04d","namespace":"web"},
			"spec":{"hosts":["h%d.example"],"ports":[{"name":"http","number":80,"protocol":"HTTP"}]}}`, i, i)
		require.NoError(t, meshtest.API(t, kube).Post().AbsPath("/apis/mesh.causeway.dev/v1alpha1/namespaces/web/externalservices").Body([]byte(body)).Do(t.Context()).Error())
	}
	r := newReplica(t, kube, nil)
	w := startPolicyStatus(t, r, nil)
	harness.Eventually(t, 20*time.Second, "writing has begun", func() error {
		if w.count(t, "causeway_status_writes_total", resultWritten) < 10 {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	kube.Kill9()
	harness.Eventually(t, 20*time.Second, "a write fails", func() error {
		if w.count(t, "causeway_status_writes_total", resultError) == 0 {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	harness.Throughout(t, 2*time.Second, "that nobody hammers a dead server", func() error {
		if n := w.count(t, "causeway_status_writes_total", resultError); n >= 10 {
			return fmt.Errorf("%d writes failed", n)
		}
		return nil
	})
	kube.Restart(t)
	for i := range n {
		meshtest.WaitCondition(t, kube, "ExternalService", "web", fmt.Sprintf("e%04d", i), "Accepted", metav1.ConditionTrue, "")
	}
}
