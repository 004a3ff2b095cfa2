package harness_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/test/harness"
)

func TestProcessTakesItsGroupWithIt(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*harness.Process){
		"killed":  (*harness.Process).Kill,
		"stopped": (*harness.Process).Stop,
		"by itself": func(p *harness.Process) {
			_ = syscall.Kill(p.PID(), syscall.SIGKILL)
			<-p.Exited()
		},
		"while paused": func(p *harness.Process) { p.Pause(); p.Stop() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := harness.Start(t, harness.Command{Path: "/bin/sh", Args: []string{"-c", "sleep 1000 & sleep 1000 & wait"}})
			harness.Eventually(t, 5*time.Second, "three processes", func() error {
				if n := len(harness.Group(p.PID())); n != 3 {
					return fmt.Errorf("there are %d", n)
				}
				return nil
			})
			end(p)
			require.False(t, p.Running())
			harness.RequireGone(t, p.PID())
		})
	}
}

func TestProcessDiesWithTheTest(t *testing.T) {
	t.Parallel()
	if file := os.Getenv("HARNESS_TEST_ORPHAN"); file != "" {
		p := harness.Start(t, harness.Command{Path: "/bin/sleep", Args: []string{"1000"}})
		require.NoError(t, os.WriteFile(file, []byte(strconv.Itoa(p.PID())), 0o600))
		select {} // until the parent kills it
	}
	file := filepath.Join(t.TempDir(), "pid")
	self := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProcessDiesWithTheTest$")
	self.Env = append(os.Environ(), "HARNESS_TEST_ORPHAN="+file, "CAUSEWAY_LOGS="+t.TempDir())
	require.NoError(t, self.Start())
	var pid int
	harness.Eventually(t, 20*time.Second, "the other test's process", func() error {
		data, err := os.ReadFile(file)
		if err == nil {
			pid, err = strconv.Atoi(string(data))
		}
		return err
	})
	require.Len(t, harness.Group(pid), 1)
	require.NoError(t, self.Process.Kill())
	require.Error(t, self.Wait())
	harness.RequireGone(t, pid)
}

func TestLogsAreKeptOnFailureOnly(t *testing.T) {
	t.Parallel()
	for _, fails := range []bool{true, false} {
		var logged strings.Builder
		var file string
		err := harness.Run(t.Context(), "program", func(format string, args ...any) {
			fmt.Fprintf(&logged, format+"\n", args...)
		}, func(_ context.Context, t harness.TB) {
			p := harness.Start(t, harness.Command{Name: "speaker", Path: "/bin/sh", Args: []string{"-c", "echo last words"}})
			<-p.Exited()
			file = p.LogFile()
			if fails {
				t.Fatalf("broken on purpose")
			}
		})
		if !fails {
			require.NoError(t, err)
			require.NoFileExists(t, file)
			continue
		}
		require.EqualError(t, err, "broken on purpose")
		require.Contains(t, logged.String(), file)
		require.Contains(t, logged.String(), "last words")
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, "last words\n", string(data))
		require.NoError(t, os.RemoveAll(filepath.Dir(file)))
	}
}

func TestMissingToolSaysHowToGetIt(t *testing.T) {
	t.Setenv("CAUSEWAY_TOOLS", t.TempDir())
	_, err := harness.FindTool("envoy")
	require.ErrorContains(t, err, "make tools")
	require.ErrorContains(t, err, "test/tools/get venv")
}

func TestPortsAreGivenOnce(t *testing.T) {
	t.Parallel()
	if os.Getenv("HARNESS_TEST_PORTS") != "" {
		for range 200 {
			fmt.Println("port", harness.FreePort(t))
		}
		return
	}
	var mu sync.Mutex
	given := map[string]int{}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			self := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPortsAreGivenOnce$", "-test.v")
			self.Env = append(os.Environ(), "HARNESS_TEST_PORTS=1")
			out, err := self.CombinedOutput()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				given[string(out)] += 2
			}
			for line := range strings.Lines(string(out)) {
				if port, ok := strings.CutPrefix(line, "port "); ok {
					given[port]++
				}
			}
		})
	}
	all.Wait()
	// The processes do not all run at the same time, and one that has ended gives
	// its ports back; within one process none may repeat.
	require.GreaterOrEqual(t, len(given), 200)
	for port, n := range given {
		require.LessOrEqual(t, n, 4, port)
	}
	mine := map[int]bool{}
	for range 500 {
		port := harness.FreePort(t)
		require.False(t, mine[port], "port %d twice", port)
		mine[port] = true
	}
}

func TestAddressesAreReachable(t *testing.T) {
	t.Parallel()
	seen := map[netip.Addr]bool{}
	for _, a := range append(harness.Addresses(t, 300), harness.Addresses(t, 300)...) {
		require.False(t, seen[a], "%s twice", a)
		require.False(t, a.IsLoopback())
		seen[a] = true
	}
	for a := range seen {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", net.JoinHostPort(a.String(), "80"))
		require.NoError(t, err)
		c, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(t.Context(), "tcp", l.Addr().String())
		require.NoError(t, err)
		require.NoError(t, c.Close())
		require.NoError(t, l.Close())
	}
}
