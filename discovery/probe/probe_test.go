package probe

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
)

var web = discovery.Key{Namespace: "web", Name: "php-web-ec2"}

func TestStreak(t *testing.T) {
	start := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name string
		// results in their order: o passes, x fails, s is silence, S is silence
		// while others are heard
		results string
		// want after each: - no result, + healthy, ! unhealthy
		want string
	}{
		{"passes", "ooo", "+++"},
		{"fails from the start", "xxx", "-!!"},
		{"one failure", "oxo", "+++"},
		{"two failures", "oxxx", "++!!"},
		{"one success is not enough", "oxxoxoo", "++!!!!+"},
		{"silence that others do not share", "oSS", "++!"},
		{"silence of all", "osssss", "++++++"},
		{"silence of all until others are heard", "osssSs", "++++!!"},
		{"silence of all from the start: nothing to wait for", "ssss", "-+++"},
		{"silence from the start, until others are heard", "ssSS", "-+!!"},
		{"silence of all keeps an unhealthy result", "oxxsss", "++!!!!"},
	} {
		t.Run(c.name, func(t *testing.T) {
			check := checkOf(&v1alpha1.HealthCheck{})
			var s streak
			var v discovery.CheckedHealth
			var heard time.Time
			checked := false
			for i, r := range c.results {
				at := start.Add(time.Duration(i) * time.Second)
				if r != 's' {
					heard = at.Add(time.Millisecond)
				}
				got, changed := s.add(result{ok: r == 'o', silent: r == 's' || r == 'S', reason: "x"}, at, heard, checked, v, &check)
				if changed {
					v, checked = got, true
				}
				state := "-"
				switch {
				case checked && v.Healthy:
					state = "+"
				case checked:
					state = "!"
				}
				require.Equal(t, string(c.want[i]), state, "after %s", c.results[:i+1])
			}
		})
	}
}

func TestCheck(t *testing.T) {
	var redirected atomic.Bool
	mux := http.NewServeMux()
	answer := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Host != "php-web" || !r.Close {
				status = http.StatusTeapot
			}
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
		}
	}
	mux.HandleFunc("/ok", answer(204))
	mux.HandleFunc("/moved", answer(302))
	mux.HandleFunc("/missing", answer(404))
	mux.HandleFunc("/broken", answer(503))
	mux.HandleFunc("/elsewhere", func(http.ResponseWriter, *http.Request) { redirected.Store(true) })
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/query", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "deep=1" {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	port := listen(t, mux)

	garbage, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = garbage.Close() })
	go func() {
		for {
			conn, err := garbage.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("220 smtp.example ESMTP\r\n"))
			_ = conn.Close()
		}
	}()
	_, refusing := split(harness.FreeAddress(t))

	for _, c := range []struct {
		path   string
		port   uint16
		ok     bool
		silent bool
		reason string
	}{
		{"/ok", port, true, false, ""},
		{"/moved", port, true, false, ""},
		{"/query?deep=1", port, true, false, ""},
		{"/missing", port, false, false, "CheckFailed: /missing answered 404"},
		{"/broken", port, false, false, "CheckFailed: /broken answered 503"},
		{"/slow", port, false, false, "CheckTimeout"},
		{"/%zz", port, false, false, "CheckInvalid"},
		{"/ok", refusing, false, false, "CheckRefused"},
		{"", refusing, false, false, "CheckRefused"},
		{"", port, true, false, ""},
		{"/ok", portOf(garbage), false, false, "CheckFailed"},
		{"", portOf(garbage), true, false, ""},
	} {
		got := newChecker().do(context.Background(), &check{address: "127.0.0.1", port: c.port, path: c.path, host: "php-web", timeout: 300 * time.Millisecond})
		require.Equal(t, c.ok, got.ok, "%s: %+v", c.path, got)
		require.Equal(t, c.silent, got.silent, "%s: %+v", c.path, got)
		require.Contains(t, got.reason, c.reason)
		require.Equal(t, !c.ok, strings.HasPrefix(got.reason, reasonPrefix), "a new leader knows the reasons by it")
	}
	require.False(t, redirected.Load())

	ctx, cancel := context.WithTimeout(context.Background(), time.Nanosecond)
	defer cancel()
	got := newChecker().do(ctx, &check{address: "127.0.0.1", port: port, timeout: time.Second})
	require.True(t, got.silent)
}

