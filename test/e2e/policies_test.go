package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/kubetest"
)

// objects is a client for objects as SREs write them.
type objects struct {
	t      *testing.T
	client dynamic.Interface
}

// resources are the plural names of the kinds that these tests write.
var resources = map[string]schema.GroupVersionResource{
	"Service":          {Version: "v1", Resource: "services"},
	"ConfigMap":        {Version: "v1", Resource: "configmaps"},
	"HTTPRoute":        {Group: "gateway.networking.k8s.io", Version: "v1", Resource: "httproutes"},
	"GRPCRoute":        {Group: "gateway.networking.k8s.io", Version: "v1", Resource: "grpcroutes"},
	"TCPRoute":         {Group: "gateway.networking.k8s.io", Version: "v1", Resource: "tcproutes"},
	"ReferenceGrant":   {Group: "gateway.networking.k8s.io", Version: "v1", Resource: "referencegrants"},
	"BackendTLSPolicy": {Group: "gateway.networking.k8s.io", Version: "v1", Resource: "backendtlspolicies"},
	"TrafficPolicy":    {Group: "mesh.causeway.dev", Version: "v1alpha1", Resource: "trafficpolicies"},
	"ExternalService":  {Group: "mesh.causeway.dev", Version: "v1alpha1", Resource: "externalservices"},
}

func newObjects(t *testing.T, k *kubetest.Kube) *objects {
	t.Helper()
	config := rest.CopyConfig(k.Config())
	config.QPS = -1
	client, err := dynamic.NewForConfig(config)
	require.NoError(t, err)
	return &objects{t, client}
}

func (o *objects) of(u *unstructured.Unstructured) dynamic.ResourceInterface {
	return o.client.Resource(resources[u.GetKind()]).Namespace(u.GetNamespace())
}

// parse reads one object, in namespace web unless it says otherwise.
func parse(text string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		panic(fmt.Sprintf("%v in %s", err, text))
	}
	if u.GetNamespace() == "" {
		u.SetNamespace("web")
	}
	if u.GetAPIVersion() == "" {
		u.SetAPIVersion(resources[u.GetKind()].GroupVersion().String())
	}
	return u
}

// create writes objects, many at a time.
func (o *objects) create(all []*unstructured.Unstructured) {
	o.t.Helper()
	g, ctx := errgroup.WithContext(o.t.Context())
	g.SetLimit(16)
	for _, u := range all {
		g.Go(func() error {
			_, err := o.of(u).Create(ctx, u, metav1.CreateOptions{})
			if err != nil {
				return fmt.Errorf("%s %s: %w", u.GetKind(), u.GetName(), err)
			}
			return nil
		})
	}
	require.NoError(o.t, g.Wait())
}

// conditions returns all conditions that our controller wrote to an object.
func conditions(u *unstructured.Unstructured) []map[string]any {
	var out []map[string]any
	take := func(list []any) {
		for _, c := range list {
			if c, ok := c.(map[string]any); ok {
				out = append(out, c)
			}
		}
	}
	own, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	take(own)
	for _, field := range []string{"parents", "ancestors"} {
		all, _, _ := unstructured.NestedSlice(u.Object, "status", field)
		for _, p := range all {
			list, _, _ := unstructured.NestedSlice(p.(map[string]any), "conditions")
			take(list)
		}
	}
	return out
}

// failing returns the conditions of an object that are False, as text.
func failing(u *unstructured.Unstructured) []string {
	var out []string
	for _, c := range conditions(u) {
		if c["status"] == "False" {
			out = append(out, fmt.Sprintf("%s=%s: %s", c["type"], c["reason"], c["message"]))
		}
	}
	return out
}

// holds reports whether an object has conditions of its newest generation, none of them False.
func holds(u *unstructured.Unstructured, types ...string) error {
	all := conditions(u)
	for _, want := range types {
		found := false
		for _, c := range all {
			if c["type"] != want {
				continue
			}
			found = true
			if c["status"] != "True" {
				return fmt.Errorf("%s %s: %v", u.GetKind(), u.GetName(), c)
			}
			if g, ok := c["observedGeneration"].(int64); !ok || g != u.GetGeneration() {
				return fmt.Errorf("%s %s: %s is of generation %v, not %d", u.GetKind(), u.GetName(), want, c["observedGeneration"], u.GetGeneration())
			}
		}
		if !found {
			return fmt.Errorf("%s %s has no %s: %v", u.GetKind(), u.GetName(), want, u.Object["status"])
		}
	}
	return nil
}

