package status

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/client-go/rest"

	"github.com/causeway-mesh/causeway/discovery/kubernetes/survey"
	"github.com/causeway-mesh/causeway/policy/installation"
	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/xds/admin/client"
	"github.com/causeway-mesh/causeway/xds/members"
	"github.com/causeway-mesh/causeway/xds/server"
)

// Membership is who is a member of the mesh, and who should be one and is not.
type Membership struct {
	Members []members.Member `json:"members"`
	// Absent is known of a cluster alone.
	Absent []installation.Pod `json:"absent,omitempty"`
	// Misspelled is known of a cluster alone too.
	Misspelled []installation.Misspelled `json:"misspelled,omitempty"`
	// Proxies are the Envoys that are connected without an agent, where nobody has one.
	Proxies int `json:"proxies,omitempty"`
	// Unknown says of what this is incomplete, and why.
	Unknown []string `json:"unknown,omitempty"`
}

// Members asks all replicas for their members, and a cluster for the pods that should be members.
func Members(ctx context.Context, c *client.Client) (*Membership, error) {
	answers, err := client.All[[]members.Member](ctx, c, "/api/v1/members")
	if err != nil {
		return nil, err //nolint:wrapcheck // it says who does not answer
	}
	out := &Membership{}
	var lists [][]members.Member
	for _, a := range answers {
		if lists = append(lists, a.Value); a.Err != nil {
			out.Unknown = append(out.Unknown, fmt.Sprintf("replica %s does not answer; members that are connected to it are missing: %v", a.Replica, a.Err))
		}
	}
	if out.Members = MembersOf(lists...); len(out.Members) == 0 {
		out.Proxies = proxies(ctx, c)
	}
	if c.Cluster.Given() {
		config, err := c.Cluster.Config()
		if err == nil {
			err = out.compare(ctx, config, c.Cluster.Namespace)
		}
		if err != nil {
			out.Unknown = append(out.Unknown, fmt.Sprintf("who should be a member and is not: %v", err))
		}
	}
	return out, nil
}

// proxies returns how many Envoys are connected, as far as replicas answer.
func proxies(ctx context.Context, c *client.Client) int {
	answers, err := client.All[[]server.ProxyStatus](ctx, c, "/api/v1/proxystatuses")
	if err != nil {
		return 0 // it is said of members already who does not answer
	}
	n := 0
	for _, a := range answers {
		n += len(a.Value)
	}
	return n
}

// compare adds the pods of a cluster that should be members and are not, or whose agent no replica knows.
func (m *Membership) compare(ctx context.Context, config *rest.Config, namespace string) error {
	facts, err := survey.Members(ctx, config, namespace)
	if err != nil {
		return err //nolint:wrapcheck // it names the objects
	}
	m.Absent, m.Misspelled = facts.Absent, facts.Misspelled
	if len(m.Unknown) > 0 {
		return nil // they may be known to a replica that does not answer
	}
	var connected []string
	for i := range m.Members {
		connected = append(connected, m.Members[i].Node)
	}
	m.Absent = append(m.Absent, installation.Unconnected(facts.Injected, connected)...)
	return nil
}

// MembersOf joins the members that several replicas know. An agent that has gone from one replica to another is
// known to both for a moment: the newer connection counts.
func MembersOf(replicas ...[]members.Member) []members.Member {
	newest := make(map[string]int)
	out := []members.Member{}
	for _, m := range slices.Concat(replicas...) {
		i, ok := newest[m.Node]
		switch {
		case !ok:
			newest[m.Node] = len(out)
			out = append(out, m)
		case m.Since.After(out[i].Since):
			out[i] = m
		}
	}
	slices.SortFunc(out, func(a, b members.Member) int { return cmp.Compare(a.Node, b.Node) })
	return out
}

// PrintMembers prints members as a table, and below it what is wrong with some of them and who is missing. A wide table says
// also on which node they are, how their application is, how often Envoy ended by itself, what they can do and when they were
// heard last.
func PrintMembers(t *phrase.Table, m *Membership, now time.Time, wide bool) {
	printMembers(t, m, now, wide)
	for _, g := range installation.Grouped(m.Absent) {
		t.Text("\n" + g.Text() + "\n  " + g.Remedy)
	}
	for _, o := range m.Misspelled {
		t.Text("\n" + o.Object + ": " + o.Reason + "\n  " + o.Remedy)
	}
}

func printMembers(t *phrase.Table, m *Membership, now time.Time, wide bool) {
	list := m.Members
	switch {
	case len(list) == 0 && m.Proxies > 0:
		t.Text(fmt.Sprintf("No agent is connected, and %s without one: causeway proxies lists them.\nA host joins with an agent by `causeway agent run`, which starts Envoy itself.",
			phrase.Plural(m.Proxies, "Envoys")))
		return
	case len(list) == 0:
		t.Text("No agent is connected. On a host, start `causeway agent run`.")
		return
	}
	head := []string{"MEMBER", "WORKLOAD", "ZONE", "AGENT", "ENVOY", "CAPTURE", "STATE", "SINCE"}
	if wide {
		head = append(head, "NODE", "APPLICATION", "RESTARTS", "HEARD", "FEATURES")
	}
	t.Row(head...)
	ago := func(at time.Time) string {
		if at.IsZero() {
			return "never"
		}
		return now.Sub(at).Round(time.Second).String()
	}
	for i := range list {
		m := &list[i]
		cells := []string{
			m.Node, m.Namespace + "/" + m.Workload, cmp.Or(m.Zone, "-"), cmp.Or(m.Agent, "-"), cmp.Or(m.Envoy, "-"), cmp.Or(m.Capture, "-"), m.State(now), ago(m.Since),
		}
		if wide {
			cells = append(cells, cmp.Or(m.NodeName, "-"), cmp.Or(m.Application, "-"), strconv.Itoa(m.Restarts), ago(m.Heard), cmp.Or(strings.Join(m.Features, ","), "-"))
		}
		t.Row(cells...)
	}
	for i := range list {
		m := &list[i]
		switch m.State(now) {
		case "silent":
			t.Text(fmt.Sprintf("\n%s has reported nothing for %s", m.Node, phrase.Roughly(now.Sub(m.Heard))))
		case "not ready":
			t.Text(fmt.Sprintf("\n%s is not ready: %s", m.Node, cmp.Or(m.Why, "it does not say why")))
		case "draining":
			if m.DrainReason != "" {
				t.Text(fmt.Sprintf("\n%s is draining: %s", m.Node, m.DrainReason))
			}
		case "unhealthy":
			t.Text(fmt.Sprintf("\n%s: its application is unhealthy: %s", m.Node, m.ApplicationReason))
		}
		for _, n := range m.Notices {
			t.Text(fmt.Sprintf("\n%s: %s", m.Node, n))
		}
		if m.Restarts > 0 {
			t.Text(fmt.Sprintf("\n%s: Envoy has ended by itself, %d times; last: %s", m.Node, m.Restarts, phrase.Brief(m.LastError)))
		}
	}
}
