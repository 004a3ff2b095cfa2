package bootstrap_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/bootstrap"
	"github.com/causeway-mesh/causeway/xds/compile"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// server is a control plane that remembers the nodes that came and says nothing.
type server struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer

	requests chan *discoveryv3.DeltaDiscoveryRequest
}

func (s *server) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	r, err := stream.Recv()
	if err != nil {
		return err
	}
	select {
	case s.requests <- r:
	case <-stream.Context().Done():
	}
	<-stream.Context().Done()
	return nil
}

// A proxy that starts while the control plane is down waits, is there soon
// after it is back, and says who it is.
func TestEnvoyWaitsForControlPlane(t *testing.T) {
	t.Parallel()
	o := options()
	o.Servers = []string{harness.FreeAddress(t)}
	o.HTTPListen = harness.FreeAddress(t)
	text, err := bootstrap.Generate(o)
	require.NoError(t, err)
	envoy := harness.StartEnvoy(t, text, harness.EnvoyOptions{NoWait: true})
	envoy.WaitStat(t, 10*time.Second, "cluster.causeway_xds.upstream_cx_connect_fail", 3)
	_, err = (&net.Dialer{}).DialContext(t.Context(), "tcp", o.HTTPListen)
	require.Error(t, err, "it must not serve before it knows what")

	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", o.Servers[0])
	require.NoError(t, err)
	s := &server{requests: make(chan *discoveryv3.DeltaDiscoveryRequest)}
	g := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, s)
	go func() { _ = g.Serve(listener) }()
	t.Cleanup(g.Stop)
	select {
	case r := <-s.requests:
		n, err := bootstrap.ParseNode(r.GetNode())
		require.NoError(t, err)
		require.Equal(t, "web", n.Namespace)
		require.Equal(t, "ap-northeast-1a", n.Zone)
		require.Equal(t, []string{"http/" + o.HTTPListen, naming.InternalListeners}, n.Declared)
		require.Regexp(t, `^1\.\d+\.\d+$`, n.Envoy)
	case <-time.After(8 * time.Second):
		t.Fatal("the proxy did not come back within 8 s")
	}
}

// A load balancer finds nobody at an edge that does not know yet what to serve,
// and is told when one is to go.
func TestEnvoyTellsLoadBalancers(t *testing.T) {
	t.Parallel()
	o := edge()
	o.GatewayListen, o.HealthListen, o.Servers = []string{"127.0.0.1"}, harness.FreeAddress(t), []string{harness.FreeAddress(t)}
	text, err := bootstrap.Generate(o)
	require.NoError(t, err)
	envoy := harness.StartEnvoy(t, text, harness.EnvoyOptions{NoWait: true})
	envoy.WaitStat(t, 10*time.Second, "cluster.causeway_xds.upstream_cx_connect_fail", 3)
	_, err = (&net.Dialer{}).DialContext(t.Context(), "tcp", o.HealthListen)
	require.Error(t, err)

	// The same with nothing to wait for.
	b := parse(t, text)
	b.DynamicResources = nil
	text, err = protojson.Marshal(b)
	require.NoError(t, err)
	o.HealthListen = b.GetStaticResources().GetListeners()[0].GetAddress().GetSocketAddress().GetAddress()
	envoy.Stop()
	envoy = harness.StartEnvoy(t, text, harness.EnvoyOptions{})
	port := b.GetStaticResources().GetListeners()[0].GetAddress().GetSocketAddress().GetPortValue()
	ask := func(path string) int {
		resp, err := http.Get(fmt.Sprintf("http://%s:%d%s", o.HealthListen, port, path)) //nolint:noctx // to this host
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode
	}
	require.Equal(t, []int{200, 404}, []int{ask(bootstrap.HealthPath), ask("/other")})
	old, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", fmt.Sprintf("%s:%d", o.HealthListen, port))
	require.NoError(t, err)
	_, err = fmt.Fprintf(old, "GET %s HTTP/1.0\r\n\r\n", bootstrap.HealthPath)
	require.NoError(t, err)
	answer, err := io.ReadAll(old)
	require.NoError(t, err)
	require.Regexp(t, `^HTTP/1\.0 200 `, string(answer), "some load balancers check over HTTP/1.0 and name no host")
	resp, err := http.Post("http://"+envoy.AdminAddress()+"/healthcheck/fail", "", nil) //nolint:noctx // to this host
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, 503, ask(bootstrap.HealthPath))
}

