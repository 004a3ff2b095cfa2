package api

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/explain"
	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/policy/shift/describe"
	"github.com/causeway-mesh/causeway/policy/shift/runner"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/xds/engine"
	"github.com/causeway-mesh/causeway/xds/members"
	"github.com/causeway-mesh/causeway/xds/observe"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/server"
	"github.com/causeway-mesh/causeway/xds/snapshot"
	"github.com/causeway-mesh/causeway/xds/status"
)

// Plane is a Reader of this control plane.
type Plane struct {
	Catalog *catalog.Catalog
	Engine  *engine.Engine
	Store   *snapshot.Store
	XDS     *server.Server
	Agents  *members.Members
	// Observer is there once the sources are.
	Observer func() *observe.Observer
	// StatusNow is where everything stands, Missing what is not read yet that proxies are served from.
	StatusNow func() *status.Mesh
	Missing   func() []string
	// Calls are who has called whom of late.
	Calls   func() outcome.Calls
	History *History
	Log     *Log

	overview kept[*Overview]
}

// Run keeps what views tell of the past, until the context ends; its only error is the context's.
func (p *Plane) Run(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = p.Log.Run(ctx, p.Catalog, func() bool { return len(p.Missing()) == 0 }) // the context's, which is returned below
	}()
	err := p.History.Run(ctx, p.shifts)
	<-done
	return err
}

// kept is a view of the whole mesh, which is made at most once a second, however many ask.
type kept[T any] struct {
	mu sync.Mutex
	at time.Time
	v  T
}

func (k *kept[T]) get(now time.Time, anew func() (T, error)) (T, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.at.IsZero() && now.Sub(k.at) < time.Second {
		return k.v, nil
	}
	v, err := anew()
	if err == nil {
		k.v, k.at = v, now
	}
	return v, err
}

// Overview implements Reader.
func (p *Plane) Overview(context.Context) (*Overview, error) {
	now := time.Now()
	return p.overview.get(now, func() (*Overview, error) {
		f, err := p.Engine.InForce()
		if err != nil {
			return nil, err //nolint:wrapcheck // it says what is wrong
		}
		return OverviewOf(p.StatusNow(), f.Catalog, p.Observer().View().Replicas, p.Agents.List(), now), nil
	})
}

// Service implements Reader.
func (p *Plane) Service(_ context.Context, key discovery.Key) (*Service, error) {
	f, err := p.Engine.InForce()
	if err != nil {
		return nil, err //nolint:wrapcheck // it says what is wrong
	}
	v := ServiceOf(p.Catalog.Read(), f.Catalog, p.XDS.Proxies(), key, p.window(key, outcomesOver), p.Calls(), time.Now())
	if v == nil {
		return nil, p.unknown("Service", key)
	}
	v.Findings = append(v.Findings, p.held(key.String())...)
	return v, nil
}

// held says whether proxies have an older configuration of a Service, in a sentence, none if they have not.
func (p *Plane) held(service string) []string {
	if u := p.Store.Units([]string{"service/" + service})[0]; len(u.HeldFor) > 0 {
		return []string{"Service " + service + ": " + status.HeldText(u.HeldFor)}
	}
	return nil
}

// unknown says that there is no such object, or that this is not known yet.
func (p *Plane) unknown(kind string, key discovery.Key) error {
	return cmp.Or(p.unread(kind, key.String()), NotFound(fmt.Sprintf("there is no %s %s", kind, key)))
}

// unread says that it is not known yet whether there is such an object, nil once it is.
func (p *Plane) unread(kind, name string) error {
	if missing := p.Missing(); len(missing) > 0 {
		return &Error{http.StatusServiceUnavailable, fmt.Sprintf("whether there is a %s %s is not known yet: waiting for %s", kind, name, strings.Join(missing, ", "))}
	}
	return nil
}

// window is what callers got of a Service, nil where this replica does not know it.
func (p *Plane) window(service discovery.Key, length time.Duration) *outcome.Window {
	w, ok := p.Observer().Window(service, length)
	if !ok || len(w.Outcomes) == 0 {
		return nil
	}
	return &w
}

func (p *Plane) shifts() []v1alpha1.TrafficShift { return runner.ViewOf(p.Catalog.Read(), "").Shifts }

// Shift implements Reader.
func (p *Plane) Shift(_ context.Context, key discovery.Key) (*Shift, error) {
	view := runner.ViewOf(p.Catalog.Read(), key.String())
	if len(view.Shifts) == 0 {
		return nil, p.unknown(discovery.KindTrafficShift, key)
	}
	s, now := &view.Shifts[0], time.Now()
	service := discovery.Key{Namespace: s.Namespace, Name: s.Spec.ServiceRef.Name}
	return ShiftOf(s, view.Freeze, p.window(service, s.Spec.Guard.Window.Duration), p.History.Of(s, now), now), nil
}

