package resolve

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/effective"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// with returns a reader of rows and objects.
func (r rows) with(tb testing.TB, objects ...*discovery.Object) catalog.Reader {
	tb.Helper()
	cat := catalog.New()
	_, err := cat.Write(time.Time{}, func(tx *catalog.Tx) error {
		put(tx, catalog.Services, r.services)
		put(tx, catalog.Objects, groupRows(r.groups))
		put(tx, catalog.Endpoints, r.sets)
		put(tx, catalog.Homes, r.homes)
		put(tx, catalog.Objects, objects)
		return nil
	})
	require.NoError(tb, err)
	return cat.Read()
}

// day returns when an object was created.
func day(n int) time.Time { return time.Date(2026, time.November, n, 0, 0, 0, 0, time.UTC) }

func ms(n int) *metav1.Duration {
	return &metav1.Duration{Duration: time.Duration(n) * time.Millisecond}
}

// targets parses "Kind/name" and "Kind/name#section".
func targets(refs ...string) []v1alpha1.TargetReference {
	var out []v1alpha1.TargetReference
	for _, ref := range refs {
		ref, section, _ := strings.Cut(ref, "#")
		kind, name, _ := strings.Cut(ref, "/")
		out = append(out, v1alpha1.TargetReference{Group: effective.TargetGroups[kind], Kind: kind, Name: name, SectionName: section})
	}
	return out
}

// traffic is the row of a TrafficPolicy of namespace web.
func traffic(name string, created int, s v1alpha1.TrafficSettings, refs ...string) *discovery.Object {
	p := &v1alpha1.TrafficPolicy{Spec: v1alpha1.TrafficPolicySpec{TargetRefs: targets(refs...), TrafficSettings: s}}
	o := &discovery.Object{
		Scope: "test", Kind: discovery.KindTrafficPolicy, Key: discovery.Key{Namespace: "web", Name: name}, Generation: 7, Created: day(created), Spec: p,
	}
	seen := make(map[discovery.ObjectName]bool)
	for _, t := range p.Spec.TargetRefs {
		n := discovery.ObjectName{Kind: t.Kind, Key: discovery.Key{Namespace: "web", Name: t.Name}}
		if !seen[n] {
			o.Refs = append(o.Refs, n)
		}
		seen[n] = true
	}
	if s.TLS != nil && s.TLS.CACertificateRef != nil {
		o.Refs = append(o.Refs, discovery.ObjectName{Kind: discovery.KindConfigMap, Key: discovery.Key{Namespace: "web", Name: s.TLS.CACertificateRef.Name}})
	}
	return o
}

func meshWith(s v1alpha1.MeshSpec) *discovery.Object {
	return &discovery.Object{
		Scope: "test", Kind: discovery.KindMesh, Key: discovery.Key{Name: v1alpha1.MeshName}, Generation: 2, Spec: &v1alpha1.Mesh{Spec: s},
	}
}

func configMap(name, ca string) *discovery.Object {
	m := &corev1.ConfigMap{}
	if ca != "" {
		m.Data = map[string]string{"ca.crt": ca}
	}
	return &discovery.Object{Scope: "test", Kind: discovery.KindConfigMap, Key: discovery.Key{Namespace: "web", Name: name}, Spec: m}
}

// httpRoute is a route of web with one rule for each name, whose parent is php-web.
func httpRoute(name string, rules ...string) *discovery.Object {
	kind := gatewayv1.Kind(discovery.KindService)
	group := gatewayv1.Group("")
	route := &gatewayv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: name}}
	route.Spec.ParentRefs = []gatewayv1.ParentReference{{Group: &group, Kind: &kind, Name: "php-web"}}
	for _, r := range rules {
		rule := gatewayv1.HTTPRouteRule{}
		if r != "" {
			section := gatewayv1.SectionName(r)
			rule.Name = &section
		}
		prefix, path := gatewayv1.PathMatchPathPrefix, "/"+r
		rule.Matches = []gatewayv1.HTTPRouteMatch{{Path: &gatewayv1.HTTPPathMatch{Type: &prefix, Value: &path}}}
		route.Spec.Rules = append(route.Spec.Rules, rule)
	}
	return &discovery.Object{
		Scope: "test", Kind: "HTTPRoute", Key: discovery.Key{Namespace: "web", Name: name}, Generation: 4, Spec: route,
		Refs: []discovery.ObjectName{{Kind: discovery.KindService, Key: web}},
	}
}

