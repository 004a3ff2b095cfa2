package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// who asks a host a few times, and returns who answers: ids, or a status that the mesh makes.
func (c *caller) who(host string) (string, error) {
	seen := make(map[string]bool)
	for range 20 {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+c.http+"/", nil)
		if err != nil {
			return "", err
		}
		req.Host = host
		answer, err := http.DefaultClient.Do(req)
		body, err := harness.ReadBody(answer, err)
		var echo struct{ ID string }
		switch {
		case answer == nil:
			return "", err
		case answer.StatusCode != http.StatusOK:
			seen[fmt.Sprint(answer.StatusCode)] = true
		case json.Unmarshal(body, &echo) != nil:
			return "", fmt.Errorf("no echo: %s", body)
		default:
			seen[echo.ID] = true
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(seen)), " "), nil
}

func (c *caller) waitWho(t *testing.T, host, want, why string) {
	t.Helper()
	harness.Eventually(t, 20*time.Second, why, func() error {
		if got, err := c.who(host); err != nil || got != want {
			return fmt.Errorf("%s is answered by %q, %w", host, got, err)
		}
		return nil
	})
}

// endpointsSent is how many endpoint resources a caller has been sent.
func (p *plane) endpointsSent(instance string) uint64 {
	for _, proxy := range p.server.Proxies() {
		for _, s := range proxy.Types {
			if strings.HasSuffix(proxy.ID, "~"+instance) && s.Type == resource.Endpoint.String() {
				return s.Resources
			}
		}
	}
	return 0
}

// Pods on two nodes, and callers on both, on a third one and on none: whom each reaches
// is as the Service says, and a change on one node is sent to nobody on another.
func TestNodes(t *testing.T) {
	beside(t, 0.4, 8*time.Second)
	p := startPlane(t)
	addresses := harness.Addresses(t, 4)
	for i, id := range []string{"a", "b", "c", "i-1"} {
		harness.StartWorkload(t, harness.WorkloadOptions{Kind: harness.GoProcess, Address: addresses[i], Port: instancePort, ID: id, Platform: "pods", Zone: "z"})
	}
	key := discovery.Key{Namespace: "web", Name: "agent"}
	put := func(local bool, distribution string, instances bool, pods ...discovery.Endpoint) {
		p.write(t, func(tx *catalog.Tx) {
			set := func(platform discovery.BackingName, endpoints ...discovery.Endpoint) {
				catalog.Endpoints.Put(tx, &discovery.EndpointSet{
					Scope: "test", Key: discovery.Key{Namespace: "web", Name: "agent-" + platform.String()}, Service: key, Platform: platform,
					Ports: []discovery.EndpointPort{{Name: "http", Port: instancePort}}, Endpoints: endpoints,
				})
			}
			catalog.Services.Put(tx, &discovery.Service{
				Scope: "test", Key: key, Home: "Pods", Ports: []discovery.ServicePort{{Name: "http", Port: 80}}, LocalTraffic: local, Distribution: distribution,
			})
			set(discovery.Pods, pods...)
			if instances {
				set(discovery.Instances, discovery.Endpoint{ID: "i-1", Address: addresses[3].String(), Zone: "z"})
			}
		})
	}
	pod := func(i int, node string, h discovery.Health) discovery.Endpoint {
		return discovery.Endpoint{ID: fmt.Sprintf("web/%c", 'a'+i), Address: addresses[i].String(), Zone: "z", Node: node, Health: h}
	}
	a, b, c := pod(0, "n1", discovery.Healthy), pod(1, "n2", discovery.Healthy), pod(2, "n1", discovery.Healthy)
	put(true, "", false, a, b)
	one := startCallerOn(t, "p-1", "web", "z", "n1", []string{p.address}, "")
	two := startCallerOn(t, "p-2", "web", "z", "n2", []string{p.address}, "")
	three := startCallerOn(t, "p-3", "web", "z", "n3", []string{p.address}, "")
	host := startCaller(t, "i-1", "web", "z", []string{p.address}, "")
	const agent = "agent.web"

	one.waitWho(t, agent, "a", "Local: the pod of the own node")
	two.waitWho(t, agent, "b", "Local: the pod of the own node")
	three.waitWho(t, agent, "503", "Local: a node without pods")
	host.waitWho(t, agent, "a b", "a caller that is on no node")

	sent := map[string]uint64{"p-1": 0, "p-2": 0, "p-3": 0, "i-1": 0}
	for id := range sent {
		sent[id] = p.endpointsSent(id)
	}
	put(true, "", false, b, c)
	one.waitWho(t, agent, "c", "another pod on the own node")
	host.waitWho(t, agent, "b c", "another pod somewhere")
	for id, n := range sent {
		want := n
		if id == "p-1" || id == "i-1" {
			want++
		}
		require.Equal(t, want, p.endpointsSent(id), "endpoints that %s was sent", id)
	}

	put(true, "", true, b, c)
	three.waitWho(t, agent, "i-1", "Local: instances stand in where the own node has no pod")
	one.waitWho(t, agent, "c", "and where it has one they do not")

	put(false, "PreferSameNode", false, a, b, c)
	two.waitWho(t, agent, "b", "PreferSameNode: the pod of the own node")
	one.waitWho(t, agent, "a c", "PreferSameNode: the pods of the own node")
	three.waitWho(t, agent, "a b c", "PreferSameNode: a node without pods")
	b.Health = discovery.Draining
	put(false, "PreferSameNode", false, a, b, c)
	two.waitWho(t, agent, "a c", "PreferSameNode: the own node's pod drains")

	put(false, "", false, a, b, c)
	one.waitWho(t, agent, "a c", "nodes mean nothing, and b drains")
	for _, proxy := range p.server.Proxies() {
		for _, s := range proxy.Types {
			require.Empty(t, s.Rejected, "%s: %s", s.Type, s.Error)
		}
	}
}
