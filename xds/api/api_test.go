package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/explain"
	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/policy/shift/describe"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/xds/admin/client"
	"github.com/causeway-mesh/causeway/xds/members"
	"github.com/causeway-mesh/causeway/xds/observe"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/server"
	"github.com/causeway-mesh/causeway/xds/status"
)

func at(minute int) metav1.Time {
	return metav1.NewTime(time.Date(2026, 12, 1, 3, minute, 0, 0, time.UTC))
}

// shiftInStep is a shift in its third step, of which the guard has seen something.
func shiftInStep() *v1alpha1.TrafficShift {
	hold := func(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }
	started := at(20)
	return &v1alpha1.TrafficShift{
		ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "php-web", UID: "u-1", CreationTimestamp: at(0)},
		Spec: v1alpha1.TrafficShiftSpec{
			ServiceRef: v1alpha1.ServiceReference{Name: "php-web"},
			Steps: []v1alpha1.ShiftStep{
				{Shadow: &v1alpha1.ShiftShadow{Percent: "5"}, Hold: hold(time.Minute)},
				{Percent: "1", Hold: hold(time.Minute)},
				{Percent: "25", Hold: hold(30 * time.Minute)},
				{Percent: "100", Approval: v1alpha1.ApprovalRequired},
			},
			Guard: v1alpha1.ShiftGuard{
				SuccessRate: &v1alpha1.ShiftSuccessRate{AtLeast: "99.9"}, MinRequests: 500, Window: *hold(2 * time.Minute),
				Latency:     &v1alpha1.ShiftLatency{Quantile: "0.99", AtMost: hold(300 * time.Millisecond), MaxIncrease: "20"},
				ErrorBudget: &v1alpha1.ShiftErrorBudget{Objective: "99.9", MaxBurnRate: "2"},
			},
		},
		Status: v1alpha1.TrafficShiftStatus{
			Phase: v1alpha1.ShiftShifting, Percent: "25", Step: 2, StepStarted: &started, Waiting: "the hold of 30m",
			Budget: &v1alpha1.ShiftBudget{Objective: "99.9", Remaining: "80", BurnRate: "3", Record: "of its own"},
			Analysis: &v1alpha1.ShiftAnalysis{
				Verdict: "Hold", Reason: "burns", Instances: &v1alpha1.ShiftFigures{Requests: 9000, SuccessRate: "99.99", P50: "10ms", P99: "100ms"},
				Pods: &v1alpha1.ShiftFigures{Requests: 3000, SuccessRate: "99.5", P50: "12ms", P99: "150ms", Statuses: []v1alpha1.ShiftStatusPart{{Code: "200", Percent: "99.5"}}},
			},
			History: []v1alpha1.ShiftHistory{
				{Time: at(20), Event: v1alpha1.EventStep, From: "1", To: "25", Actor: "steps"}, {Time: at(10), Event: v1alpha1.EventStep, From: "0", To: "1", Actor: "ada", Reason: "go"},
			},
		},
	}
}