func listen(t *testing.T, h http.Handler) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return portOf(l)
}

func portOf(l net.Listener) uint16 { return netip.MustParseAddrPort(l.Addr().String()).Port() }

func split(address string) (string, uint16) {
	host, port, _ := net.SplitHostPort(address)
	n, _ := strconv.ParseUint(port, 10, 16)
	return host, uint16(n)
}

func groupRow(change func(*v1alpha1.InstanceGroupSpec)) *discovery.InstanceGroup {
	g := &v1alpha1.InstanceGroup{}
	g.Spec = v1alpha1.InstanceGroupSpec{
		ServiceRef: v1alpha1.ServiceReference{Name: "php-web"}, Region: "ap-northeast-1", Ports: []v1alpha1.InstancePort{{Port: 80}},
		HealthCheck: &v1alpha1.HealthCheck{
			Interval: metav1.Duration{Duration: 50 * time.Millisecond}, Timeout: metav1.Duration{Duration: 200 * time.Millisecond},
		},
	}
	change(&g.Spec)
	return &discovery.InstanceGroup{Scope: "test", Key: web, Object: g}
}

type world struct {
	t       *testing.T
	catalog *catalog.Catalog
}

func start(t *testing.T, p *Prober, rows func(*catalog.Tx)) *world {
	t.Helper()
	w := &world{t, catalog.New()}
	w.put(rows)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx, w.catalog) }()
	t.Cleanup(func() {
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
	})
	return w
}

func (w *world) put(f func(*catalog.Tx)) {
	w.t.Helper()
	_, err := w.catalog.Write(time.Time{}, func(tx *catalog.Tx) error { f(tx); return nil })
	require.NoError(w.t, err)
}

func (w *world) results() map[string]discovery.CheckedHealth {
	set, ok := catalog.Checks.Get(w.catalog.Read(), web.String())
	if !ok {
		return nil
	}
	return set.ByID
}

func (w *world) await(what string, ok func(map[string]discovery.CheckedHealth) bool) {
	w.t.Helper()
	harness.Eventually(w.t, 10*time.Second, what, func() error {
		if v := w.results(); !ok(v) {
			return fmt.Errorf("%d results: %.500s", len(v), fmt.Sprint(v))
		}
		return nil
	})
}

func instances(endpoints ...discovery.Endpoint) *discovery.InstanceSet {
	return &discovery.InstanceSet{Scope: "ec2", Key: web, Endpoints: endpoints}
}

func TestRun(t *testing.T) {
	var broken atomic.Bool
	port := listen(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if broken.Load() && strings.HasPrefix(r.RemoteAddr, "127.") && r.Context().Value(http.LocalAddrContextKey).(net.Addr).String() != "" {
			rw.WriteHeader(http.StatusInternalServerError)
		}
	}))
	onPort := func(s *v1alpha1.InstanceGroupSpec) {
		s.HealthCheck.Port = int32(port)
		s.HealthCheck.HTTP = &v1alpha1.HTTPHealthCheck{Path: "/healthz"}
	}
	a, b := discovery.Endpoint{ID: "i-a", Address: "127.0.0.1"}, discovery.Endpoint{ID: "i-b", Address: "127.0.0.2"}
	w := start(t, New(slog.New(slog.DiscardHandler)), func(tx *catalog.Tx) {
		catalog.Objects.Put(tx, groupRow(onPort).Row())
		catalog.Instances.Put(tx, instances(a, b)) // nothing listens on the second
	})
	w.await("both results", func(v map[string]discovery.CheckedHealth) bool {
		return v["i-a"].Healthy && strings.HasPrefix(v["i-b"].Reason, "CheckRefused")
	})

	revision := w.catalog.Read().Revision()
	harness.Throughout(t, 300*time.Millisecond, "that the same results again are no change", func() error {
		if n := w.catalog.Read().Revision(); n != revision {
			return fmt.Errorf("it is %d", n)
		}
		return nil
	})

	broken.Store(true)
	w.await("i-a to fail", func(v map[string]discovery.CheckedHealth) bool {
		return v["i-a"].Reason == "CheckFailed: /healthz answered 500"
	})
	broken.Store(false)
	w.await("i-a to pass", func(v map[string]discovery.CheckedHealth) bool { return v["i-a"].Healthy })

	w.put(func(tx *catalog.Tx) { catalog.Instances.Put(tx, instances(a)) })
	w.await("the result of an instance that is gone to go", func(v map[string]discovery.CheckedHealth) bool { _, ok := v["i-b"]; return !ok && len(v) == 1 })

	moved := a
	moved.Address = "127.0.0.2"
	w.put(func(tx *catalog.Tx) { catalog.Instances.Put(tx, instances(moved)) })
	w.await("the other address to be checked", func(v map[string]discovery.CheckedHealth) bool {
		return strings.HasPrefix(v["i-a"].Reason, "CheckRefused")
	})

	w.put(func(tx *catalog.Tx) {
		catalog.Objects.Put(tx, groupRow(func(s *v1alpha1.InstanceGroupSpec) { s.HealthCheck = nil }).Row())
	})
	w.await("the results to go with the check", func(v map[string]discovery.CheckedHealth) bool { return v == nil })
	w.put(func(tx *catalog.Tx) { catalog.Objects.Put(tx, groupRow(onPort).Row()) })
	w.await("the check to come back", func(v map[string]discovery.CheckedHealth) bool { return len(v) == 1 })
	w.put(func(tx *catalog.Tx) { catalog.Objects.Delete(tx, "InstanceGroup "+web.String()) })
	w.await("the results to go with the group", func(v map[string]discovery.CheckedHealth) bool { return v == nil })
}