func timeout(connect, request int) v1alpha1.TrafficSettings {
	t := &v1alpha1.Timeout{}
	if connect > 0 {
		t.Connect = ms(connect)
	}
	if request > 0 {
		t.Request = ms(request)
	}
	return v1alpha1.TrafficSettings{Timeout: t}
}

func pool(connections int32) v1alpha1.TrafficSettings {
	return v1alpha1.TrafficSettings{ConnectionPool: &v1alpha1.ConnectionPool{MaxConnections: &connections}}
}

// requestTimeout and connectTimeout read what settings say, in milliseconds.
func requestTimeout(s policy.Settings) int {
	if s.Stated.Timeout == nil || s.Stated.Timeout.Request == nil {
		return 0
	}
	return int(s.Stated.Timeout.Request.Milliseconds())
}

func connectTimeout(s policy.Settings) int {
	if s.Stated.Timeout == nil || s.Stated.Timeout.Connect == nil {
		return 0
	}
	return int(s.Stated.Timeout.Connect.Milliseconds())
}

func TestRequestSectionsByPrecedence(t *testing.T) {
	admin := discovery.ServicePort{Name: "admin", Port: 81}
	base := rows{services: []*discovery.Service{service(http80, admin)}}
	route := httpRoute("shop", "cart", "")
	all := []*discovery.Object{
		route,
		traffic("rule", 9, timeout(0, 1), "HTTPRoute/shop#cart"),
		traffic("route", 8, timeout(0, 2), "HTTPRoute/shop"),
		traffic("port", 7, timeout(0, 3), "Service/php-web#http"),
		traffic("service", 6, timeout(0, 4), "Service/php-web"),
		meshWith(v1alpha1.MeshSpec{Defaults: &v1alpha1.TrafficSettings{Timeout: &v1alpha1.Timeout{Request: ms(5)}}}),
	}
	// Each step takes the most specific policy away.
	for i, want := range []struct{ cart, rest, plain, admin int }{
		{1, 2, 3, 4}, {2, 2, 3, 4}, {3, 3, 3, 4}, {4, 4, 4, 4}, {5, 5, 5, 5},
	} {
		m := BuildService(base.with(t, append([]*discovery.Object{route}, all[1+i:]...)...), web)
		rules := make(map[string]int)
		for _, rule := range m.Ports[0].HTTP.Rules {
			rules[rule.Name] = requestTimeout(rule.Settings)
		}
		require.Equal(t, map[string]int{"cart": want.cart, "": want.rest}, rules, "step %d", i)
		require.Equal(t, want.plain, requestTimeout(m.Ports[0].Settings), "step %d", i)
		require.Equal(t, want.admin, requestTimeout(m.Ports[1].Settings), "step %d", i)
	}
	m := BuildService(base.with(t, all...), web)
	require.Equal(t, "port", m.Ports[0].Settings.From["timeout"].Name)
	require.Equal(t, []string{
		"Service web/php-web", "TrafficPolicy web/port", "TrafficPolicy web/service",
	}, refNames(m.Provenance))
	require.Contains(t, refNames(m.Ports[0].HTTP.Provenance), "TrafficPolicy web/rule")
}

func refNames(refs []discovery.ObjectRef) []string {
	var out []string
	for _, r := range refs {
		out = append(out, r.String())
	}
	return out
}

