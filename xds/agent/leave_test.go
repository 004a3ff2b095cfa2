package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/agent/ec2"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// serving runs what follows the reasons to leave, and the socket for commands, with an Envoy of which so much is open.
func serving(t *testing.T, open *atomic.Int64, change func(*Options)) *Agent {
	t.Helper()
	envoy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/listeners":
			fmt.Fprint(w, `{}`)
		case "/stats":
			fmt.Fprintf(w, `{"stats": [{"name": "http.sidecar.downstream_rq_active", "value": %d}]}`, open.Load())
		}
	}))
	t.Cleanup(envoy.Close)
	o := options(t)
	o.Bootstrap.AdminListen, o.DrainTimeout = strings.TrimPrefix(envoy.URL, "http://"), time.Minute
	if change != nil {
		change(&o)
	}
	a, err := New(o)
	require.NoError(t, err)
	a.running = true
	l, err := a.listenControl(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() { a.leaving(ctx) })
	parts.Go(func() { _ = a.serveControl(ctx, l) })
	if a.cloud != nil {
		parts.Go(func() { a.cloud.Run(ctx) })
	}
	t.Cleanup(func() {
		cancel()
		parts.Wait()
	})
	return a
}

// A host drains when it is asked to, says so, and takes part again.
func TestDrainByCommand(t *testing.T) {
	t.Parallel()
	var open atomic.Int64
	a := serving(t, &open, nil)
	require.True(t, a.Status(t.Context()).Ready)
	var out strings.Builder
	require.NoError(t, Drain(t.Context(), DrainOptions{Dir: a.dir, For: time.Minute}, &out))
	require.Contains(t, out.String(), "no control plane answers, so callers are not told")
	require.Contains(t, out.String(), "drained: nothing passes this host's Envoy")
	s := a.Status(t.Context())
	require.False(t, s.Ready)
	require.Equal(t, "it is draining: causeway agent drain asked for it", s.Why)
	require.True(t, s.Leave.Over)
	r := a.report(t.Context())
	require.True(t, r.GetDraining())
	require.Equal(t, "DrainRequested: causeway agent drain asked for it", r.GetDrainReason())
	require.Equal(t, s.Leave.Until.Unix(), r.GetDrainUntil())

	open.Store(3)
	out.Reset()
	require.ErrorIs(t, Drain(t.Context(), DrainOptions{Dir: a.dir, For: time.Second}, &out), ErrOpen)
	require.Contains(t, out.String(), "3 requests and connections were still open")

	out.Reset()
	require.NoError(t, Drain(t.Context(), DrainOptions{Dir: a.dir, For: time.Minute, Undo: true}, &out))
	require.Equal(t, "this host takes part again\n", out.String())
	require.True(t, a.Status(t.Context()).Ready)
}

// Who cannot reach the agent is told what to do.
func TestDrainOfNobody(t *testing.T) {
	t.Parallel()
	err := Drain(t.Context(), DrainOptions{Dir: t.TempDir(), For: time.Minute}, &strings.Builder{})
	require.ErrorContains(t, err, "--state-dir: no agent answers at ")
	require.ErrorContains(t, Drain(t.Context(), DrainOptions{}, nil), "--for: 0s is no time to drain")
}

// A Gateway's Envoy has load balancers to take leave of, which another command does.
func TestDrainOfAGateway(t *testing.T) {
	t.Parallel()
	a := serving(t, &atomic.Int64{}, func(o *Options) {
		o.Bootstrap.Role, o.Bootstrap.HTTPListen, o.Bootstrap.GatewayListen = resource.Gateway, "", []string{"127.0.0.1:28080=80"}
	})
	err := Drain(t.Context(), DrainOptions{Dir: a.dir, For: time.Minute}, &strings.Builder{})
	require.EqualError(t, err, "the agent answers 409 Conflict: its Envoy serves a Gateway: 'causeway drain' takes it out")
	require.True(t, a.Status(t.Context()).Ready)
}

