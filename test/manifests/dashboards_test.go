package manifests_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// dashboard is what is checked of a Grafana dashboard.
type dashboard struct {
	UID, Title, Description string
	SchemaVersion           int
	Tags                    []string
	Panels                  []struct {
		ID          int
		Type, Title string
		GridPos     struct{ X, Y, W, H int }
		Datasource  struct{ UID string }
		Targets     []struct {
			RefID, Expr string
			Datasource  struct{ UID string }
		}
	}
	Templating struct {
		List []struct{ Name, Type, Definition string }
	}
	Annotations struct {
		List []struct{ Name, Expr string }
	}
}

func dashboards(t *testing.T) map[string]*dashboard {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root(t), "manifests", "dashboards", "*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	out := make(map[string]*dashboard)
	for _, path := range files {
		data, err := os.ReadFile(path) //nolint:gosec // the repository's own
		require.NoError(t, err)
		var d dashboard
		require.NoError(t, json.Unmarshal(data, &d), path)
		out[filepath.Base(path)] = &d
	}
	return out
}

// expressions returns every query of a dashboard by where it stands.
func (d *dashboard) expressions() map[string]string {
	out := make(map[string]string)
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			out[fmt.Sprintf("panel %d (%s) %s", p.ID, p.Title, target.RefID)] = target.Expr
		}
	}
	for _, a := range d.Annotations.List {
		out["annotation "+a.Name] = a.Expr
	}
	return out
}

// Dashboards are laid out without overlaps, and ask for metrics that exist.
func TestDashboards(t *testing.T) {
	known := metrics(t)
	word := regexp.MustCompile(`causeway_[a-z0-9_]+`)
	suffix := regexp.MustCompile(`_(bucket|sum|count)$`)
	uids := make(map[string]bool)
	for name, d := range dashboards(t) {
		require.NotEmpty(t, d.Title, name)
		require.NotEmpty(t, d.Description, name)
		require.Contains(t, d.Tags, "causeway", name)
		require.Positive(t, d.SchemaVersion, name)
		require.False(t, uids[d.UID], "%s: uid %s twice", name, d.UID)
		uids[d.UID] = true
		taken, ids := make(map[[2]int]string), make(map[int]bool)
		for _, p := range d.Panels {
			require.NotEmpty(t, p.Title, "%s: panel %d", name, p.ID)
			require.False(t, ids[p.ID], "%s: panel %d twice", name, p.ID)
			ids[p.ID] = true
			require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, "%s: %s", name, p.Title)
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					require.Empty(t, taken[[2]int{x, y}], "%s: %s is over another panel", name, p.Title)
					taken[[2]int{x, y}] = p.Title
				}
			}
			if p.Type == "row" {
				continue
			}
			require.NotEmpty(t, p.Targets, "%s: %s", name, p.Title)
			require.Equal(t, "${datasource}", p.Datasource.UID, "%s: %s", name, p.Title)
		}
		queries := d.expressions()
		for _, v := range d.Templating.List {
			if v.Definition != "" {
				queries["variable "+v.Name] = v.Definition
			}
		}
		for where, query := range queries {
			names := word.FindAllString(query, -1)
			require.NotEmpty(t, names, "%s: %s", name, where)
			for _, metric := range names {
				require.True(t, known[metric] || known[suffix.ReplaceAllString(metric, "")], "%s: %s: no code registers %s", name, where, metric)
			}
		}
	}
}

// Every metric of shifts is on a dashboard.
func TestShiftMetricsAreShown(t *testing.T) {
	var shown strings.Builder
	for _, d := range dashboards(t) {
		for _, query := range d.expressions() {
			shown.WriteString(query + "\n")
		}
	}
	for name := range metrics(t) {
		if strings.HasPrefix(name, "causeway_shift_") {
			require.Contains(t, shown.String(), name)
		}
	}
}

// Prometheus takes the queries of dashboards, as rules with a name each.
func TestDashboardSyntax(t *testing.T) {
	type rule struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	type group struct {
		Name  string `json:"name"`
		Rules []rule `json:"rules"`
	}
	variables := strings.NewReplacer("$__rate_interval", "5m", "$namespace", "web", "$shift", "php-web")
	var groups []group
	for name, d := range dashboards(t) {
		g := group{Name: name}
		for _, query := range d.expressions() {
			g.Rules = append(g.Rules, rule{Record: fmt.Sprintf("query:%d", len(g.Rules)), Expr: variables.Replace(query)})
		}
		groups = append(groups, g)
	}
	data, err := yaml.Marshal(map[string]any{"groups": groups})
	require.NoError(t, err)
	require.NotContains(t, string(data), "$")
	file := filepath.Join(t.TempDir(), "dashboards.rules.yaml")
	require.NoError(t, os.WriteFile(file, data, 0o600))
	checkRules(t, file)
}

// The body of a notice in the documentation is one that is sent.
func TestDocumentedNotice(t *testing.T) {
	require.Contains(t, read(t, "docs", "operations.md"),
		"```json\n"+read(t, "policy", "shift", "notify", "testdata", "step-generic.json")+"```\n")
}
