package status

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/conditions"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/kubetest"
	"github.com/causeway-mesh/causeway/test/harness/meshtest"
)

func gatewayCondition(kind string, status metav1.ConditionStatus, reason, message string, generation int64) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: generation}
}

// wantedStatus is the status of a Gateway: its listener on an odd port is conflicted,
// any other one is right.
func wantedStatus(o *discovery.Object) (discovery.Status, bool) {
	switch spec := o.Spec.(type) {
	case *gatewayv1.GatewayClass:
		if spec.Spec.ControllerName != "mesh.causeway.dev/controller" {
			return discovery.Status{}, true
		}
		return discovery.Status{Class: &gatewayv1.GatewayClassStatus{
			Conditions:        []metav1.Condition{gatewayCondition("Accepted", metav1.ConditionTrue, "Accepted", "", o.Generation)},
			SupportedFeatures: []gatewayv1.SupportedFeature{{Name: "Gateway"}, {Name: "HTTPRoute"}},
		}}, true
	case *gatewayv1.Gateway:
		if spec.Spec.GatewayClassName != "causeway" {
			return discovery.Status{}, true
		}
		kind := gatewayv1.HostnameAddressType
		out := &gatewayv1.GatewayStatus{
			Conditions: []metav1.Condition{gatewayCondition("Accepted", metav1.ConditionTrue, "Accepted", "", o.Generation)},
		}
		if v, ok := spec.Annotations["mesh.causeway.dev/addresses"]; ok {
			out.Addresses = []gatewayv1.GatewayStatusAddress{{Type: &kind, Value: v}}
		}
		for _, l := range spec.Spec.Listeners {
			status := gatewayv1.ListenerStatus{Name: l.Name, Conditions: []metav1.Condition{
				gatewayCondition("ResolvedRefs", metav1.ConditionTrue, "ResolvedRefs", "", o.Generation),
			}}
			if l.Port%2 == 1 {
				status.Conditions = append(status.Conditions,
					gatewayCondition("Accepted", metav1.ConditionFalse, "HostnameConflict", "it is taken", o.Generation),
					gatewayCondition("Conflicted", metav1.ConditionTrue, "HostnameConflict", "it is taken", o.Generation))
			} else {
				group := gatewayv1.Group(gatewayv1.GroupName)
				status.SupportedKinds = []gatewayv1.RouteGroupKind{{Group: &group, Kind: "HTTPRoute"}}
				status.AttachedRoutes = 2
				status.Conditions = append(status.Conditions, gatewayCondition("Accepted", metav1.ConditionTrue, "Accepted", "", o.Generation))
			}
			out.Listeners = append(out.Listeners, status)
		}
		return discovery.Status{Gateway: out}, true
	}
	return discovery.Status{}, false
}

const statusGateway = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: web, annotations: {mesh.causeway.dev/addresses: edge.example.com}}
spec:
  gatewayClassName: causeway
  listeners:
  - {name: zz, port: 80, protocol: HTTP}
  - {name: aa, port: 81, protocol: HTTP}
