// Package membership is the agent's side of the control plane's service for agents: it says who the agent is, reports how it
// is, and keeps the names of the mesh, over a restart without a control plane too.
package membership

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-mesh/causeway/discovery/durable"
	"github.com/causeway-mesh/causeway/xds/members/membersv1"
)

const (
	// lookEvery is how often the agent looks whether there is something to report, and reportEvery how often it
	// reports in any case.
	lookEvery, reportEvery = 2 * time.Second, 10 * time.Second
	// retryFirst and retryMost bound the pause after a stream that failed, and retryOld is the pause where the control plane is of
	// a release without the service.
	retryFirst, retryMost, retryOld = time.Second, 30 * time.Second, time.Minute
	// settled is how long names must have stayed the same to be written, and saveEvery how often they are at most.
	settled, saveEvery = time.Second, 10 * time.Second
	// maxServices bounds what is taken over.
	maxServices = 200_000
	// magic begins the file of names; its last character is the format's version.
	magic = "causeway-names-1"
)

// Options of a Membership.
type Options struct {
	// Conn leads to a control plane.
	Conn  grpc.ClientConnInterface
	Hello *membersv1.Hello
	// Report says how the agent is.
	Report func(context.Context) *membersv1.Report
	// Names is called with all Services whenever they have changed, in the order of their names, and at once with those of an earlier run.
	Names func([]*membersv1.Service)
	// File keeps the names.
	File   string
	Logger *slog.Logger
}

// State says what the agent has of the control plane's service.
type State struct {
	// Joined is true while a control plane takes the agent's reports.
	Joined bool `json:"joined"`
	// Services is how many names are known, of the time Saved if they are those of an earlier run.
	Services int       `json:"services"`
	Saved    time.Time `json:"saved,omitzero"`
	// Unsaved is why the names could not be written last, "" once they are.
	Unsaved string `json:"unsaved,omitempty"`
}

// Membership is one agent's.
type Membership struct {
	opts    Options
	wake    chan struct{} // there may be something to report
	changed chan struct{} // there is something to save

	mu    sync.Mutex
	state State
	names map[string]*membersv1.Service // by "namespace/name"
}

// New returns a membership with the names of an earlier run.
func New(o Options) *Membership {
	m := &Membership{opts: o, wake: make(chan struct{}, 1), changed: make(chan struct{}, 1)}
	saved, names, err := load(o.File)
	if err != nil {
		o.Logger.Warn("the names of an earlier run cannot be read; they come from the control plane", "file", o.File, "error", err)
	}
	if names != nil {
		m.names, m.state.Saved = names, saved
		m.tell()
	}
	return m
}

// State returns the present state.
func (m *Membership) State() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state
}

// Wake says that there may be something to report.
func (m *Membership) Wake() { signal(m.wake) }

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// tell hands the names over.
func (m *Membership) tell() {
	m.mu.Lock()
	m.state.Services = len(m.names)
	all := make([]*membersv1.Service, 0, len(m.names))
	for _, s := range m.names {
		all = append(all, s)
	}
	m.mu.Unlock()
	slices.SortFunc(all, func(a, b *membersv1.Service) int {
		return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
	})
	m.opts.Names(all)
}

