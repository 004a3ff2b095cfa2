package manifests_test

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/causeway-mesh/causeway/discovery/kubernetes/inject"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/kubetest"
)

const systemNamespace = "causeway-system"

// helmUser is somebody who has the chart, and rights to a cluster.
type helmUser struct {
	kube   *kubetest.Kube
	client kubernetes.Interface
	config string
}

func newHelmUser(t *testing.T) *helmUser {
	t.Helper()
	kube := kubetest.Start(t, kubetest.Options{})
	return &helmUser{kube, kube.Client(t), kube.Kubeconfig(t)}
}

// run runs a command of the documentation, with values of the user's.
func (u *helmUser) run(t *testing.T, command string, values ...string) (string, error) {
	t.Helper()
	require.Contains(t, read(t, "docs", "kubernetes.md"), command)
	args := strings.Fields(command)
	require.Equal(t, "helm", args[0])
	args = append(args[1:], "--kubeconfig", u.config)
	for i, a := range args {
		if a == "values.yaml" {
			file := filepath.Join(t.TempDir(), a)
			require.NoError(t, os.WriteFile(file, []byte(strings.Join(values, "\n")+"\n"), 0o600))
			args[i] = file
		}
	}
	return helm(t, args...)
}

func (u *helmUser) must(t *testing.T, command string, values ...string) string {
	t.Helper()
	out, err := u.run(t, command, values...)
	require.NoError(t, err, out)
	return out
}

func (u *helmUser) deployment(t *testing.T) *appsv1.Deployment {
	t.Helper()
	d, err := u.client.AppsV1().Deployments(systemNamespace).Get(t.Context(), "causeway", metav1.GetOptions{})
	require.NoError(t, err)
	return d
}

// releaseSize is the size of the newest release's Secret, as the API server counts it.
func (u *helmUser) releaseSize(t *testing.T) int {
	t.Helper()
	secrets, err := u.client.CoreV1().Secrets(systemNamespace).List(t.Context(), metav1.ListOptions{LabelSelector: "owner=helm"})
	require.NoError(t, err)
	size := 0
	for _, s := range secrets.Items {
		size = max(size, len(s.Data["release"]))
	}
	return size
}

const (
	helmInstall   = "helm install causeway manifests/chart -n causeway-system -f values.yaml"
	helmUpgrade   = "helm upgrade causeway manifests/chart -n causeway-system -f values.yaml"
	helmAdopt     = "helm upgrade --install causeway manifests/chart -n causeway-system -f values.yaml --take-ownership --force-conflicts"
	helmRollback  = "helm rollback causeway -n causeway-system"
	helmUninstall = "helm uninstall causeway -n causeway-system"
)

var usualValues = []string{
	"image: {repository: registry.example.com/platform/causeway, tag: v0.2.0}",
	"clientRules: [{uri: spiffe://example.org/ns/web/sa/*, namespaces: [web], roles: [sidecar]}]",
}

