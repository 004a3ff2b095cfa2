// Causeway is the control plane of an Envoy mesh in which EC2 instances and
// Kubernetes pods answer for the same Services.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the build (-ldflags -X main.version=...).
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := root().ExecuteContext(ctx)
	stop()
	os.Exit(exitCode(err))
}

// Exit codes of every subcommand.
const (
	exitOK       = 0
	exitError    = 1 // it did not work
	exitFindings = 2 // it worked and found mistakes (validate) or changes (diff), or what is asked makes no sense (explain)
	exitAnswered = 3 // the mesh itself answers the request with an error (explain request)
)

// errFindings says that a check worked and found mistakes, which are printed already.
var errFindings = errors.New("there are mistakes")

func exitCode(err error) int {
	switch {
	case err == nil || errors.Is(err, context.Canceled):
		return exitOK
	case errors.Is(err, errFindings), errors.Is(err, errChanges):
		return exitFindings
	case errors.Is(err, errMeshAnswers):
		return exitAnswered
	}
	fmt.Fprintln(os.Stderr, "causeway: "+err.Error())
	if errors.Is(err, errInput) {
		return exitFindings
	}
	return exitError
}

func root() *cobra.Command {
	c := &cobra.Command{
		Use:   "causeway",
		Short: "One Envoy mesh over EC2 instances and Kubernetes pods",
		Long: `Causeway lets services on EC2 instances and the same services in Kubernetes
pods answer under one name, and moves traffic from the first to the second.

First steps, without Kubernetes and without AWS:

  causeway validate manifests/examples         check a directory of objects
  causeway serve --config manifests/examples   serve it to Envoys on 127.0.0.1:18000
  causeway bootstrap --namespace web --workload cron --id i-1 > envoy.yaml
  envoy -c envoy.yaml                          join the mesh
  causeway proxies                             who is connected and in sync
  causeway endpoints web/php-web               who answers, and why not
  causeway explain request --from web/cron GET http://php-web/
                                               which rule, backend and policies, and why`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	c.AddCommand(serveCommand(), demoCommand(), bootstrapCommand(), validateCommand(), diffCommand(), proxiesCommand(), drainCommand(), endpointsCommand(), explainCommand(),
		guardCommand(), shiftCommand(), freezeCommand(), unfreezeCommand(), versionCommand())
	return c
}
