package page

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/explain"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/api"
	"github.com/causeway-mesh/causeway/xds/observe"
	"github.com/causeway-mesh/causeway/xds/server"
	"github.com/causeway-mesh/causeway/xds/status"
)

// mesh is a mesh in the middle of a migration, with troubles.
type mesh struct {
	api.Lists // which the page does not ask

	now time.Time
	// percent is the share of the pods, in hundredths; back is true once somebody has taken it back.
	percent atomic.Int64
	back    atomic.Bool
}

func (m *mesh) shift() *api.Shift {
	p := float64(m.percent.Load()) / 100
	s := &api.Shift{
		Time: m.now, ShiftRow: api.ShiftRow{
			Namespace: "web", Name: "php-web", Service: "php-web", Phase: "Shifting", Percent: p, From: "instances", To: "pods", Step: "4 of 6", Verdict: "Pass",
			Waiting: "the hold of 30m, which ends in 11m40s",
		},
		StepIndex: 3, Steps: []api.Step{
			{Shadow: 5, Hold: "30m", State: "done"},
			{Percent: 1, Hold: "30m", State: "done"},
			{Percent: 10, Hold: "30m", State: "done"},
			{Percent: 25, Hold: "30m", State: "current"},
			{Percent: 50, Approval: true, State: "ahead"},
			{Percent: 100, Hold: "24h", State: "ahead"},
		},
		StepStarted: m.now.Add(-18 * time.Minute), NextAt: m.now.Add(12 * time.Minute), Next: "50 %, which then waits for approval", Window: "2m", RequestsPerSecond: 1240,
		Reason: "99.97 % of 37,200 answers of the pods are good (bound 99.9 %), p99 182 ms (instances 176 ms, bound +20 %)", AnalysisTime: m.now,
		Source: api.Side{Backing: "instances", Percent: 100 - p, Figures: api.Figures{Requests: 111600, SuccessRate: new(99.982), P50: new(21.0), P99: new(176.0), Statuses: []api.Status{{Code: "200", Percent: 93.1}, {Code: "304", Percent: 4.2}, {Code: "404", Percent: 2.6}, {Code: "500", Percent: .018}}}, Open: 14},
		Target: api.Side{Backing: "pods", Percent: p, Figures: api.Figures{Requests: 37200, SuccessRate: new(99.97), P50: new(19.0), P99: new(182.0), Statuses: []api.Status{{Code: "200", Percent: 93.3}, {Code: "304", Percent: 4.1}, {Code: "404", Percent: 2.57}, {Code: "500", Percent: .03}}}, Endpoints: []api.Failing{{ID: "php-web-7d4b9c6f5-abcde", Requests: 9300, Failures: 8}}, Callers: []api.Failing{{ID: "sidecar~web~cron~i-0a1b2c3d4e5f60718", Requests: 18000, Failures: 6}}},
		Bounds: []api.Bound{
			{Name: "success rate of the pods", Value: "99.97 %", Bound: "at least 99.9 %", State: "met", Limit: new(99.9)},
			{Name: "p99 over that of the instances", Value: "3.409 %", Bound: "at most 20 %", State: "met"},
			{Name: "p99 of the pods", Value: "182 ms", Bound: "at most 300 ms", State: "met", Limit: new(300.0)},
			{Name: "requests to the pods in 2m", Value: "37200", Bound: "at least 500", State: "met"},
			{Name: "burn rate of the error budget", Value: "0.4", Bound: "at most 2", State: "met"},
		},
		Paths: []api.Path{
			{Path: "/cart/*", Source: api.Figures{Requests: 21000, SuccessRate: new(99.99), Statuses: []api.Status{{Code: "200", Percent: 99.1}, {Code: "302", Percent: .9}}}, Target: api.Figures{Requests: 7000, SuccessRate: new(99.91), Statuses: []api.Status{{Code: "200", Percent: 98.9}, {Code: "302", Percent: 1}, {Code: "500", Percent: .09}}}},
			{Path: "/product/*/reviews/<script>alert(1)</script>", Source: api.Figures{Requests: 9000, SuccessRate: new(100.0), Statuses: []api.Status{{Code: "200", Percent: 100}}}, Target: api.Figures{Requests: 3000, SuccessRate: new(100.0), Statuses: []api.Status{{Code: "200", Percent: 100}}}},
		},
		Budget: &v1alpha1.ShiftBudget{Objective: "99.9", Remaining: "86"}, Advice: []string{"the auto scaling group php-web can shrink from 12 to 9 instances and still take everything back"},
		Conditions: []metav1.Condition{}, Actions: []string{"promote", "pause", "rollback"},
	}
	begin := m.now.Add(-2 * time.Hour)
	for i, e := range []struct {
		minute   int
		event    string
		from, to float64
		actor    string
		why      string
	}{
		{0, "Step", 0, 0, "steps", "step 1 begins"},
		{30, "Step", 0, 1, "steps", "the hold of 30m is over and the guard is content"},
		{45, "RollBack", 1, 0, "guard", "500 is 12 % of the 410 answers of the pods to /cart/*, and 0.02 % of the 40,100 of the instances: release 2026-12-01.1"},
		{60, "Command", 0, 0, "ada@example.com", "promote: fixed by release 2026-12-01.2, INC-7"},
		{61, "Step", 0, 1, "steps", "begins anew"},
		{80, "Step", 1, 10, "steps", "the hold is over and the guard is content"},
		{102, "Step", 10, 25, "steps", "the hold is over and the guard is content"},
	} {
		at := begin.Add(time.Duration(e.minute) * time.Minute)
		s.History = append([]api.Event{{Time: at, Event: e.event, From: e.from, To: e.to, Actor: e.actor, Reason: e.why}}, s.History...)
		if i == 0 || e.from != e.to {
			s.Series.Share = append(s.Series.Share, api.SharePoint{Time: at, Percent: e.to})
		}
	}
	for i := range 240 {
		f := float64(i)
		bad := float32(0)
		if i > 84 && i < 92 {
			bad = 4
		}
		s.Series.Points = append(s.Series.Points, api.Point{
			Time: begin.Add(time.Duration(i) * 30 * time.Second), Source: api.Sample{Requests: 9000, SuccessRate: float32(99.98 + .01*math.Sin(f/9)), P99: float32(174 + 6*math.Sin(f/11))},
			Target: api.Sample{Requests: 3000, SuccessRate: float32(99.96+.02*math.Sin(f/7)) - bad, P99: float32(180+9*math.Cos(f/8)) + 20*bad},
		})
	}
	if m.back.Load() {
		s.Phase, s.Percent, s.Verdict, s.Actions = "RolledBack", 0, "", []string{"promote", "pause"}
		s.Command = &api.Command{ID: "1", Action: "rollback", Actor: "stan", Result: "Done"}
		s.History = append([]api.Event{{Time: m.now, Event: "RollBack", From: p, Actor: "stan", Reason: "checkout is slow, INC-9"}}, s.History...)
	}
	return s
}

