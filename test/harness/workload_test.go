package harness_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/test/harness"
)

func TestWorkloads(t *testing.T) {
	t.Parallel()
	for kind, runtime := range map[harness.WorkloadKind]string{
		harness.PHP: "cli-server", harness.FPM: "fpm-fcgi", harness.Go: "go", harness.GoProcess: "go",
	} {
		t.Run(fmt.Sprint(runtime, kind), func(t *testing.T) {
			t.Parallel()
			address := harness.Addresses(t, 1)[0]
			start := func(id string, address netip.Addr, port int) *harness.Workload {
				return harness.StartWorkload(t, harness.WorkloadOptions{
					Kind: kind, Address: address, Port: port, Platform: "ec2", ID: id, Zone: "ap-northeast-1a",
				})
			}
			one := start("i-1", address, 80)
			two := start("i-2", netip.Addr{}, 0) // two of a kind do not meet
			require.Equal(t, address.String()+":80", one.Address())

			for _, w := range []*harness.Workload{one, two} {
				status, body, err := get(t, "http://"+w.Address()+"/status?code=418", 5*time.Second)
				require.NoError(t, err)
				require.Equal(t, http.StatusTeapot, status)
				var who harness.Backend
				require.NoError(t, json.Unmarshal([]byte(body), &who), body)
				require.Equal(t, "ec2", who.Platform)
				require.Equal(t, w.ID(), who.ID)
				require.Equal(t, "ap-northeast-1a", who.Zone)
				require.Equal(t, "/status", who.Path)
				require.Equal(t, "GET", who.Method)
				require.Contains(t, who.Runtime, runtime)
				require.Positive(t, who.PID)
				require.Equal(t, w.Address(), who.Headers["host"])
			}

			began := time.Now()
			status, _, err := get(t, "http://"+one.Address()+"/slow?ms=200", 5*time.Second)
			require.NoError(t, err)
			require.Equal(t, 200, status)
			require.GreaterOrEqual(t, time.Since(began), 200*time.Millisecond)

			one.SetHealthy(t, false)
			status, _, err = get(t, "http://"+one.Address()+"/healthz", 5*time.Second)
			require.NoError(t, err)
			require.Equal(t, 503, status)
			one.SetHealthy(t, true)
			status, _, err = get(t, "http://"+one.Address()+"/healthz", 5*time.Second)
			require.NoError(t, err)
			require.Equal(t, 200, status)

			one.SetFault(t, harness.Fault{Percent: 100, Code: 500, MS: 100})
			began = time.Now()
			status, body, err := get(t, "http://"+one.Address()+"/", 5*time.Second)
			require.NoError(t, err)
			require.Equal(t, 500, status)
			require.Contains(t, body, `"i-1"`, "it says who it is all the same")
			require.GreaterOrEqual(t, time.Since(began), 100*time.Millisecond)
			one.SetFault(t, harness.Fault{})
			status, _, err = get(t, "http://"+one.Address()+"/", 5*time.Second)
			require.NoError(t, err)
			require.Equal(t, 200, status)

			one.Kill()
			_, _, err = get(t, "http://"+one.Address()+"/", 5*time.Second)
			require.Error(t, err)

			// A graceful end answers what is under way; `php -S` knows none.
			answered := make(chan error, 1)
			go func() {
				_, _, err := get(t, "http://"+two.Address()+"/slow?ms=500", 5*time.Second)
				answered <- err
			}()
			harness.TakeTime(200 * time.Millisecond) // the request has to be under way
			two.Stop()
			if err := <-answered; kind != harness.PHP {
				require.NoError(t, err)
			}
			for _, w := range []*harness.Workload{one, two} {
				for _, pid := range w.PIDs() {
					harness.RequireGone(t, pid)
				}
			}
		})
	}
}

func TestEcho(t *testing.T) {
	t.Parallel()
	e := harness.StartEcho(t, "tcp-1", harness.Addresses(t, 1)[0], 0)
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", e.Address())
	require.NoError(t, err)
	defer c.Close()
	lines := bufio.NewReader(c)
	line, err := lines.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "tcp-1\n", line)
	_, err = fmt.Fprintln(c, "and back")
	require.NoError(t, err)
	line, err = lines.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "and back\n", line)
	require.Equal(t, 1, e.Conns())
	e.Kill()
	_, err = lines.ReadString('\n')
	require.Error(t, err)
}
