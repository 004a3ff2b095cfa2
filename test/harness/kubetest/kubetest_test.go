package kubetest_test

import (
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/kubetest"
)

func clientset(t *testing.T, c *rest.Config) kubernetes.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(c)
	require.NoError(t, err)
	return client
}

const widgets = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Widget, plural: widgets, singular: widget, listKind: WidgetList}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer}}}}}}
`

func TestKube(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	k := kubetest.Start(t, kubetest.Options{AuditEverything: true})
	admin := clientset(t, k.Config())

	k.Namespace(t, "web")
	service, err := admin.CoreV1().Services("web").Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "php"},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	require.True(t, netip.MustParsePrefix("10.96.0.0/16").Contains(netip.MustParseAddr(service.Spec.ClusterIP)))

	address := harness.Addresses(t, 1)[0].String()
	_, err = admin.DiscoveryV1().EndpointSlices("web").Create(ctx, &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "php-1", Labels: map[string]string{discoveryv1.LabelServiceName: "php"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{address}}},
	}, metav1.CreateOptions{})
	require.NoError(t, err, "the API accepts the harness' addresses")

	// Another user may do what RBAC says and no more.
	k.ApplyYAML(t, `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reader}
rules: [{apiGroups: [""], resources: [services], verbs: [get, list, watch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reader}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: User, name: jo}
- {kind: ServiceAccount, namespace: web, name: causeway}
`)
	for name, config := range map[string]*rest.Config{
		"user":            k.UserConfig(t, "jo", "sre"),
		"service account": k.ServiceAccountConfig(t, "web", "causeway"),
	} {
		client := clientset(t, config)
		harness.Eventually(t, 5*time.Second, "RBAC to let the "+name+" read", func() error {
			_, err := client.CoreV1().Services("web").Get(ctx, "php", metav1.GetOptions{})
			return err
		})
		_, err = client.CoreV1().Secrets("web").List(ctx, metav1.ListOptions{})
		require.True(t, apierrors.IsForbidden(err), "%s: %v", name, err)
	}

	// A kubeconfig is as good as the Config.
	fromFile, err := clientcmd.BuildConfigFromFlags("", k.Kubeconfig(t))
	require.NoError(t, err)
	_, err = clientset(t, fromFile).CoreV1().Services("web").Get(ctx, "php", metav1.GetOptions{})
	require.NoError(t, err)

	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "widgets.yaml"), []byte(widgets), 0o600))
	k.ApplyCRDs(t, dir)
	k.ApplyYAML(t, "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec: {size: 3}\n")

	// Faults before the API.
	proxy := k.Proxy(t, harness.ProxyHTTP)
	through := clientset(t, kubetest.Via(k.Config(), proxy))
	_, err = through.CoreV1().Services("web").Get(ctx, "php", metav1.GetOptions{})
	require.NoError(t, err)
	proxy.Fail(1, harness.Answer{Status: http.StatusForbidden}, nil)
	_, err = through.CoreV1().Services("web").Get(ctx, "php", metav1.GetOptions{})
	require.True(t, apierrors.IsForbidden(err), "%v", err)
	proxy.Cut()
	_, err = through.CoreV1().Services("web").Get(ctx, "php", metav1.GetOptions{})
	require.Error(t, err)
	proxy.Restore(t)
	_, err = through.CoreV1().Services("web").Get(ctx, "php", metav1.GetOptions{})
	require.NoError(t, err)

	// What is gone is gone, what was stored is not.
	pid := k.Server().PID()
	k.Kill9()
	harness.RequireGone(t, pid)
	_, err = admin.CoreV1().Services("web").Get(ctx, "php", metav1.GetOptions{})
	require.Error(t, err)
	k.Compact(t)
	k.Restart(t)
	again, err := admin.CoreV1().Services("web").Get(ctx, "php", metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, service.UID, again.UID)

	w, err := admin.CoreV1().Services("web").Watch(ctx, metav1.ListOptions{ResourceVersion: service.ResourceVersion})
	if err == nil {
		event := <-w.ResultChan()
		w.Stop()
		err = apierrors.FromObject(event.Object)
	}
	require.True(t, apierrors.IsResourceExpired(err) || apierrors.IsGone(err), "an old watch is told so: %v", err)

	var audited bool
	for _, e := range k.AuditLog(t) {
		audited = audited || e.User.Username == "jo" && e.Verb == "get"
	}
	require.True(t, audited)
}
