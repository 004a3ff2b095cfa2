package api

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/policy/shift"
	"github.com/causeway-mesh/causeway/policy/shift/describe"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Shift is where a TrafficShift stands, with all that a person needs to judge it.
type Shift struct {
	Time time.Time `json:"time"`
	ShiftRow

	// ShadowPercent of the requests are copied to To, 0 for none.
	ShadowPercent float64 `json:"shadowPercent,omitempty"`
	// Pin is the share that somebody has stated for an emergency, "" for none.
	Pin string `json:"pin,omitempty"`
	// StepIndex is the position in Steps of the one under way, -1 for none.
	StepIndex   int       `json:"stepIndex"`
	Steps       []Step    `json:"steps"`
	StepStarted time.Time `json:"stepStarted,omitzero"`
	// NextAt is when the hold of the step ends: the next step comes then at the earliest. Zero where no hold bounds it.
	NextAt time.Time `json:"nextAt,omitzero"`
	Next   string    `json:"next,omitempty"`
	// Reason of the verdict: which figure against which bound.
	Reason string `json:"reason,omitempty"`
	// AnalysisTime is when the guard's window ended that the figures are of.
	AnalysisTime time.Time `json:"analysisTime,omitzero"`
	Window       string    `json:"window"`
	// Source has the traffic before the shift, Target after it.
	Source Side `json:"source"`
	Target Side `json:"target"`
	// RequestsPerSecond of both sides together over the window; 0 where it is not known.
	RequestsPerSecond float64                   `json:"requestsPerSecond"`
	Bounds            []Bound                   `json:"bounds"`
	Paths             []Path                    `json:"paths"`
	Shadow            *v1alpha1.ShiftComparison `json:"shadow,omitempty"`
	LeftOut           string                    `json:"leftOut,omitempty"`
	// Budget of the Service's failures, nil where the guard keeps none.
	Budget     *v1alpha1.ShiftBudget `json:"budget,omitempty"`
	Conditions []metav1.Condition    `json:"conditions,omitempty"`
	Advice     []string              `json:"advice,omitempty"`
	Preflight  []string              `json:"preflight,omitempty"`
	// History of changes, newest first.
	History []Event `json:"history"`
	Series  Series  `json:"series"`
	// Command is what came of the last command, nil where there was none.
	Command *Command `json:"command,omitempty"`
	// Frozen says who has frozen all shifts, "" for nobody.
	Frozen string `json:"frozen,omitempty"`
	// Actions that make sense now: promote, pause, resume, rollback. Whether one may do them is another question.
	Actions []string `json:"actions"`
}

// Command is what came of a command.
type Command struct {
	ID     string `json:"id"`
	Action string `json:"action"`
	Actor  string `json:"actor,omitempty"`
	// Result is Done, Refused, Waits or Void (v1alpha1.ShiftCommandOutcome).
	Result  string    `json:"result"`
	Message string    `json:"message,omitempty"`
	Time    time.Time `json:"time,omitzero"`
}

// Step is a step of a shift.
type Step struct {
	Percent float64 `json:"percent"`
	// Shadow is the part of requests that is copied, 0 where the step moves traffic.
	Shadow   float64 `json:"shadow,omitempty"`
	Hold     string  `json:"hold,omitempty"`
	Approval bool    `json:"approval,omitempty"`
	// State is done, current or ahead.
	State string `json:"state"`
}

// Side is what callers got of one backing over the guard's window.
type Side struct {
	Backing string  `json:"backing"`
	Percent float64 `json:"percent"`
	Figures
	// Open requests, websockets and streams; StoodIn are those that it answered instead of the other side.
	Open    int64 `json:"open,omitempty"`
	StoodIn int64 `json:"stoodIn,omitempty"`
	// Endpoints and Callers that fail most, at most five each; only on the leader.
	Endpoints []Failing `json:"failingEndpoints,omitempty"`
	Callers   []Failing `json:"failingCallers,omitempty"`
}

