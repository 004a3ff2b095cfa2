package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/mototest"
)

// The ports of the Gateways here.
const (
	edgePlain   = 8080
	edgeBare    = 8081 // with nothing in front
	edgeTLS     = 8443
	edgeRedis   = 6379
	edgeHealth  = 15021
	edgeTimeout = 10 * time.Second
)

// edgeOptions of startEdge.
type edgeOptions struct {
	namespace, gateway, id, zone string
	servers                      []string
	// ports are declared one by one; all of the Gateway's if there are none.
	ports []int
}

// edge is an Envoy that is a proxy of a Gateway.
type edge struct {
	*harness.Envoy
	ip netip.Addr
}

// startEdge starts an edge on an address of its own, as `causeway bootstrap` says.
func startEdge(t *testing.T, o edgeOptions) *edge {
	t.Helper()
	path, err := binary()
	require.NoError(t, err)
	e := &edge{ip: harness.Addresses(t, 1)[0]}
	args := []string{
		"bootstrap", "--role", "gateway", "--namespace", o.namespace, "--workload", o.gateway, "--id", o.id, "--zone", o.zone,
		"--server", strings.Join(o.servers, ","), "--admin-listen", "", "--http-listen", "", "--health-listen", e.at(edgeHealth),
	}
	if len(o.ports) == 0 {
		args = append(args, "--gateway-listen", e.ip.String())
	}
	for _, port := range o.ports {
		args = append(args, "--gateway-listen", fmt.Sprintf("%s=%d", e.at(port), port))
	}
	var problems bytes.Buffer
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Stderr = &problems
	config, err := cmd.Output()
	require.NoError(t, err, "%s", &problems)
	e.Envoy = harness.StartEnvoy(t, config, harness.EnvoyOptions{Name: "envoy-" + o.id, LogLevel: "warning", Concurrency: 2})
	return e
}

// at is the "address:port" of a port of the edge.
func (e *edge) at(port int) string { return net.JoinHostPort(e.ip.String(), strconv.Itoa(port)) }

// question is a request to an edge, on a connection of its own.
type question struct {
	address, host, path string
	method              string
	header              http.Header
	// tls is set for HTTPS; serverName is the host's if empty.
	tls        *tls.Config
	serverName string
	http2      bool
}

// answer to a question.
type answer struct {
	status  int
	proto   string
	header  http.Header
	body    string
	backend harness.Backend
}

func (q question) ask(ctx context.Context) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, edgeTimeout)
	defer cancel()
	scheme, protocols := "http", new(http.Protocols)
	protocols.SetHTTP1(!q.http2)
	transport := &http.Transport{
		DisableKeepAlives: true, Protocols: protocols,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, q.address)
		},
	}
	if q.tls != nil {
		scheme, transport.TLSClientConfig = "https", q.tls.Clone()
		transport.TLSClientConfig.ServerName = q.serverName
		if q.serverName == "" {
			transport.TLSClientConfig.ServerName = q.host
		}
		protocols.SetHTTP2(q.http2)
	} else {
		protocols.SetUnencryptedHTTP2(q.http2)
	}
	r, err := http.NewRequestWithContext(ctx, q.method, scheme+"://"+q.host+"/"+strings.TrimPrefix(q.path, "/"), http.NoBody)
	if err != nil {
		return answer{}, err
	}
	maps.Copy(r.Header, q.header)
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	a := answer{status: resp.StatusCode, proto: resp.Proto, header: resp.Header, body: string(body)}
	_ = json.Unmarshal(body, &a.backend) // not all answers are a workload's
	return a, err
}

// wait asks until the answer is as it should be.
func (q question) wait(t *testing.T, what string, is func(answer) bool) answer {
	t.Helper()
	var a answer
	harness.Eventually(t, 30*time.Second, what, func() error {
		var err error
		if a, err = q.ask(t.Context()); err == nil && !is(a) {
			err = fmt.Errorf("%d %s: %s", a.status, a.header, a.body)
		}
		return err
	})
	return a
}

func isOK(a answer) bool { return a.status == http.StatusOK }

// directory is a configuration directory.
type directory struct {
	t    *testing.T
	path string
}

func newDirectory(t *testing.T) *directory {
	t.Helper()
	d := &directory{t: t, path: filepath.Join(t.TempDir(), "mesh")}
	require.NoError(t, os.Mkdir(d.path, 0o700))
	return d
}

// write replaces a file at once.
func (d *directory) write(name, text string) {
	d.t.Helper()
	next := filepath.Join(filepath.Dir(d.path), name)
	require.NoError(d.t, os.WriteFile(next, []byte(text), 0o600))
	require.NoError(d.t, os.Rename(next, filepath.Join(d.path, name)))
}

