package kubernetes

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/objects"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/kubetest"
)

// installGatewayAPI applies the CRDs of a channel.
func installGatewayAPI(t *testing.T, kube *kubetest.Kube, channel string) {
	t.Helper()
	root, err := harness.Root()
	require.NoError(t, err)
	kube.ApplyCRDs(t, filepath.Join(root, "manifests", "gateway-api", channel))
}

// api is the API as an administrator reaches it.
func api(t *testing.T, kube *kubetest.Kube) rest.Interface {
	t.Helper()
	return kube.Client(t).Discovery().RESTClient()
}

// pathIn returns the path of an object in the API.
func pathIn(kind, namespace, name string) string {
	for _, k := range objects.Kinds() {
		if k.Name != kind {
			continue
		}
		path := "/apis/" + k.APIVersion
		if k.APIVersion == "v1" {
			path = "/api/v1"
		}
		if k.Namespaced {
			path += "/namespaces/" + namespace
		}
		return path + "/" + k.Resource + "/" + name
	}
	panic("no kind " + kind)
}

// kubectlApply writes an object as `kubectl apply` does that has not done so before.
func kubectlApply(t *testing.T, kube *kubetest.Kube, text string) {
	t.Helper()
	var o map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(text), &o))
	applied, err := json.Marshal(o)
	require.NoError(t, err)
	meta := o["metadata"].(map[string]any)
	meta["annotations"] = map[string]any{"kubectl.kubernetes.io/last-applied-configuration": string(applied)}
	body, err := json.Marshal(o)
	require.NoError(t, err)
	path := pathIn(o["kind"].(string), meta["namespace"].(string), meta["name"].(string))
	if api(t, kube).Get().AbsPath(path).Do(t.Context()).Error() == nil {
		err = api(t, kube).Patch(types.MergePatchType).AbsPath(path).Param("fieldManager", "kubectl-client-side-apply").Body(body).Do(t.Context()).Error()
	} else {
		err = api(t, kube).Post().AbsPath(filepath.Dir(path)).Param("fieldManager", "kubectl-client-side-apply").Body(body).Do(t.Context()).Error()
	}
	require.NoError(t, err)
}

func deleteObject(t *testing.T, kube *kubetest.Kube, kind, namespace, name string) {
	t.Helper()
	require.NoError(t, api(t, kube).Delete().AbsPath(pathIn(kind, namespace, name)).Do(t.Context()).Error())
}

// waitRow waits until an object's row satisfies check; no row is nil.
func (r *replica) waitRow(t *testing.T, name, what string, check func(*discovery.Object) bool) *discovery.Object {
	t.Helper()
	var row *discovery.Object
	harness.Eventually(t, 30*time.Second, name+" "+what, func() error {
		row, _ = catalog.Objects.Get(r.catalog.Read(), name)
		if !check(row) {
			return fmt.Errorf("the row is %+v", row)
		}
		return nil
	})
	return row
}