func (m *mesh) Shift(context.Context, discovery.Key) (*api.Shift, error) { return m.shift(), nil }

func (m *mesh) Overview(context.Context) (*api.Overview, error) {
	o := &api.Overview{
		Time: m.now, Version: "v0.9.0", Serving: true, Leading: true, Wrong: true, Objects: 214, Refused: 1, Shifts: []api.ShiftRow{m.shift().ShiftRow},
		Sources: []status.Source{{Name: "ec2/eu-central-1", State: "ok", LastSync: m.now.Add(-8 * time.Second)}, {Name: "kubernetes/httproutes", State: "failing", LastSync: m.now.Add(-5 * time.Minute), Error: "the server is currently unable to handle the request"}},
		Troubles: []status.Trouble{
			{Object: "HTTPRoute web/shop", Severity: "Refused", Text: "Rejected: sidecar~web~cron~i-0a1b refused VHDS 80/shop.web: Error: cannot merge route: regex '(' is not valid: missing ): ("},
			{Object: "TrafficPolicy web/slow", Severity: "warning", Text: "spec.timeout.request: it is longer than the nginx behind it waits: state 30s"},
		},
		GuardHeld: map[string]int{"web/php-web-ec2": 4}, Proxies: status.Proxies{Connected: 38, InSync: 37, Behind: []status.Behind{{ID: "sidecar~web~cron~i-0a1b2c3d", State: "rejected", Error: "VHDS 80/shop.web: regex '(' is not valid"}}},
		Members: map[string]int{"ready": 35, "draining": 1}, Replicas: []observe.ReplicaView{{Name: "causeway-7d4b9c6f5-abcde-1", State: "reporting", Proxies: 20}, {Name: "causeway-7d4b9c6f5-fghij-1", State: "reporting", Proxies: 18}},
	}
	p := m.shift().Percent
	for i := range 8 {
		o.Services = append(o.Services, api.ServiceRow{Namespace: "web", Name: fmt.Sprintf("service-%d", i), Home: "instances", Backings: []api.BackingRow{{Name: "instances", Percent: 100, Usable: 4, Known: 4}}})
	}
	o.Services[2].FailedOver, o.Services[2].Backings[0].Usable = true, 0
	o.Services = append(o.Services, api.ServiceRow{Namespace: "web", Name: "php-web", Home: "instances", Shift: "web/php-web", Backings: []api.BackingRow{{Name: "pods", Percent: p, Usable: 4, Known: 4}, {Name: "instances", Percent: 100 - p, Usable: 12, Known: 13, Draining: 1}}})
	return o, nil
}