// Figures are what callers got. What is not known is absent.
type Figures struct {
	Requests int64 `json:"requests"`
	// SuccessRate in percent.
	SuccessRate *float64 `json:"successRate,omitempty"`
	// P50 and P99 of how long answers took, in milliseconds.
	P50 *float64 `json:"p50Milliseconds,omitempty"`
	P99 *float64 `json:"p99Milliseconds,omitempty"`
	// Quantile is that of the guard, in milliseconds, where it is not the p99.
	Quantile *float64 `json:"quantileMilliseconds,omitempty"`
	Statuses []Status `json:"statuses,omitempty"`
}

// Status is the part of answers that had it.
type Status struct {
	Code    string  `json:"code"`
	Percent float64 `json:"percent"`
}

// Failing is an endpoint or a caller with failed requests.
type Failing struct {
	ID       string `json:"id"`
	Requests uint64 `json:"requests"`
	Failures uint64 `json:"failures"`
}

// Path is what callers got of both sides for a group of paths.
type Path struct {
	Path   string  `json:"path"`
	Rule   string  `json:"rule,omitempty"`
	Source Figures `json:"source"`
	Target Figures `json:"target"`
}

// Bound is a figure of the guard against its bound.
type Bound struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Bound string `json:"bound"`
	// State is met, broken or unknown.
	State string `json:"state"`
	// Figure and Limit are numbers that can be drawn, with Least true where the figure may not be less; absent where
	// there are none.
	Figure *float64 `json:"figure,omitempty"`
	Limit  *float64 `json:"limit,omitempty"`
	Least  bool     `json:"atLeast,omitempty"`
}

// Event is an entry of a shift's history.
type Event struct {
	Time   time.Time `json:"time"`
	Event  string    `json:"event"`
	From   float64   `json:"from"`
	To     float64   `json:"to"`
	Actor  string    `json:"actor,omitempty"`
	Reason string    `json:"reason,omitempty"`
}

// most is how many endpoints and callers of a side are named.
const most = 5

// sidesOf returns the backings that traffic moves between.
func sidesOf(s *v1alpha1.TrafficShift) (from, to discovery.BackingName) {
	return policy.FromTo(shift.DirectionOf(s))
}

// ShiftOf returns where a shift stands. w is the guard's window, nil where it is not known here.
func ShiftOf(s *v1alpha1.TrafficShift, freeze *discovery.Freeze, w *outcome.Window, series Series, now time.Time) *Shift {
	st := &s.Status
	from, to := sidesOf(s)
	v := &Shift{
		Time: now.UTC(), ShiftRow: shiftRow(s), ShadowPercent: number(string(st.ShadowPercent)), Pin: string(s.Spec.Pin), StepIndex: -1,
		Next: describe.Next(s), Window: phrase.Duration(s.Spec.Guard.Window.Duration), Conditions: st.Conditions,
		Advice: st.Advice, Preflight: st.Preflight, History: []Event{}, Series: series, Bounds: []Bound{}, Paths: []Path{}, Actions: actionsOf(s),
	}
	if st.Phase != "" {
		v.StepIndex = int(st.Step)
	}
	v.steps(s)
	if b := st.Budget; b != nil {
		v.Budget = &v1alpha1.ShiftBudget{Objective: b.Objective, Remaining: b.Remaining, BurnRate: b.BurnRate}
	}
	if c := st.CommandResult; c != nil {
		v.Command = &Command{ID: st.Command, Action: string(c.Action), Actor: c.Actor, Result: string(c.Result), Message: c.Message, Time: c.Time.UTC()}
	}
	if freeze != nil {
		v.Frozen = freeze.Text()
	}
	v.Source = Side{Backing: from.String(), Percent: 100 - v.Percent}
	v.Target = Side{Backing: to.String(), Percent: v.Percent}
	if a := st.Analysis; a != nil {
		v.analysis(a, from, to)
	}
	if w != nil {
		v.Source.failing(w, from)
		v.Target.failing(w, to)
	}
	if seconds := s.Spec.Guard.Window.Seconds(); seconds > 0 {
		v.RequestsPerSecond = float64(v.Source.Requests+v.Target.Requests) / seconds
	}
	v.bounds(s)
	for i := range st.History {
		h := &st.History[i]
		v.History = append(v.History, Event{
			Time: h.Time.UTC(), Event: string(h.Event), From: number(string(h.From)), To: number(string(h.To)), Actor: h.Actor, Reason: h.Reason,
		})
	}
	return v
}

