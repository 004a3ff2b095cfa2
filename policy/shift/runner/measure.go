package runner

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/policy/shift"
	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// input gathers all that a decision is made of.
func (r *Runner) input(ctx context.Context, reader catalog.Reader, object *v1alpha1.TrafficShift, m *memory, now time.Time) shift.Input {
	key := discovery.Key{Namespace: object.Namespace, Name: object.Name}
	service := discovery.Key{Namespace: object.Namespace, Name: object.Spec.ServiceRef.Name}
	r.command(key, object)
	in := shift.Input{
		Object: object, Deleting: object.DeletionTimestamp != nil,
		Seen: r.seen(now),
	}
	in.From, in.To = policy.FromTo(shift.DirectionOf(object))
	if object.Status.RolledBack {
		in.Unsettled = r.unsettled(service, in.To)
	}
	in.Accepted, in.Problem = accepted(reader, object)
	if f, ok := catalog.Freezes.Get(reader, catalog.FreezeID); ok {
		in.Frozen, in.Locked, in.FrozenBy = true, f.Config, frozenBy(f)
	}
	if in.Deleting {
		in.NamespaceTerminating, _ = r.store.Terminating(ctx, object.Namespace) // unknown is: not that
	}
	model := resolve.BuildService(reader, service)
	if model == nil {
		return in
	}
	if svc, ok := catalog.Services.Get(reader, service.String()); ok {
		in.TargetIsHome = model.Home == in.To && upstream.UnknownHome(reader, svc) == ""
	}
	fleet := r.fleet(reader, object, model)
	window := object.Spec.Guard.Window.Duration
	w, _ := r.opts.Outcomes.Window(service, window) // what is not known is not covered
	stands := r.standing(reader, object, model, m, now)
	o := r.measure(object, model, m, stands, &w, now)
	in.Seen = min(in.Seen, w.Covered)
	in.InstancesInService = fleet.InstancesInService
	in.FailedOver, in.FailedOverReason, in.SourceGone, in.Unread = stands.text != "", stands.text, stands.gone[in.From], stands.unread
	demand := m.demand(&w, min(window, w.Covered), window, now)
	in.Room = func(p v1alpha1.Percent) shift.Room {
		return shift.RoomFor(object.Spec.Capacity, object.Spec.Direction, int(object.Status.SourceInstances), fleet, demand, p)
	}
	var budget *shift.Budget
	// Failures of a shift without an error budget are counted too: metrics show
	// them.
	m.spending = r.spentOf(object)
	if e := object.Spec.Guard.ErrorBudget; e != nil {
		if m.spending.requests < m.spent.requests {
			m.spent.requests, m.spent.failed = 0, 0 // the counts began anew
		}
		var err error
		budget, in.Budget, err = shift.Spend(e, object.Status.Budget, now, minus(m.spending.requests, m.spent.requests), minus(m.spending.failed, m.spent.failed))
		if err != nil && !m.complained {
			r.opts.Logger.Warn("the error budget", "shift", key.String(), "error", err)
		}
		m.complained = err != nil
	}
	in.Verdict = shift.Evaluate(&object.Spec.Guard, o, budget)
	in.Analysis = shift.Analyze(&object.Spec.Guard, o, in.Verdict, now, object.Status.Analysis)
	m.open = openOf(o, model)
	m.advice = append(m.open.Advice(), shift.Advise(object.Spec.Capacity, object.Spec.Direction, shift.Progress{
		SourceShare: o.SourceShare(), SourceAtStart: int(object.Status.SourceInstances), Completed: object.Status.Phase == v1alpha1.ShiftCompleted,
	}, fleet, demand)...)
	return in
}

// spentOf returns how many requests to a shift's Service have ended since this replica leads, and how
// many of them failed by what its guard takes for a failure.
func (r *Runner) spentOf(object *v1alpha1.TrafficShift) spending {
	s, _ := r.opts.Outcomes.Spent(discovery.Key{Namespace: object.Namespace, Name: object.Spec.ServiceRef.Name})
	return spending{s.Requests, shift.Failed(&object.Spec.Guard, s)}
}

// openOf returns what is known of requests that stay where they began.
func openOf(o *shift.Observation, model *policy.Service) shift.Open {
	out := shift.Open{Source: o.From, Requests: o.Source.Open, Share: o.SourceShare(), TCP: o.TCP}
	for i := range model.Ports {
		p := &model.Ports[i]
		var age time.Duration
		if o.TCP {
			age = p.Settings.Timeouts().ConnectionAge.Value
		}
		for j := range p.Backings {
			if !o.TCP && p.Backings[j].Platform == o.From {
				age = p.Backings[j].Settings.StreamAge().Value
			}
		}
		switch {
		case !o.TCP && p.Protocol == policy.TCP:
		case age == 0:
			out.Age = 0
			return out // one port without a bound is enough
		default:
			out.Age = max(out.Age, age)
		}
	}
	return out
}

// minus is a-b, at least 0.
func minus(a, b uint64) uint64 { return a - min(a, b) }