func (m *mesh) Service(context.Context, discovery.Key) (*api.Service, error) {
	p := m.shift().Percent
	backings := []api.BackingRow{{Name: "pods", Percent: p, Usable: 1, Known: 1}, {Name: "instances", Percent: 100 - p, Usable: 1, Known: 2, Draining: 1}}
	return &api.Service{
		Time: m.now, ServiceRow: api.ServiceRow{Namespace: "web", Name: "php-web", Home: "instances", Shift: "web/php-web", Backings: backings}, HomeBecause: "the annotation mesh.causeway.dev/home", Cohort: "cookie causeway",
		Ports: []api.Port{{Number: 80, Name: "http", Protocol: "HTTP/1.1", Failover: true, FailoverBecause: "the default for HTTP", Backings: backings}},
		Endpoints: []status.Endpoint{
			{Port: 80, Platform: "instances", ID: "i-0123456789abcdef0", Address: "10.0.1.17:8080", Zone: "eu-central-1a", Spot: true, Health: "draining", Reason: "Spot: EC2 takes it back at 03:04:00"},
			{Port: 80, Platform: "instances", ID: "i-0aaaaaaaaaaaaaaa1", Address: "10.0.1.18:8080", Zone: "eu-central-1a", Health: "healthy", Reason: "in service"},
			{Port: 80, Platform: "pods", ID: "php-web-7d4b9c6f5-abcde", Address: "10.1.4.7:8080", Zone: "eu-central-1b", Node: "node-7", Health: "healthy", Reason: "in service"},
		},
		Objects:  []api.Effect{{Kind: "HTTPRoute", Namespace: "web", Name: "shop", Does: []string{"requests to /cart go to Service web/php-web, port 80"}}, {Kind: "TrafficShift", Namespace: "web", Name: "php-web", Does: []string{"25 % of the traffic goes to pods"}}},
		Outcomes: []api.BackingOutcome{{Backing: "pods", Requests: 37200, SuccessRate: new(99.97), P50: new(19.0), P99: new(182.0), Failures: map[string]uint64{"server error": 11}}, {Backing: "instances", Requests: 111600, SuccessRate: new(99.982), P50: new(21.0), P99: new(176.0)}},
		Callers:  []api.Failing{{ID: "sidecar~web~cron~i-0a1b2c3d4e5f60718", Requests: 90000, Failures: 12}},
		Traffic: api.Traffic{
			Seconds: 100, Callers: []string{"web/php-web"},
			CalledBy: []api.Call{
				{Workload: "edge/public", Gateway: true, Service: "web/php-web", Backing: "instances", PerSecond: 812, SuccessRate: new(99.98), Failed: 14},
				{Workload: "web/cron", Service: "web/php-web", Backing: "pods", PerSecond: 12.4, SuccessRate: new(100.0)},
			},
			Calls: []api.Call{{Workload: "web/php-web", Service: "web/users", Backing: "pods", PerSecond: 340, SuccessRate: new(99.99), Failed: 2}, {Workload: "web/php-web", Service: "data/cache", Backing: "instances", PerSecond: 0.2}},
		},
	}, nil
}

func (m *mesh) Proxies(context.Context) (*api.Proxies, error) {
	p, err := m.Proxy(context.Background(), "", "", "")
	return &api.Proxies{Time: m.now, Proxies: []api.ProxyRow{p.ProxyRow, {ID: "sidecar~web~shop~i-1", Service: "web/shop", Zone: "eu-central-1b", Envoy: "1.40.1", State: "in sync", Well: true, Connected: m.now.Add(-26 * time.Hour)}}}, err
}

func (m *mesh) Proxy(_ context.Context, _, kind, _ string) (*api.Proxy, error) {
	p := &api.Proxy{
		Time: m.now, ProxyRow: api.ProxyRow{ID: "sidecar~web~cron~i-0a1b2c3d", Service: "web/cron", Zone: "eu-central-1a", Envoy: "1.40.1", State: "rejected", Connected: m.now.Add(-3 * time.Hour), Refuses: "VHDS 80/shop.web: regex '(' is not valid: missing ): ("},
		Status:    server.ProxyStatus{Protocol: "delta", Types: []server.TypeStatus{{Type: "CDS", Acknowledged: true}, {Type: "VHDS", Rejected: []string{"80/shop.web"}}}},
		Refusals:  []api.Refusal{{Type: "VHDS", Resource: "80/shop.web", Error: "regex '(' is not valid: missing ): (", Objects: []string{"HTTPRoute web/shop"}, Held: true}},
		Resources: []api.Resource{{Type: "CDS", Name: "web/php-web/80/pods", Bytes: 412, Objects: []string{"Service web/php-web"}}, {Type: "SDS", Name: "edge/shop", Bytes: 2048}},
	}
	if kind != "" {
		p.Content = "name: web/php-web/80/pods\ntype: EDS\nconnect_timeout: 1s\n"
	}
	return p, nil
}

