// Package drain takes an Envoy out of service without losing a request, by its admin interface.
package drain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/policy/naming"
)

const (
	// Answers is how long an Envoy's admin interface may take to answer.
	Answers   = 5 * time.Second
	answerMax = 8 << 20
	look      = 250 * time.Millisecond
)

// Run takes the Envoy whose admin interface is at an address out of service: its health check fails, and
// after wait, which load balancers need to see that, its listeners drain for timeout at most. out is told how it goes.
func Run(ctx context.Context, admin string, out io.Writer, wait, timeout time.Duration) error {
	d := drain{admin: admin, client: &http.Client{Timeout: Answers}, out: out}
	return d.run(ctx, wait, timeout)
}

// Inbound has the Envoy whose admin interface is at an address tell those who call the applications beside it to go
// elsewhere: by Connection: close over HTTP/1.1, by GOAWAY over HTTP/2. Nothing is closed or refused, and
// what the applications themselves send is left alone. It returns at once. Envoy says so with every answer from now on
// if it was started with [Strategy].
func Inbound(ctx context.Context, admin string) error {
	d := drain{admin: admin, client: &http.Client{Timeout: Answers}, out: io.Discard}
	_, err := d.ask(ctx, http.MethodPost, "/drain_listeners?inboundonly&graceful&skip_exit")
	return err
}

// Strategy are arguments of an Envoy for which [Inbound] is to hold at once. By default it begins with few
// answers and has come to all after --drain-time-s, which is longer than a pod has.
func Strategy() []string { return []string{"--drain-strategy", "immediate"} }

// Quiet waits until nothing of the host's own, and nothing for the applications beside it, passes the Envoy whose admin interface is at an address: no
// request over HTTP, no connection over TCP, none to an application. It waits for timeout at most; its error then says what was open.
// A sidecar must not refuse its own host, whose processes may call until they end, so nothing is closed.
func Quiet(ctx context.Context, admin string, timeout time.Duration) error {
	d := drain{admin: admin, client: &http.Client{Timeout: Answers}, out: io.Discard}
	gauges, err := d.gauges(ctx, naming.TCPListener)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(timeout)
	for quiet := 0; quiet < 2; { // a process may be between two requests
		open, err := d.open(ctx, `^listener\..*downstream_cx_active$|^http\..*downstream_rq_active$|^`+toApplications+`$`, func(name string) bool {
			return name == toApplications || slices.Contains(gauges, name) || strings.HasPrefix(name, "http.") && name != "http.admin.downstream_rq_active"
		})
		switch {
		case err != nil:
			return err
		case open == 0:
			quiet++
		case !time.Now().Before(deadline):
			return fmt.Errorf("%d requests and connections were still open after %s", open, timeout)
		default:
			quiet = 0
		}
		if err := sleep(ctx, look); err != nil {
			return err
		}
	}
	return nil
}

// toApplications counts connections to the applications beside a proxy.
const toApplications = "cluster." + naming.InboundCluster + ".upstream_cx_active"

type drain struct {
	admin  string
	client *http.Client
	out    io.Writer
}

func (d *drain) run(ctx context.Context, wait, timeout time.Duration) error {
	// Listeners that have drained are not told of any more.
	gauges, err := d.gauges(ctx, naming.GatewayListener)
	if err != nil {
		return err
	}
	if _, err := d.ask(ctx, http.MethodPost, "/healthcheck/fail"); err != nil {
		return err
	}
	fmt.Fprintf(d.out, "the health check fails; waiting %s for load balancers to see it\n", wait)
	if err := sleep(ctx, wait); err != nil {
		return err
	}
	if _, err := d.ask(ctx, http.MethodPost, "/drain_listeners?graceful&skip_exit"); err != nil {
		return err
	}
	deadline := time.Now().Add(timeout)
	for said := -1; ; {
		open, err := d.open(ctx, `^listener\..*downstream_cx_active$`, func(name string) bool { return slices.Contains(gauges, name) })
		switch {
		case err != nil:
			return err
		case open == 0:
			fmt.Fprintln(d.out, "drained: no connection is open")
			return nil
		case !time.Now().Before(deadline):
			return fmt.Errorf("%d connections are still open %s after the listeners began to drain", open, timeout)
		case open != said:
			fmt.Fprintf(d.out, "%d connections are open\n", open)
			said = open
		}
		if err := sleep(ctx, look); err != nil {
			return err
		}
	}
}

// gauges returns the names of the statistics that count the open connections
// of the listeners whose names begin with a prefix.
func (d *drain) gauges(ctx context.Context, prefix string) ([]string, error) {
	body, err := d.ask(ctx, http.MethodGet, "/listeners?format=json")
	if err != nil {
		return nil, err
	}
	var list struct {
		Statuses []struct {
			Name    string `json:"name"`
			Address struct {
				Socket struct {
					Address string `json:"address"`
					Port    uint16 `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("the listeners of Envoy at %s: %w", d.admin, err)
	}
	var out []string
	for _, l := range list.Statuses {
		if !strings.HasPrefix(l.Name, prefix) {
			continue
		}
		address := l.Address.Socket.Address
		if strings.Contains(address, ":") {
			address = "[" + strings.ReplaceAll(address, ":", "_") + "]"
		}
		out = append(out, fmt.Sprintf("listener.%s_%d.downstream_cx_active", address, l.Address.Socket.Port))
	}
	return out, nil
}

// open returns the sum of the gauges that a regular expression of Envoy's finds and counts says yes to.
func (d *drain) open(ctx context.Context, filter string, counts func(name string) bool) (int, error) {
	body, err := d.ask(ctx, http.MethodGet, "/stats?format=json&type=Gauges&filter="+url.QueryEscape(filter))
	if err != nil {
		return 0, err
	}
	var stats struct {
		Stats []struct {
			Name  string `json:"name"`
			Value int    `json:"value"`
		} `json:"stats"`
	}
	if err := json.Unmarshal(body, &stats); err != nil {
		return 0, fmt.Errorf("the statistics of Envoy at %s: %w", d.admin, err)
	}
	n := 0
	for _, s := range stats.Stats {
		if counts(s.Name) {
			n += s.Value
		}
	}
	return n, nil
}

func (d *drain) ask(ctx context.Context, method, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+d.admin+path, nil)
	if err != nil {
		return nil, fmt.Errorf("--admin: %w", err)
	}
	resp, err := d.client.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // without the URL, which says the address again
		}
		return nil, fmt.Errorf("--admin: no Envoy answers at %s: start it, or name the address that its bootstrap has as --admin-listen: %w", d.admin, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerMax))
	if err != nil {
		return nil, fmt.Errorf("--admin: %s: %w", path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("--admin: %s answered %s: %s", path, resp.Status, strings.TrimSpace(string(body)))
	}
	return body, nil
}

// sleep waits, or returns the error of a context that ends before.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