// secretYAML is a Secret with a certificate.
func secretYAML(namespace, name string, c harness.Certificate) string {
	data, err := json.Marshal(map[string][]byte{"tls.crt": c.CertPEM, "tls.key": c.KeyPEM})
	if err != nil {
		panic(err) // of two byte slices
	}
	return fmt.Sprintf("---\napiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: %s}\ntype: kubernetes.io/tls\ndata: %s\n", name, namespace, data)
}

// both is a Service of one namespace on both platforms.
type both struct {
	moto            *mototest.Moto
	instances, pods []*harness.Workload
}

// startBoth starts two instances and two pods of a Service of namespace web.
// They listen on port 8080.
func startBoth(t *testing.T, kind harness.WorkloadKind, name string) *both {
	t.Helper()
	b := &both{moto: mototest.Start(t, mototest.Options{})}
	start := func(platform, id, zone string, address netip.Addr) *harness.Workload {
		return harness.StartWorkload(t, harness.WorkloadOptions{
			Kind: kind, Address: address, Port: instancePort, Platform: platform, ID: id, Zone: zone,
			// Where CloudFront, the load balancer and the edges are, and where no client is.
			RealIPFrom: []string{"198.18.0.0/15", "127.0.0.0/8"},
		})
	}
	for _, i := range b.moto.CreateASG(t, mototest.ASGOptions{Name: name, Size: 2, Tags: map[string]string{"Role": name}}) {
		b.instances = append(b.instances, start("instances", i.ID, i.Zone, netip.MustParseAddr(i.Address)))
	}
	for i, a := range harness.Addresses(t, 2) {
		b.pods = append(b.pods, start("pods", fmt.Sprintf("%s-%d", name, i), b.moto.Zones()[i], a))
	}
	return b
}

// yaml is the Service with its endpoints; its home are the instances.
func (b *both) yaml(name string) string {
	endpoints := ""
	for i, w := range b.pods {
		endpoints += fmt.Sprintf("- {addresses: [%s], zone: %s, targetRef: {kind: Pod, namespace: web, name: %s}}\n", w.Addr(), b.moto.Zones()[i], w.ID())
	}
	return fmt.Sprintf(`---
apiVersion: v1
kind: Service
metadata: {name: %[1]s, namespace: web, annotations: {mesh.causeway.dev/home: Instances}}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: mesh.causeway.dev/v1alpha1
kind: InstanceGroup
metadata: {name: %[1]s-ec2, namespace: web}
spec:
  serviceRef: {name: %[1]s}
  region: %[2]s
  selector: {autoScalingGroups: [%[1]s]}
  ports: [{name: http, port: %[3]d}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %[1]s-pods, namespace: web, labels: {kubernetes.io/service-name: %[1]s}}
addressType: IPv4
ports: [{name: http, port: %[3]d}]
endpoints:
%[4]s`, name, b.moto.Region(), instancePort, endpoints)
}

// waitBoth waits until the control plane has all endpoints of the Service.
func (b *both) wait(r *replica, service string) {
	want := make(map[string]string)
	for _, w := range b.instances {
		want[w.ID()] = "HEALTHY"
	}
	for _, w := range b.pods {
		want["web/"+w.ID()] = "HEALTHY"
	}
	r.waitEndpoints(service, want)
}

// pinned is a TrafficShift that gives pods a share and nothing else.
func pinned(service, percent, cohort string) string {
	return fmt.Sprintf(`---
apiVersion: mesh.causeway.dev/v1alpha1
kind: TrafficShift
metadata: {name: %[1]s, namespace: web}
spec:
  serviceRef: {name: %[1]s}
  pin: %[2]q
%[3]s  steps: [{percent: "100", hold: 1h}]
  guard: {successRate: {atLeast: "99"}, minRequests: 50, window: 10s}
  capacity: {keepSourcePercent: 0}
`, service, percent, cohort)
}

// phpKind is real PHP where it is installed.
func phpKind(t *testing.T) harness.WorkloadKind {
	t.Helper()
	for _, tool := range []string{"php-fpm", "nginx"} {
		if _, err := harness.FindTool(tool); err != nil {
			t.Logf("built-in workloads take PHP's place: %v", err)
			return harness.GoProcess
		}
	}
	return harness.FPM
}

