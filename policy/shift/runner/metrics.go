package runner

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/shift"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// phases and verdicts are the values of their labels. Each has a series of every
// shift, 0 or 1, so that a graph shows when one began and ended.
func phases() []v1alpha1.ShiftPhase {
	return []v1alpha1.ShiftPhase{
		v1alpha1.ShiftPending, v1alpha1.ShiftShadowing, v1alpha1.ShiftShifting, v1alpha1.ShiftAwaitingApproval, v1alpha1.ShiftSoaking,
		v1alpha1.ShiftCompleted, v1alpha1.ShiftRollingBack, v1alpha1.ShiftRolledBack, v1alpha1.ShiftPaused,
	}
}

func verdicts() []shift.Result { return []shift.Result{shift.Pass, shift.Hold, shift.Fail} }

func events() []v1alpha1.ShiftEvent {
	return []v1alpha1.ShiftEvent{
		v1alpha1.EventStep, v1alpha1.EventHold, v1alpha1.EventAwaitingApproval, v1alpha1.EventRollBack,
		v1alpha1.EventCompleted, v1alpha1.EventCommand, v1alpha1.EventFailedOver,
	}
}

// metrics of shifts. Only the leader has series, and a shift's go with the shift.
// One goroutine calls the methods.
type metrics struct {
	share, step, phase, verdict, budget, burn *prometheus.GaugeVec
	// The guard's figures over its last window, by platform.
	success, window, latency, open *prometheus.GaugeVec
	events                         *prometheus.CounterVec
	requests, failures             *prometheus.CounterVec
	// counted is what the book had said when the counters were last raised.
	counted map[discovery.Key]counted
}

type counted struct{ requests, failed uint64 }

func newMetrics(r prometheus.Registerer) *metrics {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, append([]string{"namespace", "name"}, labels...))
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"namespace", "name"}, labels...))
	}
	m := &metrics{
		share:    gauge("causeway_shift_share", "Part of the traffic that the target of a shift has, 0 to 1."),
		step:     gauge("causeway_shift_step", "Position of the step that is under way, from 0; -1 before the first and after a rollback."),
		phase:    gauge("causeway_shift_phase", "1 for the phase that a shift is in.", "phase"),
		verdict:  gauge("causeway_shift_verdict", "1 for what the guard says (Pass, Hold, Fail).", "verdict"),
		budget:   gauge("causeway_shift_budget_remaining_ratio", "Part of the error budget that is left, 1 at most; below 0 it is overdrawn."),
		burn:     gauge("causeway_shift_burn_rate", "How many times faster than the objective allows failures come."),
		success:  gauge("causeway_shift_success_ratio", "Part of the requests that succeeded over the guard's window, by platform (pods, instances).", "platform"),
		window:   gauge("causeway_shift_window_requests", "Requests over the guard's window, by platform.", "platform"),
		open:     gauge("causeway_shift_open_requests", "Requests that are under way now, websockets and streams among them, by platform.", "platform"),
		latency:  gauge("causeway_shift_latency_seconds", "Latency over the guard's window, by platform and quantile (0.5, 0.99).", "platform", "quantile"),
		events:   counter("causeway_shift_events_total", "What happened to a shift, by event.", "event"),
		requests: counter("causeway_shift_requests_total", "Requests to a shift's Service that ended, on both sides together."),
		failures: counter("causeway_shift_failures_total", "Requests to a shift's Service that failed, on both sides together."),
		counted:  make(map[discovery.Key]counted),
	}
	for _, v := range m.vectors() {
		r.MustRegister(v)
	}
	return m
}

// vector is what all of the metrics can do.
type vector interface {
	prometheus.Collector
	DeletePartialMatch(labels prometheus.Labels) int
}

func (m *metrics) vectors() []vector {
	return []vector{
		m.share, m.step, m.phase, m.verdict, m.budget, m.burn, m.success, m.window, m.latency, m.open, m.events, m.requests, m.failures,
	}
}

