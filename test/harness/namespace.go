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

// Network is a network namespace that a test made. It goes with its file and the last socket in it.
type Network struct{ file *os.File }

// Namespace is a network namespace as a host or a pod has it, linked to the one of this process, which is what is
// outside of it: the network, a node, other pods.
type Namespace struct {
	*Network
	// Address and Address6 are inside, Node is that of the other end.
	Address, Address6, Node string

	n int
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
	if !FullRoot() {
		return "network namespaces and capture need root"
	}
	return ""
}

// FullRoot reports whether this process may become every user: root that is not within a user namespace.
func FullRoot() bool {
	users, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && os.Geteuid() == 0 && strings.Join(strings.Fields(string(users)), " ") == "0 0 4294967295"
}

// NewNetwork makes an empty network namespace. Its caller closes it.
func NewNetwork(t TB) *Network {
	t.Helper()
	n := &Network{}
	err := OnThread(func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			n.file, err = os.Open("/proc/thread-self/ns/net")
		}
		return err
	})
	if err != nil {
		t.Fatalf("network namespace: %v", err)
	}
	return n
}

// Close lets go of the namespace.
func (n *Network) Close() { _ = n.file.Close() }

// FD is the file descriptor by which other programs' libraries get in.
func (n *Network) FD() int { return int(n.file.Fd()) }

// Path is where ip(8) and nsenter(1) of this process's children find it.
func (n *Network) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.FD()) }

// NewNamespace makes a namespace that ends with the test; n, up to 63, tells it from others.
func NewNamespace(t TB, n int) *Namespace {
	t.Helper()
	s := &Namespace{n: n, Address: fmt.Sprintf("192.0.2.%d", 4*n+2), Address6: fmt.Sprintf("2001:db8:%d::2", n), Node: fmt.Sprintf("192.0.2.%d", 4*n+1)}
	s.connect(t)
	t.Cleanup(func() {
		IP(t, nil, fmt.Sprintf("link delete pod%d\n", n))
		s.Close()
	})
	return s
}

// Renew makes the namespace anew, empty, as after a reboot. What ran inside has ended.
func (s *Namespace) Renew(t TB) {
	t.Helper()
	IP(t, nil, fmt.Sprintf("link delete pod%d\n", s.n))
	s.Close()
	s.connect(t)
}

// connect makes the namespace and its link.
func (s *Namespace) connect(t TB) {
	t.Helper()
	s.Network = NewNetwork(t)
	IP(t, nil, fmt.Sprintf(`link add pod%[1]d type veth peer name eth0 netns %[2]s
address add %[3]s/30 dev pod%[1]d
address add 2001:db8:%[1]d::1/64 dev pod%[1]d nodad
link set pod%[1]d up
`, s.n, s.Path(), s.Node))
	IP(t, s.Network, fmt.Sprintf(`link set lo up
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
func (n *Network) Do(f func() error) error {
	return OnThread(func() error {
		if err := unix.Setns(n.FD(), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
}

// IP runs commands of ip(8), inside of a namespace if it is not nil.
func IP(t TB, n *Network, commands string) {
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
	if n != nil {
		err = n.Do(run)
	} else {
		err = run()
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
}

// Dial connects from inside. A name is not resolved there: addresses have no names.
func (n *Network) Dial(_ context.Context, network, address string) (c net.Conn, err error) {
	err = n.Do(func() (err error) {
		c, err = net.DialTimeout(network, address, 10*time.Second)
		return err
	})
	return c, err
}

// Enter returns the arguments of nsenter that lead inside.
func (n *Network) Enter() []string {
	return []string{"--net=" + n.Path()}
}

// AsProxy returns the arguments of a program, setpriv before it, that runs as the user of Envoy and the agent.
func AsProxy(args ...string) []string {
	user := fmt.Sprint(ProxyUser)
	return append([]string{"setpriv", "--reuid", user, "--regid", user, "--clear-groups"}, args...)
}
