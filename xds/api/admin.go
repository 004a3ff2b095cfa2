package api

import (
	"fmt"
	"net/http"
	"net/http/pprof"
	"slices"

	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/diff"
	"github.com/causeway-mesh/causeway/xds/admin"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// Admin adds what commands ask for beside the API to what a server answers: the state that is compared with files, and what
// helps to find a fault of the control plane. These paths are of one version of Causeway.
func (p *Plane) Admin(mux *http.ServeMux, version string) {
	value := func(of func() any) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { admin.WriteJSON(w, of()) }
	}
	mux.HandleFunc("GET /v1/rejections", value(func() any { return p.Store.Rejections() }))
	mux.HandleFunc("GET /v1/sources", value(func() any { return slices.Collect(catalog.Sources.All(p.Catalog.Read())) }))
	mux.HandleFunc("GET /v1/groups", value(func() any { return slices.Collect(catalog.GroupStatuses.All(p.Catalog.Read())) }))
	mux.HandleFunc("GET /v1/state", func(w http.ResponseWriter, _ *http.Request) {
		now, err := p.Engine.InForce()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		admin.WriteJSON(w, diff.NewState(now.Catalog, now.Freeze, now.LastGood))
	})
	mux.HandleFunc("GET /v1/resources", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		admin.WriteJSON(w, p.Store.Resources(snapshot.View{
			Role: resource.Role(q.Get("role")), Namespace: q.Get("namespace"), Zone: q.Get("zone"), NodeName: q.Get("nodeName"),
		}))
	})
	mux.HandleFunc("GET /v1/", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, fmt.Sprintf("causeway %s has no %s: use the causeway command of that version, or the API (docs/api.md)", version, r.URL.Path), http.StatusNotFound)
	})
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}
