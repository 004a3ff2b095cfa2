// Package admin has the common parts of the admin API's handlers: the check of who may ask, and the commands that change
// something.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// FromCLI passes on requests that no page in a browser can have sent. A browser
// reaches loopback for any site. But it names the page's site (Origin,
// Sec-Fetch-Site), it cannot send JSON elsewhere without asking first, and its
// Host header has the name that the page used, also where that name is the
// page's own and leads here.
func FromCLI(next http.Handler, hosts []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
		site, origin := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Origin")
		switch {
		case !IsHost(r.Host, hosts):
			http.Error(w, fmt.Sprintf("%q is not the admin API's name: ask 127.0.0.1, or name it with --admin-host", r.Host), http.StatusMisdirectedRequest)
		case site != "" && site != "same-origin" && site != "none", origin != "" && origin != "http://"+r.Host:
			http.Error(w, "the admin API answers no page of another site", http.StatusForbidden)
		case r.Method != http.MethodGet && r.Method != http.MethodHead && kind != "application/json":
			http.Error(w, "send Content-Type: application/json; the causeway command of this version does", http.StatusUnsupportedMediaType)
		default:
			w.Header().Set("X-Content-Type-Options", "nosniff")
			w.Header().Set("Cross-Origin-Resource-Policy", "same-origin")
			next.ServeHTTP(w, r)
		}
	})
}

// IsHost reports whether a Host header names the admin API: an address of
// loopback, localhost, or a name of hosts, with any port.
func IsHost(host string, hosts []string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if host == "localhost" || slices.ContainsFunc(hosts, func(h string) bool { return strings.EqualFold(h, host) }) {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.IsLoopback()
}

// WriteJSON answers with a value.
func WriteJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // a client that went away
}

// Serve serves a handler until the context ends.
func Serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 2 * time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		_ = srv.Close()
	}()
	err := srv.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		<-stopped
		return ctx.Err()
	}
	return err
}
