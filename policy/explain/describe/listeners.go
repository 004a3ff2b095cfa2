package describe

import (
	"encoding/json"
	"fmt"

	"github.com/causeway-mesh/causeway/policy/explain"
	"github.com/causeway-mesh/causeway/policy/phrase"
)

// gateway prints where a request comes in, and which of its claims about its way
// are trusted.
func gateway(t *phrase.Table, g *explain.Gateway, from string) {
	at := fmt.Sprintf("Gateway %s, port %d", g.Name, g.Port)
	if g.ServerName != "" {
		at += ", server name " + g.ServerName
	}
	t.Row("At:", at)
	t.Cells("", "its proxies are in "+from)
	if l := g.Listener; l != nil {
		t.Row("Listener:", l.Text())
		t.Cells("", l.Because)
	}
	if c := g.Client; c != nil {
		t.Row("Client:", c.Address)
		t.Cells("", c.Because)
		t.Cells("", "X-Forwarded-For: "+c.ForwardedFor)
		t.Cells("", "X-Forwarded-Proto: "+c.ForwardedProto)
	}
}

// listeners prints the Gateway's other listeners, and the origin of the port's
// settings.
func listeners(t *phrase.Table, g *explain.Gateway) {
	if g == nil {
		return
	}
	if len(g.Policies) > 0 {
		t.Section(fmt.Sprintf("Settings of port %d:", g.Port))
		for _, p := range g.Policies {
			value, err := json.Marshal(p.Value)
			if err != nil {
				value = []byte(err.Error())
			}
			t.Row("  "+p.Section+":", string(value), from(p.From))
		}
	}
	if len(g.Others) > 0 {
		t.Section("Other listeners:")
		for i := range g.Others {
			o := &g.Others[i]
			because := o.Because
			if o.Matches {
				because = "it matches too: " + because
			}
			t.Row("  "+o.Listener.Text(), because)
		}
	}
}
