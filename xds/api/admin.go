package api

import (
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/diff"
	"github.com/causeway-mesh/causeway/policy/explain"
	"github.com/causeway-mesh/causeway/policy/shift/runner"
	"github.com/causeway-mesh/causeway/xds/admin"
	"github.com/causeway-mesh/causeway/xds/engine"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/snapshot"
	"github.com/causeway-mesh/causeway/xds/status"
)

// Admin adds what the commands ask for beside the API to what a server answers. These paths are of one version of
// Causeway, and have what a command of the same version needs.
func (p *Plane) Admin(mux *http.ServeMux) {
	value := func(of func() any) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { admin.WriteJSON(w, of()) }
	}
	mux.HandleFunc("GET /v1/status", value(func() any { return p.Status() }))
	mux.HandleFunc("GET /v1/proxies", value(func() any { return p.XDS.Proxies() }))
	mux.HandleFunc("GET /v1/members", value(func() any { return p.Members.List() }))
	mux.HandleFunc("GET /v1/programmed", value(func() any { return p.Observer().View() }))
	mux.HandleFunc("GET /v1/rejections", value(func() any { return p.Store.Rejections() }))
	mux.HandleFunc("GET /v1/sources", value(func() any { return slices.Collect(catalog.Sources.All(p.Catalog.Read())) }))
	mux.HandleFunc("GET /v1/groups", value(func() any { return slices.Collect(catalog.GroupStatuses.All(p.Catalog.Read())) }))
	mux.HandleFunc("GET /v1/endpoints", p.inForce(http.StatusBadRequest, func(now engine.InForce, r *http.Request) (any, error) {
		services := status.Services(p.Catalog.Read(), now.Catalog, p.XDS.Proxies(), r.URL.Query().Get("service"))
		for i := range services {
			v := &services[i]
			if u := p.Store.Units([]string{"service/" + v.Service})[0]; len(u.HeldFor) > 0 {
				v.Findings = append(v.Findings, "Service "+v.Service+": "+status.HeldText(u.HeldFor))
			}
		}
		return services, nil
	}))
	mux.HandleFunc("GET /v1/state", p.inForce(http.StatusBadRequest, func(now engine.InForce, _ *http.Request) (any, error) {
		return diff.NewState(now.Catalog, now.Freeze, now.LastGood), nil
	}))
	mux.HandleFunc("GET /v1/resources", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		admin.WriteJSON(w, p.Store.Resources(snapshot.View{
			Role: resource.Role(q.Get("role")), Namespace: q.Get("namespace"), Zone: q.Get("zone"), NodeName: q.Get("nodeName"),
		}))
	})
	mux.HandleFunc("GET /v1/shifts", func(w http.ResponseWriter, r *http.Request) {
		name := r.URL.Query().Get("shift")
		view := runner.ViewOf(p.Catalog.Read(), name)
		if missing := p.Missing(); name != "" && len(view.Shifts) == 0 && len(missing) > 0 {
			http.Error(w, "whether there is a TrafficShift "+name+" is not known yet: waiting for "+strings.Join(missing, ", "), http.StatusServiceUnavailable)
			return
		}
		admin.WriteJSON(w, view)
	})
	mux.HandleFunc("GET /v1/explain/request", p.inForce(http.StatusBadRequest, func(now engine.InForce, r *http.Request) (any, error) {
		return explain.QuestionOf(r.URL.Query()).Answer(now.Catalog, explainers(p.XDS.Proxies())) //nolint:wrapcheck // it is the asker's
	}))
	mux.HandleFunc("GET /v1/explain/object", p.inForce(http.StatusNotFound, func(now engine.InForce, r *http.Request) (any, error) {
		q := r.URL.Query()
		return p.object(now, discovery.ObjectName{Kind: q.Get("kind"), Key: discovery.Key{Namespace: q.Get("namespace"), Name: q.Get("name")}})
	}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}

// inForce answers with the result of a function of the state in force. Its error is the asker's, with a
// status.
func (p *Plane) inForce(wrong int, answer func(engine.InForce, *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		now, err := p.Engine.InForce()
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
