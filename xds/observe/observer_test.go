package observe

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/observe/observev1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// controlPlane is a control plane of several replicas in one process, each behind a
// proxy that can cut it off.
type controlPlane struct {
	t        *testing.T
	skew     atomic.Int64 // nanoseconds that the tests' clock is ahead
	leading  atomic.Value // string
	replicas map[string]*member
}

type member struct {
	*Observer
	name    string
	plane   *controlPlane
	address string
	link    *harness.Proxy // what others reach it through
	cancel  context.CancelFunc
	done    sync.WaitGroup
	lead    context.CancelFunc

	mu     sync.Mutex
	local  Local
	counts counts
}

func newControlPlane(t *testing.T, names ...string) *controlPlane {
	t.Helper()
	p := &controlPlane{t: t, replicas: make(map[string]*member)}
	p.leading.Store("")
	for _, name := range names {
		p.start(name)
	}
	return p
}

func (p *controlPlane) now() time.Time { return time.Now().Add(time.Duration(p.skew.Load())) }

// start starts a replica, with a new identity whenever it is called.
func (p *controlPlane) start(name string) *member {
	p.t.Helper()
	m := &member{name: name, plane: p}
	var err error
	m.Observer, err = New(Options{
		Replica: name, Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Now: p.now,
		Leader: func() string { return p.leading.Load().(string) },
		Local: func() Local {
			m.mu.Lock()
			defer m.mu.Unlock()
			return Local{Index: m.local.Index, Objects: slices.Clone(m.local.Objects), Proxies: slices.Clone(m.local.Proxies), Rejections: slices.Clone(m.local.Rejections)}
		},
		Outcomes: func() outcome.Report {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.counts.report()
		},
	})
	require.NoError(p.t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
	require.NoError(p.t, err)
	m.link = harness.StartProxy(p.t, harness.ProxyOptions{Target: l.Addr().String()})
	m.address = m.link.Address()
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	m.done.Go(func() { _ = m.Serve(ctx, l) })
	m.done.Go(func() { _ = m.Report(ctx) })
	p.t.Cleanup(m.kill)
	p.replicas[name] = m
	return m
}

// kill ends a replica; its Lease stays until leases is called.
func (m *member) kill() {
	m.stopLeading()
	m.cancel()
	m.done.Wait()
}

func (m *member) stopLeading() {
	if m.lead != nil {
		m.lead()
		m.lead = nil
	}
}

// leases tells every replica which ones live.
func (p *controlPlane) leases(names ...string) {
	var live []Replica
	for _, name := range names {
		m := p.replicas[name]
		live = append(live, Replica{Name: name, Address: m.address, Certificate: m.Fingerprint()})
	}
	for _, m := range p.replicas {
		m.SetReplicas(live)
	}
}

// elect makes a replica the leader.
func (p *controlPlane) elect(name string) *member {
	p.t.Helper()
	m := p.replicas[name]
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { _ = m.Lead(ctx) })
	m.lead = func() {
		cancel()
		done.Wait()
	}
	p.leading.Store(name)
	return m
}

func (m *member) see(change func(*Local)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.local)
}

// compiled makes a generation of the object known, in force from index on.
func (m *member) compiled(name string, generation int64, index uint64) {
	m.see(func(l *Local) {
		l.Objects = slices.DeleteFunc(l.Objects, func(o Object) bool { return o.Name == route(name) })
		l.Objects = append(l.Objects, Object{Name: route(name), Generation: generation, Index: index, Since: m.plane.now()})
	})
}

// proxy makes a proxy connected that has acknowledged what it has.
func (m *member) proxy(node string, joined, acknowledged uint64) {
	m.see(func(l *Local) {
		l.Proxies = slices.DeleteFunc(l.Proxies, func(p Proxy) bool { return p.Node == node })
		l.Proxies = append(l.Proxies, Proxy{Node: node, Joined: joined, Acknowledged: acknowledged, Connected: m.plane.now()})
	})
}

func (m *member) wait(generation int64, reason string) {
	m.plane.t.Helper()
	m.waitFor(generation, reason, "")
}

func (m *member) waitFor(generation int64, reason, message string) {
	m.plane.t.Helper()
	harness.Eventually(m.plane.t, 15*time.Second, fmt.Sprintf("generation %d is %s", generation, reason), func() error {
		c, ok := m.Programmed(refOf("r", generation))
		if !ok || c.Reason != reason || c.ObservedGeneration != generation {
			return fmt.Errorf("%v %+v", ok, c)
		}
		if message != "" {
			require.Contains(m.plane.t, c.Message, message)
		}
		return nil
	})
}

// stays checks that a condition does not change for a while.
func (m *member) stays(generation int64, reason string) {
	m.plane.t.Helper()
	harness.Throughout(m.plane.t, 4*every, "that the reason is "+reason, func() error {
		if c, ok := m.Programmed(refOf("r", generation)); !ok || c.Reason != reason {
			return fmt.Errorf("it is %q: %s", c.Reason, c.Message)
		}
		return nil
	})
}

