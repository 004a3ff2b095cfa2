package query

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"golang.org/x/tools/txtar"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
)

// credentials of every provider.
func credentials() map[string][]byte {
	return map[string][]byte{
		"api-key": []byte("the-secret-api-key\n"), "application-key": []byte("the-secret-application-key"),
		"token": []byte("the-secret-token\n"),
	}
}

func metricOf(provider, address string) *v1alpha1.ShiftMetric {
	m := &v1alpha1.ShiftMetric{Name: "checkout-errors", Timeout: metav1.Duration{Duration: 30 * time.Second}}
	reference := v1alpha1.CredentialsReference{SecretName: "metrics"}
	switch provider {
	case "prometheus":
		m.Prometheus = &v1alpha1.PrometheusMetric{Address: address, Query: "checkout_errors", Credentials: &reference}
	case "datadog":
		m.Datadog = &v1alpha1.DatadogMetric{Site: "datadoghq.eu", Query: "avg:checkout.error_ratio{service:php-web}", Credentials: reference}
	case "newrelic":
		m.NewRelic = &v1alpha1.NewRelicMetric{Region: "EU", AccountID: 1234567, Query: "SELECT average(duration) FROM Transaction", Credentials: reference}
	}
	return m
}

// recorded is when the answers were.
var recorded = time.Unix(1_795_432_600, 0)

