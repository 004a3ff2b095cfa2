package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Dial connects to an address of the cluster's network: the API server's, a pod's, a
// Service's. It knows no names.
func (c *Cluster) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := c.within(func() (err error) {
		conn, err = (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen listens in the cluster's network, for example at [NodeIP].
func (c *Cluster) Listen(ctx context.Context, network, address string) (l net.Listener, err error) {
	err = c.within(func() (err error) {
		l, err = (&net.ListenConfig{}).Listen(ctx, network, address)
		return err
	})
	return l, err
}

// Command is a program that runs in the cluster's network, with its kubeconfig. It is
// started by [Cluster.Start].
func (c *Cluster) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig(), "KUBECACHEDIR="+c.path("kubectl"))
	return cmd
}

// Start starts a command in the cluster's network.
func (c *Cluster) Start(cmd *exec.Cmd) error { return c.within(cmd.Start) }

// within runs f on a thread in the cluster's network; what it starts stays there.
func (c *Cluster) within(f func() error) error {
	pid := c.PID()
	if pid == 0 {
		return fmt.Errorf("no cluster runs in %s: run `make cluster-up`", c.dir)
	}
	runtime.LockOSThread()
	ours, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer unix.Close(ours) //nolint:errcheck // a file that was read
	theirs, err := unix.Open(fmt.Sprintf("/proc/%d/ns/net", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer unix.Close(theirs) //nolint:errcheck // a file that was read
	if err := unix.Setns(theirs, unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("the cluster's network: %w (needs root)", err)
	}
	err = f()
	if back := unix.Setns(ours, unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, back) // the thread stays locked, and ends with its goroutine
	}
	runtime.UnlockOSThread()
	return err
}
