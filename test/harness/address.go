package harness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// namespaceVariable tells a test binary that it runs inside a network namespace
// that another run of it made.
const namespaceVariable = "CAUSEWAY_NETNS"

// listenerVariable tells it that its descriptor 3 is a listener in the network that was left.
const listenerVariable = "CAUSEWAY_NETNS_LISTENER"

// Backends in a namespace have addresses of 198.18.0.0/15, which RFC 2544 sets
// apart for tests and which the Kubernetes API accepts in EndpointSlices.
var backendAddresses = netip.MustParsePrefix("198.18.0.0/15")

// Main is a TestMain's body, for a *testing.M. It runs the tests in a network namespace of their
// own, by running the test binary again in one: there [Addresses] gives
// addresses off the loopback range, nobody else's ports are in the way, and
// nothing stays behind. It needs root, or user namespaces that others may make.
//
// A child that a part of the harness starts from the same binary is served too.
func Main(m interface{ Run() int }) {
	RunChild()
	if err := EnterNamespace(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// InNamespace reports whether the program runs in a network namespace of its own.
func InNamespace() bool { return os.Getenv(namespaceVariable) != "" }

// EnterNamespace runs the program again in a new network namespace, and ends
// this process with its status, unless it runs in one already: then it returns.
func EnterNamespace() error { return enterNamespace(nil) }

// EnterNamespaceListening is EnterNamespace with a listener at an address of the network that is left. In a namespace that was
// entered before, by a test, it listens there.
func EnterNamespaceListening(address string) (net.Listener, error) {
	if os.Getenv(listenerVariable) != "" {
		if err := os.Unsetenv(listenerVariable); err != nil {
			return nil, err
		}
		f := os.NewFile(3, "listener")
		defer f.Close()
		return net.FileListener(f)
	}
	l, err := net.Listen("tcp", address) //nolint:noctx // it does not wait
	if err != nil || InNamespace() {
		return l, err
	}
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		return nil, err
	}
	_ = l.Close() // the child's is another descriptor
	return nil, enterNamespace(f)
}

// enterNamespace ends with the child unless this process is one. The child has the listener as its descriptor 3.
func enterNamespace(listener *os.File) error {
	if InNamespace() {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	child := exec.Command(self, os.Args[1:]...)
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	child.Env = append(os.Environ(), namespaceVariable+"=1")
	if listener != nil {
		child.ExtraFiles, child.Env = []*os.File{listener}, append(child.Env, listenerVariable+"=1")
	}
	// The child must not outlive this process, whose thread is pinned for that.
	runtime.LockOSThread()
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		child.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		child.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		child.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	if err := child.Start(); err != nil {
		return fmt.Errorf("these tests need a network namespace of their own and may not make one: %w; "+
			"run them as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, "+
			"kernel.apparmor_restrict_unprivileged_userns=0)", err)
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP)
	go func() {
		for s := range signals {
			_ = child.Process.Signal(s)
		}
	}()
	err = child.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		os.Exit(0)
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		os.Exit(exit.ExitCode())
	}
	fmt.Fprintf(os.Stderr, "in the network namespace: %v\n", err)
	os.Exit(1)
	return nil
}

// openNamespace brings the namespace's loopback interface up and gives it all of
// backendAddresses: the kernel takes a whole prefix on it for local, as it does
// for 127.0.0.0/8.
var openNamespace = sync.OnceValue(func() error {
	if !InNamespace() {
		return errors.New("addresses off the loopback range need a network namespace: " +
			"call harness.Main from TestMain")
	}
	return raiseLoopback()
})

func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)

	up, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, up); err != nil {
		return fmt.Errorf("reading lo's flags: %w", err)
	}
	up.SetUint16(up.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, up); err != nil {
		return fmt.Errorf("bringing lo up: %w", err)
	}

	mask := net.CIDRMask(backendAddresses.Bits(), 32)
	for _, set := range []struct {
		request uint
		value   []byte
	}{
		{unix.SIOCSIFADDR, backendAddresses.Addr().Next().AsSlice()},
		{unix.SIOCSIFNETMASK, mask},
	} {
		alias, err := unix.NewIfreq("lo:causeway")
		if err != nil {
			return err
		}
		if err := alias.SetInet4Addr(set.value); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, set.request, alias); err != nil {
			return fmt.Errorf("giving lo %s: %w", backendAddresses, err)
		}
	}
	return nil
}

// RunChild turns the program into what a part of the harness started it for, and
// does not return then. A program that uses such parts calls it first thing;
// [Main] does.
func RunChild() {
	if config := os.Getenv(httpChildVariable); config != "" {
		os.Exit(runHTTPChild(config))
	}
	if InNamespace() {
		if err := openNamespace(); err != nil {
			fmt.Fprintf(os.Stderr, "network namespace: %v\n", err)
			os.Exit(1)
		}
	}
}

var nextAddress atomic.Uint32

// Addresses returns n IPv4 addresses, off the loopback range, that servers of
// this test can listen on and its clients can reach, and that nobody else in the
// test binary has been given. The test runs under [Main].
func Addresses(t TB, n int) []netip.Addr {
	t.Helper()
	if err := openNamespace(); err != nil {
		t.Fatalf("%v", err)
	}
	base := backendAddresses.Addr().As4()
	start := uint32(base[0])<<24 | uint32(base[1])<<16 | uint32(base[2])<<8 | uint32(base[3])
	// The first 256 are left for tests that choose their own.
	last := nextAddress.Add(uint32(n))
	if last > 1<<16 {
		t.Fatalf("the test binary has used up its %d addresses", 1<<16)
	}
	addresses := make([]netip.Addr, n)
	for i := range addresses {
		a := start + 256 + last - uint32(n) + uint32(i)
		addresses[i] = netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)})
	}
	return addresses
}

// Ports that FreePort gives lie below those that Linux gives to clients
// (net.ipv4.ip_local_port_range), so that no connection takes one in between.
const firstPort, lastPort = 10000, 32000

var ports = struct {
	sync.Mutex
	next int
	held []int // sockets that reserve a port for this process, until it ends
}{}

// FreePort returns a TCP port that no process listens on, on any address, and
// that no other test of any process that uses the harness is given.
func FreePort(t TB) int {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatalf("%v", err)
	}
	return port
}

// A port is reserved by an abstract unix socket that carries its number: those
// belong to the network namespace, as ports do, and go with the process.
func freePort() (int, error) {
	ports.Lock()
	defer ports.Unlock()
	if ports.next == 0 {
		ports.next = firstPort + os.Getpid()*61%(lastPort-firstPort)
	}
	for range lastPort - firstPort {
		port := ports.next
		ports.next++
		if ports.next > lastPort {
			ports.next = firstPort
		}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return 0, err
		}
		if unix.Bind(fd, &unix.SockaddrUnix{Name: "@causeway-port-" + strconv.Itoa(port)}) != nil {
			_ = unix.Close(fd)
			continue
		}
		l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", ":"+strconv.Itoa(port))
		if err != nil {
			_ = unix.Close(fd)
			continue
		}
		_ = l.Close()
		ports.held = append(ports.held, fd)
		return port, nil
	}
	return 0, errors.New("no free port is left")
}

// FreeAddress is a free port on 127.0.0.1, as "127.0.0.1:port".
func FreeAddress(t TB) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(FreePort(t)))
}
