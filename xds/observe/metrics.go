package observe

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the reports and of what is made of them. The leader's gauges are 0
// on other replicas.
type metrics struct {
	objects   *prometheus.GaugeVec
	replicas  *prometheus.GaugeVec
	reports   *prometheus.CounterVec
	refused   *prometheus.CounterVec
	connected prometheus.Gauge
	sent      prometheus.Counter
	duration  prometheus.Histogram
}

// reasons are all that an object's condition may have.
var reasons = [...]string{
	ReasonProgrammed, ReasonPending, ReasonNoProxies, ReasonReplicaSilent, ReasonProxiesBehind, ReasonReplicaBehind,
	ReasonRejected, ReasonHeldBack,
}

// States of replicas as a metric's label has them.
const (
	replicaReporting = "reporting"
	replicaAwaited   = "awaited"
	replicaSilent    = "silent"
)

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		objects: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "causeway_observe_objects",
			Help: "On the leader: objects by the reason of their condition Programmed.",
		}, []string{"reason"}),
		replicas: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "causeway_observe_replicas",
			Help: "On the leader: live replicas by state (reporting, awaited, silent).",
		}, []string{"state"}),
		reports: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "causeway_observe_reports_total",
			Help: "On the leader: messages of other replicas by outcome (accepted, duplicate, stale, missing).",
		}, []string{"outcome"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "causeway_observe_refused_streams_total",
			Help: "Reports of other replicas that were refused, by cause (certificate, not_leader, protocol).",
		}, []string{"cause"}),
		connected: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "causeway_observe_connected", Help: "1 while this replica reports to the leader.",
		}),
		sent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "causeway_observe_sent_bytes_total", Help: "Bytes of reports that this replica sent to the leader.",
		}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "causeway_observe_duration_seconds",
			Help:    "Time to look at all objects and proxies once and, on the leader, to judge them.",
			Buckets: prometheus.ExponentialBuckets(.0001, 4, 8),
		}),
	}
	r.MustRegister(m.objects, m.replicas, m.reports, m.refused, m.connected, m.sent, m.duration)
	return m
}
