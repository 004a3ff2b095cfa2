// Package manifests_test keeps what users apply true to the code.
package manifests_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/file"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/test/harness"
)

func root(t *testing.T) string {
	t.Helper()
	dir, err := harness.Root()
	require.NoError(t, err)
	return dir
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(append([]string{root(t)}, path...)...)) //nolint:gosec // the repository's own
	require.NoError(t, err)
	return string(data)
}

// metrics returns the names that the code registers.
func metrics(t *testing.T) map[string]bool {
	t.Helper()
	name := regexp.MustCompile(`"(causeway_[a-z0-9_]+)"`)
	out := make(map[string]bool)
	for _, dir := range []string{"cmd", "discovery", "xds"} {
		err := filepath.WalkDir(filepath.Join(root(t), dir), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			data, err := os.ReadFile(path) //nolint:gosec // the repository's own
			for _, m := range name.FindAllStringSubmatch(string(data), -1) {
				out[m[1]] = true
			}
			return err
		})
		require.NoError(t, err)
	}
	return out
}

type rules struct {
	Groups []struct {
		Rules []struct {
			Alert, Expr         string
			Labels, Annotations map[string]string
		}
	}
}

// Every alert speaks of metrics that exist and has a section in the runbook.
func TestAlerts(t *testing.T) {
	var r rules
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "manifests", "alerts", "causeway.rules.yaml")), &r))
	known := metrics(t)
	runbook := read(t, "docs", "operations.md")
	word := regexp.MustCompile(`causeway_[a-z0-9_]+`)
	count := 0
	for _, g := range r.Groups {
		for _, a := range g.Rules {
			count++
			names := word.FindAllString(a.Expr, -1)
			require.NotEmpty(t, names, a.Alert)
			for _, name := range names {
				require.True(t, known[name], "%s: no code registers %s", a.Alert, name)
			}
			require.Contains(t, runbook, "### "+a.Alert+"\n", "a runbook section")
			require.Equal(t, "docs/operations.md#"+strings.ToLower(a.Alert), a.Annotations["runbook_url"])
			require.NotEmpty(t, a.Labels["severity"], a.Alert)
			require.NotEmpty(t, a.Annotations["summary"], a.Alert)
		}
	}
	require.Equal(t, 8, count)
}

// Metrics that the documentation names exist.
func TestDocumentedMetrics(t *testing.T) {
	known := metrics(t)
	quoted := regexp.MustCompile("`(causeway_[a-z0-9_]+)`")
	for _, doc := range []string{"operations.md", "ec2.md", "kubernetes.md", "standalone.md"} {
		for _, m := range quoted.FindAllStringSubmatch(read(t, "docs", doc), -1) {
			require.True(t, known[m[1]], "%s names %s", doc, m[1])
		}
	}
}

// Every example is right.
func TestExamples(t *testing.T) {
	dirs, err := filepath.Glob(filepath.Join(root(t), "manifests", "examples", "*"))
	require.NoError(t, err)
	require.NotEmpty(t, dirs)
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			cat := catalog.New()
			loaded, err := file.Load(dir, cat)
			require.NoError(t, err)
			require.Empty(t, loaded.Problems)
			require.NotEmpty(t, cat.Read().Revision())
			for _, f := range policy.Validate(cat.Read()) {
				require.NotEqual(t, policy.Error, f.Severity, "%s", f)
			}
		})
	}
}
