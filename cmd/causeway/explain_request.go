package main

import (
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/policy/explain"
)

func explainRequestCommand() *cobra.Command {
	var (
		output         outputFlag
		state          stateFlags
		question       asked
		outputProblems = func() error {
			switch output.format {
			case "table", "json", "yaml":
				return nil
			}
			return wrongInput("--output: %q is not table, json or yaml", output.format)
		}
	)
	c := &cobra.Command{
		Use:   "request {--from WORKLOAD | --gateway NAMESPACE/NAME} METHOD URL",
		Short: "What the mesh does with a request: rule, backends, endpoints, policies, and why",
		Long: `Say what the mesh does with a request that a workload sends: whom its host
means, which rule of which route it takes and why the others lost, what the
backend gets, which timeouts and retries hold and who said so, and which
endpoints answer, by zone and health. Nothing is sent.

WORKLOAD is NAMESPACE/NAME of a workload or of a Service whose pods or instances
ask, or a proxy's node id ('causeway proxies' lists them).

With --gateway the request comes in at a Gateway from outside. The URL's scheme
and port say which listeners could take it, its host is also the server name of
TLS, and -H 'Host: ...' asks for another host than that.

  causeway explain request --from web/cron GET http://php-web.web/cart?id=1 -H 'version: v2'
  causeway explain request --from web/cron GET http://php-web/ --config manifests/examples -o yaml
  causeway explain request --gateway edge/public GET https://shop.example.com/cart --client 203.0.113.7

Exit status: 0 a backend answers, or the mesh redirects; 3 the mesh itself
answers with an error (4xx, 5xx) or closes the connection; 2 wrong input; 1 it could not be found out.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return wrongInput("give a method and a URL: causeway explain request --from NAMESPACE/NAME GET http://SERVICE.NAMESPACE/PATH")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := outputProblems(); err != nil {
				return err
			}
			question.Method, question.URL = args[0], args[1]
			if err := question.check(); err != nil {
				return err
			}
			e, err := state.explainRequest(cmd, &question)
			if err != nil {
				return err
			}
			if err := output.print(cmd, e, func(t *table) { describeRequest(t, e) }); err != nil {
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
	f.BoolVar(&question.HTTP10, "http1.0", false, "the request is one of HTTP/1.0, as nginx sends unless told otherwise")
	f.StringVar(&question.Zone, "zone", "", "the availability zone to ask from, where the workload or the Gateway's proxies are in several")
	f.StringArrayVarP(&question.Headers, "header", "H", nil, "a header of the request, as 'Name: value'; repeat for several")
	state.add(c)
	output.add(c)
	return c
}

func (s *stateFlags) explainRequest(cmd *cobra.Command, a *asked) (*explain.Explanation, error) {
	if s.config == "" {
		var e explain.Explanation
		query := url.Values{
			"from": {a.From}, "gateway": {a.Gateway}, "sni": {a.ServerName}, "client": {a.Client}, "calledPort": {a.CalledPort}, "zone": {a.Zone},
			"method": {a.Method}, "url": {a.URL}, "header": a.Headers, "http10": {strconv.FormatBool(a.HTTP10)},
		}
		return &e, asInput(s.admin.do(cmd.Context(), http.MethodGet, "/v1/explain/request", query, &e))
	}
	r, err := s.load(cmd)
	if err != nil {
		return nil, err
	}
	return a.answer(r, nil)
}

// explainRequest serves GET /v1/explain/request.
func (s *serve) explainRequest(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	a := &asked{
		From: q.Get("from"), Gateway: q.Get("gateway"), ServerName: q.Get("sni"), Client: q.Get("client"), CalledPort: q.Get("calledPort"), Zone: q.Get("zone"),
		Method: q.Get("method"), URL: q.Get("url"), Headers: q["header"], HTTP10: q.Get("http10") == "true",
	}
	e, err := a.answer(s.catalog.Read(), s.xds.Proxies())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	writeJSON(w, e)
}