func TestRunStartsFromWhatIsPublished(t *testing.T) {
	p := New(slog.New(slog.DiscardHandler))
	p.check = func(context.Context, *check) result { return result{silent: true, reason: "CheckTimeout"} }
	w := start(t, p, func(tx *catalog.Tx) {
		catalog.Objects.Put(tx, groupRow(func(*v1alpha1.InstanceGroupSpec) {}).Row())
		catalog.Instances.Put(tx, instances(discovery.Endpoint{ID: "i-a", Address: "10.0.0.1"}, discovery.Endpoint{ID: "i-b", Address: "10.0.0.2"}))
		catalog.Endpoints.Put(tx, &discovery.EndpointSet{
			Scope: "slices", Key: web, Service: discovery.Key{Namespace: "web", Name: "php-web"}, Platform: discovery.Instances, Group: web.Name,
			Endpoints: []discovery.Endpoint{
				{ID: "i-a", Address: "10.0.0.1", Health: discovery.Unhealthy, Reason: "CheckRefused: x"},
				{ID: "i-b", Address: "10.0.0.2", Health: discovery.Unhealthy, Reason: "AutoScalingUnhealthy: x"},
			},
		})
		catalog.Checks.Put(tx, &discovery.HealthSet{Scope: Scope, Key: web, ByID: map[string]discovery.CheckedHealth{"i-gone": {}}})
	})
	want := map[string]discovery.CheckedHealth{"i-a": {Reason: "CheckRefused: x"}, "i-b": {Healthy: true}}
	w.await("the result of the last leader", func(v map[string]discovery.CheckedHealth) bool { return fmt.Sprint(v) == fmt.Sprint(want) })
	harness.Throughout(t, 300*time.Millisecond, "that silence of all changes nothing", func() error {
		if got := w.results(); !maps.Equal(got, want) {
			return fmt.Errorf("the results are %+v", got)
		}
		return nil
	})
}

func TestRunIsBounded(t *testing.T) {
	var now, most, total atomic.Int64
	p := New(slog.New(slog.DiscardHandler))
	p.check = func(ctx context.Context, k *check) result {
		most.Store(max(most.Load(), now.Add(1)))
		defer now.Add(-1)
		if total.Add(1)%100 == 0 {
			panic("a crash in one check")
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
		return result{ok: true}
	}
	var endpoints []discovery.Endpoint
	for i := range 5000 {
		endpoints = append(endpoints, discovery.Endpoint{ID: fmt.Sprintf("i-%d", i), Address: fmt.Sprintf("10.0.%d.%d", i/250, i%250)})
	}
	w := start(t, p, func(tx *catalog.Tx) {
		catalog.Objects.Put(tx, groupRow(func(s *v1alpha1.InstanceGroupSpec) { s.HealthCheck.Interval.Duration = 500 * time.Millisecond }).Row())
		catalog.Instances.Put(tx, instances(endpoints...))
	})
	w.await("all 5000", func(v map[string]discovery.CheckedHealth) bool { return len(v) == 5000 })
	require.LessOrEqual(t, most.Load(), int64(maxConcurrent))
}
