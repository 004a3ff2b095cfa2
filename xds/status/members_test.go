package status

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/policy/installation"
	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/xds/admin/client"
	"github.com/causeway-mesh/causeway/xds/members"
	"github.com/causeway-mesh/causeway/xds/server"
)

func TestMembersOf(t *testing.T) {
	early, late := time.Unix(100, 0), time.Unix(200, 0)
	got := MembersOf(
		[]members.Member{{Node: "b", Since: early, Agent: "old"}, {Node: "c", Since: late}},
		[]members.Member{{Node: "a", Since: early}, {Node: "b", Since: late, Agent: "new"}},
	)
	require.Equal(t, []members.Member{{Node: "a", Since: early}, {Node: "b", Since: late, Agent: "new"}, {Node: "c", Since: late}}, got)
	require.Equal(t, got, MembersOf(got, got))
	require.NotNil(t, MembersOf(), "JSON has a list")
}

func TestPrintMembers(t *testing.T) {
	now := time.Unix(1000, 0)
	printed := func(list ...members.Member) string {
		var out bytes.Buffer
		table := phrase.NewTable(&out)
		PrintMembers(table, &Membership{Members: list}, now, false)
		require.NoError(t, table.Flush())
		return out.String()
	}
	require.Equal(t, "No agent is connected. On a host, start `causeway agent run`.\n", printed())

	var out bytes.Buffer
	table := phrase.NewTable(&out)
	PrintMembers(table, &Membership{Proxies: 2}, now, false)
	require.NoError(t, table.Flush())
	require.Equal(t, "No agent is connected, and 2 Envoys without one: causeway proxies lists them.\n"+
		"A host joins with an agent by `causeway agent run`, which starts Envoy itself.\n", out.String())

	require.Equal(t, `MEMBER                 WORKLOAD   ZONE   AGENT   ENVOY    CAPTURE   STATE       SINCE
sidecar~web~cron~i-1   web/cron   az1    1.2     1.40.0   host      ready       1m0s
sidecar~web~cron~i-2   web/cron   -      1.2     -        pod       silent      10m0s
sidecar~web~cron~i-3   web/cron   -      -       -        -         not ready   1s

sidecar~web~cron~i-2 has reported nothing for 9m

sidecar~web~cron~i-3 is not ready: Envoy does not run

sidecar~web~cron~i-3: Envoy has ended by itself, 2 times; last: killed
`, printed(
		members.Member{Node: "sidecar~web~cron~i-1", Namespace: "web", Workload: "cron", Zone: "az1", Agent: "1.2", Envoy: "1.40.0", Capture: "host", Ready: true, Since: now.Add(-time.Minute), Heard: now},
		members.Member{Node: "sidecar~web~cron~i-2", Namespace: "web", Workload: "cron", Agent: "1.2", Capture: "pod", Ready: true, Since: now.Add(-10 * time.Minute), Heard: now.Add(-9 * time.Minute)},
		members.Member{Node: "sidecar~web~cron~i-3", Namespace: "web", Workload: "cron", Why: "Envoy does not run", Restarts: 2, LastError: "killed", Since: now.Add(-time.Second), Heard: now},
	))
}

// Why a member drains, and what its cloud has announced, stand below the table.
func TestPrintDrainingMembers(t *testing.T) {
	now := time.Unix(1000, 0)
	var out bytes.Buffer
	table := phrase.NewTable(&out)
	PrintMembers(table, &Membership{Members: []members.Member{
		{Node: "a", Draining: true, DrainReason: "SpotInterruption: EC2 will terminate it at 20:02", Since: now, Heard: now},
		{Node: "b", Ready: true, Notices: []string{"RebalanceRecommendation: EC2 may interrupt it sooner than others"}, Since: now, Heard: now},
	}}, now, false)
	require.NoError(t, table.Flush())
	require.Contains(t, out.String(), "draining")
	require.Contains(t, out.String(), "\na is draining: SpotInterruption: EC2 will terminate it at 20:02\n")
	require.Contains(t, out.String(), "\nb: RebalanceRecommendation: EC2 may interrupt it sooner than others\n")
}

// A wide table has what a row of 80 columns has no room for, of members as of proxies.
func TestPrintWide(t *testing.T) {
	now := time.Unix(1000, 0)
	var out bytes.Buffer
	table := phrase.NewTable(&out)
	PrintMembers(table, &Membership{Members: []members.Member{
		{Node: "a", Namespace: "web", Workload: "php", NodeName: "node-1", Application: "healthy", Features: []string{"drain", "names"}, Ready: true, Since: now, Heard: now},
		{Node: "b", Namespace: "web", Workload: "php", Restarts: 2, Since: now},
	}}, now, true)
	PrintProxies(table, []server.ProxyStatus{{ID: "p", Role: "sidecar", Protocol: "delta", Peer: "10.0.0.1:5", Listeners: []string{"http=1", "tcp=2"}, Authenticated: true, Connected: now}},
		func(s string) string { return s }, now, true)
	require.NoError(t, table.Flush())
	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	require.Equal(t, []string{
		"MEMBER WORKLOAD ZONE AGENT ENVOY CAPTURE STATE SINCE NODE APPLICATION RESTARTS HEARD FEATURES",
		"a web/php - - - - ready 0s node-1 healthy 0 0s drain,names", "b web/php - - - - joining 0s - - 2 never -",
	}, got[:3])
	require.Contains(t, out.String(), "ROLE")
	require.Regexp(t, `sidecar +delta +yes +10\.0\.0\.1:5 +http=1 tcp=2`, out.String())
}

// Who is missing stands below the members, by workload.
func TestPrintAbsentMembers(t *testing.T) {
	var out bytes.Buffer
	table := phrase.NewTable(&out)
	old := "it was made without its sidecar: before its label, or while the webhook was away"
	PrintMembers(table, &Membership{Absent: []installation.Pod{
		{Namespace: "web", Name: "php-1", Workload: "php", Reason: old, Remedy: "kubectl -n web rollout restart deployment/php"},
		{Namespace: "web", Name: "php-2", Workload: "php", Reason: old, Remedy: "kubectl -n web rollout restart deployment/php"},
		{Namespace: "shop", Name: "cart", Workload: "cart", Reason: "it has hostNetwork: true", Remedy: "leave it out"},
	}, Misspelled: []installation.Misspelled{{Object: "Namespace cron", Reason: "its label is wrong", Remedy: "write another"}}}, time.Unix(1000, 0), false)
	require.NoError(t, table.Flush())
	require.Equal(t, `No agent is connected. On a host, start `+"`causeway agent run`"+`.

1 pod of shop/cart is no member: it has hostNetwork: true
  leave it out

2 pods of web/php are not members: it was made without its sidecar: before its label, or while the webhook was away
  kubectl -n web rollout restart deployment/php

Namespace cron: its label is wrong
  write another
`, out.String())
}

// Where nobody has an agent, Envoys without one are counted.
func TestMembersCountsEnvoys(t *testing.T) {
	for proxies, want := range map[string]int{`[{}, {}]`: 2, `[]`: 0} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			text := "[]"
			if r.URL.Path == "/api/v1/proxystatuses" {
				text = proxies
			}
			_, _ = w.Write([]byte(text))
		}))
		m, err := Members(t.Context(), &client.Client{Address: server.Listener.Addr().String()})
		server.Close()
		require.NoError(t, err)
		require.Equal(t, want, m.Proxies)
	}
}
