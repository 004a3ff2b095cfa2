package main

import (
	"cmp"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/xds/admin"
	"github.com/causeway-mesh/causeway/xds/page"
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

// adminHandler serves the CLI, and the page. The CLI's part can change things and has no authentication of its own, which is
// why it listens on loopback, and takes nothing that a page in a browser may have sent (admin.FromCLI).
func (s *serve) adminHandler() http.Handler {
	cli, all := http.NewServeMux(), http.NewServeMux()
	s.plane.Admin(cli, version)
	commands := s.commands()
	commands.Register(cli)
	guarded := admin.FromCLI(cli, s.opts.adminHosts)
	all.Handle("/v1/", guarded)
	all.Handle("/debug/", guarded)
	all.Handle("/", page.New(page.Options{
		Reader: s.plane, Guest: &admin.Person{Who: "somebody at " + actor(), Role: admin.RoleOperator, Commands: commands},
		Host: func(host string) bool { return admin.IsHost(host, s.opts.adminHosts) }, Log: s.log,
	}))
	return all
}

// commands are what people may order where there is no Kubernetes.
func (s *serve) commands() *admin.Commands {
	return &admin.Commands{
		Here: s.opts.config != "", ShiftsFrom: s.opts.shiftsFrom, Shifts: s.shifts, Store: s.shiftStore, Log: s.log, Catalog: s.catalog,
		Release: func(key discovery.Key) { s.release(key) }, ReleaseConfig: s.releaseConfig,
	}
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