// A shift's view has its figures as numbers, against their bounds, and when the next step can be.
func TestShiftOf(t *testing.T) {
	t.Parallel()
	w := &outcome.Window{Totals: outcome.NewTotals()}
	w.Outcomes[outcome.Key{Service: discovery.Key{Namespace: "web", Name: "php-web"}, Port: 80, Platform: discovery.Pods}] = &outcome.Counts{
		Requests: 3000, Endpoints: map[string]outcome.EndpointCounts{"pod-a": {Requests: 1500, Failures: 14}, "pod-b": {Requests: 1500, Failures: 1}, "pod-c": {Requests: 9}},
		Callers: map[string]outcome.CallerCounts{"sidecar~web~cron~i-1": {Requests: 3000, Failures: 15}},
	}
	s, now := shiftInStep(), at(30).Time
	v := ShiftOf(s, nil, w, NewHistory().Of(s, now), now)
	require.Equal(t, []any{"instances", "pods", 25.0, "Shifting", "3 of 4", 2}, []any{v.From, v.To, v.Percent, v.Phase, v.Step, v.StepIndex})
	require.Equal(t, at(50).UTC(), v.NextAt)
	require.InDelta(t, 100, v.RequestsPerSecond, .001)
	require.Equal(t, []string{"done", "done", "current", "ahead"}, []string{v.Steps[0].State, v.Steps[1].State, v.Steps[2].State, v.Steps[3].State})
	require.InDelta(t, 150, *v.Target.P99, .001)
	require.Equal(t, []Failing{{"pod-a", 1500, 14}, {"pod-b", 1500, 1}}, v.Target.Endpoints)
	require.Equal(t, []Failing{{"sidecar~web~cron~i-1", 3000, 15}}, v.Target.Callers)
	var bounds []string
	for _, b := range v.Bounds {
		bounds = append(bounds, fmt.Sprintf("%s: %s, %s: %s", b.Name, b.Value, b.Bound, b.State))
	}
	require.Equal(t, []string{
		"success rate of the pods: 99.5 %, at least 99.9 %: broken", "p99 of the pods: 150 ms, at most 300 ms: met", "p99 over that of the instances: 50 %, at most 20 %: broken",
		"requests to the pods in 2m: 3000, at least 500: met", "burn rate of the error budget: 3, at most 2: broken",
	}, bounds)
	s.Spec.Guard = v1alpha1.ShiftGuard{
		Latency: &v1alpha1.ShiftLatency{Quantile: "0.9", AtMost: &metav1.Duration{Duration: 300 * time.Millisecond}, MaxIncrease: "20"},
		Metrics: []v1alpha1.ShiftMetric{{Name: "carts", AtLeast: "10", AtMost: "20"}, {Name: "queue", AtMost: "5"}, {Name: "new", AtMost: "5"}, {Name: "ratio", AtMost: "5"}},
	}
	s.Status.Analysis.Pods.Quantile, s.Status.Analysis.Instances.Quantile = "330ms", "300ms"
	s.Status.Analysis.Metrics = []v1alpha1.ShiftMetricFigure{{Name: "queue", Error: "HTTP 403"}, {Name: "carts", Value: "12.5"}, {Name: "ratio", Value: "NaN"}}
	bounds = nil
	odd := ShiftOf(s, nil, nil, Series{}, now)
	_, err := json.Marshal(odd)
	require.NoError(t, err, "whatever a status says, there is JSON of it")
	for _, b := range odd.Bounds {
		bounds = append(bounds, fmt.Sprintf("%s: %s, %s: %s", b.Name, b.Value, b.Bound, b.State))
	}
	require.Equal(t, []string{
		"p90 of the pods: 330 ms, at most 300 ms: broken", "p90 over that of the instances: 10 %, at most 20 %: met", "requests to the pods in 0s: 3000, at least 0: met",
		"metric carts: 12.5, at least 10: met", "metric carts: 12.5, at most 20: met", "metric queue: not known: HTTP 403, at most 5: unknown", "metric new: not known, at most 5: unknown",
		"metric ratio: not known, at most 5: unknown",
	}, bounds)
	s = shiftInStep()
	require.Empty(t, v.Budget.Record)
	require.Equal(t, []SharePoint{{at(0).UTC(), 0}, {at(10).UTC(), 1}, {at(20).UTC(), 25}}, v.Series.Share)
	require.Equal(t, []string{"promote", "pause", "rollback"}, v.Actions)
	s.Status.RolledBack, s.Status.Paused = true, true
	require.Equal(t, []string{"promote", "resume"}, ShiftOf(s, nil, nil, Series{}, now).Actions)
	s.Status.Phase = v1alpha1.ShiftCompleted
	require.Empty(t, ShiftOf(s, nil, nil, Series{}, now).Actions)
	require.NotNil(t, ShiftOf(&v1alpha1.TrafficShift{}, nil, nil, Series{}, now), "one without anything")
}

