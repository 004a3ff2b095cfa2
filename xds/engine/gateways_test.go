package engine

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/convert"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// pairs are certificates with their keys in PEM.
type pairs [2]struct{ chain, key []byte }

func newPairs(t *testing.T) *pairs {
	t.Helper()
	ca := harness.NewAuthority(t, "test")
	out := &pairs{}
	for i := range out {
		c := ca.Issue(t, harness.CertificateOptions{Hosts: []string{"shop.example.com", "*.example.com"}})
		out[i].chain, out[i].key = c.CertPEM, c.KeyPEM
	}
	return out
}

// edgeView is a proxy of a Gateway g0 that declares a listener.
func edgeView(namespace string, declared ...string) snapshot.View {
	return snapshot.View{Role: resource.Gateway, Namespace: namespace, Workload: "g0", Declared: declared, Authenticated: true}
}

// mutateEdge makes one random change of what Gateways are made of.
func mutateEdge(r *rand.Rand, tx *catalog.Tx, certificates *pairs) {
	meta := metav1.ObjectMeta{Namespace: pick(r, "a", "b"), Name: fmt.Sprintf("g%d", r.IntN(2)), Generation: r.Int64N(3)}
	var o metav1.Object
	switch r.IntN(8) {
	case 0:
		meta.Namespace, meta.Name = "", "causeway"
		o = &gatewayv1.GatewayClass{ObjectMeta: meta, Spec: gatewayv1.GatewayClassSpec{
			ControllerName: pick[gatewayv1.GatewayController](r, v1alpha1.ControllerName, v1alpha1.ControllerName, "example.com/other"),
		}}
	case 1:
		meta.Namespace, meta.Name = "", meta.Namespace
		meta.Labels = map[string]string{"edge": pick(r, "yes", "no")}
		o = &corev1.Namespace{ObjectMeta: meta}
	case 2, 3:
		meta.Name = "tls"
		c := certificates[r.IntN(2)]
		// It neither breaks nor goes: then the last good one stays, of which who
		// compiles from scratch knows nothing.
		catalog.Objects.Put(tx, convert.Object(&corev1.Secret{ObjectMeta: meta, Type: corev1.SecretTypeTLS, Data: map[string][]byte{
			corev1.TLSCertKey: c.chain, corev1.TLSPrivateKeyKey: c.key,
		}}, "test"))
		return
	case 4:
		o = &v1alpha1.GatewayPolicy{ObjectMeta: meta, Spec: v1alpha1.GatewayPolicySpec{
			TargetRefs: []v1alpha1.GatewayTarget{{
				Group: gatewayv1.GroupName, Kind: "Gateway", Name: fmt.Sprintf("g%d", r.IntN(2)), SectionName: pick(r, "", "l0"),
			}},
			GatewaySettings: v1alpha1.GatewaySettings{
				InFront: pick(r, nil, []v1alpha1.Hop{{Kind: v1alpha1.HopALB}}),
				Limits:  &v1alpha1.ClientLimits{Headers: new(1 + r.Int32N(3))},
			},
		}}
	default:
		o = randomGateway(r, meta)
	}
	if r.IntN(5) == 0 {
		if row := convert.Object(o, "test"); row != nil {
			catalog.Objects.Delete(tx, row.Name().String())
		}
		return
	}
	if row := convert.Object(o, "test"); row != nil {
		catalog.Objects.Put(tx, row)
	}
}

func randomGateway(r *rand.Rand, meta metav1.ObjectMeta) *gatewayv1.Gateway {
	g := &gatewayv1.Gateway{ObjectMeta: meta, Spec: gatewayv1.GatewaySpec{GatewayClassName: "causeway"}}
	for i := range 1 + r.IntN(3) {
		l := gatewayv1.Listener{
			Name: gatewayv1.SectionName(fmt.Sprintf("l%d", i)), Port: pick(r, gatewayv1.PortNumber(80), 443),
			Hostname: pick(r, nil, new(gatewayv1.Hostname("shop.example.com")), new(gatewayv1.Hostname("*.example.com"))),
			AllowedRoutes: &gatewayv1.AllowedRoutes{Namespaces: &gatewayv1.RouteNamespaces{
				From:     new(pick(r, gatewayv1.NamespacesFromSame, gatewayv1.NamespacesFromAll, gatewayv1.NamespacesFromSelector)),
				Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"edge": "yes"}},
			}},
		}
		switch l.Protocol = pick(r, gatewayv1.HTTPProtocolType, gatewayv1.HTTPSProtocolType, gatewayv1.HTTPSProtocolType, gatewayv1.TLSProtocolType, gatewayv1.TCPProtocolType); l.Protocol {
		case gatewayv1.HTTPSProtocolType:
			l.TLS = &gatewayv1.ListenerTLSConfig{CertificateRefs: []gatewayv1.SecretObjectReference{{
				Name: "tls", Namespace: pick(r, nil, new(gatewayv1.Namespace("a")), new(gatewayv1.Namespace("b"))),
			}}}
		case gatewayv1.TLSProtocolType:
			l.TLS = &gatewayv1.ListenerTLSConfig{Mode: new(gatewayv1.TLSModePassthrough)}
		case gatewayv1.TCPProtocolType:
			l.Hostname = nil
		}
		g.Spec.Listeners = append(g.Spec.Listeners, l)
	}
	return g
}

