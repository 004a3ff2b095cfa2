// Package cluster is a real Kubernetes cluster of one node, for tests whose promise is about
// pods: etcd, kube-apiserver, controller manager, scheduler, kubelet, kube-proxy, containerd
// and CoreDNS, with images made here and no registry.
//
// All of it lives in namespaces of its own (network, processes, mounts), below one process.
// Its network has no way out: no packet of it can reach this machine's network, and what it
// changes in addresses, rules and sysctls is not this machine's. When that one process
// ends, the kernel ends all the others, and their mounts and interfaces are gone.
//
// [Up] needs root, Linux and the tools of `make cluster-up`, which calls it. A test takes
// the cluster with [Attach].
package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/causeway-mesh/causeway/test/harness"
)

// What the cluster is like. It is alone in its network, so these are the same in each.
const (
	// Node is the node's name, NodeIP its address and Zone its zone.
	Node   = "node-1"
	NodeIP = "10.250.0.1"
	Zone   = "ap-northeast-1a"
	// ServiceRange is where the ClusterIPs of Services are.
	ServiceRange = "10.96.0.0/16"

	podRange   = "10.244.0.0/16"
	nodeRange  = "10.244.0.0/24"
	dnsIP      = "10.96.0.10"
	apiIP      = "10.96.0.1" // the Service kubernetes
	domain     = "cluster.local"
	apiAddress = NodeIP + ":6443"

	// inside is where the state directory is for the cluster's own processes. Paths of
	// sockets have to be short, and the state directory's own path may be long.
	inside = "/run/cluster"
)

// Cluster is a cluster in a state directory.
type Cluster struct {
	dir string
}

// At is the cluster of a state directory, running or not. An empty dir means that of
// CAUSEWAY_CLUSTER, or .cluster in the checkout.
func At(dir string) (*Cluster, error) {
	if dir == "" {
		dir = os.Getenv("CAUSEWAY_CLUSTER")
	}
	if dir == "" {
		root, err := harness.Root()
		if err != nil {
			return nil, err
		}
		dir = filepath.Join(root, ".cluster")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	return &Cluster{dir: dir}, nil
}

// Attach is the cluster that runs, or a failed test that says how to start it.
func Attach(t harness.TB) *Cluster {
	t.Helper()
	c, err := At("")
	if err != nil {
		t.Fatalf("%v", err)
	}
	if c.PID() == 0 {
		t.Fatalf("no cluster runs in %s: run `make cluster-up`", c.dir)
	}
	return c
}

// Dir is the state directory; its log/ has each process's log.
func (c *Cluster) Dir() string { return c.dir }

// Kubeconfig is the path of the administrator's kubeconfig. The API server is in the
// cluster's network: see [Cluster.Dial] and [Cluster.Command].
func (c *Cluster) Kubeconfig() string { return c.path("kubeconfig") }

func (c *Cluster) path(elements ...string) string {
	return filepath.Join(append([]string{c.dir}, elements...)...)
}

// Config is the administrator's configuration, with no client-side rate limit.
func (c *Cluster) Config() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return nil, err
	}
	config.Dial, config.QPS = c.Dial, -1
	return config, nil
}

// PID is the process id of the cluster's first process, or 0 if the cluster does not run.
func (c *Cluster) PID() int {
	text, err := os.ReadFile(c.path("pid"))
	if err != nil {
		return 0
	}
	id, began, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	pid, err := strconv.Atoi(id)
	if err != nil || startOf(pid) != began {
		return 0
	}
	return pid
}

// startOf is when a process began, in the kernel's ticks, by which it is told from a later
// one of the same id; "" for one that has ended.
func startOf(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The second field is the program's name, in parentheses, with any characters.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return ""
	}
	return fields[19]
}

// cgroup is the name of the cluster's control group in each hierarchy.
func (c *Cluster) cgroup() string {
	sum := sha256.Sum256([]byte(c.dir))
	return "causeway-" + hex.EncodeToString(sum[:4])
}

// Down ends the cluster and removes what it has left: its control groups and its files, but
// not the images, which the next one takes up again. It ends no process but the cluster's.
func (c *Cluster) Down(ctx context.Context) error {
	if pid := c.PID(); pid != 0 {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			return fmt.Errorf("ending process %d of the cluster: %w", pid, err)
		}
		// The first process has ended once the kernel has ended all the others.
		err := until(ctx, time.Minute, func() error {
			if c.PID() != 0 {
				return fmt.Errorf("process %d of the cluster has not ended", pid)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	// A control group that has just lost its last process may be busy for a moment.
	if err := until(ctx, 20*time.Second, c.removeCgroups); err != nil {
		return err
	}
	entries, err := os.ReadDir(c.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if e.Name() != "images" {
			if err := os.RemoveAll(c.path(e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// CPU is the processor time that the cluster has taken: its own processes, and all pods.
func (c *Cluster) CPU() (time.Duration, error) {
	text, err := os.ReadFile(filepath.Join("/sys/fs/cgroup/cpuacct", c.cgroup(), "cpuacct.usage"))
	if err == nil {
		ns, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		return time.Duration(ns), err
	}
	text, err = os.ReadFile(filepath.Join("/sys/fs/cgroup", c.cgroup(), "cpu.stat"))
	if err != nil {
		return 0, err
	}
	var us int64
	_, err = fmt.Sscanf(string(text), "usage_usec %d", &us)
	return time.Duration(us) * time.Microsecond, err
}

// until calls f until it returns no error, for a time at most, and returns the last error.
func until(ctx context.Context, limit time.Duration, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w (waited %s)", err, limit)
		}
	}
}
