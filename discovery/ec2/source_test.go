package ec2

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	awsec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/mototest"
)

const patience = 15 * time.Second

// world is a running source in front of moto.
type world struct {
	t       *testing.T
	moto    *mototest.Moto
	catalog *catalog.Catalog
	source  *Source
	stop    func()
}

func setenv(t *testing.T, m *mototest.Moto) {
	t.Helper()
	for _, kv := range m.Env() {
		name, value, _ := strings.Cut(kv, "=")
		t.Setenv(name, value)
	}
}

// newWorld makes a source; run starts it.
func newWorld(t *testing.T, m *mototest.Moto, queues ...Queue) *world {
	t.Helper()
	m.Proxy().Restore(t)
	log := slog.New(slog.NewTextHandler(testWriter{t}, nil))
	w := &world{
		t: t, moto: m, catalog: catalog.New(),
		source: New(Config{Interval: 200 * time.Millisecond, Queues: queues}, log, prometheus.NewRegistry()),
	}
	w.source.http = w.source.http.WithTimeout(10 * time.Second) // moto answers slowly on a busy machine
	return w
}

func (w *world) run() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.source.Run(ctx, w.catalog) }()
	w.stop = func() {
		cancel()
		select {
		case err := <-done:
			require.ErrorIs(w.t, err, context.Canceled)
			done <- err
		case <-time.After(patience):
			w.t.Fatal("Run does not end")
		}
	}
	w.t.Cleanup(func() { w.stop() })
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func key(name string) discovery.Key { return discovery.Key{Namespace: "web", Name: name} }

func (w *world) group(name string, change func(*v1alpha1.InstanceGroup)) {
	w.t.Helper()
	g := &v1alpha1.InstanceGroup{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: name, Generation: 1}}
	g.Spec = v1alpha1.InstanceGroupSpec{
		ServiceRef: v1alpha1.ServiceReference{Name: "php-web"}, Region: w.moto.Region(),
		Ports: []v1alpha1.InstancePort{{Name: "http", Port: 80}},
	}
	change(g)
	v1alpha1.DefaultInstanceGroup(g)
	w.put(func(tx *catalog.Tx) {
		catalog.Objects.Put(tx, (&discovery.InstanceGroup{Scope: "test", Key: key(name), Object: g}).Row())
	})
}

func (w *world) asgGroup(name string, asgs ...string) {
	w.t.Helper()
	w.group(name, func(g *v1alpha1.InstanceGroup) { g.Spec.Selector.AutoScalingGroups = asgs })
}

func (w *world) put(f func(*catalog.Tx)) {
	w.t.Helper()
	_, err := w.catalog.Write(time.Time{}, func(tx *catalog.Tx) error { f(tx); return nil })
	require.NoError(w.t, err)
}

func (w *world) endpoints(name string) []discovery.Endpoint {
	set, ok := catalog.Instances.Get(w.catalog.Read(), key(name).String())
	if !ok {
		return nil
	}
	return set.Endpoints
}

func (w *world) status(name string) discovery.GroupStatus {
	st, ok := catalog.GroupStatuses.Get(w.catalog.Read(), key(name).String())
	if !ok {
		return discovery.GroupStatus{}
	}
	return *st
}

func (w *world) account() discovery.SourceStatus {
	st, ok := catalog.Sources.Get(w.catalog.Read(), accountKey{region: w.moto.Region()}.source())
	if !ok {
		return discovery.SourceStatus{}
	}
	return *st
}

// awaitIDs waits until the group has exactly these endpoints.
func (w *world) awaitIDs(name string, want []string) {
	w.t.Helper()
	slices.Sort(want)
	w.await("the endpoints of "+name, func() error {
		if got := idsOf(w.endpoints(name)); !slices.Equal(got, want) {
			return fmt.Errorf("got %v, want %v; %s", got, want, text(w.status(name)))
		}
		return nil
	})
}

func (w *world) await(what string, f func() error) {
	w.t.Helper()
	harness.Eventually(w.t, patience, what, f)
}

