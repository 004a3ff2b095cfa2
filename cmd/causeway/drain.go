package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// How a proxy's admin interface is asked.
const (
	envoyAnswers   = 5 * time.Second
	envoyAnswerMax = 8 << 20
	drainLook      = 250 * time.Millisecond
)

func drainCommand() *cobra.Command {
	d := drain{client: &http.Client{Timeout: envoyAnswers}}
	var wait, timeout time.Duration
	onSignal := false
	c := &cobra.Command{
		Use:   "drain",
		Short: "Take this host's Envoy of a Gateway out without losing a request",
		Long: `Take a Gateway's Envoy on this host out of service without losing a request:

 1. its health check fails, so that load balancers stop sending connections;
    from now on it asks clients with every answer to connect anew (Connection:
    close, GOAWAY);
 2. --wait passes: longer than a load balancer's unhealthy threshold times its
    interval;
 3. its listeners drain, and the command waits until no connection is open, for
    --timeout at most.

Envoy itself keeps running: who started it ends it. The exit code is 1 if
connections were still open in the end, for example idle TCP connections or
websockets.

systemd:  ExecStop=/usr/local/bin/causeway drain --wait 20s --timeout 60s
Pod:      causeway drain --on-signal as the container beside Envoy, and Envoy
          as a sidecar container, which Kubernetes ends after it
          (manifests/install/edge.yaml)`,
		Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if wait < 0 || timeout <= 0 {
				return errors.New("--wait and --timeout: give durations such as 20s")
			}
			d.out = cmd.OutOrStdout()
			ctx := cmd.Context()
			if onSignal {
				<-ctx.Done()
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), wait+timeout+envoyAnswers)
				defer cancel()
			}
			return d.run(ctx, wait, timeout)
		},
	}
	f := c.Flags()
	f.StringVar(&d.admin, "admin", "127.0.0.1:15000", "the Envoy's admin interface (--admin-listen of causeway bootstrap)")
	f.DurationVar(&wait, "wait", 20*time.Second, "how long load balancers need to see that the health check fails")
	f.BoolVar(&onSignal, "on-signal", false, "wait for SIGTERM first")
	f.DurationVar(&timeout, "timeout", 60*time.Second, "how long connections have after that to end")
	return c
}

// drain takes an Envoy out of service.
type drain struct {
	admin  string
	client *http.Client
	out    io.Writer
}

func (d *drain) run(ctx context.Context, wait, timeout time.Duration) error {
	// Listeners that have drained are not told of any more.
	gauges, err := d.gauges(ctx)
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
		open, err := d.open(ctx, gauges)
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
		if err := sleep(ctx, drainLook); err != nil {
			return err
		}
	}
}

// gauges returns the names of the statistics that count the open connections
// of the Gateway's listeners.
func (d *drain) gauges(ctx context.Context) ([]string, error) {
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
		if !strings.HasPrefix(l.Name, "gateway/") {
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

// open returns how many connections are open.
func (d *drain) open(ctx context.Context, gauges []string) (int, error) {
	body, err := d.ask(ctx, http.MethodGet, "/stats?format=json&type=Gauges&filter="+url.QueryEscape(`^listener\..*downstream_cx_active$`))
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
		for _, name := range gauges {
			if s.Name == name {
				n += s.Value
			}
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
		return nil, fmt.Errorf("--admin: no Envoy answers at %s: %w", d.admin, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, envoyAnswerMax))
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
