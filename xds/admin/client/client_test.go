package client

import (
	"net"
	"net/http"
	"net/http/httptest"
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

// A control plane at an address is asked alone, and who does not answer is an error.
func TestAll(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/members" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte("[1, 2]"))
	}))
	defer server.Close()
	c := &Client{Address: server.Listener.Addr().String()}
	got, err := All[[]int](t.Context(), c, "/api/v1/members")
	require.NoError(t, err)
	require.Equal(t, []Answer[[]int]{{Value: []int{1, 2}}}, got)
	_, err = All[[]int](t.Context(), c, "/v1/nothing")
	require.ErrorContains(t, err, "404 Not Found")
}

// What an answer says is told, be it the API's JSON or what something else on the way has written; who does not know the path is
// of another version.
func TestAnswersThatAreNone(t *testing.T) {
	for body, want := range map[string]*Error{
		`{"error":"gone"}`:     {Status: 404, Text: "gone"},
		"<html>":               {Status: 502, Text: "<html>"},
		"404 page not found\n": {Status: 404, Text: "it does not know /api/v1/status: it is of another version than this command; use the command of its version"},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(want.Status)
			_, _ = w.Write([]byte(body))
		}))
		want.Address = server.Listener.Addr().String()
		err := (&Client{Address: want.Address}).Do(t.Context(), http.MethodGet, "/api/v1/status", nil, &struct{}{})
		server.Close()
		require.Equal(t, want, err)
	}
}