func TestClusterSectionsByPrecedence(t *testing.T) {
	base := rows{
		services: []*discovery.Service{service(http80)},
		groups:   []*discovery.InstanceGroup{group("ec2", maps8080), group("old", maps8080)},
	}
	m := BuildService(base.with(t,
		traffic("group", 9, timeout(1, 0), "InstanceGroup/ec2"),
		traffic("service", 6, timeout(2, 0), "Service/php-web"),
		traffic("pool", 6, pool(10), "Service/php-web"),
		meshWith(v1alpha1.MeshSpec{Defaults: &v1alpha1.TrafficSettings{
			Timeout: &v1alpha1.Timeout{Connect: ms(3)}, Locality: v1alpha1.StrictLocality,
		}}),
	), web)
	pods, instances := m.Ports[0].Backings[0].Settings, m.Ports[0].Backings[1].Settings
	require.Equal(t, 2, connectTimeout(pods))
	require.Equal(t, 1, connectTimeout(instances))
	require.Equal(t, "group", instances.From["timeout.connect"].Name)
	for _, s := range []policy.Settings{pods, instances} {
		require.Equal(t, int32(10), *s.Stated.ConnectionPool.MaxConnections, "sections merge one by one")
		require.Equal(t, v1alpha1.StrictLocality, s.Locality())
		require.Equal(t, discovery.KindMesh, s.From["locality"].Kind)
	}
	require.Empty(t, m.Ports[0].Settings.From, "clusters' sections are none of the requests'")
	require.Equal(t, []string{
		"Service web/php-web", "InstanceGroup web/ec2", "InstanceGroup web/old",
		"Mesh default", "TrafficPolicy web/group", "TrafficPolicy web/pool", "TrafficPolicy web/service",
	}, refNames(m.Provenance))
}

// The parts of a section that act on different sides do not shadow each other.
func TestPartsOfSectionsAreIndependent(t *testing.T) {
	budget := int32(20)
	attempts := int32(1)
	m := BuildService(rows{services: []*discovery.Service{service(http80)}}.with(t,
		traffic("port", 1, v1alpha1.TrafficSettings{
			Timeout: &v1alpha1.Timeout{Request: ms(1)}, Retry: &v1alpha1.Retry{Attempts: &attempts},
		}, "Service/php-web#http"),
		traffic("service", 1, v1alpha1.TrafficSettings{
			Timeout: &v1alpha1.Timeout{Connect: ms(2), Request: ms(3)}, Retry: &v1alpha1.Retry{BudgetPercent: &budget},
			LoadBalancer: &v1alpha1.LoadBalancer{Algorithm: v1alpha1.RingHash, Hash: &v1alpha1.HashKey{Header: "X-User"}},
		}, "Service/php-web"),
	), web)
	p := m.Ports[0]
	require.Equal(t, 1, requestTimeout(p.Settings))
	require.Equal(t, int32(1), *p.Settings.Stated.Retry.Attempts)
	require.Nil(t, p.Settings.Stated.Retry.BudgetPercent)
	require.Equal(t, "X-User", p.Settings.Stated.LoadBalancer.Hash.Header)
	b := p.Backings[0].Settings
	require.Equal(t, 2, connectTimeout(b))
	require.Equal(t, int32(20), *b.Stated.Retry.BudgetPercent)
	require.Equal(t, v1alpha1.RingHash, b.Stated.LoadBalancer.Algorithm)
	require.Nil(t, b.Stated.LoadBalancer.Hash)
}

func TestOldestPolicyWins(t *testing.T) {
	base := rows{services: []*discovery.Service{service(http80)}}
	for name, tc := range map[string]struct {
		policies []*discovery.Object
		want     int
	}{
		"the older":         {[]*discovery.Object{traffic("a", 2, timeout(0, 1), "Service/php-web"), traffic("b", 1, timeout(0, 2), "Service/php-web")}, 2},
		"the first by name": {[]*discovery.Object{traffic("b", 1, timeout(0, 1), "Service/php-web"), traffic("a", 1, timeout(0, 2), "Service/php-web")}, 2},
		"the next where the winner has a mistake": {
			[]*discovery.Object{traffic("a", 1, timeout(0, 1<<40), "Service/php-web"), traffic("b", 2, timeout(0, 2), "Service/php-web")}, 2,
		},
		"one of another namespace is about another Service": {
			[]*discovery.Object{func() *discovery.Object {
				o := traffic("a", 1, timeout(0, 1), "Service/php-web")
				o.Namespace = "shop"
				return o
			}()}, 0,
		},
		"one of another group": {
			[]*discovery.Object{func() *discovery.Object {
				o := traffic("a", 1, timeout(0, 1), "Service/php-web")
				o.Spec.(*v1alpha1.TrafficPolicy).Spec.TargetRefs[0].Group = "example.com"
				return o
			}()}, 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tc.want, requestTimeout(BuildService(base.with(t, tc.policies...), web).Ports[0].Settings))
		})
	}
}

