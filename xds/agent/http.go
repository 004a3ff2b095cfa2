package agent

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/xds/admin"
	"github.com/causeway-mesh/causeway/xds/agent/ec2"
	"github.com/causeway-mesh/causeway/xds/agent/health"
	"github.com/causeway-mesh/causeway/xds/agent/membership"
	"github.com/causeway-mesh/causeway/xds/agent/relay"
	"github.com/causeway-mesh/causeway/xds/agent/workload"
)

// maxMetrics is how many bytes of metrics are taken from one source.
const maxMetrics = 64 << 20

// lookEvery is how often the agent asks Envoy whether it is ready, to tell systemd.
const lookEvery = 500 * time.Millisecond

// Status is what the agent says of itself.
type Status struct {
	// Ready is true while Envoy serves with a configuration; Why says why it is not.
	Ready bool   `json:"ready"`
	Why   string `json:"why,omitempty"`
	// Configuration says where Envoy's comes from.
	Configuration relay.State `json:"configuration"`
	// Draining is true while the host is to get nothing new, Leave says why, nil where the agent ends.
	Draining bool   `json:"draining,omitempty"`
	Leave    *Leave `json:"leave,omitempty"`
	// EC2 is what the cloud has said, nil where it is not asked.
	EC2 *ec2.State `json:"ec2,omitempty"`
	// Membership says what the control plane's service for agents has told.
	Membership membership.State `json:"membership"`
	// Identity is the workload's certificate, nil where nothing proves whose it is.
	Identity *workload.State `json:"identity,omitempty"`
	// Application is what checks of it have found, nil where there are none.
	Application *health.State `json:"application,omitempty"`
	// Restarts is how often Envoy has ended by itself, LastEnd how it did last.
	Restarts int    `json:"restarts"`
	LastEnd  string `json:"lastEnd,omitempty"`
	// Capture says whether traffic is captured. The agent may not see that: the command fills it in.
	Capture string `json:"capture,omitempty"`
}

// Status asks Envoy and returns what is known.
func (a *Agent) Status(ctx context.Context) Status {
	a.mu.Lock()
	s, running := Status{Draining: a.draining, Leave: a.leave, Restarts: a.restarts, LastEnd: a.lastEnd}, a.running
	a.mu.Unlock()
	s.Configuration, s.Membership = a.relay.State(), a.member.State()
	if a.health != nil {
		h := a.health.State()
		s.Application = &h
	}
	if a.workload != nil {
		w := a.workload.State()
		s.Identity = &w
	}
	if a.cloud != nil {
		state := a.cloud.State()
		s.EC2 = &state
	}
	switch {
	case s.Leave != nil:
		s.Draining, s.Why = true, "it is draining: "+s.Leave.Text
		return s
	case s.Draining:
		s.Why = "it is draining"
		return s
	}
	if !running { // who answers at its admin address is another one
		if s.Why = "Envoy does not run"; s.LastEnd != "" {
			s.Why += ": " + s.LastEnd
		}
		return s
	}
	body, err := a.get(ctx, "http://"+a.opts.Bootstrap.AdminListen+"/ready")
	switch {
	case err == nil:
		s.Ready = true
	case strings.TrimSpace(string(body)) != "":
		s.Why = "Envoy waits for its configuration: " + strings.TrimSpace(string(body))
		if !s.Configuration.Connected && !s.Configuration.LastGood {
			s.Why += "; no control plane answers at " + strings.Join(a.opts.Bootstrap.Servers, ", ")
			if e := s.Configuration.Error; e != "" {
				s.Why += " (" + e + ")"
			}
		}
	default:
		s.Why = "Envoy does not answer: " + err.Error()
	}
	return s
}

// get returns the body of an answer, with an error also that of one that is not 200.
func (a *Agent) get(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the URL
	}
	request.Header.Set("Accept", "text/plain;version=0.0.4")
	answer, err := a.client.Do(request)
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the URL
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxMetrics))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, answer.Status)
	}
	return body, err
}

// serve answers at the agent's own address until the context ends.
func (a *Agent) serve(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, r *http.Request) {
		s := a.Status(r.Context())
		if !s.Ready {
			http.Error(w, s.Why, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		admin.WriteJSON(w, a.Status(r.Context()))
	})
	mux.HandleFunc("GET /metrics", a.metrics)
	if err := admin.Serve(ctx, l, mux, a.opts.Logger); ctx.Err() == nil {
		return err //nolint:wrapcheck // the caller names the flag
	}
	return nil // the end was wanted
}

