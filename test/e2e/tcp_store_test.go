package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/mototest"
)

// store answers each command with its name, as far as harness.RedisConn needs it,
// and counts connections, also those that say nothing.
type store struct {
	name, address string
	accepted      atomic.Int64

	mu       sync.Mutex
	listener net.Listener
	open     []net.Conn
}

func startStore(t *testing.T, name, address string, port int) *store {
	t.Helper()
	s := &store{name: name, address: net.JoinHostPort(address, strconv.Itoa(port))}
	s.start(t)
	t.Cleanup(s.stop)
	return s
}

func (s *store) start(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", s.address) //nolint:noctx // closed by stop
	require.NoError(t, err)
	s.mu.Lock()
	s.listener = listener
	s.mu.Unlock()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			s.accepted.Add(1)
			s.mu.Lock()
			if s.listener != listener {
				_ = c.Close()
			} else {
				s.open = append(s.open, c)
			}
			s.mu.Unlock()
			go s.serve(c)
		}
	}()
}

func (s *store) serve(c net.Conn) {
	defer c.Close()
	for lines := bufio.NewScanner(c); lines.Scan(); {
		if _, err := fmt.Fprintf(c, "+%s\r\n", s.name); err != nil {
			return
		}
	}
}

// stop ends the store and its connections, as the end of its process does.
func (s *store) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return
	}
	_ = s.listener.Close()
	for _, c := range s.open {
		_ = c.Close()
	}
	s.listener, s.open = nil, nil
}

// ask opens a connection and returns it with the name of the store that answers.
func ask(address string) (*harness.RedisConn, string, error) {
	c, err := harness.DialRedis(address, 5*time.Second)
	if err != nil {
		return nil, "", err
	}
	name, err := c.Do("GET who")
	if err != nil {
		_ = c.Close()
		return nil, "", err
	}
	return c, name, nil
}

// cutOver is a broker on an instance, one in a pod and a caller of both.
type cutOver struct {
	t        *testing.T
	dir      string
	plane    *replica
	caller   *caller
	instance string
	old, new *store
}

// newCutOver starts all with a TrafficShift that is paused at 0 %. Nothing but
// the TrafficShift says that the TCP port is a store's.
func newCutOver(t *testing.T) *cutOver {
	t.Helper()
	moto := mototest.Start(t, mototest.Options{})
	instance := moto.CreateASG(t, mototest.ASGOptions{Name: "cache", Size: 1, Tags: map[string]string{"Role": "cache"}})[0]
	const port = 6391
	pod := harness.Addresses(t, 1)[0]
	c := &cutOver{t: t, dir: t.TempDir(), instance: instance.ID}
	c.old = startStore(t, "old", instance.Address, port)
	c.new = startStore(t, "new", pod.String(), port)
	c.write("mesh.yaml", strings.ReplaceAll(strings.Replace(redisMesh(moto, pod, port),
		"{name: redis, port: 6379, appProtocol: redis}", "{name: tcp-events, port: 7000}", 1), "name: redis,", "name: tcp-events,"))
	c.shift(true, "")
	c.plane = startReplica(t, "causeway", moto.Env(), "--config", c.dir, "--state-dir", t.TempDir(), "--ec2-interval", "1s")
	c.plane.waitReady()
	c.await("the cut-over waits", func(s *v1alpha1.TrafficShiftStatus) bool { return s.Phase == v1alpha1.ShiftPaused })
	c.oldIs(discovery.Healthy)
	c.caller = startCaller(t, "i-caller", "data", moto.Zones()[0], []string{c.plane.xds}, "data/cache:7000")
	c.answers("old")
	return c
}

func (c *cutOver) write(name, text string) {
	c.t.Helper()
	draft := filepath.Join(c.t.TempDir(), name)
	require.NoError(c.t, os.WriteFile(draft, []byte(text), 0o600))
	require.NoError(c.t, os.Rename(draft, filepath.Join(c.dir, name)))
}

