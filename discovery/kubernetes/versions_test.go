package kubernetes

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/kubetest"
	"github.com/causeway-mesh/causeway/test/harness/meshtest"
)

// Each test of this file leaves an API server that none can use after it. They are the last.

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
	path := meshtest.PathIn(o["kind"].(string), meta["namespace"].(string), meta["name"].(string))
	if meshtest.API(t, kube).Get().AbsPath(path).Do(t.Context()).Error() == nil {
		err = meshtest.API(t, kube).Patch(types.MergePatchType).AbsPath(path).Param("fieldManager", "kubectl-client-side-apply").Body(body).Do(t.Context()).Error()
	} else {
		err = meshtest.API(t, kube).Post().AbsPath(filepath.Dir(path)).Param("fieldManager", "kubectl-client-side-apply").Body(body).Do(t.Context()).Error()
	}
	require.NoError(t, err)
}

// A cluster may lack kinds. The mesh runs without them, says so, and takes them
// up when they are installed, as it lets them go.
func TestKindsComeAndGo(t *testing.T) {
	t.Parallel()
	kube := plain.Take(t)
	kube.ApplyYAML(t, meshtest.Service)
	r := newReplica(t, kube, nil) // ready without any of the Gateway API
	r.WaitNote(t, "kubernetes/httproutes", "HTTPRoute is not installed")
	st, _ := catalog.Sources.Get(r.Catalog.Read(), "kubernetes/httproutes")
	require.Empty(t, st.Error)

	meshtest.InstallGatewayAPI(t, kube, "experimental")
	kube.ApplyYAML(t, meshtest.EveryKind[0].Text)
	r.WaitRow(t, "HTTPRoute web/a", "comes", meshtest.There)
	r.WaitNote(t, "kubernetes/httproutes", "Gateway API v1.7.0, experimental channel")

	crd := "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/httproutes.gateway.networking.k8s.io"
	require.NoError(t, meshtest.API(t, kube).Delete().AbsPath(crd).Do(t.Context()).Error())
	r.WaitRow(t, "HTTPRoute web/a", "goes", meshtest.Gone)
	r.WaitNote(t, "kubernetes/httproutes", "HTTPRoute is not installed")
	harness.Eventually(t, 30*time.Second, "no error is left", func() error {
		if st, _ := catalog.Sources.Get(r.Catalog.Read(), "kubernetes/httproutes"); st.Error != "" || !st.Synced {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})

	meshtest.InstallGatewayAPI(t, kube, "experimental")
	kube.ApplyYAML(t, meshtest.EveryKind[0].Text)
	r.WaitRow(t, "HTTPRoute web/a", "comes again", meshtest.There)

	// An API server that does not answer says nothing about what is installed.
	r.WaitNote(t, "kubernetes/httproutes", "experimental channel")
	kube.Kill9()
	harness.Eventually(t, 30*time.Second, "the failure is told", func() error {
		if st, _ := catalog.Sources.Get(r.Catalog.Read(), "kubernetes/httproutes"); st.Error == "" {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	kube.Restart(t)
	harness.Eventually(t, 30*time.Second, "the recovery is told", func() error {
		st, _ := catalog.Sources.Get(r.Catalog.Read(), "kubernetes/httproutes")
		if _, ok := catalog.Objects.Get(r.Catalog.Read(), "HTTPRoute web/a"); !ok {
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
	kube := plain.Take(t)
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
		return meshtest.API(t, kube).Post().AbsPath("/apis/gateway.networking.k8s.io/v1beta1/namespaces/web/referencegrants").Body([]byte(
			`{"apiVersion":"gateway.networking.k8s.io/v1beta1","kind":"ReferenceGrant","metadata":{"name":"good"},
			"spec":{"from":[{"group":"gateway.networking.k8s.io","kind":"HTTPRoute","namespace":"shop"}],"to":[{"group":"","kind":"Service"}]}}`,
		)).Do(t.Context()).Error()
	})
	row := r.WaitRow(t, "ReferenceGrant web/good", "comes", meshtest.There)
	require.EqualValues(t, "shop", row.Spec.(*gatewayv1.ReferenceGrant).Spec.From[0].Namespace)
	r.WaitNote(t, "kubernetes/referencegrants", "Gateway API v1.2.0, standard channel")

	// One that no Go type fits harms nobody, not even in a list.
	require.NoError(t, meshtest.API(t, kube).Post().AbsPath("/apis/gateway.networking.k8s.io/v1beta1/namespaces/web/referencegrants").Body([]byte(
		`{"apiVersion":"gateway.networking.k8s.io/v1beta1","kind":"ReferenceGrant","metadata":{"name":"odd"},"spec":{"from":"everywhere"}}`,
	)).Do(t.Context()).Error())
	r.WaitNote(t, "kubernetes/referencegrants", "web/odd")
	other := newReplica(t, kube, nil)
	other.WaitRow(t, "ReferenceGrant web/good", "comes", meshtest.There)
	other.WaitNote(t, "kubernetes/referencegrants", "web/odd")
	// A good object that becomes such a one holds as it was before.
	const good = "/apis/gateway.networking.k8s.io/v1beta1/namespaces/web/referencegrants/good"
	patch := func(body string) {
		require.NoError(t, meshtest.API(t, kube).Patch(types.MergePatchType).AbsPath(good).Body([]byte(body)).Do(t.Context()).Error())
	}
	patch(`{"spec":{"from":{"namespace":"shop"}}}`)
	r.WaitNote(t, "kubernetes/referencegrants", "web/good")
	row = r.WaitRow(t, "ReferenceGrant web/good", "stays", meshtest.There)
	require.EqualValues(t, "shop", row.Spec.(*gatewayv1.ReferenceGrant).Spec.From[0].Namespace)
	require.NoError(t, meshtest.API(t, kube).Delete().AbsPath(good).Do(t.Context()).Error())
	r.WaitRow(t, "ReferenceGrant web/good", "goes", meshtest.Gone)
	require.NoError(t, meshtest.API(t, kube).Delete().AbsPath(strings.Replace(good, "good", "odd", 1)).Do(t.Context()).Error())
	harness.Eventually(t, 20*time.Second, "nothing is odd any more", func() error {
		if st, _ := catalog.Sources.Get(r.Catalog.Read(), "kubernetes/referencegrants"); strings.Contains(st.Note, "web/") {
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
	kube := plain.Take(t)
	meshtest.InstallGatewayAPI(t, kube, "standard")
	kube.ApplyYAML(t, meshtest.Service)
	r := newReplica(t, kube, nil)
	writeStatus(t, r)
	r.WaitNote(t, "kubernetes/httproutes", "standard channel")
	kubectlApply(t, kube, stickyRoute)
	kubectlApply(t, kube, scopedGateway)
	kubectlApply(t, kube, meshtest.EveryKind[0].Text)
	require.Equal(t, []string{"spec.defaultScope"}, r.WaitRow(t, "Gateway web/scoped", "comes", meshtest.There).Pruned)
	row := r.WaitRow(t, "HTTPRoute web/sticky", "comes", meshtest.There)
	require.Equal(t, []string{"spec.rules[0].sessionPersistence"}, row.Pruned)
	meshtest.WaitCondition(t, kube, "HTTPRoute", "web", "sticky", "Accepted", metav1.ConditionTrue, "spec.rules[0].sessionPersistence")

	feed := r.Catalog.Subscribe()
	defer feed.Close()
	feed.Take()
	meshtest.InstallGatewayAPI(t, kube, "experimental")
	r.WaitNote(t, "kubernetes/httproutes", "experimental channel")
	r.WaitRow(t, "HTTPRoute web/sticky", "stays as it is", func(o *discovery.Object) bool { return o != nil && len(o.Pruned) == 1 })
	harness.Eventually(t, time.Minute, "HTTPRoute web/sticky is whole", func() error {
		// For a moment the API server may go on with the schema that it had.
		kubectlApply(t, kube, stickyRoute)
		o, ok := catalog.Objects.Get(r.Catalog.Read(), "HTTPRoute web/sticky")
		if !ok || len(o.Pruned) > 0 {
			return fmt.Errorf("the row is %+v", o)
		}
		row = o
		return nil
	})
	require.NotNil(t, row.Spec.(*gatewayv1.HTTPRoute).Spec.Rules[0].SessionPersistence) //nolint:staticcheck // deprecated, and served
	harness.Eventually(t, time.Minute, "Gateway web/scoped is whole", func() error {
		kubectlApply(t, kube, scopedGateway)
		if o, ok := catalog.Objects.Get(r.Catalog.Read(), "Gateway web/scoped"); !ok || len(o.Pruned) > 0 {
			return fmt.Errorf("the row is %+v", o)
		}
		return nil
	})
	b, _ := feed.Take()
	for _, c := range b.Changes {
		before, was := c.Before.(*discovery.Object)
		require.False(t, was && c.After == nil, "%v was gone for a moment", before)
	}
	r.WaitRow(t, "HTTPRoute web/a", "is there", meshtest.There)
}

// Of a kind that is served in another version alone, the objects that are there count as unread, and no others do.
func TestUnreadInAnotherVersion(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
	kube.ApplyYAML(t, meshtest.Service+`---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: strict, namespace: web}
spec:
  targetRefs: [{group: "", kind: Service, name: php-web}]
  validation: {hostname: a.example, wellKnownCACertificates: System}
`)
	const crd = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/backendtlspolicies.gateway.networking.k8s.io"
	require.NoError(t, meshtest.API(t, kube).Patch(types.JSONPatchType).AbsPath(crd).Body([]byte(`[{"op":"replace","path":"/spec/versions/0/served","value":false}]`)).Do(t.Context()).Error())
	harness.Eventually(t, 20*time.Second, "the version is not served", func() error {
		if meshtest.API(t, kube).Get().AbsPath("/apis/gateway.networking.k8s.io/v1/namespaces/web/backendtlspolicies/strict").Do(t.Context()).Error() == nil {
			return fmt.Errorf("it is")
		}
		return nil
	})
	r := newReplica(t, kube, nil)
	source := discovery.KubernetesSource(discovery.KindBackendTLSPolicy)
	r.WaitNote(t, source, "does not serve")
	target := discovery.ObjectName{Kind: discovery.KindService, Key: discovery.Key{Namespace: "web", Name: "php-web"}}
	st, _ := catalog.Sources.Get(r.Catalog.Read(), source)
	require.Empty(t, st.UnreadAll)
	require.Len(t, st.Unread, 1)
	require.Equal(t, []discovery.ObjectName{target}, st.Unread[0].Targets)
	require.True(t, st.Synced)
	require.Contains(t, upstream.UnreadBackingTLS(r.Catalog.Read(), target.Key, discovery.Pods, ""), "BackendTLSPolicy cannot be read: web/strict")
}

// Without the right to read a ConfigMap the mesh runs, and says so.
func TestConfigMapRefused(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
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
	r.WaitNote(t, cluster.ScopeConfigMaps, "may not list and watch these ConfigMaps, which policies name: web/ca")
}