// sweeps waits until the account has answered n times more.
func (w *world) sweeps(n int) {
	w.t.Helper()
	for range n {
		last := w.account().LastSync
		w.await("a sweep", func() error {
			if st := w.account(); !st.LastSync.After(last) || st.Error != "" {
				return fmt.Errorf("status %+v", st)
			}
			return nil
		})
	}
}

// text shows a status, which would else be printed as its key only.
func text(st discovery.GroupStatus) string {
	return fmt.Sprintf("held %d: %q, error %q, counts %+v", st.GuardHeld, st.GuardReason, st.Error, st.Counts)
}

func idsOf(endpoints []discovery.Endpoint) []string {
	out := []string{}
	for _, e := range endpoints {
		out = append(out, e.ID)
	}
	return out
}

func instanceIDs(instances []mototest.Instance) []string {
	var out []string
	for _, i := range instances {
		out = append(out, i.ID)
	}
	slices.Sort(out)
	return out
}

// TestEC2 runs the source against a real implementation of the EC2, Auto
// Scaling, SQS and STS APIs.
func TestEC2(t *testing.T) {
	m := mototest.Start(t, mototest.Options{})
	setenv(t, m)

	t.Run("follows an auto scaling group", func(t *testing.T) {
		w := newWorld(t, m)
		want := instanceIDs(m.CreateASG(t, mototest.ASGOptions{Name: "follow", Size: 3, Tags: map[string]string{"Role": "follow"}}))
		w.run()
		w.await("the source to be trivially synced", func() error {
			if st, ok := catalog.Sources.Get(w.catalog.Read(), Scope); !ok || !st.Synced {
				return errors.New("it is not")
			}
			return nil
		})
		w.asgGroup("follow", "follow")
		w.awaitIDs("follow", want)
		_, ok := catalog.Sources.Get(w.catalog.Read(), Scope)
		require.False(t, ok)
		require.True(t, w.account().Synced)
		for _, e := range w.endpoints("follow") {
			require.Equal(t, discovery.Healthy, e.Health)
			require.NoError(t, func() error { _, err := netip.ParseAddr(e.Address); return err }())
			require.Contains(t, m.Zones(), e.Zone)
		}
		st := w.status("follow")
		require.Equal(t, v1alpha1.InstanceCounts{Desired: 3, Ready: 3}, st.Counts)

		m.ScaleASG(t, "follow", 6)
		want = instanceIDs(m.GroupInstances(t, "follow"))
		require.Len(t, want, 6)
		w.awaitIDs("follow", want)

		m.Terminate(t, want[0], want[1], want[2], want[3]) // two thirds, but EC2 says so
		w.awaitIDs("follow", want[4:])
		require.Zero(t, w.status("follow").GuardHeld)

		m.SetLifecycle(want[4], "Terminating:Wait")
		w.await("draining", func() error {
			e := w.endpoints("follow")[0]
			if e.Health != discovery.Draining || !strings.HasPrefix(e.Reason, "AutoScalingTerminating") {
				return fmt.Errorf("%+v", e)
			}
			return nil
		})
		m.SetLifecycle(want[4], "")
		m.StopInstances(t, want[4])
		w.awaitIDs("follow", want[5:])
		m.StartInstances(t, want[4])
		w.awaitIDs("follow", want[4:])

		sized := func(inService int, failed string) {
			t.Helper()
			w.await("the sizes", func() error {
				st := w.status("follow")
				if len(st.ScalingGroups) != 1 || st.ScalingGroups[0].InService != inService ||
					(st.ScalingError == "") != (failed == "") || !strings.Contains(st.ScalingError, failed) {
					return fmt.Errorf("%+v: %s", st.ScalingGroups, st.ScalingError)
				}
				return nil
			})
			g := w.status("follow").ScalingGroups[0]
			g.InService = 0
			require.Equal(t, discovery.ScalingGroup{Name: "follow", Desired: 2, Maximum: 1000, Zones: len(m.Zones())}, g)
		}
		sized(2, "")
		m.SetLifecycle(want[4], "Terminating:Wait")
		sized(1, "")
		m.Proxy().Fail(-1, mototest.EC2Error(503, "Unavailable", "x"), func(*http.Request, []byte) bool { return true })
		sized(1, "the sizes of the auto scaling groups are as of 20")
		m.SetLifecycle(want[4], "")
		w.await("the failure", func() error {
			if w.status("follow").Error == "" {
				return errors.New("there is none")
			}
			return nil
		})
		sized(1, "as of")
		m.Proxy().Restore(t)
		sized(2, "")

		w.put(func(tx *catalog.Tx) { catalog.Objects.Delete(tx, "InstanceGroup "+key("follow").String()) })
		w.await("the group to be forgotten", func() error {
			if w.endpoints("follow") != nil || w.status("follow").Scope != "" || w.account().Name != "" {
				return errors.New("there are rows left")
			}
			return nil
		})
	})

	t.Run("matches tags, and drops who loses them", func(t *testing.T) {
		w := newWorld(t, m)
		launched := m.Launch(t, mototest.LaunchOptions{Count: 4, Tags: map[string]string{"Role": "tagged", "Env": "prod"}, Spot: true})
		m.Launch(t, mototest.LaunchOptions{Count: 1, Tags: map[string]string{"Role": "tagged", "Env": "stage"}})
		w.group("tagged", func(g *v1alpha1.InstanceGroup) {
			g.Spec.Selector.Tags = map[string]string{"Role": "tagged", "Env": "prod"}
			g.Spec.Spot = v1alpha1.SpotAvoid
		})
		w.run()
		want := instanceIDs(launched)
		w.awaitIDs("tagged", want)
		require.Equal(t, v1alpha1.InstanceCounts{Desired: 4, Ready: 4, Spot: 4}, w.status("tagged").Counts)
		require.Equal(t, uint32(1), w.endpoints("tagged")[0].Weight)
		m.Untag(t, want[0], "Env")
		w.awaitIDs("tagged", want[1:])
		m.Tag(t, want[0], "Env", "prod")
		w.awaitIDs("tagged", want)
		for _, id := range want {
			m.Tag(t, id, "Env", "oops")
		}
		w.await("the guard", func() error {
			// All that are left: a sweep may come between two of the tags.
			if st := w.status("tagged"); st.GuardHeld < 3 || st.GuardHeld != len(w.endpoints("tagged")) || !strings.Contains(st.GuardReason, notSelected) {
				return errors.New(text(st))
			}
			return nil
		})
		w.source.Release(key("tagged"))
		require.Empty(t, w.endpoints("tagged"), "a release works at once")
		w.sweeps(2)
		require.Empty(t, w.endpoints("tagged"))
		require.Zero(t, w.status("tagged").GuardHeld)
	})

	t.Run("reads every page", func(t *testing.T) {
		w := newWorld(t, m)
		w.source.pageSize = 2
		for range 7 {
			m.Launch(t, mototest.LaunchOptions{Count: 1, Tags: map[string]string{"Role": "paged"}})
		}
		for i := range 4 {
			m.CreateASG(t, mototest.ASGOptions{Name: fmt.Sprintf("paged-%d", i), Size: 1, Tags: map[string]string{"Role": "paged-asg"}})
		}
		w.group("paged", func(g *v1alpha1.InstanceGroup) { g.Spec.Selector.Tags = map[string]string{"Role": "paged"} })
		w.group("paged-asg", func(g *v1alpha1.InstanceGroup) { g.Spec.Selector.Tags = map[string]string{"Role": "paged-asg"} })
		before := m.Proxy().Calls()["DescribeInstances"]
		w.run()
		w.await("all", func() error {
			if a, b := len(w.endpoints("paged")), len(w.endpoints("paged-asg")); a != 7 || b != 4 {
				return fmt.Errorf("%d and %d", a, b)
			}
			return nil
		})
		require.Greater(t, m.Proxy().Calls()["DescribeInstances"]-before, 4)
		require.Equal(t, int32(4), w.status("paged-asg").Counts.Desired)

		// The third page fails: an answer of two pages is none.
		w.sweeps(1)
		m.Proxy().Fail(-1, mototest.EC2Error(500, "InternalError", "page three"), nthCall("DescribeInstances", 3))
		w.awaitError("paged", "InternalError")
		require.Len(t, w.endpoints("paged"), 7)
		m.Proxy().Restore(t)
		w.sweeps(1)
		require.Empty(t, w.status("paged").Error)
	})

	t.Run("holds what an answer does not mention", func(t *testing.T) {
		w := newWorld(t, m)
		want := instanceIDs(m.Launch(t, mototest.LaunchOptions{Count: 5, Tags: map[string]string{"Role": "hidden"}}))
		w.group("hidden", func(g *v1alpha1.InstanceGroup) { g.Spec.Selector.Tags = map[string]string{"Role": "hidden"} })
		w.run()
		w.awaitIDs("hidden", want)
		m.Hide(want...)
		defer m.Unhide()
		w.await("the guard", func() error {
			if st := w.status("hidden"); st.GuardHeld != 5 {
				return errors.New(text(st))
			}
			return nil
		})
		w.sweeps(2)
		require.Equal(t, want, idsOf(w.endpoints("hidden")))
		require.Contains(t, w.status("hidden").GuardReason, "causeway guard release web/hidden")
		require.InDelta(t, 5, testutil.ToFloat64(w.source.metrics.held.WithLabelValues("web/hidden")), 0)

		// Failed health checks are a second source.
		w.put(func(tx *catalog.Tx) {
			catalog.Checks.Put(tx, &discovery.HealthSet{Scope: "probe", Key: key("hidden"), ByID: map[string]discovery.CheckedHealth{want[0]: {Reason: "CheckRefused"}}})
		})
		w.awaitIDs("hidden", want[1:])

		// The annotation releases what was held until then, in the past only.
		release := func(at time.Time) {
			w.group("hidden", func(g *v1alpha1.InstanceGroup) {
				g.Spec.Selector.Tags = map[string]string{"Role": "hidden"}
				g.Annotations = map[string]string{v1alpha1.GuardReleaseAnnotation: at.UTC().Format(time.RFC3339)}
			})
			w.sweeps(2)
		}
		release(time.Now().Add(time.Hour))
		require.Equal(t, want[1:], idsOf(w.endpoints("hidden")))
		require.Contains(t, w.status("hidden").GuardReason, "future")
		release(time.Now().Add(-time.Hour))
		require.Equal(t, want[1:], idsOf(w.endpoints("hidden")))
		release(time.Now())
		require.Empty(t, w.endpoints("hidden"))

		w.put(func(tx *catalog.Tx) { catalog.Checks.Delete(tx, key("hidden").String()) })
		m.Unhide() // a mistake, then: they come back, and are held anew when they vanish again
		w.awaitIDs("hidden", want)
		harness.NextSecond() // the annotation tells whole seconds
		m.Hide(want...)
		w.sweeps(3)
		require.Equal(t, want, idsOf(w.endpoints("hidden")))
	})

	t.Run("asks for what it misses", func(t *testing.T) {
		w := newWorld(t, m)
		w.group("asked", func(g *v1alpha1.InstanceGroup) { g.Spec.Selector.Tags = map[string]string{"Role": "asked"} })
		// Instances that were there when this control plane last ran, and two that are still.
		alive := m.Launch(t, mototest.LaunchOptions{Count: 2, Tags: map[string]string{"Role": "asked"}})
		want := instanceIDs(alive)
		set := &discovery.InstanceSet{Scope: "state", Key: key("asked"), Service: key("php-web")}
		for _, i := range alive {
			set.Endpoints = append(set.Endpoints, discovery.Endpoint{ID: i.ID, Address: i.Address, Zone: i.Zone})
		}
		for i := range 6 {
			id := fmt.Sprintf("i-0dead%012d", i)
			set.Endpoints = append(set.Endpoints, discovery.Endpoint{ID: id, Address: "10.9.9.9", Zone: m.Zones()[0]})
			want = append(want, id)
		}
		for i := range 5 {
			id := fmt.Sprintf("i-0e15e%012d", i)
			set.Endpoints = append(set.Endpoints, discovery.Endpoint{ID: id, Address: "10.9.9.8", Zone: "eu-west-1a"})
			want = append(want, id)
		}
		w.put(func(tx *catalog.Tx) { catalog.Instances.Put(tx, set) })
		w.run()
		// That the six do not exist is what another account would say of all; of the
		// five elsewhere it cannot know.
		slices.Sort(want)
		w.awaitIDs("asked", want)
		require.Equal(t, 11, w.status("asked").GuardHeld)
	})

	t.Run("starts from what was known", func(t *testing.T) {
		w := newWorld(t, m)
		m.Proxy().Fail(-1, mototest.EC2Error(503, "Unavailable", "down"), nil)
		w.group("known", func(g *v1alpha1.InstanceGroup) { g.Spec.Selector.Tags = map[string]string{"Role": "known"} })
		spot := discovery.Endpoint{ID: "i-2", Address: "10.0.0.2", Health: discovery.Draining, Reason: "SpotInterruption: soon", Spot: true, Weight: 1}
		w.put(func(tx *catalog.Tx) {
			for _, e := range []discovery.Endpoint{{ID: "i-1", Address: "10.0.0.1", Weight: 1}, spot} {
				catalog.Endpoints.Put(tx, &discovery.EndpointSet{
					Scope: "slices", Key: key("known-" + e.ID), Service: key("php-web"), Platform: discovery.Instances, Group: "known", Endpoints: []discovery.Endpoint{e},
				})
			}
			catalog.Endpoints.Put(tx, &discovery.EndpointSet{Scope: "slices", Key: key("pods"), Service: key("php-web"), Platform: discovery.Pods, Endpoints: []discovery.Endpoint{{ID: "p"}}})
		})
		w.run()
		w.awaitIDs("known", []string{"i-1", "i-2"})
		w.awaitError("known", "Unavailable")
		st := w.account()
		require.True(t, st.LastKnownGood)
		require.False(t, st.Synced)
		require.Equal(t, spot, w.endpoints("known")[1])
		w.stop()
		require.Empty(t, w.account().Name, "a source that does not run has no status")
		require.Empty(t, w.status("known").Error)
		require.Len(t, w.endpoints("known"), 2)

		// Another replica led meanwhile and published that i-1 is replaced.
		w.put(func(tx *catalog.Tx) {
			catalog.Endpoints.Put(tx, &discovery.EndpointSet{
				Scope: "slices", Key: key("known-i-1"), Service: key("php-web"), Platform: discovery.Instances, Group: "known",
				Endpoints: []discovery.Endpoint{{ID: "i-3", Address: "10.0.0.3", Weight: 1}},
			})
		})
		w.run()
		w.awaitIDs("known", []string{"i-2", "i-3"})
	})

	t.Run("keeps its endpoints through every failure", func(t *testing.T) { testFailures(t, m) })
	t.Run("drains on events", func(t *testing.T) { testEvents(t, m) })
	t.Run("assumes a role, and one account does not delay another", func(t *testing.T) { testAccounts(t, m) })
}

