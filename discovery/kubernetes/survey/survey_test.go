package survey

import (
	"encoding/base64"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/causeway-mesh/causeway/discovery/kubernetes/inject"
	"github.com/causeway-mesh/causeway/policy/installation"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/kubetest"
)

const own = "causeway-system"

var pool = &kubetest.Pool{Prepare: func(harness.TB, *kubetest.Kube) {}}

func TestMain(m *testing.M) { kubetest.Main(m, pool) }

// verdicts judges a cluster and returns the worst verdict of each part, and all that is said.
func verdicts(t *testing.T, facts *installation.Facts) (map[installation.Part]installation.Verdict, []installation.Result) {
	t.Helper()
	results := installation.Judge(facts, time.Now())
	out := make(map[installation.Part]installation.Verdict)
	for _, r := range results {
		t.Logf("%-12s %-8s %s", r.Part, r.Verdict, r.Fact)
		of := slices.DeleteFunc(slices.Clone(results), func(o installation.Result) bool { return o.Part != r.Part })
		out[r.Part] = installation.Worst(of)
	}
	return out, results
}

func manifest(t *testing.T, path ...string) string {
	t.Helper()
	root, err := harness.Root()
	require.NoError(t, err)
	return filepath.Join(append([]string{root, "manifests"}, path...)...)
}

// A cluster as it comes, and the same with what the manifests install: what is missing is told, and then is not.
func TestSurvey(t *testing.T) {
	t.Parallel()
	k := pool.Take(t)
	client := k.Client(t)
	config := k.OfVersion(t, "v1.37.2")
	read := func() *installation.Facts {
		t.Helper()
		facts, err := Read(t.Context(), config, own)
		require.NoError(t, err)
		require.Empty(t, facts.Unknown)
		return facts
	}

	got, _ := verdicts(t, read())
	require.Equal(t, map[installation.Part]installation.Verdict{
		installation.Kubernetes: installation.OK, installation.CRDs: installation.Failed, installation.Gateway: installation.Warning,
		installation.Rights: installation.Failed, installation.Replicas: installation.Failed, installation.Leader: installation.Failed,
		installation.TLS: installation.Failed, installation.XDSService: installation.Failed, installation.Injection: installation.OK,
	}, got)

	k.ApplyCRDs(t, manifest(t, "crds"))
	k.ApplyCRDs(t, manifest(t, "gateway-api", "experimental"))
	for _, file := range []string{"namespace", "rbac", "service", "deployment"} {
		k.Apply(t, manifest(t, "install", file+".yaml"))
	}
	for _, file := range []string{"rbac", "service", "webhook"} {
		k.Apply(t, manifest(t, "inject", file+".yaml"))
	}
	authority := harness.NewAuthority(t, "mesh")
	secret := func(namespace, name string, hosts ...string) {
		t.Helper()
		c := authority.Issue(t, harness.CertificateOptions{Name: name, Hosts: hosts, Lifetime: 20 * 24 * time.Hour})
		_, err := client.CoreV1().Secrets(namespace).Create(t.Context(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Data:       map[string][]byte{"tls.crt": c.CertPEM, "tls.key": c.KeyPEM, "ca.crt": authority.CertPEM},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	secret(own, "causeway-xds-tls", "causeway.causeway-system.svc")
	secret(own, inject.SecretName, "causeway-inject.causeway-system.svc")
	// What the controllers of a whole cluster and the control plane would write.
	d, err := client.AppsV1().Deployments(own).Get(t.Context(), "causeway", metav1.GetOptions{})
	require.NoError(t, err)
	d.Status = appsv1.DeploymentStatus{Replicas: 2, ReadyReplicas: 2, UpdatedReplicas: 2, AvailableReplicas: 2}
	_, err = client.AppsV1().Deployments(own).UpdateStatus(t.Context(), d, metav1.UpdateOptions{})
	require.NoError(t, err)
	holder, seconds, renewed := "causeway-a-1", int32(15), metav1.NowMicro()
	_, err = client.CoordinationV1().Leases(own).Create(t.Context(), &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: "causeway-leader"},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: &seconds, RenewTime: &renewed},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	for _, service := range []string{"causeway", "causeway-inject"} {
		slice := &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Name: service, Labels: map[string]string{"kubernetes.io/service-name": service}},
			AddressType: discoveryv1.AddressTypeIPv4,
			Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}}, {Addresses: []string{"10.0.0.2"}}},
		}
		_, err = client.DiscoveryV1().EndpointSlices(own).Create(t.Context(), slice, metav1.CreateOptions{})
		require.NoError(t, err)
	}

	// The webhook has no caBundle yet.
	got, _ = verdicts(t, read())
	require.Equal(t, installation.Failed, got[installation.Injection])
	patch := `[{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": "` + base64.StdEncoding.EncodeToString(authority.CertPEM) + `"},
		{"op": "add", "path": "/webhooks/1/clientConfig/caBundle", "value": "` + base64.StdEncoding.EncodeToString(authority.CertPEM) + `"}]`
	_, err = client.AdmissionregistrationV1().MutatingWebhookConfigurations().Patch(t.Context(), inject.ObjectName, types.JSONPatchType, []byte(patch), metav1.PatchOptions{})
	require.NoError(t, err)
	facts := read()
	got, results := verdicts(t, facts)
	require.Equal(t, installation.OK, installation.Worst(results), "%+v", results)
	require.Len(t, got, 9)
	require.Greater(t, len(facts.Rights), 80)

	gatewayRights(t, k, client, facts, read)

	// A CRD of before, and a right that is gone.
	old := `[{"op": "remove", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/ec2"}]`
	_, err = newClients(t, config).objects.Resource(crdResource).Patch(t.Context(), "meshes.mesh.causeway.dev", types.JSONPatchType, []byte(old), metav1.PatchOptions{})
	require.NoError(t, err)
	role, err := client.RbacV1().ClusterRoles().Get(t.Context(), "causeway", metav1.GetOptions{})
	require.NoError(t, err)
	role.Rules = slices.DeleteFunc(role.Rules, func(r rbacv1.PolicyRule) bool {
		return slices.Contains(r.Resources, "configmaps") && slices.Contains(r.Verbs, "list") && len(r.ResourceNames) == 0
	})
	_, err = client.RbacV1().ClusterRoles().Update(t.Context(), role, metav1.UpdateOptions{})
	require.NoError(t, err)
	harness.Eventually(t, 20*time.Second, "the right to be gone", func() error {
		facts = read()
		if got, _ = verdicts(t, facts); got[installation.Rights] != installation.Warning {
			return errStill
		}
		return nil
	})
	require.Equal(t, installation.Failed, got[installation.CRDs])
	require.Contains(t, facts.CRDs, installation.CRD{Name: "meshes.mesh.causeway.dev", Installed: true, Served: true, Lacks: []string{"spec.ec2"}})
}

