package main

import (
	"cmp"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/diff"
	"github.com/causeway-mesh/causeway/policy/shift/runner"
	"github.com/causeway-mesh/causeway/xds/admin"
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
// a browser may have sent (admin.FromCLI).
func (s *serve) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { admin.WriteJSON(w, s.status()) })
	mux.HandleFunc("GET /v1/proxies", func(w http.ResponseWriter, _ *http.Request) { admin.WriteJSON(w, s.xds.Proxies()) })
	mux.HandleFunc("GET /v1/members", func(w http.ResponseWriter, _ *http.Request) { admin.WriteJSON(w, s.members.List()) })
	mux.HandleFunc("GET /v1/programmed", func(w http.ResponseWriter, _ *http.Request) { admin.WriteJSON(w, s.observer.View()) })
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
		admin.WriteJSON(w, slices.Collect(catalog.Sources.All(s.catalog.Read())))
	})
	mux.HandleFunc("GET /v1/groups", func(w http.ResponseWriter, _ *http.Request) {
		admin.WriteJSON(w, slices.Collect(catalog.GroupStatuses.All(s.catalog.Read())))
	})
	mux.HandleFunc("GET /v1/resources", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		admin.WriteJSON(w, s.store.Resources(snapshot.View{
			Role: resource.Role(q.Get("role")), Namespace: q.Get("namespace"), Zone: q.Get("zone"), NodeName: q.Get("nodeName"),
		}))
	})
	mux.HandleFunc("GET /v1/shifts", func(w http.ResponseWriter, r *http.Request) {
		name := r.URL.Query().Get("shift")
		view := runner.ViewOf(s.catalog.Read(), name)
		if missing := s.missing(); name != "" && len(view.Shifts) == 0 && len(missing) > 0 {
			http.Error(w, "whether there is a TrafficShift "+name+" is not known yet: waiting for "+strings.Join(missing, ", "), http.StatusServiceUnavailable)
			return
		}
		admin.WriteJSON(w, view)
	})
	(&admin.Commands{Here: s.opts.config != "", ShiftsFrom: s.opts.shiftsFrom, Shifts: s.shifts, Store: s.shiftStore, Log: s.log}).Register(mux)
	mux.HandleFunc("GET /v1/rejections", func(w http.ResponseWriter, _ *http.Request) { admin.WriteJSON(w, s.store.Rejections()) })
	mux.HandleFunc("GET /v1/explain/request", s.inForce(http.StatusBadRequest, s.explainRequest))
	mux.HandleFunc("GET /v1/explain/object", s.inForce(http.StatusNotFound, s.explainObject))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("POST /v1/guard/release", s.releaseGuard)
	return admin.FromCLI(mux, s.opts.adminHosts)
}

// inForce answers with the result of a function of the state in force. Its error is the asker's, with a
// status.
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
		admin.WriteJSON(w, v)
	}
}

func (s *serve) releaseGuard(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("config") != "" {
		if s.releaseConfig == nil {
			http.Error(w, "this control plane reads no configuration directory", http.StatusNotFound)
			return
		}
		released := s.releaseConfig()
		s.log.Info("objects whose files are gone were released by hand", "held", released)
		admin.WriteJSON(w, struct{ Released int }{released})
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
	admin.WriteJSON(w, struct{ Released int }{held})
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