// Who calls a Service and whom it calls: its workloads are those whose proxies are at its endpoints.
func TestTraffic(t *testing.T) {
	t.Parallel()
	key := func(name string) discovery.Key { return discovery.Key{Namespace: "web", Name: name} }
	proxy := func(workload, instance, peer string) server.ProxyStatus {
		return server.ProxyStatus{ID: "sidecar~web~" + workload + "~" + instance, Role: resource.Sidecar, Namespace: "web", Workload: workload, Peer: peer}
	}
	other := proxy("other", "i-1", "10.0.0.1:5")
	other.Namespace = "shop"
	workloads := workloadsOf([]status.Endpoint{{ID: "web/php-1", Address: "10.0.0.1:80"}, {ID: "i-1", Address: "10.9.0.1:80"}, {ID: "x"}}, []server.ProxyStatus{
		proxy("php", "uid", "10.0.0.1:40000"), proxy("php-hosts", "i-1", "192.0.2.1:40000"), proxy("cron", "i-2", "10.0.0.2:1"), proxy("none", "i-3", ""), other,
	}, key("php"))
	require.Equal(t, []string{"web/php", "web/php-hosts"}, workloads)
	calls := outcome.Calls{Over: 100 * time.Second, Calls: []outcome.Call{
		{Caller: key("cron"), Service: key("php"), Backing: "pods", Issued: 50, Success: 45, Failed: 5},
		{Caller: discovery.Key{Namespace: "edge", Name: "public"}, Gateway: true, Service: key("php"), Backing: "pods", Issued: 5000, Success: 5000},
		{Caller: key("php"), Service: key("cache"), Backing: "instances", Issued: 10},
		{Caller: key("php"), Gateway: true, Service: key("users"), Backing: "pods", Issued: 10},
		{Caller: key("cron"), Service: key("cache"), Backing: "instances", Issued: 10},
	}}
	v := trafficOf(key("php"), workloads, calls)
	require.Equal(t, Traffic{
		Seconds: 100, Callers: workloads,
		CalledBy: []Call{
			{Workload: "edge/public", Gateway: true, Service: "web/php", Backing: "pods", Requests: 5000, PerSecond: 50, SuccessRate: new(100.0)},
			{Workload: "web/cron", Service: "web/php", Backing: "pods", Requests: 50, PerSecond: .5, SuccessRate: new(90.0), Failed: 5},
		},
		Calls: []Call{{Workload: "web/php", Service: "web/cache", Backing: "instances", Requests: 10, PerSecond: .1}},
	}, v)
	for range mostCalls + 1 {
		calls.Calls = append(calls.Calls, calls.Calls[0])
	}
	v = trafficOf(key("php"), nil, calls)
	require.Len(t, v.CalledBy, mostCalls)
	require.True(t, v.More)
	require.Equal(t, Traffic{CalledBy: []Call{}, Calls: []Call{}, Callers: []string{}}, trafficOf(key("php"), nil, outcome.Calls{}))
}

// What cannot be said in JSON is a failure, and no empty answer with the status of a good one.
func TestNoEmptyAnswers(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	respond(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil), func(*http.Request) (any, error) { return math.NaN(), nil })
	require.Equal(t, http.StatusInternalServerError, w.Code)
	require.JSONEq(t, `{"error": "json: unsupported value: NaN"}`, w.Body.String())
}

// What is kept of a shift is bounded, the newest is exact, and of what is older the worst is told.
func TestHistoryIsBounded(t *testing.T) {
	t.Parallel()
	h, s := NewHistory(), shiftInStep()
	begin := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	for i := range int(40 * 24 * time.Hour / time.Minute) { // every minute for forty days
		s.Status.Analysis.Pods.SuccessRate = "99.9"
		if i == 40*24*60-60 {
			s.Status.Analysis.Pods.SuccessRate = "12.5"
		}
		h.Sample([]v1alpha1.TrafficShift{*s}, begin.Add(time.Duration(i)*time.Minute))
	}
	points := h.Of(s, begin).Points
	require.LessOrEqual(t, len(points), 360+720+2880+3)
	require.Greater(t, len(points), 2880)
	worst := float32(100)
	for i := range points {
		worst = min(worst, points[i].Target.SuccessRate)
		if i > 0 {
			require.False(t, points[i].Time.Before(points[i-1].Time), "in the order of time")
		}
	}
	require.InDelta(t, 12.5, worst, .001)
	s.UID = "u-2"
	require.Empty(t, h.Of(s, begin).Points, "another shift of the same name")
	h.Sample(nil, begin)
	require.Empty(t, h.rings)
	many := make([]v1alpha1.TrafficShift, 2*maxShifts)
	for i := range many {
		many[i] = *s.DeepCopy()
		many[i].Name = fmt.Sprint(i)
	}
	h.Sample(many, begin)
	require.Len(t, h.rings, maxShifts)
}

