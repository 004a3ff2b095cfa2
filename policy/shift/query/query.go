// Package query asks the metric providers that a TrafficShift's guard names:
// Prometheus, Datadog and New Relic, each over its HTTP API.
//
// What a provider does not answer is an error, never a figure: the guard then
// holds the step and says why.
package query

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/causeway-mesh/causeway/policy/shift/outbound"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Bounds of what is asked.
const (
	// atOnce is how many queries are under way at the same time.
	atOnce         = 16
	defaultTimeout = 10 * time.Second
	// longestAnswer in bytes: a figure takes less than one thousand, a query that forgot to
	// aggregate may answer much.
	longestAnswer = 1 << 20
)

// The providers as the metric's label has them.
const (
	providerPrometheus = "prometheus"
	providerDatadog    = "datadog"
	providerNewRelic   = "newrelic"
)

// Options of an Asker.
type Options struct {
	// AllowLoopback admits Prometheus servers on this machine, for a control plane
	// without Kubernetes.
	AllowLoopback bool
	// Registerer takes the metrics; nil for none.
	Registerer prometheus.Registerer
	// Endpoint is asked in place of Datadog and New Relic, for tests.
	Endpoint string
	// Now is the clock; time.Now if nil.
	Now func() time.Time
}

// Asker asks metric providers. It may be used by many goroutines.
type Asker struct {
	client   *http.Client
	endpoint string
	now      func() time.Time
	slots    chan struct{}
	errors   *prometheus.CounterVec
}

// New returns an Asker.
func New(o Options) *Asker {
	a := &Asker{
		client: outbound.NewClient(outbound.Options{AllowLoopback: o.AllowLoopback}), endpoint: o.Endpoint, now: o.Now,
		slots: make(chan struct{}, atOnce),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "causeway_shift_provider_errors_total",
			Help: "Queries of metric providers (prometheus, datadog, newrelic) that gave no figure.",
		}, []string{"provider"}),
	}
	// A first error must be an increase, not a new series.
	for _, provider := range []string{providerPrometheus, providerDatadog, providerNewRelic} {
		a.errors.WithLabelValues(provider)
	}
	if a.now == nil {
		a.now = time.Now
	}
	if o.Registerer != nil {
		o.Registerer.MustRegister(a.errors)
	}
	return a
}

// Ask asks for the figure of a metric and waits for it, at most for the metric's timeout. of is the time of the figure: asking for the same
// figure again gives the same time. An answer that the provider calls partial is an error. credentials are by the keys that the metric's
// type states. An error is one line with the provider and the remedy, without any credential.
func (a *Asker) Ask(ctx context.Context, m *v1alpha1.ShiftMetric, credentials map[string][]byte) (value float64, of time.Time, err error) {
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	case <-ctx.Done():
		return 0, of, fmt.Errorf("metric %s was not asked for: %w", m.Name, ctx.Err())
	}
	timeout := m.Timeout.Duration
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	var provider string
	of = a.now()
	switch {
	case m.Prometheus != nil:
		provider = providerPrometheus
		value, err = a.prometheus(bounded, m.Prometheus, timeout, credentials)
	case m.Datadog != nil:
		provider = providerDatadog
		value, of, err = a.datadog(bounded, m.Datadog, credentials)
	case m.NewRelic != nil:
		provider = providerNewRelic
		value, err = a.newRelic(bounded, m.NewRelic, timeout, credentials)
	default:
		return 0, of, fmt.Errorf("metric %s names no provider: give one of prometheus, datadog and newRelic", m.Name)
	}
	if err == nil && (math.IsNaN(value) || math.IsInf(value, 0)) {
		err = fmt.Errorf("the answer is %v, which is no figure: see that the query divides by something, for example with clamp_min()", value)
	}
	if err != nil {
		if ctx.Err() != nil {
			return 0, of, fmt.Errorf("metric %s was not asked for: %w", m.Name, ctx.Err())
		}
		a.errors.WithLabelValues(provider).Inc()
		return 0, of, errors.New(outbound.Redact(err.Error(), credentials))
	}
	return value, of, nil
}

// credential returns the value of a key, without the line break that files end with.
func credential(credentials map[string][]byte, key string) string {
	return strings.TrimSpace(string(credentials[key]))
}

// refusal words an answer that is no success. said is the provider's own text.
func refusal(provider string, answer *outbound.Answer, said string) error {
	if said != "" {
		said = ": " + said
	}
	switch status := answer.Status; {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return fmt.Errorf("%s refuses the credentials (HTTP %d)%s: see that they are right and may query", provider, status, said)
	case status == http.StatusTooManyRequests:
		wait := ""
		for _, name := range []string{"Retry-After", "X-RateLimit-Reset"} {
			if v := answer.Header.Get(name); v != "" && wait == "" {
				wait = ", for " + v + " s"
			}
		}
		return fmt.Errorf("%s limits the rate of queries (HTTP 429%s)%s: ask less often or for fewer metrics", provider, wait, said)
	case status >= 300 && status < 400:
		return fmt.Errorf("%s redirects (HTTP %d), which is not followed: name the address that it redirects to", provider, status)
	case status >= 500:
		return fmt.Errorf("%s fails (HTTP %d)%s", provider, status, said)
	default:
		return fmt.Errorf("%s refuses the query (HTTP %d)%s", provider, status, said)
	}
}

// unreadable words an answer that has not the provider's form.
func unreadable(provider string, answer *outbound.Answer, err error) error {
	if kind := answer.Header.Get("Content-Type"); kind != "" && !strings.Contains(kind, "json") {
		return fmt.Errorf("%s answers HTTP %d with %s in place of JSON: see that the address is that of its API", provider, answer.Status, kind)
	}
	return fmt.Errorf("the answer of %s cannot be read (HTTP %d): %w", provider, answer.Status, err)
}