// waitNote waits for a text in what a source notes.
func (r *replica) waitNote(t *testing.T, source, text string) {
	t.Helper()
	harness.Eventually(t, 40*time.Second, fmt.Sprintf("%s notes %q", source, text), func() error {
		st, _ := catalog.Sources.Get(r.catalog.Read(), source)
		if st == nil || !strings.Contains(st.Note, text) || text == "" && st.Note != "" {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
}

func there(o *discovery.Object) bool { return o != nil }
func gone(o *discovery.Object) bool  { return o == nil }

// example is an object, and a change of it.
type example struct{ name, text, from, to string }

// instanceGroup is of the kind whose status has a writer of its own.
var instanceGroup = example{"InstanceGroup web/a", `
apiVersion: mesh.causeway.dev/v1alpha1
kind: InstanceGroup
metadata: {name: a, namespace: web}
spec:
  serviceRef: {name: php-web}
  region: ap-northeast-1
  selector: {autoScalingGroups: [php-web]}
  ports: [{name: web, port: 8080}]
`, "port: 8080", "port: 8081"}

// everyKind has an object of each other kind of route and policy.
var everyKind = []example{
	{"HTTPRoute web/a", `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: a, namespace: web}
spec:
  parentRefs: [{group: "", kind: Service, name: php-web}]
  rules: [{backendRefs: [{name: php-web, port: 80}]}]
`, "port: 80", "port: 81"},
	{"GRPCRoute web/a", `
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: a, namespace: web}
spec:
  parentRefs: [{group: "", kind: Service, name: php-web}]
  rules: [{backendRefs: [{name: php-web, port: 80}]}]
`, "port: 80", "port: 81"},
	{"TCPRoute web/a", `
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: a, namespace: web}
spec:
  parentRefs: [{group: "", kind: Service, name: php-web}]
  rules: [{backendRefs: [{name: php-web, port: 80}]}]
`, "port: 80", "port: 81"},
	{"TLSRoute web/a", `
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: a, namespace: web}
spec:
  parentRefs: [{group: "", kind: Service, name: php-web}]
  hostnames: [a.example]
  rules: [{backendRefs: [{name: php-web, port: 80}]}]
`, "port: 80", "port: 81"},
	{"ReferenceGrant web/a", `
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: a, namespace: web}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}]
  to: [{group: "", kind: Service}]
`, "namespace: shop", "namespace: shop2"},
	{"BackendTLSPolicy web/a", `
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: a, namespace: web}
spec:
  targetRefs: [{group: "", kind: Service, name: php-web}]
  validation: {hostname: a.example, wellKnownCACertificates: System}
`, "a.example", "b.example"},
	{"GatewayClass a", `
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: a}
spec: {controllerName: mesh.causeway.dev/controller, description: one}
`, "one", "two"},
	{"Gateway web/a", `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: a, namespace: web}
spec:
  gatewayClassName: a
  listeners: [{name: http, port: 80, protocol: HTTP}]
`, "port: 80", "port: 81"},
	{"GatewayPolicy web/a", `
apiVersion: mesh.causeway.dev/v1alpha1
kind: GatewayPolicy
metadata: {name: a, namespace: web}
spec:
  targetRefs: [{name: a}]
  timeout: {request: 5s}
`, "request: 5s", "request: 6s"},
	{"TrafficShift web/a", `
apiVersion: mesh.causeway.dev/v1alpha1
kind: TrafficShift
metadata: {name: a, namespace: web}
spec:
  serviceRef: {name: php-web}
  steps: [{percent: "100", hold: 10m}]
`, "hold: 10m", "hold: 20m"},
	{"TrafficPolicy web/a", `
apiVersion: mesh.causeway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: a, namespace: web}
spec:
  targetRefs: [{kind: Service, name: php-web}]
  timeout: {request: 5s}
`, "request: 5s", "request: 6s"},
	{"ExternalService web/a", `
apiVersion: mesh.causeway.dev/v1alpha1
kind: ExternalService
metadata: {name: a, namespace: web}
spec:
  hosts: [a.example]
  ports: [{name: http, number: 80, protocol: HTTP}]
`, "number: 80", "number: 81"},
	{"Mesh default", `
apiVersion: mesh.causeway.dev/v1alpha1
kind: Mesh
metadata: {name: default}
spec: {egress: {mode: AllowAny}}
`, "AllowAny", "RegistryOnly"},
}

// Every kind comes, changes and goes, and leaves no finalizer behind.
func TestPolicyKinds(t *testing.T) {
	t.Parallel()
	kube := startKubeWithRoutes(t)
	kube.ApplyYAML(t, service)
	r := newReplica(t, kube, nil)
	startPolicyStatus(t, r, nil)
	every := append(slices.Clone(everyKind), instanceGroup)
	require.Len(t, every, len(policyKinds()), "a kind is missing here")
	for _, c := range every {
		kube.ApplyYAML(t, c.text)
	}
	for _, c := range every {
		row := r.waitRow(t, c.name, "comes", there)
		require.EqualValues(t, 1, row.Generation)
		require.NotZero(t, row.Created)
		kube.ApplyYAML(t, strings.Replace(c.text, c.from, c.to, 1))
		r.waitRow(t, c.name, "changes", func(o *discovery.Object) bool { return o != nil && o.Generation == 2 })
	}
	for _, c := range every {
		kind, key, _ := strings.Cut(c.name, " ")
		namespace, name, namespaced := strings.Cut(key, "/")
		if !namespaced {
			namespace, name = "", key
		}
		raw, err := api(t, kube).Get().AbsPath(pathIn(kind, namespace, name)).DoRaw(t.Context())
		require.NoError(t, err)
		var o metav1.PartialObjectMetadata
		require.NoError(t, json.Unmarshal(raw, &o))
		require.Empty(t, o.Finalizers, c.name)
		deleteObject(t, kube, kind, namespace, name)
		r.waitRow(t, c.name, "goes", gone)
	}
}

// A cluster may lack kinds. The mesh runs without them, says so, and takes them
// up when they are installed, as it lets them go.
func TestKindsComeAndGo(t *testing.T) {
	t.Parallel()
	kube := startKube(t)
	kube.ApplyYAML(t, service)
	r := newReplica(t, kube, nil) // ready without any of the Gateway API
	r.waitNote(t, "kubernetes/httproutes", "HTTPRoute is not installed")
	st, _ := catalog.Sources.Get(r.catalog.Read(), "kubernetes/httproutes")
	require.Empty(t, st.Error)

	installGatewayAPI(t, kube, "experimental")
	kube.ApplyYAML(t, everyKind[0].text)
	r.waitRow(t, "HTTPRoute web/a", "comes", there)
	r.waitNote(t, "kubernetes/httproutes", "Gateway API v1.7.0, experimental channel")

	crd := "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/httproutes.gateway.networking.k8s.io"
	require.NoError(t, api(t, kube).Delete().AbsPath(crd).Do(t.Context()).Error())
	r.waitRow(t, "HTTPRoute web/a", "goes", gone)
	r.waitNote(t, "kubernetes/httproutes", "HTTPRoute is not installed")
	harness.Eventually(t, 30*time.Second, "no error is left", func() error {
		if st, _ := catalog.Sources.Get(r.catalog.Read(), "kubernetes/httproutes"); st.Error != "" || !st.Synced {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})

	installGatewayAPI(t, kube, "experimental")
	kube.ApplyYAML(t, everyKind[0].text)
	r.waitRow(t, "HTTPRoute web/a", "comes again", there)

	// An API server that does not answer says nothing about what is installed.
	r.waitNote(t, "kubernetes/httproutes", "experimental channel")
	kube.Kill9()
	harness.Eventually(t, 30*time.Second, "the failure is told", func() error {
		if st, _ := catalog.Sources.Get(r.catalog.Read(), "kubernetes/httproutes"); st.Error == "" {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	kube.Restart(t)
	harness.Eventually(t, 30*time.Second, "the recovery is told", func() error {
		st, _ := catalog.Sources.Get(r.catalog.Read(), "kubernetes/httproutes")
		if _, ok := catalog.Objects.Get(r.catalog.Read(), "HTTPRoute web/a"); !ok {
			t.Fatal("what was known is gone")
		}
		if st.Error != "" || !strings.Contains(st.Note, "experimental channel") {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
}

// A cluster whose Gateway API is older serves ReferenceGrant v1beta1 only.
func TestOlderVersion(t *testing.T) {
	t.Parallel()
	kube := startKube(t)
	kube.ApplyYAML(t, `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: referencegrants.gateway.networking.k8s.io
  annotations:
    api-approved.kubernetes.io: https://github.com/kubernetes-sigs/gateway-api/pull/5371
    gateway.networking.k8s.io/bundle-version: v1.2.0
    gateway.networking.k8s.io/channel: standard
spec:
  group: gateway.networking.k8s.io
  scope: Namespaced
  names: {kind: ReferenceGrant, listKind: ReferenceGrantList, plural: referencegrants, singular: referencegrant}
  versions:
  - name: v1beta1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`)
	r := newReplica(t, kube, nil)
	harness.Eventually(t, 20*time.Second, "a grant is applied", func() error {
		return api(t, kube).Post().AbsPath("/apis/gateway.networking.k8s.io/v1beta1/namespaces/web/referencegrants").Body([]byte(
			`{"apiVersion":"gateway.networking.k8s.io/v1beta1","kind":"ReferenceGrant","metadata":{"name":"good"},
			"spec":{"from":[{"group":"gateway.networking.k8s.io","kind":"HTTPRoute","namespace":"shop"}],"to":[{"group":"","kind":"Service"}]}}`,
		)).Do(t.Context()).Error()
	})
	row := r.waitRow(t, "ReferenceGrant web/good", "comes", there)
	require.EqualValues(t, "shop", row.Spec.(*gatewayv1.ReferenceGrant).Spec.From[0].Namespace)
	r.waitNote(t, "kubernetes/referencegrants", "Gateway API v1.2.0, standard channel")

	// One that no Go type fits harms nobody, not even in a list.
	require.NoError(t, api(t, kube).Post().AbsPath("/apis/gateway.networking.k8s.io/v1beta1/namespaces/web/referencegrants").Body([]byte(
		`{"apiVersion":"gateway.networking.k8s.io/v1beta1","kind":"ReferenceGrant","metadata":{"name":"odd"},"spec":{"from":"everywhere"}}`,
	)).Do(t.Context()).Error())
	r.waitNote(t, "kubernetes/referencegrants", "web/odd")
	other := newReplica(t, kube, nil)
	other.waitRow(t, "ReferenceGrant web/good", "comes", there)
	other.waitNote(t, "kubernetes/referencegrants", "web/odd")
	// A good object that becomes such a one holds as it was before.
	const good = "/apis/gateway.networking.k8s.io/v1beta1/namespaces/web/referencegrants/good"
	patch := func(body string) {
		require.NoError(t, api(t, kube).Patch(types.MergePatchType).AbsPath(good).Body([]byte(body)).Do(t.Context()).Error())
	}
	patch(`{"spec":{"from":{"namespace":"shop"}}}`)
	r.waitNote(t, "kubernetes/referencegrants", "web/good")
	row = r.waitRow(t, "ReferenceGrant web/good", "stays", there)
	require.EqualValues(t, "shop", row.Spec.(*gatewayv1.ReferenceGrant).Spec.From[0].Namespace)
	require.NoError(t, api(t, kube).Delete().AbsPath(good).Do(t.Context()).Error())
	r.waitRow(t, "ReferenceGrant web/good", "goes", gone)
	require.NoError(t, api(t, kube).Delete().AbsPath(strings.Replace(good, "good", "odd", 1)).Do(t.Context()).Error())
	harness.Eventually(t, 20*time.Second, "nothing is odd any more", func() error {
		if st, _ := catalog.Sources.Get(r.catalog.Read(), "kubernetes/referencegrants"); strings.Contains(st.Note, "web/") {
			return fmt.Errorf("%s", st.Note)
		}
		return nil
	})
}

const stickyRoute = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: sticky, namespace: web}
spec:
  parentRefs: [{group: "", kind: Service, name: php-web}]
  rules:
  - backendRefs: [{name: php-web, port: 80}]
    sessionPersistence: {type: Cookie, cookie: {name: id}}
`

const scopedGateway = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: scoped, namespace: web}
spec:
  gatewayClassName: causeway
  defaultScope: All
  listeners: [{name: http, port: 80, protocol: HTTP}]
`

// The standard channel drops experimental fields. The object says which, until
// the other channel is installed under it and it is applied again.
func TestChannelUpgrade(t *testing.T) {
	t.Parallel()
	kube := startKube(t)
	installGatewayAPI(t, kube, "standard")
	kube.ApplyYAML(t, service)
	r := newReplica(t, kube, nil)
	startPolicyStatus(t, r, nil)
	r.waitNote(t, "kubernetes/httproutes", "standard channel")
	kubectlApply(t, kube, stickyRoute)
	kubectlApply(t, kube, scopedGateway)
	kubectlApply(t, kube, everyKind[0].text)
	require.Equal(t, []string{"spec.defaultScope"}, r.waitRow(t, "Gateway web/scoped", "comes", there).Pruned)
	row := r.waitRow(t, "HTTPRoute web/sticky", "comes", there)
	require.Equal(t, []string{"spec.rules[0].sessionPersistence"}, row.Pruned)
	waitCondition(t, kube, "HTTPRoute", "web", "sticky", "Accepted", metav1.ConditionTrue, "spec.rules[0].sessionPersistence")

	feed := r.catalog.Subscribe()
	defer feed.Close()
	feed.Take()
	installGatewayAPI(t, kube, "experimental")
	r.waitNote(t, "kubernetes/httproutes", "experimental channel")
	r.waitRow(t, "HTTPRoute web/sticky", "stays as it is", func(o *discovery.Object) bool { return o != nil && len(o.Pruned) == 1 })
	harness.Eventually(t, time.Minute, "HTTPRoute web/sticky is whole", func() error {
		// For a moment the API server may go on with the schema that it had.
		kubectlApply(t, kube, stickyRoute)
		o, ok := catalog.Objects.Get(r.catalog.Read(), "HTTPRoute web/sticky")
		if !ok || len(o.Pruned) > 0 {
			return fmt.Errorf("the row is %+v", o)
		}
		row = o
		return nil
	})
	require.NotNil(t, row.Spec.(*gatewayv1.HTTPRoute).Spec.Rules[0].SessionPersistence) //nolint:staticcheck // deprecated, and served
	harness.Eventually(t, time.Minute, "Gateway web/scoped is whole", func() error {
		kubectlApply(t, kube, scopedGateway)
		if o, ok := catalog.Objects.Get(r.catalog.Read(), "Gateway web/scoped"); !ok || len(o.Pruned) > 0 {
			return fmt.Errorf("the row is %+v", o)
		}
		return nil
	})
	b, _ := feed.Take()
	for _, c := range b.Changes {
		before, was := c.Before.(*discovery.Object)
		require.False(t, was && c.After == nil, "%v was gone for a moment", before)
	}
	r.waitRow(t, "HTTPRoute web/a", "is there", there)
}

// ConfigMaps are read while a policy names them, and no others.
func TestConfigMaps(t *testing.T) {
	t.Parallel()
	kube := startKubeWithRoutes(t)
	kube.ApplyYAML(t, service+`
---
apiVersion: v1
kind: ConfigMap
metadata: {name: ca, namespace: web}
data: {ca.crt: one}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: other, namespace: web}
data: {ca.crt: other}
`)
	const policy = `
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: a, namespace: web}
spec:
  targetRefs: [{group: "", kind: Service, name: php-web}]
  validation: {hostname: a.example, caCertificateRefs: [{group: "", kind: ConfigMap, name: ca}]}
`
	kube.ApplyYAML(t, policy)
	r := newReplica(t, kube, nil)
	_, ok := catalog.Objects.Get(r.catalog.Read(), "ConfigMap web/ca")
	require.True(t, ok, "synced means that what policies name is known")
	_, ok = catalog.Objects.Get(r.catalog.Read(), "ConfigMap web/other")
	require.False(t, ok)
	configMaps := kube.Client(t).CoreV1().ConfigMaps("web")
	edit := func(body string) {
		_, err := configMaps.Patch(t.Context(), "ca", types.MergePatchType, []byte(body), metav1.PatchOptions{})
		require.NoError(t, err)
	}
	edit(`{"data":{"ca.crt":"two"}}`)
	r.waitRow(t, "ConfigMap web/ca", "changes", func(o *discovery.Object) bool {
		text, _ := json.Marshal(o)
		return strings.Contains(string(text), "two")
	})
	edit(`{"data":{"ca.crt":null}}`)
	r.waitRow(t, "ConfigMap web/ca", "has no certificates", gone)
	edit(`{"data":{"ca.crt":"three"}}`)
	r.waitRow(t, "ConfigMap web/ca", "has certificates", there)
	require.NoError(t, configMaps.Delete(t.Context(), "ca", metav1.DeleteOptions{}))
	r.waitRow(t, "ConfigMap web/ca", "goes", gone)
	kube.ApplyYAML(t, strings.Replace(policy, "name: ca}", "name: other}", 1))
	r.waitRow(t, "ConfigMap web/other", "is named", there)
	deleteObject(t, kube, "BackendTLSPolicy", "web", "a")
	r.waitRow(t, "ConfigMap web/other", "is named no more", gone)
}

// Without the right to read a ConfigMap the mesh runs, and says so.
func TestConfigMapRefused(t *testing.T) {
	t.Parallel()
	kube := startKubeWithRoutes(t)
	role := kube.Client(t).RbacV1().ClusterRoles()
	rules, err := role.Get(t.Context(), "causeway", metav1.GetOptions{})
	require.NoError(t, err)
	for i := range rules.Rules {
		if rules.Rules[i].Resources[0] == "configmaps" {
			rules.Rules[i].Resources[0] = "pods"
		}
	}
	_, err = role.Update(t.Context(), rules, metav1.UpdateOptions{})
	require.NoError(t, err)
	kube.ApplyYAML(t, `
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: a, namespace: web}
spec:
  targetRefs: [{group: "", kind: Service, name: php-web}]
  validation: {hostname: a.example, caCertificateRefs: [{group: "", kind: ConfigMap, name: ca}]}
`)
	r := newReplica(t, kube, nil)
	r.waitNote(t, ScopeConfigMaps, "may not list and watch these ConfigMaps, which policies name: web/ca")
}
