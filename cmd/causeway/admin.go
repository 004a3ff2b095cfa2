package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/diff"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/policy/shift/runner"
	"github.com/causeway-mesh/causeway/xds/engine"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/snapshot"
	"github.com/causeway-mesh/causeway/xds/status"
)

// healthHandler serves what kubelet and Prometheus ask for.
func (s *serve) healthHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if missing := s.missing(); len(missing) > 0 || !s.serving.Load() {
			http.Error(w, "not ready: waiting for "+joinOr(missing, "the first compilation"), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ready\n"))
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}))
	return mux
}

// adminHandler serves the CLI. It can change things and has no authentication
// of its own, which is why it listens on loopback, and takes nothing that a page in
// a browser may have sent (fromCLI).
func (s *serve) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.status()) })
	mux.HandleFunc("GET /v1/proxies", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.xds.Proxies()) })
	mux.HandleFunc("GET /v1/programmed", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.observer.View()) })
	mux.HandleFunc("GET /v1/endpoints", s.inForce(http.StatusBadRequest, func(now engine.InForce, r *http.Request) (any, error) {
		services := status.Services(s.catalog.Read(), now.Catalog, s.xds.Proxies(), r.URL.Query().Get("service"))
		for i := range services {
			v := &services[i]
			if u := s.store.Units([]string{"service/" + v.Service})[0]; len(u.HeldFor) > 0 {
				v.Findings = append(v.Findings, "Service "+v.Service+": "+status.HeldText(u.HeldFor))
			}
		}
		return services, nil
	}))
	mux.HandleFunc("GET /v1/state", s.inForce(http.StatusBadRequest, func(now engine.InForce, _ *http.Request) (any, error) {
		return diff.NewState(now.Catalog, now.Freeze, now.LastGood), nil
	}))
	mux.HandleFunc("GET /v1/sources", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, slices.Collect(catalog.Sources.All(s.catalog.Read())))
	})
	mux.HandleFunc("GET /v1/groups", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, slices.Collect(catalog.GroupStatuses.All(s.catalog.Read())))
	})
	mux.HandleFunc("GET /v1/resources", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		writeJSON(w, s.store.Resources(snapshot.View{
			Role: resource.Role(q.Get("role")), Namespace: q.Get("namespace"), Zone: q.Get("zone"), NodeName: q.Get("nodeName"),
		}))
	})
	mux.HandleFunc("GET /v1/shifts", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, runner.ViewOf(s.catalog.Read(), r.URL.Query().Get("shift")))
	})
	mux.HandleFunc("POST /v1/shifts/command", s.shiftCommandHandler)
	mux.HandleFunc("DELETE /v1/shifts/command", s.shiftWithdrawHandler)
	mux.HandleFunc("POST /v1/freeze", s.freezeHandler)
	mux.HandleFunc("GET /v1/rejections", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.store.Rejections()) })
	mux.HandleFunc("GET /v1/explain/request", s.inForce(http.StatusBadRequest, s.explainRequest))
	mux.HandleFunc("GET /v1/explain/object", s.inForce(http.StatusNotFound, s.explainObject))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("POST /v1/guard/release", s.releaseGuard)
	return fromCLI(mux, s.opts.adminHosts)
}

// inForce answers with what is made of what proxies are configured by. An error is the asker's, with a status.
func (s *serve) inForce(wrong int, answer func(engine.InForce, *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		now, err := s.engine.InForce()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		v, err := answer(now, r)
		if err != nil {
			http.Error(w, err.Error(), wrong)
			return
		}
		writeJSON(w, v)
	}
}

// fromCLI passes on requests that no page in a browser can have sent. A browser
// reaches loopback for any site: it says whose page asks (Origin,
// Sec-Fetch-Site), cannot send JSON elsewhere without asking first, and names in
// Host what the page did, also where a name of the page's own leads here.
func fromCLI(next http.Handler, hosts []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
		site, origin := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Origin")
		switch {
		case !isAdminHost(r.Host, hosts):
			http.Error(w, fmt.Sprintf("%q is not the admin API's name: ask 127.0.0.1, or name it with --admin-host", r.Host), http.StatusMisdirectedRequest)
		case site != "" && site != "same-origin" && site != "none", origin != "" && origin != "http://"+r.Host:
			http.Error(w, "the admin API answers no page of another site", http.StatusForbidden)
		case r.Method != http.MethodGet && r.Method != http.MethodHead && kind != "application/json":
			http.Error(w, "send Content-Type: application/json; the causeway command of this version does", http.StatusUnsupportedMediaType)
		default:
			w.Header().Set("X-Content-Type-Options", "nosniff")
			w.Header().Set("Cross-Origin-Resource-Policy", "same-origin")
			next.ServeHTTP(w, r)
		}
	})
}