// demand returns how much callers ask of a Service, now and at the peak that
// this term has seen within a day.
func (m *memory) demand(w *outcome.Window, covered, length time.Duration, now time.Time) shift.Demand {
	if covered <= 0 || length <= 0 {
		return shift.Demand{}
	}
	rate := 0.0
	for _, c := range w.Outcomes {
		rate += float64(c.Requests+c.FailedOver) / covered.Seconds()
	}
	hour := now.Unix() / 3600
	if covered == length { // a part of a window may be a burst
		slot := &m.peaks[hour%int64(len(m.peaks))]
		if slot.hour != hour {
			*slot = peak{hour: hour}
		}
		slot.rate = max(slot.rate, rate)
	}
	d := shift.Demand{Now: rate, Measured: covered}
	for _, p := range m.peaks {
		if hour-p.hour < int64(len(m.peaks)) {
			d.Peak = max(d.Peak, p.rate)
		}
	}
	return d
}

// peak is the highest rate of an hour.
type peak struct {
	hour int64
	rate float64
}

// seen returns for how long this term has looked, since the last time that the
// wall clock jumped.
func (r *Runner) seen(now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return min(now.Sub(r.began), now.Sub(r.jumped))
}

// jumpFrom is how much further than the monotonic clock the wall clock may have
// gone between two looks; time servers correct less at a time.
const jumpFrom = 2 * time.Second

// notice takes note of a wall clock that jumps: what a status says of times is by it.
func (r *Runner) notice(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	passed, wall := now.Sub(r.looked), now.Round(0).Sub(r.looked.Round(0))
	if d := wall - passed; !r.looked.IsZero() && (d > jumpFrom || d < -jumpFrom) {
		r.jumped = now
		r.opts.Logger.Warn("the clock jumped: no step ends before a whole window was seen from now on", "by", d.String())
	}
	r.looked = now
}

// command puts a command that came without Kubernetes where Kubernetes has it.
func (r *Runner) command(key discovery.Key, object *v1alpha1.TrafficShift) {
	r.mu.Lock()
	defer r.mu.Unlock()
	waiting := r.commands[key]
	if len(waiting) > 0 && waiting[0].ID == object.Status.Command {
		waiting = waiting[1:]
		r.commands[key] = waiting
	}
	if len(waiting) == 0 {
		delete(r.commands, key)
		return
	}
	text, err := json.Marshal(waiting[0])
	if err != nil {
		return // it was decoded from JSON
	}
	metav1.SetMetaDataAnnotation(&object.ObjectMeta, v1alpha1.CommandAnnotation, string(text))
}

// accepted says whether a shift is in charge of its Service, and if not, why.
func accepted(reader catalog.Reader, object *v1alpha1.TrafficShift) (ok bool, problem string) {
	row, found := catalog.Objects.Get(reader, discovery.ObjectName{Kind: discovery.KindTrafficShift, Key: discovery.Key{Namespace: object.Namespace, Name: object.Name}}.String())
	if !found {
		return false, "the object is gone"
	}
	status, _ := resolve.StatusOf(reader, row)
	for _, condition := range []string{v1alpha1.ConditionAccepted, v1alpha1.ConditionResolvedRefs} {
		if c := meta.FindStatusCondition(status.Conditions, condition); c != nil && c.Status == metav1.ConditionFalse {
			return false, c.Message
		}
	}
	return true, ""
}

func frozenBy(f *discovery.Freeze) string {
	text := fmt.Sprintf("%s since %s", f.By, f.Since.UTC().Format(time.RFC3339))
	if f.Reason != "" {
		text += ": " + f.Reason
	}
	return text
}

// loadLag is by how much load reports may be late: proxies send them every ten seconds.
const loadLag = 15 * time.Second

// settling is how long the target must have been silent for the way back to be over.
const settling = 2 * time.Second

// unsettled says that the target of a shift that was taken back still answers,
// "" if it does not: requests that began before, or of a proxy that has not
// heard of it yet.
func (r *Runner) unsettled(service discovery.Key, target discovery.BackingName) string {
	w, ok := r.opts.Outcomes.Window(service, settling)
	if !ok {
		return "what callers get is not known yet"
	}
	counts := w.Counts(target)
	if counts.Requests == 0 {
		return ""
	}
	return fmt.Sprintf("%s still answered %d requests in the last %s", target, counts.Requests, settling)
}

