package main

import (
	"encoding/json"
	"fmt"

	"github.com/causeway-mesh/causeway/policy/explain"
)

// describeGateway prints where a request comes in, and which of its claims about its way
// are trusted.
func describeGateway(t *table, g *explain.Gateway, from string) {
	at := fmt.Sprintf("Gateway %s, port %d", g.Name, g.Port)
	if g.ServerName != "" {
		at += ", server name " + g.ServerName
	}
	t.row("At:", at)
	t.cells("", "its proxies are in "+from)
	if l := g.Listener; l != nil {
		t.row("Listener:", l.Text())
		t.cells("", l.Because)
	}
	if c := g.Client; c != nil {
		t.row("Client:", c.Address)
		t.cells("", c.Because)
		t.cells("", "X-Forwarded-For: "+c.ForwardedFor)
		t.cells("", "X-Forwarded-Proto: "+c.ForwardedProto)
	}
}

// describeListeners prints the Gateway's other listeners, and the origin of the port's
// settings.
func describeListeners(t *table, g *explain.Gateway) {
	if g == nil {
		return
	}
	if len(g.Policies) > 0 {
		section(t, fmt.Sprintf("Settings of port %d:", g.Port))
		for _, p := range g.Policies {
			value, err := json.Marshal(p.Value)
			if err != nil {
				value = []byte(err.Error())
			}
			t.row("  "+p.Section+":", string(value), from(p.From))
		}
	}
	if len(g.Others) > 0 {
		section(t, "Other listeners:")
		for i := range g.Others {
			o := &g.Others[i]
			because := o.Because
			if o.Matches {
				because = "it matches too: " + because
			}
			t.row("  "+o.Listener.Text(), because)
		}
	}
}
