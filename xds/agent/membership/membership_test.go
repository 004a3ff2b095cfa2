package membership

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/members/membersv1"
)

// plane is a control plane of the test's, which may be of any release.
type plane struct {
	membersv1.UnimplementedMembersServer
	join func(membersv1.Members_JoinServer) error
}

func (p *plane) Join(s membersv1.Members_JoinServer) error { return p.join(s) }

// rig is an agent and what it was told.
type rig struct {
	*Membership
	t   *testing.T
	log harness.Log

	mu   sync.Mutex
	told []string
}

// start starts an agent with a file; join is nil for a control plane without the service.
func start(t *testing.T, file string, join func(membersv1.Members_JoinServer) error) *rig {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer()
	if join != nil {
		membersv1.RegisterMembersServer(server, &plane{join: join})
	}
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	r := &rig{t: t}
	r.Membership = New(Options{
		Conn: conn, Hello: &membersv1.Hello{Node: "n"}, File: file, Logger: slog.New(slog.NewTextHandler(&r.log, nil)),
		Report: func(context.Context) *membersv1.Report { return &membersv1.Report{Ready: true} },
		Names: func(services []*membersv1.Service) {
			var names []string
			for _, s := range services {
				names = append(names, s.GetNamespace()+"/"+s.GetName())
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			r.told = append(r.told, strings.Join(names, " "))
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() { r.Run(ctx) })
	parts.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() {
		cancel()
		server.Stop()
		parts.Wait()
		_ = conn.Close()
	})
	return r
}

// last returns the names that it was told last, "none" before the first time.
func (r *rig) last() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.told) == 0 {
		return "none"
	}
	return r.told[len(r.told)-1]
}

func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	require.Eventually(r.t, ok, 20*time.Second, time.Millisecond, what)
}

func service(name string) *membersv1.Service {
	return &membersv1.Service{Namespace: "web", Name: name}
}

func send(s membersv1.Members_JoinServer, names ...*membersv1.Names) error {
	for _, n := range names {
		if err := s.Send(&membersv1.JoinResponse{Content: &membersv1.JoinResponse_Names{Names: n}}); err != nil {
			return err
		}
	}
	return nil
}

// Names are taken over state by state, reports go out, and a newer control plane is understood as far as it can be.
func TestJoin(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "names")
	more, reported := make(chan struct{}), make(chan *membersv1.JoinRequest, 10)
	r := start(t, file, func(s membersv1.Members_JoinServer) error {
		newer := &membersv1.JoinResponse{}
		newer.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 99, protowire.BytesType), "what is this"))
		if err := s.Send(newer); err != nil {
			return err
		}
		go func() {
			for {
				m, err := s.Recv()
				if err != nil {
					return
				}
				reported <- m
			}
		}()
		if err := send(s, &membersv1.Names{Full: true, More: true, Services: []*membersv1.Service{service("b")}}); err != nil {
			return err
		}
		<-more
		if err := send(s, &membersv1.Names{Services: []*membersv1.Service{service("a")}}); err != nil {
			return err
		}
		<-more
		if err := send(s, &membersv1.Names{Services: []*membersv1.Service{service("c")}, Removed: []*membersv1.ServiceName{{Namespace: "web", Name: "b"}}}); err != nil {
			return err
		}
		<-s.Context().Done()
		return nil
	})
	require.Equal(t, "n", (<-reported).GetHello().GetNode())
	require.True(t, (<-reported).GetReport().GetReady())
	require.Equal(t, "none", r.last(), "half of a state is none")
	more <- struct{}{}
	r.eventually("the first state", func() bool { return r.last() == "web/a web/b" })
	require.Equal(t, State{Joined: true, Services: 2}, r.State())
	more <- struct{}{}
	r.eventually("the change", func() bool { return r.last() == "web/a web/c" })
	r.eventually("the file", func() bool { _, names, err := load(file); return err == nil && len(names) == 2 })
}

// After a restart without a control plane the names are those of before, whatever the control plane's release.
func TestLastKnownGood(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "names")
	m := &Membership{opts: Options{File: file, Logger: slog.New(slog.DiscardHandler)}, changed: make(chan struct{}, 1), names: map[string]*membersv1.Service{"web/a": service("a")}}
	m.save()

	old := start(t, file, nil)
	require.Equal(t, "web/a", old.last())
	require.False(t, old.State().Saved.IsZero())
	old.eventually("it says so", func() bool { return strings.Contains(old.log.String(), "of a release without a service for agents") })
	require.Equal(t, "web/a", old.last())

	refused := start(t, file, func(membersv1.Members_JoinServer) error {
		return status.Error(codes.PermissionDenied, "no rule allows it")
	})
	refused.eventually("it says so", func() bool { return strings.Contains(refused.log.String(), "no rule allows it") })
	require.Equal(t, "web/a", refused.last())

	empty := start(t, file, func(s membersv1.Members_JoinServer) error {
		if err := send(s, &membersv1.Names{Full: true}); err != nil {
			return err
		}
		<-s.Context().Done()
		return nil
	})
	empty.eventually("the control plane's word counts", func() bool { return empty.last() == "" })
	require.True(t, empty.State().Saved.IsZero())
}

// A file that is damaged or of another version is none.
func TestSpoiledFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "names")
	for _, text := range []string{"", "causeway-names-9....", "causeway-names-1....x"} {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		r := start(t, file, nil)
		require.Equal(t, "none", r.last())
		require.Contains(t, r.log.String(), "cannot be read")
	}
}

func FuzzNames(f *testing.F) {
	seed, err := proto.Marshal(&membersv1.Names{Full: true, Services: []*membersv1.Service{service("a")}, Removed: []*membersv1.ServiceName{{Name: "b"}}})
	require.NoError(f, err)
	f.Add(seed, seed)
	f.Fuzz(func(_ *testing.T, one, two []byte) {
		m, u := &Membership{opts: Options{Names: func([]*membersv1.Service) {}}, changed: make(chan struct{}, 1)}, &update{}
		for _, text := range [][]byte{one, two} {
			n := &membersv1.Names{}
			if proto.Unmarshal(text, n) != nil || m.take(u, n) != nil {
				return
			}
		}
	})
}
