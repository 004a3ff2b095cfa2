// Package members serves the agents of hosts and pods: it tells them the names of the mesh, and takes
// their reports.
package members

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/xds/members/membersv1"
	"github.com/causeway-mesh/causeway/xds/server"
)

const (
	// coalesce is how long changes of names are gathered before agents are told.
	coalesce = 100 * time.Millisecond
	// SilentAfter is the age from which on a report says nothing any more: no news is not good news. Agents report
	// every ten seconds.
	SilentAfter = 30 * time.Second
	// endGrace is how long the end of a stream waits for the send that is under way.
	endGrace = time.Second
	// maxMessage bounds what an agent says at once.
	maxMessage = 64 << 10
	// maxText bounds each text of it, maxFeatures how many features it names, and maxNotices how many notices.
	maxText, maxFeatures, maxNotices = 256, 32, 10
)

// Member is an agent that is connected.
type Member struct {
	// Node is the node id of its Envoy.
	Node      string `json:"node"`
	Namespace string `json:"namespace"`
	Workload  string `json:"workload"`
	Zone      string `json:"zone,omitempty"`
	NodeName  string `json:"nodeName,omitempty"`
	// Agent and Envoy are versions; Envoy's is "" before it has been heard of.
	Agent string `json:"agent"`
	Envoy string `json:"envoy,omitempty"`
	// Capture is explicit, host, pod, or "" for a mode that this control plane does not know.
	Capture  string   `json:"capture,omitempty"`
	Features []string `json:"features,omitempty"`
	// Ready says that Envoy serves with a configuration, and Why why it does not.
	Ready    bool   `json:"ready"`
	Why      string `json:"why,omitempty"`
	Draining bool   `json:"draining,omitempty"`
	// DrainReason says why it drains, a word and details; DrainUntil how long it waits for what is under way, zero if that is not known.
	DrainReason string    `json:"drainReason,omitempty"`
	DrainUntil  time.Time `json:"drainUntil,omitzero"`
	// Notices are what its cloud has announced without making it drain.
	Notices []string `json:"notices,omitempty"`
	// LastKnownGood is true while Envoy runs on the configuration of an earlier start.
	LastKnownGood bool `json:"lastKnownGood,omitempty"`
	// Application is healthy, unhealthy, unknown, or "" where nobody checks it.
	Application       string `json:"application,omitempty"`
	ApplicationReason string `json:"applicationReason,omitempty"`
	// Restarts is how often Envoy has ended by itself, LastError how it did last.
	Restarts  int    `json:"restarts,omitempty"`
	LastError string `json:"lastError,omitempty"`
	// Since is when the agent connected, Heard when it last reported, zero for never.
	Since time.Time `json:"since"`
	Heard time.Time `json:"heard,omitzero"`
}

// State says in one or two words how a member is at a time.
func (m *Member) State(now time.Time) string {
	switch {
	case m.Heard.IsZero():
		return "joining"
	case now.Sub(m.Heard) > SilentAfter:
		return "silent"
	case m.Draining:
		return "draining"
	case !m.Ready:
		return "not ready"
	case m.Application == "unhealthy":
		return "unhealthy"
	case m.LastKnownGood:
		return "last good"
	}
	return "ready"
}

// Members serves agents.
type Members struct {
	membersv1.UnimplementedMembersServer
	catalog *catalog.Catalog
	admit   func(context.Context, *corev3.Node) (*server.Guest, error)
	book    *book
	log     *slog.Logger
	// Certifier issues certificates; nil where nobody does. It is set before the server serves.
	Certifier Certifier

	mu   sync.Mutex
	next uint64
	byID map[uint64]*Member // of each stream
	// left are those that were leaving when their streams ended, by node.
	left    map[string]discovery.Leaving
	changed chan struct{}
}