// A certificate that is renewed is taken up without a restart.
func TestEnvoyTakesRenewedCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	authority := harness.NewAuthority(t, "test")
	ca := filepath.Join(dir, "ca.crt")
	require.NoError(t, os.WriteFile(ca, authority.CertPEM, 0o600))
	cert, key := authority.Issue(t, harness.CertificateOptions{Name: "first"}).Write(t, dir, "proxy")

	// The server ends every connection after the handshake, so that the proxy
	// soon makes the next one.
	own := authority.Issue(t, harness.CertificateOptions{Name: "causeway", Hosts: []string{"causeway.internal"}})
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own.TLS(t)}, NextProtos: []string{"h2"},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authority.Pool(),
	})
	require.NoError(t, err)
	names, done := make(chan string), make(chan struct{})
	stop := t.Context().Done()
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			c, ok := conn.(*tls.Conn)
			if ok && c.Handshake() == nil {
				select {
				case names <- c.ConnectionState().PeerCertificates[0].Subject.CommonName:
				case <-stop:
				}
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})

	o := options()
	o.HTTPListen = ""
	o.Servers = []string{listener.Addr().String()}
	o.TLS = &bootstrap.TLS{CA: ca, ServerName: "causeway.internal", Cert: cert, Key: key}
	files, err := bootstrap.Files(o, dir)
	require.NoError(t, err)
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	harness.StartEnvoy(t, files[bootstrap.File], harness.EnvoyOptions{NoWait: true})
	expect := func(want string) {
		t.Helper()
		deadline := time.After(20 * time.Second)
		for {
			select {
			case got := <-names:
				if got == want {
					return
				}
			case <-deadline:
				t.Fatalf("no connection with certificate %q", want)
			}
		}
	}
	expect("first")
	authority.Issue(t, harness.CertificateOptions{Name: "second"}).Write(t, dir, "proxy")
	expect("second")
}

// Envoy's own Prometheus endpoint tells services and backings apart.
func TestEnvoyLabelsStatistics(t *testing.T) {
	t.Parallel()
	backend := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(backend.Close)
	o := options()
	o.HTTPListen = ""
	text, err := bootstrap.Generate(o)
	require.NoError(t, err)
	b := parse(t, text)
	addClusters(t, b, backend.Listener.Addr().(*net.TCPAddr))
	text, err = protojson.Marshal(b)
	require.NoError(t, err)
	envoy := harness.StartEnvoy(t, text, harness.EnvoyOptions{})
	address := envoy.Listener(t, 5*time.Second, "http/127.0.0.1:15001")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/", http.NoBody)
	require.NoError(t, err)
	request.Host = "php-web.web"
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusNotFound, answer.StatusCode)

	labels := `envoy_cluster_name="web/php-web/80/pods",causeway_namespace="web",causeway_service="php-web",causeway_port="80",causeway_backing="pods"`
	harness.Eventually(t, 5*time.Second, "labelled metrics", func() error {
		metrics := string(envoy.Admin(t, "/stats/prometheus?usedonly"))
		for _, want := range []string{
			`envoy_cluster_upstream_rq_total{` + labels + `} 1`,
			`envoy_cluster_upstream_rq_xx{envoy_response_code_class="4",` + labels + `} 1`,
			`envoy_cluster_upstream_rq_time_count{` + labels + `} 1`,
		} {
			if !strings.Contains(metrics, want) {
				return errors.New("missing " + want + "\n" + metrics)
			}
		}
		return nil
	})
}

// addClusters puts a compiled Service and its listener into a bootstrap, which
// then needs no control plane.
func addClusters(t *testing.T, b *bootstrapv3.Bootstrap, backend *net.TCPAddr) {
	t.Helper()
	b.DynamicResources, b.ClusterManager = nil, nil
	m := &policy.Service{Key: discovery.Key{Namespace: "web", Name: "php-web"}, Ports: []policy.Port{{
		Number: 80, DefaultHTTP: true, Shares: []uint32{policy.ShareTotal},
		Backings: []policy.Backing{{Platform: discovery.Pods, Zones: []policy.Zone{{Endpoints: []policy.Endpoint{{
			ID: "web/php-1", Address: backend.IP.String(), Port: backend.AddrPort().Port(), Weight: 1,
		}}}}}},
	}}}
	c := compile.New()
	d, err := naming.ParseDeclaration("http/127.0.0.1:15001")
	require.NoError(t, err)
	cluster, cla := &clusterv3.Cluster{}, &endpointv3.ClusterLoadAssignment{}
	routes := &routev3.RouteConfiguration{Name: "http"}
	listener, hcm := &listenerv3.Listener{}, &hcmv3.HttpConnectionManager{}
	for _, r := range append(c.Service(m), c.Listener(d, nil)...) {
		switch r.Type {
		case resource.Cluster:
			require.NoError(t, proto.Unmarshal(r.Body.Bytes(), cluster))
		case resource.Endpoint:
			require.NoError(t, proto.Unmarshal(r.Body.Bytes(), cla))
		case resource.VirtualHost:
			host := &routev3.VirtualHost{}
			require.NoError(t, proto.Unmarshal(r.Body.Bytes(), host))
			routes.VirtualHosts = append(routes.VirtualHosts, host)
		case resource.Listener:
			require.NoError(t, proto.Unmarshal(r.Body.Bytes(), listener))
		case resource.Route:
		}
	}
	cluster.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
	cluster.EdsClusterConfig, cluster.LoadAssignment = nil, cla
	filters := listener.GetFilterChains()[0].GetFilters() // the connection manager is the last
	config := filters[len(filters)-1].GetTypedConfig()
	require.NoError(t, config.UnmarshalTo(hcm))
	hcm.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: routes}
	require.NoError(t, config.MarshalFrom(hcm))
	listener.GetAddress().GetSocketAddress().PortSpecifier = &corev3.SocketAddress_PortValue{} // the kernel picks one
	b.GetStaticResources().Clusters = []*clusterv3.Cluster{cluster}
	b.GetStaticResources().Listeners = []*listenerv3.Listener{listener}
}