// metrics answers with what Envoy, the agent and the application measure, in
// Prometheus' text format. A source that does not answer is left out; causeway_agent_up says so.
func (a *Agent) metrics(w http.ResponseWriter, r *http.Request) {
	s := a.Status(r.Context())
	sources := []struct{ name, url string }{{"envoy", "http://" + a.opts.Bootstrap.AdminListen + "/stats/prometheus?usedonly"}}
	if a.opts.ApplicationMetrics != "" {
		sources = append(sources, struct{ name, url string }{"application", a.opts.ApplicationMetrics})
	}
	var own, rest bytes.Buffer
	fmt.Fprintf(&own, "# HELP causeway_agent_build_info 1, by the versions of the agent and of its Envoy.\n# TYPE causeway_agent_build_info gauge\n"+
		"causeway_agent_build_info{version=%q,envoy=%q} 1\n", a.opts.Version, a.relay.EnvoyVersion())
	fmt.Fprintln(&own, "# HELP causeway_agent_up Whether a source of metrics answered.\n# TYPE causeway_agent_up gauge")
	for _, source := range sources {
		body, err := a.get(r.Context(), source.url)
		fmt.Fprintf(&own, "causeway_agent_up{source=%q} %d\n", source.name, number(err == nil))
		if err == nil {
			rest.Write(body)
			if len(body) > 0 && body[len(body)-1] != '\n' {
				rest.WriteByte('\n')
			}
		}
	}
	for _, m := range a.measures(&s) {
		fmt.Fprintf(&own, "# HELP %s %s\n# TYPE %s %s\n%s %d\n", m.name, m.help, m.name, m.kind, m.name, m.value)
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(append(own.Bytes(), rest.Bytes()...))
}

// measure is a metric of the agent's own.
type measure struct {
	name, help, kind string
	value            uint64
}

func (a *Agent) measures(s *Status) []measure {
	out := []measure{
		{"causeway_agent_ready", "Whether Envoy serves with a configuration.", "gauge", number(s.Ready)},
		{"causeway_agent_connected", "Whether a control plane configures Envoy.", "gauge", number(s.Configuration.Connected)},
		{"causeway_agent_last_known_good", "Whether Envoy runs on the configuration of an earlier start.", "gauge", number(s.Configuration.LastGood)},
		{"causeway_agent_envoy_restarts_total", "How often Envoy has ended by itself.", "counter", uint64(s.Restarts)}, //nolint:gosec // a count
		{"causeway_agent_state_kept", "Whether the state directory has what a start without the control plane needs.", "gauge", number(s.Configuration.Unsaved == "" && s.Membership.Unsaved == "")},
		{"causeway_agent_draining", "Whether the host is to get nothing new.", "gauge", number(s.Draining)},
		{"causeway_agent_joined", "Whether a control plane takes the agent's reports.", "gauge", number(s.Membership.Joined)},
		{"causeway_agent_services", "Names of Services that are known.", "gauge", uint64(s.Membership.Services)}, //nolint:gosec // a count
	}
	if s.Application != nil {
		out = append(out, measure{"causeway_agent_application_healthy", "Whether the application passes its checks.", "gauge", number(s.Application.Healthy)})
	}
	if i := s.Identity; i != nil {
		expires := uint64(0)
		if i.ID != "" {
			expires = uint64(max(i.Expires().Unix(), 0)) //nolint:gosec // it is not negative
		}
		out = append(out,
			measure{"causeway_agent_certificate_expiry_timestamp_seconds", "When the workload's certificate ends, in seconds since 1970; 0 without one. It is renewed 12 hours before.", "gauge", expires},
			measure{"causeway_agent_certificate_failures_total", "Calls for a certificate that failed.", "counter", uint64(i.Failures)}) //nolint:gosec // a count
	}
	if s.EC2 != nil {
		out = append(out, measure{"causeway_agent_ec2_metadata_up", "Whether EC2's instance metadata service answers.", "gauge", number(s.EC2.Reachable)})
	}
	a.mu.Lock()
	server := a.dns
	a.mu.Unlock()
	if server != nil {
		n := server.Counts()
		out = append(out,
			measure{"causeway_agent_dns_mesh_questions_total", "Questions about names of the mesh.", "counter", n.Mesh},
			measure{"causeway_agent_dns_other_questions_total", "Questions that were passed on.", "counter", n.Foreign},
			measure{"causeway_agent_dns_failures_total", "Questions passed on that no resolver answered.", "counter", n.Failed})
	}
	return out
}

func number(yes bool) uint64 {
	if yes {
		return 1
	}
	return 0
}

// tell tells systemd when Envoy is ready, and from then on that the agent lives, until the context ends.
func (a *Agent) tell(ctx context.Context) {
	for ticker := time.NewTicker(lookEvery); ; {
		s := a.Status(ctx)
		if s.Ready {
			ticker.Stop()
			a.opts.Logger.Info("ready", "lastKnownGood", s.Configuration.LastGood)
			break
		}
		select {
		case <-ctx.Done():
			ticker.Stop()
			return
		case <-ticker.C:
		}
	}
	a.notify("READY=1", "STATUS=Envoy serves")
	every := watchdog()
	if every == 0 {
		return
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		a.notify("WATCHDOG=1")
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (a *Agent) notify(what ...string) {
	if err := notify(what...); err != nil {
		a.opts.Logger.Warn("systemd does not hear", "error", err)
	}
}
