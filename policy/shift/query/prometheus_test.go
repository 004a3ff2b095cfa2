package query

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
)

// The real Prometheus scrapes a target and is asked for what it saw.
func TestPrometheus(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("prometheus is not installed: apt-get install prometheus")
	}
	// Samples with a time of their own outlive a scrape that fails, as one does on a busy machine.
	samples := fmt.Sprintf("shop_requests_total{code=\"200\"} 990 %[1]d\nshop_requests_total{code=\"500\"} 10 %[1]d\n", time.Now().UnixMilli())
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = io.WriteString(w, samples)
	}))
	defer target.Close()
	where, err := url.Parse(target.URL)
	require.NoError(t, err)

	dir := t.TempDir()
	config := fmt.Sprintf("scrape_configs:\n- job_name: shop\n  scrape_interval: 100ms\n  scrape_timeout: 100ms\n  static_configs: [{targets: [%q]}]\n", where.Host)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600))
	// bcrypt of "open sesame", at its lowest cost.
	web := "basic_auth_users: {causeway: $2y$04$nAG4zqS0z/elKG0ss1thkOJeY1yjwTNNqCjPsbuuumVqwWy1wYdby}\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "web.yml"), []byte(web), 0o600))
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(harness.FreePort(t)))
	harness.Start(t, harness.Command{
		Name: "prometheus", Path: program, Dir: dir,
		Args: []string{
			"--config.file=" + filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path=" + filepath.Join(dir, "data"),
			"--web.listen-address=" + address, "--web.config.file=" + filepath.Join(dir, "web.yml"), "--log.level=warn",
		},
	})
	asker := New(Options{AllowLoopback: true})
	user := map[string][]byte{"username": []byte("causeway"), "password": []byte("open sesame\n")}
	ask := func(query string, credentials map[string][]byte) (float64, error) {
		m := metricOf("prometheus", "http://"+address)
		m.Prometheus.Query = query
		value, _, err := asker.Ask(t.Context(), m, credentials)
		return value, err
	}
	harness.Eventually(t, 60*time.Second, "a scrape of the target", func() error {
		_, err := ask(`sum(shop_requests_total)`, user)
		return err
	})

	for query, want := range map[string]float64{
		`sum(shop_requests_total{code=~"5.."}) / sum(shop_requests_total)`: 0.01,
		`scalar(sum(shop_requests_total))`:                                 1000,
		`shop_requests_total{code="500"}`:                                  10,
		`vector(-1.5)`:                                                     -1.5,
		`sum(absent_total) or vector(0)`:                                   0,
	} {
		value, err := ask(query, user)
		require.NoError(t, err, query)
		require.InDelta(t, want, value, 1e-9, query)
	}
	for query, want := range map[string]string{
		`shop_requests_total`:                      "the query answers 2 elements: aggregate them to one",
		`absent_total`:                             "the query answers nothing",
		`sum(shop_requests_total) / 0`:             "the answer is +Inf, which is no figure",
		`0 * sum(shop_requests_total) / vector(0)`: "the answer is NaN, which is no figure",
		`shop_requests_total[5m]`:                  "the query answers a matrix: write one that answers an instant vector",
		`"text"`:                                   "the query answers a string",
		`sum(shop_requests_total`:                  "Prometheus refuses the query (HTTP 400): invalid parameter \"query\"",
		`label_replace(shop_requests_total,"code","","code",".*")`: "HTTP 422",
	} {
		_, err := ask(query, user)
		require.ErrorContains(t, err, want, query)
	}
	_, err = ask("vector(1)", map[string][]byte{"username": []byte("causeway"), "password": []byte("wrong password")})
	require.EqualError(t, err, "Prometheus refuses the credentials (HTTP 401): see that they are right and may query")
	m := &v1alpha1.ShiftMetric{Name: "anonymous", Prometheus: &v1alpha1.PrometheusMetric{Address: "http://" + address, Query: "vector(1)"}}
	_, _, err = asker.Ask(t.Context(), m, nil)
	require.ErrorContains(t, err, "HTTP 401")

	// An address that is not Prometheus' API, and a port that nobody listens on.
	m.Prometheus.Address = target.URL
	_, _, err = asker.Ask(t.Context(), m, nil)
	require.ErrorContains(t, err, "in place of JSON")
	m.Prometheus.Address = "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(harness.FreePort(t)))
	_, _, err = asker.Ask(t.Context(), m, nil)
	require.ErrorContains(t, err, "connection refused")
}
