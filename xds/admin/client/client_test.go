package client_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/xds/admin/client"
)

// What the admin API answers is decoded, and what it refuses is told with its status and its text.
func TestClient(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPost && r.Header.Get("Content-Type") != "application/json":
			http.Error(w, "send JSON", http.StatusUnsupportedMediaType)
		case r.URL.Query().Get("name") == "":
			http.Error(w, "name it", http.StatusNotFound)
		default:
			_, _ = w.Write([]byte(`{"name": "` + r.URL.Query().Get("name") + `"}`))
		}
	}))
	t.Cleanup(s.Close)
	c := client.Client{Address: strings.TrimPrefix(s.URL, "http://")}
	var out struct{ Name string }
	require.NoError(t, c.Do(t.Context(), http.MethodGet, "/", url.Values{"name": {"a"}}, &out))
	require.Equal(t, "a", out.Name)
	require.NoError(t, c.Post(t.Context(), "/", url.Values{"name": {"a"}}, out))
	err := c.Do(t.Context(), http.MethodGet, "/", url.Values{}, &out)
	var refused *client.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, http.StatusNotFound, refused.Status)
	require.Equal(t, "name it", refused.Text)
	require.ErrorContains(t, (&client.Client{Address: "here"}).Do(t.Context(), http.MethodGet, "/", nil, &out), `--admin: "here" is not HOST:PORT`)
	require.ErrorContains(t, (&client.Client{Address: "127.0.0.1:1"}).Do(t.Context(), http.MethodGet, "/", nil, &out), "no control plane answers at 127.0.0.1:1")
}