// Who should be a member and is not, in namespaces that have opted in and beside them.
func TestSurveyMembers(t *testing.T) {
	t.Parallel()
	k := pool.Take(t)
	client := k.Client(t)
	for _, name := range []string{own, "web", "shop", "other"} {
		k.Namespace(t, name)
	}
	k.ApplyYAML(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: web, labels: {mesh.causeway.dev/inject: enabled}}\n")
	k.ApplyYAML(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {mesh.causeway.dev/inject: enabled}, annotations: {mesh.causeway.dev/tls-secret: shop-mesh}}\n")
	k.ApplyYAML(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: other, labels: {mesh.causeway.dev/inject: enbled}, annotations: {mesh.causeway.dev/capturing: none}}\n")
	k.ApplyYAML(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: shop-mesh, namespace: shop}\n")
	pod := func(namespace, name, more string) {
		t.Helper()
		k.ApplyYAML(t, "apiVersion: v1\nkind: Pod\nmetadata: {name: "+name+", namespace: "+namespace+more+"}\nspec: {containers: [{name: a, image: a}], initContainers: [{name: "+
			map[bool]string{true: inject.ProxyName, false: "setup"}[more == injected]+", image: a}]}\n")
	}
	pod("web", "member", injected)
	pod("web", "php-1", "")
	pod("web", "leaves", `, labels: {mesh.causeway.dev/inject: "false"}`)
	pod("shop", "cart", injected)
	pod("other", "none", "")
	pod("other", "single", `, labels: {mesh.causeway.dev/inject: "true"}`)

	facts, err := Read(t.Context(), k.Config(), own)
	require.NoError(t, err)
	require.Empty(t, facts.Unknown)
	require.Equal(t, []installation.Namespace{
		{Name: "shop", Secret: "shop-mesh", SecretFound: true, Members: 1},
		{Name: "web", SecretFound: true, Members: 1},
	}, facts.Namespaces)
	names := func(pods []installation.Pod) (out []string) {
		for _, p := range pods {
			out = append(out, p.Namespace+"/"+p.Name)
		}
		return out
	}
	require.Equal(t, []string{"other/single", "web/php-1"}, names(facts.Absent))
	require.Equal(t, []installation.Misspelled{
		{Object: "Namespace other", Reason: "its annotation mesh.causeway.dev/capturing is none that injection knows", Remedy: "did you mean mesh.causeway.dev/capture?"},
		{Object: "Namespace other", Reason: `its label mesh.causeway.dev/inject is "enbled", which does nothing`, Remedy: `write "enabled"`},
	}, facts.Misspelled)
	k.ApplyYAML(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: causeway-ca, namespace: web}\ndata: {ca.crt: one}\n")
	k.ApplyYAML(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: causeway-inject, namespace: "+own+"}\ndata: {inject.yaml: '{image: a, capture: none, tlsSecret: mesh}'}\n")
	of, err := Members(t.Context(), k.Config(), own)
	require.NoError(t, err)
	require.Equal(t, installation.Namespace{Name: "web", Secret: "mesh", Members: 1}, of.Namespaces[1], "the Secret of the configuration is none that is there")
	require.NoError(t, client.CoreV1().ConfigMaps(own).Delete(t.Context(), "causeway-inject", metav1.DeleteOptions{}))
	of, err = Members(t.Context(), k.Config(), own)
	require.NoError(t, err)
	require.True(t, of.Namespaces[1].CAFound)
	require.Equal(t, facts.Absent, of.Absent)
	require.Equal(t, facts.Misspelled, of.Misspelled)
	require.Empty(t, of.Injected, "none has started")
	member, err := client.CoreV1().Pods("web").Get(t.Context(), "member", metav1.GetOptions{})
	require.NoError(t, err)
	member.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	_, err = client.CoreV1().Pods("web").UpdateStatus(t.Context(), member, metav1.UpdateOptions{})
	require.NoError(t, err)
	of, err = Members(t.Context(), k.Config(), own)
	require.NoError(t, err)
	require.Equal(t, []installation.Pod{{ID: string(member.UID), Namespace: "web", Name: "member", Workload: "member"}}, of.Injected)

	// Somebody with few rights hears what is not known, and why.
	few := k.UserConfig(t, "jane")
	_, err = client.RbacV1().ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "few"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{authorizationv1.GroupName}, Resources: []string{"subjectaccessreviews"}, Verbs: []string{"create"}}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	facts, err = Read(t.Context(), few, own)
	require.NoError(t, err)
	require.Len(t, facts.Unknown, 9, "all but the version")
	_, results := verdicts(t, facts)
	require.Equal(t, installation.Warning, installation.Worst(results))
}

