package cluster

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Init is the cluster's first process: it prepares the namespaces that [Up] has put it in,
// starts all others, and starts those again that end. It never returns without an error.
func Init(dir string) error {
	c, err := At(dir)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"control groups", func() error { return joinCgroups(c.cgroup()) }},
		{"mounts", c.mounts},
		{"network", network},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	s := &supervisor{log: log, ended: make(map[int]chan syscall.WaitStatus)}
	for _, d := range c.daemons() {
		go s.keep(d)
	}
	return s.reap()
}

// sysctls of the whole machine that the kubelet writes where they have other values. It
// finds files in their places that have the values it wants, and the machine keeps its own.
var sysctls = map[string]string{
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/keys/root_maxbytes": "25000000",
}

// mounts gives the cluster its own /proc, /run and /var. The first is of its own processes;
// what is written to the others goes to the state directory.
func (c *Cluster) mounts() error {
	upper, work := filepath.Join(inside, "var"), filepath.Join(inside, "var.work")
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
		data                 string
	}{
		// Nothing of this is seen outside, and within it mounts reach from pods to the node.
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE, ""},
		{"", "/", "", unix.MS_REC | unix.MS_SHARED, ""},
		{"proc", "/proc", "proc", 0, ""},
		{"tmpfs", "/run", "tmpfs", 0, "mode=755"},
		{c.dir, inside, "", unix.MS_BIND, ""},
		{"overlay", "/var", "overlay", 0, "lowerdir=/var,upperdir=" + upper + ",workdir=" + work},
	} {
		switch m.target {
		case inside:
			if err := mkdirs(inside); err != nil {
				return err
			}
		case "/var":
			if err := mkdirs(upper, work); err != nil {
				return err
			}
		}
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("%s: %w", m.target, err)
		}
	}
	for name, value := range sysctls {
		file := filepath.Join(inside, "sysctl", name)
		if err := mkdirs(filepath.Dir(file)); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := unix.Mount(file, filepath.Join("/proc/sys", name), "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("/proc/sys/%s: %w", name, err)
		}
	}
	return nil
}

// network sets up the loopback interface, which also has the node's address. There is no
// other, until the first pod's bridge, and no route that leads out. What the node itself sends to a
// Service needs a route until kube-proxy's rules have replaced the address.
func network() error {
	for _, args := range []string{"link set lo up", "address add " + NodeIP + "/32 dev lo", "route add " + ServiceRange + " dev lo src " + NodeIP} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", args, err, out)
		}
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return err
	}
	// Without it, what a pod of the bridge answers to another one that called it by a
	// Service's address does not come from that address.
	if err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-iptables", []byte("1"), 0o644); err != nil {
		return fmt.Errorf("%w (load the kernel module br_netfilter)", err)
	}
	return nil
}

// daemon is a process that the supervisor keeps running.
type daemon struct {
	name string
	// after is what has to accept connections before: a path of a socket or HOST:PORT.
	after []string
	args  []string
}

// supervisor is the first process of a process namespace: it collects every end there.
type supervisor struct {
	log *slog.Logger

	mu    sync.Mutex
	ended map[int]chan syscall.WaitStatus
}

// keep starts a daemon, and starts it again whenever it ends.
func (s *supervisor) keep(d daemon) {
	for _, address := range d.after {
		kind := "tcp"
		if strings.HasPrefix(address, "/") {
			kind = "unix"
		}
		for {
			conn, err := net.DialTimeout(kind, address, time.Second)
			if err == nil {
				conn.Close()
				break
			}
			<-time.After(50 * time.Millisecond)
		}
	}
	for {
		began := time.Now()
		status, err := s.run(d)
		s.log.Warn("a process has ended and is started again", "name", d.name, "after", time.Since(began), "status", status, "error", err)
		<-time.After(time.Second)
	}
}

func (s *supervisor) run(d daemon) (string, error) {
	log, err := os.OpenFile(filepath.Join(inside, "log", d.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return "", err
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return "", err
	}
	defer null.Close()
	ended := make(chan syscall.WaitStatus, 1)
	s.mu.Lock() // so that its end is not collected before it is known
	process, err := os.StartProcess(d.args[0], d.args, &os.ProcAttr{
		Dir: inside, Env: os.Environ(), Files: []*os.File{null, log, log}, Sys: &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		s.mu.Unlock()
		return "", err
	}
	s.ended[process.Pid] = ended
	s.mu.Unlock()
	// Its id in the cluster's process namespace.
	if err := os.WriteFile(filepath.Join(inside, "run", d.name), fmt.Appendln(nil, process.Pid), 0o644); err != nil {
		return "", err
	}
	status := <-ended
	if status.Signaled() {
		return status.Signal().String(), nil
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus()), nil
}

// reap collects the ends of the daemons, and of what others left behind.
func (s *supervisor) reap() error {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR: //nolint:errorlint // errnos are compared
		case err == syscall.ECHILD: //nolint:errorlint // no child yet
			<-time.After(50 * time.Millisecond)
		case err != nil:
			return err
		default:
			s.mu.Lock()
			if ended, ok := s.ended[pid]; ok {
				delete(s.ended, pid)
				ended <- status
			}
			s.mu.Unlock()
		}
	}
}

func mkdirs(paths ...string) error {
	for _, path := range paths {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
	}
	return nil
}
