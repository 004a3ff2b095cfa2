package kubernetes

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/meshtest"
)

// Secrets are read while a Gateway of ours names them and may do so, and no
// others; a rotation is one change of one row.
func TestCertificates(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
	kube.Namespace(t, "certs")
	meshtest.BindSecrets(t, kube, "web")
	meshtest.BindSecrets(t, kube, "certs")
	kube.ApplyYAML(t, meshtest.Certificate("web", "tls", "one", "key one"))
	kube.ApplyYAML(t, meshtest.Certificate("web", "other", "one", "key one"))
	kube.ApplyYAML(t, meshtest.Certificate("certs", "wildcard", "one", "key one"))
	kube.ApplyYAML(t, meshtest.Gateway)
	r := newReplica(t, kube, nil)
	row := r.WaitRow(t, "Secret web/tls", "is named", meshtest.There)
	require.Equal(t, &corev1.Secret{
		ObjectMeta: row.Spec.(*corev1.Secret).ObjectMeta, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{"tls.crt": []byte("one"), "tls.key": []byte("key one")},
	}, row.Spec, "of what it holds no more than chain and key is kept")
	require.Empty(t, row.Spec.(*corev1.Secret).Annotations)
	_, ok := catalog.Objects.Get(r.Catalog.Read(), "Secret web/other")
	require.False(t, ok)
	r.WaitRow(t, "Namespace web", "has a label", func(o *discovery.Object) bool {
		return o != nil && o.Spec.(*corev1.Namespace).Labels["kubernetes.io/metadata.name"] == "web"
	})

	// Rotation is one change of one row, and what is no certificate is none.
	feed := r.Catalog.Subscribe()
	defer feed.Close()
	_, err := feed.Next(t.Context())
	require.NoError(t, err)
	kube.ApplyYAML(t, strings.Replace(meshtest.Certificate("web", "tls", "two", "key two"), "metadata: {", "metadata: {annotations: {rotated: now}, ", 1))
	r.WaitRow(t, "Secret web/tls", "is rotated", func(o *discovery.Object) bool { return meshtest.ChainOf(o) == "two" })
	kube.ApplyYAML(t, strings.Replace(meshtest.Certificate("web", "tls", "two", "key two"), "metadata: {", "metadata: {annotations: {rotated: again}, ", 1))
	kube.ApplyYAML(t, strings.Replace(meshtest.Gateway, "443", "444", 1))
	r.WaitRow(t, "Gateway web/edge", "changes after", func(o *discovery.Object) bool { return o.Generation == 2 })
	changes := 0
	for generation := int64(1); generation < 2; {
		b, err := feed.Next(t.Context())
		require.NoError(t, err)
		for _, ch := range b.Changes {
			switch o, _ := ch.After.(*discovery.Object); {
			case o == nil:
			case o.Kind == "Secret":
				changes++
				require.Equal(t, "Secret web/tls", o.Name().String())
			case o.Kind == "Gateway":
				generation = o.Generation
			}
		}
	}
	require.Equal(t, 1, changes)

	// Another namespace has to agree.
	kube.ApplyYAML(t, strings.Replace(meshtest.Gateway, "{name: tls}", "{name: tls}, {name: wildcard, namespace: certs}", 1))
	r.WaitRow(t, "Gateway web/edge", "names it", func(o *discovery.Object) bool { return len(o.Refs) == 3 })
	_, ok = catalog.Objects.Get(r.Catalog.Read(), "Secret certs/wildcard")
	require.False(t, ok)
	kube.ApplyYAML(t, `
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: edge, namespace: certs}
spec:
  from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: web}]
  to: [{group: "", kind: Secret, name: wildcard}]
`)
	r.WaitRow(t, "Secret certs/wildcard", "is granted", meshtest.There)
	meshtest.DeleteObject(t, kube, "ReferenceGrant", "certs", "edge")
	r.WaitRow(t, "Secret certs/wildcard", "is granted no more", meshtest.Gone)

	// A class of another controller's makes the Gateway another one's.
	kube.ApplyYAML(t, `
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: causeway}
spec: {controllerName: example.com/another}
`)
	r.WaitRow(t, "Secret web/tls", "is not ours to read", meshtest.Gone)
	meshtest.DeleteObject(t, kube, "GatewayClass", "", "causeway")
	r.WaitRow(t, "Secret web/tls", "is ours again", meshtest.There)
	meshtest.DeleteObject(t, kube, "Secret", "web", "tls")
	r.WaitRow(t, "Secret web/tls", "goes", meshtest.Gone)
	kube.ApplyYAML(t, meshtest.Certificate("web", "tls", "three", "key three"))
	r.WaitRow(t, "Secret web/tls", "comes back", meshtest.There)
	meshtest.DeleteObject(t, kube, "Gateway", "web", "edge")
	r.WaitRow(t, "Secret web/tls", "is named no more", meshtest.Gone)
}

