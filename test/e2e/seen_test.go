package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
)

const seenShift = `
apiVersion: mesh.causeway.dev/v1alpha1
kind: TrafficShift
metadata: {name: php-web, namespace: web}
spec:
  serviceRef: {name: php-web}
  steps:
  - {percent: "50", approval: Required}
  - {percent: "100", hold: 1s}
  guard:
    successRate: {atLeast: "90"}
    errorBudget: {objective: "99.9", maxBurnRate: "1000"}
    minRequests: 15
    window: 5s
  capacity: {minReadyPods: 1, keepSourcePercent: 0}
`

// promServer is a real Prometheus that reads replicas every second.
type promServer struct {
	*harness.Process
	address string
}

func startPrometheus(t *testing.T, path string, replicas []*replica) *promServer {
	t.Helper()
	dir := t.TempDir()
	var targets []string
	for _, r := range replicas {
		targets = append(targets, fmt.Sprintf("%q", r.http))
	}
	root, err := harness.Root()
	require.NoError(t, err)
	config := fmt.Sprintf("global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\nrule_files: [%q]\n"+
		"scrape_configs:\n- job_name: causeway\n  static_configs: [{targets: [%s]}]\n",
		filepath.Join(root, "manifests", "alerts", "causeway.rules.yaml"), strings.Join(targets, ", "))
	file := filepath.Join(dir, "prometheus.yml")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	p := &promServer{address: harness.FreeAddress(t)}
	p.Process = harness.Start(t, harness.Command{Name: "prometheus", Path: path, Args: []string{
		"--config.file=" + file, "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + p.address,
	}})
	p.Await(t, 60*time.Second, "Prometheus is ready", func() error {
		_, err := harness.ReadBody(http.Get("http://" + p.address + "/-/ready")) //nolint:noctx // loopback
		return err
	})
	return p
}

// query returns the values of an instant query.
func (p *promServer) query(expression string) ([]string, error) {
	body, err := harness.ReadBody(http.Get("http://" + p.address + "/api/v1/query?query=" + url.QueryEscape(expression))) //nolint:noctx // loopback
	if err != nil {
		return nil, err
	}
	var answer struct {
		Status, Error string
		Data          struct{ Result []struct{ Value []any } }
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Status != "success" {
		return nil, fmt.Errorf("%s: %s %w", expression, answer.Error, err)
	}
	var out []string
	for _, r := range answer.Data.Result {
		out = append(out, fmt.Sprint(r.Value[1]))
	}
	return out, nil
}

// panels returns the queries of a dashboard for Grafana by where they stand, with its variables filled in.
func panels(t *testing.T, name string) map[string]string {
	t.Helper()
	root, err := harness.Root()
	require.NoError(t, err)
	data, err := os.ReadFile(filepath.Join(root, "manifests", "dashboards", name)) //nolint:gosec // the repository's own
	require.NoError(t, err)
	var d struct {
		Panels []struct {
			Title   string
			Targets []struct{ RefID, Expr string }
		}
		Annotations struct{ List []struct{ Name, Expr string } }
	}
	require.NoError(t, json.Unmarshal(data, &d))
	fill := strings.NewReplacer("$__rate_interval", "5m", "$namespace", "web", "$shift", "php-web")
	out := make(map[string]string)
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			out[name+" "+p.Title+" "+target.RefID] = fill.Replace(target.Expr)
		}
	}
	for _, a := range d.Annotations.List {
		out[name+" annotation "+a.Name] = fill.Replace(a.Expr)
	}
	require.NotEmpty(t, out)
	return out
}