// isAdminHost reports whether a Host header names the admin API: an address of
// loopback, localhost, or a name of hosts, with any port.
func isAdminHost(host string, hosts []string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if host == "localhost" || slices.ContainsFunc(hosts, func(h string) bool { return strings.EqualFold(h, host) }) {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.IsLoopback()
}

func (s *serve) releaseGuard(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("config") != "" {
		if s.releaseConfig == nil {
			http.Error(w, "this control plane reads no configuration directory", http.StatusNotFound)
			return
		}
		released := s.releaseConfig()
		s.log.Info("objects whose files are gone were released by hand", "held", released)
		writeJSON(w, struct{ Released int }{released})
		return
	}
	name := r.URL.Query().Get("group")
	g, ok := catalog.InstanceGroups.Get(s.catalog.Read(), name)
	if !ok {
		among := catalog.Keys(s.catalog.Read(), discovery.KindInstanceGroup)
		http.Error(w, "there is no InstanceGroup "+name+": "+meant(namedKeys([]string{name})[0], among, "name it as NAMESPACE/NAME"), http.StatusNotFound)
		return
	}
	held := 0
	if st, ok := catalog.GroupStatuses.Get(s.catalog.Read(), name); ok {
		held = st.GuardHeld
	}
	s.release(g.Key)
	s.log.Info("the never-empty guard was released by hand", "group", name, "held", held)
	writeJSON(w, struct{ Released int }{held})
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // a client that went away
}

// serveHTTP serves a handler until the context ends.
func serveHTTP(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 2 * time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		_ = srv.Close()
	}()
	err := srv.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		<-stopped
		return ctx.Err()
	}
	return err
}

// collector turns the catalog's state into metrics when they are asked for.
type collector struct {
	serve *serve

	lastSync, failing, resources, bytes, guard, instances, failedOver, proxiesBehind, refused *prometheus.Desc
}

func newCollector(s *serve) *collector {
	return &collector{
		serve:         s,
		lastSync:      prometheus.NewDesc("causeway_source_last_sync_timestamp_seconds", "When a source last read everything, in Unix time.", []string{"source"}, nil),
		failing:       prometheus.NewDesc("causeway_source_failing", "1 while a source's newest attempt to read has failed.", []string{"source"}, nil),
		resources:     prometheus.NewDesc("causeway_xds_resources", "Resources in the snapshot.", []string{"type"}, nil),
		bytes:         prometheus.NewDesc("causeway_xds_resource_bytes", "Bytes of the resources in the snapshot, all zones' variants together.", []string{"type"}, nil),
		guard:         prometheus.NewDesc("causeway_guard_held_instances", "Instances that the never-empty guard holds back from removal.", []string{"group"}, nil),
		instances:     prometheus.NewDesc("causeway_group_instances", "Instances of a group by state (desired, ready, draining, spot).", []string{"group", "state"}, nil),
		failedOver:    prometheus.NewDesc("causeway_failed_over_ports", "Ports of a Service whose home has no usable endpoint, so that the other backing answers.", []string{"service"}, nil),
		refused:       prometheus.NewDesc("causeway_xds_rejected_resources", "Resources that a proxy refused and that are not mended since, by whether the last good content is pinned in their place.", []string{"pinned"}, nil),
		proxiesBehind: prometheus.NewDesc("causeway_xds_proxies_behind", "Connected proxies that have not acknowledged everything, by cause (pending, rejected, stalled).", []string{"cause"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.lastSync, c.failing, c.resources, c.bytes, c.guard, c.instances, c.failedOver, c.proxiesBehind, c.refused} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	r := c.serve.catalog.Read()
	for st := range catalog.Sources.All(r) {
		if !st.LastSync.IsZero() {
			gauge(c.lastSync, float64(st.LastSync.UnixMilli())/1000, st.Name)
		}
		failing := 0.0
		if st.Error != "" {
			failing = 1
		}
		gauge(c.failing, failing, st.Name)
	}
	told := make(map[discovery.Key]bool)
	for g := range catalog.InstanceGroups.All(r) {
		key := discovery.Key{Namespace: g.Namespace, Name: g.Object.Spec.ServiceRef.Name}
		if !told[key] {
			told[key] = true
			gauge(c.failedOver, float64(resolve.FailedOver(r, key)), key.String())
		}
	}
	for st := range catalog.GroupStatuses.All(r) {
		group := st.Key.String()
		gauge(c.guard, float64(st.GuardHeld), group)
		gauge(c.instances, float64(st.Counts.Desired), group, "desired")
		gauge(c.instances, float64(st.Counts.Ready), group, "ready")
		gauge(c.instances, float64(st.Counts.Draining), group, "draining")
		gauge(c.instances, float64(st.Counts.Spot), group, "spot")
	}
	count, bytes := c.serve.store.Totals()
	for t := range count {
		gauge(c.resources, float64(count[t]), typeName(t))
		gauge(c.bytes, float64(bytes[t]), typeName(t))
	}
	refused := map[bool]float64{true: 0, false: 0}
	for _, r := range c.serve.store.Rejections() {
		refused[r.Pinned]++
	}
	for pinned, n := range refused {
		gauge(c.refused, n, strconv.FormatBool(pinned))
	}
	var pending, rejected, stalled float64
	for _, p := range c.serve.xds.Proxies() {
		switch status.ProxyState(&p) {
		case "in sync":
		case "rejected":
			rejected++
		default:
			if p.StalledSince.IsZero() {
				pending++
			} else {
				stalled++
			}
		}
	}
	gauge(c.proxiesBehind, pending, "pending")
	gauge(c.proxiesBehind, rejected, "rejected")
	gauge(c.proxiesBehind, stalled, "stalled")
}

// missing lists the sources that have neither synced nor a last known good.
func (s *serve) missing() []string {
	r := s.catalog.Read()
	var out []string
	for _, name := range s.required {
		if st, ok := catalog.Sources.Get(r, name); !ok || !st.Ready() {
			if ok && st.Error+st.Note != "" {
				name += " (" + cmp.Or(st.Error, st.Note) + ")"
			}
			out = append(out, name)
		}
	}
	return out
}
