package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/xds/drain"
)

func drainCommand() *cobra.Command {
	var admin string
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
			ctx := cmd.Context()
			if onSignal {
				<-ctx.Done()
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), wait+timeout+drain.Answers)
				defer cancel()
			}
			return drain.Run(ctx, admin, cmd.OutOrStdout(), wait, timeout)
		},
	}
	f := c.Flags()
	f.StringVar(&admin, "admin", "127.0.0.1:15000", "the Envoy's admin interface (--admin-listen of causeway bootstrap)")
	f.DurationVar(&wait, "wait", 20*time.Second, "how long load balancers need to see that the health check fails")
	f.BoolVar(&onSignal, "on-signal", false, "wait for SIGTERM first")
	f.DurationVar(&timeout, "timeout", 60*time.Second, "how long connections have after that to end")
	return c
}