// An object is in force once the proxies of all replicas have acknowledged it;
// what a proxy refused says so in Envoy's words.
func TestReplicasReportToTheLeader(t *testing.T) {
	p := newControlPlane(t, "a", "b", "c")
	for name, m := range p.replicas {
		m.compiled("r", 1, 5)
		m.proxy("proxy-of-"+name, 1, 5)
	}
	p.leases("a", "b", "c")
	a, b, c := p.elect("a"), p.replicas["b"], p.replicas["c"]
	a.wait(1, ReasonProgrammed)

	a.compiled("r", 2, 6)
	a.proxy("proxy-of-a", 1, 6)
	a.wait(2, ReasonPending)
	b.compiled("r", 2, 9)
	c.compiled("r", 2, 7)
	b.proxy("proxy-of-b", 1, 9)
	a.stays(2, ReasonPending)
	c.proxy("joins later", 8, 0)
	p.skew.Add(int64(Patience))
	a.waitFor(2, ReasonProxiesBehind, "1 proxy has not acknowledged it for 10s: proxy-of-c; see")
	c.see(func(l *Local) { l.Proxies = l.Proxies[1:] }) // it disconnects
	a.wait(2, ReasonProgrammed)

	b.see(func(l *Local) {
		l.Objects[0].Held, l.Objects[0].Generation, l.Objects[0].Index = true, 3, 0
		l.Rejections = []Rejection{{
			Resource: "VHDS http/php-web.web:80", Node: "proxy-of-b", Error: "no such thing", Held: true, Since: p.now(),
			Objects: refs(refOf("r", 3)), Good: refs(refOf("r", 2)),
		}}
	})
	a.compiled("r", 3, 8)
	a.waitFor(3, ReasonRejected, "proxy-of-b refused VHDS http/php-web.web:80: no such thing; the last good configuration stays in force")

	v := a.View()
	require.True(t, v.Leading)
	require.Len(t, v.Replicas, 3)
	require.Len(t, v.Objects, 1)
	require.Equal(t, ReasonRejected, v.Objects[0].Reason)
	v = c.View()
	require.False(t, v.Leading)
	require.Len(t, v.Replicas, 1)
	require.EqualValues(t, 2, v.Objects[0].Generation)
	require.InDelta(t, 1, testutil.ToFloat64(a.metrics.objects.WithLabelValues(ReasonRejected)), 0)
	require.InDelta(t, 3, testutil.ToFloat64(a.metrics.replicas.WithLabelValues(replicaReporting)), 0)
	require.InDelta(t, 1, testutil.ToFloat64(b.metrics.connected), 0)
	_, ok := c.Programmed(refOf("r", 1))
	require.False(t, ok, "it does not lead")
}

// Changes are told to who writes the status, each once.
func TestWakeAndTake(t *testing.T) {
	p := newControlPlane(t, "a")
	a := p.replicas["a"]
	a.compiled("r", 1, 5)
	a.compiled("other", 1, 5)
	a.proxy("x", 1, 5)
	require.Empty(t, a.Take())
	p.elect("a")
	<-a.Wake()
	require.Len(t, a.Take(), 2)
	require.Empty(t, a.Take())
	a.compiled("r", 2, 6)
	<-a.Wake()
	require.Equal(t, "[HTTPRoute web/r]", fmt.Sprint(a.Take()))
	require.ErrorIs(t, a.Lead(t.Context()), errLeads)
}

// A link that is cut, or hangs, makes nothing True that is not known, nor what
// was known Unknown at once; it heals by itself.
func TestCutLink(t *testing.T) {
	p := newControlPlane(t, "a", "b")
	for _, m := range p.replicas {
		m.compiled("r", 1, 5)
		m.proxy("x", 1, 5)
	}
	p.leases("a", "b")
	a, b := p.elect("a"), p.replicas["b"]
	a.wait(1, ReasonProgrammed)
	for i, fault := range []func(){a.link.Cut, a.link.Hang} {
		generation := int64(2 + i)
		fault()
		a.stays(generation-1, ReasonProgrammed)
		a.compiled("r", generation, uint64(5+generation)) //nolint:gosec // small
		a.proxy("x", 1, uint64(5+generation))             //nolint:gosec // small
		a.wait(generation, ReasonPending)
		b.compiled("r", generation, uint64(5+generation)) //nolint:gosec // small
		b.proxy("x", 1, uint64(5+generation))             //nolint:gosec // small
		a.stays(generation, ReasonPending)
		p.skew.Add(int64(Patience))
		a.waitFor(generation, ReasonReplicaSilent, "replica b, which has not reported")
		a.link.Restore(t)
		a.wait(generation, ReasonProgrammed)
	}
}

