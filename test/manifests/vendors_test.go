package manifests_test

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/test/golden"
)

// clockAlerts compare a metric with the time that it is, which neither Datadog's nor New Relic's queries know.
var clockAlerts = []string{"CausewaySourceStale", "CausewayCertificateExpiring"}

// The Datadog Agent reads every metric. The check wants counters without _total, and gives what it sends of them names
// that end in .count (OpenMetrics, version 2).
func TestDatadogCheckGolden(t *testing.T) {
	t.Parallel()
	file := filepath.Join("..", "..", "manifests", "datadog", "openmetrics.yaml")
	head, _, found := strings.Cut(read(t, "manifests", "datadog", "openmetrics.yaml"), "  metrics:\n")
	require.True(t, found)
	lines := []string{head + "  metrics:"}
	for _, name := range sortedKeys(metrics(t)) {
		raw := strings.TrimSuffix(name, "_total")
		lines = append(lines, "  - "+raw+": "+strings.TrimPrefix(raw, "causeway_"))
	}
	golden.Equal(t, file, strings.Join(lines, "\n")+"\n")
	var check struct {
		Instances []struct{ Namespace string }
	}
	require.NoError(t, yaml.Unmarshal([]byte(head), &check))
	require.Equal(t, "causeway", check.Instances[0].Namespace)
}

// Datadog's dashboards and monitors ask for what that check sends.
func TestDatadogNames(t *testing.T) {
	t.Parallel()
	sent := make(map[string]bool)
	for name := range metrics(t) {
		raw, counter := strings.CutSuffix(name, "_total")
		as := "causeway." + strings.TrimPrefix(raw, "causeway_")
		if counter {
			as += ".count"
		}
		sent[as] = true
	}
	word := regexp.MustCompile(`causeway\.[a-z0-9_]+(\.count)?`)
	for _, file := range []string{"mesh.json", "shift.json", "monitors.json"} {
		names := word.FindAllString(read(t, "manifests", "datadog", file), -1)
		require.NotEmpty(t, names, file)
		for _, name := range names {
			require.True(t, sent[name], "%s: nothing sends %s", file, name)
		}
	}
}

// Datadog's dashboards are what its API takes: an ordered layout, and formulas over queries that are there.
func TestDatadogDashboards(t *testing.T) {
	t.Parallel()
	type widget struct {
		Definition struct {
			Title, Type string
			LayoutType  string `json:"layout_type"`
			Widgets     []json.RawMessage
			Requests    []struct {
				ResponseFormat string `json:"response_format"`
				Queries        []struct {
					Name, Query string
					DataSource  string `json:"data_source"`
				}
				Formulas []struct{ Formula string }
			}
		}
	}
	for _, file := range []string{"mesh.json", "shift.json"} {
		var d struct {
			Title             string
			LayoutType        string                          `json:"layout_type"`
			TemplateVariables []struct{ Name, Prefix string } `json:"template_variables"`
			Widgets           []widget
		}
		require.NoError(t, json.Unmarshal([]byte(read(t, "manifests", "datadog", file)), &d))
		require.Equal(t, "ordered", d.LayoutType)
		variables := make(map[string]bool)
		for _, v := range d.TemplateVariables {
			variables["$"+v.Name] = true
		}
		for _, group := range d.Widgets {
			require.Equal(t, "group", group.Definition.Type)
			require.NotEmpty(t, group.Definition.Widgets, group.Definition.Title)
			for _, raw := range group.Definition.Widgets {
				var w widget
				require.NoError(t, json.Unmarshal(raw, &w))
				require.NotEmpty(t, w.Definition.Title)
				require.NotEmpty(t, w.Definition.Requests, w.Definition.Title)
				for _, r := range w.Definition.Requests {
					queries := make(map[string]bool)
					for _, q := range r.Queries {
						queries[q.Name] = true
						require.Equal(t, "metrics", q.DataSource)
						require.Regexp(t, `^(sum|max|p99):causeway\.[a-z0-9_.]+\{[^}]+\}( by \{[a-z,]+\})?(\.as_(rate|count)\(\))?$`, q.Query)
						for _, v := range regexp.MustCompile(`\$[a-z]+`).FindAllString(q.Query, -1) {
							require.True(t, variables[v], "%s: %s", w.Definition.Title, v)
						}
					}
					for _, f := range r.Formulas {
						for _, name := range regexp.MustCompile(`q\d`).FindAllString(f.Formula, -1) {
							require.True(t, queries[name], "%s: %s", w.Definition.Title, f.Formula)
						}
					}
				}
			}
		}
	}
}

