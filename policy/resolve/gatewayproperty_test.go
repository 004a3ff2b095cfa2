package resolve

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/convert"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/routing"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// edgeHosts are the names of random Gateways and routes, wrong ones too.
var edgeHosts = []gatewayv1.Hostname{
	"", "*.com", "*.example.com", "*.foo.example.com", "foo.example.com", "abc.foo.example.com", "bar.example.com",
	"example.com", "*.org", "bar.org", "10.0.0.1", "*", "Upper.example.com", "a..b", "*.*.com",
}

// edgeRequests are names that clients ask for.
var edgeRequests = []string{
	"com", "example.com", "foo.example.com", "abc.foo.example.com", "x.foo.example.com", "x.y.foo.example.com",
	"bar.example.com", "q.example.com", "q.com", "bar.org", "a.bar.org", "localhost",
}

func sometimes[T any](rnd *rand.Rand, v T) *T {
	if rnd.IntN(2) == 0 {
		return nil
	}
	return &v
}

// randomGateway returns a Gateway of which anything may be wrong.
func randomGateway(rnd *rand.Rand, key discovery.Key, listeners int) *discovery.Object {
	g := &gatewayv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, Generation: int64(rnd.IntN(5))}}
	g.Spec.GatewayClassName = pick[gatewayv1.ObjectName](rnd, "causeway", "causeway", "causeway", "class")
	for i := range listeners {
		l := gatewayv1.Listener{
			Name:     gatewayv1.SectionName(fmt.Sprintf("l%d", max(0, i-rnd.IntN(20)/19))),
			Port:     pick[gatewayv1.PortNumber](rnd, 80, 80, 443, 443, 443, 8443, 3306, 0),
			Hostname: sometimes(rnd, pick(rnd, edgeHosts...)),
		}
		switch l.Port {
		case 443, 8443:
			l.Protocol = pick[gatewayv1.ProtocolType](rnd, "HTTPS", "HTTPS", "HTTPS", "TLS")
		case 3306:
			l.Protocol = "TCP"
		default:
			l.Protocol = "HTTP"
		}
		if rnd.IntN(15) == 0 {
			l.Protocol = pick[gatewayv1.ProtocolType](rnd, "HTTP", "HTTPS", "TLS", "TCP", "UDP", "x.y/z")
		}
		if (l.Protocol == "HTTPS" || l.Protocol == "TLS") != (rnd.IntN(15) == 0) {
			l.TLS = &gatewayv1.ListenerTLSConfig{Mode: sometimes(rnd, gatewayv1.TLSModeTerminate)}
			if l.Protocol == "TLS" {
				l.TLS.Mode = sometimes(rnd, pick(rnd, gatewayv1.TLSModePassthrough, gatewayv1.TLSModeTerminate, "x"))
			}
			if rnd.IntN(2) == 0 {
				l.TLS.Options = map[gatewayv1.AnnotationKey]gatewayv1.AnnotationValue{policy.CertificateFileOption: "/tls/a.crt", policy.KeyFileOption: "/tls/a.key"}
			}
			for range rnd.IntN(3) {
				l.TLS.CertificateRefs = append(l.TLS.CertificateRefs, gatewayv1.SecretObjectReference{
					Name: pick[gatewayv1.ObjectName](rnd, "good", "other", "bad", "gone"), Namespace: sometimes(rnd, gatewayv1.Namespace(pick(rnd, worldNamespaces...))),
				})
			}
		}
		if rnd.IntN(2) == 0 {
			l.AllowedRoutes = &gatewayv1.AllowedRoutes{Namespaces: &gatewayv1.RouteNamespaces{
				From:     sometimes(rnd, pick(rnd, gatewayv1.NamespacesFromAll, gatewayv1.NamespacesFromAll, gatewayv1.NamespacesFromSame, gatewayv1.NamespacesFromSelector)),
				Selector: sometimes(rnd, metav1.LabelSelector{MatchLabels: map[string]string{"edge": pick(rnd, "yes", "no")}}),
			}}
			if rnd.IntN(4) == 0 {
				l.AllowedRoutes.Kinds = []gatewayv1.RouteGroupKind{{Kind: gatewayv1.Kind(pick(rnd, routeKinds...))}}
			}
		}
		g.Spec.Listeners = append(g.Spec.Listeners, l)
	}
	return convert.Object(g, "test")
}

