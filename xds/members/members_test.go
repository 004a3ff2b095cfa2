package members

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/members/membersv1"
	"github.com/causeway-mesh/causeway/xds/server"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// plane is a control plane over loopback.
type plane struct {
	*Members
	t       *testing.T
	catalog *catalog.Catalog
	server  *server.Server
	client  membersv1.MembersClient
	log     *harness.Log
	// refuses is true while no agent may be what it says.
	refuses atomic.Bool
}

func newPlane(t *testing.T) *plane {
	t.Helper()
	p := &plane{t: t, catalog: catalog.New(), log: &harness.Log{}}
	log := slog.New(slog.NewTextHandler(p.log, nil))
	p.server = server.New(snapshot.New(), server.Options{
		Logger: log, Metrics: server.NewMetrics(prometheus.NewRegistry()),
		Identify: func(n *corev3.Node) (server.Node, error) {
			if n.GetId() == "" {
				return server.Node{}, errors.New("no id")
			}
			return server.Node{ID: n.GetId(), Namespace: "web", Workload: "cron", Zone: n.GetLocality().GetZone()}, nil
		},
		Authorize: func(context.Context, *server.Node) error {
			if p.refuses.Load() {
				return errors.New("no rule allows it")
			}
			return nil
		},
	})
	p.Members = New(p.catalog, p.server, log)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() { _ = p.server.Serve(l) })
	parts.Go(func() { _ = p.Run(ctx) })
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = conn.Close()
		cancel()
		p.server.Stop()
		parts.Wait()
	})
	p.client = membersv1.NewMembersClient(conn)
	return p
}

func (p *plane) put(names ...string) {
	p.t.Helper()
	var rows []*discovery.Service
	for _, n := range names {
		rows = append(rows, &discovery.Service{Scope: "test", Key: key(n), Ports: []discovery.ServicePort{{Name: "http", Port: 80}}})
	}
	put(p.t, p.catalog, rows...)
}

func (p *plane) join(hello *membersv1.Hello) membersv1.Members_JoinClient {
	p.t.Helper()
	stream, err := p.client.Join(p.t.Context())
	require.NoError(p.t, err)
	require.NoError(p.t, stream.Send(&membersv1.JoinRequest{Content: &membersv1.JoinRequest_Hello{Hello: hello}}))
	return stream
}

func (p *plane) eventually(what string, ok func() bool) {
	p.t.Helper()
	require.Eventually(p.t, ok, 10*time.Second, time.Millisecond, what)
}

func names(t *testing.T, s membersv1.Members_JoinClient) *membersv1.Names {
	t.Helper()
	m, err := s.Recv()
	require.NoError(t, err)
	return m.GetNames()
}

// An agent is told all names and then changes, and is listed with what it reports.
func TestJoin(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	p.put("a", "b")
	s := p.join(&membersv1.Hello{Node: "sidecar~web~cron~i-1", Zone: "az1", AgentVersion: "1.2\x1b[31m", Capture: membersv1.Capture_CAPTURE_HOST, Features: []string{"dns"}})
	first := names(t, s)
	require.True(t, first.GetFull())
	require.Len(t, first.GetServices(), 2)
	require.Equal(t, "joining", p.List()[0].State(time.Now()))

	p.put("b")
	second := names(t, s)
	require.False(t, second.GetFull())
	require.Empty(t, second.GetServices())
	require.Equal(t, "a", second.GetRemoved()[0].GetName())

	// A newer agent says what this control plane does not know, and it goes on.
	newer := &membersv1.JoinRequest{}
	newer.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 99, protowire.BytesType), "what is this"))
	require.NoError(t, s.Send(newer))
	report := &membersv1.Report{Ready: true, Application: membersv1.Health_HEALTH_UNHEALTHY, ApplicationReason: "500", EnvoyVersion: "1.40.0"}
	require.NoError(t, s.Send(&membersv1.JoinRequest{Content: &membersv1.JoinRequest_Report{Report: report}}))
	p.eventually("the report", func() bool { return !p.List()[0].Heard.IsZero() })
	m := p.List()[0]
	require.Equal(t, Member{
		Node: "sidecar~web~cron~i-1", Namespace: "web", Workload: "cron", Zone: "az1", Agent: "1.2 [31m", Envoy: "1.40.0", Capture: "host", Features: []string{"dns"},
		Ready: true, Application: "unhealthy", ApplicationReason: "500", Since: m.Since, Heard: m.Heard,
	}, m)
	require.Equal(t, "unhealthy", m.State(m.Heard))
	require.Equal(t, "silent", m.State(m.Heard.Add(SilentAfter+1)))

	require.NoError(t, s.CloseSend())
	p.eventually("it to be gone", func() bool { return len(p.List()) == 0 })
}

