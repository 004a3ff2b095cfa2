package main

import (
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/discovery"
)

func freezeCommand() *cobra.Command {
	var admin adminFlag
	var kubernetes kubernetesFlag
	var config bool
	var reason string
	c := &cobra.Command{
		Use:   "freeze",
		Short: "Stop all shifts where they are, for the time of an incident",
		Long: `Stop all shifts where they are, for the time of an incident. What the guard finds
bad is taken back all the same.

With --config nothing at all is pushed to proxies but endpoints: no edit of a
route or a policy takes effect, no share changes, not even back.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f := &discovery.Freeze{Config: config, By: actor(), Reason: reason, Since: time.Now().UTC().Truncate(time.Second)}
			var err error
			if kubernetes.given() {
				err = kubernetes.freeze(cmd.Context(), f)
			} else {
				err = admin.post(cmd.Context(), "/v1/freeze", url.Values{}, f)
			}
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), freezeText(f))
			}
			return err
		},
	}
	c.Flags().BoolVar(&config, "config", false, "freeze all configuration but endpoints too")
	c.Flags().StringVar(&reason, "reason", "", "why, for everyone who meets the freeze")
	admin.add(c)
	kubernetes.add(c)
	return c
}

func unfreezeCommand() *cobra.Command {
	var admin adminFlag
	var kubernetes kubernetesFlag
	c := &cobra.Command{
		Use:   "unfreeze",
		Short: "Let shifts and configuration go on after causeway freeze",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if kubernetes.given() {
				err = kubernetes.freeze(cmd.Context(), nil)
			} else {
				err = admin.post(cmd.Context(), "/v1/freeze", url.Values{"lift": {"true"}}, nil)
			}
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), "nothing is frozen")
			}
			return err
		},
	}
	admin.add(c)
	kubernetes.add(c)
	return c
}