// randomEdgeRoute returns a route at Gateways, and perhaps at a Service.
func randomEdgeRoute(rnd *rand.Rand) *discovery.Object {
	o := randomRoute(rnd, discovery.Key{Namespace: pick(rnd, worldNamespaces...), Name: pick(rnd, worldNames...)})
	o.Key.Name = fmt.Sprintf("e%d", rnd.IntN(12))
	spec := commonSpec(o)
	if rnd.IntN(4) > 0 {
		spec.ParentRefs = nil
	}
	for range 1 + rnd.IntN(2) {
		namespace := gatewayv1.Namespace(pick(rnd, worldNamespaces...))
		spec.ParentRefs = append(spec.ParentRefs, gatewayv1.ParentReference{
			Group: sometimes(rnd, gatewayv1.Group(gatewayv1.GroupName)), Kind: sometimes(rnd, gatewayv1.Kind(discovery.KindGateway)), Namespace: &namespace,
			Name: pick[gatewayv1.ObjectName](rnd, "edge", "edge", "edge", "none"),
		})
		ref := &spec.ParentRefs[len(spec.ParentRefs)-1]
		if rnd.IntN(4) == 0 {
			ref.SectionName = new(gatewayv1.SectionName(fmt.Sprintf("l%d", rnd.IntN(4))))
		}
		if rnd.IntN(6) == 0 {
			ref.Port = new(pick[gatewayv1.PortNumber](rnd, 80, 443))
		}
	}
	var hosts []gatewayv1.Hostname
	for range rnd.IntN(4) {
		hosts = append(hosts, pick(rnd, edgeHosts[1:]...))
	}
	switch s := o.Spec.(type) {
	case *gatewayv1.HTTPRoute:
		s.Spec.Hostnames = hosts
		path := pick(rnd, "/", "/a", "/a/b")
		s.Spec.Rules[0].Matches = []gatewayv1.HTTPRouteMatch{{Path: &gatewayv1.HTTPPathMatch{Value: &path}}}
	case *gatewayv1.GRPCRoute:
		s.Spec.Hostnames = hosts
	case *gatewayv1.TLSRoute:
		s.Spec.Hostnames = hosts
	}
	o.Refs = routeRefs(o)
	for i := range spec.ParentRefs {
		if key, ok := parentGateway(o, &spec.ParentRefs[i]); ok {
			o.Refs = append(o.Refs, discovery.ObjectName{Kind: discovery.KindGateway, Key: key})
		}
	}
	slices.SortFunc(o.Refs, func(a, b discovery.ObjectName) int { return strings.Compare(a.String(), b.String()) })
	o.Refs = slices.Compact(o.Refs)
	return o
}

// putRandomEdgeRow creates, replaces or deletes a row that Gateways read; a
// Secret has one of the given certificates with its key.
func putRandomEdgeRow(rnd *rand.Rand, tx *catalog.Tx, pairs []map[string][]byte) {
	namespace := pick(rnd, worldNamespaces...)
	key := discovery.Key{Namespace: namespace, Name: "edge"}
	remove := rnd.IntN(5) == 0
	switch rnd.IntN(12) {
	case 0, 1:
		putOrDelete(tx, randomGateway(rnd, key, 1+rnd.IntN(6)), remove)
	case 2:
		putOrDelete(tx, convert.Object(&gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: pick(rnd, "causeway", "class")}, Spec: gatewayv1.GatewayClassSpec{
			ControllerName: gatewayv1.GatewayController(pick(rnd, v1alpha1.ControllerName, v1alpha1.ControllerName, "example.com/other")),
		}}, "test"), remove || rnd.IntN(2) == 0)
	case 3:
		good := pick(rnd, pairs...)
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: pick(rnd, "good", "other")}, Type: corev1.SecretTypeTLS, Data: good}
		if rnd.IntN(3) == 0 {
			s.Name, s.Data = "bad", map[string][]byte{corev1.TLSCertKey: []byte("x"), corev1.TLSPrivateKeyKey: good[corev1.TLSPrivateKeyKey]}
		}
		putOrDelete(tx, convert.Object(s, "test"), remove)
	case 4:
		putOrDelete(tx, convert.Object(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: map[string]string{"edge": pick(rnd, "yes", "no")}}}, "test"), remove)
	case 5:
		putOrDelete(tx, &discovery.Object{Scope: "test", Kind: "ReferenceGrant", Key: discovery.Key{Namespace: namespace, Name: "edge"}, Spec: &gatewayv1.ReferenceGrant{
			Spec: gatewayv1.ReferenceGrantSpec{
				From: []gatewayv1.ReferenceGrantFrom{{Group: gatewayv1.GroupName, Kind: discovery.KindGateway, Namespace: gatewayv1.Namespace(pick(rnd, worldNamespaces...))}},
				To:   []gatewayv1.ReferenceGrantTo{{Kind: discovery.KindSecret}},
			},
		}}, remove)
	case 6:
		p := &v1alpha1.TrafficPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "edge", Generation: int64(rnd.IntN(5))}}
		p.Spec.TargetRefs = []v1alpha1.TargetReference{{
			Group: gatewayv1.GroupName, Kind: pick(rnd, discovery.KindGateway, "HTTPRoute"), Name: pick(rnd, "edge", "e0", "e1"), SectionName: pick(rnd, "", "l0"),
		}}
		p.Spec.Timeout = &v1alpha1.Timeout{Request: &metav1.Duration{Duration: time.Duration(1+rnd.IntN(5)) * time.Second}}
		putOrDelete(tx, convert.Object(p, "test"), remove)
	case 7:
		p := &v1alpha1.GatewayPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "edge", Generation: int64(rnd.IntN(5))}}
		p.Spec.TargetRefs = []v1alpha1.GatewayTarget{{Group: gatewayv1.GroupName, Kind: discovery.KindGateway, Name: "edge", SectionName: pick(rnd, "", "l0")}}
		p.Spec.Timeout = &v1alpha1.ClientTimeout{Idle: &metav1.Duration{Duration: time.Duration(1+rnd.IntN(5)) * time.Second}}
		putOrDelete(tx, convert.Object(p, "test"), remove)
	case 8:
		putRandomRow(rnd, tx)
	default:
		putOrDelete(tx, randomEdgeRoute(rnd), remove)
	}
}

