package observe

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
)

// A Gateway is in force where its own proxies say so; what others have
// acknowledged says nothing of it.
func TestGatewayConcernsItsOwnProxies(t *testing.T) {
	edge := discovery.Key{Namespace: "web", Name: "edge"}
	gateway := discovery.ObjectName{Kind: "Gateway", Key: edge}
	began := time.Unix(1_000, 0)
	now := began.Add(time.Second)
	local := Local{
		Index:   7,
		Objects: []Object{{Name: gateway, Generation: 1, Index: 5, Since: began}},
		Proxies: []Proxy{{Node: "sidecar~web~php~i-1", Joined: 1, Acknowledged: 7, Connected: began.Add(-time.Minute)}},
	}
	condition := func() metav1.Condition {
		own := Report{Replica: "r", Known: true, Heard: now, Summary: Summarize(local)}
		return ProgrammedCondition(Target{Name: gateway, Generation: 1, Since: began}, []Report{own}, now)
	}
	c := condition()
	require.Equal(t, metav1.ConditionUnknown, c.Status)
	require.Equal(t, ReasonNoProxies, c.Reason)
	require.Contains(t, c.Message, "no proxy of the Gateway")

	local.Proxies = append(local.Proxies, Proxy{
		Node: "gateway~web~edge~i-2", Joined: 6, Connected: began.Add(time.Millisecond), Gateway: edge,
		Listens: GatewayListens{Ports: []uint16{443}},
	})
	require.Equal(t, ReasonPending, condition().Reason, "it has not acknowledged its first configuration")
	local.Proxies[1].Acknowledged = 7
	require.Equal(t, metav1.ConditionTrue, condition().Status)
}

func TestGatewayProxiesOfAllReplicas(t *testing.T) {
	edge, other := discovery.Key{Namespace: "web", Name: "edge"}, discovery.Key{Namespace: "web", Name: "other"}
	here := gatewaysOf([]Proxy{
		{Gateway: edge, Listens: GatewayListens{Ports: []uint16{80, 443}}},
		{Gateway: edge, Listens: GatewayListens{Everywhere: true}},
		{},
	})
	there := gatewaysFrom(gatewaysTo(gatewaysOf([]Proxy{
		{Gateway: edge, Listens: GatewayListens{Ports: []uint16{443}}, Acknowledged: 9},
		{Gateway: other, Listens: GatewayListens{Ports: []uint16{80}}},
	})))
	sum := sumGateways([]Report{{Summary: Summary{Gateways: here}}, {Summary: Summary{Gateways: there}}})
	require.Equal(t, 3, sum[edge].Proxies)
	require.Equal(t, []int{2, 3, 1}, []int{sum[edge].On(80), sum[edge].On(443), sum[edge].On(8443)})
	require.Equal(t, 1, sum[other].On(80))
	require.Nil(t, gatewaysOf(nil))
	require.True(t, sameGateways(here, gatewaysFrom(gatewaysTo(here))))
}
