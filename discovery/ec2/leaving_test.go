package ec2

import (
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
)

// An agent's word makes its instance drain, for as long as it says so, and no instance of another namespace.
func TestAgentsSayThatHostsLeave(t *testing.T) {
	s := New(Config{}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	now := time.Unix(1_800_000_000, 0)
	s.Leave([]discovery.Leaving{{Instance: "i-1", Namespace: "web", Heard: now}}, now) // before it runs
	cat := catalog.New()
	s.start(cat)
	_, err := cat.Write(now, func(tx *catalog.Tx) error {
		for _, namespace := range []string{"web", "data"} {
			catalog.Instances.Put(tx, &discovery.InstanceSet{
				Scope: Scope, Key: discovery.Key{Namespace: namespace, Name: "group"}, Endpoints: []discovery.Endpoint{{ID: "i-" + namespace, Address: "198.51.100.1"}},
			})
		}
		return nil
	})
	require.NoError(t, err)
	state := func(namespace string) discovery.Endpoint {
		set, ok := catalog.Instances.Get(cat.Read(), discovery.Key{Namespace: namespace, Name: "group"}.String())
		require.True(t, ok)
		return set.Endpoints[0]
	}
	web := discovery.Leaving{Instance: "i-web", Namespace: "web", Reason: "DrainRequested: x", Heard: now}
	s.Leave([]discovery.Leaving{web, {Instance: "i-data", Namespace: "web", Reason: "DrainRequested: not mine", Heard: now}}, now)
	require.Equal(t, discovery.Draining, state("web").Health)
	require.Equal(t, "AgentDraining: DrainRequested: x", state("web").Reason)
	require.Equal(t, discovery.Healthy, state("data").Health, "an agent of another namespace is not believed")
	reason, ok := s.signals.drain("i-web", now.Add(-time.Hour), now)
	require.True(t, ok, "a sweep knows it too")
	require.Equal(t, "AgentDraining: DrainRequested: x", reason)
	_, ok = s.signals.drain("i-web", now.Add(-time.Hour), now.Add(discovery.LeavingFor))
	require.False(t, ok, "no news is no news")

	a := s.newAccount(accountKey{region: "ap-northeast-1"})
	s.accounts[a.key] = a
	s.Leave(nil, now)
	_, ok = s.signals.drain("i-web", now.Add(-time.Hour), now)
	require.False(t, ok)
	require.Len(t, a.wake, 1, "a sweep brings it back at once")

	again := newSignals()
	again.restore([]discovery.Endpoint{{ID: "i-web", Health: discovery.Draining, Reason: "AgentDraining: DrainRequested: x"}}, now)
	_, ok = again.drain("i-web", time.Time{}, now)
	require.True(t, ok, "a new leader goes on with it")
}