// With the rights that come with the program no Secret can be read; each binding
// of the role opens one namespace, or a Role one Secret. What was read stays when a
// right is taken away, and nothing of it is ever logged.
func TestCertificateRefused(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
	kube.ApplyYAML(t, meshtest.Certificate("web", "tls", "chain one", "key one"))
	kube.ApplyYAML(t, meshtest.Gateway)
	log := &harness.Log{}
	r := meshtest.NewReplica(t, kube, nil, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		func(c *cluster.Client) catalog.Source { return NewSource(c) }) // is ready all the same
	row := r.WaitRow(t, "Secret web/tls", "is refused", meshtest.There)
	require.Equal(t, "the control plane may not read it: bind the ClusterRole causeway-gateway-secrets to its service account in namespace web", row.Unreadable)
	r.WaitNote(t, cluster.ScopeSecrets, "may not list and watch these Secrets, which Gateways name: web/tls")

	// A Role may be as narrow as the name of the Secret.
	kube.ApplyYAML(t, `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: causeway-certificate, namespace: web}
rules:
- {apiGroups: [""], resources: [secrets], resourceNames: [tls], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: causeway-certificate, namespace: web}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: causeway-certificate}
subjects: [{kind: ServiceAccount, name: causeway, namespace: causeway-system}]
`)
	row = r.WaitRow(t, "Secret web/tls", "may be read", func(o *discovery.Object) bool { return meshtest.ChainOf(o) == "chain one" })
	require.Empty(t, row.Unreadable)
	r.WaitNote(t, cluster.ScopeSecrets, "")
	bindings := kube.Client(t).RbacV1().RoleBindings("web")
	require.NoError(t, bindings.Delete(t.Context(), "causeway-certificate", metav1.DeleteOptions{}))

	// The role that comes with the program, in one namespace.
	meshtest.BindSecrets(t, kube, "web")
	kube.ApplyYAML(t, meshtest.Certificate("web", "more", "chain more", "key more"))
	kube.ApplyYAML(t, strings.Replace(meshtest.Gateway, "{name: tls}", "{name: tls}, {name: more}", 1))
	r.WaitRow(t, "Secret web/more", "may be read", func(o *discovery.Object) bool { return meshtest.ChainOf(o) == "chain more" })
	require.NoError(t, bindings.Delete(t.Context(), "causeway-gateway-secrets", metav1.DeleteOptions{}))
	kube.ApplyYAML(t, meshtest.Certificate("web", "third", "chain third", "key third"))
	kube.ApplyYAML(t, strings.Replace(meshtest.Gateway, "{name: tls}", "{name: tls}, {name: more}, {name: third}", 1))
	r.WaitRow(t, "Secret web/third", "is refused", func(o *discovery.Object) bool { return o != nil && o.Unreadable != "" })
	require.Equal(t, "chain more", meshtest.ChainOf(r.WaitRow(t, "Secret web/more", "stays", meshtest.There)))
	for _, secret := range []string{"chain one", "key one", "chain more", "key more", "key third"} {
		require.NotContains(t, log.String(), secret)
	}
}

