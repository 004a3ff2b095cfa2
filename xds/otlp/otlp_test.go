package otlp

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	metricsv1 "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/protobuf/proto"
)

// collector takes what is exported, as OpenTelemetry's does.
type collector struct {
	*httptest.Server

	status int
	got    chan *collectorv1.ExportMetricsServiceRequest

	mu      sync.Mutex
	headers http.Header
	path    string
}

func newCollector(t *testing.T, status int) *collector {
	t.Helper()
	c := &collector{status: status, got: make(chan *collectorv1.ExportMetricsServiceRequest, 100)}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			var z *gzip.Reader
			if z, err = gzip.NewReader(bytes.NewReader(body)); err == nil {
				body, err = io.ReadAll(z)
			}
		}
		request := &collectorv1.ExportMetricsServiceRequest{}
		if err = errors.Join(err, proto.Unmarshal(body, request)); err != nil || r.Header.Get("Content-Type") != "application/x-protobuf" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		c.headers, c.path = r.Header, r.URL.Path
		c.mu.Unlock()
		w.Header().Set("Content-Type", "application/x-protobuf")
		w.WriteHeader(c.status)
		select {
		case c.got <- request:
		default:
		}
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) wait(t *testing.T) *collectorv1.ExportMetricsServiceRequest {
	t.Helper()
	select {
	case r := <-c.got:
		return r
	case <-time.After(30 * time.Second):
		t.Fatal("nothing was sent")
	}
	return nil
}

// measures are one of each type.
func measures() *prometheus.Registry {
	r := prometheus.NewRegistry()
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "causeway_service_requests_total", Help: "Requests."}, []string{"service", "result"})
	share := prometheus.NewGauge(prometheus.GaugeOpts{Name: "causeway_shift_share", Help: "Share."})
	latency := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "causeway_push_latency_seconds", Help: "Latency.", Buckets: []float64{.1, 1}})
	r.MustRegister(requests, share, latency)
	requests.WithLabelValues("php-web", "success").Add(42)
	share.Set(.25)
	latency.Observe(.05)
	latency.Observe(5)
	return r
}

// What a collector gets is what /metrics says, name for name and figure for figure; the last figures are sent at the
// end.
func TestExport(t *testing.T) {
	t.Setenv("OTEL_METRIC_EXPORT_INTERVAL", "50")
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=s3cret")
	c := newCollector(t, http.StatusOK)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Export(ctx, Options{Endpoint: c.URL, Version: "v1.2.3", Gatherer: measures(), Log: slog.New(slog.DiscardHandler)})
	}()
	request := c.wait(t)
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)

	c.mu.Lock()
	defer c.mu.Unlock()
	require.Equal(t, "/v1/metrics", c.path)
	require.Equal(t, "s3cret", c.headers.Get("Api-Key"))
	require.Len(t, request.GetResourceMetrics(), 1)
	attributes := make(map[string]string)
	for _, a := range request.GetResourceMetrics()[0].GetResource().GetAttributes() {
		attributes[a.GetKey()] = a.GetValue().GetStringValue()
	}
	require.Equal(t, "causeway", attributes["service.name"])
	require.Equal(t, "v1.2.3", attributes["service.version"])
	require.NotEmpty(t, attributes["service.instance.id"])
	got := make(map[string]*metricsv1.Metric)
	for _, scope := range request.GetResourceMetrics()[0].GetScopeMetrics() {
		for _, m := range scope.GetMetrics() {
			got[m.GetName()] = m
		}
	}
	require.Len(t, got, 3)
	sum := got["causeway_service_requests_total"].GetSum()
	require.True(t, sum.GetIsMonotonic())
	require.Equal(t, metricsv1.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE, sum.GetAggregationTemporality())
	require.InDelta(t, 42, sum.GetDataPoints()[0].GetAsDouble(), 0)
	labels := make(map[string]string)
	for _, a := range sum.GetDataPoints()[0].GetAttributes() {
		labels[a.GetKey()] = a.GetValue().GetStringValue()
	}
	require.Equal(t, map[string]string{"service": "php-web", "result": "success"}, labels)
	require.InDelta(t, .25, got["causeway_shift_share"].GetGauge().GetDataPoints()[0].GetAsDouble(), 0)
	histogram := got["causeway_push_latency_seconds"].GetHistogram().GetDataPoints()[0]
	require.EqualValues(t, 2, histogram.GetCount())
	require.Equal(t, []uint64{1, 0, 1}, histogram.GetBucketCounts())
}

// told is a log that can be waited for.
type told struct {
	mu   sync.Mutex
	text bytes.Buffer
	news chan struct{}
}

func (l *told) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.news <- struct{}{}:
	default:
	}
	return l.text.Write(p)
}

// A collector that refuses is logged, and the control plane goes on.
func TestExportRefused(t *testing.T) {
	t.Setenv("OTEL_METRIC_EXPORT_INTERVAL", "50")
	c := newCollector(t, http.StatusForbidden)
	log := &told{news: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Export(ctx, Options{Endpoint: c.URL + "/otlp/v1/metrics", Gatherer: measures(), Log: slog.New(slog.NewTextHandler(log, nil))})
	}()
	select {
	case <-log.news:
	case <-time.After(30 * time.Second):
		t.Fatal("nothing was logged")
	}
	select {
	case err := <-ended:
		t.Fatalf("it ended: %v", err)
	default:
	}
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	require.Contains(t, log.text.String(), "metrics cannot be sent by OTLP")
	require.Contains(t, log.text.String(), "403")
	c.mu.Lock()
	defer c.mu.Unlock()
	require.Equal(t, "/otlp/v1/metrics", c.path)
}

func TestParse(t *testing.T) {
	t.Parallel()
	for endpoint, want := range map[string]string{
		"http://127.0.0.1:4318":                "http://127.0.0.1:4318/v1/metrics",
		"https://otlp.example.com/":            "https://otlp.example.com/v1/metrics",
		"https://otlp.nr-data.net/v1/metrics":  "https://otlp.nr-data.net/v1/metrics",
		"https://otlp.example.com/mine/upload": "https://otlp.example.com/mine/upload",
	} {
		u, err := Parse(endpoint)
		require.NoError(t, err)
		require.Equal(t, want, u.String())
	}
	for endpoint, want := range map[string]string{
		"collector:4318":             "is no URL of a collector",
		"grpc://collector:4317":      "is no URL of a collector",
		"http://collector:4317":      "4318 as a rule",
		"https://user:secret@host/x": "OTEL_EXPORTER_OTLP_HEADERS",
		"":                           "is no URL of a collector",
	} {
		_, err := Parse(endpoint)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "secret")
	}
}
