package explain_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/explain"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// shift puts a Service of namespace web in the middle of a shift from instances to pods.
func (w world) shift(service string, cohort *v1alpha1.ShiftCohort, status v1alpha1.TrafficShiftStatus) {
	w.t.Helper()
	s := &v1alpha1.TrafficShift{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: service}}
	s.Spec.ServiceRef.Name, s.Spec.Cohort = service, cohort
	status.Phase, status.Direction = v1alpha1.ShiftShifting, v1alpha1.InstancesToPods
	w.write(func(tx *catalog.Tx) {
		key := discovery.Key{Namespace: "web", Name: service}
		catalog.Objects.Put(tx, &discovery.Object{Kind: "TrafficShift", Key: key, Spec: s, Refs: []discovery.ObjectName{{Kind: "Service", Key: key}}})
		catalog.ShiftStates.Put(tx, &discovery.ShiftState{Key: key, Status: &status})
	})
}

func TestCohorts(t *testing.T) {
	t.Parallel()
	ours := &v1alpha1.ShiftCohort{Cookie: &v1alpha1.ShiftCookie{Name: "causeway", TTL: &metav1.Duration{Duration: time.Hour}}}
	w := newWorld(t)
	w.service("web", "php")
	w.pods("web", "php", discovery.Endpoint{ID: "p", Address: "10.0.0.1"})
	header := func(name, value string) explain.Header { return explain.Header{Name: name, Value: value} }

	require.Nil(t, w.ask("GET", "http://php/").Cohort, "no shift, no cohort")

	w.shift("php", nil, v1alpha1.TrafficShiftStatus{Percent: "25"})
	e := w.ask("GET", "http://php/")
	require.Equal(t, &explain.Cohort{Shift: "web/php", Because: "the TrafficShift has no cohort, so each request is on its own"}, e.Cohort)
	require.Equal(t, "web/php", e.Backends[0].Shift)
	require.InDelta(t, 25, e.Backends[0].Targets[0].Percent, 1e-9)

	w.shift("php", ours, v1alpha1.TrafficShiftStatus{Percent: "25"})
	e = w.ask("GET", "http://php/", header("Cookie", `a=b; causeway="user-1"`))
	require.Equal(t, "cookie causeway", e.Cohort.Key)
	require.Equal(t, "user-1", e.Cohort.Value)
	// xxHash64("user-1") % 1,000,000
	require.Equal(t, uint32(666_856), *e.Cohort.Position)
	require.Equal(t, "Service web/php:80", e.Cohort.Backend)
	require.Equal(t, "instances", e.Cohort.Platform)
	require.Equal(t, []string{"default-safe"}, e.Envoy.Routes)

	e = w.ask("POST", "http://php/")
	require.Nil(t, e.Cohort.Position, "its id is drawn by the proxy")
	require.Equal(t, "the request has no cookie causeway: the answer sets it to the request's id, whose hash decides for this request too", e.Cohort.Because)
	require.Equal(t, []string{"default-keyless"}, e.Envoy.Routes)
	known := w.ask("POST", "http://php/", header("X-Request-Id", "0123456789abcdef"))
	require.Equal(t, w.ask("POST", "http://php/", header("Cookie", "causeway=0123456789abcdef")).Cohort.Position, known.Cohort.Position)
	e = w.ask("POST", "http://php/", header("X-Request-Id", "short"))
	require.Equal(t, "the request has no cookie causeway, so it is on its own", e.Cohort.Because)
	require.Equal(t, []string{"default"}, e.Envoy.Routes)

	w.shift("php", &v1alpha1.ShiftCohort{Header: "X-User"}, v1alpha1.TrafficShiftStatus{Percent: "0", ShadowPercent: "5", ShadowMethods: []v1alpha1.ShiftMethod{"GET"}})
	e = w.ask("GET", "http://php/", header("x-user", "7"))
	require.Equal(t, "header x-user", e.Cohort.Key)
	require.Equal(t, "instances", e.Cohort.Platform)
	require.Equal(t, []string{"default-safe-shadow"}, e.Envoy.Routes)
	require.Len(t, e.Mirrors, 1)
	require.InDelta(t, 5, e.Mirrors[0].Percent, 1e-9)
	require.Equal(t, "shadow/web/php:80/pods", e.Mirrors[0].Backend.Targets[0].Cluster)
	require.Contains(t, e.Envoy.Clusters, "shadow/web/php:80/pods")
	require.Empty(t, w.ask("POST", "http://php/").Mirrors)
}

// split returns a world with two Services, and backends of a rule that are both.
func split(t *testing.T) (world, []gatewayv1.HTTPBackendRef) {
	t.Helper()
	w := newWorld(t)
	for _, name := range []string{"php", "cart"} {
		w.service("web", name)
		w.pods("web", name, discovery.Endpoint{ID: name, Address: "10.0.0.1"})
	}
	return w, append(to("php"), to("cart")...)
}

// The side of a user is where the position falls in the intervals of a rule
// with several backends.
func TestCohortOfNestedBackends(t *testing.T) {
	t.Parallel()
	w, refs := split(t)
	refs[0].Weight, refs[1].Weight = new(int32(9)), new(int32(1))
	w.route("web", "split", 1, gatewayv1.HTTPRouteRule{BackendRefs: refs})
	w.shift("php", &v1alpha1.ShiftCohort{Header: "x-user"}, v1alpha1.TrafficShiftStatus{Percent: "25"})
	seen := make(map[string]int)
	for user := range 2000 {
		e := w.ask("GET", "http://php/", explain.Header{Name: "x-user", Value: fmt.Sprint(user)})
		at, side := *e.Cohort.Position, e.Cohort.Backend+" "+e.Cohort.Platform
		want := "Service web/cart:80 pods"
		switch {
		case at < 225_000:
			want = "Service web/php:80 pods"
		case at < 900_000:
			want = "Service web/php:80 instances"
		}
		require.Equal(t, want, side, "at %d", at)
		require.Less(t, at, uint32(policy.ShareTotal))
		seen[side]++
	}
	require.Len(t, seen, 3)
}

// Where backends want different paths a proxy draws the backend before it looks at the key, so no position can be told.
func TestCohortOfBackendsWithDifferentPaths(t *testing.T) {
	t.Parallel()
	w, refs := split(t)
	refs[1].Filters = []gatewayv1.HTTPRouteFilter{{Type: gatewayv1.HTTPRouteFilterURLRewrite, URLRewrite: &gatewayv1.HTTPURLRewriteFilter{
		Path: &gatewayv1.HTTPPathModifier{Type: gatewayv1.FullPathHTTPPathModifier, ReplaceFullPath: new("/cart")},
	}}}
	w.route("web", "split", 1, gatewayv1.HTTPRouteRule{BackendRefs: refs})
	w.shift("php", &v1alpha1.ShiftCohort{Header: "x-user"}, v1alpha1.TrafficShiftStatus{Percent: "25"})
	e := w.ask("GET", "http://php/", explain.Header{Name: "x-user", Value: "ann"})
	require.Nil(t, e.Cohort.Position)
	require.Equal(t, `header x-user = "ann"`, e.Cohort.Text())
	require.Equal(t, "the rule's backends want different paths, so proxies draw one for each request; the hash decides which side of it", e.Cohort.Because)

	refs[1].Filters = nil
	w.route("web", "split", 1, gatewayv1.HTTPRouteRule{BackendRefs: refs})
	require.NotNil(t, w.ask("GET", "http://php/", explain.Header{Name: "x-user", Value: "ann"}).Cohort.Position)
}