// steps fills in the steps and when the one under way may end.
func (v *Shift) steps(s *v1alpha1.TrafficShift) {
	completed := s.Status.Phase == v1alpha1.ShiftCompleted
	for i := range s.Spec.Steps {
		step := &s.Spec.Steps[i]
		out := Step{Percent: number(string(step.Percent)), Approval: step.Approval == v1alpha1.ApprovalRequired, State: "ahead"}
		if step.Shadow != nil {
			out.Shadow = number(string(step.Shadow.Percent))
		}
		if step.Hold != nil {
			out.Hold = phrase.Duration(step.Hold.Duration)
		}
		switch {
		case completed || i < v.StepIndex:
			out.State = "done"
		case i == v.StepIndex:
			out.State = "current"
		}
		v.Steps = append(v.Steps, out)
	}
	if s.Status.StepStarted == nil || completed {
		return
	}
	v.StepStarted = s.Status.StepStarted.UTC()
	if i := v.StepIndex; i >= 0 && i < len(s.Spec.Steps) && s.Spec.Steps[i].Hold != nil {
		v.NextAt = v.StepStarted.Add(s.Spec.Steps[i].Hold.Duration)
	}
}

func (v *Shift) analysis(a *v1alpha1.ShiftAnalysis, from, to discovery.BackingName) {
	v.Reason, v.LeftOut, v.Shadow = a.Reason, a.LeftOut, a.Shadow
	if a.Time != nil {
		v.AnalysisTime = a.Time.UTC()
	}
	of := func(name discovery.BackingName, pods, instances *v1alpha1.ShiftFigures) *v1alpha1.ShiftFigures {
		if name == discovery.Pods {
			return pods
		}
		return instances
	}
	for _, side := range []struct {
		to   *Side
		name discovery.BackingName
	}{{&v.Source, from}, {&v.Target, to}} {
		f := of(side.name, a.Pods, a.Instances)
		side.to.Figures = figuresOf(f)
		if f != nil {
			side.to.Open, side.to.StoodIn = f.Open, f.StoodIn
		}
	}
	for i := range a.Paths {
		p := &a.Paths[i]
		v.Paths = append(v.Paths, Path{
			Path: p.Path, Rule: p.Rule, Source: figuresOf(of(from, p.Pods, p.Instances)), Target: figuresOf(of(to, p.Pods, p.Instances)),
		})
	}
}

func figuresOf(f *v1alpha1.ShiftFigures) Figures {
	if f == nil {
		return Figures{}
	}
	out := Figures{Requests: f.Requests, SuccessRate: known(f.SuccessRate), P50: milliseconds(f.P50), P99: milliseconds(f.P99), Quantile: milliseconds(f.Quantile)}
	for _, s := range f.Statuses {
		out.Statuses = append(out.Statuses, Status{s.Code, number(s.Percent)})
	}
	return out
}

// quantile is how long the guard's quantile of the answers took, in milliseconds, nil where it is not known.
func (f *Figures) quantile() *float64 { return cmp.Or(f.Quantile, f.P99) }

// failing fills in who fails most.
func (s *Side) failing(w *outcome.Window, of discovery.BackingName) {
	counts := w.Counts(of)
	endpoints := make([]Failing, 0, len(counts.Endpoints))
	for _, id := range slices.Sorted(maps.Keys(counts.Endpoints)) {
		c := counts.Endpoints[id]
		endpoints = append(endpoints, Failing{id, c.Requests, c.Failures})
	}
	callers := make([]Failing, 0, len(counts.Callers))
	for _, id := range slices.Sorted(maps.Keys(counts.Callers)) {
		c := counts.Callers[id]
		callers = append(callers, Failing{id, c.Requests, c.Failures})
	}
	s.Endpoints, s.Callers = worst(endpoints), worst(callers)
}

func worst(all []Failing) []Failing {
	all = slices.DeleteFunc(all, func(f Failing) bool { return f.Failures == 0 })
	slices.SortStableFunc(all, func(a, b Failing) int { return cmp.Compare(b.Failures, a.Failures) })
	return all[:min(len(all), most)]
}