// Every recorded answer is the figure or the error that it should be.
func TestAnswersOfProviders(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*/*.txtar")
	require.NoError(t, err)
	require.Greater(t, len(files), 30)
	for _, path := range files {
		provider := filepath.Base(filepath.Dir(path))
		t.Run(provider+"/"+strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(path)
			require.NoError(t, err)
			require.Len(t, archive.Files, 2)
			head, body, _ := strings.Cut(string(archive.Files[0].Data), "\n\n")
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requireRequest(t, provider, r)
				lines := strings.Split(strings.TrimSpace(head), "\n")
				for _, line := range lines[1:] {
					name, value, _ := strings.Cut(line, ": ")
					w.Header().Set(name, value)
				}
				status, _ := strconv.Atoi(strings.TrimPrefix(lines[0], "HTTP "))
				w.WriteHeader(status)
				_, _ = io.WriteString(w, strings.TrimSpace(body))
			}))
			defer server.Close()
			registry := prometheus.NewRegistry()
			asker := New(Options{AllowLoopback: true, Endpoint: server.URL, Registerer: registry, Now: func() time.Time { return recorded }})
			value, _, err := asker.Ask(t.Context(), metricOf(provider, server.URL), credentials())
			got, failed := fmt.Sprint(value), 0.0
			if err != nil {
				got, failed = err.Error(), 1
			}
			require.Equal(t, strings.TrimSpace(string(archive.Files[1].Data)), got)
			require.InDelta(t, failed, testutil.ToFloat64(asker.errors.WithLabelValues(provider)), 0)
		})
	}
}

// requireRequest checks that a request is what the provider's reference asks for.
func requireRequest(t *testing.T, provider string, r *http.Request) {
	t.Helper()
	switch provider {
	case "prometheus":
		require.Equal(t, "GET /api/v1/query", r.Method+" "+r.URL.Path)
		require.Equal(t, "checkout_errors", r.FormValue("query"))
		require.Equal(t, "30s", r.FormValue("timeout"))
		require.Equal(t, "Bearer the-secret-token", r.Header.Get("Authorization"))
	case "datadog":
		require.Equal(t, "GET /api/v1/query", r.Method+" "+r.URL.Path)
		require.Equal(t, "the-secret-api-key", r.Header.Get("DD-API-KEY"))
		require.Equal(t, "the-secret-application-key", r.Header.Get("DD-APPLICATION-KEY"))
		from, err := strconv.ParseInt(r.FormValue("from"), 10, 64)
		require.NoError(t, err)
		to, err := strconv.ParseInt(r.FormValue("to"), 10, 64)
		require.NoError(t, err)
		require.EqualValues(t, 300, to-from)
		require.Equal(t, recorded.Unix(), to)
		require.Equal(t, "avg:checkout.error_ratio{service:php-web}", r.FormValue("query"))
	case "newrelic":
		require.Equal(t, "POST /graphql", r.Method+" "+r.URL.Path)
		require.Equal(t, "the-secret-api-key", r.Header.Get("API-Key"))
		var sent struct {
			Query     string
			Variables struct {
				Account int64
				NRQL    string
				Timeout int
			}
		}
		require.NoError(t, json.NewDecoder(r.Body).Decode(&sent))
		require.Contains(t, sent.Query, "nrql(query: $nrql")
		require.Equal(t, "SELECT average(duration) FROM Transaction", sent.Variables.NRQL)
		require.EqualValues(t, 1234567, sent.Variables.Account)
		require.Equal(t, 30, sent.Variables.Timeout)
	}
}

// What is wrong before anything is sent.
func TestRefusedQuestions(t *testing.T) {
	t.Parallel()
	asker := New(Options{})
	for name, c := range map[string]struct {
		change      func(m *v1alpha1.ShiftMetric)
		provider    string
		credentials map[string][]byte
		want        string
	}{
		"site":              {provider: "datadog", change: func(m *v1alpha1.ShiftMetric) { m.Datadog.Site = "datadoghq.com.example.org" }, credentials: credentials(), want: `"datadoghq.com.example.org" is no site of Datadog`},
		"site lookalike":    {provider: "datadog", change: func(m *v1alpha1.ShiftMetric) { m.Datadog.Site = "evildatadoghq.com" }, credentials: credentials(), want: "is no site of Datadog"},
		"site with path":    {provider: "datadog", change: func(m *v1alpha1.ShiftMetric) { m.Datadog.Site = "example.org/.datadoghq.com" }, credentials: credentials(), want: "is no site of Datadog"},
		"datadog keys":      {provider: "datadog", credentials: map[string][]byte{"api-key": []byte("x")}, want: "lack the key api-key or application-key"},
		"new relic key":     {provider: "newrelic", want: "lack the key api-key"},
		"region":            {provider: "newrelic", change: func(m *v1alpha1.ShiftMetric) { m.NewRelic.Region = "AP" }, credentials: credentials(), want: `"AP" is no region of New Relic: write US or EU`},
		"prometheus keys":   {provider: "prometheus", want: "have no key token, nor username and password"},
		"address":           {provider: "prometheus", change: func(m *v1alpha1.ShiftMetric) { m.Prometheus.Address = "file:///etc/passwd" }, want: "the address of Prometheus is none"},
		"userinfo":          {provider: "prometheus", change: func(m *v1alpha1.ShiftMetric) { m.Prometheus.Address = "http://a:secret@b" }, want: "credentials belong in a Secret"},
		"loopback":          {provider: "prometheus", change: func(m *v1alpha1.ShiftMetric) { m.Prometheus.Address = "http://localhost:1" }, credentials: credentials(), want: "is an address of the control plane itself"},
		"instance metadata": {provider: "prometheus", change: func(m *v1alpha1.ShiftMetric) { m.Prometheus.Address = "http://169.254.169.254/latest" }, credentials: credentials(), want: "169.254.169.254 is a link-local address, as those of instance metadata are"},
		"no provider":       {provider: "", want: "metric checkout-errors names no provider"},
		"header injection":  {provider: "prometheus", change: func(m *v1alpha1.ShiftMetric) { m.Prometheus.Address = "http://192.0.2.1" }, credentials: map[string][]byte{"token": []byte("secret\r\nHost: x")}, want: "invalid header field value"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := metricOf(c.provider, "http://192.0.2.1")
			if c.change != nil {
				c.change(m)
			}
			_, _, err := asker.Ask(t.Context(), m, c.credentials)
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "secret\r")
			require.NotContains(t, err.Error(), "the-secret")
		})
	}
	for _, site := range []string{"datadoghq.com", "us3.datadoghq.com", "us5.datadoghq.com", "datadoghq.eu", "ap1.datadoghq.com", "ap2.datadoghq.com", "ddog-gov.com", "us2.ddog-gov.com"} {
		require.True(t, datadogSite(site), site)
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer server.Close()
	m := metricOf("prometheus", server.URL)
	m.Timeout.Duration = 100 * time.Millisecond
	_, _, err := New(Options{AllowLoopback: true}).Ask(t.Context(), m, credentials())
	require.ErrorContains(t, err, "there is no answer in time")
}

// No more queries than the bound are under way.
func TestQueriesAtOnce(t *testing.T) {
	t.Parallel()
	var now, most atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		defer now.Add(-1)
		harness.TakeTime(5 * time.Millisecond)
		_, _ = io.WriteString(w, `{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}`)
	}))
	defer server.Close()
	asker := New(Options{AllowLoopback: true})
	var asking sync.WaitGroup
	for range 100 {
		asking.Go(func() {
			_, _, err := asker.Ask(t.Context(), metricOf("prometheus", server.URL), credentials())
			require.NoError(t, err)
		})
	}
	asking.Wait()
	require.LessOrEqual(t, most.Load(), int64(atOnce))
}

// FuzzInstant reads whatever a server that claims to be Prometheus answers.
func FuzzInstant(f *testing.F) {
	for _, s := range []string{`[{"metric":{},"value":[1,"0.5"]}]`, `[1,"NaN"]`, `[]`, `[null]`, `[[]]`, `{}`, `[{"histogram":[]}]`} {
		f.Add("vector", []byte(s))
		f.Add("scalar", []byte(s))
	}
	f.Fuzz(func(t *testing.T, kind string, data []byte) {
		if value, err := instant(kind, data); err != nil {
			require.Zero(t, value)
		}
	})
}

// FuzzFigure reads whatever NRQL answers.
func FuzzFigure(f *testing.F) {
	for _, s := range []string{`[{"average.duration":0.1}]`, `[{"percentile.x":{"99":1}}]`, `[]`, `[null]`, `[{}, {}]`, `[{"a":{"b":{"c":1}}}]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var results []map[string]any
		if json.Unmarshal(data, &results) != nil {
			return
		}
		if value, err := figure(results); err != nil {
			require.Zero(t, value)
		}
	})
}
