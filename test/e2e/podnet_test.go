package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/causeway-mesh/causeway/test/harness"
)

// podnet is a network namespace as a pod or a host has it, with an agent, an Envoy and rules of capture.
type podnet struct {
	*harness.Namespace
	// disk is a mount namespace, nil for the test's own; dir is the agent's state directory.
	disk  *os.File
	dir   string
	agent *harness.Process
}

// newPodnet makes the namespace; n tells it from others.
func newPodnet(t *testing.T, n int) *podnet {
	t.Helper()
	if lack := harness.NamespacesLack(); lack != "" {
		t.Skip(lack)
	}
	p := &podnet{dir: filepath.Join(os.TempDir(), fmt.Sprintf("causeway-podnet-%d-%d", os.Getpid(), n))}
	t.Cleanup(func() { _ = os.RemoveAll(p.dir) })
	require.NoError(t, os.MkdirAll(p.dir, 0o700))
	require.NoError(t, os.Chown(p.dir, harness.ProxyUser, harness.ProxyUser))
	p.Namespace = harness.NewNamespace(t, n)
	return p
}

// reboot ends all that runs inside at once, and makes the namespace anew, without the rules of capture.
func (p *podnet) reboot(t *testing.T) {
	t.Helper()
	envoy := envoyOf(t, p.agent.PID())
	p.agent.Kill()
	_ = syscall.Kill(envoy, syscall.SIGKILL)
	harness.Eventually(t, 10*time.Second, "Envoy to be gone", func() error {
		if err := syscall.Kill(envoy, 0); err == nil {
			return fmt.Errorf("%d runs", envoy)
		}
		return nil
	})
	p.Renew(t)
}

// ownDisk gives the state directory a file system of its own, of so many bytes, which outlives the agent.
func (p *podnet) ownDisk(t *testing.T, size int) {
	t.Helper()
	require.NoError(t, harness.OnThread(func() error {
		err := unix.Unshare(unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = unix.Mount("tmpfs", p.dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700,uid=1337,gid=1337", size))
		}
		if err == nil {
			p.disk, err = os.Open("/proc/thread-self/ns/mnt")
		}
		return err
	}))
	t.Cleanup(func() { _ = p.disk.Close() })
}

// onDisk runs f where the state directory is what the agent sees.
func (p *podnet) onDisk(t *testing.T, f func() error) {
	t.Helper()
	require.NoError(t, harness.OnThread(func() error {
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = unix.Setns(int(p.disk.Fd()), unix.CLONE_NEWNS)
		}
		if err == nil {
			err = f()
		}
		return err
	}))
}

// listen listens on a port inside.
func (p *podnet) listen(t *testing.T, port int) net.Listener {
	t.Helper()
	var l net.Listener
	require.NoError(t, p.Do(func() (err error) {
		l, err = net.Listen("tcp", fmt.Sprintf(":%d", port)) //nolint:noctx // closed below
		return err
	}))
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// enter returns the command that runs the binary inside, as the user of Envoy and the agent or as root.
func (p *podnet) enter(t *testing.T, asProxy bool, args ...string) harness.Command {
	t.Helper()
	path, err := binary()
	require.NoError(t, err)
	in := p.Enter()
	if p.disk != nil {
		in = append(in, fmt.Sprintf("--mount=/proc/%d/fd/%d", os.Getpid(), p.disk.Fd()))
	}
	args = append([]string{path}, args...)
	if asProxy {
		args = harness.AsProxy(args...)
	}
	return harness.Command{Name: "agent", Path: "nsenter", Args: append(in, args...), DeathSignal: syscall.SIGTERM}
}

// join starts the agent with its Envoy inside, waits for it, and captures the pod's traffic.
func (p *podnet) join(t *testing.T, server string, agent, capture []string) {
	t.Helper()
	p.start(t, server, agent...)
	p.capture(t, append([]string{"--mode", "pod"}, capture...)...)
}

// start starts the agent with its Envoy inside, and waits for it.
func (p *podnet) start(t *testing.T, server string, agent ...string) {
	t.Helper()
	args := append([]string{
		"agent", "run", "--namespace", "web", "--workload", "app", "--id", "pod-1", "--server", server, "--wait", "1s", "--drain-timeout", "10s",
		"--envoy", harness.Tool(t, "envoy"), "--state-dir", p.dir, "--listen", ":15020",
	}, agent...)
	p.agent = harness.Start(t, p.enter(t, true, append(args, "--", "--concurrency", "2")...))
	p.agent.Await(t, 30*time.Second, "Envoy to serve", func() error {
		_, err := p.get("127.0.0.1:15020", "/ready")
		return err
	})
}

// capture puts the rules in.
func (p *podnet) capture(t *testing.T, args ...string) {
	t.Helper()
	c := p.enter(t, false, append([]string{"agent", "capture", "--proxy-users", strconv.Itoa(harness.ProxyUser)}, args...)...)
	text, err := exec.Command(c.Path, c.Args...).CombinedOutput() //nolint:noctx,gosec // it ends by itself; the test's own binary
	require.NoError(t, err, "%s", text)
}
