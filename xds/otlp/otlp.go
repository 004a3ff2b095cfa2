// Package otlp sends metrics to an OpenTelemetry collector: the same ones that
// /metrics has, over HTTP, as OTLP in protobuf.
//
// Names, labels and types are those of Prometheus. The environment variables of
// OpenTelemetry's exporters hold, among them OTEL_EXPORTER_OTLP_HEADERS for keys,
// OTEL_EXPORTER_OTLP_CERTIFICATE for the collector's CA and
// OTEL_METRIC_EXPORT_INTERVAL for how often they are sent, in milliseconds.
package otlp

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	bridge "go.opentelemetry.io/contrib/bridges/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
)

// lastChance is how long the last figures may take to be sent while the process ends.
const lastChance = 3 * time.Second

// Options of Export.
type Options struct {
	// Endpoint is the collector's URL: http or https, host and port, and if it is not /v1/metrics, the path.
	Endpoint string
	// Version of the control plane, an attribute of all that is sent.
	Version string
	// Gatherer has the metrics.
	Gatherer prometheus.Gatherer
	Log      *slog.Logger
}

// Parse checks an endpoint and fills in the path. Its error has no flag's name.
func Parse(endpoint string) (*url.URL, error) {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("%q is no URL of a collector: write, for example, http://collector.monitoring:4318", endpoint)
	case u.User != nil:
		return nil, fmt.Errorf("it has a password in it, which every process of the host sees: set OTEL_EXPORTER_OTLP_HEADERS instead")
	case u.Port() == "4317":
		return nil, fmt.Errorf("%q has the port of OTLP over gRPC, and metrics are sent over HTTP: that port is 4318 as a rule", endpoint)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/metrics"
	}
	return u, nil
}

// Export sends metrics until the context ends, and once more then. A collector that does not answer or refuses is
// logged, and stops nothing: what is counted is in the next message.
func Export(ctx context.Context, o Options) error {
	u, err := Parse(o.Endpoint)
	if err != nil {
		return err
	}
	exporter, err := otlpmetrichttp.New(ctx, otlpmetrichttp.WithEndpointURL(u.String()))
	if err != nil {
		return fmt.Errorf("OTLP: %w", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		// It may quote the collector's whole page.
		text := strings.Join(strings.Fields(err.Error()), " ")
		o.Log.Warn("metrics cannot be sent by OTLP", "collector", u.Host, "error", text[:min(len(text), 500)])
	}))
	// In a pod the host's name is the pod's.
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	provider := metric.NewMeterProvider(
		metric.WithReader(metric.NewPeriodicReader(exporter, metric.WithProducer(bridge.NewMetricProducer(bridge.WithGatherer(o.Gatherer))))),
		metric.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "causeway"), attribute.String("service.version", o.Version), attribute.String("service.instance.id", host),
		)),
	)
	<-ctx.Done()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastChance)
	defer cancel()
	if err := provider.Shutdown(last); err != nil {
		o.Log.Warn("the last metrics were not sent by OTLP", "collector", u.Host, "error", err)
	}
	return ctx.Err()
}