// edgeModels returns what the Gateways of a random world mean.
func edgeModels(r catalog.Reader) map[discovery.Key]*policy.Gateway {
	out := make(map[discovery.Key]*policy.Gateway)
	for _, namespace := range worldNamespaces {
		key := discovery.Key{Namespace: namespace, Name: "edge"}
		out[key] = BuildGateway(r, key)
	}
	return out
}

// Whatever a change of one row changes in the meaning of a Gateway, Touched and,
// for Services whose shape changed, Referrers must yield that Gateway.
func TestWhatAGatewayReadsTouchesIt(t *testing.T) {
	changed := 0
	pairs := []map[string][]byte{tlsPair(t, "foo.example.com"), tlsPair(t, "*.com")}
	for seed := range uint64(8) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		cat := catalog.New()
		feed := cat.Subscribe()
		write := func() []catalog.Change {
			_, err := cat.Write(time.Time{}, func(tx *catalog.Tx) error { putRandomEdgeRow(rnd, tx, pairs); return nil })
			require.NoError(t, err)
			batch, _ := feed.Take()
			return batch.Changes
		}
		for range 60 {
			write()
		}
		services, before := models(cat.Read()), edgeModels(cat.Read())
		for range 100 {
			changes := write()
			r := cat.Read()
			touched := make(map[policy.Unit]bool)
			for _, c := range changes {
				Touched(r, c.Before, c.After, func(u policy.Unit) { touched[u] = true })
			}
			now, after := models(r), edgeModels(r)
			for key := range worldServices() {
				if services[key].Shape() != now[key].Shape() {
					Referrers(r, policy.ServiceUnit(key), func(u policy.Unit) { touched[u] = true })
				}
			}
			for key := range after {
				if diff := cmp.Diff(before[key], after[key]); diff != "" {
					changed++
					require.True(t, touched[policy.GatewayUnit(key)], "seed %d: %+v changes %s, which is not touched:\n%s", seed, changes, key, diff)
				}
			}
			services, before = now, after
		}
		feed.Close()
	}
	require.Greater(t, changed, 100, "the test changes nothing")
}

// bestListener returns the listener of a port that a name belongs to by the
// specification: of those in force whose host name takes it in, the most specific.
func bestListener(port []*listenerMeaning, name string) *listenerMeaning {
	var best *listenerMeaning
	for _, l := range port {
		if matchesHost(l.hostname, name) && (best == nil || hostRank(l.hostname) > hostRank(best.hostname)) {
			best = l
		}
	}
	return best
}

// matchesHost is the specification's words, independent of how the model is made.
func matchesHost(hostname, name string) bool {
	if suffix, ok := strings.CutPrefix(hostname, "*"); ok {
		return strings.HasSuffix(name, suffix) && len(name) > len(suffix)
	}
	return hostname == "" || hostname == name
}

func hostRank(hostname string) int {
	switch {
	case hostname == "":
		return 0
	case strings.HasPrefix(hostname, "*"):
		return len(hostname)
	}
	return 10_000
}

