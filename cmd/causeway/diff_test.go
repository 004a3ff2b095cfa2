package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/file"
	"github.com/causeway-mesh/causeway/policy/diff"
	"github.com/causeway-mesh/causeway/policy/lint/files"
	"github.com/causeway-mesh/causeway/xds/admin"
	"github.com/causeway-mesh/causeway/xds/engine"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/server"
	"github.com/causeway-mesh/causeway/xds/status"
)

const examples = "../../manifests/examples/"

// copyExamples copies the examples of routing, which a test may edit.
func copyExamples(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(examples+"routing")))
	return dir
}

func edit(t *testing.T, dir, name, old, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(data), old)
	require.NoError(t, os.WriteFile(path, []byte(strings.Replace(string(data), old, text, 1)), 0o600))
}

// adminOf serves the part of the admin API that `diff` asks, over a directory.
func adminOf(t *testing.T, dir string, proxies ...server.ProxyStatus) string {
	t.Helper()
	cat := catalog.New()
	_, err := file.Load(dir, cat)
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/state", func(w http.ResponseWriter, _ *http.Request) { admin.WriteJSON(w, diff.NewState(cat.Read(), nil, nil)) })
	mux.HandleFunc("GET /api/v1/proxystatuses", func(w http.ResponseWriter, _ *http.Request) { admin.WriteJSON(w, proxies) })
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// The state that a control plane tells means the same on the other side, down
// to the last byte that proxies get: every example of every kind.
func TestStateRoundTrip(t *testing.T) {
	entries, err := os.ReadDir(examples)
	require.NoError(t, err)
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		t.Run(e.Name(), func(t *testing.T) {
			t.Parallel()
			cat := catalog.New()
			_, err := file.Load(examples+e.Name(), cat)
			require.NoError(t, err)
			text, err := json.Marshal(diff.NewState(cat.Read(), nil, nil))
			require.NoError(t, err)
			var v diff.State
			require.NoError(t, json.Unmarshal(text, &v))
			again, err := v.Catalog()
			require.NoError(t, err)
			require.True(t, diff.Compare(cat.Read(), again.Read(), nil).Empty(), nil)
			require.Empty(t, engine.NewPreview(nil, nil).Changes(cat.Read(), again.Read()))
			out, err := execute(t, "diff", examples+e.Name(), "--admin", adminOf(t, examples+e.Name()))
			require.NoError(t, err, out)
			require.Contains(t, out, "no change")
		})
	}
}

// A plan says what changes, what of it is risky, and how many proxies it concerns.
func TestDiff(t *testing.T) {
	dir := copyExamples(t)
	edit(t, dir, "split-90-10.yaml", "weight: 90}", "weight: 0}")
	edit(t, dir, "timeout-slow-page.yaml", "{request: 15s}", "{request: 5s}")
	out, err := execute(t, "diff", dir, "--against", examples+"routing")
	require.ErrorIs(t, err, errChanges, out)
	require.Equal(t, exitFindings, exitCode(err))
	t.Log("\n" + out)
	for _, want := range []string{
		"~ HTTPRoute web/php-web", "! TimeoutShrinks", "timeout.request shrinks from 15s to 5s", "! WeightJump", "~ TrafficPolicy web/reports",
		"Envoy resources: 0 to add,", "VHDS http/reports.web:80",
	} {
		require.Contains(t, out, want)
	}
	require.NotContains(t, out, "(monthly): timeout", "the rule's own timeout wins over the policy's")
	near := server.ProxyStatus{ID: "sidecar~web~cron~i-1", Role: resource.Sidecar, Namespace: "web", Workload: "cron", Zone: "a"}
	far := server.ProxyStatus{ID: "gateway~edge~gw~i-2", Role: resource.Gateway}
	live := adminOf(t, examples+"routing", near, near, far)
	out, err = execute(t, "diff", dir, "--admin", live)
	require.ErrorIs(t, err, errChanges, out)
	require.Contains(t, out, "of 3 would be sent something")
	require.Contains(t, out, "2 sidecar of namespace web in a")
	out, err = execute(t, "diff", dir, "--admin", live, "-o", "json")
	require.ErrorIs(t, err, errChanges)
	var v status.Plan
	require.NoError(t, json.Unmarshal([]byte(out), &v))
	require.NotEmpty(t, v.Changes)
	require.NotEmpty(t, v.Risks)
	require.NotEmpty(t, v.Resources)
	require.Equal(t, 3, v.Connected)
}