`

const statusClass = `
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: causeway}
spec: {controllerName: mesh.causeway.dev/controller}
`

func gatewayIn[T any](t *testing.T, kube *kubetest.Kube, kind, namespace, name string) *T {
	t.Helper()
	raw, err := meshtest.API(t, kube).Get().AbsPath(meshtest.PathIn(kind, namespace, name)).DoRaw(t.Context())
	require.NoError(t, err)
	var out T
	require.NoError(t, json.Unmarshal(raw, &out))
	return &out
}

// says returns a condition as "Status/Reason@generation".
func says(conditions []metav1.Condition, kind string) string {
	c := apimeta.FindStatusCondition(conditions, kind)
	if c == nil {
		return ""
	}
	return fmt.Sprintf("%s/%s@%d", c.Status, c.Reason, c.ObservedGeneration)
}

// A Gateway's status says what of it is right and in force, a class' that it is
// ours. What says the right thing is not written, neither by a new leader; what
// others add stays; Gateways and classes of others are not touched.
func TestGatewayStatus(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
	r := newReplica(t, kube, nil)
	kube.ApplyYAML(t, statusClass)
	kube.ApplyYAML(t, strings.NewReplacer("name: causeway", "name: another", "mesh.causeway.dev/controller", "example.com/another").Replace(statusClass))
	kube.ApplyYAML(t, statusGateway)
	kube.ApplyYAML(t, strings.NewReplacer("name: edge", "name: other", "gatewayClassName: causeway", "gatewayClassName: another").Replace(statusGateway))
	var programmed atomic.Pointer[metav1.Condition]
	var deaf atomic.Int32 // the port that no proxy listens on
	start := func() *writer {
		registry := prometheus.NewRegistry()
		p := NewWriter(r.Client, func(catalog.Reader) func(*discovery.Object) (discovery.Status, bool) { return wantedStatus }, func(ref discovery.ObjectRef) (metav1.Condition, bool) {
			c := programmed.Load()
			if c == nil {
				return metav1.Condition{}, false
			}
			out := *c
			out.Type, out.ObservedGeneration = "Programmed", ref.Generation
			return out, true
		}, func(_ discovery.Key, port uint16) (string, bool) { return "nobody listens", int32(port) == deaf.Load() }, registry)
		return &writer{p, registry, meshtest.Run(t, func(ctx context.Context) error { return p.Run(ctx, r.Catalog) })}
	}
	w := start()
	var got *gatewayv1.Gateway
	wait := func(what string, check func(*gatewayv1.Gateway) bool) {
		t.Helper()
		harness.Eventually(t, 30*time.Second, what, func() error {
			if got = gatewayIn[gatewayv1.Gateway](t, kube, "Gateway", "web", "edge"); !check(got) {
				return fmt.Errorf("%+v", got.Status)
			}
			return nil
		})
	}
	listener := func(name, kind string) string {
		for _, l := range got.Status.Listeners {
			if string(l.Name) == name {
				return says(l.Conditions, kind)
			}
		}
		return "no such listener"
	}
	accepted := func(g *gatewayv1.Gateway) bool { return says(g.Status.Conditions, "Accepted") == "True/Accepted@1" }
	wait("it is accepted", accepted)
	require.Equal(t, "edge.example.com", got.Status.Addresses[0].Value)
	require.Equal(t, "Unknown/Pending@0", says(got.Status.Conditions, "Programmed"), "as the CRD has it, while nothing is known")
	require.Equal(t, "True/Accepted@1", listener("zz", "Accepted"))
	require.Empty(t, listener("zz", "Programmed"))
	require.Equal(t, "True/HostnameConflict@1", listener("aa", "Conflicted"))
	require.Equal(t, "False/Invalid@1", listener("aa", "Programmed"))

	var class *gatewayv1.GatewayClass
	harness.Eventually(t, 30*time.Second, "the class is accepted", func() error {
		if class = gatewayIn[gatewayv1.GatewayClass](t, kube, "GatewayClass", "", "causeway"); says(class.Status.Conditions, "Accepted") != "True/Accepted@1" {
			return fmt.Errorf("%+v", class.Status)
		}
		return nil
	})
	require.Len(t, class.Status.SupportedFeatures, 2)
	require.Empty(t, says(class.Status.Conditions, "Programmed"))

	for _, c := range []struct {
		status       metav1.ConditionStatus
		reason, want string
	}{
		{metav1.ConditionUnknown, "NoProxies", "Unknown/Pending@1"},
		{metav1.ConditionTrue, "Programmed", "True/Programmed@1"},
		{metav1.ConditionFalse, "Rejected", "False/Invalid@1"},
		{metav1.ConditionFalse, "ProxiesBehind", "False/Pending@1"},
		{metav1.ConditionTrue, "Programmed", "True/Programmed@1"},
	} {
		programmed.Store(&metav1.Condition{Status: c.status, Reason: c.reason, Message: "as " + c.reason})
		wait(c.reason, func(g *gatewayv1.Gateway) bool {
			return says(g.Status.Conditions, "Programmed") == c.want && listener("zz", "Programmed") == c.want
		})
		require.Equal(t, "as "+c.reason, apimeta.FindStatusCondition(got.Status.Conditions, "Programmed").Message)
		require.Equal(t, "False/Invalid@1", listener("aa", "Programmed"))
	}
	turnedAt := apimeta.FindStatusCondition(got.Status.Conditions, "Accepted").LastTransitionTime

	// Others may add conditions.
	meshtest.PatchStatus(t, kube, "Gateway", "web", "edge", "another", `{"status":{"conditions":`+withForeign(t, got.Status.Conditions)+`}}`)
	// Stable for as long as nothing changes, also for who knows nothing yet.
	wait("it is stable", func(g *gatewayv1.Gateway) bool { return says(g.Status.Conditions, "example.com/Checked") != "" })
	before, writes := got.ResourceVersion, w.count(t, "causeway_status_writes_total", "written")
	w.stop()
	programmed.Store(nil)
	w = start()
	harness.Eventually(t, 30*time.Second, "three rounds of computing", func() error {
		families, err := w.registry.Gather()
		require.NoError(t, err)
		for _, f := range families {
			if f.GetName() == "causeway_status_judge_seconds" && f.GetMetric()[0].GetHistogram().GetSampleCount() > 0 {
				return nil
			}
		}
		return fmt.Errorf("not yet")
	})
	harness.Throughout(t, 3*computeEvery, "that no status is written", func() error {
		if n := w.count(t, "causeway_status_writes_total", ""); n != 0 {
			return fmt.Errorf("there are %d", n)
		}
		return nil
	})
	wait("it is as it was", accepted)
	require.Equal(t, before, got.ResourceVersion)
	require.Zero(t, w.count(t, "causeway_status_writes_total", ""))
	require.Positive(t, writes)
	require.Equal(t, turnedAt, apimeta.FindStatusCondition(got.Status.Conditions, "Accepted").LastTransitionTime)
	for _, foreign := range []string{"Gateway web/other", "GatewayClass another"} {
		kind, key, _ := strings.Cut(foreign, " ")
		namespace, name, ok := strings.Cut(key, "/")
		if !ok {
			namespace, name = "", key
		}
		meta, _, conditions := meshtest.StatusOf(t, kube, kind, namespace, name)
		require.NotEmpty(t, meta.Name)
		for _, c := range conditions {
			require.Equal(t, "Pending", c.Reason, "%s is not ours", foreign)
		}
	}

	// A listener that goes takes its entry along, one that comes gets one.
	programmed.Store(&metav1.Condition{Status: metav1.ConditionTrue, Reason: "Programmed"})
	kube.ApplyYAML(t, strings.Replace(statusGateway, "{name: aa, port: 81", "{name: bb, port: 82", 1))
	wait("its listeners are others", func(g *gatewayv1.Gateway) bool {
		return listener("aa", "Accepted") == "no such listener" && listener("bb", "Programmed") == "True/Programmed@2" &&
			says(g.Status.Conditions, "Programmed") == "True/Programmed@2" && len(g.Status.Listeners) == 2
	})
	require.Equal(t, turnedAt, apimeta.FindStatusCondition(got.Status.Conditions, "Accepted").LastTransitionTime)
	require.NotEmpty(t, says(got.Status.Conditions, "example.com/Checked"))
	require.LessOrEqual(t, w.count(t, "causeway_status_writes_total", "written"), 3)

	// Whether anybody listens for a port is no part of what the Gateway says.
	for _, c := range []struct {
		port int32
		want string
	}{{80, "False/Pending@2"}, {0, "True/Programmed@2"}, {80, "False/Pending@2"}, {0, "True/Programmed@2"}} {
		deaf.Store(c.port)
		wait(fmt.Sprintf("port %d is deaf", c.port), func(*gatewayv1.Gateway) bool { return listener("zz", "Programmed") == c.want })
		require.Equal(t, "True/Programmed@2", listener("bb", "Programmed"))
	}

	// Somebody else who changes what we say is overruled, not fought.
	meshtest.PatchStatus(t, kube, "Gateway", "web", "edge", "another", `{"status":{"addresses":[{"type":"IPAddress","value":"192.0.2.1"}]}}`)
	wait("it is put right", func(g *gatewayv1.Gateway) bool {
		return len(g.Status.Addresses) == 1 && g.Status.Addresses[0].Value == "edge.example.com"
	})
	require.Equal(t, 1, w.count(t, "causeway_status_rewrites_total", ""))

	harness.Eventually(t, 30*time.Second, "an Event tells of the conflict", func() error {
		list, err := kube.Client(t).EventsV1().Events("web").List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		for _, e := range list.Items {
			if e.Regarding.Kind == "Gateway" && e.Reason == "AcceptedHostnameConflict" && e.Note == "listener aa: it is taken" {
				return nil
			}
		}
		return fmt.Errorf("there are %d Events", len(list.Items))
	})
}

// withForeign returns conditions and one of another controller as JSON.
func withForeign(t *testing.T, conditions []metav1.Condition) string {
	t.Helper()
	text, err := json.Marshal(append(conditions, metav1.Condition{
		Type: "example.com/Checked", Status: metav1.ConditionTrue, Reason: "Checked", LastTransitionTime: metav1.Unix(1, 0),
	}))
	require.NoError(t, err)
	return string(text)
}

// What no proxy listens for is not in force, whatever the proxies have acknowledged.
func TestListenersThatNobodyListensFor(t *testing.T) {
	accepted := func() []metav1.Condition {
		return []metav1.Condition{{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: "Accepted"}}
	}
	row := &discovery.Object{Kind: "Gateway", Key: discovery.Key{Namespace: "web", Name: "edge"}, Generation: 3, Spec: &gatewayv1.Gateway{
		Spec: gatewayv1.GatewaySpec{Listeners: []gatewayv1.Listener{{Name: "http", Port: 80}, {Name: "https", Port: 443}}},
	}}
	want := &gatewayv1.GatewayStatus{Conditions: accepted(), Listeners: []gatewayv1.ListenerStatus{
		{Name: "http", Conditions: accepted()}, {Name: "https", Conditions: accepted()},
	}}
	p := &Writer{unheard: func(gateway discovery.Key, port uint16) (string, bool) {
		require.Equal(t, row.Key, gateway)
		return "nobody listens", port == 443
	}}
	programmed := &metav1.Condition{Type: v1alpha1.ConditionProgrammed, Status: metav1.ConditionTrue, Reason: "Programmed", ObservedGeneration: 3}
	got := conditions.MergeGateway(nil, p.heard(row, want), programmed, metav1.Time{})
	of := func(conditions []metav1.Condition) string {
		c := apimeta.FindStatusCondition(conditions, v1alpha1.ConditionProgrammed)
		return string(c.Status) + " " + c.Reason
	}
	require.Equal(t, []string{"True Programmed", "True Programmed", "False Pending"},
		[]string{of(got.Conditions), of(got.Listeners[0].Conditions), of(got.Listeners[1].Conditions)})
	require.Len(t, want.Listeners[1].Conditions, 1, "what is shared is not changed")
}