func (m *mesh) Explain(context.Context, *explain.Question) (*explain.Explanation, error) {
	return &explain.Explanation{From: explain.Workload{Namespace: "web", Name: "web/cron"}, Request: explain.Message{Method: "GET", Host: "php-web.web", Path: "/cart"}, VirtualHost: &explain.VirtualHost{Service: "web/php-web", Port: 80, Protocol: "HTTP/1.1", Because: "the host is its name"}, Answer: &explain.Answer{Status: 404, Because: "no rule matches"}}, nil
}

func (m *mesh) Object(context.Context, discovery.ObjectName) (*status.Object, error) {
	return &status.Object{Object: "HTTPRoute web/shop", Generation: 7, State: "held back: a proxy has rejected what it causes, the last good configuration stays", Conditions: []status.Condition{{Parent: "web/php-web", Type: "Programmed", Status: "False", Reason: "Rejected", Message: "regex '(' is not valid"}}, Effects: []string{"requests to /cart go to Service web/php-web"}, Proxies: []status.ObjectProxy{{ID: "sidecar~web~cron~i-0a1b2c3d", State: "rejected"}}}, nil
}

func (m *mesh) Changes(context.Context) (*api.Changes, error) {
	return &api.Changes{Time: m.now, Changes: []api.Change{{Time: m.now, What: "changed", Kind: "HTTPRoute", Namespace: "web", Name: "shop", Generation: 7, State: "Rejected: regex '(' is not valid"}, {Time: m.now.Add(-time.Minute), What: "Step", Kind: "TrafficShift", Namespace: "web", Name: "php-web", By: "steps", Detail: "10 % to 25 %: the hold is over"}}}, nil
}

// stopper takes the shift back.
type stopper struct {
	somebody
	mesh *mesh
}

func (s *stopper) Do(ctx context.Context, o *discovery.Order) (string, error) {
	s.mesh.back.Store(o.Action == discovery.OrderRollback)
	return s.somebody.Do(ctx, o)
}