// A resource is shown without what is secret in it.
func TestContentHasNoSecrets(t *testing.T) {
	t.Parallel()
	body, err := proto.Marshal(&routev3.VirtualHost{Name: "shop", Domains: []string{"*"}, RequestHeadersToAdd: []*corev3.HeaderValueOption{
		{Header: &corev3.HeaderValue{Key: "Authorization", Value: "Basic c2VjcmV0"}}, {Header: &corev3.HeaderValue{Key: "x-shop", Value: "blue"}},
	}})
	require.NoError(t, err)
	text, err := ContentOf(resource.VirtualHost, body)
	require.NoError(t, err)
	require.Contains(t, text, "value: blue")
	require.NotContains(t, text, "c2VjcmV0")
	body, err = proto.Marshal(&clusterv3.Cluster{Name: "a"})
	require.NoError(t, err)
	text, err = ContentOf(resource.Cluster, body)
	require.NoError(t, err)
	require.Equal(t, "name: a\n", text)
	_, err = ContentOf(resource.Secret, nil)
	require.Equal(t, http.StatusNotFound, StatusOf(err))
	require.Equal(t, map[string]any{"a": []any{map[string]any{"private_key": leftOut}}, "password": leftOut},
		withoutSecrets(map[string]any{"a": []any{map[string]any{"private_key": "k"}}, "password": map[string]any{"inline_string": "k"}}))
}

// Changes are told once, newest first, with who has them; what was there at the beginning is none.
func TestChanges(t *testing.T) {
	t.Parallel()
	c, l := catalog.New(), &Log{}
	object := func(name string, generation int64) *discovery.Object {
		return &discovery.Object{Scope: "s", Kind: "HTTPRoute", Key: discovery.Key{Namespace: "web", Name: name}, Generation: generation, Editor: "kubectl-edit"}
	}
	put := func(objects ...*discovery.Object) {
		_, err := c.Write(time.Time{}, func(tx *catalog.Tx) error {
			for _, o := range objects {
				catalog.Objects.Put(tx, o)
			}
			return nil
		})
		require.NoError(t, err)
	}
	put(object("old", 1))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	ready := make(chan struct{}, 1)
	go func() {
		defer close(done)
		_ = l.Run(ctx, c, func() bool {
			select {
			case ready <- struct{}{}:
			default:
			}
			return true
		})
	}()
	<-ready
	put(object("old", 2), object("new", 1))
	require.Eventually(t, func() bool {
		return len(ChangesOf(l, nil, nil, nil, time.Now()).Changes) == 2
	}, 5*time.Second, 5*time.Millisecond)
	cancel()
	<-done
	v := ChangesOf(l, []v1alpha1.TrafficShift{*shiftInStep()}, nil, nil, time.Now())
	require.Len(t, v.Changes, 4)
	require.Equal(t, []string{"added", "new"}, []string{v.Changes[0].What, v.Changes[0].Name})
	require.Equal(t, []string{"changed", "old", "kubectl-edit"}, []string{v.Changes[1].What, v.Changes[1].Name, v.Changes[1].By})
	require.Equal(t, []string{"Step", "ada", "0 % to 1 %: go"}, []string{v.Changes[3].What, v.Changes[3].By, v.Changes[3].Detail})
	for range 3 {
		var many []catalog.Change
		for i := range maxChanges {
			many = append(many, catalog.Change{After: object(fmt.Sprint(i), 1)})
		}
		l.note(many, time.Now())
	}
	require.Len(t, l.changes, maxChanges)
}

// one answers every question with something of its own.
type one struct{ asked []string }

func (o *one) note(format string, args ...any) {
	o.asked = append(o.asked, fmt.Sprintf(format, args...))
}

func (o *one) Overview(context.Context) (*Overview, error) { return &Overview{Version: "v"}, nil }

func (o *one) Service(_ context.Context, key discovery.Key) (*Service, error) {
	o.note("service %s", key)
	return &Service{HomeBecause: "h"}, nil
}

func (o *one) Shift(_ context.Context, key discovery.Key) (*Shift, error) {
	return nil, NotFound("there is no TrafficShift " + key.String())
}

func (o *one) Proxies(context.Context) (*Proxies, error) { return &Proxies{}, nil }

func (o *one) Proxy(_ context.Context, id, kind, name string) (*Proxy, error) {
	o.note("proxy %s %s %s", id, kind, name)
	return &Proxy{Content: "c"}, nil
}

func (o *one) Explain(_ context.Context, q *explain.Question) (*explain.Explanation, error) {
	o.note("explain %s %s %v", q.Method, q.URL, q.Headers)
	return nil, explain.WrongInput("--from: say who asks")
}

func (o *one) Object(_ context.Context, name discovery.ObjectName) (*status.Object, error) {
	o.note("object %s", name)
	return nil, errors.New("broken")
}

