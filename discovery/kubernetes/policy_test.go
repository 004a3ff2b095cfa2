package kubernetes

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
	"github.com/causeway-mesh/causeway/test/harness/meshtest"
)

// Every kind comes, changes and goes, and leaves no finalizer behind.
func TestPolicyKinds(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
	kube.ApplyYAML(t, meshtest.Service)
	r := newReplica(t, kube, nil)
	writeStatus(t, r)
	every := append(slices.Clone(meshtest.EveryKind), meshtest.InstanceGroup)
	require.Len(t, every, len(cluster.Kinds()), "a kind is missing here")
	for _, c := range every {
		kube.ApplyYAML(t, c.Text)
	}
	for _, c := range every {
		row := r.WaitRow(t, c.Name, "comes", meshtest.There)
		require.EqualValues(t, 1, row.Generation)
		require.NotZero(t, row.Created)
		kube.ApplyYAML(t, strings.Replace(c.Text, c.From, c.To, 1))
		r.WaitRow(t, c.Name, "changes", func(o *discovery.Object) bool { return o != nil && o.Generation == 2 })
	}
	for _, c := range every {
		kind, key, _ := strings.Cut(c.Name, " ")
		namespace, name, namespaced := strings.Cut(key, "/")
		if !namespaced {
			namespace, name = "", key
		}
		raw, err := meshtest.API(t, kube).Get().AbsPath(meshtest.PathIn(kind, namespace, name)).DoRaw(t.Context())
		require.NoError(t, err)
		var o metav1.PartialObjectMetadata
		require.NoError(t, json.Unmarshal(raw, &o))
		require.Empty(t, o.Finalizers, c.Name)
		meshtest.DeleteObject(t, kube, kind, namespace, name)
		r.WaitRow(t, c.Name, "goes", meshtest.Gone)
	}
}

// ConfigMaps are read while a policy names them, and no others.
func TestConfigMaps(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
	kube.ApplyYAML(t, meshtest.Service+`
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
	_, ok := catalog.Objects.Get(r.Catalog.Read(), "ConfigMap web/ca")
	require.True(t, ok, "synced means that what policies name is known")
	_, ok = catalog.Objects.Get(r.Catalog.Read(), "ConfigMap web/other")
	require.False(t, ok)
	configMaps := kube.Client(t).CoreV1().ConfigMaps("web")
	edit := func(body string) {
		_, err := configMaps.Patch(t.Context(), "ca", types.MergePatchType, []byte(body), metav1.PatchOptions{})
		require.NoError(t, err)
	}
	edit(`{"data":{"ca.crt":"two"}}`)
	r.WaitRow(t, "ConfigMap web/ca", "changes", func(o *discovery.Object) bool {
		text, _ := json.Marshal(o)
		return strings.Contains(string(text), "two")
	})
	edit(`{"data":{"ca.crt":null}}`)
	r.WaitRow(t, "ConfigMap web/ca", "has no certificates", meshtest.Gone)
	edit(`{"data":{"ca.crt":"three"}}`)
	r.WaitRow(t, "ConfigMap web/ca", "has certificates", meshtest.There)
	require.NoError(t, configMaps.Delete(t.Context(), "ca", metav1.DeleteOptions{}))
	r.WaitRow(t, "ConfigMap web/ca", "goes", meshtest.Gone)
	kube.ApplyYAML(t, strings.Replace(policy, "name: ca}", "name: other}", 1))
	r.WaitRow(t, "ConfigMap web/other", "is named", meshtest.There)
	meshtest.DeleteObject(t, kube, "BackendTLSPolicy", "web", "a")
	r.WaitRow(t, "ConfigMap web/other", "is named no more", meshtest.Gone)
}