// New returns the service and registers it with a server that is not served yet.
func New(c *catalog.Catalog, s *server.Server, log *slog.Logger) *Members {
	m := &Members{catalog: c, admit: s.Admit, book: newBook(), log: log, byID: make(map[uint64]*Member), left: make(map[string]discovery.Leaving), changed: make(chan struct{}, 1)}
	membersv1.RegisterMembersServer(s.Registrar(), m)
	return m
}

// Run follows the catalog until the context ends. While configuration is frozen, names are
// too: an address that no Envoy knows would lead nowhere.
func (m *Members) Run(ctx context.Context) error {
	feed := m.catalog.Subscribe()
	defer feed.Close()
	waiting, first := make(map[discovery.Key]struct{}), true
	for {
		batch, err := feed.Next(ctx)
		if err != nil {
			return err //nolint:wrapcheck // the context's
		}
		for i := range batch.Changes {
			touched(batch.Reader, &batch.Changes[i], func(key discovery.Key) { waiting[key] = struct{}{} })
		}
		names := make(map[discovery.Key]*membersv1.Service, len(waiting))
		if f, ok := catalog.Freezes.Get(batch.Reader, catalog.FreezeID); first || !ok || !f.Config {
			for key := range waiting {
				names[key] = NameOf(batch.Reader, key)
			}
			clear(waiting)
		}
		first = false
		m.book.set(names, batch.Reader.Revision())
	}
}

// await waits until the names are those of a revision of the catalog.
func (m *Members) await(ctx context.Context, revision uint64) error {
	for {
		changed, through := m.book.wait()
		if through >= revision {
			return nil
		}
		select {
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-changed:
		}
	}
}

// Join implements membersv1.MembersServer.
func (m *Members) Join(stream membersv1.Members_JoinServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err //nolint:wrapcheck // gRPC's own
	}
	hello := first.GetHello()
	if hello == nil || proto.Size(first) > maxMessage {
		return status.Errorf(codes.InvalidArgument, "the first message must be a hello of at most %d bytes", maxMessage)
	}
	ctx := stream.Context()
	guest, err := m.admit(ctx, &corev3.Node{Id: hello.GetNode(), Locality: &corev3.Locality{Region: hello.GetRegion(), Zone: hello.GetZone()}})
	if err != nil {
		return err //nolint:wrapcheck // gRPC's own
	}
	defer guest.Leave()
	if err := m.await(ctx, m.catalog.Read().Revision()); err != nil {
		return err
	}
	member := newMember(guest.Node(), hello)
	id := m.enter(member)
	defer m.leave(id)
	m.log.Info("an agent has joined", "node", member.Node, "agent", member.Agent, "capture", member.Capture)
	received, told := make(chan error, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	go func() { received <- m.receive(stream, id) }()
	over := make(chan struct{})
	go func() {
		defer close(over)
		told <- m.tell(ctx, stream.Send)
	}()
	select {
	case err = <-guest.Ended():
	case err = <-received:
	case err = <-told:
	}
	cancel()
	select {
	case <-over:
	case <-time.After(endGrace): // a send to who does not read is given up once this call has returned
	}
	if status.Code(err) == codes.PermissionDenied || status.Code(err) == codes.ResourceExhausted {
		return err
	}
	return nil // it went away
}

// receive takes reports until the stream ends.
func (m *Members) receive(stream membersv1.Members_JoinServer, id uint64) error {
	for {
		message, err := stream.Recv()
		if err != nil {
			return err //nolint:wrapcheck // gRPC's own
		}
		if n := proto.Size(message); n > maxMessage {
			return status.Errorf(codes.ResourceExhausted, "a message has %d bytes, more than %d", n, maxMessage)
		}
		if r := message.GetReport(); r != nil {
			m.mu.Lock()
			member := m.byID[id]
			before := member.reason()
			member.take(r, time.Now())
			news := member.reason() != before
			if member != nil {
				delete(m.left, member.Node)
			}
			m.mu.Unlock()
			if news {
				m.tellLeaving()
			}
		}
	}
}

