package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/mototest"
)

// clients are what a database's clients are: each has a connection that it
// keeps, and now and then connects anew.
type clients struct {
	address  string
	commands atomic.Int64
	failures atomic.Int64
	example  atomic.Value

	mu  sync.Mutex
	who map[string]int // by whom new connections were answered
}

// run is one client's life.
func (c *clients) run(end <-chan struct{}, commandsOfAConnection int) {
	var conn *harness.RedisConn
	fail := func(err error) {
		c.failures.Add(1)
		c.example.Store(err.Error())
		if conn != nil {
			_ = conn.Close()
			conn = nil
		}
		harness.TakeTime(10 * time.Millisecond)
	}
	for n := 0; ; n++ {
		select {
		case <-end:
			if conn != nil {
				_ = conn.Close()
			}
			return
		case <-time.After(5 * time.Millisecond):
		}
		if conn == nil {
			var err error
			if conn, err = harness.DialRedis(c.address, 5*time.Second); err != nil {
				fail(err)
				continue
			}
			who, err := conn.Do("GET who")
			if err != nil {
				fail(err)
				continue
			}
			c.mu.Lock()
			c.who[who]++
			c.mu.Unlock()
		}
		c.commands.Add(1)
		if _, err := conn.Do("INCR counter"); err != nil {
			fail(err)
			continue
		}
		if n%commandsOfAConnection == commandsOfAConnection-1 {
			_ = conn.Close()
			conn = nil
		}
	}
}

func (c *clients) answered() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.who
	c.who = make(map[string]int)
	return out
}

// The clients of a Redis on an instance are cut over to one in a pod: new
// connections by the share, while open ones stay until they end.
func TestTCPCutOver(t *testing.T) {
	beside(t, 0.3, 25*time.Second)
	if _, err := harness.FindTool("redis-server"); err != nil {
		t.Skip("redis-server is not installed")
	}
	const port = 6390
	moto := mototest.Start(t, mototest.Options{})
	for _, i := range moto.CreateASG(t, mototest.ASGOptions{Name: "cache", Size: 1, Tags: map[string]string{"Role": "cache"}}) {
		harness.StartRedis(t, "instance", netip.MustParseAddr(i.Address), port)
	}
	pod := harness.Addresses(t, 1)[0]
	harness.StartRedis(t, "pod", pod, port)
	dir := filepath.Join(t.TempDir(), "mesh")
	require.NoError(t, os.Mkdir(dir, 0o700))
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(dir), name), []byte(text), 0o600))
		require.NoError(t, os.Rename(filepath.Join(filepath.Dir(dir), name), filepath.Join(dir, name)))
	}
	write("mesh.yaml", redisMesh(moto, pod, port))
	plane := startReplica(t, "causeway", moto.Env(), "--config", dir, "--state-dir", t.TempDir(), "--ec2-interval", "1s")
	plane.waitReady()
	harness.Eventually(t, 30*time.Second, "both are endpoints", func() error {
		all, err := plane.endpoints("data/cache")
		if err == nil && len(all) != 2 {
			err = fmt.Errorf("%v", all)
		}
		return err
	})
	caller := startCaller(t, "i-caller", "data", moto.Zones()[0], []string{plane.xds}, "data/cache:6379")
	users := &clients{address: caller.tcp, who: make(map[string]int)}
	long := &clients{address: caller.tcp, who: make(map[string]int)}
	harness.Eventually(t, 10*time.Second, "the listener answers", func() error {
		c, err := harness.DialRedis(caller.tcp, time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Do("PING")
		return err
	})
	end := make(chan struct{})
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() { users.run(end, 5) })
	}
	for range 4 {
		running.Go(func() { long.run(end, 1<<30) })
	}
	stop := sync.OnceFunc(func() { close(end); running.Wait() })
	defer stop()
	harness.TakeTime(time.Second)
	require.Zero(t, users.answered()["pod"], "the home is the instances")
	require.Equal(t, map[string]int{"instance": 4}, long.answered())

	write("shift.yaml", `
apiVersion: mesh.causeway.dev/v1alpha1
kind: TrafficShift
metadata: {name: cache, namespace: data}
spec:
  serviceRef: {name: cache}
  steps:
  - {percent: "10", hold: 2s}
  - {percent: "50", hold: 2s}
  - {percent: "100", hold: 2s}
  guard: {successRate: {atLeast: "99"}, minRequests: 10, window: 3s}
  capacity: {minReadyPods: 1, keepSourcePercent: 100}
`)
	status := func() *v1alpha1.TrafficShiftStatus {
		body, err := plane.get(plane.admin, "/api/v1/shifts?shift=data/cache")
		require.NoError(t, err)
		var view struct{ Shifts []v1alpha1.TrafficShift }
		require.NoError(t, json.Unmarshal(body, &view))
		if len(view.Shifts) == 0 {
			return &v1alpha1.TrafficShiftStatus{}
		}
		return &view.Shifts[0].Status
	}
	for _, percent := range []v1alpha1.Percent{"10", "50", "100"} {
		harness.Eventually(t, time.Minute, string(percent)+" %", func() error {
			if s := status(); s.Percent != percent {
				text, _ := json.MarshalIndent(s, "", " ")
				return fmt.Errorf("%s", text)
			}
			return nil
		})
		harness.TakeTime(500 * time.Millisecond)
		users.answered()
		harness.TakeTime(time.Second)
		got := users.answered()
		t.Logf("%s %%: new connections %v", percent, got)
		require.Positive(t, got["pod"])
	}
	harness.Eventually(t, time.Minute, "completed", func() error {
		if s := status(); s.Phase != v1alpha1.ShiftCompleted {
			text, _ := json.MarshalIndent(s, "", " ")
			return fmt.Errorf("%s", text)
		}
		return nil
	})
	require.Empty(t, long.answered(), "connections that were open stayed open")
	stop()
	require.Zero(t, users.failures.Load()+long.failures.Load(), "%v %v", users.example.Load(), long.example.Load())
	t.Logf("%d commands, none failed", users.commands.Load()+long.commands.Load())
}

func redisMesh(moto *mototest.Moto, pod netip.Addr, port int) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Service
metadata: {name: cache, namespace: data, annotations: {mesh.causeway.dev/home: Instances}}
spec: {ports: [{name: redis, port: 6379, appProtocol: redis}]}
---
apiVersion: mesh.causeway.dev/v1alpha1
kind: InstanceGroup
metadata: {name: cache-ec2, namespace: data}
spec:
  serviceRef: {name: cache}
  region: %s
  selector: {autoScalingGroups: [cache]}
  ports: [{name: redis, port: %d}]
  healthCheck: {interval: 1s}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: cache-pods, namespace: data, labels: {kubernetes.io/service-name: cache}}
addressType: IPv4
ports: [{name: redis, port: %d}]
endpoints:
- {addresses: [%s], zone: %s, targetRef: {kind: Pod, namespace: data, name: cache-0}}
`, moto.Region(), port, port, pod, moto.Zones()[0])
}