// A certificate that becomes unusable does not take what is served with it.
func TestLastGoodCertificateStays(t *testing.T) {
	certificates := newPairs(t)
	cat := catalog.New()
	e, store := start(t, cat)
	_, err := e.Declare(t.Context(), []string{"gateway/127.0.0.1=a/g0"})
	require.NoError(t, err)
	write := func(what ...metav1.Object) {
		revision, err := cat.Write(time.Time{}, func(tx *catalog.Tx) error {
			for _, o := range what {
				catalog.Objects.Put(tx, convert.Object(o, "test"))
			}
			return nil
		})
		require.NoError(t, err)
		require.NoError(t, e.Await(t.Context(), revision))
	}
	secret := func(generation, chain, key int) *corev1.Secret {
		return &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "tls", Generation: int64(generation)}, Type: corev1.SecretTypeTLS,
			Data: map[string][]byte{corev1.TLSCertKey: certificates[chain].chain, corev1.TLSPrivateKeyKey: certificates[key].key},
		}
	}
	gateway := &gatewayv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "g0", Generation: 1}, Spec: gatewayv1.GatewaySpec{
		GatewayClassName: "causeway",
		Listeners: []gatewayv1.Listener{
			{Name: "http", Port: 80, Protocol: gatewayv1.HTTPProtocolType},
			{
				Name: "https", Port: 443, Protocol: gatewayv1.HTTPSProtocolType,
				TLS: &gatewayv1.ListenerTLSConfig{CertificateRefs: []gatewayv1.SecretObjectReference{{Name: "tls"}}},
			},
		},
	}}
	versions := func() map[string]string {
		out := make(map[string]string)
		for _, r := range store.Resources(edgeView("a", "gateway/127.0.0.1=a/g0")) {
			out[r.Type.String()+" "+r.Name] = r.Version
		}
		return out
	}
	const https, certificate = "LDS gateway/127.0.0.1=a/g0:443", "SDS certificate/a/g0/a/tls"

	write(gateway, secret(1, 0, 1))
	require.NotContains(t, versions(), https, "there was never a good certificate, and a listener without one would never come up")
	require.Contains(t, versions(), "LDS gateway/127.0.0.1=a/g0:80", "the others work")
	write(secret(2, 0, 0))
	good := versions()
	require.Contains(t, good, https)
	require.Contains(t, good, certificate)
	write(secret(3, 1, 0))
	require.Equal(t, good, versions(), "a rotation in two steps passes through a pair that does not fit")
	write(secret(4, 1, 1))
	renewed := versions()
	require.NotEqual(t, good[certificate], renewed[certificate])
	require.Equal(t, good[https], renewed[https], "a rotation is no change of the listener")
	_, err = cat.Write(time.Time{}, func(tx *catalog.Tx) error {
		catalog.Objects.Delete(tx, "Secret a/tls")
		return nil
	})
	require.NoError(t, err)
	require.NoError(t, e.Await(t.Context(), cat.Read().Revision()))
	require.Equal(t, renewed, versions(), "a Secret deleted by mistake")
}

// The names of a listener whose certificate was never good are nobody's: they
// do not fall to a listener of the port that is less specific.
func TestNamesOfBrokenListenersStayClosed(t *testing.T) {
	certificates := newPairs(t)
	listener := func(name, host, secret string) gatewayv1.Listener {
		return gatewayv1.Listener{
			Name: gatewayv1.SectionName(name), Port: 443, Protocol: gatewayv1.HTTPSProtocolType, Hostname: new(gatewayv1.Hostname(host)),
			TLS: &gatewayv1.ListenerTLSConfig{CertificateRefs: []gatewayv1.SecretObjectReference{{Name: gatewayv1.ObjectName(secret)}}},
		}
	}
	cat := catalog.New()
	_, err := cat.Write(time.Time{}, func(tx *catalog.Tx) error {
		catalog.Objects.Put(tx, convert.Object(&gatewayv1.Gateway{
			ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "g0"}, Spec: gatewayv1.GatewaySpec{
				GatewayClassName: "causeway", Listeners: []gatewayv1.Listener{listener("any", "*.example.com", "tls"), listener("shop", "shop.example.com", "missing")},
			},
		}, "test"))
		catalog.Objects.Put(tx, convert.Object(&corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "tls"}, Type: corev1.SecretTypeTLS,
			Data: map[string][]byte{corev1.TLSCertKey: certificates[0].chain, corev1.TLSPrivateKeyKey: certificates[0].key},
		}, "test"))
		return nil
	})
	require.NoError(t, err)
	e := New(cat, snapshot.New(), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	d, err := naming.ParseDeclaration("gateway/127.0.0.1=a/g0")
	require.NoError(t, err)
	resources := e.compiler.Declared(d, e.build(cat.Read(), policy.GatewayUnit(d.Gateway)))
	require.Len(t, resources, 1)
	var l listenerv3.Listener
	require.NoError(t, proto.Unmarshal(resources[0].Body.Bytes(), &l))
	chains := make(map[string]string)
	for _, c := range l.GetFilterChains() {
		chains[c.GetFilterChainMatch().GetServerNames()[0]] = c.GetName()
	}
	require.Equal(t, map[string]string{"shop.example.com": "shop/closed", "*.example.com": "any"}, chains)
}
