package main

import (
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/xds/observe"
	"github.com/causeway-mesh/causeway/xds/server"
	"github.com/causeway-mesh/causeway/xds/status"
)

func proxiesCommand() *cobra.Command {
	var output outputFlag
	var admin adminFlag
	var all bool
	c := &cobra.Command{
		Use:   "proxies",
		Short: "Who is connected, in sync, or has refused its configuration",
		Args:  takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var proxies []server.ProxyStatus
			if err := admin.do(cmd.Context(), http.MethodGet, "/v1/proxies", url.Values{}, &proxies); err != nil {
				return err
			}
			var programmed observe.View
			if err := admin.do(cmd.Context(), http.MethodGet, "/v1/programmed", url.Values{}, &programmed); err != nil {
				return err
			}
			text := phrase.Brief
			if all {
				text = func(s string) string { return s }
			}
			return output.print(cmd, proxies, func(t *phrase.Table) {
				t.Row("PROXY", "SERVICE", "ZONE/NODE", "ENVOY", "AGE", "STATE", "CDS", "EDS", "SDS", "LDS", "RDS", "VHDS")
				for _, p := range proxies {
					at := p.Zone
					if p.NodeName != "" {
						at += "/" + p.NodeName
					}
					cells := []string{p.ID, p.Service, at, p.Version, time.Since(p.Connected).Round(time.Second).String(), status.ProxyState(&p)}
					byType := make(map[string]server.TypeStatus)
					for _, s := range p.Types {
						byType[s.Type] = s
					}
					for _, name := range []string{"CDS", "EDS", "SDS", "LDS", "RDS", "VHDS"} {
						cells = append(cells, status.TypeState(byType[name]))
					}
					t.Row(cells...)
				}
				for _, p := range proxies {
					for _, s := range p.Types {
						if len(s.Rejected) > 0 {
							t.Row(fmt.Sprintf("\n%s rejected %s %v: %s", p.ID, s.Type, s.Rejected, text(s.Error)))
						}
					}
				}
				for _, p := range proxies {
					if len(p.HeldBack) > 0 {
						t.Row(fmt.Sprintf("\n%s has the last good configuration of %s: a proxy like it refused what is new",
							p.ID, joinOr(p.HeldBack, "")))
					}
				}
				printProgrammed(t, &programmed, text)
			})
		},
	}
	c.Flags().BoolVar(&all, "all", false, "the whole text of what proxies refused, which may be long")
	output.add(c)
	admin.add(c)
	return c
}
