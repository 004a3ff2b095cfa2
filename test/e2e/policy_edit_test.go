package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/server"
)

// sent is how many resources of each type a proxy was sent so far.
func sent(p *server.ProxyStatus) map[string]uint64 {
	out := make(map[string]uint64)
	for _, t := range p.Types {
		out[t.Type] = t.Resources
	}
	return out
}

// proxiesInSync returns what each of n proxies was sent, by id, once all have everything.
func (m *meshOfPolicies) proxiesInSync(n int) map[string]map[string]uint64 {
	m.t.Helper()
	out := make(map[string]map[string]uint64)
	harness.Eventually(m.t, 30*time.Second, "all Envoys in sync", func() error {
		proxies, err := m.replica.proxies()
		if err != nil || len(proxies) != n {
			return fmt.Errorf("%d proxies: %w", len(proxies), err)
		}
		for i := range proxies {
			if !proxies[i].InSync {
				return fmt.Errorf("%+v", proxies[i])
			}
			out[proxies[i].ID] = sent(&proxies[i])
		}
		return nil
	})
	return out
}

// setHeader edits the rule of a route, so that answers carry x-edit, and waits
// until the object says that every proxy has it.
func (m *meshOfPolicies) setHeader(name, value string) {
	m.t.Helper()
	m.editHeader(name, value)
	harness.Eventually(m.t, 30*time.Second, "HTTPRoute "+name+" is in force everywhere", func() error {
		u, err := m.client.Resource(resources["HTTPRoute"]).Namespace("web").Get(m.t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		return holds(u, "Accepted", "ResolvedRefs", "Programmed")
	})
}

func (m *meshOfPolicies) editHeader(name, value string) {
	m.t.Helper()
	routes := m.client.Resource(resources["HTTPRoute"]).Namespace("web")
	u, err := routes.Get(m.t.Context(), name, metav1.GetOptions{})
	require.NoError(m.t, err)
	rules, _, err := unstructured.NestedSlice(u.Object, "spec", "rules")
	require.NoError(m.t, err)
	rules[0].(map[string]any)["filters"] = []any{map[string]any{
		"type": "ResponseHeaderModifier", "responseHeaderModifier": map[string]any{
			"set": []any{map[string]any{"name": "x-edit", "value": value}},
		},
	}}
	require.NoError(m.t, unstructured.SetNestedSlice(u.Object, rules, "spec", "rules"))
	_, err = routes.Update(m.t.Context(), u, metav1.UpdateOptions{})
	require.NoError(m.t, err)
}

// answerHeader asks through a caller and returns x-edit of the answer.
func answerHeader(t *testing.T, c *caller, host string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+c.http+"/a", http.NoBody)
	require.NoError(t, err)
	r.Host = host
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusOK, answer.StatusCode)
	return answer.Header.Get("X-Edit")
}

