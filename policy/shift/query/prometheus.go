package query

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/causeway-mesh/causeway/policy/shift/outbound"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// prometheusAnswer is the form of answers of Prometheus' HTTP API and of those
// that speak it (Thanos, Mimir, VictoriaMetrics).
type prometheusAnswer struct {
	Status    string
	ErrorType string
	Error     string
	// Warnings are there when a part of the data could not be read (Thanos, Mimir, remote read), and
	// IsPartial is true (VictoriaMetrics).
	Warnings  []string
	IsPartial bool
	Data      struct {
		ResultType string
		Result     json.RawMessage
	}
}

// prometheus asks for an instant vector or a scalar. It asks with GET, because a
// POST to an address that somebody chose could change something there.
func (a *Asker) prometheus(ctx context.Context, m *v1alpha1.PrometheusMetric, timeout time.Duration, credentials map[string][]byte) (float64, error) {
	address, err := url.Parse(m.Address)
	if err != nil || address.Host == "" || address.Scheme != "http" && address.Scheme != "https" {
		return 0, errors.New("the address of Prometheus is none: write http:// or https://, a host, and a port if need be")
	}
	if address.User != nil || address.RawQuery != "" || address.Fragment != "" {
		return 0, errors.New("the address of Prometheus has more than scheme, host, port and path: credentials belong in a Secret, the query in query")
	}
	address = address.JoinPath("api/v1/query")
	address.RawQuery = url.Values{"query": {m.Query}, "timeout": {timeout.String()}}.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return 0, errors.New("the address of Prometheus is none: write http:// or https://, a host, and a port if need be")
	}
	if m.Credentials != nil {
		token, username, password := credential(credentials, "token"), credential(credentials, "username"), credential(credentials, "password")
		switch {
		case token != "":
			request.Header.Set("Authorization", "Bearer "+token)
		case username != "" && password != "":
			request.SetBasicAuth(username, password)
		default:
			return 0, errors.New("the credentials for Prometheus have no key token, nor username and password")
		}
	}
	answer, err := outbound.Do(a.client, request, longestAnswer)
	if err != nil {
		return 0, fmt.Errorf("Prometheus at %s cannot be asked: %w", address.Host, err) //nolint:staticcheck // a name
	}
	var said prometheusAnswer
	err = json.Unmarshal(answer.Body, &said)
	if answer.Status != http.StatusOK {
		return 0, refusal("Prometheus", answer, said.Error)
	}
	if err != nil {
		return 0, unreadable("Prometheus", answer, err)
	}
	if said.Status != "success" {
		return 0, fmt.Errorf("Prometheus answers an error: %s: %s", said.ErrorType, said.Error) //nolint:staticcheck // a name
	}
	if len(said.Warnings) > 0 {
		return 0, fmt.Errorf("Prometheus warns that its answer may not be whole: %s", said.Warnings[0]) //nolint:staticcheck // a name
	}
	if said.IsPartial {
		return 0, errors.New("Prometheus says that its answer is partial: see that all of its storage nodes answer") //nolint:staticcheck // a name
	}
	return instant(said.Data.ResultType, said.Data.Result)
}

// element is one of an instant vector: a value, or a native histogram.
type element struct {
	Value     sample
	Histogram json.RawMessage
}

// instant reads the one sample of a result.
func instant(kind string, result json.RawMessage) (float64, error) {
	var samples []element
	switch kind {
	case "scalar":
		samples = make([]element, 1)
		if err := json.Unmarshal(result, &samples[0].Value); err != nil {
			return 0, fmt.Errorf("the answer of Prometheus cannot be read: %w", err)
		}
	case "vector":
		if err := json.Unmarshal(result, &samples); err != nil {
			return 0, fmt.Errorf("the answer of Prometheus cannot be read: %w", err)
		}
	default:
		return 0, fmt.Errorf("the query answers a %s: write one that answers an instant vector with one element, or a scalar", kind)
	}
	switch len(samples) {
	case 0:
		return 0, errors.New("the query answers nothing: see that what it names exists, and write \"or vector(0)\" where nothing means 0")
	case 1:
		if samples[0].Histogram != nil {
			return 0, errors.New("the query answers a native histogram: write one that answers a number, for example with histogram_quantile()")
		}
		return float64(samples[0].Value), nil
	default:
		return 0, fmt.Errorf("the query answers %d elements: aggregate them to one, for example with sum()", len(samples))
	}
}

// sample is a value of Prometheus: [time, "value"].
type sample float64

// UnmarshalJSON reads the value and leaves the time.
func (s *sample) UnmarshalJSON(data []byte) error {
	var pair []json.RawMessage
	if err := json.Unmarshal(data, &pair); err != nil {
		return err
	}
	if len(pair) != 2 {
		return fmt.Errorf("a sample has %d parts, not a time and a value", len(pair))
	}
	var text string
	if err := json.Unmarshal(pair[1], &text); err != nil {
		return err
	}
	v, err := strconv.ParseFloat(text, 64)
	*s = sample(v)
	return err
}
