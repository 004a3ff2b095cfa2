package resolve

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/test/golden"
	testrows "github.com/causeway-mesh/causeway/test/rows"
)

// The sections of a case of testdata/gateways, besides its objects.yaml: what
// the Gateways mean, what is wrong with them, and where routes attach.
const (
	gatewayModel       = "model"
	gatewayListeners   = "listeners"
	gatewayAttachments = "attachments"
)

func TestGatewaysGolden(t *testing.T) {
	cases := golden.Cases{
		Files: "testdata/gateways/*.txtar", Given: []string{routeObjects}, Made: []string{gatewayModel, gatewayListeners, gatewayAttachments},
	}
	cases.Run(t, func(t *testing.T, given map[string]string) map[string]string {
		t.Helper()
		return inAnyOrder(t, testrows.Parse(t, given[routeObjects]), renderGateways)
	})
}

// inAnyOrder renders rows, and checks that the order of the objects changes nothing.
func inAnyOrder(t *testing.T, in *testrows.Set, render func(catalog.Reader) map[string]string) map[string]string {
	t.Helper()
	got := render(in.Catalog(t).Read())
	for seed := range uint64(4) {
		in.Shuffle(rand.New(rand.NewPCG(seed, 0)))
		require.Equal(t, got, render(in.Catalog(t).Read()), "the order of the input changes the output")
	}
	return got
}

// renderGateways returns the wanted sections of a case.
func renderGateways(r catalog.Reader) map[string]string {
	var model, listeners, attachments strings.Builder
	for o := range catalog.Objects.By(r, catalog.ByKind, discovery.KindGateway) {
		renderGateway(&model, o, BuildGateway(r, o.Key))
		g := readGateway(r, o)
		if g == nil {
			continue
		}
		for _, f := range g.findings {
			fmt.Fprintf(&listeners, "%s %s: %s\n", f.Condition, f.Reason, f)
		}
		routes := gatewayRoutes(r, g)
		for _, l := range g.listeners {
			fmt.Fprintf(&listeners, "%s %s: kinds %v, attached %d, in force %t\n", o.Key, l.name, l.kinds, attachedRoutes(routes, l), l.inForce())
			for _, f := range l.findings {
				fmt.Fprintf(&listeners, "  %s %s: %s\n", f.Condition, f.Reason, f)
			}
		}
		for _, a := range routes {
			for _, at := range a.attachments {
				fmt.Fprintf(&attachments, "%s at %s:", a.object.Name(), o.Key)
				for _, l := range at.at {
					fmt.Fprintf(&attachments, " %s%q", l.name, l.hostnames)
				}
				if at.refused != nil {
					fmt.Fprintf(&attachments, " %s: %s: %s", at.refused.Reason, at.refused.Message, at.refused.Remedy)
				}
				attachments.WriteByte('\n')
				for _, n := range at.notes {
					fmt.Fprintf(&attachments, "  %s: %s: %s\n", n.Reason, n.Message, n.Remedy)
				}
			}
		}
	}
	return map[string]string{gatewayModel: model.String(), gatewayListeners: listeners.String(), gatewayAttachments: attachments.String()}
}

var listenerProtocols = map[policy.ListenerProtocol]string{policy.ListenHTTP: "HTTP", policy.ListenTLS: "TLS", policy.ListenTCP: "TCP"}

func renderGateway(w *strings.Builder, o *discovery.Object, m *policy.Gateway) {
	if m == nil {
		fmt.Fprintf(w, "%s: nothing\n", o.Name())
		return
	}
	fmt.Fprintf(w, "%s, from %s\n", o.Name(), objectNames(m.Provenance))
	for i := range m.Certificates {
		c := &m.Certificates[i]
		fmt.Fprintf(w, "  certificate %s of %s %s%s%s\n", c.Name, discovery.ObjectName{Kind: c.Object.Kind, Key: c.Object.Key}, c.ChainFile, c.KeyFile, c.Failed)
	}
	for i := range m.Ports {
		p := &m.Ports[i]
		fmt.Fprintf(w, "  port %d %s\n", p.Number, listenerProtocols[p.Protocol])
		for j := range p.Listeners {
			l := &p.Listeners[j]
			fmt.Fprintf(w, "    listener %s %q", l.Name, l.Hostname)
			if l.Terminates {
				fmt.Fprintf(w, " with %v", l.Certificates)
			}
			if c := l.Clients; c != nil {
				fmt.Fprintf(w, ", clients checked by %d bytes of %s, optional %t", len(c.CAs), objectNames(c.From), c.Optional)
			}
			w.WriteByte('\n')
			for k := range l.Hosts {
				h := &l.Hosts[k]
				fmt.Fprintf(w, "      host %s", h.Domain)
				if h.Misdirected {
					w.WriteString(" misdirected")
				}
				if len(h.Provenance) > 0 {
					fmt.Fprintf(w, ", from %s", objectNames(h.Provenance))
				}
				w.WriteByte('\n')
				for _, rule := range h.Rules {
					fmt.Fprintf(w, "        %s %s rule %d\n", rule.Match.Path.Value, rule.Route.Name, rule.Index)
				}
			}
			for _, rule := range l.TCP {
				fmt.Fprintf(w, "      connections %v by %s\n", rule.ServerNames, rule.Route.Name)
			}
		}
	}
}

// objectNames lists objects without their generations.
func objectNames(refs []discovery.ObjectRef) string {
	out := make([]string, len(refs))
	for i, ref := range refs {
		out[i] = discovery.ObjectName{Kind: ref.Kind, Key: ref.Key}.String()
	}
	return strings.Join(out, ", ")
}
