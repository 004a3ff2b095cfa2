package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/agent"
)

// capturedMesh has a Service of each kind of port: HTTP, TCP, and one of which nobody has said what it speaks.
const capturedMesh = `apiVersion: v1
kind: Service
metadata: {name: php, namespace: web}
spec:
  ports: [{name: http, port: 80}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: php-1, namespace: web, labels: {kubernetes.io/service-name: php}}
addressType: IPv4
ports: [{name: http, port: %[1]d}]
endpoints:
- {addresses: [%[2]s], conditions: {ready: true}, targetRef: {kind: Pod, name: php, namespace: web}}
---
apiVersion: v1
kind: Service
metadata: {name: redis, namespace: web}
spec:
  ports: [{name: redis, port: 6379}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: redis-1, namespace: web, labels: {kubernetes.io/service-name: redis}}
addressType: IPv4
ports: [{name: redis, port: %[1]d}]
endpoints:
- {addresses: [%[3]s], conditions: {ready: true}, targetRef: {kind: Pod, name: redis, namespace: web}}
---
apiVersion: v1
kind: Service
metadata: {name: either, namespace: web}
spec:
  ports: [{name: web, port: 8080}, {name: other, port: 8081}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: either-1, namespace: web, labels: {kubernetes.io/service-name: either}}
addressType: IPv4
ports: [{name: web, port: %[1]d}]
endpoints:
- {addresses: [%[2]s], conditions: {ready: true}, targetRef: {kind: Pod, name: php, namespace: web}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: either-2, namespace: web, labels: {kubernetes.io/service-name: either}}
addressType: IPv4
ports: [{name: other, port: %[1]d}]
endpoints:
- {addresses: [%[4]s], conditions: {ready: true}, targetRef: {kind: Pod, name: greeter, namespace: web}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: php, namespace: web}
spec:
  parentRefs: [{group: "", kind: Service, name: php}]
  rules:
  - backendRefs: [{group: "", kind: Service, name: php, port: 80}]
    filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-route, value: php}]}}]
`

// another is a Service that comes and goes.
const another = `---
apiVersion: v1
kind: Service
metadata: {name: another-%[1]d, namespace: web}
spec:
  ports: [{name: http, port: 80}, {name: tcp, port: 6379}, {name: either, port: 8080}]
`

// at returns the virtual address of a Service's port.
func at(service string, port uint16) string {
	return netip.AddrPortFrom(discovery.VirtualAddress(discovery.Key{Namespace: "web", Name: service}, 0), port).String()
}

// greet accepts connections, says hello first on each, and repeats what it is told.
func greet(t *testing.T, address string) {
	t.Helper()
	l, err := net.Listen("tcp", address) //nolint:noctx // closed below
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go greetOn(l)
}

func greetOn(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = c.Write([]byte("hello\n"))
		go func() {
			defer c.Close()
			buffer := make([]byte, 64)
			for {
				n, err := c.Read(buffer)
				if err != nil {
					return
				}
				_, _ = c.Write(buffer[:n])
			}
		}()
	}
}

// fetch asks an address for /, with a Host header of another name.
func fetch(t *testing.T, address, host string, more map[string]string) (status int, body string, headers http.Header) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/", nil)
	require.NoError(t, err)
	request.Host, request.Close = host, true
	for name, value := range more {
		request.Header.Set(name, value)
	}
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(text), answer.Header
}

// waitFor waits until the host's Envoy has a virtual host.
func (h *host) waitFor(t *testing.T, name string) {
	t.Helper()
	h.Await(t, 20*time.Second, "Envoy to have "+name, func() error {
		_, body, err := h.get(h.at, "/config_dump?resource=dynamic_route_configs", "")
		if err == nil && !strings.Contains(body, name) {
			err = errors.New("it does not")
		}
		return err
	})
}

// command runs the binary.
func command(t *testing.T, args ...string) {
	t.Helper()
	path, err := binary()
	require.NoError(t, err)
	text, err := exec.Command(path, args...).CombinedOutput() //nolint:noctx,gosec // it ends by itself; the test's own binary
	require.NoError(t, err, "%s", text)
}

