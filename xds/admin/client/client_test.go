package client

import (
	"net"
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
)

// Where no control plane answers, the error says what to do and not which path was asked.
func TestNobodyAnswers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	err = (&Client{Address: address}).Do(t.Context(), http.MethodGet, "/v1/explain/request", url.Values{"host": {"shop.web"}}, &struct{}{})
	require.ErrorContains(t, err, "no control plane answers at "+address+": start 'causeway serve', name another with --admin, or a cluster with --context: ")
	require.ErrorContains(t, err, "connection refused")
	for _, raw := range []string{"http://", "/v1/", "shop.web"} {
		require.NotContains(t, err.Error(), raw)
	}

	err = (&Client{Address: "nowhere"}).Do(t.Context(), http.MethodGet, "/v1/shifts", nil, &struct{}{})
	require.EqualError(t, err, `--admin: "nowhere" is not HOST:PORT`)
}
