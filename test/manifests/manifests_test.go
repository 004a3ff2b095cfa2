// Package manifests_test keeps what users apply true to the code.
package manifests_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/file"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/resolve"
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

// metrics returns the names that the code registers. A name that is only
// mentioned, as Envoy's cluster causeway_xds is, is none.
func metrics(t *testing.T) map[string]bool {
	t.Helper()
	name := regexp.MustCompile(`(?:Name:\s*|NewDesc\(|gauge\(|counter\()"(causeway_[a-z0-9_]+)"`)
	out := make(map[string]bool)
	for _, dir := range []string{"cmd", "discovery", "policy", "xds"} {
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
			require.NotEmpty(t, a.Annotations["description"], a.Alert)
		}
	}
	require.Equal(t, 17, count)
}

// Prometheus takes the rules.
func TestAlertSyntax(t *testing.T) {
	rules := filepath.Join(root(t), "manifests", "alerts", "causeway.rules.yaml")
	checkRules(t, rules)
}

// checkRules has Prometheus' promtool read rules. It comes with Prometheus, which
// only a Debian machine gets by itself.
func checkRules(t *testing.T, file string) {
	t.Helper()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed: apt-get install prometheus")
	}
	out, err := exec.CommandContext(t.Context(), promtool, "check", "rules", file).CombinedOutput() //nolint:gosec // the repository's own
	require.NoError(t, err, "%s", out)
}

// Every metric that exists is in the reference.
func TestMetricsReference(t *testing.T) {
	reference := read(t, "docs", "operations.md") + read(t, "docs", "ec2.md")
	known := metrics(t)
	require.NotEmpty(t, known)
	for name := range known {
		require.Contains(t, reference, "\n| `"+name+"` | ", "a row of a metrics table")
	}
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
	files, err := filepath.Glob(filepath.Join(root(t), "manifests", "examples", "*", "*.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	dirs := make(map[string]bool)
	for _, path := range files {
		dirs[filepath.Dir(path)] = true
	}
	for dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			cat := catalog.New()
			loaded, err := file.Load(dir, cat)
			require.NoError(t, err)
			require.Empty(t, loaded.Problems)
			require.NotEmpty(t, cat.Read().Revision())
			for _, f := range resolve.Validate(cat.Read()) {
				require.NotEqual(t, policy.Error, f.Severity, "%s", f)
			}
		})
	}
}

// A mistake that the documentation shows gives the message that it shows.
func TestDocumentedMistakes(t *testing.T) {
	example := read(t, "manifests", "examples", "two-platforms", "php-web.yaml")
	for name, c := range map[string]struct{ right, wrong, doc, message string }{
		"reference": {
			right: "serviceRef: {name: php-web}", wrong: "serviceRef: {name: php-wbe}", doc: "concepts.md",
			message: "spec.serviceRef.name: there is no Service web/php-wbe: create it or correct the name",
		},
		"port": {
			right: "{name: http, port: 80} # the Service's", wrong: "{name: web, port: 80} #", doc: "concepts.md",
			message: `spec.ports[0].name: Service web/php-web has no port named "web"; its only port "http" is meant, because there is but one on each side: write "http"`,
		},
		"home": {
			right: "home: Instances}", wrong: "home: Pods}", doc: "concepts.md",
			message: "spec.serviceRef: the home of Service web/php-web is its pods (annotation mesh.causeway.dev/home: Pods), " +
				"so these instances get no traffic: annotate the Service with mesh.causeway.dev/home: Instances to move " +
				"all of it at once, or create a TrafficShift with direction PodsToInstances",
		},
		"type": {
			right: "port: 80}", wrong: `port: "80"}`, doc: "standalone.md",
			message: "spec.ports[0].port: it is a string: write a whole number",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, read(t, "docs", c.doc), c.message)
			require.Contains(t, example, c.right)
			dir := t.TempDir()
			wrong := strings.Replace(example, c.right, c.wrong, 1)
			require.NoError(t, os.WriteFile(filepath.Join(dir, "web.yaml"), []byte(wrong), 0o600))
			require.Contains(t, validate(t, dir), c.message)
		})
	}
}

// validate returns what is wrong with a directory, worded as the command words it.
func validate(t *testing.T, dir string) []string {
	t.Helper()
	cat := catalog.New()
	loaded, err := file.Load(dir, cat)
	require.NoError(t, err)
	var out []string
	for _, p := range loaded.Problems {
		out = append(out, p.Message)
	}
	for _, f := range resolve.Validate(cat.Read()) {
		out = append(out, f.Field+": "+f.Message+": "+f.Remedy)
	}
	return out
}