// Of two streams of a node the newer one counts, and the end of the older one changes nothing.
func TestJoinAnew(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	older := p.join(&membersv1.Hello{Node: "n", AgentVersion: "1"})
	names(t, older)
	names(t, p.join(&membersv1.Hello{Node: "n", AgentVersion: "2"}))
	require.Len(t, p.List(), 1)
	require.Equal(t, "2", p.List()[0].Agent)
	require.NoError(t, older.CloseSend())
	_, err := older.Recv()
	require.Error(t, err)
	require.Equal(t, "2", p.List()[0].Agent)
}

// Who may not be the node is refused, and cut off once the rules say so.
func TestUnauthorized(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	s := p.join(&membersv1.Hello{Node: "n"})
	names(t, s)
	p.refuses.Store(true)
	p.server.Reauthorize()
	_, err := s.Recv()
	require.Equal(t, codes.PermissionDenied, status.Code(err), err)
	require.Contains(t, p.log.String(), "cut off an agent: not authorized any more")

	_, err = p.join(&membersv1.Hello{Node: "other"}).Recv()
	require.Equal(t, codes.PermissionDenied, status.Code(err), err)
	require.Contains(t, p.log.String(), `msg="refused an agent: not authorized" node=other`)
	_, err = p.join(&membersv1.Hello{}).Recv()
	require.Equal(t, codes.InvalidArgument, status.Code(err), err)
	_, err = p.join(nil).Recv()
	require.Equal(t, codes.InvalidArgument, status.Code(err), err)
	require.Empty(t, p.List())
}

// Frozen configuration knows no new addresses, so there are no new names.
func TestFrozen(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	p.put("a")
	s := p.join(&membersv1.Hello{Node: "n"})
	names(t, s)
	freeze := func(rows ...*discovery.Freeze) {
		_, err := p.catalog.Write(time.Time{}, func(tx *catalog.Tx) error {
			catalog.Freezes.Replace(tx, "test", rows)
			return nil
		})
		require.NoError(t, err)
	}
	freeze(&discovery.Freeze{Scope: "test", Config: true})
	p.put("a", "b")
	require.NoError(t, p.await(t.Context(), p.catalog.Read().Revision()))
	require.Len(t, p.book.all(), 1)
	freeze()
	require.Equal(t, "b", names(t, s).GetServices()[0].GetName())
}

// An agent that reads nothing holds up nobody, and costs no memory for what it has missed.
func TestSlowAgent(t *testing.T) {
	p := newPlane(t)
	p.put("a")
	slow, quick := p.join(&membersv1.Hello{Node: "slow"}), p.join(&membersv1.Hello{Node: "quick"})
	names(t, slow)
	names(t, quick)
	long := strings.Repeat("x", 4000)
	change := func(i int) {
		var rows []*discovery.Service
		for n := range 300 {
			rows = append(rows, &discovery.Service{Scope: "test", Key: key(fmt.Sprint("s", n)), ExternalName: fmt.Sprint(long, i)})
		}
		put(t, p.catalog, rows...)
	}
	read := func(s membersv1.Members_JoinClient, until string) {
		for done := 0; done < 300; {
			for _, service := range names(t, s).GetServices() {
				if service.GetExternalName() == long+until {
					done++
				}
			}
		}
	}
	change(0)
	read(quick, "0")
	runtime.GC()
	runtime.GC() // what pools keep goes with the second
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := 1; i <= 16; i++ { // of 1.2 megabytes each
		change(i)
		read(quick, fmt.Sprint(i))
	}
	runtime.GC()
	runtime.GC() // what pools keep goes with the second
	runtime.ReadMemStats(&after)
	require.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(9<<20), "of 19 MB that it has missed")
	read(slow, "16")
}

func FuzzHello(f *testing.F) {
	hello, err := proto.Marshal(&membersv1.Hello{Node: "n", AgentVersion: "1\n", Features: []string{"a"}, Capture: 9})
	require.NoError(f, err)
	report, err := proto.Marshal(&membersv1.Report{Ready: true, Why: strings.Repeat("ü", 200), Restarts: 1 << 31})
	require.NoError(f, err)
	f.Add(hello, report)
	f.Fuzz(func(t *testing.T, hello, report []byte) {
		h, r := &membersv1.Hello{}, &membersv1.Report{}
		if proto.Unmarshal(hello, h) != nil || proto.Unmarshal(report, r) != nil {
			return
		}
		m := newMember(&server.Node{ID: "n"}, h)
		m.take(r, time.Now())
		for _, s := range append(m.Features, m.Agent, m.Envoy, m.NodeName, m.Why, m.ApplicationReason, m.LastError, m.State(time.Now())) {
			if len(s) > maxText || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Fatalf("%q", s)
			}
		}
	})
}
