package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/causeway-mesh/causeway/test/harness"
)

// podnet is a network namespace as a pod has it, with an agent, an Envoy and rules of capture. The test itself is what is
// outside of it: the node, and other pods.
type podnet struct {
	file *os.File
	n    int
	// disk is a mount namespace, nil for the test's own; dir is the agent's state directory.
	disk *os.File
	dir  string
	// address and address6 are the pod's, node that of the other end.
	address, address6, node string
	agent                   *harness.Process
}

// proxyUser is who Envoy and the agent run as.
const proxyUser = "1337"

// newPodnet makes the namespace; n tells it from others.
func newPodnet(t *testing.T, n int) *podnet {
	t.Helper()
	for _, program := range []string{"nsenter", "setpriv"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not there to start Envoy in a namespace: apt-get install util-linux", program)
		}
	}
	if users, err := os.ReadFile("/proc/self/uid_map"); err != nil || strings.Join(strings.Fields(string(users)), " ") != "0 0 4294967295" {
		t.Skip("Envoy runs as a user of its own here, for which this test needs root")
	}
	p := &podnet{n: n, address: fmt.Sprintf("192.0.2.%d", 4*n+2), address6: fmt.Sprintf("2001:db8:%d::2", n), node: fmt.Sprintf("192.0.2.%d", 4*n+1)}
	p.dir = filepath.Join(os.TempDir(), fmt.Sprintf("causeway-podnet-%d-%d", os.Getpid(), n))
	t.Cleanup(func() { _ = os.RemoveAll(p.dir) })
	p.makeDir(t)
	p.connect(t)
	t.Cleanup(func() {
		ip(t, nil, fmt.Sprintf("link delete pod%d\n", n))
		_ = p.file.Close()
	})
	return p
}

func (p *podnet) makeDir(t *testing.T) {
	t.Helper()
	require.NoError(t, os.MkdirAll(p.dir, 0o700))
	require.NoError(t, os.Chown(p.dir, 1337, 1337)) //nolint:gosec // the test's own
}

// connect makes the namespace and its link.
func (p *podnet) connect(t *testing.T) {
	t.Helper()
	n := p.n
	require.NoError(t, onThread(func() error {
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			p.file, err = os.Open("/proc/thread-self/ns/net")
		}
		return err
	}))
	ip(t, nil, fmt.Sprintf(`link add pod%[1]d type veth peer name eth0 netns /proc/%[2]d/fd/%[3]d
address add %[4]s/30 dev pod%[1]d
address add 2001:db8:%[1]d::1/64 dev pod%[1]d nodad
link set pod%[1]d up
`, n, os.Getpid(), p.file.Fd(), p.node))
	ip(t, p, fmt.Sprintf(`link set lo up
address add %s/30 dev eth0
address add %s/64 dev eth0 nodad
link set eth0 up
route add default via %s
`, p.address, p.address6, p.node))
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
	ip(t, nil, fmt.Sprintf("link delete pod%d\n", p.n))
	require.NoError(t, p.file.Close())
	p.connect(t)
}

// ownDisk gives the state directory a file system of its own, of so many bytes, which outlives the agent.
func (p *podnet) ownDisk(t *testing.T, size int) {
	t.Helper()
	require.NoError(t, onThread(func() error {
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
	require.NoError(t, onThread(func() error {
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

// onThread runs f on a thread that ends with it: nobody else gets what f makes of it.
func onThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		result <- f()
	}()
	return <-result
}

// do runs f inside; sockets that it makes stay there.
func (p *podnet) do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(p.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
}

// ip runs commands of ip(8), inside of a pod if it is not nil.
func ip(t *testing.T, p *podnet, commands string) {
	t.Helper()
	run := func() error {
		c := exec.Command("ip", "-batch", "-") //nolint:noctx // it ends by itself
		c.Stdin = strings.NewReader(commands)
		out, err := c.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return err
	}
	if p != nil {
		require.NoError(t, p.do(run))
	} else {
		require.NoError(t, run())
	}
}

// listen listens on a port inside.
func (p *podnet) listen(t *testing.T, port int) net.Listener {
	t.Helper()
	var l net.Listener
	require.NoError(t, p.do(func() (err error) {
		l, err = net.Listen("tcp", fmt.Sprintf(":%d", port)) //nolint:noctx // closed below
		return err
	}))
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// dial connects from inside. The name is not resolved there: addresses have no names.
func (p *podnet) dial(_ context.Context, network, address string) (c net.Conn, err error) {
	err = p.do(func() (err error) {
		c, err = net.DialTimeout(network, address, 10*time.Second) //nolint:noctx // a limit of its own
		return err
	})
	return c, err
}

// enter returns the command that runs the binary inside as a user.
func (p *podnet) enter(t *testing.T, user string, args ...string) harness.Command {
	t.Helper()
	path, err := binary()
	require.NoError(t, err)
	as := []string{fmt.Sprintf("--net=/proc/%d/fd/%d", os.Getpid(), p.file.Fd())}
	if p.disk != nil {
		as = append(as, fmt.Sprintf("--mount=/proc/%d/fd/%d", os.Getpid(), p.disk.Fd()))
	}
	if user != "" {
		as = append(as, "setpriv", "--reuid", user, "--regid", user, "--clear-groups")
	}
	return harness.Command{Name: "agent", Path: "nsenter", Args: append(append(as, path), args...), DeathSignal: syscall.SIGTERM}
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
	p.agent = harness.Start(t, p.enter(t, proxyUser, append(args, "--", "--concurrency", "2")...))
	p.agent.Await(t, 30*time.Second, "Envoy to serve", func() error {
		_, err := p.get("127.0.0.1:15020", "/ready")
		return err
	})
}

// capture puts the rules in.
func (p *podnet) capture(t *testing.T, args ...string) {
	t.Helper()
	c := p.enter(t, "", append([]string{"agent", "capture", "--proxy-users", proxyUser}, args...)...)
	text, err := exec.Command(c.Path, c.Args...).CombinedOutput() //nolint:noctx,gosec // it ends by itself; the test's own binary
	require.NoError(t, err, "%s", text)
}