// measure returns the outcomes of a Service's requests over the guard's window,
// and the whole window.
func (r *Runner) measure(object *v1alpha1.TrafficShift, model *policy.Service, m *memory, stands *standing, whole *outcome.Window, now time.Time) *shift.Observation {
	window := object.Spec.Guard.Window.Duration
	w := r.comparable(model.Key, stands, whole, window)
	from, to := policy.FromTo(shift.DirectionOf(object))
	o := &shift.Observation{
		From: from, To: to, Window: window, Covered: min(window, w.Covered), Stable: min(window, now.Sub(m.since)),
		Proxies: whole.Proxies, Silent: append(whole.Missing, whole.Silent...), TCP: true,
		Metrics: r.answers.of(object), StandIn: stands.in(window), Cohort: object.Spec.Cohort != nil,
		Attempts: model.Attempts(),
	}
	attempt, again := attemptOf(&object.Status, now)
	for p, side := range map[discovery.BackingName]*shift.Side{from: &o.Source, to: &o.Target} {
		all, w := whole.Counts(p), w
		if p == to && again && attempt < min(window, stands.since) && !stands.now {
			own, _ := r.opts.Outcomes.Window(model.Key, attempt)
			w = &own
		}
		*side = shift.Side{
			Counts: w.Counts(p), Load: w.Issued(p), Issuers: w.IssuersOf(p), Paths: w.PathsOf(p), Open: whole.Open[p],
			Meant: all.Meant(),
		}
		side.FailedOver = all.FailedOver
		if side.Callers == nil { // as long as one side stands in for the other
			side.Callers = make(map[string]outcome.CallerCounts, len(all.Callers))
		}
		for id, c := range all.Callers {
			own := side.Callers[id]
			own.FailedOver = c.FailedOver
			side.Callers[id] = own
		}
		o.LeftOut += all.Meant() - min(all.Meant(), side.Requests+side.Abandoned)
	}
	if now.Sub(m.copied) < window+loadLag || stands.since < window+loadLag || again && attempt < window+loadLag {
		// Load reports do not tell copies from requests, nor when they were.
		o.Source.Load, o.Target.Load = 0, 0
	}
	if recent, ok := r.opts.Outcomes.Window(model.Key, min(window/4, stands.since, attempt)); ok {
		o.Recent = window / 4
		o.Source.Recent, o.Target.Recent = recent.Counts(from), recent.Counts(to)
	}
	if model.Shift != nil && model.Shift.Cohort != nil {
		o.CohortKey = model.Shift.Cohort.String()
	}
	if model.Shift != nil && model.Shift.Shadow != nil {
		if o.Shadow = w.Mirrored(model.Shift.Shadow.To); o.Shadow == nil {
			o.Shadow = &outcome.Pairs{}
		}
	}
	switch {
	case model.Shift != nil:
		o.Share = model.Shift.ShareOf(to)
	case model.Home == to: // it is over, or not in charge: all traffic is at home
		o.Share = policy.ShareTotal
	}
	o.Apply(&object.Spec.Guard)
	for i := range model.Ports {
		p := &model.Ports[i]
		o.TCP = o.TCP && p.Protocol == policy.TCP
		if i > 0 {
			continue // the ports of a Service have the same endpoints
		}
		for j := range p.Backings {
			side := o.Side(p.Backings[j].Platform)
			if side == nil {
				continue
			}
			for _, z := range p.Backings[j].Zones {
				for k := range z.Endpoints {
					side.Known++
					if z.Endpoints[k].Health == discovery.Healthy {
						side.Usable++
					}
				}
			}
		}
	}
	return o
}

// attemptOf returns for how long the target has had a share in an attempt that is not a shift's first; again is false,
// and the time without end, if it is the first. What the target answered in the attempt before is no evidence in this one: who
// promotes a shift that was taken back says that it is mended.
func attemptOf(s *v1alpha1.TrafficShiftStatus, now time.Time) (began time.Duration, again bool) {
	starts := func(h v1alpha1.ShiftHistory) bool { return h.From == "0" && h.To != "0" }
	last := slices.IndexFunc(s.History, starts) // newest first
	if last < 0 || !slices.ContainsFunc(s.History[last+1:], func(h v1alpha1.ShiftHistory) bool { return h.From != "0" && h.To == "0" }) {
		return math.MaxInt64, false
	}
	return max(0, now.Sub(s.History[last].Time.Time)), true
}

// fleet returns what stands behind a Service.
func (r *Runner) fleet(reader catalog.Reader, object *v1alpha1.TrafficShift, model *policy.Service) shift.Fleet {
	var out shift.Fleet
	if len(model.Ports) > 0 {
		for _, b := range model.Ports[0].Backings {
			for _, z := range b.Zones {
				for i := range z.Endpoints {
					switch {
					case z.Endpoints[i].Health != discovery.Healthy:
					case b.Platform == discovery.Pods:
						out.ReadyPods++
					case b.Platform == discovery.Instances:
						out.InstancesInService++
					}
				}
			}
		}
	}
	for g := range catalog.InstanceGroups.Of(reader, model.Key) {
		st, ok := catalog.GroupStatuses.Get(reader, g.Key.String())
		if !ok {
			continue
		}
		if problem := cmp.Or(st.ScalingError, st.Error); problem != "" {
			out.Error = fmt.Sprintf("InstanceGroup %s: %s", g.Key, problem)
		}
		for _, s := range st.ScalingGroups {
			out.Groups = append(out.Groups, shift.ScalingGroup{
				Name: s.Name, Minimum: s.Minimum, Desired: s.Desired, Maximum: s.Maximum, InService: s.InService, Zones: s.Zones,
				Unit: s.Unit, Units: s.Units, Largest: s.Largest,
			})
		}
	}
	scaler, problem := r.scalers.of(object)
	out.Autoscaler = scaler
	if problem != "" {
		out.Error = problem
	}
	return out
}
