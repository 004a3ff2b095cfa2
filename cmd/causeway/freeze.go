package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/discovery"
)

// freezeRequest is what somebody wants to be frozen or no longer frozen.
type freezeRequest struct {
	// By is who asks, and Formerly another name that an earlier release knew them by.
	By       string `json:"by"`
	Formerly string `json:"formerly,omitempty"`
	Reason   string `json:"reason,omitempty"`
	// Config freezes all configuration but endpoints too.
	Config bool `json:"config,omitempty"`
	// Lift ends a freeze: that of Owner, "" for one's own.
	Lift  bool   `json:"lift,omitempty"`
	Owner string `json:"owner,omitempty"`
}

// freezeAnswer is what is frozen then.
type freezeAnswer struct {
	Freeze *discovery.Freeze `json:"freeze,omitempty"`
}

// change returns what the request makes of a freeze, nil for none.
func (r *freezeRequest) change(f *discovery.Freeze, now time.Time) (*discovery.Freeze, error) {
	switch {
	case r.By == "":
		return nil, errors.New("a freeze has an owner: let causeway freeze or causeway unfreeze ask")
	case !r.Lift:
		scope := ""
		if f != nil {
			scope = f.Scope
		}
		return f.With(scope, discovery.FreezeOrder{Config: r.Config, By: r.By, Reason: r.Reason, Since: now}), nil
	case r.Owner != "" && r.Owner != r.By && r.Reason == "":
		return nil, fmt.Errorf("this is the freeze of %s: say why it is lifted, with --reason", r.Owner)
	case f == nil:
		return nil, nil //nolint:nilnil // nothing was frozen, and nothing is
	}
	owners := []string{r.Owner}
	if r.Owner == "" {
		owners = []string{r.By, r.Formerly}
	}
	lifted := false
	for _, owner := range owners {
		next, ok := f.Without(owner)
		lifted = lifted || ok
		if f = next; f == nil {
			return nil, nil //nolint:nilnil // that was the last one
		}
	}
	if !lifted {
		who := r.By + " has"
		if r.Owner != "" {
			who = r.Owner + " has"
		}
		return nil, fmt.Errorf("%s frozen nothing, and this stays:\n%s\n%s", who, f.Text(), remedyOf(f))
	}
	return f, nil
}

// remedyOf says how to lift what others have frozen.
func remedyOf(f *discovery.Freeze) string {
	return fmt.Sprintf("to lift another's: causeway unfreeze --owner %s --reason \"...\"", f.Orders[0].By)
}

// freezeSource is where freezes are kept: behind the admin API, or in a cluster.
type freezeSource struct {
	admin      adminFlag
	kubernetes kubernetesFlag
}

func (s *freezeSource) add(c *cobra.Command) {
	s.admin.addAddress(c)
	s.kubernetes.add(c)
}

// ask has the request carried out and returns what is frozen then.
func (s *freezeSource) ask(ctx context.Context, r *freezeRequest) (*discovery.Freeze, error) {
	r.By = actor()
	if s.kubernetes.given() {
		return s.kubernetes.freeze(ctx, r)
	}
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("freeze: %w", err)
	}
	var out freezeAnswer
	err = s.admin.send(ctx, http.MethodPost, "/v1/freeze", url.Values{}, body, &out)
	return out.Freeze, err
}

func freezeCommand() *cobra.Command {
	var source freezeSource
	var r freezeRequest
	c := &cobra.Command{
		Use:   "freeze",
		Short: "Stop all shifts where they are, for the time of an incident",
		Long: `Stop all shifts where they are, for the time of an incident. What the guard
finds bad is taken back all the same.

With --config nothing at all is pushed to proxies but endpoints: no edit of a
route or a policy takes effect, no share changes, not even back.

A freeze has an owner: it lasts until the one who ordered it runs causeway
unfreeze, whoever else freezes or unfreezes meanwhile.`,
		Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := source.ask(cmd.Context(), &r)
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), f.Text())
			}
			return err
		},
	}
	c.Flags().BoolVar(&r.Config, "config", false, "freeze all configuration but endpoints too")
	c.Flags().StringVar(&r.Reason, "reason", "", "why, for everyone who meets the freeze")
	source.add(c)
	return c
}

func unfreezeCommand() *cobra.Command {
	var source freezeSource
	r := freezeRequest{Lift: true}
	c := &cobra.Command{
		Use:   "unfreeze",
		Short: "Lift your causeway freeze; what others have frozen stays so",
		Long: `Lift your causeway freeze. What others have frozen stays so, and is told; with
--owner and --reason theirs is lifted instead.`,
		Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := source.ask(cmd.Context(), &r)
			if err != nil {
				return err
			}
			if f == nil {
				fmt.Fprintln(cmd.OutOrStdout(), "nothing is frozen")
				return nil
			}
			whose := "yours is lifted"
			if r.Owner != "" {
				whose = "that of " + r.Owner + " is lifted"
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s; this stays:\n%s\n%s\n", whose, f.Text(), remedyOf(f))
			return nil
		},
	}
	c.Flags().StringVar(&r.Owner, "owner", "", "lift the freeze of this owner instead of your own; needs --reason")
	c.Flags().StringVar(&r.Reason, "reason", "", "why another's freeze is lifted, for the log")
	source.add(c)
	return c
}
