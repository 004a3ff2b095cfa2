package harness

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Namespace is a network namespace as a host or a pod has it, linked to the one of this process, which is what is
// outside of it: the network, a node, other pods.
type Namespace struct {
	// Address and Address6 are inside, Node is that of the other end.
	Address, Address6, Node string

	n    int
	file *os.File
}

// ProxyUser is whom Envoy and the agent run as in namespaces; what it sends is not captured.
const ProxyUser = 1337

// NamespacesLack says what is missing to make namespaces with a member of a mesh, "" for nothing: root, and programs of util-linux
// and iproute2.
func NamespacesLack() string {
	for program, of := range map[string]string{"nsenter": "util-linux", "setpriv": "util-linux", "unshare": "util-linux", "ip": "iproute2"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Sprintf("%s is not there: apt-get install %s", program, of)
		}
	}
	if users, err := os.ReadFile("/proc/self/uid_map"); err != nil || os.Geteuid() != 0 || strings.Join(strings.Fields(string(users)), " ") != "0 0 4294967295" {
		return "network namespaces and capture need root"
	}
	return ""
}

// NewNamespace makes a namespace that ends with the test; n, up to 63, tells it from others.
func NewNamespace(t TB, n int) *Namespace {
	t.Helper()
	s := &Namespace{n: n, Address: fmt.Sprintf("192.0.2.%d", 4*n+2), Address6: fmt.Sprintf("2001:db8:%d::2", n), Node: fmt.Sprintf("192.0.2.%d", 4*n+1)}
	s.connect(t)
	t.Cleanup(func() {
		IP(t, nil, fmt.Sprintf("link delete pod%d\n", n))
		_ = s.file.Close()
	})
	return s
}

// Renew makes the namespace anew, empty, as after a reboot. What ran inside has ended.
func (s *Namespace) Renew(t TB) {
	t.Helper()
	IP(t, nil, fmt.Sprintf("link delete pod%d\n", s.n))
	_ = s.file.Close()
	s.connect(t)
}

// connect makes the namespace and its link.
func (s *Namespace) connect(t TB) {
	t.Helper()
	err := OnThread(func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			s.file, err = os.Open("/proc/thread-self/ns/net")
		}
		return err
	})
	if err != nil {
		t.Fatalf("network namespace: %v", err)
	}
	IP(t, nil, fmt.Sprintf(`link add pod%[1]d type veth peer name eth0 netns /proc/%[2]d/fd/%[3]d
address add %[4]s/30 dev pod%[1]d
address add 2001:db8:%[1]d::1/64 dev pod%[1]d nodad
link set pod%[1]d up
`, s.n, os.Getpid(), s.file.Fd(), s.Node))
	IP(t, s, fmt.Sprintf(`link set lo up
address add %s/30 dev eth0
address add %s/64 dev eth0 nodad
link set eth0 up
route add default via %s
`, s.Address, s.Address6, s.Node))
}

// OnThread runs f on a thread that ends with it: nobody else gets what f makes of it.
func OnThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		result <- f()
	}()
	return <-result
}

// Do runs f inside; sockets that it makes stay there.
func (s *Namespace) Do(f func() error) error {
	return OnThread(func() error {
		if err := unix.Setns(int(s.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
}

// IP runs commands of ip(8), inside of a namespace if it is not nil.
func IP(t TB, s *Namespace, commands string) {
	t.Helper()
	run := func() error {
		c := exec.Command("ip", "-batch", "-")
		c.Stdin = strings.NewReader(commands)
		out, err := c.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("ip: %w: %s", err, out)
		}
		return err
	}
	err := error(nil)
	if s != nil {
		err = s.Do(run)
	} else {
		err = run()
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
}

// Dial connects from inside. A name is not resolved there: addresses have no names.
func (s *Namespace) Dial(_ context.Context, network, address string) (c net.Conn, err error) {
	err = s.Do(func() (err error) {
		c, err = net.DialTimeout(network, address, 10*time.Second)
		return err
	})
	return c, err
}

// Enter returns the arguments of nsenter that lead inside.
func (s *Namespace) Enter() []string {
	return []string{fmt.Sprintf("--net=/proc/%d/fd/%d", os.Getpid(), s.file.Fd())}
}

// AsProxy returns the arguments of a program, setpriv before it, that runs as the user of Envoy and the agent.
func AsProxy(args ...string) []string {
	user := fmt.Sprint(ProxyUser)
	return append([]string{"setpriv", "--reuid", user, "--regid", user, "--clear-groups"}, args...)
}