// findingsOn lists the findings about policies as a person reads them.
func findingsOn(r catalog.Reader, kinds ...string) []string {
	var out []string
	for _, f := range Validate(r) {
		for _, k := range kinds {
			if f.Object.Kind == k {
				out = append(out, "["+f.Reason+"] "+f.String())
			}
		}
	}
	return out
}

func TestTrafficPolicyFindings(t *testing.T) {
	base := rows{
		services: []*discovery.Service{service(http80, discovery.ServicePort{Name: "tcp-db", Port: 3306})},
		groups:   []*discovery.InstanceGroup{group("ec2", maps8080)},
	}
	zero := int32(0)
	grpc := v1alpha1.TrafficSettings{HealthCheck: &v1alpha1.ActiveHealthCheck{GRPC: &v1alpha1.GRPCHealthCheck{}}}
	for name, tc := range map[string]struct {
		objects []*discovery.Object
		want    []string
	}{
		"nothing wrong": {[]*discovery.Object{traffic("p", 1, timeout(5, 5), "Service/php-web#http")}, nil},
		"no such Service": {
			[]*discovery.Object{traffic("p", 1, timeout(0, 5), "Service/php")},
			[]string{"[TargetNotFound] error: TrafficPolicy web/p: spec.targetRefs[0]: there is no Service web/php: create it or correct the name"},
		},
		"no such port": {
			[]*discovery.Object{traffic("p", 1, timeout(0, 5), "Service/php-web#htpp")},
			[]string{`[TargetNotFound] error: TrafficPolicy web/p: spec.targetRefs[0]: Service web/php-web has no port named "htpp": name one of its ports: "http", "tcp-db"`},
		},
		"no such rule": {
			[]*discovery.Object{traffic("p", 1, timeout(0, 5), "HTTPRoute/shop#cart"), httpRoute("shop", "pay")},
			[]string{`[TargetNotFound] error: TrafficPolicy web/p: spec.targetRefs[0]: HTTPRoute web/shop has no rule named "cart": correct sectionName, or name the rule`},
		},
		"no such route": {
			[]*discovery.Object{traffic("p", 1, timeout(0, 5), "GRPCRoute/shop")},
			[]string{"[TargetNotFound] error: TrafficPolicy web/p: spec.targetRefs[0]: there is no GRPCRoute web/shop: create it or correct the name"},
		},
		"a kind that cannot be a target": {
			[]*discovery.Object{traffic("p", 1, timeout(0, 5), "Deployment/php", "Gateway/edge")},
			[]string{
				"[UnsupportedValue] error: TrafficPolicy web/p: spec.targetRefs[0].kind: a TrafficPolicy cannot be about a Deployment: write ExternalService, GRPCRoute, Gateway, HTTPRoute, InstanceGroup or Service",
				"[TargetNotFound] error: TrafficPolicy web/p: spec.targetRefs[1]: there is no Gateway web/edge: create it or correct the name",
			},
		},
		"a cluster's section on a route": {
			[]*discovery.Object{
				traffic("p", 1, v1alpha1.TrafficSettings{Timeout: &v1alpha1.Timeout{Connect: ms(5), Request: ms(5)}, Locality: v1alpha1.NoLocality}, "HTTPRoute/shop"),
				httpRoute("shop", ""),
			},
			[]string{
				"[UnsupportedValue] error: TrafficPolicy web/p: spec.locality: it has no effect on HTTPRoute web/shop, because it is about connections and endpoints, which routes share: state it in a TrafficPolicy about the Service",
				"[UnsupportedValue] error: TrafficPolicy web/p: spec.timeout.connect: it has no effect on HTTPRoute web/shop, because it is about connections and endpoints, which routes share: state it in a TrafficPolicy about the Service",
			},
		},
		"a request's section on an InstanceGroup": {
			[]*discovery.Object{traffic("p", 1, timeout(0, 5), "InstanceGroup/ec2")},
			[]string{"[UnsupportedValue] error: TrafficPolicy web/p: spec.timeout: it has no effect on InstanceGroup web/ec2, because it acts before an endpoint is chosen: state it in a TrafficPolicy about the Service or a route"},
		},
		"mistakes": {
			[]*discovery.Object{traffic("p", 1, v1alpha1.TrafficSettings{
				Timeout: &v1alpha1.Timeout{Connect: &metav1.Duration{}}, ConnectionPool: &v1alpha1.ConnectionPool{MaxRequests: &zero},
			}, "Service/php-web")},
			[]string{
				"[Invalid] error: TrafficPolicy web/p: spec.connectionPool.maxRequests: 0 is out of bounds, so the section connectionPool has no effect: write at least 1",
				"[Invalid] error: TrafficPolicy web/p: spec.timeout.connect: 0s is out of bounds, so the section timeout has no effect: write 1ms to 1h",
			},
		},
		"all is lost": {
			[]*discovery.Object{traffic("new", 2, timeout(0, 5), "Service/php-web"), traffic("old", 1, timeout(0, 5), "Service/php-web")},
			[]string{"[Conflicted] error: TrafficPolicy web/new: spec: others are older and have timeout at Service web/php-web (TrafficPolicy web/old): merge the policies, or remove what has no effect"},
		},
		"some is lost": {
			[]*discovery.Object{traffic("new", 2, timeout(5, 5), "Service/php-web"), traffic("old", 1, timeout(0, 5), "Service/php-web")},
			[]string{"[Conflicted] warning: TrafficPolicy web/new: spec: others are older and have timeout at Service web/php-web (TrafficPolicy web/old): merge the policies, or remove what has no effect"},
		},
		"a more specific one is no conflict": {
			[]*discovery.Object{traffic("port", 2, timeout(0, 5), "Service/php-web#http"), traffic("old", 1, timeout(0, 5), "Service/php-web")}, nil,
		},
		"gRPC checks of what does not speak it": {
			[]*discovery.Object{traffic("p", 1, grpc, "Service/php-web#http")},
			[]string{"[UnsupportedValue] error: TrafficPolicy web/p: spec.healthCheck.grpc: it has no effect on ports of Service web/php-web#http that do not speak HTTP/2: give sectionName the port that speaks gRPC, or correct its protocol"},
		},
		"HTTP's sections on a TCP port": {
			[]*discovery.Object{traffic("p", 1, v1alpha1.TrafficSettings{Retry: &v1alpha1.Retry{}}, "Service/php-web#tcp-db")},
			[]string{"[UnsupportedValue] error: TrafficPolicy web/p: spec.retry: it has no effect on Service web/php-web#tcp-db, which is not HTTP: remove it, or correct the port's protocol"},
		},
		"failures that no request meets": {
			[]*discovery.Object{traffic("p", 1, v1alpha1.TrafficSettings{Retry: &v1alpha1.Retry{RetryOn: []v1alpha1.RetryCondition{"GRPCUnavailable", "RefusedStream"}}}, "Service/php-web#http")},
			[]string{
				"[Accepted] warning: TrafficPolicy web/p: spec.retry.retryOn[0]: GRPCUnavailable is never met: it is a status of gRPC, and Service web/php-web#http speaks HTTP/1.1, and nothing else is listed, so no request is sent again: remove it, or name the port's protocol, for example appProtocol: grpc",
				"[Accepted] warning: TrafficPolicy web/p: spec.retry.retryOn[1]: RefusedStream is never met: only HTTP/2 refuses streams, and Service web/php-web#http speaks HTTP/1.1, and nothing else is listed, so no request is sent again: remove it, or name the port's protocol, for example appProtocol: grpc",
			},
		},
		"a failure of gRPC without its method": {
			[]*discovery.Object{traffic("p", 1, v1alpha1.TrafficSettings{Retry: &v1alpha1.Retry{RetryOn: []v1alpha1.RetryCondition{"GRPCUnavailable", "Reset"}}}, "HTTPRoute/shop"), httpRoute("shop")},
			[]string{
				"[Accepted] warning: TrafficPolicy web/p: spec.retry.retryOn[0]: GRPCUnavailable is never met: requests of gRPC are POST, which methods does not list: write methods: [POST] if they may be sent again although the target may have begun to act",
			},
		},
		"failures of gRPC with its method": {
			[]*discovery.Object{traffic("p", 1, v1alpha1.TrafficSettings{Retry: &v1alpha1.Retry{Methods: []string{"POST"}, RetryOn: []v1alpha1.RetryCondition{"GRPCUnavailable", "RefusedStream"}}}, "HTTPRoute/shop"), httpRoute("shop")}, nil,
		},
		"a pool's fields about requests on a TCP port": {
			[]*discovery.Object{traffic("p", 1, v1alpha1.TrafficSettings{
				Timeout:        &v1alpha1.Timeout{Request: ms(5), Idle: ms(5)},
				ConnectionPool: &v1alpha1.ConnectionPool{IdleTimeout: ms(5), MaxConnections: new(int32(5))},
			}, "Service/php-web#tcp-db")},
			[]string{
				"[UnsupportedValue] error: TrafficPolicy web/p: spec.connectionPool.idleTimeout: it has no effect on Service web/php-web#tcp-db, which is not HTTP: state timeout.idle, which closes idle connections of TCP, or correct the port's protocol",
				"[UnsupportedValue] error: TrafficPolicy web/p: spec.timeout.request: it has no effect on Service web/php-web#tcp-db, which is not HTTP: remove it, or correct the port's protocol",
			},
		},
		"an empty one": {
			[]*discovery.Object{traffic("p", 1, v1alpha1.TrafficSettings{}, "Service/php-web")},
			[]string{"[Accepted] warning: TrafficPolicy web/p: spec: it has no section, so it says nothing: add what callers shall do, for example timeout"},
		},
		"TLS to nobody, with CAs that are not there": {
			[]*discovery.Object{traffic("p", 1, v1alpha1.TrafficSettings{TLS: &v1alpha1.UpstreamTLS{CACertificateRef: &v1alpha1.LocalName{Name: "ca"}}}, "Service/php-web")},
			[]string{
				"[InvalidCACertificateRef] error: TrafficPolicy web/p: spec.tls.caCertificateRef: there is no ConfigMap web/ca with the key ca.crt, so requests fail: put PEM certificates into the ConfigMap's key ca.crt",
				"[Invalid] error: TrafficPolicy web/p: spec.tls.sni: it is missing, so requests fail: write the name that the target's certificate has",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tc.want, findingsOn(base.with(t, tc.objects...), discovery.KindTrafficPolicy))
		})
	}
}