// A release's life by the documented commands: installed, upgraded, rolled back, uninstalled, installed again. The
// CRDs and what people have made of their kinds outlive it.
func TestHelmRelease(t *testing.T) {
	t.Parallel()
	u := newHelmUser(t)
	u.kube.Apply(t, manifest(t, "install", "namespace.yaml"))
	out := u.must(t, helmInstall, usualValues...)
	require.Contains(t, out, "the Secret causeway-xds-tls")
	require.NotContains(t, out, "ConfigMap")
	installed := u.deployment(t)
	require.Equal(t, "registry.example.com/platform/causeway:v0.2.0", installed.Spec.Template.Spec.Containers[0].Image)
	size := u.releaseSize(t)
	t.Logf("the release's Secret has %d bytes with the CRDs", size)
	require.Less(t, size, 500_000, "the API server takes 1 MiB")

	u.must(t, helmUpgrade, append(usualValues, "replicas: 3", "logLevel: debug", "metrics: {monitor: ServiceMonitor}")...)
	require.EqualValues(t, 3, *u.deployment(t).Spec.Replicas)
	require.Contains(t, u.deployment(t).Spec.Template.Spec.Containers[0].Args, "--log-level=debug")
	u.must(t, helmRollback)
	require.Equal(t, installed.Spec, u.deployment(t).Spec)
	u.must(t, helmUpgrade, append(usualValues, "autoscaling: {enabled: true}", "inject: {enabled: true}")...)
	_, err := u.client.AutoscalingV2().HorizontalPodAutoscalers(systemNamespace).Get(t.Context(), "causeway", metav1.GetOptions{})
	require.NoError(t, err)

	// The CAs that Causeway has written into the webhook's configuration stay, over an upgrade that changes it.
	webhooks := u.client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	_, err = webhooks.Patch(t.Context(), inject.ObjectName, types.JSONPatchType,
		[]byte(`[{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": "`+base64.StdEncoding.EncodeToString(harness.NewAuthority(t, "webhook").CertPEM)+`"}]`),
		metav1.PatchOptions{FieldManager: "causeway"})
	require.NoError(t, err)
	u.must(t, helmUpgrade, append(usualValues, "inject: {enabled: true, timeoutSeconds: 3}")...)
	webhook, err := webhooks.Get(t.Context(), inject.ObjectName, metav1.GetOptions{})
	require.NoError(t, err)
	require.EqualValues(t, 3, *webhook.Webhooks[0].TimeoutSeconds)
	require.NotEmpty(t, webhook.Webhooks[0].ClientConfig.CABundle)
	// Who leaves the CRDs out from now on keeps them.
	u.must(t, helmUpgrade, append(usualValues, "inject: {enabled: true}", "crds: {enabled: false}")...)

	u.kube.Namespace(t, "web")
	u.kube.ApplyYAML(t, "apiVersion: mesh.causeway.dev/v1alpha1\nkind: ExternalService\nmetadata: {name: pay, namespace: web}\n"+
		"spec: {hosts: [pay.example.com], ports: [{number: 443, protocol: TCP}]}\n")
	u.must(t, helmUninstall)
	_, err = u.client.AppsV1().Deployments(systemNamespace).Get(t.Context(), "causeway", metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), "%v", err)
	_, err = u.client.RbacV1().ClusterRoles().Get(t.Context(), "causeway", metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), "%v", err)
	_, err = webhooks.Get(t.Context(), inject.ObjectName, metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), "pods are made without asking anybody: %v", err)
	objects, err := dynamic.NewForConfig(u.kube.Config())
	require.NoError(t, err)
	_, err = objects.Resource(v1alpha1.GroupVersion().WithResource("externalservices")).Namespace("web").Get(t.Context(), "pay", metav1.GetOptions{})
	require.NoError(t, err, "the CRDs stay, and so do their objects")

	// An installation that has the CRDs already, and one that makes them, have the parameters of managed Gateways.
	u.must(t, helmInstall, append(usualValues, managedGateways)...)
	u.parameters(t, 2)
	u.must(t, helmUpgrade, append(usualValues, strings.Replace(managedGateways, "replicas: 2", "replicas: 3", 1))...)
	u.parameters(t, 3)
	u.must(t, helmUninstall)

	u.must(t, helmInstall, append(usualValues, "crds: {enabled: false}")...)
	t.Logf("the release's Secret has %d bytes without the CRDs", u.releaseSize(t))
	u.must(t, helmUninstall)

	// An API server takes what the chart makes with every value set, but for kinds of others.
	u.kube.Namespace(t, "shop")
	u.kube.ApplyYAML(t, rendered(t, "--values", "test/manifests/testdata/chart/values.yaml",
		"--set", "crds.enabled=false,tls.certManager.enabled=false,gatewayClass.create=false"))
}

const managedGateways = "gateways: {managed: true, parameters: {image: agent, replicas: 2}}"