// gatewayRights checks what is asked about the rights of managed Gateways: nothing without their role, then in all namespaces, then in the one
// where it is bound.
func gatewayRights(t *testing.T, k *kubetest.Kube, client kubernetes.Interface, facts *installation.Facts, read func() *installation.Facts) {
	t.Helper()
	ofDaemonSets := func(r installation.Right) bool {
		return r.Who == installation.ControlPlane && r.Resource == "daemonsets.apps"
	}
	wait := func(what string, want installation.Verdict) {
		t.Helper()
		harness.Eventually(t, 20*time.Second, what, func() error {
			facts = read()
			if got, _ := verdicts(t, facts); got[installation.Rights] != want {
				return errStill
			}
			return nil
		})
	}
	namespaces := func() (out []string) {
		for _, r := range facts.Rights {
			if ofDaemonSets(r) && r.Verb == "patch" {
				require.True(t, r.Allowed)
				out = append(out, r.Namespace)
			}
		}
		return out
	}
	require.False(t, slices.ContainsFunc(facts.Rights, ofDaemonSets), "no role of managed Gateways is installed")
	k.Apply(t, manifest(t, "gateways", "rbac.yaml"))
	wait("the rights of managed Gateways", installation.OK)
	require.Equal(t, []string{""}, namespaces())
	require.NoError(t, client.RbacV1().ClusterRoleBindings().Delete(t.Context(), gatewayRole, metav1.DeleteOptions{}))
	wait("the rights of managed Gateways to be gone", installation.Failed)
	_, err := client.RbacV1().RoleBindings(own).Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: gatewayRole}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: gatewayRole},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: "causeway", Namespace: own}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	wait("the rights of managed Gateways in one namespace", installation.OK)
	require.Equal(t, []string{own}, namespaces())
}

const injected = ", annotations: {mesh.causeway.dev/injected: v1}"

var errStill = errors.New("it is still there")

func newClients(t *testing.T, config *rest.Config) *survey {
	t.Helper()
	s, err := newSurvey(config, own)
	require.NoError(t, err)
	return s
}
