package manifests_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/discovery/kubernetes/inject"
)

// Injection is a component of a user's kustomization, and its objects have the names that the program looks for.
func TestInjectionComponent(t *testing.T) {
	t.Parallel()
	files := release(t, "crds", "install", "inject", ".")
	require.NoError(t, files.WriteFile("/mesh/inject.yaml", []byte("image: agent:v1\nserviceCIDRs: [10.96.0.0/12]\n")))
	require.NoError(t, files.WriteFile("/mesh/kustomization.yaml", []byte(`
resources: [../release]
components: [../release/inject]
images: [{name: causeway, newName: registry.example.com/causeway, newTag: v7}]
configMapGenerator:
- {name: causeway-inject, namespace: causeway-system, files: [inject.yaml]}
generatorOptions: {disableNameSuffixHash: true}
`)))
	text := build(t, files, "/mesh")
	spec := objectsOf[appsv1.Deployment](t, text, "Deployment")["causeway"].Spec.Template.Spec
	require.Contains(t, spec.Containers[0].Args, "--inject-listen=:9443")
	require.Contains(t, spec.Containers[0].Ports, corev1.ContainerPort{Name: "inject", ContainerPort: 9443})
	config := objectsOf[corev1.ConfigMap](t, text, "ConfigMap")[inject.ObjectName]
	_, err := inject.ParseConfig([]byte(config.Data["inject.yaml"]), "causeway-system", "v1")
	require.NoError(t, err)
	require.Contains(t, objectsOf[corev1.Service](t, text, "Service"), inject.ObjectName)

	webhooks := objectsOf[admissionregistrationv1.MutatingWebhookConfiguration](t, text, "MutatingWebhookConfiguration")[inject.ObjectName].Webhooks
	require.Len(t, webhooks, 2)
	for _, w := range webhooks {
		require.Equal(t, admissionregistrationv1.Fail, *w.FailurePolicy)
		require.Equal(t, inject.Path, *w.ClientConfig.Service.Path)
		require.Equal(t, inject.ObjectName, w.ClientConfig.Service.Name)
		require.NotEmpty(t, w.NamespaceSelector.MatchExpressions)
	}

	// The rights are for one Secret and one configuration, and for creating Secrets in the control plane's own namespace.
	for name, rules := range map[string][]rbacv1.PolicyRule{
		inject.SecretName: objectsOf[rbacv1.Role](t, text, "Role")[inject.ObjectName].Rules,
		inject.ObjectName: objectsOf[rbacv1.ClusterRole](t, text, "ClusterRole")[inject.ObjectName].Rules,
	} {
		require.NotEmpty(t, rules)
		for _, rule := range rules {
			if len(rule.Verbs) != 1 || rule.Verbs[0] != "create" {
				require.Equal(t, []string{name}, rule.ResourceNames)
			}
		}
	}
}

// The configuration that the documentation shows is one.
func TestInjectionDocument(t *testing.T) {
	t.Parallel()
	var whole inject.Config
	_, text, found := strings.Cut(read(t, "docs", "members.md"), "```yaml\nimage:")
	require.True(t, found)
	text, _, _ = strings.Cut("image:"+text, "```")
	require.NoError(t, yaml.UnmarshalStrict([]byte(text), &whole))
	defaults, err := inject.ParseConfig([]byte("image: "+whole.Image+"\nserviceCIDRs: [10.96.0.0/12]\nimagePullPolicy: IfNotPresent\nexcludeOutboundPorts: []\nexcludeOutboundCIDRs: []\nexcludeInboundPorts: []\n"), "", "")
	require.NoError(t, err)
	defaults.Servers, defaults.TLSServerName = whole.Servers, whole.TLSServerName
	require.Equal(t, *defaults, whole, "the document shows the defaults")
}
