package equivalence

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/explain"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/bootstrap"
	"github.com/causeway-mesh/causeway/xds/engine"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/server"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// edge is a mesh whose only proxy is of a Gateway. Its listeners come from the
// control plane, so that what they are is compared too.
type edge struct {
	mesh
	// addresses by the Gateway's ports.
	addresses map[uint16]string
	dir       string
	clients   map[string]*client
}

// listenersField is where a node's metadata lists the listeners that it declares.
const listenersField = "causeway.dev/listeners"

func startEdge(t *testing.T) *edge {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	registry := prometheus.NewRegistry()
	e := &edge{
		mesh:      mesh{catalog: catalog.New(), store: snapshot.New()},
		addresses: make(map[uint16]string), dir: t.TempDir(), clients: make(map[string]*client),
	}
	e.engine = engine.New(e.catalog, e.store, log, registry)
	e.server = server.New(e.store, server.Options{
		Logger: log, Metrics: server.NewMetrics(registry),
		Identify: func(n *corev3.Node) (server.Node, error) {
			node, err := bootstrap.ParseNode(n)
			return server.Node{
				ID: node.ID, Role: node.Role, Namespace: node.Namespace, Workload: node.Workload, Zone: node.Zone,
				Declared: node.Declared, Envoy: node.Envoy != "",
			}, err
		},
		Connect: func(ctx context.Context, n *server.Node) (func(), error) { return e.engine.Declare(ctx, n.Declared) },
	})
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{}, 2)
	go func() { _ = e.engine.Run(ctx); done <- struct{}{} }()
	go func() { _ = e.server.Serve(l); done <- struct{}{} }()
	t.Cleanup(func() {
		e.server.Stop()
		cancel()
		<-done
		<-done
	})
	for i := range casesPerGateway {
		e.certificate(t, i)
	}
	ports := []uint16{markerPort}
	for slot := range casesPerGateway {
		plain, secure := slotPorts(slot)
		ports = append(ports, uint16(plain), uint16(secure)) //nolint:gosec // ports
	}
	var declared []any
	for _, p := range ports {
		e.addresses[p] = harness.FreeAddress(t)
		declared = append(declared, fmt.Sprintf("gateway/%s=%s:%d", e.addresses[p], gatewayKey(), p))
	}
	config, err := bootstrap.Generate(bootstrap.Options{
		Role: resource.Gateway, Namespace: gatewayNamespace, Workload: gatewayName, Instance: "i-1", Zone: callerZone,
		Servers: []string{l.Addr().String()}, GatewayListen: []string{"127.0.0.1"},
	})
	require.NoError(t, err)
	var document map[string]any
	require.NoError(t, yaml.Unmarshal(config, &document))
	document["node"].(map[string]any)["metadata"].(map[string]any)[listenersField] = declared
	config, err = yaml.Marshal(document)
	require.NoError(t, err)
	e.envoy = harness.StartEnvoy(t, config, harness.EnvoyOptions{LogLevel: "warning"})
	t.Cleanup(e.hangUp)
	return e
}

func (e *edge) hangUp() {
	for _, c := range e.clients {
		c.close()
	}
	clear(e.clients)
}

func (e *edge) chain(listener int) string {
	return filepath.Join(e.dir, fmt.Sprintf("%d.crt", listener%casesPerGateway))
}

func (e *edge) key(listener int) string {
	return filepath.Join(e.dir, fmt.Sprintf("%d.key", listener%casesPerGateway))
}

// certificate writes the certificate of the listeners at a place of their
// Gateway's part. Its name tells a client which listener has taken the connection.
func (e *edge) certificate(t *testing.T, listener int) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: fmt.Sprint(listener)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	write := func(file, kind string, der []byte) {
		var b bytes.Buffer
		require.NoError(t, pem.Encode(&b, &pem.Block{Type: kind, Bytes: der}))
		require.NoError(t, os.WriteFile(file, b.Bytes(), 0o600))
	}
	write(e.chain(listener), "CERTIFICATE", der)
	write(e.key(listener), "PRIVATE KEY", private)
}