// edgeGateway has a listener of every kind.
const edgeGateway = `---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: web}
spec:
  gatewayClassName: causeway
  listeners:
  - {name: http, port: 8080, protocol: HTTP}
  - {name: bare, port: 8081, protocol: HTTP}
  - {name: shop, port: 8443, protocol: HTTPS, hostname: shop.example.com, tls: {certificateRefs: [{name: shop}]}}
  - name: files
    port: 8443
    protocol: HTTPS
    hostname: "*.files.example.com"
    tls:
      options: {mesh.causeway.dev/certificate-file: %[1]q, mesh.causeway.dev/private-key-file: %[2]q}
  - {name: passthrough, port: 8443, protocol: TLS, hostname: own.example.com, tls: {mode: Passthrough}}
  - {name: terminate, port: 8443, protocol: TLS, hostname: cache.example.com, tls: {mode: Terminate, certificateRefs: [{name: cache}]}}
  - {name: redis, port: 6379, protocol: TCP}
---
apiVersion: mesh.causeway.dev/v1alpha1
kind: GatewayPolicy
metadata: {name: aws, namespace: web}
spec:
  targetRefs: [{name: edge, sectionName: http}, {name: edge, sectionName: shop}]
  inFront: [{kind: CloudFront}, {kind: ALB}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: redirect, namespace: web}
spec:
  parentRefs: [{name: edge, sectionName: http}]
  hostnames: [shop.example.com]
  rules:
  - filters: [{type: RequestRedirect, requestRedirect: {scheme: https, port: 8443, statusCode: 301}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: plain, namespace: web}
spec:
  parentRefs: [{name: edge, sectionName: http}, {name: edge, sectionName: bare}]
  hostnames: [plain.example.com]
  rules: [{backendRefs: [{name: php, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop, namespace: web}
spec:
  parentRefs: [{name: edge, sectionName: shop}, {name: edge, sectionName: files}]
  hostnames: [shop.example.com, a.files.example.com]
  rules:
  - {matches: [{path: {value: /websocket}}], backendRefs: [{name: chat, port: 80}]}
  - {backendRefs: [{name: php, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: own, namespace: web}
spec:
  parentRefs: [{name: edge, sectionName: passthrough}]
  hostnames: [own.example.com]
  rules: [{backendRefs: [{name: own, port: 443}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: cache-tls, namespace: web}
spec:
  parentRefs: [{name: edge, sectionName: terminate}]
  hostnames: [cache.example.com]
  rules: [{backendRefs: [{name: cache, port: 6379}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: cache, namespace: web}
spec:
  parentRefs: [{name: edge, sectionName: redis}]
  rules: [{backendRefs: [{name: cache, port: 6379}]}]
`

// podYAML is a Service with one pod.
func podYAML(namespace, name string, port, target int, protocol string, a netip.Addr, zone string) string {
	return fmt.Sprintf(`---
apiVersion: v1
kind: Service
metadata: {name: %[2]s, namespace: %[1]s}
spec: {ports: [{name: main, port: %[3]d%[5]s}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %[2]s, namespace: %[1]s, labels: {kubernetes.io/service-name: %[2]s}}
addressType: IPv4
ports: [{name: main, port: %[4]d}]
endpoints: [{addresses: [%[6]s], zone: %[7]s, targetRef: {kind: Pod, namespace: %[1]s, name: %[2]s-0}}]
`, namespace, name, port, target, protocol, a, zone)
}

// startTLSEcho starts a server that terminates TLS itself, as what is behind a
// passthrough does, and greets with a line.
func startTLSEcho(t *testing.T, address netip.Addr, port int, c harness.Certificate, greeting string) {
	t.Helper()
	l, err := tls.Listen("tcp", net.JoinHostPort(address.String(), strconv.Itoa(port)), &tls.Config{
		Certificates: []tls.Certificate{c.TLS(t)}, MinVersion: tls.VersionTLS12,
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.WriteString(c, greeting+"\n")
				_ = c.Close()
			}()
		}
	}()
}

