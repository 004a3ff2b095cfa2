package identity

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	lrsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/kubetest"
	"github.com/causeway-mesh/causeway/xds/bootstrap"
	xdscredentials "github.com/causeway-mesh/causeway/xds/credentials"
	"github.com/causeway-mesh/causeway/xds/identity/authority"
	"github.com/causeway-mesh/causeway/xds/members"
	"github.com/causeway-mesh/causeway/xds/members/membersv1"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/server"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// replica is the xDS port of a control plane with the rights of the manifests, and all services on it.
type replica struct {
	*Identity
	listener *xdscredentials.Listener
	xds      *server.Server
	address  string
	registry *prometheus.Registry
	log      *lockedBuffer
	// authority certifies workloads once it runs.
	authority *authority.Authority
	ca        *harness.Authority // of proxies with certificates
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func identify(n *corev3.Node) (server.Node, error) {
	node, err := bootstrap.ParseNode(n)
	return server.Node{ID: node.ID, Role: node.Role, Namespace: node.Namespace, Workload: node.Workload, Instance: node.Instance, NodeName: node.NodeName}, err
}

const rules = `clients:
- {dns: php.example.org, namespaces: [web]}
- {serviceAccount: edge/public, namespaces: [edge], roles: [gateway]}
`

func newReplica(t *testing.T, config *rest.Config, plaintext bool) *replica {
	t.Helper()
	r := &replica{registry: prometheus.NewRegistry(), log: &lockedBuffer{}, ca: harness.NewAuthority(t, "proxies")}
	log := slog.New(slog.NewTextHandler(r.log, nil))
	var err error
	r.Identity, err = New(Options{Rest: config, Namespace: "causeway-system", Audience: "causeway", Log: log, Registry: r.registry})
	require.NoError(t, err)
	dir := t.TempDir()
	cert, key := r.ca.Issue(t, harness.CertificateOptions{Name: "localhost", Hosts: []string{"localhost"}}).Write(t, dir, "server")
	files := xdscredentials.Files{Cert: cert, Key: key, CA: filepath.Join(dir, "ca.crt"), Rules: filepath.Join(dir, "rules.yaml")}
	require.NoError(t, os.WriteFile(files.CA, r.ca.CertPEM, 0o600))
	require.NoError(t, os.WriteFile(files.Rules, []byte(rules), 0o600))
	r.listener, err = xdscredentials.New(xdscredentials.Options{Files: files, Tokens: r.Identity, Log: log, Registry: r.registry})
	require.NoError(t, err)
	o := server.Options{Logger: log, Metrics: server.NewMetrics(r.registry), Identify: identify}
	if !plaintext {
		o.Credentials, o.Authenticate, o.Authorize = r.listener.Transport(), r.listener.Authenticate, r.listener.Authorize
	}
	store := snapshot.New()
	store.Apply(time.Time{}, []snapshot.Update{{Unit: "u", Resources: []resource.Resource{{Type: resource.Cluster, Name: "c", Body: resource.Parts{[]byte("\n\x01c")}}}}})
	r.xds = server.New(store, o)
	names := members.New(catalog.New(), r.xds, log)
	r.authority = authority.New(authority.Options{Store: r.Identity, Domain: func() string { return "cluster.local" }, Log: log, Registry: r.registry})
	if !plaintext {
		names.Certifier = r.authority
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r.address = l.Addr().String()
	go func() { done <- r.xds.Serve(l) }()
	go func() { done <- names.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		r.xds.Stop()
		<-done
		<-done
	})
	return r
}

// asks opens a stream of a service as a node, and returns the error with which the control plane ends it, nil if it serves it.
type asks func(ctx context.Context, conn *grpc.ClientConn, n *corev3.Node) error

// services are all that a proxy or its agent calls.
var services = map[string]asks{
	"delta": func(ctx context.Context, conn *grpc.ClientConn, n *corev3.Node) error {
		stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
		if err == nil {
			_ = stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: n, TypeUrl: resource.Cluster.URL(), ResourceNamesSubscribe: []string{"*"}})
			_, err = stream.Recv()
		}
		return err
	},
	"state of the world": func(ctx context.Context, conn *grpc.ClientConn, n *corev3.Node) error {
		stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
		if err == nil {
			_ = stream.Send(&discoveryv3.DiscoveryRequest{Node: n, TypeUrl: resource.Cluster.URL()})
			_, err = stream.Recv()
		}
		return err
	},
	"load reports": func(ctx context.Context, conn *grpc.ClientConn, n *corev3.Node) error {
		stream, err := lrsv3.NewLoadReportingServiceClient(conn).StreamLoadStats(ctx)
		if err == nil {
			_ = stream.Send(&lrsv3.LoadStatsRequest{Node: n})
			_, err = stream.Recv()
		}
		return err
	},
	"access logs": func(ctx context.Context, conn *grpc.ClientConn, n *corev3.Node) error {
		stream, err := accesslogv3.NewAccessLogServiceClient(conn).StreamAccessLogs(ctx)
		if err == nil {
			_ = stream.Send(&accesslogv3.StreamAccessLogsMessage{Identifier: &accesslogv3.StreamAccessLogsMessage_Identifier{Node: n, LogName: "l"}})
			_ = stream.CloseSend()
			if err = stream.RecvMsg(&accesslogv3.StreamAccessLogsResponse{}); err != nil && strings.Contains(err.Error(), "cardinality violation") {
				err = nil // it took all, and answers nothing
			}
		}
		return err
	},
	"members": func(ctx context.Context, conn *grpc.ClientConn, n *corev3.Node) error {
		stream, err := membersv1.NewMembersClient(conn).Join(ctx)
		if err == nil {
			_ = stream.Send(&membersv1.JoinRequest{Content: &membersv1.JoinRequest_Hello{Hello: &membersv1.Hello{Node: n.GetId()}}})
			_, err = stream.Recv()
		}
		return err
	},
}