// put replaces the cases and returns once Envoy has taken all of it up.
func (e *edge) put(cases ...*gatewayCase) error {
	e.pushes++
	e.hangUp()
	revision, err := e.catalog.Write(time.Time{}, func(tx *catalog.Tx) error {
		catalog.Objects.Replace(tx, casesScope, rowsOfGateway(e.pushes, cases, e.chain, e.key))
		return nil
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := e.engine.Await(ctx, revision); err != nil {
		return err
	}
	for {
		seen, err := e.clientTo(markerPort, false, "").do(request{Method: "GET", Host: markerHost(e.pushes), Path: "/"})
		settled, rejected := e.settled()
		switch {
		case rejected != "":
			return fmt.Errorf("the configuration is rejected: %s", rejected)
		case err == nil && seen.Status == 302 && settled && e.inSync():
			e.named = make(map[string]bool)
			for _, r := range e.store.Resources(e.view()) {
				e.named[r.Type.String()+" "+r.Name] = true
			}
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("Envoy does not take up the configuration: %+v, %w; %+v", seen, err, e.server.Proxies())
		}
		e.hangUp()
		harness.TakeTime(2 * time.Millisecond)
	}
}

func (e *edge) view() snapshot.View {
	var declared []string
	for _, p := range e.server.Proxies() {
		declared = p.Listeners
	}
	return snapshot.View{Role: resource.Gateway, Namespace: gatewayNamespace, Workload: gatewayName, Zone: callerZone, Declared: declared}
}

// inSync reports whether the proxy has acknowledged everything.
func (e *edge) inSync() bool {
	proxies := e.server.Proxies()
	return len(proxies) == 1 && proxies[0].InSync && proxies[0].Pending == 0
}

// clientTo returns a client that has the only connection of its kind.
func (e *edge) clientTo(port uint16, secure bool, serverName string) *client {
	id := fmt.Sprint(port, secure, serverName)
	c, ok := e.clients[id]
	if !ok {
		c = &client{address: e.addresses[port]} // HTTP/2 needs no ALPN: Envoy looks at what a client begins with
		if secure {
			c.tls = &tls.Config{ServerName: serverName, InsecureSkipVerify: true} //nolint:gosec // the certificate is looked at, and nobody vouches for it
		}
		e.clients[id] = c
	}
	return c
}

// check sends a request and compares; outcome says what became of it.
func (e *edge) check(c *gatewayCase, r gatewayRequest) (why, outcome string) {
	start := time.Now()
	said := explain.EvaluateGateway(e.catalog.Read(), e.asked(c, r))
	e.evaluating += time.Since(start)
	if said == nil {
		return "the evaluator knows no Gateway", ""
	}
	client := e.clientTo(c.port(r), r.Secure, r.ServerName)
	seen, err := client.do(r.request)
	switch {
	case said.Answer != nil && said.Answer.Status == 0:
		if err == nil {
			return fmt.Sprintf("the evaluator says the connection is closed (%s), Envoy answered %d", said.Answer.Because, seen.Status), ""
		}
		return "", "closed"
	case err != nil:
		return err.Error(), ""
	case said.Answer == nil:
		outcome = "backend"
	case said.Answer.Location != "":
		outcome = "redirect"
	default:
		outcome = fmt.Sprint(said.Answer.Status)
	}
	if why := e.unnamed(&said.Envoy); why != "" {
		return why, outcome
	}
	if r.Secure {
		if got, want := client.shown, e.certificateOf(c, said.Gateway.Listener); got != want {
			return fmt.Sprintf("the evaluator says listener %s, which has certificate %s, Envoy showed %s", said.Gateway.Listener.Name, want, got), outcome
		}
	}
	want := ""
	if said.ResponseHeaders != nil { // answers of filters before the route's have no headers of it
		want = tagOf(said)
	}
	if got := seen.Header.Get(tagHeader); got != want {
		return fmt.Sprintf("the evaluator says rule %q, Envoy took %q", want, got), outcome
	}
	return e.differs(said, seen), outcome
}

// differs is differs for a proxy that says nothing of its routes and clusters:
// the rule is known by its tag, and one of the clusters must fit.
func (e *edge) differs(said *explain.Explanation, seen observed) string {
	if len(said.Envoy.Routes) == 1 {
		seen.Route = said.Envoy.Routes[0]
	}
	if seen.Echo != nil {
		got, client := joined(seen.Echo.Headers), said.Gateway.Client
		if withoutLast(got["x-forwarded-for"]) != withoutLast(client.ForwardedFor) || got["x-forwarded-proto"] != client.ForwardedProto {
			return fmt.Sprintf("the evaluator says X-Forwarded-For %q and X-Forwarded-Proto %q, the backend got %q and %q",
				client.ForwardedFor, client.ForwardedProto, got["x-forwarded-for"], got["x-forwarded-proto"])
		}
	}
	why := differs(said, seen)
	for i := range said.Backends {
		for _, t := range said.Backends[i].Targets {
			seen.Cluster = t.Cluster
			if differs(said, seen) == "" {
				return ""
			}
		}
	}
	return why
}

// withoutLast returns X-Forwarded-For without what Envoy has added: for a peer
// on the loopback interface it writes an address of its own.
func withoutLast(s string) string { return s[:max(0, strings.LastIndexByte(s, ','))] }

func (e *edge) asked(c *gatewayCase, r gatewayRequest) explain.GatewayRequest {
	return explain.GatewayRequest{
		Request: r.asked(explain.Workload{Namespace: gatewayNamespace, Zone: callerZone}),
		Gateway: gatewayKey(), Port: c.port(r), Secure: r.Secure, ServerName: r.ServerName, Client: loopback(),
	}
}

// certificateOf returns the name of the certificate of a listener of the case.
func (e *edge) certificateOf(c *gatewayCase, l *explain.Listener) string {
	for i, placed := range c.placed() {
		if l != nil && string(placed.Name) == l.Name {
			return fmt.Sprint(i % casesPerGateway)
		}
	}
	return ""
}

// dial opens the connection, with TLS if the client makes it.
func (c *client) dial() error {
	conn, err := net.DialTimeout("tcp", c.address, 5*time.Second)
	if err != nil {
		return err
	}
	if c.tls != nil {
		secure := tls.Client(conn, c.tls)
		if err := secure.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return err
		}
		if err := secure.HandshakeContext(context.Background()); err != nil {
			_ = conn.Close()
			return fmt.Errorf("TLS for %q: %w", c.tls.ServerName, err)
		}
		c.shown = secure.ConnectionState().PeerCertificates[0].Subject.CommonName
		conn = secure
	}
	c.conn, c.reader = conn, bufio.NewReader(conn)
	return nil
}

func loopback() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 1}) }
