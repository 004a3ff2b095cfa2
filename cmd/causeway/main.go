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

	"github.com/causeway-mesh/causeway/xds/admin/terminal"
)

// version is set by the build (-ldflags -X main.version=...).
var version = "dev"

func main() {
	os.Exit(exitCode(root().ExecuteContext(untilSignal())))
}

// untilSignal returns a context that ends with the first SIGTERM or Ctrl-C. The second ends the process: who asks
// twice does not want to wait for what drains.
func untilSignal() context.Context {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx
}

// untilTold is the end of a command that runs until it is told to end: that it was told is no error.
func untilTold(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// Exit codes of every subcommand.
const (
	exitOK       = 0
	exitError    = 1 // it could not be done, for whatever reason: wrong arguments and flags too
	exitFindings = 2 // it worked and found something: mistakes (validate), changes (diff), what needs somebody (status)
	exitAnswered = 3 // the mesh itself answers the request with an error (explain request)
)

// errFindings says that a check worked and found mistakes, which are printed already.
var errFindings = errors.New("there are mistakes")

func exitCode(err error) int {
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errFindings), errors.Is(err, errChanges):
		return exitFindings
	case errors.Is(err, errMeshAnswers):
		return exitAnswered
	case errors.Is(err, context.Canceled):
		err = errors.New("interrupted before it was done")
	}
	fmt.Fprintln(os.Stderr, terminal.Paint(os.Stderr, "causeway: "+err.Error()))
	return exitError
}

func root() *cobra.Command {
	c := &cobra.Command{
		Use:   "causeway",
		Short: "One Envoy mesh over EC2 instances and Kubernetes pods",
		Long: `Causeway lets services on EC2 instances and the same services in Kubernetes
pods answer under one name, and moves traffic from the first to the second.

First steps, without Kubernetes and without AWS, in two terminals:

  causeway validate manifests/examples/first-steps
  causeway serve --config manifests/examples/first-steps
                                     serves Envoys on 127.0.0.1:18000

  python3 -m http.server 8081 --bind 127.0.0.1 &
  causeway bootstrap --namespace web --workload cron --id i-1 > envoy.yaml
  envoy -c envoy.yaml &              joins the mesh
  http_proxy=http://127.0.0.1:15001 curl http://hello.web/
  causeway status                    all on one screen
  causeway endpoints web/hello       who answers, and why not
  causeway explain request --from web/cron GET http://hello.web/

Commands that end with NAMESPACE/NAME also take -n NAMESPACE and NAME. With
--context or --kubeconfig they find the control plane in that cluster.

Exit status of every command: 0 it worked; 1 it could not be done, wrong
arguments and flags too; 2 it worked and found something: mistakes (validate),
changes (diff), what needs you (status, check); 3 the mesh itself answers with
an error (explain request).`,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	c.AddCommand(serveCommand(), demoCommand(), bootstrapCommand(), validateCommand(), diffCommand(), proxiesCommand(), membersCommand(), checkCommand(), drainCommand(), agentCommand(), identityCommand(), injectCommand(), endpointsCommand(), explainCommand(),
		guardCommand(), shiftCommand(), freezeCommand(), unfreezeCommand(), statusCommand(), dashboardCommand(), versionCommand())
	c.InitDefaultCompletionCmd()
	c.SetHelpCommand(helpCommand())
	refuseWell(c)
	wrapHelp(c)
	asPlugin(c, os.Args[0])
	return c
}