// What cannot be compared is an error with its own exit status, not a change.
func TestDiffErrors(t *testing.T) {
	dir := copyExamples(t)
	edit(t, dir, "split-90-10.yaml", "rules:", "rulez:")
	for want, args := range map[string][]string{
		"has mistakes, so it cannot be compared": {"diff", dir, "--against", examples + "routing"},
		"no such file":                           {"diff", "/does/not/exist", "--against", examples + "routing"},
		"have no meaning":                        {"diff", dir, "--against", dir, "--prune", "all"},
		"is not none, namespaces":                {"diff", dir, "--prune", "some"},
		"no control plane answers at":            {"diff", examples + "routing", "--admin", "127.0.0.1:1"},
	} {
		_, err := execute(t, args...)
		require.ErrorContains(t, err, want)
		require.Equal(t, exitError, exitCode(err))
	}
}

// An object of a kind that this version does not know is not left out silently.
func TestStateOfOtherVersion(t *testing.T) {
	var v diff.State
	require.ErrorContains(t, json.Unmarshal([]byte(`{"objects":[{"Kind":"Wormhole"}]}`), &v), `does not know the kind "Wormhole"`)
}

func FuzzStateView(f *testing.F) {
	f.Add(`{"services":[{"Namespace":"a","Name":"b","Ports":[{"Port":80}]}],"objects":[{"Kind":"HTTPRoute","Namespace":"a","Name":"r","Spec":{"spec":{"rules":[{}]}}}]}`)
	f.Fuzz(func(_ *testing.T, text string) {
		var v diff.State
		if json.Unmarshal([]byte(text), &v) == nil {
			_, _ = v.Catalog() // must not panic
		}
	})
}

// broken are objects that are wrong in one way each, and what validate must
// say of it. %d is the object's number.
var broken = []struct{ text, want string }{
	{"kind: HTTPRoute\nmetadata: {name: bad-%[1]d, namespace: web}\nspec: {parentRefs: [{group: '', kind: Service, name: good-%[1]d, port: 80}], rules: [{backendRefs: [{name: none-%[1]d, port: 80}]}]}", "none-%d"},
	{"kind: HTTPRoute\nmetadata: {name: bad-%[1]d, namespace: web}\nspec: {parentRefs: [{group: '', kind: Service, name: none-%[1]d, port: 80}], rules: [{}]}", "none-%d"},
	{"kind: HTTPRoute\nmetadata: {name: bad-%[1]d, namespace: web}\nspec: {parentRefs: [{group: '', kind: Service, name: good-%[1]d, port: 81}], rules: [{}]}", "no such port"},
	{"kind: HTTPRoute\nmetadata: {name: bad-%[1]d, namespace: web}\nspec: {parentRefs: [{group: '', kind: Service, name: good-%[1]d, port: 80}], rules: [{matches: [{path: {type: RegularExpression, value: '/('}}], backendRefs: [{name: good-%[1]d, port: 80}]}]}", "regular expression"},
	{"kind: HTTPRoute\nmetadata: {name: bad-%[1]d, namespace: web}\nspec: {parentRefs: [{group: '', kind: Service, name: good-%[1]d, port: 80}], rulez: []}", "rulez"},
	{"kind: HTTPRoute\nmetadata: {name: bad-%[1]d, namespace: web}\nspec: {parentRefs: [{group: '', kind: Service, name: good-%[1]d, port: 80}], rules: [{backendRefs: [{name: good-%[1]d, namespace: other, port: 80}]}]}", "other"},
	{"kind: TrafficPolicy\nmetadata: {name: bad-%[1]d, namespace: web}\nspec: {targetRefs: [{kind: Service, name: none-%[1]d}], timeout: {request: 1s}}", "none-%d"},
	{"kind: TrafficPolicy\nmetadata: {name: bad-%[1]d, namespace: web}\nspec: {targetRefs: [{kind: Service, name: good-%[1]d}], timeout: {request: soon}}", "timeout.request"},
	{"kind: ExternalService\nmetadata: {name: bad-%[1]d, namespace: web}\nspec: {hosts: [good-%[1]d.web.svc], ports: [{name: http, number: 80}]}", "good-%d.web.svc"},
	{"kind: InstanceGroup\nmetadata: {name: bad-%[1]d, namespace: web}\nspec: {serviceRef: {name: none-%[1]d}, region: eu-west-1, selector: {autoScalingGroups: [a-%[1]d]}, ports: [{name: http, port: 80}]}", "none-%d"},
}

