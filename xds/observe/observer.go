package observe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/outcome"
)

// Options are what an Observer needs from outside.
type Options struct {
	// Replica is this replica's name. Where there are no others it may be "".
	Replica string
	// Local returns what this replica sees. It is called a few times a second.
	Local func() Local
	// Outcomes returns what this replica has counted since it began, which must
	// not change afterwards. It is called every second. nil if it counts nothing.
	Outcomes func() outcome.Report
	// Leader returns the name of the replica that leads, "" while nobody knows.
	Leader   func() string
	Logger   *slog.Logger
	Registry prometheus.Registerer
	// Now is the clock, time.Now if nil.
	Now func() time.Time
}

// Observer is a replica's part in finding out what is in force. It reports to
// the leader (Report). While it leads, it takes the others' reports (Serve) and
// computes the conditions (Lead). Its methods may be called concurrently.
type Observer struct {
	opts     Options
	identity *Identity
	metrics  *metrics
	wake     chan struct{}
	began    time.Time

	mu       sync.Mutex
	replicas map[string]Replica
	changed  chan struct{} // closed when replicas change or a term begins or ends
	session  uint64        // of the newest stream to a leader
	snapshot uint64        // of the newest Outcomes
	term     *term         // nil while this replica does not lead
}

// term is a time in which this replica leads.
type term struct {
	ended      chan struct{}
	conditions *conditions

	mu    sync.Mutex
	inbox *inbox
	// gateways has the proxies of each Gateway at all replicas together, as of the newest update.
	gateways map[discovery.Key]*GatewayProxies
}

// New returns an observer with an identity of its own.
func New(o Options) (*Observer, error) {
	identity, err := NewIdentity(o.Replica)
	if err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Observer{
		opts: o, identity: identity, metrics: newMetrics(o.Registry), wake: make(chan struct{}, 1),
		changed: make(chan struct{}), began: o.Now(),
	}, nil
}

// Fingerprint of the certificate that this replica shows, for its Lease.
func (o *Observer) Fingerprint() string { return o.identity.Fingerprint() }

// SetReplicas says which replicas live, this one included or not.
func (o *Observer) SetReplicas(replicas []Replica) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.replicas = make(map[string]Replica, len(replicas))
	for _, r := range replicas {
		o.replicas[r.Name] = r
	}
	if t := o.term; t != nil {
		t.live(o.others(), o.opts.Now())
	}
	o.announce()
}

// announce wakes those that wait for a change. mu must be held.
func (o *Observer) announce() {
	close(o.changed)
	o.changed = make(chan struct{})
}

// others returns the live replicas but this one, by name. mu must be held.
func (o *Observer) others() []Replica {
	out := make([]Replica, 0, len(o.replicas))
	for _, name := range slices.Sorted(maps.Keys(o.replicas)) {
		if name != o.opts.Replica {
			out = append(out, o.replicas[name])
		}
	}
	return out
}

func (t *term) live(replicas []Replica, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.inbox.live(replicas, now)
}

// errLeads is the error of a second Lead at the same time.
var errLeads = errors.New("observe: this replica leads already")

// Lead computes the conditions of all objects until the context ends, from this
// replica's view and the others' reports. Its only other error is that another
// Lead is under way.
func (o *Observer) Lead(ctx context.Context) error {
	began := o.opts.Now()
	t := &term{
		ended: make(chan struct{}), conditions: newConditions(began, o.wake),
		inbox: newInbox(uint64(began.UnixNano()), began), //nolint:gosec // after 1970
	}
	o.mu.Lock()
	if o.term != nil {
		o.mu.Unlock()
		return errLeads
	}
	t.inbox.live(o.others(), began)
	o.term = t
	o.announce()
	o.mu.Unlock()
	defer func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.term = nil
		close(t.ended)
		t.live(nil, o.opts.Now())
		o.metrics.objects.Reset()
		o.metrics.replicas.Reset()
		o.announce()
	}()
	update, count := time.NewTicker(every), time.NewTicker(countEvery)
	defer update.Stop()
	defer count.Stop()
	o.count(t)
	o.update(t)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-update.C:
			o.update(t)
		case <-count.C:
			o.count(t)
		}
	}
}

// update computes all conditions of a term anew.
func (o *Observer) update(t *term) {
	start := time.Now()
	local := o.opts.Local()
	own := Summarize(local)
	now := o.opts.Now()
	targets := make([]Target, len(local.Objects))
	for i := range local.Objects {
		targets[i] = Target{Name: local.Objects[i].Name, Generation: local.Objects[i].Generation, Since: local.Objects[i].Since}
	}
	t.mu.Lock()
	reports := append(t.inbox.reports(), Report{Replica: o.opts.Replica, Known: true, Heard: now, Summary: own})
	t.conditions.update(targets, reports, now)
	t.gateways = sumGateways(reports)
	states := make(map[string]int)
	for i := range reports {
		states[reports[i].state(now)]++
	}
	t.mu.Unlock()
	counts := t.conditions.counts()
	for _, reason := range reasons {
		o.metrics.objects.WithLabelValues(reason).Set(float64(counts[reason]))
	}
	for _, state := range []string{replicaReporting, replicaAwaited, replicaSilent} {
		o.metrics.replicas.WithLabelValues(state).Set(float64(states[state]))
	}
	o.metrics.duration.Observe(time.Since(start).Seconds())
}