// drawPanels has Prometheus itself draw the panels of each dashboard, for people to look at: bin/screenshots/panels-*.png.
func drawPanels(t *testing.T, prometheus string) {
	t.Helper()
	root, err := harness.Root()
	require.NoError(t, err)
	b := harness.StartBrowser(t)
	b.Size(1280, 1000)
	for _, dashboard := range []string{"mesh.json", "shift.json"} {
		graphs := url.Values{}
		all := panels(t, dashboard)
		for i, where := range slices.Sorted(maps.Keys(all)) {
			for name, value := range map[string]string{"expr": all[where], "tab": "0", "range_input": "2m"} {
				graphs.Set(fmt.Sprintf("g%d.%s", i, name), value)
			}
		}
		b.Open("http://" + prometheus + "/classic/graph?" + graphs.Encode())
		b.Await(fmt.Sprintf("document.querySelectorAll('.graph svg path, .graph svg line').length >= %d", len(all)))
		b.Screenshot(filepath.Join(root, "bin", "screenshots", "panels-"+strings.TrimSuffix(dashboard, ".json")+".png"))
	}
}

// seenEdit is a change that proxies are told.
const seenEdit = `
apiVersion: mesh.causeway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: seen, namespace: web}
spec:
  targetRefs: [{kind: Service, name: php-web}]
  timeout: {request: %ds}
`

// What an SRE sees of a shift: each panel of the dashboards has data from a real Prometheus that reads a real control
// plane with traffic, the metrics of each Service count the requests that callers have sent, and Argo CD finds no
// field of ours in what people have written.
func TestShiftIsSeen(t *testing.T) {
	beside(t, 0.6, 60*time.Second)
	path, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("prometheus is not installed: apt-get install prometheus")
	}
	c := startCluster(t, harness.GoProcess)
	prom := startPrometheus(t, path, c.replicas)
	caller := startCaller(t, "i-caller", "web", c.moto.Zones()[0], []string{c.replicas[0].xds}, "") // without TLS reports count where the configuration comes from
	load := caller.load(t, "php-web", 100)
	load.WaitAnswers(t, 50, 30*time.Second)

	c.kube.ApplyYAML(t, seenShift)
	m := &migration{cluster: c}
	m.wait("50 %, waiting for approval", 2*time.Minute, func(s *v1alpha1.TrafficShift) bool {
		return s.Status.Percent == "50" && s.Status.Phase == v1alpha1.ShiftAwaitingApproval &&
			s.Status.Analysis != nil && s.Status.Analysis.Pods != nil && s.Status.Analysis.Pods.Requests > 0
	})
	// A rate needs a change between two looks of Prometheus, however late its first one was.
	edited, edits := time.Time{}, 0
	edit := func() {
		if time.Since(edited) < time.Second {
			return
		}
		edited, edits = time.Now(), edits+1
		c.kube.ApplyYAML(t, fmt.Sprintf(seenEdit, 20+edits%2))
	}
	for _, dashboard := range []string{"mesh.json", "shift.json"} {
		for where, expression := range panels(t, dashboard) {
			harness.Eventually(t, time.Minute, where+" has data: "+expression, func() error {
				values, err := prom.query(expression)
				if err == nil && (len(values) == 0 || !slices.ContainsFunc(values, func(v string) bool { return v != "NaN" })) {
					edit()
					err = fmt.Errorf("no data: %v", values)
				}
				return err
			})
		}
	}
	drawPanels(t, prom.address)

	// Every rule can be evaluated.
	body, err := harness.ReadBody(http.Get("http://" + prom.address + "/api/v1/rules")) //nolint:noctx // loopback
	require.NoError(t, err)
	require.Contains(t, string(body), "CausewayShiftHeld")
	require.NotRegexp(t, `"health":"err"`, string(body))

	// The load reports of the caller say what it has sent.
	harness.Eventually(t, time.Minute, "both sides have requests", func() error {
		for _, backing := range []string{"pods", "instances"} {
			values, err := prom.query(`sum(causeway_service_requests_total{namespace="web",service="php-web",result="success",backing="` + backing + `"}) > 20`)
			if err != nil || len(values) != 1 {
				return fmt.Errorf("%s: %v %w", backing, values, err)
			}
		}
		return nil
	})
	values, err := prom.query(`sum(causeway_service_sent_total)`)
	require.NoError(t, err)
	var sent float64
	_, err = fmt.Sscan(values[0], &sent)
	require.NoError(t, err)
	require.LessOrEqual(t, sent, float64(load.Report().Sent)*1.1, "no request is counted twice; few are made again")
	for expression, want := range map[string]string{
		`max(causeway_service_home{service="php-web",backing="instances"})`:     "1",
		`max(causeway_service_share_ratio{service="php-web",backing="pods"})`:   "0.5",
		`count(causeway_build_info)`:                                            "2",
		`count(count by (version) (causeway_build_info{goversion=~"go1.+"}))`:   "1",
		`max(causeway_services)`:                                                fmt.Sprint(c.services()),
		`count(causeway_service_home{service="php-web"}) / 2`:                   "2",
		`count(count by (namespace, name) (causeway_shift_events_total)) == 1`:  "1",
		`sum(causeway_service_requests_total{service!="php-web"}) or vector(0)`: "0",
	} {
		values, err := prom.query(expression)
		require.NoError(t, err, expression)
		require.Equal(t, []string{want}, values, expression)
	}

	m.cli("promote", "web/php-web", "--reason", "half of it is good")
	m.wait("completed", 2*time.Minute, func(s *v1alpha1.TrafficShift) bool { return s.Status.Phase == v1alpha1.ShiftCompleted })
	harness.Eventually(t, 30*time.Second, "the home is the pods", func() error {
		values, err := prom.query(`min(causeway_service_home{service="php-web",backing="pods"}) == 1`)
		if err == nil && len(values) == 0 {
			err = fmt.Errorf("not yet")
		}
		return err
	})
	load.Stop().RequireNoFailures(t)
	c.requireOwnFieldsOnly()
}