// A host's processes call Services by their virtual addresses, with nothing set in the environment. The destination
// alone says who is meant. Open connections outlive the coming and going of other Services.
func TestCaptured(t *testing.T) {
	beside(t, 0.6, 12*time.Second)
	// As a host's default route does, it leads the addresses to the rules, which see what is sent.
	route := exec.CommandContext(t.Context(), "ip", "route", "add", discovery.VirtualIPv4.String(), "dev", "lo")
	text, err := route.CombinedOutput()
	require.NoError(t, err, "%s", text)
	addresses := harness.Addresses(t, 3)
	harness.StartWorkload(t, harness.WorkloadOptions{Kind: harness.GoProcess, Address: addresses[0], Port: instancePort, ID: "php", Platform: "pods"})
	startStore(t, "redis", addresses[1].String(), instancePort)
	greet(t, net.JoinHostPort(addresses[2].String(), strconv.Itoa(instancePort)))
	dir := t.TempDir()
	write := func(more string) {
		text := fmt.Sprintf(capturedMesh, instancePort, addresses[0], addresses[1], addresses[2]) + more
		require.NoError(t, harness.WriteFile(filepath.Join(dir, "mesh.yaml"), []byte(text)))
	}
	write("")
	plane := startReplica(t, "causeway", nil, "--config", dir)
	plane.waitReady()
	h := startHost(t, plane.xds, "--captured-listen", fmt.Sprintf("127.0.0.1:%d=%s", naming.OutboundPort, discovery.VirtualIPv4))
	h.await("the control plane's configuration", func(s *agent.Status) bool { return s.Ready }, "php")
	command(t, "agent", "capture", "--mode", "host", "--proxy-users", "1337")
	t.Cleanup(func() { command(t, "agent", "release", "--drain-timeout", "0s") })

	// Names in the request mean nothing, and a forged destination neither.
	status, body, headers := fetch(t, at("php", 80), "somebody.else", map[string]string{"x-causeway-destination": at("either", 8080)})
	require.Equal(t, 200, status, body)
	require.Contains(t, body, `"php"`)
	require.NotContains(t, strings.ToLower(body), "x-causeway-destination", "the application does not see it")
	require.Equal(t, "php", headers.Get("x-route"), "the Service's routes hold")
	status, body, headers = fetch(t, at("either", 8080), "php.web", nil)
	require.Equal(t, 200, status, body)
	require.Empty(t, headers.Get("x-route"), "another Service's do not")

	redis, name, err := ask(at("redis", 6379))
	require.NoError(t, err)
	defer redis.Close()
	require.Equal(t, "redis", name)
	greeted, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", at("either", 8081))
	require.NoError(t, err)
	defer greeted.Close()
	require.NoError(t, greeted.SetDeadline(time.Now().Add(30*time.Second)))
	buffer := make([]byte, 64)
	n, err := greeted.Read(buffer)
	require.NoError(t, err)
	require.Equal(t, "hello\n", string(buffer[:n]), "a server that speaks first, of which nobody has said so")

	load := harness.StartLoad(t, harness.LoadOptions{URL: "http://" + at("php", 80) + "/", Rate: 300, Workers: 16})
	for i := range 6 {
		write(fmt.Sprintf(another, i))
		h.waitFor(t, fmt.Sprintf("captured/another-%d.web:80", i))
	}
	load.WaitAnswers(t, 1000, 30*time.Second)
	load.Stop().RequireNoFailures(t)
	_, err = redis.Do("GET who")
	require.NoError(t, err, "the connection is as it was")
	_, err = greeted.Write([]byte("still there"))
	require.NoError(t, err)
	n, err = greeted.Read(buffer)
	require.NoError(t, err)
	require.Equal(t, "still there", string(buffer[:n]))
}

// stickyMesh has a Service of HTTP and TCP whose callers stay with one endpoint.
const stickyMesh = `apiVersion: v1
kind: Service
metadata: {name: sticky, namespace: web}
spec:
  sessionAffinity: ClientIP
  ports: [{name: http, port: 80}, {name: tcp, port: 81}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: sticky-1, namespace: web, labels: {kubernetes.io/service-name: sticky}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: tcp, port: 8081}]
endpoints:
`

// A captured caller stays with the endpoint that sessionAffinity: ClientIP has given it, over HTTP and over TCP; other
// callers come to others.
func TestCapturedAffinity(t *testing.T) {
	beside(t, 0.4, 10*time.Second)
	mesh := stickyMesh
	for i, address := range harness.Addresses(t, 5) {
		mesh += fmt.Sprintf("- {addresses: [%[1]s], conditions: {ready: true}, targetRef: {kind: Pod, name: sticky-%[2]d, namespace: web}}\n", address, i)
		for _, port := range []string{"8080", "8081"} {
			l, err := net.Listen("tcp", net.JoinHostPort(address.String(), port)) //nolint:noctx // closed below
			require.NoError(t, err)
			t.Cleanup(func() { _ = l.Close() })
			if port == "8080" {
				s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, address) })}
				go func() { _ = s.Serve(l) }()
				continue
			}
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = c.Read(make([]byte, 4096)) // else what is unread resets the connection
					_, _ = fmt.Fprint(c, address)
					_ = c.Close()
				}
			}()
		}
	}
	dir := t.TempDir()
	require.NoError(t, harness.WriteFile(filepath.Join(dir, "mesh.yaml"), []byte(mesh)))
	seen := make(map[string]bool)
	for n := range 3 {
		p := newPodnet(t, 10+n)
		server := net.JoinHostPort(p.Node, strconv.Itoa(harness.FreePort(t)))
		plane := startReplica(t, "causeway", nil, "--config", dir, "--xds-listen", server, "--xds-insecure")
		plane.waitReady()
		p.join(t, server, []string{"--captured-listen", "127.0.0.1:15002=" + discovery.VirtualIPv4.String()}, []string{"--inbound-ports", "none"})
		for port := range uint16(2) {
			first := ""
			for i := range 20 {
				c, err := p.Dial(t.Context(), "tcp", at("sticky", 80+port))
				require.NoError(t, err)
				require.NoError(t, c.SetDeadline(time.Now().Add(10*time.Second)))
				_, _ = fmt.Fprint(c, "GET / HTTP/1.0\r\nHost: sticky.web\r\nConnection: close\r\n\r\n")
				text, err := io.ReadAll(c)
				require.NoError(t, err)
				_ = c.Close()
				who := string(text[strings.LastIndex(string(text), "\n")+1:])
				if i == 0 {
					first = who
				}
				require.Equal(t, first, who, "call %d of port %d", i, 80+port)
			}
			_, err := netip.ParseAddr(first)
			require.NoError(t, err, first)
			seen[first] = true
		}
	}
	require.Greater(t, len(seen), 1, "callers are told apart")
}