// shift writes the TrafficShift, which cuts over at once when it is not paused.
func (c *cutOver) shift(paused bool, failover v1alpha1.FailoverMode) {
	c.t.Helper()
	text := fmt.Sprintf(`apiVersion: mesh.causeway.dev/v1alpha1
kind: TrafficShift
metadata: {name: cache, namespace: data}
spec:
  serviceRef: {name: cache}
  paused: %t
  steps: [{percent: "100", hold: 1h}]
  guard: {successRate: {atLeast: "99"}, minRequests: 10, window: 2s}
  capacity: {minReadyPods: 1, keepSourcePercent: 100}
  onFailure: HoldStep
`, paused)
	if failover != "" {
		text += fmt.Sprintf("  failover: %s\n", failover)
	}
	c.write("shift.yaml", text)
}

// await waits until the TrafficShift's status is as wanted.
func (c *cutOver) await(what string, is func(*v1alpha1.TrafficShiftStatus) bool) {
	c.t.Helper()
	harness.Eventually(c.t, time.Minute, what, func() error {
		body, err := c.plane.get(c.plane.admin, "/api/v1/shifts?shift=data/cache")
		if err != nil {
			return err
		}
		var view struct{ Shifts []v1alpha1.TrafficShift }
		if err := json.Unmarshal(body, &view); err != nil {
			return err
		}
		if len(view.Shifts) == 0 || !is(&view.Shifts[0].Status) {
			return fmt.Errorf("%s", body)
		}
		return nil
	})
}

// oldIs waits until the control plane has this health of the old store and,
// once there is one, the caller's Envoy has it too.
func (c *cutOver) oldIs(want discovery.Health) {
	c.t.Helper()
	harness.Eventually(c.t, time.Minute, fmt.Sprintf("the old store is %s", want), func() error {
		all, err := c.plane.endpoints("data/cache")
		if e := all[c.instance]; err == nil && e.Health != want.String() {
			return fmt.Errorf("%+v", all)
		}
		if err != nil || c.caller == nil {
			return err
		}
		hosts := string(c.caller.Admin(c.t, "/clusters"))
		healthy := strings.Contains(hosts, c.old.address+"::health_flags::healthy")
		if !strings.Contains(hosts, c.old.address+"::health_flags::") || healthy != (want == discovery.Healthy) {
			return fmt.Errorf("Envoy has %s", hosts)
		}
		return nil
	})
}

// answers waits until new connections are answered by this store.
func (c *cutOver) answers(want string) {
	c.t.Helper()
	harness.Eventually(c.t, time.Minute, "the "+want+" store answers", func() error {
		conn, name, err := ask(c.caller.tcp)
		if err != nil {
			return err
		}
		_ = conn.Close()
		if name != want {
			return fmt.Errorf("the %s store answers", name)
		}
		return nil
	})
}

// nobody opens connections, of which no store may answer one.
func (c *cutOver) nobody() {
	c.t.Helper()
	for range 20 {
		_, name, err := ask(c.caller.tcp)
		require.Error(c.t, err, "the %s store answers", name)
	}
}

// While a cut-over of a store waits at 0 %, no connection reaches the new store,
// whatever becomes of the old one: it would write a second history. Once it is
// cut over, new connections go to the new store alone, and open ones live on.
func TestTCPStoresDoNotStandIn(t *testing.T) {
	beside(t, 0.15, 60*time.Second)
	c := newCutOver(t)
	c.old.stop()
	c.nobody() // while nobody but Envoy knows
	c.oldIs(discovery.Unhealthy)
	c.nobody() // and when all know
	c.old.start(t)
	c.answers("old")
	c.oldIs(discovery.Healthy)
	c.answers("old")
	require.Zero(t, c.new.accepted.Load(), "connections at the new store")

	long, name, err := ask(c.caller.tcp)
	require.NoError(t, err)
	defer long.Close()
	require.Equal(t, "old", name)
	c.shift(false, "")
	c.await("100 %", func(s *v1alpha1.TrafficShiftStatus) bool { return s.Percent == "100" })
	c.answers("new")
	for range 20 {
		conn, name, err := ask(c.caller.tcp)
		require.NoError(t, err)
		require.Equal(t, "new", name)
		require.NoError(t, conn.Close())
	}
	name, err = long.Do("GET who")
	require.NoError(t, err, "a connection that was open stays open")
	require.Equal(t, "old", name)

	c.new.stop()
	c.nobody()
	// Who says that both have the same data gets the other one.
	c.shift(false, v1alpha1.FailoverOtherBacking)
	c.answers("old")
}