// Every kind of listener, on an edge on EC2 and on one in a pod, with PHP on
// both platforms behind them.
func TestEdge(t *testing.T) {
	beside(t, 0.5, 15*time.Second)
	if _, err := harness.FindTool("redis-server"); err != nil {
		t.Skip("redis-server is not installed")
	}
	php := startBoth(t, phpKind(t), "php")
	zones := php.moto.Zones()
	others := harness.Addresses(t, 3)
	harness.StartWorkload(t, harness.WorkloadOptions{Kind: harness.GoProcess, Address: others[0], Port: instancePort, Platform: "pods", ID: "chat"})
	harness.StartRedis(t, "cache", others[1], edgeRedis)
	ca, own := harness.NewAuthority(t, "edge"), harness.NewAuthority(t, "own")
	startTLSEcho(t, others[2], 8443, own.Issue(t, harness.CertificateOptions{Hosts: []string{"own.example.com"}}), "own")
	chain, key := ca.Issue(t, harness.CertificateOptions{Hosts: []string{"*.files.example.com"}}).Write(t, t.TempDir(), "files")

	d := newDirectory(t)
	d.write("mesh.yaml", php.yaml("php")+pinned("php", "50", "")+
		podYAML("web", "chat", 80, instancePort, "", others[0], zones[0])+
		podYAML("web", "cache", edgeRedis, edgeRedis, ", appProtocol: redis", others[1], zones[0])+
		podYAML("web", "own", 443, 8443, ", appProtocol: tls", others[2], zones[0]))
	d.write("edge.yaml", fmt.Sprintf(edgeGateway, chain, key)+
		secretYAML("web", "shop", ca.Issue(t, harness.CertificateOptions{Hosts: []string{"shop.example.com"}}))+
		secretYAML("web", "cache", ca.Issue(t, harness.CertificateOptions{Hosts: []string{"cache.example.com"}})))
	plane := startReplica(t, "causeway", php.moto.Env(), "--config", d.path, "--state-dir", t.TempDir(),
		"--ec2-interval", "1s", "--xds-insecure-certificates")
	plane.waitReady()
	php.wait(plane, "web/php")
	client := &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12}
	edges := map[string]*edge{
		"EC2":  startEdge(t, edgeOptions{namespace: "web", gateway: "edge", id: "i-edge", zone: zones[0], servers: []string{plane.xds}}),
		"pods": startEdge(t, edgeOptions{namespace: "web", gateway: "edge", id: "edge-0", zone: zones[1], servers: []string{plane.xds}, ports: []int{edgePlain, edgeBare, edgeTLS, edgeRedis}}),
	}
	for where, e := range edges {
		t.Run(where, func(t *testing.T) {
			e := &edgeTest{T: t, edge: e, client: client, own: &tls.Config{RootCAs: own.Pool(), MinVersion: tls.VersionTLS12}}
			e.http()
			e.behindCloudFront()
			e.https()
			e.websocket()
			e.connections()
			e.load()
		})
	}
}

// edgeTest asks one edge of TestEdge.
type edgeTest struct {
	*testing.T
	edge        *edge
	client, own *tls.Config
}

func (e *edgeTest) ask(q question) answer {
	e.Helper()
	a, err := q.ask(e.Context())
	require.NoError(e, err, "%+v", q)
	return a
}

func (e *edgeTest) http() {
	e.Helper()
	health := question{address: e.edge.at(edgeHealth), host: "any", path: "/healthz"}
	health.wait(e.T, "the edge is healthy", isOK)
	plain := question{address: e.edge.at(edgePlain), host: "plain.example.com", path: "/a"}
	plain.wait(e.T, "PHP answers over HTTP", isOK)
	seen := make(map[string]int)
	for range 40 {
		a := e.ask(plain)
		require.Equal(e, http.StatusOK, a.status, a.body)
		require.Equal(e, "plain.example.com", a.backend.Headers["host"])
		seen[a.backend.Platform]++
	}
	require.Positive(e, seen["instances"], "%v", seen)
	require.Positive(e, seen["pods"], "%v", seen)

	redirect := plain
	redirect.host = "shop.example.com"
	a := e.ask(redirect)
	require.Equal(e, http.StatusMovedPermanently, a.status)
	require.Equal(e, "https://shop.example.com:8443/a", a.header.Get("Location"))

	unknown := plain
	unknown.host = "unknown.example.com"
	require.Equal(e, http.StatusNotFound, e.ask(unknown).status)
}

// What a client says of itself is believed as far as CloudFront and the load
// balancer have written it, and not at all where nothing is in front.
func (e *edgeTest) behindCloudFront() {
	e.Helper()
	const spoofed, user, cloudFront = "6.6.6.6", "203.0.113.7", "198.18.0.9"
	q := question{address: e.edge.at(edgePlain), host: "plain.example.com", path: "/a", header: http.Header{
		"X-Forwarded-For":   {spoofed + ", " + user + ", " + cloudFront},
		"X-Forwarded-Proto": {"https"},
		"X-Envoy-Internal":  {"true"},
	}}
	a := e.ask(q)
	headers := a.backend.Headers
	entries := strings.Split(strings.ReplaceAll(headers["x-forwarded-for"], " ", ""), ",")
	require.Len(e, entries, 4, "the load balancer's address is appended: %v", headers)
	require.Equal(e, []string{spoofed, user, cloudFront}, entries[:3])
	require.Equal(e, "https", headers["x-forwarded-proto"])
	require.NotContains(e, headers, "x-envoy-internal")
	if phpKind(e.T) == harness.FPM {
		require.Equal(e, user, a.backend.Remote, "REMOTE_ADDR, with nginx's real_ip_recursive: %v", headers)
	}

	q.address = e.edge.at(edgeBare)
	headers = e.ask(q).backend.Headers
	require.NotContains(e, headers["x-forwarded-for"], spoofed, "%v", headers)
	require.NotContains(e, headers["x-forwarded-for"], ",", "the address of the connection and nothing else: %v", headers)
	require.Equal(e, "http", headers["x-forwarded-proto"])
	require.NotContains(e, headers, "x-envoy-internal")
}

