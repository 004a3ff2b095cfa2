// Package api is the control plane's versioned HTTP API, /api/v1: what the page shows and the commands ask, as JSON.
//
// Its views are values, made by pure functions from what the control plane has in memory. docs/api.md documents
// them: a field of version 1 keeps its name and its meaning, and more may come.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/explain"
	"github.com/causeway-mesh/causeway/policy/shift/describe"
	"github.com/causeway-mesh/causeway/xds/members"
	"github.com/causeway-mesh/causeway/xds/observe"
	"github.com/causeway-mesh/causeway/xds/server"
	"github.com/causeway-mesh/causeway/xds/status"
)

// Version of the API, and the Prefix of its paths.
const (
	Version = "v1"
	Prefix  = "/api/" + Version
)

// Reader answers with views: from this control plane (Plane), or from another one by its API (Remote). Errors that
// are an Error have a status for HTTP.
type Reader interface {
	Overview(ctx context.Context) (*Overview, error)
	Service(ctx context.Context, key discovery.Key) (*Service, error)
	Shift(ctx context.Context, key discovery.Key) (*Shift, error)
	Proxies(ctx context.Context) (*Proxies, error)
	// Proxy returns a proxy by its node id, and the content of one of its resources if kind ("CDS") and name are given.
	Proxy(ctx context.Context, id, kind, name string) (*Proxy, error)
	Explain(ctx context.Context, q *explain.Question) (*explain.Explanation, error)
	Object(ctx context.Context, name discovery.ObjectName) (*status.Object, error)
	Changes(ctx context.Context) (*Changes, error)
	Lists
}

// Lists are what commands print.
type Lists interface {
	// Status is where everything stands.
	Status(ctx context.Context) (*status.Mesh, error)
	// Endpoints are those of all Services, or of the one that is named "namespace/name"; none for one that there is not.
	Endpoints(ctx context.Context, service string) ([]status.Service, error)
	// ProxyStatuses are the proxies of the control plane that answers, by their ids.
	ProxyStatuses(ctx context.Context) ([]server.ProxyStatus, error)
	// Objects says of each object whether all proxies have it; of the whole mesh on the leader alone.
	Objects(ctx context.Context) (*observe.View, error)
	// Members are the agents of the control plane that answers.
	Members(ctx context.Context) ([]members.Member, error)
	// Shifts are all, or the one that is named "namespace/name"; none for one that there is not.
	Shifts(ctx context.Context, name string) (*describe.View, error)
}

// Error is an error with a status of HTTP.
type Error struct {
	Status int
	Text   string
}

func (e *Error) Error() string { return e.Text }

// NotFound is the error of something that is not there.
func NotFound(text string) error { return &Error{http.StatusNotFound, text} }

// StatusOf returns the status of HTTP that an error has.
func StatusOf(err error) int {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Status
	}
	if errors.Is(err, explain.ErrInput) {
		return http.StatusBadRequest
	}
	return http.StatusInternalServerError
}

// Register adds the API's paths to what a server answers.
func Register(mux *http.ServeMux, r Reader) {
	get := func(path string, answer func(*http.Request) (any, error)) {
		mux.HandleFunc("GET "+Prefix+path, func(w http.ResponseWriter, req *http.Request) { respond(w, req, answer) })
	}
	get("/overview", func(req *http.Request) (any, error) { return r.Overview(req.Context()) })
	get("/services/{namespace}/{name}", func(req *http.Request) (any, error) { return r.Service(req.Context(), keyOf(req)) })
	get("/shifts/{namespace}/{name}", func(req *http.Request) (any, error) { return r.Shift(req.Context(), keyOf(req)) })
	get("/proxies", func(req *http.Request) (any, error) { return r.Proxies(req.Context()) })
	get("/proxystatuses", func(req *http.Request) (any, error) { return r.ProxyStatuses(req.Context()) })
	get("/status", func(req *http.Request) (any, error) { return r.Status(req.Context()) })
	get("/endpoints", func(req *http.Request) (any, error) {
		return r.Endpoints(req.Context(), req.URL.Query().Get("service"))
	})
	get("/objects", func(req *http.Request) (any, error) { return r.Objects(req.Context()) })
	get("/members", func(req *http.Request) (any, error) { return r.Members(req.Context()) })
	get("/shifts", func(req *http.Request) (any, error) { return r.Shifts(req.Context(), req.URL.Query().Get("shift")) })
	get("/proxies/{id}", func(req *http.Request) (any, error) {
		q := req.URL.Query()
		return r.Proxy(req.Context(), req.PathValue("id"), q.Get("type"), q.Get("name"))
	})
	get("/explain", func(req *http.Request) (any, error) {
		return r.Explain(req.Context(), explain.QuestionOf(req.URL.Query()))
	})
	get("/objects/{kind}/{name}", func(req *http.Request) (any, error) {
		return r.Object(req.Context(), discovery.ObjectName{Kind: req.PathValue("kind"), Key: keyOf(req)})
	})
	get("/objects/{kind}/{namespace}/{name}", func(req *http.Request) (any, error) {
		return r.Object(req.Context(), discovery.ObjectName{Kind: req.PathValue("kind"), Key: keyOf(req)})
	})
	get("/changes", func(req *http.Request) (any, error) { return r.Changes(req.Context()) })
	mux.HandleFunc("GET "+Prefix+"/", func(w http.ResponseWriter, req *http.Request) {
		writeError(w, NotFound("the API has no "+req.URL.Path+": docs/api.md lists its paths"))
	})
}