func (r *Report) state(now time.Time) string {
	switch {
	case r.silent(now):
		return replicaSilent
	case !r.Known:
		return replicaAwaited
	}
	return replicaReporting
}

func (o *Observer) current() *term {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.term
}

// Programmed returns the condition Programmed of a generation of an object,
// without a transition time. It returns false if nothing is known yet; then the
// status stays as it is. That is so while this replica does not lead, at the
// beginning of a term, and until the generation is compiled.
func (o *Observer) Programmed(ref discovery.ObjectRef) (metav1.Condition, bool) {
	t := o.current()
	if t == nil {
		return metav1.Condition{}, false
	}
	return t.conditions.get(ref)
}

// Gateway returns the proxies of a Gateway at all replicas together, without
// Acknowledged, because each replica has indexes of its own. It returns false if
// nothing is known, as Programmed does. The result must not be changed.
func (o *Observer) Gateway(key discovery.Key) (GatewayProxies, bool) {
	t := o.current()
	if t == nil {
		return GatewayProxies{}, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if g := t.gateways[key]; g != nil {
		return *g, true
	}
	return GatewayProxies{}, t.gateways != nil
}

// Wake has a value when there may be something for Take. It is for one reader.
func (o *Observer) Wake() <-chan struct{} { return o.wake }

// Take returns the objects whose condition Programmed has changed since the last Take,
// sorted.
func (o *Observer) Take() []discovery.ObjectName {
	t := o.current()
	if t == nil {
		return nil
	}
	return t.conditions.take()
}

// View is an observer's state, for people.
type View struct {
	// Leading is false on a replica that knows of its own proxies alone.
	Leading  bool            `json:"leading"`
	Replicas []ReplicaView   `json:"replicas"`
	Objects  []ProgrammedRow `json:"objects"`
}

// ReplicaView is one replica in a View.
type ReplicaView struct {
	Name string `json:"name"`
	// State is reporting, awaited or silent.
	State   string    `json:"state"`
	Proxies int       `json:"proxies"`
	Heard   time.Time `json:"heard"`
}

// ProgrammedRow is the condition Programmed of one object in a View.
type ProgrammedRow struct {
	Kind       string                 `json:"kind"`
	Namespace  string                 `json:"namespace,omitempty"`
	Name       string                 `json:"name"`
	Generation int64                  `json:"generation"`
	Status     metav1.ConditionStatus `json:"status"`
	Reason     string                 `json:"reason"`
	Message    string                 `json:"message"`
}

// String returns "Kind namespace/name".
func (r *ProgrammedRow) String() string {
	return discovery.ObjectName{Kind: r.Kind, Key: discovery.Key{Namespace: r.Namespace, Name: r.Name}}.String()
}

// View returns the state of the whole mesh on the leader, and of this replica's
// proxies elsewhere.
func (o *Observer) View() View {
	now := o.opts.Now()
	if t := o.current(); t != nil {
		return t.view(o.opts.Replica, o.opts.Local, now)
	}
	local := o.opts.Local()
	own := Report{Replica: o.opts.Replica, Known: true, Heard: now, Summary: Summarize(local)}
	conditions := make(map[discovery.ObjectName]metav1.Condition, len(local.Objects))
	for i := range local.Objects {
		l := &local.Objects[i]
		conditions[l.Name] = ProgrammedCondition(Target{Name: l.Name, Generation: l.Generation, Since: l.Since}, []Report{own}, now)
	}
	return View{Replicas: []ReplicaView{own.view(now)}, Objects: programmedRows(conditions)}
}

func (t *term) view(replica string, local func() Local, now time.Time) View {
	v := View{Leading: true, Objects: programmedRows(t.conditions.all())}
	own := Report{Replica: replica, Known: true, Heard: now, Summary: Summary{Proxies: len(local().Proxies)}}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range append(t.inbox.reports(), own) {
		v.Replicas = append(v.Replicas, r.view(now))
	}
	slices.SortFunc(v.Replicas, func(a, b ReplicaView) int { return cmp.Compare(a.Name, b.Name) })
	return v
}

func (r *Report) view(now time.Time) ReplicaView {
	return ReplicaView{Name: r.Replica, State: r.state(now), Proxies: r.Summary.Proxies, Heard: r.Heard}
}

func programmedRows(conditions map[discovery.ObjectName]metav1.Condition) []ProgrammedRow {
	out := make([]ProgrammedRow, 0, len(conditions))
	for _, name := range slices.SortedFunc(maps.Keys(conditions), compareNames) {
		c := conditions[name]
		out = append(out, ProgrammedRow{
			Kind: name.Kind, Namespace: name.Namespace, Name: name.Key.Name, Generation: c.ObservedGeneration,
			Status: c.Status, Reason: c.Reason, Message: c.Message,
		})
	}
	return out
}

// leader returns the replica that leads, false if that is this one or not
// known or has no live Lease, and a channel that is closed when that may have changed.
func (o *Observer) leader() (Replica, bool, <-chan struct{}) {
	name := o.opts.Leader()
	o.mu.Lock()
	defer o.mu.Unlock()
	r, ok := o.replicas[name]
	return r, ok && name != o.opts.Replica && o.term == nil, o.changed
}

// replicaOf returns the live replica with a certificate.
func (o *Observer) replicaOf(fingerprint string) (Replica, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range o.replicas {
		if r.Certificate == fingerprint {
			return r, nil
		}
	}
	return Replica{}, fmt.Errorf("observe: %w", errNotLive)
}
