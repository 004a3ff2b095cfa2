package edges

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
)

// When an edge is looked at again although nothing has changed: others may have changed what is made, or
// the API server did not answer, or one workload takes another one's place.
const (
	lookAgain  = time.Minute
	retryFirst = time.Second
	moving     = 2 * time.Second
	within     = 30 * time.Second
	// failuresTold is how often in a row the API server does not answer before a status says so.
	failuresTold = 4
)

// Metrics of the edges.
type Metrics struct{ edges, refused prometheus.Gauge }

// NewMetrics returns the metrics, which are 0 while another replica leads.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		edges:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "causeway_managed_gateways", Help: "Gateways whose proxies this control plane makes."}),
		refused: prometheus.NewGauge(prometheus.GaugeOpts{Name: "causeway_managed_gateways_refused", Help: "Of these, those with something that the cluster refuses."}),
	}
	reg.MustRegister(m.edges, m.refused)
	return m
}

// Options of Run.
type Options struct {
	// Edges says what Gateways want of the cluster.
	Edges func(catalog.Reader) []discovery.Edge
	// Audience is for whom the tokens of proxies are.
	Audience string
	// Member is told of a namespace in which proxies run that verify the control plane by the ConfigMap it publishes.
	// It never waits. It may be nil.
	Member  func(namespace string)
	Metrics *Metrics
}

// Run makes and changes what Gateways want of the cluster, until the context ends; its only error is the
// context's. What belongs to a Gateway that is gone goes by its owner references, and
// what belongs to one that is not managed any more, or that cannot be read, stays. Only the leader runs it.
func Run(ctx context.Context, c *cluster.Client, cat *catalog.Catalog, o Options) error {
	t := &term{client: c, cat: cat, opts: o, edges: make(map[discovery.Key]*state)}
	t.forget()
	defer t.forget()
	feed := cat.Subscribe()
	defer feed.Close()
	timer := time.NewTimer(lookAgain)
	defer timer.Stop()
	for {
		// Events: rows changed, an edge is due, the end.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-feed.Wake():
			if b, ok := feed.Take(); ok && slices.ContainsFunc(b.Changes, concerns) {
				t.renew(b)
			}
		case <-timer.C:
		}
		for _, key := range t.due(time.Now()) {
			t.look(ctx, t.edges[key])
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		timer.Reset(t.wait(time.Now()))
	}
}

// term is one term of leading.
type term struct {
	client *cluster.Client
	cat    *catalog.Catalog
	opts   Options
	edges  map[discovery.Key]*state
}

// state is an edge, with what was written of it.
type state struct {
	edge    discovery.Edge
	written map[string]writing
	// next is when it is looked at again.
	next     time.Time
	failures int
	refused  bool
}

// concerns reports whether a change may change what an edge wants, or what was made for it.
func concerns(ch catalog.Change) bool {
	for _, row := range [2]any{ch.Before, ch.After} {
		switch row := row.(type) {
		case *discovery.Object:
			switch row.Kind {
			case discovery.KindGateway, discovery.KindGatewayClass, discovery.KindGatewayParameters:
				return true
			}
		case *discovery.Service:
			if row.Edge != nil {
				return true
			}
		}
	}
	return false
}

// renew takes up what edges want now. Those that want something else, and those whose Service has changed, are due.
func (t *term) renew(b catalog.Batch) {
	changed := make(map[string]bool)
	for _, ch := range b.Changes {
		for _, row := range [2]any{ch.Before, ch.After} {
			if s, ok := row.(*discovery.Service); ok && s.Edge != nil {
				changed[s.Key.String()] = true
			}
		}
	}
	there := make(map[discovery.Key]bool)
	for _, e := range t.opts.Edges(b.Reader) {
		there[e.Key] = true
		s := t.edges[e.Key]
		if s == nil || s.edge.UID != e.UID || s.edge.Object != e.Object {
			s = &state{written: make(map[string]writing)}
			t.edges[e.Key] = s
		}
		if !reflect.DeepEqual(s.edge, e) || changed[discovery.Key{Namespace: e.Namespace, Name: e.Object}.String()] {
			s.edge, s.next, s.failures = e, time.Time{}, 0
		}
	}
	for key := range t.edges {
		if !there[key] {
			delete(t.edges, key)
			t.tell(key, nil)
		}
	}
	t.count()
}