// An edit of one Service's route reaches every proxy, and each is sent that
// Service's virtual hosts and nothing else. Meanwhile CRDs are upgraded and a
// whole namespace goes, its objects in any order, and no request fails.
func TestEditSendsOnlyWhatItTouches(t *testing.T) {
	beside(t, 0.4, 40*time.Second)
	const services = 50
	m := startMeshOfPolicies(t)
	m.create(good(services))
	other := startCaller(t, "i-2", "other", "b", []string{m.replica.xds}, "")
	harness.Eventually(t, time.Minute, "every Service answers", func() error {
		for i := range services {
			if err := m.answers(fmt.Sprintf("s%03d.web", i), "/a"); err != nil {
				return err
			}
		}
		return nil
	})
	var loads []*harness.Load
	for _, c := range []*caller{m.caller, other} {
		loads = append(loads, harness.StartLoad(t, harness.LoadOptions{URL: "http://" + c.http + "/a", Rate: 100, Next: func(n int64) harness.LoadRequest {
			return harness.LoadRequest{Host: fmt.Sprintf("s%03d.web", n%services)}
		}}))
	}
	m.setHeader("s007", "0") // every object has its status by now, and the proxies everything
	before := m.proxiesInSync(2)
	for edit := 1; edit <= 5; edit++ {
		value := fmt.Sprint(edit)
		m.setHeader("s007", value)
		for _, c := range []*caller{m.caller, other} {
			require.Equal(t, value, answerHeader(t, c, "s007.web"), "Programmed means that every proxy has it")
		}
	}
	after := m.proxiesInSync(2)
	for id, then := range after {
		// The names without a namespace are a virtual host of their own, which
		// only callers of the Service's namespace have.
		perEdit := uint64(2)
		if id == "sidecar~other~caller~i-2" {
			perEdit = 1
		}
		for kind, n := range then {
			want := uint64(0)
			if kind == "VHDS" {
				want = 5 * perEdit
			}
			require.Equal(t, want, n-before[id][kind], "%s was sent %s", id, kind)
		}
	}

	// A newer release of the CRDs is installed, with fields that this one does not know.
	crds := m.client.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	for _, name := range []string{"trafficpolicies.mesh.causeway.dev", "httproutes.gateway.networking.k8s.io"} {
		u, err := crds.Get(t.Context(), name, metav1.GetOptions{})
		require.NoError(t, err)
		versions, _, err := unstructured.NestedSlice(u.Object, "spec", "versions")
		require.NoError(t, err)
		for _, v := range versions {
			require.NoError(t, unstructured.SetNestedMap(v.(map[string]any), map[string]any{"type": "string"},
				"schema", "openAPIV3Schema", "properties", "spec", "properties", "fromTheFuture"))
		}
		require.NoError(t, unstructured.SetNestedSlice(u.Object, versions, "spec", "versions"))
		_, err = crds.Update(t.Context(), u, metav1.UpdateOptions{})
		require.NoError(t, err)
	}
	m.setHeader("s008", "upgraded")
	require.Equal(t, "upgraded", answerHeader(t, m.caller, "s008.web"))

	// A namespace is deleted: its objects go as the namespace controller has
	// them go, in any order, and none is held back.
	m.create([]*unstructured.Unstructured{
		parse(`{kind: Service, metadata: {name: gone, namespace: other}, spec: {ports: [{name: http, port: 80}]}}`),
		parse(`{kind: HTTPRoute, metadata: {name: gone, namespace: other}, spec: {parentRefs: [{group: "", kind: Service, name: gone}],
			rules: [{backendRefs: [{name: back, namespace: web, port: 80}]}]}}`),
		parse(`{kind: ReferenceGrant, metadata: {name: gone, namespace: web}, spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: other}],
			to: [{group: "", kind: Service}]}}`),
		parse(`{kind: TrafficPolicy, metadata: {name: gone, namespace: other}, spec: {targetRefs: [{kind: Service, name: gone}], timeout: {connect: 1s}}}`),
		parse(`{kind: ExternalService, metadata: {name: gone, namespace: other}, spec: {hosts: [gone.example.com], ports: [{number: 80}]}}`),
	})
	harness.Eventually(t, 30*time.Second, "the namespace's Service answers", func() error { return m.answers("gone.other", "/a") })
	namespaces := m.client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"})
	require.NoError(t, namespaces.Delete(t.Context(), "other", metav1.DeleteOptions{}))
	kinds := []string{"Service", "HTTPRoute", "TrafficPolicy", "ExternalService"}
	rand.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	for _, kind := range kinds {
		of := m.client.Resource(resources[kind]).Namespace("other")
		list, err := of.List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		for i := range list.Items {
			require.NoError(t, of.Delete(t.Context(), list.Items[i].GetName(), metav1.DeleteOptions{}))
		}
		list, err = of.List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		require.Empty(t, list.Items, "%s in order %v", kind, kinds)
	}
	harness.Eventually(t, 30*time.Second, "the namespace's Service is gone", func() error {
		if m.answers("gone.other", "/a") == nil {
			return fmt.Errorf("it still answers")
		}
		return nil
	})
	// The clusters that are gone linger at the proxies, for requests that began
	// before; an edit does not wait for that.
	m.editHeader("s009", "after")
	harness.Eventually(t, 10*time.Second, "an edit reaches both Envoys", func() error {
		for _, c := range []*caller{m.caller, other} {
			if got := answerHeader(t, c, "s009.web"); got != "after" {
				return fmt.Errorf("the answer has x-edit %q", got)
			}
		}
		return nil
	})
	for _, l := range loads {
		report := l.Stop()
		t.Logf("%s", report)
		report.RequireNoFailures(t)
	}
}