// The alerts of Datadog and New Relic are those of Prometheus, but for two that compare with the time.
func TestVendorAlerts(t *testing.T) {
	t.Parallel()
	var r rules
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "manifests", "alerts", "causeway.rules.yaml")), &r))
	severity := make(map[string]string)
	for _, g := range r.Groups {
		for _, a := range g.Rules {
			severity[a.Alert] = a.Labels["severity"]
		}
	}
	for _, name := range clockAlerts {
		require.Contains(t, severity, name)
		require.Contains(t, read(t, "docs", "operations.md"), "`"+name+"`")
		delete(severity, name)
	}

	var monitors []struct {
		Name, Type, Query, Message string
		Tags                       []string
		Options                    struct{ Thresholds struct{ Critical float64 } }
	}
	require.NoError(t, json.Unmarshal([]byte(read(t, "manifests", "datadog", "monitors.json")), &monitors))
	got := make(map[string]string)
	for _, m := range monitors {
		got[m.Name] = severity[m.Name]
		require.Contains(t, m.Tags, "severity:"+severity[m.Name], m.Name)
		require.Contains(t, m.Message, "docs/operations.md#"+strings.ToLower(m.Name))
		require.Regexp(t, `^(min|max|sum)\(last_\d+[mh]\):.*(>|>=|<|<=) -?[0-9]+$`, m.Query)
		var threshold float64
		require.NoError(t, json.Unmarshal([]byte(m.Query[strings.LastIndexByte(m.Query, ' ')+1:]), &threshold))
		require.InDelta(t, m.Options.Thresholds.Critical, threshold, 0, "Datadog refuses a monitor whose query has another one: %s", m.Name)
	}
	require.Equal(t, severity, got)

	var conditions []struct {
		Name, Type, Description string
		Enabled                 bool
		NRQL                    struct{ Query string }
		Terms                   []struct {
			Operator, Priority string
			ThresholdDuration  int
		}
		Signal struct{ AggregationWindow int }
	}
	require.NoError(t, json.Unmarshal([]byte(read(t, "manifests", "newrelic", "conditions.json")), &conditions))
	got = make(map[string]string)
	for _, c := range conditions {
		require.True(t, c.Enabled)
		require.Len(t, c.Terms, 1)
		got[c.Name] = strings.ToLower(c.Terms[0].Priority)
		require.Zero(t, c.Terms[0].ThresholdDuration%c.Signal.AggregationWindow, "New Relic wants a multiple: %s", c.Name)
		require.Contains(t, c.Description, "docs/operations.md#"+strings.ToLower(c.Name))
	}
	require.Equal(t, severity, got)
}

// New Relic's queries are of metrics that exist, and its widgets stand beside each other.
func TestNewRelic(t *testing.T) {
	t.Parallel()
	known := metrics(t)
	var d struct {
		Name, Permissions string
		Pages             []struct {
			Name    string
			Widgets []struct {
				Title         string
				Layout        struct{ Column, Row, Width, Height int }
				Visualization struct{ ID string }
				Raw           struct {
					Queries []struct{ Query string } `json:"nrqlQueries"`
				} `json:"rawConfiguration"`
			}
		}
	}
	text := read(t, "manifests", "newrelic", "dashboard.json")
	require.NoError(t, json.Unmarshal([]byte(text), &d))
	require.NotEmpty(t, d.Pages)
	for _, p := range d.Pages {
		taken := make(map[[2]int]string)
		for _, w := range p.Widgets {
			require.NotEmpty(t, w.Visualization.ID, w.Title)
			require.LessOrEqual(t, w.Layout.Column+w.Layout.Width-1, 12, w.Title)
			for x := range w.Layout.Width {
				for y := range w.Layout.Height {
					at := [2]int{w.Layout.Column + x, w.Layout.Row + y}
					require.Empty(t, taken[at], w.Title)
					taken[at] = w.Title
				}
			}
			require.Len(t, w.Raw.Queries, 1, w.Title)
			require.Regexp(t, `^SELECT .+ FROM `, w.Raw.Queries[0].Query, w.Title)
		}
	}
	for _, name := range regexp.MustCompile(`causeway_[a-z0-9_]+`).FindAllString(text+read(t, "manifests", "newrelic", "conditions.json"), -1) {
		require.True(t, known[name], "no code registers %s", name)
	}
}
