package main

import (
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/policy/explain"
)

func explainRequestCommand() *cobra.Command {
	var (
		output         outputFlag
		state          stateFlags
		from, zone     string
		headers        []string
		outputProblems = func() error {
			switch output.format {
			case "table", "json", "yaml":
				return nil
			}
			return wrongInput("--output: %q is not table, json or yaml", output.format)
		}
	)
	c := &cobra.Command{
		Use:   "request --from WORKLOAD METHOD URL",
		Short: "What the mesh does with a request: rule, backends, endpoints, policies, and why",
		Long: `Say what the mesh does with a request that a workload sends: whom its host
means, which rule of which route it takes and why the others lost, what the
backend gets, which timeouts and retries hold and who said so, and which
endpoints answer, by zone and health. Nothing is sent.

WORKLOAD is NAMESPACE/NAME of a workload or of a Service whose pods or instances
ask, or a proxy's node id ('causeway proxies' lists them).

  causeway explain request --from web/cron GET http://php-web.web/cart?id=1 -H 'version: v2'
  causeway explain request --from web/cron GET http://php-web/ --config manifests/examples -o yaml

Exit status: 0 a backend answers, or the mesh redirects; 3 the mesh itself
answers with an error (4xx, 5xx); 2 wrong input; 1 it could not be found out.`,
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
			req, err := parseRequest(args[0], args[1], headers)
			if err != nil {
				return err
			}
			if from == "" {
				return wrongInput("--from: say who asks, as NAMESPACE/NAME of a workload or Service, or as a proxy's node id")
			}
			e, err := state.explainRequest(cmd, req, from, zone, args, headers)
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
	f.StringVar(&from, "from", "", "who asks: NAMESPACE/NAME of a workload or Service, or a proxy's node id")
	f.StringVar(&zone, "zone", "", "the availability zone to ask from, where the workload is in several")
	f.StringArrayVarP(&headers, "header", "H", nil, "a header of the request, as 'Name: value'; repeat for several")
	state.add(c)
	output.add(c)
	return c
}

// parseRequest reads what was asked; who asks is not known yet.
func parseRequest(method, target string, lines []string) (explain.Request, error) {
	var headers []explain.Header
	for _, line := range lines {
		h, err := explain.ParseHeader(line)
		if err != nil {
			return explain.Request{}, wrongInput("-H %q: %v", line, err)
		}
		headers = append(headers, h)
	}
	req, err := explain.ParseRequest(explain.Workload{}, method, target, headers)
	if err != nil {
		return explain.Request{}, inputError{err.Error()}
	}
	return req, nil
}

func (s *stateFlags) explainRequest(cmd *cobra.Command, req explain.Request, from, zone string, args, headers []string) (*explain.Explanation, error) {
	if s.config == "" {
		var e explain.Explanation
		query := url.Values{"from": {from}, "zone": {zone}, "method": args[:1], "url": args[1:], "header": headers}
		return &e, asInput(s.admin.do(cmd.Context(), http.MethodGet, "/v1/explain/request", query, &e))
	}
	r, err := s.load(cmd)
	if err != nil {
		return nil, err
	}
	if req.From, err = findWorkload(r, nil, from, zone); err != nil {
		return nil, err
	}
	return explain.Evaluate(r, req), nil
}

// explainRequest serves GET /v1/explain/request.
func (s *serve) explainRequest(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	req, err := parseRequest(q.Get("method"), q.Get("url"), q["header"])
	reader := s.catalog.Read()
	if err == nil {
		req.From, err = findWorkload(reader, s.xds.Proxies(), q.Get("from"), q.Get("zone"))
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	writeJSON(w, explain.Evaluate(reader, req))
}
