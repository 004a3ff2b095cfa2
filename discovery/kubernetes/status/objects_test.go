package status

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/meshtest"
)

// writer is a running writer of status with its metrics.
type writer struct {
	*Writer
	registry *prometheus.Registry
	stop     func()
}

func policyStatus(r catalog.Reader) func(*discovery.Object) (discovery.Status, bool) {
	return resolve.NewStatuses(r).StatusOf
}

func startPolicyStatus(t *testing.T, r *meshtest.Replica, programmed func(discovery.ObjectRef) (metav1.Condition, bool)) *writer {
	t.Helper()
	return startPolicyStatusAt(t, r, programmed, writeRate)
}

func startPolicyStatusAt(t *testing.T, r *meshtest.Replica, programmed func(discovery.ObjectRef) (metav1.Condition, bool), rate float32) *writer {
	t.Helper()
	registry := prometheus.NewRegistry()
	p := NewWriter(r.Client, policyStatus, programmed, nil, registry)
	p.rate = rate
	return &writer{p, registry, meshtest.Run(t, func(ctx context.Context) error { return p.Run(ctx, r.Catalog) })}
}

// count returns the sum of a metric over its labels, or of one result.
func (w *writer) count(t *testing.T, name, result string) int {
	t.Helper()
	families, err := w.registry.Gather()
	require.NoError(t, err)
	sum := 0.0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() != name {
				continue
			}
			matches := result == ""
			for _, l := range m.GetLabel() {
				matches = matches || l.GetName() == "result" && l.GetValue() == result
			}
			if matches {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return int(sum)
}

// A status says what is wrong and heals by itself; what other controllers say
// stays; a new leader finds nothing to write.
func TestPolicyStatus(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
	r := newReplica(t, kube, nil)
	kube.ApplyYAML(t, meshtest.EveryKind[0].Text)
	const foreign = `{"status":{"parents":[{"parentRef":{"group":"","kind":"Service","name":"php-web"},"controllerName":"other.example/mesh",
		"conditions":[{"type":"Accepted","status":"True","reason":"Accepted","message":"","lastTransitionTime":"2026-01-02T03:04:05Z"}]}]}}`
	meshtest.PatchStatus(t, kube, "HTTPRoute", "web", "a", "other", foreign)
	w := startPolicyStatus(t, r, nil)
	meshtest.WaitCondition(t, kube, "HTTPRoute", "web", "a", "Accepted", metav1.ConditionFalse, "NoMatchingParent: ")
	_, parents, _ := meshtest.StatusOf(t, kube, "HTTPRoute", "web", "a")
	require.Len(t, parents, 2)
	require.EqualValues(t, "other.example/mesh", parents[0].ControllerName)
	require.Equal(t, "2026-01-02T03:04:05Z", parents[0].Conditions[0].LastTransitionTime.UTC().Format(time.RFC3339))
	harness.Eventually(t, 20*time.Second, "an Event names the remedy", func() error {
		list, err := kube.Client(t).EventsV1().Events("web").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, e := range list.Items {
			if e.Reason == "AcceptedNoMatchingParent" && e.Type == "Warning" && e.Regarding.Kind == "HTTPRoute" && strings.Contains(e.Note, "create it") {
				return nil
			}
		}
		return fmt.Errorf("%+v", list.Items)
	})

	// What is missing comes.
	turned := meshtest.WaitCondition(t, kube, "HTTPRoute", "web", "a", "ResolvedRefs", metav1.ConditionFalse, "BackendNotFound").LastTransitionTime
	harness.NextSecond() // so that times differ
	kube.ApplyYAML(t, meshtest.Service)
	healed := meshtest.WaitCondition(t, kube, "HTTPRoute", "web", "a", "ResolvedRefs", metav1.ConditionTrue, "")
	require.True(t, turned.Before(&healed.LastTransitionTime))

	// An edit changes the message and the generation, but not when it turned.
	harness.NextSecond()
	kube.ApplyYAML(t, strings.Replace(meshtest.EveryKind[0].Text, "rules: [{", "rules: [{name: first, ", 1))
	harness.Eventually(t, 20*time.Second, "generation 2", func() error {
		if c := meshtest.WaitCondition(t, kube, "HTTPRoute", "web", "a", "ResolvedRefs", metav1.ConditionTrue, ""); c.ObservedGeneration != 2 {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	edited := meshtest.WaitCondition(t, kube, "HTTPRoute", "web", "a", "ResolvedRefs", metav1.ConditionTrue, "")
	require.Equal(t, healed.LastTransitionTime, edited.LastTransitionTime)

	// Our own write is no change of a row.
	row, _ := catalog.Objects.Get(r.Catalog.Read(), "HTTPRoute web/a")
	meshtest.PatchStatus(t, kube, "HTTPRoute", "web", "a", "other", `{"metadata":{"labels":{"a":"b"}}}`)
	harness.Throughout(t, 500*time.Millisecond, "that the row stays", func() error {
		if after, _ := catalog.Objects.Get(r.Catalog.Read(), "HTTPRoute web/a"); after != row {
			return fmt.Errorf("it is %+v", after)
		}
		return nil
	})

	// A parent that the route no longer names loses our entry, and no other.
	kube.ApplyYAML(t, strings.Replace(meshtest.EveryKind[0].Text, "name: php-web}]\n", "name: gone}]\n", 1))
	harness.Eventually(t, 20*time.Second, "our entry is of the new parent", func() error {
		_, parents, _ := meshtest.StatusOf(t, kube, "HTTPRoute", "web", "a")
		if len(parents) != 2 || parents[0].ControllerName != "other.example/mesh" || parents[1].ParentRef.Name != "gone" {
			return fmt.Errorf("%+v", parents)
		}
		return nil
	})
	kube.ApplyYAML(t, strings.Replace(meshtest.EveryKind[0].Text, `group: "", kind: Service, name: php-web`, "name: a-gateway", 1))
	harness.Eventually(t, 20*time.Second, "our entry is gone", func() error {
		_, parents, _ := meshtest.StatusOf(t, kube, "HTTPRoute", "web", "a")
		if len(parents) != 1 || parents[0].ControllerName != "other.example/mesh" {
			return fmt.Errorf("%+v", parents)
		}
		return nil
	})

	kube.ApplyYAML(t, meshtest.EveryKind[0].Text)
	meshtest.WaitCondition(t, kube, "HTTPRoute", "web", "a", "Accepted", metav1.ConditionTrue, "")
	w.stop()
	before, _, _ := meshtest.StatusOf(t, kube, "HTTPRoute", "web", "a")
	next := newReplica(t, kube, nil)
	nw := startPolicyStatus(t, next, nil)
	harness.Throughout(t, 3*time.Second, "that a new leader writes nothing", func() error {
		if n := nw.count(t, "causeway_status_writes_total", ""); n != 0 {
			return fmt.Errorf("there are %d", n)
		}
		return nil
	})
	now, _, _ := meshtest.StatusOf(t, kube, "HTTPRoute", "web", "a")
	require.Equal(t, before.ResourceVersion, now.ResourceVersion)
}

// Programmed is told beside the rest, for each parent, and stays while nothing
// is known of it.
func TestProgrammed(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
	kube.ApplyYAML(t, meshtest.Service)
	for _, c := range meshtest.EveryKind {
		kube.ApplyYAML(t, c.Text)
	}
	r := newReplica(t, kube, nil)
	var mu sync.Mutex
	status, known := metav1.ConditionTrue, true
	set := func(s metav1.ConditionStatus, k bool) {
		mu.Lock()
		defer mu.Unlock()
		status, known = s, k
	}
	programmed := func(ref discovery.ObjectRef) (metav1.Condition, bool) {
		mu.Lock()
		defer mu.Unlock()
		return metav1.Condition{
			Type: v1alpha1.ConditionProgrammed, Status: status, Reason: "Programmed", Message: "as " + ref.String(), ObservedGeneration: ref.Generation,
		}, known
	}
	w := startPolicyStatus(t, r, programmed)
	for _, c := range meshtest.EveryKind {
		kind, key, _ := strings.Cut(c.Name, " ")
		namespace, name, _ := strings.Cut(key, "/")
		if kind == "Mesh" {
			namespace, name = "", "default"
		}
		if kind != "ReferenceGrant" && kind != "GatewayClass" { // no proxy has a say in these
			meshtest.WaitCondition(t, kube, kind, namespace, name, "Programmed", metav1.ConditionTrue, "as "+c.Name)
		}
	}
	set(metav1.ConditionFalse, true)
	meshtest.WaitCondition(t, kube, "TrafficPolicy", "web", "a", "Programmed", metav1.ConditionFalse, "")
	meshtest.WaitCondition(t, kube, "HTTPRoute", "web", "a", "Programmed", metav1.ConditionFalse, "")
	set(metav1.ConditionUnknown, false)
	kube.ApplyYAML(t, `{apiVersion: v1, kind: Service, metadata: {name: php-web, namespace: web}, spec: {ports: [{name: web, port: 80}]}}`)
	harness.Throughout(t, 2*time.Second, "that what was said of the generation stays", func() error {
		_, _, conditions := meshtest.StatusOf(t, kube, "HTTPRoute", "web", "a")
		if c := apimeta.FindStatusCondition(conditions, "Programmed"); c == nil || c.Status != metav1.ConditionFalse {
			return fmt.Errorf("it is %+v", c)
		}
		return nil
	})
	harness.Eventually(t, 20*time.Second, "nothing is left to write", func() error {
		if n := w.count(t, "causeway_status_pending", ""); n != 0 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	before := w.count(t, "causeway_status_writes_total", "")
	harness.Throughout(t, 2*time.Second, "that no status is written", func() error {
		if n := w.count(t, "causeway_status_writes_total", ""); n != before {
			return fmt.Errorf("there are %d", n)
		}
		return nil
	})
	require.Zero(t, w.count(t, "causeway_status_writes_total", resultError))
}

// Two who want the last word on a status: it is put right, but not at the
// other one's pace.
func TestQuarrel(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
	kube.ApplyYAML(t, meshtest.Service+"---"+meshtest.EveryKind[0].Text)
	r := newReplica(t, kube, nil)
	w := startPolicyStatus(t, r, nil)
	meshtest.WaitCondition(t, kube, "HTTPRoute", "web", "a", "Accepted", metav1.ConditionTrue, "")
	// An object that is deleted and made again has another's name, and no other writer.
	meshtest.DeleteObject(t, kube, "HTTPRoute", "web", "a")
	kube.ApplyYAML(t, meshtest.EveryKind[0].Text)
	meshtest.WaitCondition(t, kube, "HTTPRoute", "web", "a", "Accepted", metav1.ConditionTrue, "")
	require.Zero(t, w.count(t, "causeway_status_rewrites_total", ""))
	wrong := `{"status":{"parents":[]}}`
	meshtest.PatchStatus(t, kube, "HTTPRoute", "web", "a", "meddler", wrong)
	meshtest.WaitCondition(t, kube, "HTTPRoute", "web", "a", "Accepted", metav1.ConditionTrue, "")
	for range 40 {
		meshtest.PatchStatus(t, kube, "HTTPRoute", "web", "a", "meddler", wrong)
		harness.TakeTime(100 * time.Millisecond) // the meddler's pause
	}
	rewrites := w.count(t, "causeway_status_rewrites_total", "")
	require.GreaterOrEqual(t, rewrites, 1)
	require.LessOrEqual(t, rewrites, 3)
	meshtest.WaitCondition(t, kube, "HTTPRoute", "web", "a", "Accepted", metav1.ConditionTrue, "")
}

// Very many objects cost one write each, at the rate; an edit does not wait
// behind them; then nothing happens any more.
func TestStatusOfManyObjects(t *testing.T) {
	t.Parallel()
	const n, rate = 500, 20
	kube := servers.Take(t)
	kube.ApplyYAML(t, meshtest.Service)
	r := newReplica(t, kube, nil)
	create := func(i int) {
		body := fmt.Sprintf(`{"apiVersion":"mesh.causeway.dev/v1alpha1","kind":"ExternalService","metadata":{"name":"e%04d","namespace":"web"},
			"spec":{"hosts":["h%d.example"],"ports":[{"name":"http","number":80,"protocol":"HTTP"}]}}`, i, i)
		require.NoError(t, meshtest.API(t, kube).Post().AbsPath("/apis/mesh.causeway.dev/v1alpha1/namespaces/web/externalservices").Body([]byte(body)).Do(t.Context()).Error())
	}
	for i := range n {
		create(i)
	}
	harness.Eventually(t, 30*time.Second, "all rows are there", func() error {
		have := 0
		for range catalog.Objects.By(r.Catalog.Read(), catalog.ByKind, "ExternalService") {
			have++
		}
		if have != n {
			return fmt.Errorf("%d", have)
		}
		return nil
	})
	start := time.Now()
	w := startPolicyStatusAt(t, r, nil, rate)
	harness.Eventually(t, 20*time.Second, "writing has begun", func() error {
		if w.count(t, "causeway_status_writes_total", resultWritten) < writeBurst {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	kube.ApplyYAML(t, meshtest.EveryKind[0].Text)
	edited := time.Now()
	meshtest.WaitCondition(t, kube, "HTTPRoute", "web", "a", "Accepted", metav1.ConditionTrue, "")
	require.Less(t, time.Since(edited), 10*time.Second, "an edit waits behind others")
	require.Greater(t, w.count(t, "causeway_status_pending", ""), n/2)
	harness.Eventually(t, 3*time.Minute, "all are written", func() error {
		if done := w.count(t, "causeway_status_writes_total", resultWritten); done < n+1 {
			return fmt.Errorf("%d", done)
		}
		return nil
	})
	took := time.Since(start)
	require.GreaterOrEqual(t, took, time.Duration(n-writeBurst)*time.Second/rate*9/10)
	harness.Throughout(t, 3*time.Second, "that no more writes are tried", func() error {
		if tried := w.count(t, "causeway_status_writes_total", ""); tried != n+1 {
			return fmt.Errorf("there are %d", tried)
		}
		return nil
	})
	require.Zero(t, w.count(t, "causeway_status_pending", ""))
	t.Logf("%d statuses in %v", n+1, took)
}

// Every wrong object says for itself what is wrong with it; right ones work.
func TestWrongObjects(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
	kube.ApplyYAML(t, meshtest.Service)
	r := newReplica(t, kube, nil)
	startPolicyStatus(t, r, nil)
	for _, c := range meshtest.EveryKind {
		kube.ApplyYAML(t, c.Text)
	}
	const wrong = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: no-parent, namespace: web}
spec:
  parentRefs: [{group: "", kind: Service, name: nobody}]
  rules: [{backendRefs: [{name: php-web, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: no-backend, namespace: web}
spec:
  parentRefs: [{group: "", kind: Service, name: php-web}]
  rules: [{matches: [{path: {value: /nobody}}], backendRefs: [{name: nobody, port: 80}]}]
---
apiVersion: mesh.causeway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: no-target, namespace: web}
spec:
  targetRefs: [{kind: Service, name: nobody}]
  timeout: {request: 5s}
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: no-ca, namespace: web}
spec:
  targetRefs: [{group: "", kind: Service, name: php-web}]
  validation: {hostname: a.example, caCertificateRefs: [{group: "", kind: ConfigMap, name: nobody}]}
`
	kube.ApplyYAML(t, wrong)
	meshtest.WaitCondition(t, kube, "HTTPRoute", "web", "no-parent", "Accepted", metav1.ConditionFalse, "NoMatchingParent: ")
	meshtest.WaitCondition(t, kube, "HTTPRoute", "web", "no-backend", "ResolvedRefs", metav1.ConditionFalse, "BackendNotFound: ")
	meshtest.WaitCondition(t, kube, "TrafficPolicy", "web", "no-target", "Accepted", metav1.ConditionFalse, "nobody")
	meshtest.WaitCondition(t, kube, "BackendTLSPolicy", "web", "no-ca", "Accepted", metav1.ConditionFalse, "")
	meshtest.WaitCondition(t, kube, "HTTPRoute", "web", "a", "Accepted", metav1.ConditionTrue, "")
	meshtest.WaitCondition(t, kube, "ExternalService", "web", "a", "Accepted", metav1.ConditionTrue, "")
	_, _, conditions := meshtest.StatusOf(t, kube, "Mesh", "", "default")
	require.NotNil(t, apimeta.FindStatusCondition(conditions, "Accepted"))
}

func TestDelay(t *testing.T) {
	require.Equal(t, time.Second, delay(1))
	require.Equal(t, 4*time.Second, delay(3))
	require.Equal(t, retryMost, delay(1000))
}
