package harness_test

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/test/harness"
)

const directAnswer = `
static_resources:
  listeners:
  - name: front
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {prefix: /}
                direct_response: {status: 200, body: {inline_string: here}}
          http_filters:
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
`

// get returns the status and body of an answer.
func get(t *testing.T, url string, limit time.Duration) (int, string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	request.Close = true
	r, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	return r.StatusCode, string(body), err
}

func TestEnvoy(t *testing.T) {
	t.Parallel()
	e := harness.StartEnvoy(t, []byte(directAnswer), harness.EnvoyOptions{})
	url := "http://" + e.Listener(t, 5*time.Second, "front")
	status, body, err := get(t, url, 5*time.Second)
	require.NoError(t, err)
	require.Equal(t, 200, status)
	require.Equal(t, "here", body)

	e.WaitStat(t, 5*time.Second, "http.front.downstream_rq_2xx", 1)
	require.EqualValues(t, 1, e.Stats(t, "http.front.")["http.front.downstream_rq_2xx"])
	require.Contains(t, string(e.ConfigDump(t)), `"stat_prefix": "front"`)
	require.Contains(t, string(e.Admin(t, "/server_info")), "LIVE")

	e.Pause()
	_, _, err = get(t, url, 300*time.Millisecond)
	require.Error(t, err)
	e.Resume()
	_, _, err = get(t, url, 5*time.Second)
	require.NoError(t, err)

	pid := e.PID()
	e.Stop()
	require.NoError(t, e.Err(), "SIGTERM ends Envoy with status 0")
	harness.RequireGone(t, pid)
}

func TestEnvoyIsKilled(t *testing.T) {
	t.Parallel()
	one := harness.StartEnvoy(t, []byte(directAnswer), harness.EnvoyOptions{Name: "one"})
	two := harness.StartEnvoy(t, []byte(directAnswer), harness.EnvoyOptions{Name: "two", Concurrency: 2})
	require.NotEqual(t, one.AdminAddress(), two.AdminAddress())
	one.Kill()
	require.Error(t, one.Err())
	harness.RequireGone(t, one.PID())
	require.NotEmpty(t, two.Admin(t, "/ready"))
}

func TestValidateEnvoy(t *testing.T) {
	t.Parallel()
	harness.ValidateEnvoy(t, []byte(directAnswer))
	err := harness.CheckEnvoyConfig([]byte(`{"static_resources": {"clusters": [{"name": "c", "type": "EDS"}]}}`))
	require.ErrorContains(t, err, "EDS cluster")
}
