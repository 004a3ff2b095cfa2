package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/xds/drain"
)

// Ask asks the agent that answers at an address for its status.
func Ask(ctx context.Context, listen string) (*Status, error) {
	client := http.Client{Timeout: 2 * drain.Answers, Transport: &http.Transport{}} // by no proxy
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+listen+"/status", nil)
	if err != nil {
		return nil, fmt.Errorf("--listen: %w", err)
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("--listen: no agent answers at %s: start `causeway agent run`, or name the address that it listens on: %w", listen, errors.Unwrap(err))
	}
	defer answer.Body.Close()
	s := &Status{}
	if err := json.NewDecoder(answer.Body).Decode(s); err != nil {
		return nil, fmt.Errorf("--listen: what answers at %s is not an agent: %w", listen, err)
	}
	return s, nil
}

// Print prints the status for people.
func (s *Status) Print(t *phrase.Table) {
	ready, from := "yes", "the control plane"
	if !s.Ready {
		ready = "no: " + s.Why
	}
	switch {
	case s.Configuration.LastGood:
		from = "last known good, of " + s.Configuration.Saved.Local().Format(time.DateTime) + "; no control plane answers"
	case !s.Configuration.Connected && !s.Ready:
		from = "none; no control plane answers"
	case !s.Configuration.Connected:
		from = "what Envoy has; no control plane answers"
	}
	t.Row("ready", ready)
	t.Row("configuration", from)
	if e := s.Configuration.Error; e != "" {
		t.Row("because", e)
	}
	if e := cmp.Or(s.Configuration.Unsaved, s.Membership.Unsaved); e != "" {
		t.Row("not kept", e)
		t.Text("A start without the control plane would serve what was kept before. See to the disk of --state-dir.")
	}
	t.Row("capture", s.Capture)
	switch m := s.Membership; {
	case !m.Saved.IsZero():
		t.Row("names", fmt.Sprintf("%d Services, as of %s", m.Services, m.Saved.Local().Format(time.DateTime)))
	case m.Services > 0:
		t.Row("names", fmt.Sprintf("%d Services", m.Services))
	}
	if i := s.Identity; i != nil {
		t.Row("identity", cmp.Or(i.ID, i.Error, "none yet"))
		if i.ID != "" {
			t.Row("certificate", "until "+i.Expires().Local().Format(time.DateTime)+", renewed from "+i.Renew.Local().Format(time.DateTime)+" on")
		}
		if i.ID != "" && i.Error != "" {
			t.Row("not renewed", i.Error)
		}
	}
	if h := s.Application; h != nil && h.Known {
		t.Row("application", cmp.Or(h.Reason, "healthy"))
	}
	if e := s.EC2; e != nil {
		if !e.Reachable {
			t.Row("EC2", e.Error)
		}
		for _, n := range e.Notices {
			t.Row("EC2", n.Reason+": "+n.Text)
		}
	}
	if l := s.Leave; l != nil && l.Over {
		t.Row("drained", cmp.Or(l.Open, "nothing passes Envoy"))
	}
	if s.Restarts > 0 {
		times := "once"
		if s.Restarts > 1 {
			times = fmt.Sprintf("%d times", s.Restarts)
		}
		t.Row("Envoy has ended", times)
		t.Text("Last: " + s.LastEnd)
	}
}

// PrintIdentity writes who the workload is, for people.
func (s *Status) PrintIdentity(t *phrase.Table) {
	i := s.Identity
	if i == nil {
		t.Text("This agent's workload has no identity: only pods have one, whose agents have --token-file.")
		return
	}
	t.Row("identity", cmp.Or(i.ID, "none yet"))
	if i.Error != "" {
		t.Row("because", i.Error)
	}
	if i.ID == "" {
		return
	}
	t.Row("proven by", i.Attestation)
	t.Row("issued", i.Issued.Local().Format(time.DateTime))
	t.Row("renewed", "from "+i.Renew.Local().Format(time.DateTime)+" on")
	for n, c := range i.Chain {
		name := "certificate"
		if n > 0 {
			name = "signed by"
		}
		t.Row(name, c.Subject+", until "+c.Expires.Local().Format(time.DateTime)+", serial "+c.Serial)
	}
	for _, c := range i.Roots {
		t.Row("trusts", c.Subject+", until "+c.Expires.Local().Format(time.DateTime))
	}
}
