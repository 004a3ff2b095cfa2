package cluster

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"

	"github.com/causeway-mesh/causeway/test/harness"
)

// baseObjects are what every cluster has: CoreDNS, and what lets the API server ask the kubelet.
//
//go:embed base.yaml
var baseObjects string

// Up starts the cluster, or sees that it runs, and gives it images, beside those that it
// needs itself. It returns when the node and the names of Services are ready. program is
// one that calls [Init] when it is run as `program init DIR`: test/cluster/run.
func (c *Cluster) Up(ctx context.Context, log *slog.Logger, program string, images []Image) error {
	if err := c.check(); err != nil {
		return err
	}
	if err := mkdirs(c.path("images")); err != nil {
		return err
	}
	if c.PID() == 0 {
		// What one left that was killed.
		if err := c.Down(ctx); err != nil {
			return err
		}
		configure := func(_ context.Context, t harness.TB) {
			if err := c.configure(t); err != nil {
				t.Fatalf("%v", err)
			}
		}
		if err := harness.Run(ctx, "cluster", nil, configure); err != nil {
			return err
		}
		if err := c.start(program); err != nil {
			return err
		}
		log.Info("started", "pid", c.PID(), "dir", c.dir)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { // nobody waits for a cluster that has ended
		_ = until(ctx, time.Hour, func() error {
			if c.PID() == 0 {
				cancel(errors.New("the cluster's first process has ended"))
			}
			return errRuns
		})
	}()
	err := c.load(ctx, log, images)
	if err == nil {
		err = c.ready(ctx, log)
	}
	if err != nil {
		return errors.Join(context.Cause(ctx), err, c.lastWords())
	}
	return nil
}

var errRuns = errors.New("it runs")

// check says what the machine lacks.
func (c *Cluster) check() error {
	if os.Geteuid() != 0 {
		return errors.New("a cluster needs root: it makes namespaces, mounts and control groups")
	}
	for _, taken := range []string{"/run", "/proc", "/sys"} {
		if c.dir == taken || strings.HasPrefix(c.dir, taken+"/") {
			return fmt.Errorf("CAUSEWAY_CLUSTER=%s: the cluster has a %s of its own; take another directory", c.dir, taken)
		}
	}
	return findTools()
}

// start starts the first process in namespaces of its own.
func (c *Cluster) start(program string) error {
	log, err := os.OpenFile(c.path("log", "init.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(program, "init", c.dir)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, "/"
	cmd.Env = []string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "CAUSEWAY_TOOLS=" + os.Getenv("CAUSEWAY_TOOLS"),
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the cluster: %w", err)
	}
	pid := cmd.Process.Pid
	go func() { _ = cmd.Wait() }() // as long as this program runs, no dead process stays
	return os.WriteFile(c.path("pid"), fmt.Appendf(nil, "%d %s\n", pid, startOf(pid)), 0o644)
}

// load makes images and gives them to the node.
func (c *Cluster) load(ctx context.Context, log *slog.Logger, images []Image) error {
	base, err := c.base(ctx)
	if err != nil {
		return err
	}
	serving := func() error {
		_, err := os.Stat(fmt.Sprintf("/proc/%d/root%s", c.PID(), socket))
		return err
	}
	if err := until(ctx, 30*time.Second, serving); err != nil {
		return fmt.Errorf("containerd: %w", err)
	}
	for _, i := range append(base, images...) {
		began := time.Now()
		changed, err := c.Load(ctx, i)
		if err != nil {
			return err
		}
		if changed {
			log.Info("image", "name", i.Name, "took", time.Since(began).Round(10*time.Millisecond))
		}
	}
	return nil
}

// ready waits until the node runs pods and answers for names.
func (c *Cluster) ready(ctx context.Context, log *slog.Logger) error {
	config, err := c.Config()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	err = until(ctx, time.Minute, func() error {
		_, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("the API server is not ready: %w", err)
	}
	if _, err := c.Apply(baseObjects); err != nil {
		return err
	}
	waits, ctx := errgroup.WithContext(ctx)
	waits.Go(func() error { return c.WaitNode(ctx, 2*time.Minute) })
	waits.Go(func() error { return c.WaitDeployment(ctx, "kube-system", "coredns", 3*time.Minute) })
	if err := waits.Wait(); err != nil {
		return err
	}
	log.Info("ready", "kubeconfig", c.Kubeconfig())
	return nil
}

// lastWords is what the first process said last, after a cluster that did not come up.
func (c *Cluster) lastWords() error {
	text, err := os.ReadFile(c.path("log", "init.log"))
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return fmt.Errorf("%s has the logs of all processes, and that of the first one ends with:\n%s",
		c.path("log"), strings.Join(lines[max(0, len(lines)-5):], "\n"))
}