// answer returns the host that a listener of the model has for a name, as
// Envoy picks virtual hosts: exact, then the longest wildcard, then "*".
func answer(l *policy.GatewayListener, name string) *policy.GatewayHost {
	var best *policy.GatewayHost
	for i := range l.Hosts {
		h := &l.Hosts[i]
		domain := h.Domain
		if domain == "*" {
			domain = ""
		}
		if matchesHost(domain, name) && (best == nil || hostRank(domain) > hostRank(strings.TrimSuffix(best.Domain, "*"))) {
			best = h
		}
	}
	return best
}

// answering returns the listeners of a port about requests, each with a route
// configuration of its own; those without TLS share one.
func answering(p *policy.GatewayPort) []policy.GatewayListener {
	var out []policy.GatewayListener
	for _, l := range p.Listeners {
		switch {
		case !l.IsHTTP:
		case p.Protocol == policy.ListenHTTP && len(out) > 0:
			out[0].Hosts = slices.Concat(out[0].Hosts, l.Hosts)
		default:
			out = append(out, l)
		}
	}
	return out
}

// wantedRules returns, by the words of the specification alone, the rules that
// a request for a name is tried with at a listener, as route and precedence.
func wantedRules(routes []*gatewayRoute, l *listenerMeaning, name string) []string {
	type placed struct {
		rule *routing.RankedRule
		host int
	}
	var all []placed
	for _, a := range routes {
		if !slices.ContainsFunc(a.at(l), func(h string) bool { return matchesHost(h, name) }) {
			continue
		}
		host := 0
		for _, h := range a.hostnames {
			if matchesHost(h, name) {
				host = max(host, hostRank(h))
			}
		}
		for i := range a.meaning().HTTP {
			all = append(all, placed{&a.meaning().HTTP[i], host})
		}
	}
	slices.SortStableFunc(all, func(a, b placed) int {
		if a.host != b.host {
			return b.host - a.host
		}
		two := []*routing.RankedRule{b.rule, a.rule}
		routing.SortRules(two)
		if two[0] == a.rule {
			return -1
		}
		return 1
	})
	var out []string
	for _, p := range all {
		out = append(out, fmt.Sprintf("%s %d", p.rule.Route, p.rule.Index))
	}
	return out
}

// Over random Gateways and routes the model keeps what it promises, and every
// request finds the listener and the rules that the specification's words say.
func TestGatewaysByTheSpecification(t *testing.T) {
	asked, ruled, misdirected := 0, 0, 0
	pairs := []map[string][]byte{tlsPair(t, "foo.example.com"), tlsPair(t, "*.com")}
	for seed := range uint64(400) {
		rnd := rand.New(rand.NewPCG(seed, 8))
		cat := catalog.New()
		_, err := cat.Write(time.Time{}, func(tx *catalog.Tx) error {
			for range 20 {
				putRandomEdgeRow(rnd, tx, pairs)
				putOrDelete(tx, randomEdgeRoute(rnd), false)
				putOrDelete(tx, randomEdgeRoute(rnd), false)
			}
			for _, namespace := range worldNamespaces {
				putOrDelete(tx, randomGateway(rnd, discovery.Key{Namespace: namespace, Name: "edge"}, 6), false)
			}
			return nil
		})
		require.NoError(t, err)
		r := cat.Read()
		for key, m := range edgeModels(r) {
			if m == nil {
				continue
			}
			promised(t, m)
			o, _ := catalog.Objects.Get(r, policy.GatewayUnit(key).String())
			g := readGateway(r, o)
			routes := gatewayRoutes(r, g)
			for i, port := range g.ports() {
				for _, l := range answering(&m.Ports[i]) {
					for _, name := range edgeRequests {
						asked++
						meant, got := bestListener(port, name), answer(&l, name)
						switch {
						case meant == nil:
							require.Nil(t, got, "seed %d: %s at %s", seed, name, l.Name)
						case m.Ports[i].Protocol == policy.ListenTLS && meant.name != l.Name:
							require.True(t, got.Misdirected, "seed %d: %s at %s", seed, name, l.Name)
							misdirected++
						default:
							require.NotNil(t, got, "seed %d: %s at %s", seed, name, l.Name)
							require.False(t, got.Misdirected)
							var rules []string
							for _, rule := range got.Rules {
								rules = append(rules, fmt.Sprintf("%s %d", rule.Route, rule.Index))
							}
							require.Equal(t, wantedRules(routes, meant, name), rules, "seed %d: %s at %s", seed, name, l.Name)
							ruled += len(rules)
						}
					}
				}
			}
		}
	}
	require.Greater(t, asked, 5000)
	require.Greater(t, ruled, 500)
	require.Greater(t, misdirected, 500)
}