// nthCall matches the calls of an action that come after n-1 others without a page token in between.
func nthCall(action string, n int) func(*http.Request, []byte) bool {
	page := 0
	return func(r *http.Request, body []byte) bool {
		if !mototest.Action(action)(r, body) {
			return false
		}
		if !strings.Contains(string(body), "NextToken") {
			page = 0
		}
		page++
		return page >= n
	}
}

func (w *world) awaitError(name, want string) {
	w.t.Helper()
	w.await("the error "+want, func() error {
		if st, src := w.status(name), w.account(); !strings.Contains(st.Error, want) || !strings.Contains(src.Error, want) || src.ErrorSince.IsZero() {
			return fmt.Errorf("%s; source %+v", text(st), src)
		}
		return nil
	})
}

func testFailures(t *testing.T, m *mototest.Moto) {
	t.Helper()
	w := newWorld(t, m)
	w.source.http = w.source.http.WithTimeout(2 * time.Second) // enough for moto on a busy machine
	want := instanceIDs(m.CreateASG(t, mototest.ASGOptions{Name: "failures", Size: 4}))
	w.asgGroup("failures", "failures")
	w.run()
	w.awaitIDs("failures", want)
	empty := `<?xml version="1.0"?><DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>x</requestId><reservationSet/></DescribeInstancesResponse>`
	xml := func(body string) harness.Answer { return harness.Answer{Status: 200, Body: body} }
	both := mototest.Action("DescribeInstances", "DescribeAutoScalingGroups")
	for _, c := range []struct {
		name  string
		fault func(*harness.Proxy)
		error string
	}{
		{"500", func(p *harness.Proxy) {
			p.Fail(-1, mototest.EC2Error(500, "InternalError", "oops"), mototest.Action("DescribeInstances"))
		}, "InternalError"},
		{"Auto Scaling only", func(p *harness.Proxy) {
			p.Fail(-1, mototest.QueryError(500, "InternalFailure", "oops"), mototest.Action("DescribeAutoScalingGroups"))
		}, "InternalFailure"},
		{"wrong credentials", func(p *harness.Proxy) {
			p.Fail(-1, mototest.EC2Error(401, "AuthFailure", "no"), both)
		}, "AuthFailure"},
		{"no permission", func(p *harness.Proxy) {
			p.Fail(-1, mototest.QueryError(403, "AccessDenied", "no"), mototest.Action("DescribeAutoScalingGroups"))
		}, "AccessDenied"},
		{"no body", func(p *harness.Proxy) { p.Fail(-1, xml(""), both) }, "cut off"},
		{"only the beginning", func(p *harness.Proxy) { p.Fail(-1, xml(empty[:120]), both) }, "instances"},
		{"not XML", func(p *harness.Proxy) { p.Fail(-1, xml("<html>gateway<br></html>"), both) }, "instances"},
		{"another document", func(p *harness.Proxy) { p.Fail(-1, xml("<ok/>"), both) }, "cut off"},
		{"truncated", func(p *harness.Proxy) { p.Truncate(700) }, "instances"},
		{"hanging", func(p *harness.Proxy) { p.Hang() }, "instances"},
		{"cut", func(p *harness.Proxy) { p.Cut() }, "instances"},
		{"throttled", func(p *harness.Proxy) {
			p.Fail(-1, mototest.EC2Error(503, "RequestLimitExceeded", "slow down"), both)
		}, "RequestLimitExceeded"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.fault(m.Proxy())
			w.awaitError("failures", c.error)
			require.Equal(t, want, idsOf(w.endpoints("failures")))
			require.Zero(t, w.status("failures").GuardHeld)
			require.True(t, w.account().Synced)
			m.Proxy().Restore(t)
			w.sweeps(1)
			require.Empty(t, w.status("failures").Error)
			require.Equal(t, want, idsOf(w.endpoints("failures")))
		})
	}
	require.Positive(t, testutil.ToFloat64(w.source.metrics.throttles.WithLabelValues("own", m.Region())))
	require.Positive(t, testutil.ToFloat64(w.source.metrics.calls.WithLabelValues("DescribeInstances", "own", m.Region(), outcomeDenied)))
	require.Positive(t, testutil.ToFloat64(w.source.metrics.calls.WithLabelValues("DescribeInstances", "own", m.Region(), outcomeTimeout)))

	t.Run("empty success", func(t *testing.T) {
		// Auto Scaling lists them, so it is no second source for their end.
		m.Proxy().Fail(-1, xml(empty), mototest.Action("DescribeInstances"))
		w.await("the guard", func() error {
			if st := w.status("failures"); st.GuardHeld != 4 || st.Error != "" {
				return errors.New(text(st))
			}
			return nil
		})
		w.sweeps(2)
		require.Equal(t, want, idsOf(w.endpoints("failures")))
		m.Proxy().Restore(t)
		w.await("the guard to let go", func() error {
			if st := w.status("failures"); st.GuardHeld != 0 || st.GuardReason != "" {
				return errors.New(text(st))
			}
			return nil
		})
		require.Empty(t, w.endpoints("failures")[0].Reason)
	})
}

