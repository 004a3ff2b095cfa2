package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/causeway-mesh/causeway/xds/resource"
)

// Metrics are the server's Prometheus metrics.
type Metrics struct {
	connected    *prometheus.GaugeVec
	refused      *prometheus.CounterVec
	unknown      prometheus.Counter
	responses    *prometheus.CounterVec
	sentBytes    *prometheus.CounterVec
	acknowledged *prometheus.CounterVec
	rejected     *prometheus.CounterVec
	latency      *prometheus.HistogramVec
	loadReports  prometheus.Counter
	loadRequests *prometheus.CounterVec
	logEntries   *prometheus.CounterVec
	// ignoredEntries are those about clusters that their proxy was not sent.
	ignoredEntries prometheus.Counter
}

// NewMetrics makes the metrics and registers them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	byType := []string{"type"}
	m := &Metrics{
		connected: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "causeway_xds_connected_proxies", Help: "Open ADS streams by protocol (delta, sotw).",
		}, []string{"protocol"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "causeway_xds_refused_streams_total",
			Help: "Streams that were ended by cause: node (not valid), unauthenticated (nothing was proven), undecided (a token could not be checked), unauthorized (it may not be that node), limit (too many names or streams), late (a first message that did not come).",
		}, []string{"cause"}),
		unknown: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "causeway_xds_unknown_type_requests_total", Help: "Requests for resource types that are not served.",
		}),
		responses: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "causeway_xds_responses_total", Help: "Discovery responses sent.",
		}, byType),
		sentBytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "causeway_xds_sent_bytes_total", Help: "Bytes of discovery responses sent.",
		}, byType),
		acknowledged: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "causeway_xds_acks_total", Help: "Responses that proxies accepted.",
		}, byType),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "causeway_xds_nacks_total", Help: "Responses that proxies rejected.",
		}, byType),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "causeway_push_latency_seconds",
			Help:    "Time from a change at its source to a proxy's acknowledgement.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, byType),
		loadReports: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "causeway_lrs_reports_total", Help: "Load reports received from proxies.",
		}),
		loadRequests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "causeway_lrs_requests_total",
			Help: "Requests that proxies reported to have sent, by outcome (success, error, dropped).",
		}, []string{"outcome"}),
		logEntries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "causeway_als_entries_total", Help: "Access log entries received from proxies, by kind (http, tcp).",
		}, []string{"kind"}),
		ignoredEntries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "causeway_als_ignored_entries_total", Help: "Access log entries about clusters that their proxy was not sent, which count for nothing.",
		}),
	}
	// A first rejection must be an increase, not a new series.
	for t := range resource.Type(resource.Types) {
		m.rejected.WithLabelValues(t.String())
	}
	r.MustRegister(m.connected, m.refused, m.unknown, m.responses, m.sentBytes, m.acknowledged, m.rejected,
		m.latency, m.loadReports, m.loadRequests, m.logEntries, m.ignoredEntries)
	return m
}
