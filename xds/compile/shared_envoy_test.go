package compile_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/test/harness"
)

// The share of a TCP Service moves new connections and leaves open ones alone.
func TestEnvoySharesConnections(t *testing.T) {
	t.Parallel()
	talks := func(name string) *backend {
		return startRaw(t, name, func(c net.Conn) {
			_, _ = fmt.Fprintln(c, name)
			_, _ = io.Copy(c, c)
		})
	}
	pod, one, two := talks("pod"), talks("i-1"), talks("i-2")
	shared := func(onPods uint32, health discovery.Health) *policy.Service {
		return both("db", policy.TCP, onPods, zone(callerZone, pod),
			policy.Zone{Name: callerZone, Endpoints: []policy.Endpoint{one.endpoint(1, health), two.endpoint(1, health)}})
	}
	at := harness.FreeAddress(t)
	m := startMesh(t, []*policy.Service{shared(0, discovery.Healthy)}, "tcp/"+at+"=web/db:80")
	type connection struct {
		net.Conn
		*bufio.Reader
	}
	connect := func() (connection, string) {
		raw, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", at)
		require.NoError(t, err)
		require.NoError(t, raw.SetDeadline(time.Now().Add(time.Minute)))
		c := connection{raw, bufio.NewReader(raw)}
		name, err := c.ReadString('\n')
		require.NoError(t, err)
		return c, name[:len(name)-1]
	}
	count := func(n int) map[string]int {
		out := make(map[string]int)
		for range n {
			c, name := connect()
			require.NoError(t, c.Close())
			if name != "pod" {
				name = "instances"
			}
			out[name]++
		}
		return out
	}
	old, name := connect()
	require.NotEqual(t, "pod", name)
	const n = 400
	for _, step := range []struct {
		onPods uint32
		pods   float64
	}{{0, 0}, {250_000, .25}, {1_000_000, 1}, {100_000, .1}, {0, 0}} {
		m.put(t, shared(step.onPods, discovery.Healthy))
		got := count(n)
		require.InDelta(t, step.pods, float64(got["pod"])/n, .09, "%d: %v", step.onPods, got)
		if step.pods == 0 || step.pods == 1 {
			require.Len(t, got, 1, "%d: %v", step.onPods, got)
		}
		_, err := fmt.Fprintln(old.Conn, "still here")
		require.NoError(t, err)
		echo, err := old.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "still here\n", echo, "an open connection stays where it is")
	}
	m.put(t, shared(0, discovery.Unhealthy))
	require.Equal(t, map[string]int{"pod": 20}, count(20), "the pods stand in")
	m.put(t, shared(0, discovery.Healthy))
	require.Equal(t, map[string]int{"instances": 20}, count(20))
	require.NoError(t, old.Close())

	// A listener whose filter chain changes closes its connections after a while.
	d, err := naming.ParseDeclaration("tcp/" + at + "=web/db:80")
	require.NoError(t, err)
	before := m.compiler.Listener(d, shared(0, discovery.Healthy))
	require.Equal(t, before, m.compiler.Listener(d, shared(250_000, discovery.Healthy)))
	require.Equal(t, before, m.compiler.Listener(d, pods("db", policy.TCP, zone(callerZone, pod))), "nor does it by the first instance")
}