// ask asks one service. Without a token there is none in the metadata, without a certificate none on the connection.
func (r *replica) ask(t *testing.T, service string, transport credentials.TransportCredentials, authorization []string, id, node string) error {
	t.Helper()
	conn, err := grpc.NewClient(r.address, grpc.WithTransportCredentials(transport))
	require.NoError(t, err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ctx = metadata.NewOutgoingContext(ctx, metadata.MD{"authorization": authorization})
	n := &corev3.Node{Id: id}
	if node != "" {
		n.Metadata = &structpb.Struct{Fields: map[string]*structpb.Value{"causeway.dev/node-name": structpb.NewStringValue(node)}}
	}
	return services[service](ctx, conn, n)
}

func (r *replica) tls(certificates ...tls.Certificate) credentials.TransportCredentials {
	return credentials.NewTLS(&tls.Config{RootCAs: r.ca.Pool(), ServerName: "localhost", Certificates: certificates, MinVersion: tls.VersionTLS13})
}

func (r *replica) refused(cause string) int {
	families, _ := r.registry.Gather()
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "causeway_xds_refused_streams_total" && m.GetLabel()[0].GetValue() == cause {
				return int(m.GetCounter().GetValue())
			}
		}
	}
	return 0
}

// newPod makes a pod that nobody runs.
func newPod(t *testing.T, k *kubetest.Kube, namespace, account, name string) *corev1.Pod {
	t.Helper()
	k.ServiceAccountToken(t, namespace, account) // which makes the account
	pod, err := k.Client(t).CoreV1().Pods(namespace).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.PodSpec{ServiceAccountName: account, NodeName: "n1", Containers: []corev1.Container{{Name: "php", Image: "php"}}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	return pod
}

// tokenOf is a token as the kubelet would put it into the pod.
func tokenOf(t *testing.T, client kubernetes.Interface, pod *corev1.Pod, audience string) string {
	t.Helper()
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences: []string{audience}, ExpirationSeconds: new(int64(3600)),
		BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID},
	}}
	answer, err := client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(t.Context(), pod.Spec.ServiceAccountName, request, metav1.CreateOptions{})
	require.NoError(t, err)
	return answer.Status.Token
}

func nodeOf(role string, pod *corev1.Pod) string {
	return fmt.Sprintf("%s~%s~php~%s", role, pod.Namespace, pod.UID)
}