// Proxies implements Reader.
func (p *Plane) Proxies(context.Context) (*Proxies, error) {
	return ProxiesOf(p.XDS.Proxies(), time.Now()), nil
}

// Proxy implements Reader.
func (p *Plane) Proxy(_ context.Context, id, kind, name string) (*Proxy, error) {
	proxies := p.XDS.Proxies()
	for i := range proxies {
		if proxies[i].ID != id {
			continue
		}
		view := p.view(&proxies[i])
		v := ProxyOf(&proxies[i], p.Agents.List(), p.Store.Rejections(), p.Store.Resources(view), time.Now())
		if kind == "" {
			return v, nil
		}
		var t resource.Type
		if err := t.UnmarshalText([]byte(kind)); err != nil {
			return nil, &Error{400, err.Error()}
		}
		body, ok := p.Store.Content(view, t, name)
		if !ok {
			return nil, NotFound(fmt.Sprintf("proxy %s has no %s %s", id, kind, name))
		}
		content, err := ContentOf(t, body.Bytes())
		v.Content = content
		return v, err
	}
	return nil, NotFound("no proxy " + id + " is connected to this control plane; another replica may have it")
}

// view is what decides which resources a proxy has, with its class.
func (p *Plane) view(of *server.ProxyStatus) snapshot.View {
	for _, x := range p.XDS.Progress() {
		if x.Node == of.ID {
			return x.View
		}
	}
	return of.View()
}

// Explain implements Reader.
func (p *Plane) Explain(_ context.Context, q *explain.Question) (*explain.Explanation, error) {
	f, err := p.Engine.InForce()
	if err != nil {
		return nil, err //nolint:wrapcheck // it says what is wrong
	}
	return q.Answer(f.Catalog, explainers(p.XDS.Proxies())) //nolint:wrapcheck // it is the asker's
}

// explainers are the connected proxies, as far as they say who asks.
func explainers(proxies []server.ProxyStatus) []explain.Proxy {
	out := make([]explain.Proxy, len(proxies))
	for i := range proxies {
		x := &proxies[i]
		out[i] = explain.Proxy{ID: x.ID, Service: x.Service, Zone: x.Zone, Node: x.NodeName, Listeners: x.Listeners}
	}
	return out
}

// Object implements Reader.
func (p *Plane) Object(_ context.Context, name discovery.ObjectName) (*status.Object, error) {
	f, err := p.Engine.InForce()
	if err != nil {
		return nil, err //nolint:wrapcheck // it says what is wrong
	}
	proxies := p.XDS.Proxies()
	v, err := status.ObjectOf(p.Catalog.Read(), name, f, server.Views(proxies))
	if err != nil {
		return nil, cmp.Or(p.unread(name.Kind, name.Key.String()), NotFound(err.Error()))
	}
	v.InForce(name, p.Engine.Applied(), p.XDS.Progress(), proxies)
	return v, nil
}

// Changes implements Reader.
func (p *Plane) Changes(context.Context) (*Changes, error) {
	view := runner.ViewOf(p.Catalog.Read(), "")
	return ChangesOf(p.Log, view.Shifts, view.Freeze, p.Observer().View().Objects, time.Now()), nil
}

// Status implements Lists.
func (p *Plane) Status(context.Context) (*status.Mesh, error) { return p.StatusNow(), nil }

// Endpoints implements Lists.
func (p *Plane) Endpoints(_ context.Context, service string) ([]status.Service, error) {
	f, err := p.Engine.InForce()
	if err != nil {
		return nil, err //nolint:wrapcheck // it says what is wrong
	}
	services := status.Services(p.Catalog.Read(), f.Catalog, p.XDS.Proxies(), service)
	if service != "" && len(services) == 0 {
		return services, p.unread(discovery.KindService, service)
	}
	for i := range services {
		v := &services[i]
		v.Findings = append(v.Findings, p.held(v.Service)...)
	}
	return services, nil
}

// ProxyStatuses implements Lists.
func (p *Plane) ProxyStatuses(context.Context) ([]server.ProxyStatus, error) {
	return p.XDS.Proxies(), nil
}

// Objects implements Lists.
func (p *Plane) Objects(context.Context) (*observe.View, error) {
	v := p.Observer().View()
	return &v, nil
}

// Members implements Lists.
func (p *Plane) Members(context.Context) ([]members.Member, error) { return p.Agents.List(), nil }

// Shifts implements Lists.
func (p *Plane) Shifts(_ context.Context, name string) (*describe.View, error) {
	view := runner.ViewOf(p.Catalog.Read(), name)
	if name != "" && len(view.Shifts) == 0 {
		return &view, p.unread(discovery.KindTrafficShift, name)
	}
	return &view, nil
}
