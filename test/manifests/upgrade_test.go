package manifests_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/test/harness/kubetest"
)

// build returns what `kubectl apply -k` would apply of a directory.
func build(t *testing.T, files filesys.FileSystem, dir string) string {
	t.Helper()
	options := krusty.MakeDefaultOptions()
	options.LoadRestrictions = types.LoadRestrictionsRootOnly
	built, err := krusty.MakeKustomizer(options).Run(files, dir)
	require.NoError(t, err)
	text, err := built.AsYaml()
	require.NoError(t, err)
	return string(text)
}

// objectsOf returns the objects of a kind in a text of several documents, by name.
func objectsOf[T any](t *testing.T, text, kind string) map[string]*T {
	t.Helper()
	out := make(map[string]*T)
	for document := range strings.SplitSeq(text, "\n---\n") {
		var head metav1.PartialObjectMetadata
		require.NoError(t, yaml.Unmarshal([]byte(document), &head))
		if head.Kind == kind {
			o := new(T)
			require.NoError(t, yaml.Unmarshal([]byte(document), o))
			out[head.Name] = o
		}
	}
	return out
}

// What an upgrade replaces has nothing that a user owns: no client rules and
// no image that exists.
func TestManifestsHaveNothingOfTheUsers(t *testing.T) {
	t.Parallel()
	text := build(t, filesys.MakeFsOnDisk(), filepath.Join(root(t), "manifests"))
	require.Empty(t, objectsOf[corev1.ConfigMap](t, text, "ConfigMap"))
	require.Empty(t, objectsOf[corev1.Secret](t, text, "Secret"))
	deployments := objectsOf[appsv1.Deployment](t, text, "Deployment")
	require.Len(t, deployments, 1)
	require.Equal(t, "causeway:set-your-image-in-a-kustomization", deployments["causeway"].Spec.Template.Spec.Containers[0].Image)
	// Pods that never start take no replica away.
	require.Zero(t, deployments["causeway"].Spec.Strategy.RollingUpdate.MaxUnavailable.IntValue())
}

// manifestsOfARelease is the first resource of the example of an installation.
const manifestsOfARelease = "github.com/causeway-mesh/causeway/manifests?ref=v0.2.0"

// A copy of the example renders wherever it lies, with the manifests and the image of one release.
func TestExampleOfAnInstallation(t *testing.T) {
	t.Parallel()
	text := read(t, "manifests", "examples", "install", "kustomization.yaml")
	require.Contains(t, text, "- "+manifestsOfARelease+" # CHANGE\n")
	require.Contains(t, text, "newTag: "+manifestsOfARelease[strings.LastIndex(manifestsOfARelease, "=")+1:]+"\n")
	files := release(t, "crds", "install", ".")
	require.NoError(t, files.WriteFile("/copy/kustomization.yaml", []byte(strings.Replace(text, manifestsOfARelease, "../release", 1))))
	require.NoError(t, files.WriteFile("/copy/client-rules.yaml", []byte(read(t, "manifests", "examples", "install", "client-rules.yaml"))))
	deployments := objectsOf[appsv1.Deployment](t, build(t, files, "/copy"), "Deployment")
	require.Equal(t, "registry.example.com/platform/causeway:v0.2.0", deployments["causeway"].Spec.Template.Spec.Containers[0].Image)
}

// An upgrade of the documented way leaves the user's image and client rules.
func TestUpgradeKeepsWhatIsTheUsers(t *testing.T) {
	t.Parallel()
	// The user's copy of the example, beside the manifests of a release.
	files := release(t, "crds", "install", ".")
	edit := func(name string, pairs ...string) {
		text := read(t, "manifests", "examples", "install", name)
		for i := 0; i < len(pairs); i += 2 {
			require.Contains(t, text, pairs[i])
		}
		require.NoError(t, files.WriteFile("/mesh/"+name, []byte(strings.NewReplacer(pairs...).Replace(text))))
	}
	edit("kustomization.yaml", manifestsOfARelease, "../release", "newName: registry.example.com/platform/causeway", "newName: ecr.example.com/causeway", "newTag: v0.2.0", "newTag: v7")
	edit("client-rules.yaml", "/ns/web/sa/*", "/ns/shop/sa/*")

	kube := kubetest.Start(t, kubetest.Options{})
	kube.ApplyYAML(t, build(t, files, "/mesh"))
	client := kube.Client(t)
	check := func() {
		t.Helper()
		deployment, err := client.AppsV1().Deployments("causeway-system").Get(t.Context(), "causeway", metav1.GetOptions{})
		require.NoError(t, err)
		require.Equal(t, "ecr.example.com/causeway:v7", deployment.Spec.Template.Spec.Containers[0].Image)
		rules, err := client.CoreV1().ConfigMaps("causeway-system").Get(t.Context(), "causeway-client-rules", metav1.GetOptions{})
		require.NoError(t, err)
		require.Contains(t, rules.Data["rules.yaml"], "/ns/shop/sa/*")
	}
	check()

	// The release after: another flag in its Deployment.
	release, err := files.ReadFile("/release/install/deployment.yaml")
	require.NoError(t, err)
	require.NoError(t, files.WriteFile("/release/install/deployment.yaml",
		[]byte(strings.Replace(string(release), "        - --http-listen=:8080\n", "        - --http-listen=:8080\n        - --log-level=info\n", 1))))
	kube.ApplyYAML(t, build(t, files, "/mesh"))
	check()
	deployment, err := client.AppsV1().Deployments("causeway-system").Get(t.Context(), "causeway", metav1.GetOptions{})
	require.NoError(t, err)
	require.Contains(t, deployment.Spec.Template.Spec.Containers[0].Args, "--log-level=info")

	// Whoever applies the manifests alone leaves the rules, too.
	kube.ApplyYAML(t, build(t, files, "/release"))
	rules, err := client.CoreV1().ConfigMaps("causeway-system").Get(t.Context(), "causeway-client-rules", metav1.GetOptions{})
	require.NoError(t, err)
	require.Contains(t, rules.Data["rules.yaml"], "/ns/shop/sa/*")
}

// The documents know one way to apply what is installed.
func TestInstallCommandsAgree(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"README.md", "docs/kubernetes.md", "docs/migration.md", "docs/operations.md", "docs/edge.md", "manifests/kustomization.yaml", "manifests/examples/install/kustomization.yaml"} {
		for i, line := range strings.Split(read(t, name), "\n") {
			if strings.Contains(line, "kubectl apply") && strings.Contains(line, "manifests") || strings.Contains(line, "apply -k") {
				require.Contains(t, line, "--server-side", "%s:%d", name, i+1)
				require.NotContains(t, line, "-k manifests", "%s:%d", name, i+1)
			}
		}
	}
}