// set has the gauges say what a status says. Its figures are text for people;
// one that is not there, or that is no number, has no series.
func (m *metrics) set(key discovery.Key, status *v1alpha1.TrafficShiftStatus) {
	ns, name := key.Namespace, key.Name
	share := 0.0
	if p, err := shift.ParsePercent(status.Percent); err == nil {
		share = p.Part()
	}
	m.share.WithLabelValues(ns, name).Set(share)
	m.step.WithLabelValues(ns, name).Set(float64(status.Step))
	for _, p := range phases() {
		m.phase.WithLabelValues(ns, name, string(p)).Set(truth(p == status.Phase))
	}
	analysis := status.Analysis
	if analysis == nil {
		analysis = &v1alpha1.ShiftAnalysis{}
	}
	for _, v := range verdicts() {
		m.verdict.WithLabelValues(ns, name, string(v)).Set(truth(string(v) == analysis.Verdict))
	}
	m.figures(key, discovery.Pods, analysis.Pods)
	m.figures(key, discovery.Instances, analysis.Instances)
	budget := status.Budget
	if budget == nil {
		budget = &v1alpha1.ShiftBudget{}
	}
	setNumber(m.budget, budget.Remaining, .01, ns, name)
	setNumber(m.burn, budget.BurnRate, 1, ns, name)
}

func (m *metrics) figures(key discovery.Key, platform discovery.BackingName, f *v1alpha1.ShiftFigures) {
	if f == nil {
		f = &v1alpha1.ShiftFigures{}
	}
	labels := []string{key.Namespace, key.Name, platform.String()}
	m.window.WithLabelValues(labels...).Set(float64(f.Requests))
	m.open.WithLabelValues(labels...).Set(float64(f.Open))
	setNumber(m.success, f.SuccessRate, .01, labels...)
	setDuration(m.latency, f.P50, key.Namespace, key.Name, platform.String(), "0.5")
	setDuration(m.latency, f.P99, key.Namespace, key.Name, platform.String(), "0.99")
}

// happened counts a notice. All events of the shift then have a series, so that
// increase() sees the first of each that follows.
func (m *metrics) happened(key discovery.Key, event v1alpha1.ShiftEvent) {
	for _, e := range events() {
		m.events.WithLabelValues(key.Namespace, key.Name, string(e))
	}
	m.events.WithLabelValues(key.Namespace, key.Name, string(event)).Inc()
}

// spent raises the counters of requests to what the book says (outcome.Book.Spent)
// of the shift's Service. The book may begin anew.
func (m *metrics) spent(key discovery.Key, requests, failed uint64) {
	last := m.counted[key]
	if requests < last.requests {
		last = counted{}
	}
	failed = max(failed, last.failed) // a guard that takes fewer statuses for failures takes none back
	m.counted[key] = counted{requests, failed}
	m.requests.WithLabelValues(key.Namespace, key.Name).Add(float64(requests - last.requests))
	m.failures.WithLabelValues(key.Namespace, key.Name).Add(float64(failed - last.failed))
}

// forget takes away the series of a shift that is gone.
func (m *metrics) forget(key discovery.Key) {
	delete(m.counted, key)
	for _, v := range m.vectors() {
		v.DeletePartialMatch(prometheus.Labels{"namespace": key.Namespace, "name": key.Name})
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func setNumber(to *prometheus.GaugeVec, text string, unit float64, labels ...string) {
	if v, err := strconv.ParseFloat(text, 64); err == nil {
		to.WithLabelValues(labels...).Set(v * unit)
		return
	}
	to.DeleteLabelValues(labels...)
}

func setDuration(to *prometheus.GaugeVec, text string, labels ...string) {
	if v, err := time.ParseDuration(text); err == nil {
		to.WithLabelValues(labels...).Set(v.Seconds())
		return
	}
	to.DeleteLabelValues(labels...)
}