func (t *term) count() {
	refused := 0
	for _, s := range t.edges {
		if s.refused {
			refused++
		}
	}
	t.opts.Metrics.edges.Set(float64(len(t.edges)))
	t.opts.Metrics.refused.Set(float64(refused))
}

func (t *term) due(now time.Time) []discovery.Key {
	var out []discovery.Key
	for key, s := range t.edges {
		if !now.Before(s.next) {
			out = append(out, key)
		}
	}
	slices.SortFunc(out, func(a, b discovery.Key) int { return strings.Compare(a.String(), b.String()) })
	return out
}

func (t *term) wait(now time.Time) time.Duration {
	out := lookAgain
	for _, s := range t.edges {
		out = min(out, s.next.Sub(now))
	}
	return max(out, 0)
}

// look makes an edge's objects what they should be, and tells what the cluster says against it.
func (t *term) look(ctx context.Context, s *state) {
	again := lookAgain - rand.N(lookAgain/10) //nolint:gosec // no secret
	if s.edge.Held != "" {
		s.next = time.Now().Add(again)
		s.refused = false
		t.tell(s.edge.Key, nil)
		t.count()
		return
	}
	if s.edge.Parameters.TLSSecret == "" && t.opts.Member != nil {
		t.opts.Member(s.edge.Namespace)
	}
	limited, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	r := &reconciler{objects: objects{api: t.client.Objects, edge: &s.edge, written: s.written}, plane: Plane{t.client.Namespace, t.opts.Audience}}
	r.run(limited)
	if ctx.Err() != nil {
		return
	}
	switch err := errors.Join(r.errs...); {
	case err != nil:
		again = min(again, retryFirst<<min(s.failures, 6))
		s.failures++
		if s.failures == 1 {
			t.client.Log.Warn("the proxies of a Gateway cannot be made or changed; trying again", "gateway", s.edge.String(), "error", err)
		}
	case r.moving:
		again, s.failures = moving, 0
	default:
		s.failures = 0
	}
	told := slices.DeleteFunc(r.errs, func(err error) bool {
		r := (*refusal)(nil)
		return s.failures < failuresTold && errors.As(err, &r) && r.passing
	})
	s.refused = len(told) > 0
	t.tell(s.edge.Key, told)
	t.count()
	s.next = time.Now().Add(again)
}

// mostTold is how many refusals a status has.
const mostTold = 3

// tell writes what the cluster says against an edge as a row, for its Gateway's status.
func (t *term) tell(key discovery.Key, errs []error) {
	var row *discovery.EdgeStatus
	if len(errs) > 0 {
		row = &discovery.EdgeStatus{Scope: discovery.EdgesSource, Key: key}
		var texts []string
		for _, err := range errs {
			if r := (*refusal)(nil); errors.As(err, &r) && r.address {
				row.Address = true
				texts = []string{err.Error()}
				break
			}
			if len(texts) < mostTold {
				texts = append(texts, err.Error())
			}
		}
		row.Refused = strings.Join(texts, "; ")
	}
	if _, err := t.cat.Write(time.Now(), func(tx *catalog.Tx) error {
		if row != nil {
			catalog.EdgeStatuses.Put(tx, row)
		} else {
			catalog.EdgeStatuses.Delete(tx, key.String())
		}
		return nil
	}); err != nil {
		t.client.Log.Error("cannot note what the cluster says of a Gateway's proxies", "gateway", key.String(), "error", err)
	}
}

// forget removes what was told: another replica leads, or has led.
func (t *term) forget() {
	t.opts.Metrics.edges.Set(0)
	t.opts.Metrics.refused.Set(0)
	if _, err := t.cat.Write(time.Now(), func(tx *catalog.Tx) error {
		catalog.EdgeStatuses.Replace(tx, discovery.EdgesSource, nil)
		return nil
	}); err != nil {
		t.client.Log.Error("cannot forget what the cluster has said of Gateways' proxies", "error", err)
	}
}

