package file

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
)

func loadAll(t *testing.T, stdin string, paths ...string) *Loaded {
	t.Helper()
	loaded, err := LoadAll(paths, strings.NewReader(stdin), catalog.New())
	require.NoError(t, err)
	return loaded
}

func writeFiles(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

// Files, directories and the standard input are read together.
func TestLoadAll(t *testing.T) {
	dir := writeFiles(t, map[string]string{"a.yaml": serviceYAML, "sub/b.txt": groupYAML})
	loaded := loadAll(t, routeYAML, filepath.Join(dir, "a.yaml"), filepath.Join(dir, "sub/b.txt"), Stdin)
	require.Empty(t, loaded.Problems)
	require.Equal(t, 3, loaded.Files)
	var names []string
	for _, w := range loaded.Written() {
		names = append(names, w.String())
	}
	require.ElementsMatch(t, []string{"Service web/php-web", "InstanceGroup web/ec2", "HTTPRoute web/php-web"}, names)
	require.Equal(t, "stdin:9", loaded.Line(discovery.ObjectRef{Kind: "HTTPRoute", Key: discovery.Key{Namespace: "web", Name: "php-web"}}, "spec.rules[0].timeouts"))

	_, err := LoadAll([]string{filepath.Join(dir, "nowhere")}, nil, catalog.New())
	require.ErrorContains(t, err, "there is no such file or directory")
}

// What is none of the mesh's is named, and what is not read too.
func TestLoadAllNamesWhatItPassesOver(t *testing.T) {
	dir := writeFiles(t, map[string]string{
		"a.yaml":             serviceYAML + "---\napiVersion: apps/v1\nkind: Deployment\n---\napiVersion: v1\nkind: ServiceAccount\n",
		"b.ymal":             serviceYAML,
		"c.yaml.bak":         serviceYAML,
		"README.md":          "#",
		"kustomization.yaml": "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n",
		"route.yaml":         "apiVersion: networking.k8s.io/v1\nkind: HTTPRoute\n",
		"knative.yaml":       "apiVersion: serving.knative.dev/v1\nkind: Service\n",
		"values.yaml":        "replicas: 3\n",
	})
	loaded := loadAll(t, "", dir)
	require.Empty(t, loaded.Problems)
	suspect := map[string]bool{"b.ymal": true, "c.yaml.bak": true, "route.yaml:1": true}
	var where []string
	for _, p := range loaded.Passed {
		where = append(where, p.Where())
		require.Equal(t, suspect[p.Where()], p.Suspect, "%+v", p)
	}
	require.ElementsMatch(t, []string{
		"a.yaml:8", "a.yaml:11", "b.ymal", "c.yaml.bak", "README.md", "kustomization.yaml:1", "route.yaml:1", "knative.yaml:1", "values.yaml:1",
	}, where)
}

// A field's line is told, that of an item of a List too, and of a key in an annotation.
func TestLine(t *testing.T) {
	loaded := loadAll(t, "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata:\n    name: a\n    annotations:\n      x: z\n      mesh.causeway.dev/home: Pods\n"+
		"  spec:\n    ports:\n    - name: http\n      port: 80\n", Stdin)
	require.Empty(t, loaded.Problems)
	ref := discovery.ObjectRef{Kind: "Service", Key: discovery.Key{Namespace: "default", Name: "a"}}
	for field, want := range map[string]string{
		"":                       "stdin:4",
		"spec.ports[0].port":     "stdin:14",
		"spec.ports[0].protocol": "stdin:13",
		"metadata.annotations[\"mesh.causeway.dev/home\"]": "stdin:10",
		"metadata.annotations.mesh.causeway.dev/home":      "stdin:10",
	} {
		require.Equal(t, want, loaded.Line(ref, field), field)
	}
}

// An object of a file with mistakes is known to be there, although it does not count.
func TestUnread(t *testing.T) {
	loaded := loadAll(t, strings.Replace(serviceYAML, "port: 80", "prot: 80", 1), Stdin)
	require.Len(t, loaded.Problems, 1)
	require.Equal(t, "stdin:1", loaded.Unread(discovery.ObjectName{Kind: "Service", Key: discovery.Key{Namespace: "web", Name: "php-web"}}))
	require.Empty(t, loaded.Written())
}