func (e *edgeTest) https() {
	e.Helper()
	for _, host := range []string{"shop.example.com", "a.files.example.com"} {
		for _, http2 := range []bool{false, true} {
			q := question{address: e.edge.at(edgeTLS), host: host, path: "/a", tls: e.client, http2: http2}
			a := q.wait(e.T, fmt.Sprintf("PHP answers for %s, HTTP/2 %t", host, http2), isOK)
			require.Equal(e, map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[http2], a.proto)
			require.Equal(e, host, strings.TrimSuffix(a.backend.Headers["host"], ":8443"))
			require.Equal(e, "https", a.backend.Headers["x-forwarded-proto"])
		}
	}
	misdirected := question{address: e.edge.at(edgeTLS), host: "a.files.example.com", serverName: "shop.example.com", tls: e.client, http2: true}
	require.Equal(e, http.StatusMisdirectedRequest, e.ask(misdirected).status)
	_, err := question{address: e.edge.at(edgeTLS), host: "unknown.example.com", tls: e.client}.ask(e.Context())
	require.Error(e, err, "no listener has this name")
}

func (e *edgeTest) websocket() {
	e.Helper()
	c, err := harness.DialWebsocket(e.edge.at(edgeTLS), "shop.example.com", e.client, edgeTimeout)
	require.NoError(e, err)
	defer c.Close()
	require.Equal(e, "chat", c.ID)
	for _, message := range []string{"hello", strings.Repeat("long", 5000)} {
		got, err := c.Echo(message)
		require.NoError(e, err)
		require.Equal(e, message, got)
	}
}

func (e *edgeTest) connections() {
	e.Helper()
	// Plain TCP, and TLS that ends at the edge, lead to Redis.
	plain, err := harness.DialRedis(e.edge.at(edgeRedis), edgeTimeout)
	require.NoError(e, err)
	defer plain.Close()
	who, err := plain.Do("GET who")
	require.NoError(e, err)
	require.Equal(e, "cache", who)

	terminated, err := tls.Dial("tcp", e.edge.at(edgeTLS), withName(e.client, "cache.example.com")) //nolint:noctx // bounded below
	require.NoError(e, err)
	defer terminated.Close()
	require.NoError(e, terminated.SetDeadline(time.Now().Add(edgeTimeout)))
	_, err = io.WriteString(terminated, "GET who\r\nQUIT\r\n")
	require.NoError(e, err)
	got, err := io.ReadAll(terminated)
	require.NoError(e, err)
	require.Contains(e, string(got), "cache")

	// TLS that passes is that of the server behind.
	passed, err := tls.Dial("tcp", e.edge.at(edgeTLS), withName(e.own, "own.example.com")) //nolint:noctx // bounded below
	require.NoError(e, err)
	defer passed.Close()
	require.NoError(e, passed.SetDeadline(time.Now().Add(edgeTimeout)))
	got, err = io.ReadAll(passed)
	require.NoError(e, err)
	require.Equal(e, "own\n", string(got))
}

func withName(c *tls.Config, name string) *tls.Config {
	c = c.Clone()
	c.ServerName = name
	return c
}

// load is what all kinds of clients get together.
func (e *edgeTest) load() {
	e.Helper()
	loads := []*harness.Load{
		harness.StartLoad(e, harness.LoadOptions{URL: "http://" + e.edge.at(edgePlain), Host: "plain.example.com", Limit: 200}),
		harness.StartLoad(e, harness.LoadOptions{URL: "https://" + e.edge.at(edgeTLS), Host: "shop.example.com", TLS: e.client, HTTP2: true, Limit: 200}),
		harness.StartLoad(e, harness.LoadOptions{URL: "https://" + e.edge.at(edgeTLS), Host: "a.files.example.com", TLS: e.client, NewConnections: true, Limit: 200}),
	}
	for _, l := range loads {
		l.Wait().RequireNoFailures(e)
	}
}
