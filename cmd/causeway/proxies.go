package main

import (
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/xds/observe"
	"github.com/causeway-mesh/causeway/xds/server"
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
			text := brief
			if all {
				text = func(s string) string { return s }
			}
			return output.print(cmd, proxies, func(t *table) {
				t.row("PROXY", "SERVICE", "ZONE", "ENVOY", "AGE", "STATE", "CDS", "EDS", "SDS", "LDS", "RDS", "VHDS")
				for _, p := range proxies {
					cells := []string{p.ID, p.Service, p.Zone, p.Version, time.Since(p.Connected).Round(time.Second).String(), stateOf(&p)}
					byType := make(map[string]server.TypeStatus)
					for _, s := range p.Types {
						byType[s.Type] = s
					}
					for _, name := range []string{"CDS", "EDS", "SDS", "LDS", "RDS", "VHDS"} {
						cells = append(cells, typeState(byType[name]))
					}
					t.row(cells...)
				}
				for _, p := range proxies {
					for _, s := range p.Types {
						if len(s.Rejected) > 0 {
							t.row(fmt.Sprintf("\n%s rejected %s %v: %s", p.ID, s.Type, s.Rejected, text(s.Error)))
						}
					}
				}
				for _, p := range proxies {
					if len(p.HeldBack) > 0 {
						t.row(fmt.Sprintf("\n%s has the last good configuration of %s: a proxy like it refused what is new",
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

func stateOf(p *server.ProxyStatus) string {
	switch {
	case !p.StalledSince.IsZero():
		return "stalled for " + time.Since(p.StalledSince).Round(time.Second).String()
	case p.InSync && len(p.HeldBack) > 0:
		return fmt.Sprintf("%d held back", len(p.HeldBack))
	case p.InSync:
		return "in sync"
	case p.Pending > 0:
		return fmt.Sprintf("%d pending", p.Pending)
	}
	for _, s := range p.Types {
		if len(s.Rejected) > 0 {
			return "rejected"
		}
	}
	return "waiting for ACK"
}

func typeState(s server.TypeStatus) string {
	switch {
	case s.Type == "":
		return ""
	case len(s.Rejected) > 0:
		return "rejected"
	case !s.Acknowledged:
		return "sent"
	}
	return "ok"
}
