package capture_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/causeway-mesh/causeway/xds/agent/capture"
)

// What the commands say, in the order of a careful person on a host.
func TestRun(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "capture.yaml")
	require.NoError(t, os.WriteFile(file, []byte("mode: host\nproxy-users: 991\ndestinations: [192.0.2.7:3306]\ndns: 'off'\n"), 0o600))
	n := newNamespace(t)
	before := n.dump(t)
	says := func(want string, o capture.RunOptions) {
		t.Helper()
		require.NoError(t, n.Do(func() error {
			got, err := capture.Run(o)
			if err == nil && got != want {
				err = fmt.Errorf("it says %q", got)
			}
			return err
		}))
	}
	now := func(want string) {
		t.Helper()
		require.NoError(t, n.Do(func() error {
			if got := capture.Now(); !regexp.MustCompile("^(" + want + ")$").MatchString(got) {
				return fmt.Errorf("it is %q", got)
			}
			return nil
		}))
	}
	released := func(want string) {
		t.Helper()
		require.NoError(t, n.Do(func() error {
			got, err := capture.Release(t.Context(), 0)
			if err == nil && got != want {
				err = fmt.Errorf("it says %q", got)
			}
			return err
		}))
	}
	now("off")
	require.NoError(t, n.Do(func() error {
		text, err := capture.Run(capture.RunOptions{File: file, DryRun: true, UntilConfirmed: time.Minute})
		require.Contains(t, text, "table inet causeway {")
		require.Contains(t, text, "tcp timeout 60000ms")
		return err
	}))
	require.Equal(t, before, n.dump(t), "a dry run changes nothing")
	says("captured: TCP to 240.0.0.0/4, fdca:5e0a:7a1e::/48, 192.0.2.7:3306 to port 15002. It ends in 60s unless you run 'causeway agent capture --confirm'\n",
		capture.RunOptions{File: file, UntilConfirmed: time.Minute})
	now("on for [0-9]+s, unless it is confirmed")
	says("capture is confirmed: it stays until 'causeway agent release'\n", capture.RunOptions{Confirm: true})
	now("on")
	says("captured: TCP to 198.51.100.0/24, 192.0.2.7:3306 to port 15002\n", capture.RunOptions{File: file, Flags: map[string]string{"virtual-cidrs": "198.51.100.0/24"}})
	released("released: nothing is captured, and no captured connection was open\n")
	released("nothing was captured, and nothing is changed\n")
	require.Equal(t, before, n.dump(t))

	_, err := capture.Run(capture.RunOptions{File: file, UntilConfirmed: time.Millisecond})
	require.ErrorContains(t, err, "--until-confirmed: 1ms is too short to confirm anything: write, for example, 60s")
	// A zero would be for ever, the opposite of what whoever writes it wants.
	_, err = capture.Run(capture.RunOptions{DryRun: true, Flags: map[string]string{"until-confirmed": "0s"}})
	require.ErrorContains(t, err, "--until-confirmed: 0s is too short")
	_, err = capture.Run(capture.RunOptions{Confirm: true, UntilConfirmed: time.Minute, Flags: map[string]string{"until-confirmed": "1m"}})
	require.ErrorContains(t, err, "--confirm: it confirms rules that are there")
	_, err = capture.Run(capture.RunOptions{File: file + "x"})
	require.ErrorContains(t, err, "--config: ")
	_, err = capture.Release(t.Context(), -1)
	require.ErrorContains(t, err, "--drain-timeout: ")
}

// Nobody who may not see it is told that capture is off.
func TestNowWithoutCapability(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	require.NoError(t, n.Do(func() error {
		none := [2]unix.CapUserData{}
		if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
			return err
		}
		if got := capture.Now(); got != "unknown: to see it needs CAP_NET_ADMIN (run this as root)" {
			return fmt.Errorf("it is %q", got)
		}
		return nil
	}))
}