// meshOfPolicies is a control plane on a real API server, an Envoy and a backend.
type meshOfPolicies struct {
	*objects
	replica *replica
	caller  *caller
}

const goodServices = 250

func startMeshOfPolicies(t *testing.T) *meshOfPolicies {
	t.Helper()
	kube := kubetest.Start(t, kubetest.Options{})
	root, err := harness.Root()
	require.NoError(t, err)
	kube.ApplyCRDs(t, filepath.Join(root, "manifests", "crds"))
	kube.ApplyCRDs(t, filepath.Join(root, "manifests", "gateway-api", "experimental"))
	for _, ns := range []string{"web", "other"} {
		kube.Namespace(t, ns)
	}
	for _, file := range []string{"namespace", "rbac"} {
		kube.Apply(t, filepath.Join(root, "manifests", "install", file+".yaml"))
	}
	address := harness.Addresses(t, 1)[0]
	harness.StartWorkload(t, harness.WorkloadOptions{Kind: harness.Go, Address: address, Port: instancePort, ID: "back"})
	kube.ApplyYAML(t, fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: back, namespace: web}
spec: {ports: [{name: http, port: 80}, {name: mysql, port: 3306, appProtocol: tcp}]}
---
apiVersion: v1
kind: Service
metadata: {name: hidden, namespace: other}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: back, namespace: web, labels: {kubernetes.io/service-name: back}}
addressType: IPv4
ports: [{name: http, port: %d}]
endpoints: [{addresses: [%s], conditions: {ready: true}, targetRef: {kind: Pod, namespace: web, name: back}}]
`, instancePort, address))
	m := &meshOfPolicies{objects: newObjects(t, kube)}
	kubeconfig := kube.KubeconfigFor(t, kube.ServiceAccountConfig(t, "causeway-system", "causeway"))
	m.replica = startReplica(t, "causeway", []string{"AWS_EC2_METADATA_DISABLED=true"}, "--kubeconfig", kubeconfig)
	m.replica.waitReady()
	m.caller = startCaller(t, "i-1", "web", "a", []string{m.replica.xds}, "")
	return m
}

// good returns n Services, each with two HTTPRoutes and a TrafficPolicy: 4 n objects.
func good(n int) []*unstructured.Unstructured {
	var out []*unstructured.Unstructured
	for i := range n {
		name := fmt.Sprintf("s%03d", i)
		out = append(out,
			parse(fmt.Sprintf(`{kind: Service, metadata: {name: %s}, spec: {ports: [{name: http, port: 80}]}}`, name)),
			parse(fmt.Sprintf(`{kind: HTTPRoute, metadata: {name: %s}, spec: {parentRefs: [{group: "", kind: Service, name: %s}],
				rules: [{matches: [{path: {value: /a}}], backendRefs: [{name: back, port: 80}]}]}}`, name, name)),
			parse(fmt.Sprintf(`{kind: HTTPRoute, metadata: {name: %s-b}, spec: {parentRefs: [{group: "", kind: Service, name: %s, port: 80}],
				rules: [{matches: [{headers: [{name: x-test, value: b}]}], filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-b, value: "1"}]}}],
				backendRefs: [{name: back, port: 80, weight: 3}, {name: back, port: 80}]}]}}`, name, name)),
			parse(fmt.Sprintf(`{kind: TrafficPolicy, metadata: {name: %s}, spec: {targetRefs: [{kind: Service, name: %s}],
				timeout: {connect: 1s}, retry: {attempts: 2}, connectionPool: {idleTimeout: 3s}}}`, name, name)),
		)
	}
	return out
}

// broken are mistakes that an API server takes.
var broken = []struct {
	object string
	want   string // begins the condition that says so, and what it must name
	names  string
}{
	{`{kind: HTTPRoute, spec: {parentRefs: [{group: "", kind: Service, name: nobody}], rules: [{backendRefs: [{name: back, port: 80}]}]}}`, "Accepted=NoMatchingParent", "nobody"},
	{`{kind: HTTPRoute, spec: {parentRefs: [{group: "", kind: Service, name: s001, port: 81}], rules: [{backendRefs: [{name: back, port: 80}]}]}}`, "Accepted=NoMatchingParent", "parentRefs[0].port"},
	{`{kind: HTTPRoute, spec: {parentRefs: [{group: "", kind: Service, name: spare}], rules: [{backendRefs: [{name: nobody, port: 80}]}]}}`, "ResolvedRefs=BackendNotFound", "nobody"},
	{`{kind: HTTPRoute, spec: {parentRefs: [{group: "", kind: Service, name: spare}], rules: [{backendRefs: [{name: back, port: 82}]}]}}`, "ResolvedRefs=BackendNotFound", "82"},
	{`{kind: HTTPRoute, spec: {parentRefs: [{group: "", kind: Service, name: spare}], rules: [{backendRefs: [{name: hidden, namespace: other, port: 80}]}]}}`, "ResolvedRefs=RefNotPermitted", "ReferenceGrant"},
	{`{kind: HTTPRoute, spec: {parentRefs: [{group: "", kind: Service, name: spare}], rules: [{backendRefs: [{group: apps, kind: Deployment, name: back, port: 80}]}]}}`, "ResolvedRefs=InvalidKind", "Deployment"},
	{`{kind: HTTPRoute, spec: {parentRefs: [{group: "", kind: Service, name: spare}], rules: [{backendRefs: [{name: back, port: 3306}]}]}}`, "ResolvedRefs=UnsupportedProtocol", "3306"},
	{`{kind: HTTPRoute, spec: {parentRefs: [{group: "", kind: Service, name: spare}], rules: [{matches: [{path: {type: RegularExpression, value: "/(a"}}], backendRefs: [{name: back, port: 80}]}]}}`, "Accepted=UnsupportedValue", "/(a"},
	{`{kind: HTTPRoute, spec: {parentRefs: [{group: "", kind: Service, name: spare}], rules: [{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [host]}}], backendRefs: [{name: back, port: 80}]}]}}`, "Accepted=UnsupportedValue", "host"},
	{`{kind: HTTPRoute, spec: {parentRefs: [{group: "", kind: Service, name: spare}], rules: [{filters: [{type: ExtensionRef, extensionRef: {group: x.example.com, kind: Thing, name: t}}], backendRefs: [{name: back, port: 80}]}]}}`, "ResolvedRefs=InvalidKind", "Thing"},
	{`{kind: HTTPRoute, spec: {parentRefs: [{group: "", kind: Service, name: spare}], rules: [{backendRefs: [{group: mesh.causeway.dev, kind: InstanceGroup, name: nobody, port: 80}]}]}}`, "ResolvedRefs=BackendNotFound", "nobody"},
	{`{kind: HTTPRoute, spec: {parentRefs: [{group: "", kind: Service, name: spare}], rules: [{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: nobody, port: 80}}}], backendRefs: [{name: back, port: 80}]}]}}`, "ResolvedRefs=BackendNotFound", "nobody"},
	{`{kind: GRPCRoute, spec: {parentRefs: [{group: "", kind: Service, name: nobody}], rules: [{backendRefs: [{name: back, port: 80}]}]}}`, "Accepted=NoMatchingParent", "nobody"},
	{`{kind: TCPRoute, spec: {parentRefs: [{group: "", kind: Service, name: nobody, port: 3306}], rules: [{backendRefs: [{name: back, port: 3306}]}]}}`, "Accepted=NoMatchingParent", "nobody"},
	{`{kind: TrafficPolicy, spec: {targetRefs: [{kind: Service, name: nobody}], timeout: {request: 1s}}}`, "Accepted=TargetNotFound", "nobody"},
	{`{kind: TrafficPolicy, spec: {targetRefs: [{kind: Service, name: s002}], timeout: {connect: 3s}}}`, "Accepted=Conflicted", "s002"},
	{`{kind: TrafficPolicy, spec: {targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: s003}], connectionPool: {maxConnections: 3}}}`, "Accepted=UnsupportedValue", "connectionPool"},
	{`{kind: ExternalService, spec: {hosts: [s004.web], ports: [{number: 80}]}}`, "Accepted=Conflicted", "Service web/s00"},
	{`{kind: BackendTLSPolicy, spec: {targetRefs: [{group: "", kind: Service, name: nobody}], validation: {hostname: db.example.com, wellKnownCACertificates: System}}}`, "Accepted=TargetNotFound", "nobody"},
	{`{kind: TrafficPolicy, spec: {targetRefs: [{kind: Service, name: spare}], tls: {sni: db.example.com, caCertificateRef: {name: nobody}}}}`, "ResolvedRefs=", "nobody"},
}

// A hundred broken objects among a thousand good ones: every broken one has a
// condition of its own that names what is wrong, every good one works, and
// nobody who calls a good Service notices.
func TestBrokenAmongGood(t *testing.T) {
	beside(t, 0.8, 50*time.Second)
	m := startMeshOfPolicies(t)
	started := time.Now()
	m.create(good(goodServices))
	m.create([]*unstructured.Unstructured{
		parse(`{kind: Service, metadata: {name: spare}, spec: {ports: [{name: http, port: 80}]}}`),
	})
	harness.Eventually(t, time.Minute, "the first Service answers", func() error { return m.answers("s000.web", "/a") })
	load := harness.StartLoad(t, harness.LoadOptions{URL: "http://" + m.caller.http + "/a", Rate: 200, Next: func(n int64) harness.LoadRequest {
		return harness.LoadRequest{Host: fmt.Sprintf("s%03d.web", n%8)}
	}})
	var wrong []*unstructured.Unstructured
	want := make(map[string]int) // index in broken, by "kind/name"
	for i := range 5 {
		for j := range broken {
			u := parse(broken[j].object)
			u.SetName(fmt.Sprintf("wrong-%02d-%d", j, i))
			if u.GetKind() == "ExternalService" {
				require.NoError(t, unstructured.SetNestedStringSlice(u.Object, []string{fmt.Sprintf("s%03d.web", 4+i)}, "spec", "hosts"))
			}
			wrong = append(wrong, u)
			want[u.GetKind()+"/"+u.GetName()] = j
		}
	}
	require.Len(t, wrong, 100)
	m.create(wrong)
	written := time.Since(started)

	harness.Eventually(t, 2*time.Minute, "every broken object says what is wrong with it", func() error {
		var missing []error
		for kind := range resources {
			if kind == "Service" || kind == "ConfigMap" || kind == "ReferenceGrant" {
				continue
			}
			list, err := m.client.Resource(resources[kind]).Namespace("web").List(t.Context(), metav1.ListOptions{})
			if err != nil {
				return err
			}
			for i := range list.Items {
				u := &list.Items[i]
				j, isBroken := want[kind+"/"+u.GetName()]
				if !isBroken {
					if err := holds(u, "Accepted", "ResolvedRefs", "Programmed"); err != nil {
						missing = append(missing, err)
					}
					continue
				}
				said := ""
				for _, c := range failing(u) {
					if strings.HasPrefix(c, broken[j].want) {
						said = c
					}
				}
				switch {
				case said == "":
					missing = append(missing, fmt.Errorf("%s %s: %v, want %s: %v", kind, u.GetName(), failing(u), broken[j].want, u.Object["status"]))
				case !strings.Contains(said, broken[j].names):
					missing = append(missing, fmt.Errorf("%s %s: %q does not name %q", kind, u.GetName(), said, broken[j].names))
				}
			}
		}
		return errors.Join(missing[:min(len(missing), 20)]...)
	})
	t.Logf("written in %s, all said after %s", written.Round(time.Millisecond), time.Since(started).Round(time.Millisecond))
	for i := range goodServices {
		require.NoError(t, m.answers(fmt.Sprintf("s%03d.web", i), "/a"))
	}

	// What heals heals by itself: the target appears.
	m.create([]*unstructured.Unstructured{parse(`{kind: Service, metadata: {name: nobody}, spec: {ports: [{name: http, port: 80}, {name: mysql, port: 3306, appProtocol: tcp}]}}`)})
	harness.Eventually(t, time.Minute, "routes of a Service that has come hold", func() error {
		u, err := m.client.Resource(resources["HTTPRoute"]).Namespace("web").Get(t.Context(), "wrong-00-0", metav1.GetOptions{})
		if err != nil {
			return err
		}
		return holds(u, "Accepted", "ResolvedRefs")
	})

	// Everything goes, in any order, while good Services are called; nothing holds anything back.
	rand.Shuffle(len(wrong), func(i, j int) { wrong[i], wrong[j] = wrong[j], wrong[i] })
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(8)
	for _, u := range wrong {
		g.Go(func() error { return m.of(u).Delete(ctx, u.GetName(), metav1.DeleteOptions{}) })
	}
	require.NoError(t, g.Wait())
	left, err := m.client.Resource(resources["HTTPRoute"]).Namespace("web").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Len(t, left.Items, 2*goodServices, "no finalizer keeps an object")
	report := load.Stop()
	t.Logf("%s", report)
	report.RequireNoFailures(t)
}

// answers asks once and wants 200.
func (m *meshOfPolicies) answers(host, path string) error {
	r, err := http.NewRequestWithContext(m.t.Context(), http.MethodGet, "http://"+m.caller.http+path, http.NoBody)
	if err != nil {
		return err
	}
	r.Host = host
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	if err := answer.Body.Close(); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", host, answer.Status)
	}
	return nil
}

// Two people edit one HTTPRoute at once, and a third applies it: the mesh ends
// with what the object says, and the object says so.
func TestManyWriters(t *testing.T) {
	beside(t, 0.4, 15*time.Second)
	m := startMeshOfPolicies(t)
	m.create(good(1))
	routes := m.client.Resource(resources["HTTPRoute"]).Namespace("web")
	edit := func(ctx context.Context, writer, n int) error {
		return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
			u, err := routes.Get(ctx, "s000", metav1.GetOptions{})
			if err != nil {
				return err
			}
			rules, _, err := unstructured.NestedSlice(u.Object, "spec", "rules")
			if err != nil {
				return err
			}
			rules[0].(map[string]any)["filters"] = []any{map[string]any{
				"type": "ResponseHeaderModifier", "responseHeaderModifier": map[string]any{
					"set": []any{map[string]any{"name": "x-writer", "value": fmt.Sprintf("%d-%d", writer, n)}},
				},
			}}
			if err := unstructured.SetNestedSlice(u.Object, rules, "spec", "rules"); err != nil {
				return err
			}
			_, err = routes.Update(ctx, u, metav1.UpdateOptions{})
			return err
		})
	}
	var wg sync.WaitGroup
	var failed error
	var mu sync.Mutex
	for writer := range 3 {
		wg.Go(func() {
			for n := range 15 {
				err := edit(t.Context(), writer, n)
				if err != nil && !apierrors.IsConflict(err) {
					mu.Lock()
					failed = errors.Join(failed, err)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, failed)
	harness.Eventually(t, time.Minute, "the object holds, and the mesh does what it says", func() error {
		u, err := routes.Get(t.Context(), "s000", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if err := holds(u, "Accepted", "ResolvedRefs", "Programmed"); err != nil {
			return err
		}
		rules, _, _ := unstructured.NestedSlice(u.Object, "spec", "rules")
		filter := rules[0].(map[string]any)["filters"].([]any)[0].(map[string]any)["responseHeaderModifier"].(map[string]any)
		want := filter["set"].([]any)[0].(map[string]any)["value"]
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+m.caller.http+"/a", http.NoBody)
		if err != nil {
			return err
		}
		r.Host = "s000.web"
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return err
		}
		_ = answer.Body.Close()
		if got := answer.Header.Get("X-Writer"); got != want {
			return fmt.Errorf("the object says %v, Envoy %q", want, got)
		}
		return nil
	})
}
