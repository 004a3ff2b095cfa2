package main

import (
	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/policy/explain"
	"github.com/causeway-mesh/causeway/policy/explain/describe"
	"github.com/causeway-mesh/causeway/policy/phrase"
)

func explainRequestCommand() *cobra.Command {
	var (
		output   outputFlag
		state    stateFlags
		question explain.Question
	)
	c := &cobra.Command{
		Use:   "request {--from NAME | --gateway NAME} METHOD URL",
		Short: "What the mesh does with a request, and why",
		Long: `Say what the mesh does with a request that a workload sends: whom its host
means, which rule of which route it takes and why the others lost, what the
backend gets, which timeouts and retries hold and who said so, and which
endpoints answer, by zone and health. Nothing is sent.

--from is NAMESPACE/NAME of a workload or of a Service whose pods or instances
ask, or a proxy's node id ('causeway proxies' lists them).

With --gateway the request comes in at a Gateway from outside. The URL's scheme
and port say which listeners could take it, its host is also the server name of
TLS, and -H 'Host: ...' asks for another host than that.

  causeway explain request --from web/cron \
    GET 'http://php-web.web/cart?id=1' -H 'version: v2'
  causeway explain request --from web/cron GET http://hello/ \
    --config manifests/examples/first-steps -o yaml
  causeway explain request --from web/cron --captured \
    GET http://users.web.svc.cluster.local/
  causeway explain request --gateway edge/public \
    GET https://shop.example.com/cart --client 203.0.113.7

Exit status: 0 a backend answers, or the mesh redirects; 3 the mesh itself
answers with an error (4xx, 5xx) or closes the connection; 1 it could not be
found out, or was asked wrongly.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return explain.WrongInput("give a method and a URL: causeway explain request --from NAMESPACE/NAME GET http://SERVICE.NAMESPACE/PATH")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			question.Method, question.URL = args[0], args[1]
			if err := question.Check(); err != nil {
				return err
			}
			e, err := state.explainRequest(cmd, &question)
			if err != nil {
				return err
			}
			if err := output.print(cmd, e, func(t *phrase.Table) { describe.Request(t, e) }); err != nil {
				return err
			}
			if e.Fails() {
				return errMeshAnswers
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&question.From, "from", "", "who asks: NAMESPACE/NAME of a workload or Service, or a proxy's node id")
	f.StringVar(&question.Gateway, "gateway", "", "NAMESPACE/NAME of the Gateway at which the request comes in from outside, instead of --from")
	f.StringVar(&question.ServerName, "sni", "", "with --gateway, the server name of the client's TLS (default: the URL's host)")
	f.StringVar(&question.Client, "client", "", "with --gateway, the address that the Gateway is called from")
	f.StringVar(&question.CalledPort, "called-port", "", "with --gateway behind an NLB that speaks the PROXY protocol, the port of the NLB that the client has called (default: the URL's)")
	f.BoolVar(&question.Captured, "captured", false, "the program connects to the URL's host itself, and capture brings it to the proxy: address and port say which Service is meant")
	f.BoolVar(&question.HTTP10, "http1.0", false, "the request is one of HTTP/1.0, as nginx sends unless told otherwise")
	f.BoolVar(&question.HTTP2, "http2", false, "the request is one of HTTP/2, as gRPC clients and browsers at a Gateway send: names of headers count as they are written")
	f.StringVar(&question.Zone, "zone", "", "the availability zone to ask from, where the workload or the Gateway's proxies are in several")
	f.StringVar(&question.Node, "node", "", "the Kubernetes node to ask from, where the workload or the Gateway's proxies are on several")
	f.StringArrayVarP(&question.Headers, "header", "H", nil, "a header of the request, as 'Name: value'; repeat for several")
	state.add(c)
	output.add(c)
	return c
}

func (s *stateFlags) explainRequest(cmd *cobra.Command, a *explain.Question) (*explain.Explanation, error) {
	if s.config == "" {
		e, err := s.admin.api().Explain(cmd.Context(), a)
		return e, asInput(err)
	}
	r, err := s.load(cmd)
	if err != nil {
		return nil, err
	}
	return a.Answer(r, nil)
}