func (o *one) Changes(context.Context) (*Changes, error) { return &Changes{}, nil }

func (o *one) Status(context.Context) (*status.Mesh, error) { return &status.Mesh{Objects: 7}, nil }

func (o *one) Endpoints(_ context.Context, service string) ([]status.Service, error) {
	o.note("endpoints %s", service)
	return []status.Service{{Service: "web/php"}}, nil
}

func (o *one) ProxyStatuses(context.Context) ([]server.ProxyStatus, error) {
	return []server.ProxyStatus{{ID: "p"}}, nil
}

func (o *one) Objects(context.Context) (*observe.View, error) {
	return &observe.View{Leading: true}, nil
}

func (o *one) Members(context.Context) ([]members.Member, error) {
	return []members.Member{{Node: "m"}}, nil
}

func (o *one) Shifts(_ context.Context, name string) (*describe.View, error) {
	o.note("shifts %s", name)
	if name != "" {
		return nil, &Error{http.StatusServiceUnavailable, "not read yet"}
	}
	return &describe.View{Shifts: []v1alpha1.TrafficShift{*shiftInStep()}}, nil
}

// A control plane that is asked by its API answers as it does itself: names arrive whatever is in them, and so do errors
// with their status.
func TestRemoteIsAsLocal(t *testing.T) {
	t.Parallel()
	local := &one{}
	mux := http.NewServeMux()
	Register(mux, local)
	there := httptest.NewServer(mux)
	defer there.Close()
	asker := &client.Client{Address: there.Listener.Addr().String()}
	remote := Reader(&Remote{Get: func(ctx context.Context, path string, query url.Values, out any) error {
		err := asker.Do(ctx, http.MethodGet, path, query, out)
		if e, ok := errors.AsType[*client.Error](err); ok {
			return &Error{e.Status, e.Text}
		}
		return err
	}})
	ctx := t.Context()
	v, err := remote.Overview(ctx)
	require.NoError(t, err)
	require.Equal(t, "v", v.Version)
	mesh, err := remote.Status(ctx)
	require.NoError(t, err)
	require.Equal(t, 7, mesh.Objects)
	services, err := remote.Endpoints(ctx, "web/a b")
	require.NoError(t, err)
	require.Equal(t, "web/php", services[0].Service)
	proxies, err := remote.ProxyStatuses(ctx)
	require.NoError(t, err)
	require.Equal(t, "p", proxies[0].ID)
	programmed, err := remote.Objects(ctx)
	require.NoError(t, err)
	require.True(t, programmed.Leading)
	agents, err := remote.Members(ctx)
	require.NoError(t, err)
	require.Equal(t, "m", agents[0].Node)
	shifts, err := remote.Shifts(ctx, "")
	require.NoError(t, err)
	require.Equal(t, "php-web", shifts.Shifts[0].Name)
	_, err = remote.Shifts(ctx, "web/x&y")
	require.Equal(t, http.StatusServiceUnavailable, StatusOf(err))
	require.Equal(t, []string{"endpoints web/a b", "shifts ", "shifts web/x&y"}, local.asked)
	local.asked = nil
	svc, err := remote.Service(ctx, discovery.Key{Namespace: "web", Name: "a b"})
	require.NoError(t, err)
	require.Equal(t, "h", svc.HomeBecause)
	p, err := remote.Proxy(ctx, "sidecar~web/..~cron~i?1#%", "VHDS", "a/b/*")
	require.NoError(t, err)
	require.Equal(t, "c", p.Content)
	_, err = remote.Shift(ctx, discovery.Key{Namespace: "web", Name: "x"})
	require.Equal(t, &Error{http.StatusNotFound, "there is no TrafficShift web/x"}, err)
	_, err = remote.Explain(ctx, &explain.Question{Method: "GET", URL: "http://a/", Headers: []string{"a: b", "c: d"}})
	require.Equal(t, http.StatusBadRequest, StatusOf(err))
	_, err = remote.Object(ctx, discovery.ObjectName{Kind: "GatewayClass", Key: discovery.Key{Name: "causeway"}})
	require.Equal(t, http.StatusInternalServerError, StatusOf(err))
	require.Equal(t, []string{
		"service web/a b", "proxy sidecar~web/..~cron~i?1#% VHDS a/b/*", "explain GET http://a/ [a: b c: d]", "object GatewayClass causeway",
	}, local.asked)
}