// bounds fills in the guard's figures against their bounds.
func (v *Shift) bounds(s *v1alpha1.TrafficShift) {
	g := &s.Spec.Guard
	add := func(name, unit string, figure *float64, limit float64, least bool) {
		b := Bound{Name: name, Value: "not known", Limit: &limit, Figure: figure, Least: least, State: "unknown"}
		word := "at most "
		if least {
			word = "at least "
		}
		b.Bound = word + trim(limit) + unit
		if figure != nil {
			b.Value, b.State = trim(*figure)+unit, "met"
			if least && *figure < limit || !least && *figure > limit {
				b.State = "broken"
			}
		}
		v.Bounds = append(v.Bounds, b)
	}
	requests := float64(v.Target.Requests)
	if g.SuccessRate != nil {
		add("success rate of the "+v.To, " %", v.Target.SuccessRate, number(string(g.SuccessRate.AtLeast)), true)
	}
	if l := g.Latency; l != nil {
		quantile := shift.QuantileName(g)
		theirs, ours := v.Source.quantile(), v.Target.quantile()
		if l.AtMost != nil {
			add(quantile+" of the "+v.To, " ms", ours, float64(l.AtMost.Microseconds())/1000, false)
		}
		if l.MaxIncrease != "" {
			var increase *float64
			if ours != nil && theirs != nil && *theirs > 0 {
				increase = new((*ours/(*theirs) - 1) * 100)
			}
			add(quantile+" over that of the "+v.From, " %", increase, number(string(l.MaxIncrease)), false)
		}
	}
	add("requests to the "+v.To+" in "+v.Window, "", &requests, float64(g.MinRequests), true)
	if b := g.ErrorBudget; b != nil {
		var burn *float64
		if v.Budget != nil {
			burn = known(v.Budget.BurnRate)
		}
		add("burn rate of the error budget", "", burn, number(string(b.MaxBurnRate)), false)
	}
	answers := make(map[string]v1alpha1.ShiftMetricFigure)
	if a := s.Status.Analysis; a != nil {
		for _, m := range a.Metrics {
			answers[m.Name] = m
		}
	}
	for i := range g.Metrics {
		m := &g.Metrics[i]
		answer := answers[m.Name]
		first := len(v.Bounds)
		if m.AtLeast != "" {
			add("metric "+m.Name, "", known(answer.Value), number(string(m.AtLeast)), true)
		}
		if m.AtMost != "" {
			add("metric "+m.Name, "", known(answer.Value), number(string(m.AtMost)), false)
		}
		for j := first; j < len(v.Bounds) && answer.Error != ""; j++ {
			v.Bounds[j].Value = "not known: " + answer.Error
		}
	}
}

// actionsOf returns what can be done with a shift as it stands.
func actionsOf(s *v1alpha1.TrafficShift) []string {
	st := &s.Status
	out := []string{}
	if st.Phase == v1alpha1.ShiftCompleted || s.DeletionTimestamp != nil {
		return out
	}
	if s.Spec.Pin == "" {
		out = append(out, string(v1alpha1.ActionPromote))
	}
	if st.Paused {
		out = append(out, string(v1alpha1.ActionResume))
	} else {
		out = append(out, string(v1alpha1.ActionPause))
	}
	if !st.RolledBack && st.Phase != v1alpha1.ShiftRollingBack {
		out = append(out, string(v1alpha1.ActionRollback))
	}
	return out
}

// number reads what a status has as a decimal number, 0 for what is none.
func number(text string) float64 {
	if f := known(text); f != nil {
		return *f
	}
	return 0
}

// known is a figure of a status, nil where it has none. JSON has none for NaN and what is infinite.
func known(text string) *float64 {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return nil
	}
	return &f
}

// milliseconds reads what a status has as a duration, nil for none.
func milliseconds(text string) *float64 {
	d, err := time.ParseDuration(text)
	if err != nil {
		return nil
	}
	ms := float64(d.Microseconds()) / 1000
	return &ms
}

// trim writes a number with at most three digits behind the point.
func trim(f float64) string {
	s := strconv.FormatFloat(f, 'f', 3, 64)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}