// What was read of a certificate serves on while the API server is away.
func TestCertificatesOutliveTheAPIServer(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
	meshtest.BindSecrets(t, kube, "web")
	kube.ApplyYAML(t, meshtest.Certificate("web", "tls", "one", "key one"))
	kube.ApplyYAML(t, meshtest.Gateway)
	r := newReplica(t, kube, nil)
	r.WaitRow(t, "Secret web/tls", "is read", meshtest.There)
	kube.Kill9()
	harness.Eventually(t, time.Minute, "the source says that it cannot read", func() error {
		if st, ok := catalog.Sources.Get(r.Catalog.Read(), "kubernetes/gateways"); !ok || st.Error == "" {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
	row, ok := catalog.Objects.Get(r.Catalog.Read(), "Secret web/tls")
	require.True(t, ok)
	require.Equal(t, "one", meshtest.ChainOf(row))
	kube.Restart(t)
	kube.ApplyYAML(t, meshtest.Certificate("web", "tls", "two", "key two"))
	r.WaitRow(t, "Secret web/tls", "is read again", func(o *discovery.Object) bool { return meshtest.ChainOf(o) == "two" })
}

// Only what a Gateway may name is read, whatever the order in which its class,
// grants and references become known.
func TestCertificateSecrets(t *testing.T) {
	t.Parallel()
	cat := catalog.New()
	put := func(o *discovery.Object) {
		_, err := cat.Write(time.Now(), func(tx *catalog.Tx) error {
			catalog.Objects.Put(tx, o)
			return nil
		})
		require.NoError(t, err)
	}
	named := func() []string {
		var out []string
		for key := range certificateSecrets(cat.Read()) {
			out = append(out, key.String())
		}
		return out
	}
	put(&discovery.Object{
		Kind: "Gateway", Key: discovery.Key{Namespace: "web", Name: "edge"},
		Spec: &gatewayv1.Gateway{Spec: gatewayv1.GatewaySpec{GatewayClassName: "public"}},
		Refs: []discovery.ObjectName{
			{Kind: "GatewayClass", Key: discovery.Key{Name: "public"}},
			{Kind: "Secret", Key: discovery.Key{Namespace: "certs", Name: "a"}},
			{Kind: "Secret", Key: discovery.Key{Namespace: "certs", Name: "b"}},
			{Kind: "Secret", Key: discovery.Key{Namespace: "web", Name: "tls"}},
		},
	})
	require.Empty(t, named(), "a class that is not there is not ours")
	class := func(controller gatewayv1.GatewayController) {
		put(&discovery.Object{
			Kind: "GatewayClass", Key: discovery.Key{Name: "public"},
			Spec: &gatewayv1.GatewayClass{Spec: gatewayv1.GatewayClassSpec{ControllerName: controller}},
		})
	}
	class("example.com/another")
	require.Empty(t, named())
	class(v1alpha1.ControllerName)
	require.Equal(t, []string{"web/tls"}, named())
	grant := func(name string, from gatewayv1.ReferenceGrantFrom, to gatewayv1.ReferenceGrantTo) {
		put(&discovery.Object{
			Kind: "ReferenceGrant", Key: discovery.Key{Namespace: "certs", Name: name},
			Spec: &gatewayv1.ReferenceGrant{Spec: gatewayv1.ReferenceGrantSpec{From: []gatewayv1.ReferenceGrantFrom{from}, To: []gatewayv1.ReferenceGrantTo{to}}},
		})
	}
	a := gatewayv1.ObjectName("a")
	grant("of routes", gatewayv1.ReferenceGrantFrom{Group: gatewayv1.GroupName, Kind: "HTTPRoute", Namespace: "web"}, gatewayv1.ReferenceGrantTo{Kind: "Secret"})
	grant("to Services", gatewayv1.ReferenceGrantFrom{Group: gatewayv1.GroupName, Kind: "Gateway", Namespace: "web"}, gatewayv1.ReferenceGrantTo{Kind: "Service"})
	grant("to others", gatewayv1.ReferenceGrantFrom{Group: gatewayv1.GroupName, Kind: "Gateway", Namespace: "shop"}, gatewayv1.ReferenceGrantTo{Kind: "Secret"})
	require.Equal(t, []string{"web/tls"}, named())
	grant("one", gatewayv1.ReferenceGrantFrom{Group: gatewayv1.GroupName, Kind: "Gateway", Namespace: "web"}, gatewayv1.ReferenceGrantTo{Kind: "Secret", Name: &a})
	require.ElementsMatch(t, []string{"web/tls", "certs/a"}, named())
	grant("all", gatewayv1.ReferenceGrantFrom{Group: gatewayv1.GroupName, Kind: "Gateway", Namespace: "web"}, gatewayv1.ReferenceGrantTo{Kind: "Secret"})
	require.ElementsMatch(t, []string{"web/tls", "certs/a", "certs/b"}, named())
}
