// Package health checks the application beside an agent: over HTTP, by a TCP connection, or by
// the ping of php-fpm.
package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// As those of an InstanceGroup's healthCheck are by default.
const (
	interval  = 5 * time.Second
	timeout   = time.Second
	threshold = 2
)

// State is what the checks have found.
type State struct {
	// Known is false before the first result.
	Known   bool `json:"known"`
	Healthy bool `json:"healthy"`
	// Reason is why it is not healthy.
	Reason string `json:"reason,omitempty"`
}

// Checker checks one application.
type Checker struct {
	check   func(context.Context) error
	changed func()

	mu    sync.Mutex
	state State
	// row is how many results in a row were ok, or were not.
	ok  bool
	row int
}

// New returns a checker of what a URL names: http://ADDRESS:PORT/PATH (https too), tcp://ADDRESS:PORT,
// fastcgi://ADDRESS:PORT/PING or fastcgi:///SOCKET?/PING. changed is called when the state has changed.
func New(text string, changed func()) (*Checker, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errURL(text)
	}
	c := &Checker{changed: changed}
	switch {
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
		client := &http.Client{
			Transport: &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10}, // by no proxy, on a connection of its own
			// A redirect is an answer: what it leads to is not the application's health.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
		c.check = func(ctx context.Context) error { return checkHTTP(ctx, client, u.String()) }
	case u.Scheme == "tcp" && u.Port() != "" && strings.Trim(u.Path, "/") == "":
		c.check = func(ctx context.Context) error {
			conn, err := dial(ctx, "tcp", u.Host)
			if err == nil {
				_ = conn.Close()
			}
			return err
		}
	case u.Scheme == "fastcgi" && u.Host == "" && u.Path != "":
		path := u.RawQuery
		if path == "" {
			path = "/ping"
		}
		c.check = func(ctx context.Context) error { return ping(ctx, "unix", u.Path, path) }
	case u.Scheme == "fastcgi" && u.Port() != "" && len(u.Path) > 1:
		c.check = func(ctx context.Context) error { return ping(ctx, "tcp", u.Host, u.Path) }
	default:
		return nil, errURL(text)
	}
	return c, nil
}

func errURL(text string) error {
	return fmt.Errorf("--application-health: %q is nothing to check: write http://127.0.0.1:80/healthz, tcp://127.0.0.1:3306, "+
		"fastcgi://127.0.0.1:9000/ping or fastcgi:///run/php/php-fpm.sock?/ping", text)
}

// State returns what has been found.
func (c *Checker) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Run checks until the context ends.
func (c *Checker) Run(ctx context.Context) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		within, cancel := context.WithTimeout(ctx, timeout)
		err := c.check(within)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if c.add(err) {
			c.changed()
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// add adds a result and reports whether the state has changed. The first good one counts at once; else it takes
// as many in a row as the threshold.
func (c *Checker) add(err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ok := err == nil; ok != c.ok || c.row == 0 {
		c.ok, c.row = ok, 0
	}
	c.row = min(c.row+1, threshold)
	before := c.state
	switch {
	case err == nil && (!c.state.Known || c.row >= threshold):
		c.state = State{Known: true, Healthy: true}
	case err != nil && c.row >= threshold:
		c.state = State{Known: true, Reason: err.Error()}
	}
	return c.state != before
}

func checkHTTP(ctx context.Context, client *http.Client, u string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return err //nolint:wrapcheck // it names the URL
	}
	request.Header.Set("User-Agent", "causeway-agent")
	answer, err := client.Do(request)
	if err != nil {
		return short(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode < 200 || answer.StatusCode > 399 {
		return fmt.Errorf("it answered %d", answer.StatusCode)
	}
	return nil
}

func dial(ctx context.Context, network, address string) (net.Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, address)
	return conn, short(err)
}

// short says a network's error for a person.
func short(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %s", timeout)
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}