// What is said of one of two InstanceGroups is said of their common cluster.
func TestPolicyOnOneOfTwoGroups(t *testing.T) {
	base := rows{services: []*discovery.Service{service(http80)}, groups: []*discovery.InstanceGroup{group("a", maps8080), group("b", maps8080)}}
	got := findingsOn(base.with(t, traffic("p", 1, timeout(5, 0), "InstanceGroup/a")), discovery.KindTrafficPolicy)
	require.Equal(t, []string{
		"[Accepted] warning: TrafficPolicy web/p: spec.targetRefs[0]: InstanceGroup web/b gets it too: both are the backing of Service web/php-web on instances: target the Service, or name the InstanceGroup as a route's backend",
	}, got)
}

func TestTrafficPolicyConditions(t *testing.T) {
	base := rows{services: []*discovery.Service{service(http80)}}
	older, newer := traffic("old", 1, timeout(0, 5), "Service/php-web"), traffic("new", 2, timeout(0, 5), "Service/php-web")
	r := base.with(t, older, newer)
	for o, want := range map[*discovery.Object]string{older: "True Accepted", newer: "False Conflicted"} {
		s, ok := StatusOf(r, o)
		require.True(t, ok)
		require.Len(t, s.Conditions, 2)
		require.Equal(t, want, string(s.Conditions[0].Status)+" "+s.Conditions[0].Reason)
		require.Equal(t, int64(7), s.Conditions[0].ObservedGeneration)
		require.Equal(t, "ResolvedRefs", s.Conditions[1].Type)
		require.Equal(t, metav1.ConditionTrue, s.Conditions[1].Status)
	}
}

// What nothing is said of costs what it did; what policies say costs its own.
func BenchmarkPolicies(b *testing.B) {
	base := rows{services: []*discovery.Service{service(http80)}, groups: []*discovery.InstanceGroup{group("ec2", maps8080)}}
	for name, objects := range map[string][]*discovery.Object{
		"none":     nil,
		"defaults": {meshWith(v1alpha1.MeshSpec{Defaults: &v1alpha1.TrafficSettings{Timeout: &v1alpha1.Timeout{Connect: ms(5)}}})},
		"policies": {traffic("a", 1, timeout(1, 1), "Service/php-web"), traffic("b", 1, pool(5), "Service/php-web#http")},
	} {
		r := base.with(b, objects...)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				BuildService(r, web)
			}
		})
	}
}