// A browser shows every view at both widths, in light and dark, without a complaint; is renewed by itself; takes a shift
// back by who may; and does without scripts. CAUSEWAY_SCREENSHOTS says where its pictures go: bin/screenshots otherwise.
func TestBrowser(t *testing.T) {
	t.Parallel()
	m := &mesh{now: time.Date(2026, 12, 1, 3, 0, 0, 0, time.UTC)}
	m.percent.Store(2500)
	stan := &stopper{somebody: somebody{name: "stan", may: stops}, mesh: m}
	p := New(Options{Reader: m, Log: newPage(m, nil, nil).opts.Log, Host: func(host string) bool { return strings.HasPrefix(host, "127.0.0.1:") }, Door: DoorOf(func(_ context.Context, token string) (Viewer, error) {
		switch token {
		case "stan-token":
			return stan, nil
		case "vera-token":
			return &somebody{name: "vera"}, nil
		}
		return nil, ErrUnknown
	})})
	server := httptest.NewServer(p)
	t.Cleanup(server.CloseClientConnections)
	t.Cleanup(server.Close)
	root, err := harness.Root()
	require.NoError(t, err)
	pictures := os.Getenv("CAUSEWAY_SCREENSHOTS")
	if pictures == "" {
		pictures = filepath.Join(root, "bin", "screenshots")
	}
	b := harness.StartBrowser(t)
	b.Size(1280, 900)
	login := func(token string) {
		b.Open(server.URL + "/login?next=%2Fshifts%2Fweb%2Fphp-web")
		b.Eval(fmt.Sprintf("document.getElementById('token').value = %q", token))
		b.Click("main button")
		require.Equal(t, "/shifts/web/php-web", b.Eval("location.pathname"))
	}
	login("vera-token")
	require.Equal(t, "0", b.Eval("document.querySelectorAll('main form').length"), "a viewer has nothing to press")
	b.Click("header button")
	login("stan-token")
	views := map[string]string{
		"shift": "/shifts/web/php-web", "mesh": "/", "service": "/services/web/php-web", "proxies": "/proxies", "proxy": "/proxies/x", "config": "/proxies/x?type=CDS&name=y",
		"explain": "/explain?from=web/cron&url=" + url.QueryEscape("http://php-web.web/cart"), "changes": "/changes", "object": "/objects/HTTPRoute/web/shop", "big": "/big", "rollback": "/act?action=rollback&name=web%2Fphp-web",
	}
	for name, path := range views {
		for _, width := range []int{1280, 390} {
			b.Size(width, 900)
			b.Open(server.URL + path)
			require.Equal(t, "true", b.Eval("document.documentElement.scrollWidth <= window.innerWidth"), "%s is wider than %d: %s", name, width,
				b.Eval("Array.from(document.querySelectorAll('body *')).filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.scroll, pre, svg')).map(e => e.outerHTML.slice(0, 90)).slice(0, 5).join('; ')"))
			if width == 390 {
				require.Empty(t, b.Eval("Array.from(document.querySelectorAll('.scroll')).filter(e => e.scrollWidth > e.clientWidth).map(e => e.getAttribute('aria-label')).join()"),
					"%s: what stands at the right of a table is not seen on a phone", name)
			}
			b.Screenshot(filepath.Join(pictures, fmt.Sprintf("%s-%d.png", name, width)))
		}
	}
	b.Size(1280, 900)
	b.Dark(true)
	b.Open(server.URL + "/shifts/web/php-web")
	b.Screenshot(filepath.Join(pictures, "shift-dark.png"))
	b.Dark(false)
	require.Empty(t, b.Complaints())
	require.Equal(t, "0", b.Eval("document.querySelectorAll('main script').length"))

	// What is looked at is renewed, and only that.
	b.Open(server.URL + "/shifts/web/php-web")
	b.Await(`document.getElementById("live").textContent.includes("Renewed by itself")`)
	b.Eval(`window.kept = document.querySelector("h1")`)
	m.percent.Store(5000)
	b.Await(`document.getElementById("sides").textContent.includes("50")`)
	require.Equal(t, "true", b.Eval(`window.kept === document.querySelector("h1")`))

	// The first thing to press is reached by the keyboard, right after the links.
	b.Eval("document.body.focus()")
	reached := false
	for range 14 {
		b.Tab()
		reached = reached || b.Eval(`document.activeElement.textContent`) == "Roll back"
	}
	require.True(t, reached)

	// Who may takes it back, after having been told what that does.
	require.Equal(t, "Roll back,Pause", b.Eval(`Array.from(document.querySelectorAll("main .actions button")).map(e => e.textContent).join()`))
	b.Click("main .actions button.danger")
	require.Contains(t, b.Eval("document.querySelector('main').textContent"), "All traffic goes back to the instances at once, in one push: 50\u00a0% of requests, about 620/s, leave the pods.")
	b.Eval(`document.getElementById("reason").value = "checkout is slow, INC-9"`)
	b.Click("main button.danger")
	require.Equal(t, "/shifts/web/php-web", b.Eval("location.pathname"))
	require.Contains(t, b.Eval("document.getElementById('verdict').textContent"), "Taken back by stan")
	require.Equal(t, "checkout is slow, INC-9", stan.orders()[0].Reason)
	b.Screenshot(filepath.Join(pictures, "rolled-back-1280.png"))

	// Another site has no way in: no frame, no script, no form.
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<iframe id="f" src="%[1]s/shifts/web/php-web"></iframe><form id="x" method="post" action="%[1]s/act"><input name="action" value="pause"><input name="name" value="web/php-web"></form>`, server.URL)
	}))
	t.Cleanup(evil.Close)
	other := strings.Replace(evil.URL, "127.0.0.1", "localhost", 1)
	b.Open(other)
	require.Equal(t, "refused", b.Eval(fmt.Sprintf(`fetch(%q, {credentials: "include"}).then(() => "read").catch(() => "refused")`, server.URL+"/api/v1/overview")))
	require.NotEqual(t, "true", b.Eval(`(() => { try { return Boolean(document.getElementById("f").contentDocument.querySelector("h1")) } catch (e) { return false } })()`))
	b.Eval(`document.getElementById("x").submit()`)
	b.Loaded()
	require.Contains(t, b.Eval("document.body.textContent"), "answers no page of another site")
	require.Len(t, stan.orders(), 1)
	_ = b.Complaints()

	b.Scripts(false)
	b.Open(server.URL + "/shifts/web/php-web")
	b.Screenshot(filepath.Join(pictures, "without-scripts.png"))
	b.Scripts(true)
}