// tell sends all names, and then what changes, until the context ends. Who is slow
// gets the latest.
func (m *Members) tell(ctx context.Context, send func(*membersv1.JoinResponse) error) error {
	for told := uint64(0); ; {
		messages, through, changed := m.book.since(told)
		for _, names := range messages {
			if err := send(&membersv1.JoinResponse{Content: &membersv1.JoinResponse_Names{Names: names}}); err != nil {
				return err
			}
		}
		told = through
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(coalesce):
		}
	}
}

func (m *Members) enter(member *Member) (id uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.next++
	m.byID[m.next] = member
	return m.next
}

// leave forgets a stream. What receives meanwhile writes to a member that nobody lists.
func (m *Members) leave(id uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if leaving, ok := m.byID[id].leaving(); ok {
		m.left[m.byID[id].Node] = leaving
	}
	delete(m.byID, id)
}

// List returns the connected members by node. Of an agent that has connected anew before its old
// connection was known to be gone, the newer one counts.
func (m *Members) List() []Member {
	m.mu.Lock()
	byNode := make(map[string]Member, len(m.byID))
	for _, id := range slices.Sorted(maps.Keys(m.byID)) {
		byNode[m.byID[id].Node] = *m.byID[id]
	}
	m.mu.Unlock()
	return slices.SortedFunc(maps.Values(byNode), func(a, b Member) int { return cmp.Compare(a.Node, b.Node) })
}

func newMember(n *server.Node, h *membersv1.Hello) *Member {
	out := &Member{
		Node: n.ID, Namespace: n.Namespace, Workload: n.Workload, Zone: n.Zone, NodeName: text(h.GetNodeName()), Agent: text(h.GetAgentVersion()), Since: time.Now(),
	}
	switch h.GetCapture() {
	case membersv1.Capture_CAPTURE_EXPLICIT:
		out.Capture = "explicit"
	case membersv1.Capture_CAPTURE_HOST:
		out.Capture = "host"
	case membersv1.Capture_CAPTURE_POD:
		out.Capture = "pod"
	case membersv1.Capture_CAPTURE_UNSPECIFIED:
	}
	for _, f := range h.GetFeatures()[:min(len(h.GetFeatures()), maxFeatures)] {
		out.Features = append(out.Features, text(f))
	}
	return out
}

// take takes a report over, in place of the one before it. m is nil once the stream has ended.
func (m *Member) take(r *membersv1.Report, now time.Time) {
	if m == nil {
		return
	}
	m.Ready, m.Why, m.Draining, m.LastKnownGood, m.Heard = r.GetReady(), text(r.GetWhy()), r.GetDraining(), r.GetLastKnownGood(), now
	m.Envoy, m.Restarts, m.LastError = text(r.GetEnvoyVersion()), int(r.GetRestarts()), text(r.GetLastError())
	m.DrainReason, m.DrainUntil, m.Notices = text(r.GetDrainReason()), time.Time{}, nil
	if until := r.GetDrainUntil(); until > 0 {
		m.DrainUntil = time.Unix(until, 0).UTC()
	}
	for _, n := range r.GetNotices()[:min(len(r.GetNotices()), maxNotices)] {
		m.Notices = append(m.Notices, text(n))
	}
	m.Application, m.ApplicationReason = "", text(r.GetApplicationReason())
	switch r.GetApplication() {
	case membersv1.Health_HEALTH_HEALTHY:
		m.Application = "healthy"
	case membersv1.Health_HEALTH_UNHEALTHY:
		m.Application = "unhealthy"
	case membersv1.Health_HEALTH_UNKNOWN:
		m.Application = "unknown"
	case membersv1.Health_HEALTH_UNSPECIFIED:
	}
}

// text bounds what an agent says and takes out what would garble a terminal or a log.
func text(s string) string {
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText-3], "") + "..."
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}