func apiVersionOf(text string) string {
	if strings.HasPrefix(text, "kind: HTTPRoute") {
		return "apiVersion: gateway.networking.k8s.io/v1\n"
	}
	return "apiVersion: mesh.causeway.dev/v1alpha1\n"
}

// Of a hundred broken objects among a thousand good ones every broken one has
// its own finding at its own line, and no good one has any.
func TestValidateHundredBroken(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	for i := range 1000 {
		write(fmt.Sprintf("good-%d.yaml", i), fmt.Sprintf(
			"apiVersion: v1\nkind: Service\nmetadata: {name: good-%[1]d, namespace: web}\nspec: {ports: [{name: http, port: 80}]}\n", i))
	}
	want := make(map[string]string)
	for i := range 100 {
		b := broken[i%len(broken)]
		name := fmt.Sprintf("bad-%d.yaml", i)
		write(name, apiVersionOf(b.text)+fmt.Sprintf(b.text, i)+"\n")
		want[name] = b.want
		if strings.Contains(b.want, "%d") {
			want[name] = fmt.Sprintf(b.want, i)
		}
	}
	report, err := files.Check([]string{dir}, nil, time.Now())
	require.NoError(t, err)
	found := make(map[string][]string)
	for _, r := range report.Results {
		if r.Severity != "error" {
			continue
		}
		name, line, ok := strings.Cut(r.Where, ":")
		require.True(t, ok && line != "", "%+v", r)
		require.Contains(t, name, "bad-", "a good object: %+v", r)
		require.NotEmpty(t, r.Reason)
		require.Contains(t, r.Object, strings.TrimSuffix(name, ".yaml"), "%+v", r)
		found[name] = append(found[name], r.Text())
	}
	for name, text := range want {
		require.Contains(t, strings.Join(found[name], "\n"), text, "%s: %s", name, found[name])
	}
	require.Len(t, found, 100)
}

// Warnings fail with --strict only.
func TestValidateStrict(t *testing.T) {
	dir := copyExamples(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "z.yaml"), []byte(`apiVersion: v1
kind: Service
metadata: {name: lonely, namespace: web}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: lonely, namespace: web}
spec:
  parentRefs: [{group: "", kind: Service, name: lonely, port: 80}]
  rules:
  - matches: [{path: {value: /a}}]
    backendRefs: [{name: lonely, port: 80}]
`), 0o600))
	out, err := execute(t, "validate", dir)
	require.NoError(t, err, out)
	require.Contains(t, out, "answered 404")
	require.Contains(t, out, "z.yaml:11")
	_, err = execute(t, "validate", dir, "--strict")
	require.ErrorIs(t, err, errFindings)
	out, err = execute(t, "validate", dir, "-o", "json")
	require.NoError(t, err)
	var results []files.Result
	out, summary, _ := strings.CutLast(strings.TrimSpace(out), "\n") // to the standard error
	require.Regexp(t, `^\d+ objects in \d+ files: 0 errors, `, summary)
	require.NoError(t, json.Unmarshal([]byte(out), &results))
	require.Contains(t, results, files.Result{
		Severity: "warning", Where: "z.yaml:11", Object: "HTTPRoute web/lonely", Field: "spec.rules", Reason: diff.ReasonUncovered,
		Message: "requests to port 80 of Service web/lonely that no rule takes are answered 404",
		Remedy:  "end the rules with one without matches that sends the rest to the Service itself, if that is not meant",
	})
}