// What EC2 announces makes the host drain, for as long as it holds; a recommendation is shown.
func TestDrainByNotice(t *testing.T) {
	t.Parallel()
	var open atomic.Int64
	var target atomic.Value
	var turns atomic.Int64
	target.Store("InService")
	metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/latest/api/token":
			w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "300")
			fmt.Fprint(w, "token")
		case "/latest/meta-data/autoscaling/target-lifecycle-state":
			text := target.Load()
			if text == "Terminated" && turns.Add(1)%2 == 0 { // the same cause in other words, which begins nothing anew
				text = "Warmed:Terminated"
			}
			fmt.Fprint(w, text)
		case "/latest/meta-data/events/recommendations/rebalance":
			fmt.Fprint(w, `{"noticeTime": "2026-11-30T20:00:00Z"}`)
		default:
			http.NotFound(w, r)
		}
	}))
	defer metadata.Close()
	a := serving(t, &open, func(o *Options) {
		o.EC2 = EC2{Enabled: true, Endpoint: metadata.URL, Identity: &ec2.Identity{Instance: "i-1"}, every: 5 * time.Millisecond}
	})
	await := func(what string, want func(*Status) bool) {
		t.Helper()
		harness.Eventually(t, 20*time.Second, what, func() error {
			if s := a.Status(t.Context()); !want(&s) {
				return fmt.Errorf("it says %+v", s)
			}
			return nil
		})
	}
	await("the recommendation", func(s *Status) bool { return s.Ready && len(s.EC2.Notices) == 1 })
	require.Contains(t, a.report(t.Context()).GetNotices()[0], "RebalanceRecommendation: EC2 may interrupt it")
	target.Store("Terminated")
	await("draining", func(s *Status) bool {
		return s.Draining && s.Leave.Reason == ec2.AutoScalingTerminating && s.Leave.Over
	})
	require.Contains(t, a.report(t.Context()).GetDrainReason(), "AutoScalingTerminating: ")
	target.Store("InService")
	await("its end", func(s *Status) bool { return s.Ready })
}

// An instance that EC2 does not answer to is what an earlier start knew, or says what to do.
func TestIdentify(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.EC2.Hook = "drain"
	require.ErrorContains(t, o.Identify(t.Context()), "--lifecycle-hook: it has no meaning without --ec2")
	o.EC2.Enabled, o.EC2.Endpoint = true, "there"
	require.ErrorContains(t, o.Identify(t.Context()), `--imds-endpoint: "there" is not a URL`)

	away := httptest.NewServer(http.NotFoundHandler())
	away.Close()
	o.EC2, o.Bootstrap.Instance, o.Wait = EC2{Enabled: true, Endpoint: away.URL}, "", 100*time.Millisecond
	err := o.Identify(t.Context())
	require.ErrorContains(t, err, "--id: it is not known which instance this is: the instance metadata service at "+away.URL)
	require.ErrorContains(t, err, "no earlier start knew it: ")
	require.NoError(t, (&ec2.Identity{Instance: "i-9", Region: "eu-west-1", Zone: "eu-west-1a"}).Keep(o.Dir+"/identity"))
	require.NoError(t, o.Identify(t.Context()))
	require.Equal(t, []string{"i-9", "eu-west-1", "eu-west-1a"}, []string{o.Bootstrap.Instance, o.Bootstrap.Region, o.Bootstrap.Zone})
	o.EC2.Hook = "drain"
	require.ErrorContains(t, o.Identify(t.Context()), "--auto-scaling-group: the instance's metadata does not say its group")
	ended, end := context.WithCancel(t.Context())
	end()
	require.ErrorIs(t, o.Identify(ended), context.Canceled)
}

// A host waits until shortly before the announced end, by a clock that may be set meanwhile; one that is over
// already, by a clock that is wrong, shortens nothing.
func TestLeaveUntil(t *testing.T) {
	t.Parallel()
	a := serving(t, &atomic.Int64{}, func(o *Options) { o.DrainTimeout = time.Minute })
	for after, want := range map[time.Duration]time.Duration{
		2 * time.Minute: time.Minute, 30 * time.Second: 25 * time.Second, 0: time.Minute, -time.Hour: time.Minute,
	} {
		now := time.Now()
		text := fmt.Sprintf(`{"action": "terminate", "time": %q}`, now.Add(after).Round(0).UTC().Format(time.RFC3339Nano))
		metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/latest/api/token":
				w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "300")
				fmt.Fprint(w, "token")
			case strings.HasSuffix(r.URL.Path, "/spot/instance-action"):
				fmt.Fprint(w, text)
			default:
				http.NotFound(w, r)
			}
		}))
		told := make(chan struct{}, 1)
		cloud := ec2.NewWatcher(ec2.WatchOptions{Metadata: ec2.NewMetadata(metadata.URL), Every: time.Millisecond, Logger: slog.New(slog.DiscardHandler), Changed: func() {
			select {
			case told <- struct{}{}:
			default:
			}
		}})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { cloud.Run(ctx) })
		<-told
		a.mu.Lock()
		a.cloud = cloud
		a.mu.Unlock()
		l := a.cause(now)
		require.NotNil(t, l)
		require.Equal(t, want, l.Until.Sub(now), "a notice for %s later", after)
		require.Contains(t, l.Until.String(), "m=", "its clock is the one that nobody sets")
		cancel()
		running.Wait()
		metadata.Close()
	}
}
