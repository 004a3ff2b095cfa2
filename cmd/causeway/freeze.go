package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/discovery"
)

// freezeSource tells the commands where freezes are stored: behind the admin
// API, or in a cluster.
type freezeSource struct {
	admin      adminFlag
	kubernetes kubernetesFlag
}

func (s *freezeSource) add(c *cobra.Command) {
	s.admin.addAddress(c)
	s.kubernetes.add(c)
}

// ask has the request carried out and returns what is frozen then.
func (s *freezeSource) ask(ctx context.Context, r *discovery.FreezeRequest) (*discovery.Freeze, error) {
	r.By = actor()
	if s.kubernetes.Given() {
		return s.kubernetes.Freeze(ctx, r)
	}
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("freeze: %w", err)
	}
	var out discovery.FreezeAnswer
	err = s.admin.client().Send(ctx, http.MethodPost, "/v1/freeze", url.Values{}, body, &out)
	return out.Freeze, err
}

func freezeCommand() *cobra.Command {
	var source freezeSource
	var r discovery.FreezeRequest
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
	r := discovery.FreezeRequest{Lift: true}
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
			fmt.Fprintf(cmd.OutOrStdout(), "%s; this stays:\n%s\n%s\n", whose, f.Text(), f.Remedy())
			return nil
		},
	}
	c.Flags().StringVar(&r.Owner, "owner", "", "lift the freeze of this owner instead of your own; needs --reason")
	c.Flags().StringVar(&r.Reason, "reason", "", "why another's freeze is lifted, for the log")
	source.add(c)
	return c
}
