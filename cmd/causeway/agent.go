package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/xds/agent"
	"github.com/causeway-mesh/causeway/xds/agent/capture"
	"github.com/causeway-mesh/causeway/xds/agent/settings"
)

// defaultAgentListen is where an agent answers if nothing else is said.
const defaultAgentListen = "127.0.0.1:15020"

func agentCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "agent",
		Short: "Run this host's Envoy, look at it, and bring traffic to it",
	}
	c.AddCommand(agentRunCommand(), agentStatusCommand(), agentDrainCommand(), agentCaptureCommand(), agentReleaseCommand())
	return c
}

func agentRunCommand() *cobra.Command {
	p, o, config := proxyFlags{}, agent.Options{}, []string(nil)
	c := &cobra.Command{
		Use:   "run [-- ENVOY ARGUMENTS]",
		Short: "Make the bootstrap, and keep Envoy running with it",
		Long: `Make the bootstrap of an Envoy on this host or in this pod, start Envoy, and
start it again if it ends. The agent speaks to the control plane for Envoy and
keeps the last configuration that Envoy has acknowledged: after a reboot Envoy
starts with it if no control plane answers for --wait, and goes on with what is
new once one does. Envoy holds no key of the mesh.

  causeway agent run --namespace web --workload php-web \
    --ec2 --server causeway.internal:18000 \
    --tls-ca /etc/causeway/ca.crt --tls-server-name causeway.internal \
    --tls-cert /etc/causeway/tls.crt --tls-key /etc/causeway/tls.key

With --ec2 the instance's metadata says --id, --region and --zone, and the host
drains when EC2 or Auto Scaling is about to end it (docs/hosts.md).

On SIGTERM a sidecar goes on serving this host until no request and no TCP
connection is under way, and a Gateway's Envoy drains as "causeway drain" has
it; both for --drain-timeout at most. systemd: Type=notify, KillMode=mixed, and
TimeoutStopSec above --health-wait plus --drain-timeout plus 10 s.

The agent answers at --listen: /ready (200 once Envoy serves, 503 with the
reason before and while it drains), /metrics (Envoy's, its own and the
application's in one) and /status.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && cmd.ArgsLenAtDash() != 0 {
				return fmt.Errorf("%q: it takes no arguments but Envoy's own: write them after --", args[0])
			}
			if cmd.Flags().NFlag() == 0 {
				return errors.New("agent run: it is not told who it is: give --config FILE, such as /etc/causeway/agent.yaml (docs/hosts.md), " +
					"or --namespace, --workload and, on an EC2 instance, --ec2, else --id")
			}
			if err := settings.Apply(config, cmd.Flags()); err != nil {
				return err
			}
			o.Bootstrap, o.Args, o.Version = p.options(cmd.Flags()), args, version
			o.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
			if err := o.Identify(cmd.Context()); err != nil {
				return untilTold(err)
			}
			a, err := agent.New(o)
			if err != nil {
				return err
			}
			return untilTold(a.Run(cmd.Context()))
		},
	}
	f := c.Flags()
	p.add(f)
	f.StringVar(&p.tls.Token, "token-file", "", "in a pod: file with the token of its service account, in place of --tls-cert and --tls-key; read for each stream")
	f.StringArrayVar(&config, "config", nil, "YAML file with these flags, for example /etc/causeway/agent.yaml; the command line wins. Repeat it: what a later file says wins")
	f.StringVar(&o.Envoy, "envoy", "envoy", "Envoy's program, version 1.40")
	f.StringVar(&o.Dir, "state-dir", agent.DefaultDir, "directory for the bootstrap and the last known good configuration")
	f.StringVar(&o.Listen, "listen", defaultAgentListen, "ADDRESS:PORT where the agent answers; beyond loopback everybody may read its metrics")
	f.StringVar(&o.ApplicationMetrics, "application-metrics", "", "URL of the application's Prometheus metrics, to serve them with Envoy's")
	f.StringVar(&o.ApplicationHealth, "application-health", "", "URL of what to check of the application every 5 s: http://, tcp:// or fastcgi:// (php-fpm's ping)")
	f.StringSliceVar(&o.DNS.Listen, "dns-listen", nil, "ADDRESS:PORT where the agent answers for names of the mesh, for example 127.0.0.1:15053; repeat for IPv6; empty for nowhere")
	f.StringSliceVar(&o.DNS.Upstreams, "dns-upstream", nil, "ADDRESS or ADDRESS:PORT of a resolver for all other names; repeat for several (default: those of /etc/resolv.conf)")
	f.BoolVar(&o.EC2.Enabled, "ec2", false, "this host is an EC2 instance: ask its metadata who it is (--id, --region, --zone) and whether it will go")
	f.StringVar(&o.EC2.Endpoint, "imds-endpoint", "", "with --ec2: URL of the instance metadata service (default http://169.254.169.254)")
	f.BoolVar(&o.EC2.DrainOnRebalance, "drain-on-rebalance", false, "with --ec2: drain when EC2 recommends to replace the instance, not only when it interrupts it")
	f.StringVar(&o.EC2.Hook, "lifecycle-hook", "", "with --ec2: hook of the auto scaling group for terminating instances, completed once this host has drained")
	f.StringVar(&o.EC2.Group, "auto-scaling-group", "", "with --lifecycle-hook: name of the group, if the instance's metadata has no tags")
	f.DurationVar(&o.Wait, "wait", 10*time.Second, "how long an Envoy that starts waits for the control plane before it takes its last known good configuration")
	f.DurationVar(&o.HealthWait, "health-wait", 20*time.Second, "with --role gateway: how long load balancers need to see that the health check fails")
	f.DurationVar(&o.DrainTimeout, "drain-timeout", 60*time.Second, "how long requests and connections have to end after SIGTERM")
	return c
}

// errNotReady says that Envoy does not serve, which is printed already.
var errNotReady = fmt.Errorf("%w: Envoy is not ready", errFindings)

func agentDrainCommand() *cobra.Command {
	var o agent.DrainOptions
	c := &cobra.Command{
		Use:   "drain",
		Short: "Let this host get nothing new, and wait until nothing is under way",
		Long: `Tell the control plane that this host is to get nothing new, and wait until no
request and no TCP connection passes its Envoy. Envoy and the agent go on. The
host stays so until --undo or a restart of the agent.

  causeway agent drain --for 2m && systemctl stop nginx
  causeway agent drain --undo

Exit status: 0 nothing is under way; 2 something still is after --for; 1 no
agent could be asked. It needs to be root or the agent's user.`,
		Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := agent.Drain(cmd.Context(), o, cmd.OutOrStdout())
			if errors.Is(err, agent.ErrOpen) {
				return fmt.Errorf("%w: %w", errFindings, err)
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&o.Dir, "state-dir", agent.DefaultDir, "the agent's state directory")
	f.DurationVar(&o.For, "for", 60*time.Second, "how long what is under way has to end")
	f.BoolVar(&o.Undo, "undo", false, "let the host take part again")
	return c
}

func agentStatusCommand() *cobra.Command {
	return askAgentCommand("status", "Say whether this host's Envoy serves, and with which configuration", func(s *agent.Status) (func(*phrase.Table), any, error) {
		if s.Capture = capture.Now(); !s.Ready {
			return s.Print, s, errNotReady
		}
		return s.Print, s, nil
	})
}

func identityCommand() *cobra.Command {
	return askAgentCommand("identity", "Say who the workload beside the agent is, and by what proof", func(s *agent.Status) (func(*phrase.Table), any, error) {
		if s.Identity == nil || s.Identity.ID == "" {
			return s.PrintIdentity, s.Identity, fmt.Errorf("%w: the workload has no identity", errFindings)
		}
		return s.PrintIdentity, s.Identity, nil
	})
}

// askAgentCommand returns a command that asks the agent and prints what show says of its status; the error ends it then.
func askAgentCommand(use, short string, show func(*agent.Status) (func(*phrase.Table), any, error)) *cobra.Command {
	listen, output := "", outputFlag{}
	c := &cobra.Command{
		Use: use, Short: short, Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := agent.Ask(cmd.Context(), listen)
			if err != nil {
				return err
			}
			people, machines, end := show(s)
			if err := output.print(cmd, machines, people); err != nil {
				return err
			}
			return end
		},
	}
	c.Flags().StringVar(&listen, "listen", defaultAgentListen, "the agent's address (--listen of causeway agent run)")
	output.add(c)
	return c
}
