package admin

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a page in a browser can have the browser send is refused, and what the
// command, curl and a port-forward send is answered.
func TestAdminAnswersNoPages(t *testing.T) {
	reached := false
	h := FromCLI(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }), []string{"plane.example.org"})
	const json, form = "application/json", "application/x-www-form-urlencoded"
	for name, c := range map[string]struct {
		method, host, kind string
		header             map[string]string
		status             int
	}{
		"the command reads":         {"GET", "127.0.0.1:15080", "", nil, 200},
		"the command changes":       {"POST", "127.0.0.1:15080", json, nil, 200},
		"with a charset":            {"POST", "127.0.0.1:15080", json + "; charset=utf-8", nil, 200},
		"another loopback address":  {"GET", "127.3.4.5:1", "", nil, 200},
		"IPv6":                      {"GET", "[::1]:15080", "", nil, 200},
		"IPv6 without a port":       {"GET", "[::1]", "", nil, 200},
		"port-forward":              {"GET", "localhost:9999", "", nil, 200},
		"a configured name":         {"GET", "plane.example.org", "", nil, 200},
		"typed into a browser":      {"GET", "localhost:15080", "", map[string]string{"Sec-Fetch-Site": "none"}, 200},
		"a page of its own":         {"POST", "localhost:15080", json, map[string]string{"Origin": "http://localhost:15080", "Sec-Fetch-Site": "same-origin"}, 200},
		"DNS rebinding":             {"GET", "attacker.example.com:15080", "", nil, 421},
		"rebinding to an address":   {"GET", "192.0.2.1:15080", "", nil, 421},
		"no Host":                   {"GET", "", "", nil, 421},
		"a name that begins alike":  {"GET", "localhost.example.com", "", nil, 421},
		"an image of another site":  {"GET", "127.0.0.1:15080", "", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		"another port's page":       {"GET", "127.0.0.1:15080", "", map[string]string{"Sec-Fetch-Site": "same-site"}, 403},
		"another origin":            {"POST", "127.0.0.1:15080", json, map[string]string{"Origin": "https://attacker.example.com"}, 403},
		"a sandboxed page":          {"POST", "127.0.0.1:15080", json, map[string]string{"Origin": "null"}, 403},
		"another port of this host": {"POST", "127.0.0.1:15080", json, map[string]string{"Origin": "http://127.0.0.1:8080"}, 403},
		"a form":                    {"POST", "127.0.0.1:15080", form, nil, 415},
		"text":                      {"POST", "127.0.0.1:15080", "text/plain", nil, 415},
		"no type":                   {"POST", "127.0.0.1:15080", "", nil, 415},
		"JSON in another type":      {"POST", "127.0.0.1:15080", "text/plain; x=application/json", nil, 415},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), c.method, "/v1/freeze", http.NoBody)
			r.Host = c.host
			if c.kind != "" {
				r.Header.Set("Content-Type", c.kind)
			}
			for k, v := range c.header {
				r.Header.Set(k, v)
			}
			w := httptest.NewRecorder()
			reached = false
			h.ServeHTTP(w, r)
			require.Equal(t, c.status, w.Code, w.Body)
			require.Equal(t, c.status == 200, reached)
		})
	}
}

// A control plane that follows another one's shifts takes no command, and takes none back.
func TestCommandsWhereTheyCount(t *testing.T) {
	for name, c := range map[string]struct {
		takes  Commands
		status int
		says   string
	}{
		"follows":    {Commands{Here: true, ShiftsFrom: "https://other:15443"}, http.StatusConflict, "--shifts-from https://other:15443): give the command there"},
		"Kubernetes": {Commands{}, http.StatusForbidden, "give --kubeconfig"},
	} {
		for _, method := range []string{http.MethodPost, http.MethodDelete} {
			t.Run(name+" "+method, func(t *testing.T) {
				r := httptest.NewRequestWithContext(t.Context(), method, "/v1/shifts/command?shift=web/php&id=a", http.NoBody)
				r.Host = "localhost"
				r.Header.Set("Content-Type", "application/json")
				w := httptest.NewRecorder()
				mux := http.NewServeMux()
				c.takes.Register(mux)
				FromCLI(mux, nil).ServeHTTP(w, r)
				require.Equal(t, c.status, w.Code, w.Body)
				require.Contains(t, w.Body.String(), c.says)
			})
		}
	}
}