// With the real API server: who comes with a pod's token is that pod and nobody else, at every service of the port, and each refusal is
// logged with its reason, counted, and has no token in it.
func TestAttacks(t *testing.T) {
	t.Parallel()
	k := pool.Take(t)
	client := k.Client(t)
	for _, ns := range []string{"web", "shop", "edge"} {
		k.Namespace(t, ns)
	}
	r := newReplica(t, k.ServiceAccountConfig(t, "causeway-system", "causeway"), false)
	web, other, shop, edge := newPod(t, k, "web", "php", "php-1"), newPod(t, k, "web", "php", "php-2"), newPod(t, k, "shop", "php", "php-1"), newPod(t, k, "edge", "public", "edge-1")
	token := func(pod *corev1.Pod) string { return "Bearer " + tokenOf(t, client, pod, "causeway") }
	own, ofEdge := token(web), token(edge)

	// What holds is served, by every service.
	certificate := r.ca.Issue(t, harness.CertificateOptions{Name: "x", Hosts: []string{"php.example.org"}}).TLS(t)
	for service := range services {
		require.NoError(t, r.ask(t, service, r.tls(), []string{own}, nodeOf("sidecar", web), ""), service)
		require.NoError(t, r.ask(t, service, r.tls(certificate), nil, "sidecar~web~php~i-1", ""), service)
		require.NoError(t, r.ask(t, service, r.tls(), []string{ofEdge}, nodeOf("gateway", edge), ""), service)
	}
	require.NoError(t, r.ask(t, "delta", r.tls(), []string{own}, nodeOf("sidecar", web), "n1"))

	gone := newPod(t, k, "web", "php", "php-3")
	ofGone := token(gone)
	require.NoError(t, client.CoreV1().Pods("web").Delete(t.Context(), gone.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}))
	harness.Eventually(t, 30*time.Second, "the API server to refuse the token of the pod that is gone", func() error {
		review, err := client.AuthenticationV1().TokenReviews().Create(t.Context(), &authenticationv1.TokenReview{
			Spec: authenticationv1.TokenReviewSpec{Token: strings.TrimPrefix(ofGone, "Bearer "), Audiences: []string{"causeway"}},
		}, metav1.CreateOptions{})
		if err == nil && review.Status.Authenticated {
			err = fmt.Errorf("it takes it")
		}
		return err
	})
	parts := strings.Split(own, ".")
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(t, err)
	forged := func(from, to string) string {
		require.Contains(t, string(claims), from)
		return parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(claims), from, to, 1))) + "." + parts[2]
	}
	expired := parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"aud":["causeway"],"exp":1700000000,"sub":"system:serviceaccount:web:php"}`)) + "." + parts[2]

	const unauthenticated, unauthorized = "unauthenticated", "unauthorized"
	for name, c := range map[string]struct {
		authorization []string
		id, node      string
		cause, why    string
	}{
		"no token":                    {nil, nodeOf("sidecar", web), "", unauthenticated, "neither a client certificate nor the token of a pod"},
		"another audience":            {[]string{"Bearer " + tokenOf(t, client, web, "https://kubernetes.default.svc.cluster.local")}, nodeOf("sidecar", web), "", unauthenticated, "for the audience"},
		"expired":                     {[]string{expired}, nodeOf("sidecar", web), "", unauthenticated, "the token has expired"},
		"garbage":                     {[]string{"Bearer a.b.c"}, nodeOf("sidecar", web), "", unauthenticated, "none of a service account"},
		"no JWT":                      {[]string{"Bearer harness-admin"}, nodeOf("sidecar", web), "", unauthenticated, "none of a service account"},
		"an empty token":              {[]string{"Bearer "}, nodeOf("sidecar", web), "", unauthenticated, "none of the scheme Bearer"},
		"another scheme":              {[]string{"Basic YTpi"}, nodeOf("sidecar", web), "", unauthenticated, "none of the scheme Bearer"},
		"two tokens":                  {[]string{own, "Bearer a.b.c"}, nodeOf("sidecar", web), "", unauthenticated, "more than one token"},
		"a huge token":                {[]string{"Bearer " + strings.Repeat("a", 9<<10)}, nodeOf("sidecar", web), "", unauthenticated, "more than 8192 bytes"},
		"a forged namespace":          {[]string{forged("web", "shop")}, nodeOf("sidecar", shop), "", unauthenticated, "the API server does not take the token"},
		"a forged uid":                {[]string{forged(string(web.UID), string(other.UID))}, nodeOf("sidecar", other), "", unauthenticated, "the API server does not take the token"},
		"no signature":                {[]string{parts[0] + "." + parts[1] + "."}, nodeOf("sidecar", web), "", unauthenticated, "the API server does not take the token"},
		"of a pod that is gone":       {[]string{ofGone}, nodeOf("sidecar", gone), "", unauthenticated, "the API server does not take the token"},
		"bound to no pod":             {[]string{"Bearer " + k.ServiceAccountToken(t, "web", "php", "causeway")}, nodeOf("sidecar", web), "", unauthenticated, "bound to no pod"},
		"as another pod":              {[]string{own}, nodeOf("sidecar", other), "", unauthorized, "with the uid " + string(web.UID)},
		"as a pod elsewhere":          {[]string{own}, nodeOf("sidecar", shop), "", unauthorized, "with the uid " + string(web.UID)},
		"in another namespace":        {[]string{own}, "sidecar~shop~php~" + string(web.UID), "", unauthorized, "no rule lets pod web/php-1"},
		"as an instance":              {[]string{own}, "sidecar~web~php~i-1", "", unauthorized, "with the uid " + string(web.UID)},
		"as a gateway":                {[]string{own}, nodeOf("gateway", web), "", unauthorized, "no rule lets pod web/php-1"},
		"the gateway's, in another":   {[]string{ofEdge}, "gateway~web~php~" + string(edge.UID), "", unauthorized, "no rule lets pod edge/edge-1"},
		"on another node":             {[]string{own}, nodeOf("sidecar", web), "n2", unauthorized, "on the node n1"},
		"a certificate's, by a token": {[]string{own}, "sidecar~web~php~php.example.org", "", unauthorized, "with the uid"},
	} {
		r.guessed()
		for service := range services {
			if c.node != "" && service != "delta" {
				continue // agents say in another field where they are, and nothing follows from it
			}
			before := r.refused(c.cause)
			err := r.ask(t, service, r.tls(), c.authorization, c.id, c.node)
			require.Errorf(t, err, "%s: %s", name, service)
			require.Containsf(t, status.Convert(err).Message(), c.why, "%s: %s", name, service)
			want := codes.Unauthenticated
			if c.cause == unauthorized {
				want = codes.PermissionDenied
			}
			require.Equal(t, want, status.Code(err), "%s: %s: %v", name, service, err)
			require.Equal(t, before+1, r.refused(c.cause), "%s: %s", name, service)
		}
		// Lines of who is unknown are bounded, so each reason is asked for alone, later.
		if c.cause == unauthorized {
			require.Contains(t, strings.ReplaceAll(r.log.String(), `\"`, `"`), c.why, name)
		}
	}
	// A bad token is not made good by a certificate.
	require.ErrorContains(t, r.ask(t, "delta", r.tls(certificate), []string{"Bearer a.b.c"}, "sidecar~web~php~i-1", ""), "none of a service account")
	// And a certificate of another CA ends the handshake, with or without a token.
	foreign := harness.NewAuthority(t, "other").Issue(t, harness.CertificateOptions{Name: "x", Hosts: []string{"php.example.org"}}).TLS(t)
	require.ErrorContains(t, r.ask(t, "delta", credentials.NewTLS(&tls.Config{
		RootCAs: r.ca.Pool(), ServerName: "localhost", MinVersion: tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &foreign, nil },
	}), []string{own}, nodeOf("sidecar", web), ""), "code = Unavailable desc = ")
	require.Contains(t, r.log.String(), "neither a client certificate nor the token of a pod")
	require.Greater(t, testutil.ToFloat64(r.results.WithLabelValues("refused")), 10.0)
	require.Zero(t, testutil.ToFloat64(r.results.WithLabelValues("kept")))
	for _, secret := range []string{parts[1], parts[2], "harness-admin", strings.Split(ofGone, ".")[1]} {
		require.NotContains(t, r.log.String(), secret, "no token is logged")
	}
}

// Where the listener has no TLS, a token is refused whoever it is of: everybody on the way can have read it.
func TestTokenWithoutTLS(t *testing.T) {
	t.Parallel()
	k := pool.Take(t)
	k.Namespace(t, "web")
	r := newReplica(t, k.ServiceAccountConfig(t, "causeway-system", "causeway"), true)
	pod := newPod(t, k, "web", "php", "php-1")
	own := "Bearer " + tokenOf(t, k.Client(t), pod, "causeway")
	for service := range services {
		err := r.ask(t, service, insecure.NewCredentials(), []string{own}, nodeOf("sidecar", pod), "")
		require.Equal(t, codes.Unauthenticated, status.Code(err), "%s: %v", service, err)
	}
	require.NoError(t, r.ask(t, "delta", insecure.NewCredentials(), nil, nodeOf("sidecar", pod), ""))
	require.Contains(t, r.log.String(), "a token came without TLS")
	require.Equal(t, len(services), r.refused("unauthenticated"))
	require.NotContains(t, r.log.String(), strings.Split(own, ".")[2])
}

// An API server that does not answer takes nothing from a pod that was accepted, until its token ends; a new one is to try again, which
// is another answer than that of a token that is not good. Many who come at once are one question.
func TestOutage(t *testing.T) {
	t.Parallel()
	k := pool.Take(t)
	k.Namespace(t, "web")
	proxy := k.Proxy(t, harness.ProxyHTTP)
	r := newReplica(t, kubetest.Via(k.ServiceAccountConfig(t, "causeway-system", "causeway"), proxy), false)
	var after atomic.Int64
	r.now = func() time.Time { return time.Now().Add(time.Duration(after.Load())) }
	known, unknown := newPod(t, k, "web", "php", "php-1"), newPod(t, k, "web", "php", "php-2")
	ofKnown, ofUnknown := "Bearer "+tokenOf(t, k.Client(t), known, "causeway"), "Bearer "+tokenOf(t, k.Client(t), unknown, "causeway")
	var together sync.WaitGroup
	errs := make(chan error, 20)
	for range cap(errs) {
		together.Go(func() {
			_, err := r.Review(t.Context(), "192.0.2.1:1", strings.TrimPrefix(ofKnown, "Bearer "))
			errs <- err
		})
	}
	together.Wait()
	for range cap(errs) {
		require.NoError(t, <-errs)
	}
	require.NoError(t, r.ask(t, "delta", r.tls(), []string{ofKnown}, nodeOf("sidecar", known), ""))
	require.NotZero(t, testutil.ToFloat64(r.results.WithLabelValues("known")))

	k.Stop()
	later := func(d time.Duration) { after.Store(int64(d)) }
	later(30 * time.Minute)
	for service := range services {
		require.NoError(t, r.ask(t, service, r.tls(), []string{ofKnown}, nodeOf("sidecar", known), ""), service)
		err := r.ask(t, service, r.tls(), []string{ofUnknown}, nodeOf("sidecar", unknown), "")
		require.Equal(t, codes.Unavailable, status.Code(err), "%s: %v", service, err)
	}
	require.Equal(t, len(services), int(testutil.ToFloat64(r.results.WithLabelValues("kept"))))
	require.Equal(t, len(services), r.refused("undecided"))
	require.Contains(t, r.log.String(), "could not be asked about the token")
	later(59*time.Minute + 59*time.Second + 2*skew)
	require.Equal(t, codes.Unauthenticated, status.Code(r.ask(t, "delta", r.tls(), []string{ofKnown}, nodeOf("sidecar", known), "")), "it has ended")
	later(0)
	k.Restart(t)
	harness.Eventually(t, 30*time.Second, "the new pod to be accepted", func() error {
		return r.ask(t, "delta", r.tls(), []string{ofUnknown}, nodeOf("sidecar", unknown), "")
	})
}

// Who guesses makes the API server work no more than twenty times a minute, and keeps nobody out who was accepted.
func TestGuesses(t *testing.T) {
	t.Parallel()
	k := pool.Take(t)
	k.Namespace(t, "web")
	r := newReplica(t, k.ServiceAccountConfig(t, "causeway-system", "causeway"), false)
	pod := newPod(t, k, "web", "php", "php-1")
	own := tokenOf(t, k.Client(t), pod, "causeway")
	review := func(address, token string) error {
		_, err := r.Review(t.Context(), address, token)
		return err
	}
	require.NoError(t, review("192.0.2.1:1", own))
	for i := range refusedMost {
		require.ErrorContains(t, review("192.0.2.1:1", fmt.Sprintf("%sx%d", own, i)), "does not take the token")
	}
	require.Equal(t, codes.Unavailable, status.Code(review("192.0.2.1:2", own+"y")))
	require.NoError(t, review("192.0.2.1:3", own))
	require.ErrorContains(t, review("192.0.2.2:1", own+"y"), "does not take the token")
	r.now = func() time.Time { return time.Now().Add(refusedFor) }
	require.ErrorContains(t, review("192.0.2.1:2", own+"y"), "does not take the token")

	// What is remembered is bounded.
	for i := range maxKnown + 10 {
		var key [32]byte
		copy(key[:], fmt.Sprint(i))
		r.put(&answer{key: key, asked: time.Now(), ends: time.Now().Add(time.Hour)})
	}
	require.Len(t, r.known, maxKnown)
	require.Equal(t, maxKnown, r.order.Len())
}

// guessed forgets how many tokens were refused.
func (r *reviewer) guessed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.refusals)
}

// poolOf are the CAs of a bundle.
func poolOf(t *testing.T, bundle string) *x509.CertPool {
	t.Helper()
	p := x509.NewCertPool()
	require.True(t, p.AppendCertsFromPEM([]byte(bundle)))
	return p
}