// promised asserts what the comments on Gateway say.
func promised(t *testing.T, m *policy.Gateway) {
	t.Helper()
	require.NotEmpty(t, m.Ports)
	names := make(map[string]bool)
	for i := range m.Certificates {
		c := &m.Certificates[i]
		require.False(t, names[c.Name])
		names[c.Name] = true
		require.Equal(t, c.Failed == "", len(c.Key) > 0 || c.KeyFile != "", "%s", c.Name)
	}
	require.True(t, slices.IsSortedFunc(m.Certificates, func(a, b policy.Certificate) int { return strings.Compare(a.Name, b.Name) }))
	used := make(map[string]bool)
	for i := range m.Ports {
		p := &m.Ports[i]
		require.NotZero(t, p.Number)
		require.True(t, i == 0 || m.Ports[i-1].Number < p.Number)
		require.NotEmpty(t, p.Listeners)
		require.True(t, p.Protocol != policy.ListenTCP || len(p.Listeners) == 1)
		domains := make(map[string]bool)
		for j := range p.Listeners {
			l := &p.Listeners[j]
			require.True(t, j == 0 || hostRank(p.Listeners[j-1].Hostname) >= hostRank(l.Hostname))
			require.Equal(t, l.Terminates, len(l.Certificates) > 0)
			for _, c := range l.Certificates {
				require.True(t, names[c], "%s", c)
				used[c] = true
			}
			require.Equal(t, l.IsHTTP, len(l.Hosts) > 0)
			own := false
			for k := range l.Hosts {
				h := &l.Hosts[k]
				require.True(t, k == 0 || l.Hosts[k-1].Domain < h.Domain)
				require.True(t, p.Protocol == policy.ListenTLS || !domains[h.Domain], "%s is at two listeners of a port without TLS", h.Domain)
				domains[h.Domain] = true
				own = own || h.Domain == domainOf(l.Hostname) && !h.Misdirected
			}
			require.True(t, own || !l.IsHTTP)
			var taken []string
			for k, rule := range l.TCP {
				require.True(t, len(rule.ServerNames) > 0 || k == len(l.TCP)-1)
				taken = append(taken, rule.ServerNames...)
			}
			for _, name := range taken {
				for _, other := range p.Listeners[:j] {
					require.False(t, matchesHost(other.Hostname, name) && hostRank(other.Hostname) > hostRank(l.Hostname), "%s at %s", name, l.Name)
				}
			}
			slices.Sort(taken)
			require.Len(t, slices.Compact(slices.Clone(taken)), len(taken))
		}
	}
	require.Len(t, used, len(names), "a certificate that no listener has")
}

// BenchmarkBuildGateway is what a change of any of a Gateway's many routes costs.
func BenchmarkBuildGateway(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("routes=%d", n), func(b *testing.B) {
			in := &routeRows{rows: rows{services: []*discovery.Service{service(http80)}}}
			key := discovery.Key{Namespace: web.Namespace, Name: "edge"}
			g := &gatewayv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
			g.Spec.GatewayClassName = "causeway"
			g.Spec.Listeners = []gatewayv1.Listener{{Name: "http", Port: 80, Protocol: gatewayv1.HTTPProtocolType}}
			in.objects = append(in.objects, convert.Object(g, "test"))
			port := gatewayv1.PortNumber(80)
			for i := range n {
				route := &gatewayv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: fmt.Sprintf("r%d", i)}}
				route.Spec.ParentRefs = []gatewayv1.ParentReference{{Name: gatewayv1.ObjectName(key.Name)}}
				route.Spec.Hostnames = []gatewayv1.Hostname{gatewayv1.Hostname(fmt.Sprintf("h%d.example.com", i))}
				route.Spec.Rules = []gatewayv1.HTTPRouteRule{{BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: gatewayv1.BackendRef{
					BackendObjectReference: gatewayv1.BackendObjectReference{Name: gatewayv1.ObjectName(web.Name), Port: &port},
				}}}}}
				in.objects = append(in.objects, convert.Object(route, "test"))
			}
			r := in.reader(b)
			require.Len(b, BuildGateway(r, key).Ports[0].Listeners[0].Hosts, n+1)
			b.ReportAllocs()
			for b.Loop() {
				BuildGateway(r, key)
			}
		})
	}
}
