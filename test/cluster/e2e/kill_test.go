package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/test/harness"
)

// mostInFlight is how many requests may be under way in a process that is killed: at a hundred per second, of which each takes
// some ten milliseconds, there are one or two.
const mostInFlight = 10

// kills ends processes that members live by, without a warning, under load. The node's own lose nothing. A member's own loses
// what is under way in it, which is counted apart.
func (c *onCluster) kills(t *testing.T, loadIP string) {
	t.Helper()
	for _, name := range []string{"kubelet", "containerd"} {
		before := c.load(t, loadIP)
		killed := c.daemon(t, name)
		require.NoError(t, syscall.Kill(killed, syscall.SIGKILL))
		harness.Eventually(t, time.Minute, name+" to run again", func() error {
			if now := c.daemon(t, name); now == 0 || now == killed {
				return fmt.Errorf("its process is %d", now)
			}
			return nil
		})
		c.await(t, loadIP, before.Sent+500)
		r := c.load(t, loadIP)
		require.Equalf(t, before.Failed, r.Failed, "%s killed: %+v", name, r.Failures)
		t.Logf("%s killed: %d requests, none failed", name, r.Sent-before.Sent)
	}
	for _, name := range []string{"envoy", "causeway"} {
		pod := c.pod(t, "app=front")
		before := c.load(t, loadIP)
		killed := c.inPod(t, pod.Name, name)
		require.NotZero(t, killed)
		require.NoError(t, syscall.Kill(killed, syscall.SIGKILL))
		harness.Eventually(t, time.Minute, name+" to run again", func() error {
			if now := c.inPod(t, pod.Name, name); now == 0 || now == killed {
				return fmt.Errorf("its process is %d", now)
			}
			return nil
		})
		require.NoError(t, c.WaitPod(t.Context(), "web", pod.Name, time.Minute))
		c.await(t, loadIP, before.Sent+500)
		r := c.load(t, loadIP)
		t.Logf("%s of a member killed: %d requests, %d failed that were under way in it: %+v", name, r.Sent-before.Sent, r.Failed-before.Failed, r.Failures)
		require.LessOrEqualf(t, r.Failed-before.Failed, int64(mostInFlight), "%s: %+v", name, r.Failures)
	}
}

// await waits until a load has sent so many requests.
func (c *onCluster) await(t *testing.T, loadIP string, sent int64) {
	t.Helper()
	harness.Eventually(t, 15*time.Minute, fmt.Sprintf("%d requests", sent), func() error {
		if r := c.load(t, loadIP); r.Sent < sent {
			return fmt.Errorf("%d are sent", r.Sent)
		}
		return nil
	})
}

// daemon is the process of one of the node's own programs, 0 for none.
func (c *onCluster) daemon(t *testing.T, name string) int {
	t.Helper()
	namespace, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(c.PID()), "ns", "pid"))
	require.NoError(t, err)
	return find(t, func(dir string) bool {
		own, err := os.Readlink(filepath.Join(dir, "ns", "pid"))
		return err == nil && own == namespace && comm(dir) == name
	})
}

// inPod is the process of a program in a pod, 0 for none.
func (c *onCluster) inPod(t *testing.T, pod, name string) int {
	t.Helper()
	return find(t, func(dir string) bool {
		env, err := os.ReadFile(filepath.Join(dir, "environ"))
		return err == nil && strings.Contains(string(env), "HOSTNAME="+pod+"\x00") && comm(dir) == name
	})
}

func comm(dir string) string {
	text, _ := os.ReadFile(filepath.Join(dir, "comm"))
	return strings.TrimSpace(string(text))
}

// find returns the process whose directory in /proc is the one that is sought, 0 for none.
func find(t *testing.T, is func(dir string) bool) int {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(t, err)
	for _, dir := range all {
		if is(dir) {
			pid, err := strconv.Atoi(filepath.Base(dir))
			require.NoError(t, err)
			return pid
		}
	}
	return 0
}