// Run is a member until the context ends. What fails is tried again.
func (m *Membership) Run(ctx context.Context) {
	var keeping sync.WaitGroup
	keeping.Go(func() { m.keep(ctx) })
	defer keeping.Wait()
	pause, said := retryFirst, ""
	for ctx.Err() == nil {
		joined, err := m.join(ctx)
		m.setJoined(false)
		if ctx.Err() != nil {
			return
		}
		if joined {
			pause, said = retryFirst, ""
		}
		wait := pause + rand.N(pause) //nolint:gosec // spreads retries
		pause = min(2*pause, retryMost)
		switch code := status.Code(err); {
		case code == codes.Unimplemented:
			wait = retryOld
			if said != code.String() {
				m.opts.Logger.Info("the control plane is of a release without a service for agents: names stay as they are, and nothing is reported")
			}
			said = code.String()
		case code == codes.Unavailable || joined: // it is away, as Envoy's stream is, or ended the stream
		case err != nil && said != err.Error():
			m.opts.Logger.Warn("the control plane does not let the agent join; trying again", "error", err)
			said = err.Error()
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

func (m *Membership) setJoined(yes bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state.Joined = yes
}

// join is a member for as long as a stream lives, and says whether the control plane has answered.
func (m *Membership) join(ctx context.Context) (joined bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The connection is Envoy's, whose messages are passed on as bytes.
	stream, err := membersv1.NewMembersClient(m.opts.Conn).Join(ctx, grpc.WaitForReady(true), grpc.ForceCodecV2(encoding.GetCodecV2(grpcproto.Name)))
	if err != nil {
		return false, err //nolint:wrapcheck // gRPC's status
	}
	if err := stream.Send(&membersv1.JoinRequest{Content: &membersv1.JoinRequest_Hello{Hello: m.opts.Hello}}); err != nil {
		return false, reason(stream, err)
	}
	var reporting sync.WaitGroup
	defer reporting.Wait()
	defer cancel()
	next := &update{}
	for {
		message, err := stream.Recv()
		if err != nil {
			return joined, err //nolint:wrapcheck // gRPC's status
		}
		if !joined {
			joined = true
			m.setJoined(true)
			reporting.Go(func() { m.report(ctx, stream) })
		}
		// What else a newer control plane says is not known here.
		if names := message.GetNames(); names != nil {
			if err := m.take(next, names); err != nil {
				return joined, err
			}
		}
	}
}

// reason returns why a stream has ended, which the error of a send does not tell.
func reason(stream membersv1.Members_JoinClient, sendError error) error {
	if _, err := stream.Recv(); err != nil {
		return err //nolint:wrapcheck // gRPC's status
	}
	return sendError
}

// report reports until the context or the stream ends.
func (m *Membership) report(ctx context.Context, stream membersv1.Members_JoinClient) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	var last *membersv1.Report
	var at time.Time
	for {
		now := m.opts.Report(ctx)
		if last == nil || !proto.Equal(last, now) || time.Since(at) >= reportEvery {
			if err := stream.Send(&membersv1.JoinRequest{Content: &membersv1.JoinRequest_Report{Report: now}}); err != nil {
				return // who receives hears why
			}
			last, at = now, time.Now()
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-m.wake:
		}
	}
}

// update is a state of which not all messages have come.
type update struct {
	full  bool
	parts []*membersv1.Names
	size  int
}

var errTooMany = fmt.Errorf("membership: the control plane names more than %d Services", maxServices)

// take takes a message over; names change with the last of a state.
func (m *Membership) take(u *update, n *membersv1.Names) error {
	if n.GetFull() {
		*u = update{full: true}
	}
	u.parts = append(u.parts, n)
	if u.size += len(n.GetServices()); u.size > maxServices {
		return errTooMany
	}
	if n.GetMore() {
		return nil
	}
	m.mu.Lock()
	if u.full || m.names == nil {
		m.names = make(map[string]*membersv1.Service, u.size)
	}
	for _, part := range u.parts {
		for _, s := range part.GetServices() {
			m.names[s.GetNamespace()+"/"+s.GetName()] = s
		}
		for _, s := range part.GetRemoved() {
			delete(m.names, s.GetNamespace()+"/"+s.GetName())
		}
	}
	tooMany := len(m.names) > maxServices
	m.state.Saved = time.Time{}
	m.mu.Unlock()
	*u = update{}
	if tooMany {
		return errTooMany
	}
	m.tell()
	signal(m.changed)
	return nil
}

// keep writes the names to their file: a moment after a change, at most once in saveEvery, and at the end.
func (m *Membership) keep(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			select {
			case <-m.changed:
				m.save()
			default:
			}
			return
		case <-m.changed:
		}
		select {
		case <-ctx.Done():
		case <-time.After(settled):
		}
		m.save()
		select {
		case <-ctx.Done():
		case <-time.After(saveEvery):
		}
	}
}

func (m *Membership) save() {
	m.mu.Lock()
	names := &membersv1.Names{Full: true}
	for _, s := range m.names {
		names.Services = append(names.Services, s)
	}
	m.mu.Unlock()
	text, err := proto.Marshal(names)
	if err == nil {
		err = durable.Replace(m.opts.File, durable.Seal(magic, text), nil)
	}
	m.mu.Lock()
	was := m.state.Unsaved
	if m.state.Unsaved = ""; err != nil {
		m.state.Unsaved = err.Error()
	}
	m.mu.Unlock()
	switch {
	case err != nil:
		if was == "" {
			m.opts.Logger.Warn("cannot keep the names of the mesh: a start without the control plane would have older ones; trying again", "error", err)
		}
		signal(m.changed)
	case was != "":
		m.opts.Logger.Info("the names of the mesh are kept again")
	}
}

// load returns the names of an earlier run and their age, no names if there was none.
func load(file string) (time.Time, map[string]*membersv1.Service, error) {
	text, err := os.ReadFile(file) //nolint:gosec // the agent's own
	if errors.Is(err, os.ErrNotExist) {
		return time.Time{}, nil, nil
	}
	if err != nil {
		return time.Time{}, nil, fmt.Errorf("membership: %w", err)
	}
	body, err := durable.Unseal(magic, text)
	if err != nil {
		return time.Time{}, nil, fmt.Errorf("membership: %w", err)
	}
	var kept membersv1.Names
	if err := proto.Unmarshal(body, &kept); err != nil {
		return time.Time{}, nil, fmt.Errorf("membership: %w", err)
	}
	names := make(map[string]*membersv1.Service, len(kept.GetServices()))
	for _, s := range kept.GetServices() {
		names[s.GetNamespace()+"/"+s.GetName()] = s
	}
	var saved time.Time
	if info, err := os.Stat(file); err == nil {
		saved = info.ModTime()
	}
	return saved, names, nil
}