func testEvents(t *testing.T, m *mototest.Moto) {
	t.Helper()
	queue := m.CreateQueue(t, "events")
	w := newWorld(t, m, Queue{URL: queue, Region: m.Region()})
	w.source.interval = time.Hour // only events can be the reason for what happens
	want := instanceIDs(m.CreateASG(t, mototest.ASGOptions{Name: "events", Size: 3, Spot: true}))
	w.asgGroup("events", "events")
	w.run()
	w.awaitIDs("events", want)
	drains := func(id, reason string) {
		t.Helper()
		w.await(id+" to drain", func() error {
			for _, e := range w.endpoints("events") {
				if e.ID == id && e.Health == discovery.Draining && strings.HasPrefix(e.Reason, reason) {
					return nil
				}
			}
			return fmt.Errorf("%+v", w.endpoints("events"))
		})
	}
	m.SendSQS(t, queue, "no JSON")
	m.SendSQS(t, queue, m.EventBridge("aws.s3", "Object Created", nil, map[string]any{"bucket": "x"}))
	m.SendSQS(t, queue, m.EventBridge("aws.ec2", detailSpot, nil, map[string]any{}))
	m.SendSQS(t, queue, m.SpotInterruption("i-0someoneelse"))
	notice := m.SpotInterruption(want[0])
	m.SendSQS(t, queue, notice)
	m.SendSQS(t, queue, notice)
	drains(want[0], reasonSpot)
	w.await("the sweep that follows to keep it draining", func() error {
		if w.status("events").Counts.Draining != 1 {
			return errors.New("not yet")
		}
		return nil
	})
	drains(want[0], reasonSpot)

	// A recommendation drains only once there is a replacement in service.
	m.SendSQS(t, queue, m.Rebalance(want[1]))
	w.await("the recommendation", func() error {
		w.source.mu.Lock()
		defer w.source.mu.Unlock()
		if known := w.source.signals.byID[want[1]]; known == nil || known[rebalance].at.IsZero() {
			return errors.New("not seen")
		}
		return nil
	})
	for _, e := range w.endpoints("events") {
		require.Equal(t, e.ID == want[0], e.Health == discovery.Draining)
	}

	m.SendSQS(t, queue, m.TerminateLifecycle("events", want[2]))
	drains(want[2], reasonLeaving)

	m.Terminate(t, want[2])
	m.SendSQS(t, queue, m.StateChange(want[2], "terminated"))
	w.awaitIDs("events", want[:2])

	started := m.Launch(t, mototest.LaunchOptions{Count: 1, Group: "events"})
	m.SendSQS(t, queue, m.StateChange(started[0].ID, "running"))
	w.awaitIDs("events", append(instanceIDs(started), want[:2]...))

	// A storm of events is a few sweeps.
	before := m.Proxy().Calls()["DescribeAutoScalingGroups"]
	for range 60 {
		m.SendSQS(t, queue, m.StateChange(started[0].ID, "running"))
	}
	w.await("the queue to be empty", func() error {
		out, err := sqs.NewFromConfig(m.Config()).GetQueueAttributes(context.Background(), &sqs.GetQueueAttributesInput{
			QueueUrl: aws.String(queue), AttributeNames: []sqstypes.QueueAttributeName{"ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"},
		})
		if err != nil {
			return err
		}
		for name, n := range out.Attributes {
			if n != "0" {
				return fmt.Errorf("%s %s", n, name)
			}
		}
		return nil
	})
	require.LessOrEqual(t, m.Proxy().Calls()["DescribeAutoScalingGroups"]-before, 8)
	require.InDelta(t, 2, testutil.ToFloat64(w.source.metrics.messages.WithLabelValues("foreign")), 0)
	require.InDelta(t, 1, testutil.ToFloat64(w.source.metrics.messages.WithLabelValues("malformed")), 0)
}