// services returns how many Services there are.
func (c *cluster) services() int {
	c.t.Helper()
	list, err := c.kube.Client(c.t).CoreV1().Services("").List(c.t.Context(), metav1.ListOptions{})
	require.NoError(c.t, err)
	return len(list.Items)
}

// requireOwnFieldsOnly requires that of the objects that people have written Causeway owns the status and, of a
// TrafficShift, its finalizer: then no GitOps tool has anything to undo.
func (c *cluster) requireOwnFieldsOnly() {
	c.t.Helper()
	client, err := dynamic.NewForConfig(c.kube.Config())
	require.NoError(c.t, err)
	seen := 0
	for _, of := range []schema.GroupVersionResource{
		{Version: "v1", Resource: "services"},
		{Group: v1alpha1.Group, Version: v1alpha1.Version, Resource: "instancegroups"},
		{Group: v1alpha1.Group, Version: v1alpha1.Version, Resource: "trafficshifts"},
	} {
		list, err := client.Resource(of).Namespace("web").List(c.t.Context(), metav1.ListOptions{})
		require.NoError(c.t, err)
		require.NotEmpty(c.t, list.Items, of.Resource)
		for i := range list.Items {
			o := &list.Items[i]
			for _, f := range o.GetManagedFields() {
				var fields map[string]map[string]any
				require.NoError(c.t, json.Unmarshal(f.FieldsV1.GetRawBytes(), &fields))
				where := fmt.Sprintf("%s %s: %s owns %s", o.GetKind(), o.GetName(), f.Manager, f.FieldsV1.GetRawString())
				switch {
				case f.Manager == "causeway-cli": // a person's command
					require.Equal(c.t, []string{"f:metadata"}, sortedKeys(fields), where)
					require.Equal(c.t, []string{"f:annotations"}, sortedKeys(fields["f:metadata"]), where)
				case f.Manager == "causeway-harness" || !strings.HasPrefix(f.Manager, "causeway"): // who has applied it
					require.NotContains(c.t, fields, "f:status", where)
				case f.Subresource == "status":
					seen++
					require.Equal(c.t, []string{"f:status"}, sortedKeys(fields), where)
				default:
					require.Equal(c.t, []string{"f:metadata"}, sortedKeys(fields), where)
					require.Equal(c.t, []string{"f:finalizers"}, sortedKeys(fields["f:metadata"]), where)
				}
			}
		}
	}
	require.GreaterOrEqual(c.t, seen, 2, "the status of the InstanceGroup and of the TrafficShift is ours")
}