// parameters checks those of the class causeway.
func (u *helmUser) parameters(t *testing.T, replicas int64) {
	t.Helper()
	objects, err := dynamic.NewForConfig(u.kube.Config())
	require.NoError(t, err)
	o, err := objects.Resource(v1alpha1.GroupVersion().WithResource("gatewayparameters")).Namespace(systemNamespace).Get(t.Context(), "causeway", metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, map[string]any{"managed": true, "image": "agent", "replicas": replicas}, o.Object["spec"])
}

// The first installation makes the CRDs and the parameters of managed Gateways, which are the release's own from the
// next upgrade on.
func TestHelmManagedGateways(t *testing.T) {
	t.Parallel()
	u := newHelmUser(t)
	u.kube.Namespace(t, systemNamespace)
	u.must(t, helmInstall, append(usualValues, managedGateways)...)
	u.parameters(t, 2)
	u.must(t, helmUpgrade, append(usualValues, strings.Replace(managedGateways, "replicas: 2", "replicas: 3", 1))...)
	u.parameters(t, 3)
	u.must(t, helmUpgrade, append(usualValues, strings.Replace(managedGateways, "replicas: 2", "replicas: 4", 1))...)
	u.parameters(t, 4)
	u.must(t, helmUninstall)
	objects, err := dynamic.NewForConfig(u.kube.Config())
	require.NoError(t, err)
	_, err = objects.Resource(v1alpha1.GroupVersion().WithResource("gatewayparameters")).Namespace(systemNamespace).Get(t.Context(), "causeway", metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), "%v", err)
}

// An installation by the plain YAML becomes a release of Helm's without a restart, and goes back.
func TestHelmTakesOver(t *testing.T) {
	t.Parallel()
	u := newHelmUser(t)
	files := release(t, "crds", "install", "inject", ".")
	require.NoError(t, files.WriteFile("/mesh/client-rules.yaml", []byte(read(t, "manifests", "examples", "install", "client-rules.yaml"))))
	require.NoError(t, files.WriteFile("/mesh/kustomization.yaml", []byte(`
resources: [../release, client-rules.yaml]
components: [../release/inject]
images: [{name: causeway, newName: registry.example.com/platform/causeway, newTag: v0.2.0}]
`)))
	plain := build(t, files, "/mesh")
	u.kube.ApplyYAML(t, plain)
	before := u.deployment(t)

	// Without being told Helm takes nothing that is not its own.
	_, err := u.run(t, helmInstall, usualValues...)
	require.Error(t, err)

	values := append([]string{"inject: {enabled: true}"}, usualValues...)
	u.must(t, helmAdopt, values...)
	after := u.deployment(t)
	require.Equal(t, before.UID, after.UID)
	require.Equal(t, before.Spec, after.Spec, "no pod is replaced")
	rules, err := u.client.CoreV1().ConfigMaps(systemNamespace).Get(t.Context(), "causeway-client-rules", metav1.GetOptions{})
	require.NoError(t, err)
	require.Contains(t, rules.Data["rules.yaml"], "spiffe://example.org/ns/web/sa/*")

	// What the plain YAML stated is its manager's, until Helm has once changed it by force.
	more := slices.Concat(values, []string{"replicas: 4"})
	out, err := u.run(t, helmUpgrade, more...)
	require.Error(t, err)
	require.Contains(t, out, "conflict with \"causeway-harness\": .spec.replicas")
	u.must(t, helmAdopt, more...)
	u.must(t, helmUpgrade, append(values, "replicas: 5")...)
	require.EqualValues(t, 5, *u.deployment(t).Spec.Replicas)

	// And back: Helm forgets the release, and the plain YAML is applied as before.
	require.Contains(t, read(t, "docs", "kubernetes.md"), "kubectl -n causeway-system delete secret -l owner=helm,name=causeway")
	require.NoError(t, u.client.CoreV1().Secrets(systemNamespace).DeleteCollection(t.Context(), metav1.DeleteOptions{},
		metav1.ListOptions{LabelSelector: "owner=helm,name=causeway"}))
	u.kube.ApplyYAML(t, plain)
	require.Equal(t, before.Spec.Replicas, u.deployment(t).Spec.Replicas)
	require.Equal(t, before.UID, u.deployment(t).UID)
}