// reconciler makes the objects of one edge what they should be. What is refused stops nothing else.
type reconciler struct {
	objects
	plane Plane
	// moving is true while one workload takes another one's place.
	moving bool
	errs   []error
}

// there is an object as it was read: its text, nil if there is none, and whether it may be written.
type there[T any] struct {
	object T
	text   []byte
	ok     bool
}

func read[T any, P interface {
	*T
	metav1.Object
}](ctx context.Context, r *reconciler, k kind) *there[T] {
	out := &there[T]{}
	text, err := r.get(ctx, k, P(&out.object))
	out.text, out.ok = text, err == nil
	r.fail(err)
	return out
}

// put applies an object that could be read.
func put[T any, P interface {
	*T
	metav1.Object
}](ctx context.Context, r *reconciler, k kind, want P, have *there[T]) {
	if !have.ok {
		return
	}
	text, err := r.apply(ctx, k, want, have.text)
	if err != nil || text == nil {
		r.fail(err)
		return
	}
	have.text, have.object = text, *new(T)
	r.fail(json.Unmarshal(text, P(&have.object)))
}

func (r *reconciler) fail(err error) {
	if err != nil {
		r.errs = append(r.errs, err)
	}
}

// drop removes an object that should not be there.
func drop[T any, P interface {
	*T
	metav1.Object
}](ctx context.Context, r *reconciler, k kind, have *there[T]) {
	if !have.ok || have.text == nil || P(&have.object).GetDeletionTimestamp() != nil {
		return
	}
	r.fail(r.remove(ctx, k, P(&have.object)))
}

func (r *reconciler) run(ctx context.Context) {
	account := read[corev1.ServiceAccount](ctx, r, serviceAccounts)
	service := read[corev1.Service](ctx, r, services)
	deployment := read[appsv1.Deployment](ctx, r, deployments)
	daemonSet := read[appsv1.DaemonSet](ctx, r, daemonSets)
	budget := read[policyv1.PodDisruptionBudget](ctx, r, budgets)
	autoscaler := read[autoscalingv2.HorizontalPodAutoscaler](ctx, r, autoscalers)

	var seen Seen
	if deployment.text != nil {
		seen.Replicas, seen.Scaled = deployment.object.Spec.Replicas, scaled(&deployment.object)
	}
	want := ObjectsOf(r.edge, r.plane, seen)
	put(ctx, r, serviceAccounts, want.ServiceAccount, account)
	// The Service comes before the pods: of its addresses they learn by which families clients come.
	put(ctx, r, services, want.Service, service)
	if seen.IPv4, seen.IPv6 = families(&service.object); !seen.IPv4 && !seen.IPv6 {
		return // pods that know them would be made anew without
	}
	want = ObjectsOf(r.edge, r.plane, seen)
	if want.Autoscaler == nil { // before it could say how many there are once more
		drop(ctx, r, autoscalers, autoscaler)
	}
	if want.DaemonSet != nil {
		put(ctx, r, daemonSets, want.DaemonSet, daemonSet)
		drop(ctx, r, budgets, budget)
		r.replace(runsEverywhere(&daemonSet.object), deployment.text != nil, func() { drop(ctx, r, deployments, deployment) })
		return
	}
	if seen.Replicas != nil && want.Deployment.Spec.Replicas != nil && r.edge.Parameters.Autoscaling != nil {
		want.Deployment.ResourceVersion = deployment.object.ResourceVersion // else an autoscaler's word could be overwritten
	}
	put(ctx, r, deployments, want.Deployment, deployment)
	put(ctx, r, budgets, want.Budget, budget)
	if want.Autoscaler != nil {
		put(ctx, r, autoscalers, want.Autoscaler, autoscaler)
	}
	r.replace(rolledOut(&deployment.object), daemonSet.text != nil, func() { drop(ctx, r, daemonSets, daemonSet) })
}

// replace removes a workload once the other one serves in its place.
func (r *reconciler) replace(serves, former bool, remove func()) {
	switch {
	case !former:
	case serves:
		remove()
	default:
		r.moving = true
	}
}