func keyOf(r *http.Request) discovery.Key {
	return discovery.Key{Namespace: r.PathValue("namespace"), Name: r.PathValue("name")}
}

func respond(w http.ResponseWriter, req *http.Request, answer func(*http.Request) (any, error)) {
	v, err := answer(req)
	if err != nil {
		writeError(w, err)
		return
	}
	text, err := json.Marshal(v)
	if err != nil {
		writeError(w, err) // an empty answer would say that all is well
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append(text, '\n')) // a client that went away
}

// failure is what the API answers in place of a view.
type failure struct {
	Error string `json:"error"`
}

func writeError(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(StatusOf(err))
	_ = json.NewEncoder(w).Encode(failure{err.Error()}) // a client that went away
}

// Remote is a Reader that asks another control plane by its API.
type Remote struct {
	// Get asks for a path with a query, and decodes the answer. Of answers other than 200 its errors say what they say; where they
	// are an Error, they have the status too.
	Get func(ctx context.Context, path string, query url.Values, out any) error
}

func get[T any](ctx context.Context, r *Remote, query url.Values, segments ...string) (*T, error) {
	escaped := make([]string, len(segments))
	for i, s := range segments {
		escaped[i] = url.PathEscape(s)
	}
	var out T
	if err := r.Get(ctx, Prefix+"/"+strings.Join(escaped, "/"), query, &out); err != nil {
		return nil, err
	}
	return &out, nil
}

func list[T any](ctx context.Context, r *Remote, query url.Values, segment string) ([]T, error) {
	out, err := get[[]T](ctx, r, query, segment)
	if err != nil {
		return nil, err
	}
	return *out, nil
}

// Overview implements Reader.
func (r *Remote) Overview(ctx context.Context) (*Overview, error) {
	return get[Overview](ctx, r, nil, "overview")
}

// Service implements Reader.
func (r *Remote) Service(ctx context.Context, key discovery.Key) (*Service, error) {
	return get[Service](ctx, r, nil, "services", key.Namespace, key.Name)
}

// Shift implements Reader.
func (r *Remote) Shift(ctx context.Context, key discovery.Key) (*Shift, error) {
	return get[Shift](ctx, r, nil, "shifts", key.Namespace, key.Name)
}

// Proxies implements Reader.
func (r *Remote) Proxies(ctx context.Context) (*Proxies, error) {
	return get[Proxies](ctx, r, nil, "proxies")
}

// Proxy implements Reader.
func (r *Remote) Proxy(ctx context.Context, id, kind, name string) (*Proxy, error) {
	return get[Proxy](ctx, r, url.Values{"type": {kind}, "name": {name}}, "proxies", id)
}

// Explain implements Reader.
func (r *Remote) Explain(ctx context.Context, q *explain.Question) (*explain.Explanation, error) {
	return get[explain.Explanation](ctx, r, q.Values(), "explain")
}

// Object implements Reader.
func (r *Remote) Object(ctx context.Context, name discovery.ObjectName) (*status.Object, error) {
	if name.Namespace == "" {
		return get[status.Object](ctx, r, nil, "objects", name.Kind, name.Key.Name)
	}
	return get[status.Object](ctx, r, nil, "objects", name.Kind, name.Namespace, name.Key.Name)
}

// Changes implements Reader.
func (r *Remote) Changes(ctx context.Context) (*Changes, error) {
	return get[Changes](ctx, r, nil, "changes")
}

// Status implements Lists.
func (r *Remote) Status(ctx context.Context) (*status.Mesh, error) {
	return get[status.Mesh](ctx, r, nil, "status")
}

// Endpoints implements Lists.
func (r *Remote) Endpoints(ctx context.Context, service string) ([]status.Service, error) {
	var query url.Values
	if service != "" {
		query = url.Values{"service": {service}}
	}
	return list[status.Service](ctx, r, query, "endpoints")
}

// ProxyStatuses implements Lists.
func (r *Remote) ProxyStatuses(ctx context.Context) ([]server.ProxyStatus, error) {
	return list[server.ProxyStatus](ctx, r, nil, "proxystatuses")
}

// Objects implements Lists.
func (r *Remote) Objects(ctx context.Context) (*observe.View, error) {
	return get[observe.View](ctx, r, nil, "objects")
}

// Members implements Lists.
func (r *Remote) Members(ctx context.Context) ([]members.Member, error) {
	return list[members.Member](ctx, r, nil, "members")
}

// Shifts implements Lists.
func (r *Remote) Shifts(ctx context.Context, name string) (*describe.View, error) {
	var query url.Values
	if name != "" {
		query = url.Values{"shift": {name}}
	}
	return get[describe.View](ctx, r, query, "shifts")
}