func testAccounts(t *testing.T, m *mototest.Moto) {
	t.Helper()
	const role = "arn:aws:iam::111122223333:role/causeway"
	cfg := m.Config()
	cfg.Credentials = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(m.Config()), role))
	other, err := awsec2.NewFromConfig(cfg).RunInstances(context.Background(), &awsec2.RunInstancesInput{
		ImageId: aws.String("ami-12c6146b"), MinCount: aws.Int32(2), MaxCount: aws.Int32(2), InstanceType: "t3.small",
	})
	require.NoError(t, err)
	var theirs []string
	for _, i := range other.Instances {
		theirs = append(theirs, *i.InstanceId)
		_, err := awsec2.NewFromConfig(cfg).CreateTags(context.Background(), &awsec2.CreateTagsInput{
			Resources: []string{*i.InstanceId}, Tags: []ec2types.Tag{{Key: aws.String("Role"), Value: aws.String("shared")}},
		})
		require.NoError(t, err)
	}
	ours := instanceIDs(m.Launch(t, mototest.LaunchOptions{Count: 2, Tags: map[string]string{"Role": "shared"}}))

	w := newWorld(t, m)
	// The region eu-west-1 never answers.
	m.Proxy().Fail(-1, mototest.EC2Error(503, "RequestLimitExceeded", "x"), func(r *http.Request, _ []byte) bool {
		return strings.Contains(r.Header.Get("Authorization"), "/eu-west-1/")
	})
	shared := func(change func(*v1alpha1.InstanceGroupSpec)) func(*v1alpha1.InstanceGroup) {
		return func(g *v1alpha1.InstanceGroup) {
			g.Spec.Selector.Tags = map[string]string{"Role": "shared"}
			change(&g.Spec)
		}
	}
	w.group("broken", shared(func(s *v1alpha1.InstanceGroupSpec) { s.Region = "eu-west-1" }))
	w.group("ours", shared(func(*v1alpha1.InstanceGroupSpec) {}))
	w.group("theirs", shared(func(s *v1alpha1.InstanceGroupSpec) { s.RoleARN = role }))
	w.group("invalid", func(*v1alpha1.InstanceGroup) {})
	w.run()
	w.awaitIDs("ours", ours)
	w.awaitIDs("theirs", theirs)
	require.Contains(t, w.status("invalid").Error, "spec.selector")
	require.Positive(t, m.Proxy().Calls()["AssumeRole"])
	st, ok := catalog.Sources.Get(w.catalog.Read(), "ec2/111122223333:role/causeway/"+m.Region())
	require.True(t, ok)
	require.True(t, st.Synced)
	w.await("the broken region to say so", func() error {
		st, _ := catalog.Sources.Get(w.catalog.Read(), "ec2/own/eu-west-1")
		if st == nil || st.Error == "" || st.Ready() {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
	w.sweeps(3)

	// To point a group elsewhere is meant, but what it has goes through the guard.
	w.group("ours", shared(func(s *v1alpha1.InstanceGroupSpec) { s.RoleARN = role }))
	w.await("the guard", func() error {
		if st := w.status("ours"); st.GuardHeld != 2 || !strings.Contains(st.GuardReason, "role was changed") {
			return errors.New(text(st))
		}
		return nil
	})
	w.source.Release(key("ours"))
	w.awaitIDs("ours", theirs)
	w.await("the loop that nobody needs to end", func() error {
		if w.account().Name != "" {
			return errors.New("its status is there")
		}
		return nil
	})

	// An edit of the selector, too.
	w.group("ours", func(g *v1alpha1.InstanceGroup) {
		g.Spec.RoleARN, g.Spec.Selector.Tags = role, map[string]string{"Role": "other"}
	})
	w.await("the guard", func() error {
		if st := w.status("ours"); st.GuardHeld != 2 || !strings.Contains(st.GuardReason, "selector was edited") {
			return errors.New(text(st))
		}
		return nil
	})
}