// A replica that is killed counts for as long as its Lease lives, and not longer.
func TestKilledReplica(t *testing.T) {
	p := newControlPlane(t, "a", "b", "c")
	for _, m := range p.replicas {
		m.compiled("r", 1, 5)
		m.proxy("x", 1, 5)
	}
	p.leases("a", "b", "c")
	a, b, c := p.elect("a"), p.replicas["b"], p.replicas["c"]
	a.wait(1, ReasonProgrammed)
	b.kill()
	for _, m := range []*member{a, c} {
		m.compiled("r", 2, 6)
		m.proxy("x", 1, 6)
	}
	a.wait(2, ReasonPending)
	a.stays(2, ReasonPending)
	p.leases("a", "c")
	a.wait(2, ReasonProgrammed)

	// It comes again under the same name and has not read anything yet.
	b = p.start("b")
	p.leases("a", "b", "c")
	a.stays(2, ReasonProgrammed)
	b.compiled("r", 2, 1)
	a.stays(2, ReasonProgrammed)
	p.skew.Add(int64(Patience))
	a.wait(2, ReasonProgrammed)
	harness.Eventually(t, 15*time.Second, "all report", func() error {
		for _, r := range a.View().Replicas {
			if r.State != replicaReporting {
				return fmt.Errorf("%+v", r)
			}
		}
		return nil
	})
}

// The next leader is told everything, and says nothing before.
func TestLeaderChange(t *testing.T) {
	p := newControlPlane(t, "a", "b", "c")
	for _, m := range p.replicas {
		m.compiled("r", 1, 5)
		m.proxy("x", 1, 5)
	}
	p.leases("a", "b", "c")
	a := p.elect("a")
	a.wait(1, ReasonProgrammed)
	a.stopLeading()
	_, ok := a.Programmed(refOf("r", 1))
	require.False(t, ok)

	c := p.replicas["c"]
	a.link.Cut() // it leads no more and nobody needs to reach it
	b := p.elect("b")
	b.wait(1, ReasonProgrammed)
	require.InDelta(t, 0, testutil.ToFloat64(a.metrics.objects.WithLabelValues(ReasonProgrammed)), 0)
	c.compiled("r", 2, 6)
	b.stays(1, ReasonProgrammed)
	b.compiled("r", 2, 6)
	b.proxy("x", 1, 6)
	b.wait(2, ReasonPending)
	a.compiled("r", 2, 7)
	a.proxy("x", 1, 7)
	c.proxy("x", 1, 6)
	b.wait(2, ReasonProgrammed)

	// The same replica leads again: another term, which knows nothing of the first.
	b.stopLeading()
	a.link.Restore(t)
	p.elect("a").wait(2, ReasonProgrammed)
}

// Who stands in no Lease is refused, and so is a leader that is not the one.
func TestOnlyLeasesAreTrusted(t *testing.T) {
	p := newControlPlane(t, "a", "b")
	for _, m := range p.replicas {
		m.compiled("r", 1, 5)
		m.proxy("x", 1, 5)
	}
	p.leases("a", "b")
	a, b := p.elect("a"), p.replicas["b"]
	a.wait(1, ReasonProgrammed)

	dial := func(config *tls.Config) error {
		conn, err := grpc.NewClient("passthrough:///"+a.address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
		require.NoError(t, err)
		defer conn.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		stream, err := observev1.NewObservationsClient(conn).Report(ctx)
		if err != nil {
			return err
		}
		_ = stream.Send(&observev1.ReportRequest{Content: &observev1.ReportRequest_Hello{Hello: &observev1.Hello{Session: 99}}})
		_, err = stream.Recv()
		return err
	}
	stranger, err := NewIdentity("b")
	require.NoError(t, err)
	anyone := func(string) error { return nil }
	require.Error(t, dial(stranger.config(anyone)), "a certificate of no Lease")
	none := stranger.config(anyone)
	none.Certificates = nil
	require.Error(t, dial(none), "no certificate")
	require.Positive(t, testutil.ToFloat64(a.metrics.refused.WithLabelValues(causeCertificate)))
	require.NoError(t, dial(b.identity.config(anyone)), "b's own")

	// Its Lease is gone: the stream that is open ends, another is refused.
	p.leases("a")
	require.Error(t, dial(b.identity.config(anyone)))
	p.leases("a", "b")
	a.wait(1, ReasonProgrammed)

	// Somebody else answers at the address in the leader's Lease.
	other := p.start("c")
	other.SetReplicas([]Replica{{Name: "b", Certificate: b.Fingerprint()}})
	before := testutil.ToFloat64(b.metrics.sent)
	_, err = b.reportTo(t.Context(), Replica{Name: "a", Address: other.address, Certificate: a.Fingerprint()})
	require.ErrorContains(t, err, "does not show the certificate that the Lease of a names")
	require.InDelta(t, before, testutil.ToFloat64(b.metrics.sent), 200, "nothing is told")

	// A replica that does not lead takes nothing.
	welcomed, err := a.reportTo(t.Context(), Replica{Name: "c", Address: other.address, Certificate: other.Fingerprint()})
	require.False(t, welcomed)
	require.Error(t, err)
	other.SetReplicas([]Replica{{Name: "a", Certificate: a.Fingerprint()}})
	_, err = a.reportTo(t.Context(), Replica{Name: "c", Address: other.address, Certificate: other.Fingerprint()})
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.ErrorContains(t, err, "does not lead")
}
