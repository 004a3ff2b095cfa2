package members

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/naming"
)

// Leaving returns the hosts whose agents say that they are to get nothing new. One whose connection has ended is among
// them for a while: a host that reboots drains still.
func (m *Members) Leaving(now time.Time) []discovery.Leaving {
	m.mu.Lock()
	defer m.mu.Unlock()
	said := make(map[string]discovery.Leaving)
	for node, gone := range m.left {
		if now.Sub(gone.Heard) >= discovery.LeavingFor {
			delete(m.left, node)
			continue
		}
		said[node] = gone
	}
	for _, member := range m.byID {
		if member.Heard.IsZero() {
			continue
		}
		delete(said, member.Node) // what it says now counts
		if leaving, ok := member.leaving(); ok && now.Sub(leaving.Heard) < discovery.LeavingFor {
			said[member.Node] = leaving
		}
	}
	out := make([]discovery.Leaving, 0, len(said))
	for _, node := range slices.Sorted(maps.Keys(said)) {
		out = append(out, said[node])
	}
	return out
}

// leaving returns what a member says of its host, false if that takes part.
func (m *Member) leaving() (discovery.Leaving, bool) {
	if !m.Draining || m.DrainReason == "" || strings.HasPrefix(m.DrainReason, naming.Ending+":") {
		return discovery.Leaving{}, false
	}
	_, _, _, instance, _ := naming.ParseNode(m.Node)
	return discovery.Leaving{Instance: instance, Namespace: m.Namespace, Reason: m.DrainReason, Heard: m.Heard}, true
}

// reason returns why a member's host leaves, "" if it takes part; m is nil once the stream has ended.
func (m *Member) reason() string {
	if m == nil {
		return ""
	}
	leaving, _ := m.leaving()
	return leaving.Reason
}

// LeavingChanged is told when an agent says that its host leaves, or takes part again.
func (m *Members) LeavingChanged() <-chan struct{} { return m.changed }

// tellLeaving says so.
func (m *Members) tellLeaving() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}
