package resolve

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	testrows "github.com/causeway-mesh/causeway/test/rows"
)

// statusOf is the status of the source of a kind, with what it could not read.
func statusOf(kind string, unread ...discovery.Unread) *discovery.SourceStatus {
	return &discovery.SourceStatus{Name: discovery.KubernetesSource(kind), Synced: true, Unread: unread}
}

// unreadObject is an object of a namespace of which no more than its targets can be read.
func unreadObject(namespace string, targets ...discovery.ObjectName) discovery.Unread {
	return discovery.Unread{Key: discovery.Key{Namespace: namespace, Name: "odd"}, Targets: targets, Why: "spec: odd"}
}

// A policy that may state TLS and that nobody could read is not none: callers must not
// take the Service for one that is spoken to in the clear.
func TestUnreadTLS(t *testing.T) {
	base := rows{
		services: []*discovery.Service{service(http80)},
		groups:   []*discovery.InstanceGroup{group("ec2", maps8080)},
	}
	this := policy.ServiceUnit(web)
	ofGroup := discovery.ObjectName{Kind: discovery.KindInstanceGroup, Key: discovery.Key{Namespace: "web", Name: "ec2"}}
	other := policy.ServiceUnit(discovery.Key{Namespace: "web", Name: "other"})
	noTLS := unreadObject("web", this)
	noTLS.NoTLS = true
	all := statusOf(discovery.KindBackendTLSPolicy)
	all.UnreadAll = "1 more"
	const btp, tp = discovery.KindBackendTLSPolicy, discovery.KindTrafficPolicy
	for name, c := range map[string]struct {
		source          *discovery.SourceStatus
		objects         []*discovery.Object
		pods, instances string // why it is not known
	}{
		"about this Service":           {source: statusOf(btp, unreadObject("web", this)), pods: "BackendTLSPolicy cannot be read: web/odd: spec: odd", instances: "BackendTLSPolicy cannot be read: web/odd: spec: odd"},
		"about anything":               {source: statusOf(btp, unreadObject("web")), pods: "BackendTLSPolicy cannot be read: web/odd: spec: odd", instances: "BackendTLSPolicy cannot be read: web/odd: spec: odd"},
		"about others":                 {source: statusOf(btp, unreadObject("web", other), unreadObject("elsewhere"))},
		"too many to name":             {source: all, pods: "BackendTLSPolicy cannot be read: 1 more", instances: "BackendTLSPolicy cannot be read: 1 more"},
		"another is in force":          {source: statusOf(btp, unreadObject("web")), objects: []*discovery.Object{backendTLS("good", 1, by("good.example"), "php-web")}},
		"a TrafficPolicy":              {source: statusOf(tp, unreadObject("web", this)), pods: "TrafficPolicy cannot be read: web/odd: spec: odd", instances: "TrafficPolicy cannot be read: web/odd: spec: odd"},
		"a TrafficPolicy of the group": {source: statusOf(tp, unreadObject("web", ofGroup)), instances: "TrafficPolicy cannot be read: web/odd: spec: odd"},
		"a TrafficPolicy without TLS":  {source: statusOf(tp, noTLS)},
		"of no kind that states TLS":   {source: statusOf(discovery.KindTrafficShift, unreadObject("web", other))},
	} {
		t.Run(name, func(t *testing.T) {
			in := base
			in.sources, in.shifts = []*discovery.SourceStatus{c.source}, c.objects
			r := in.reader(t)
			b := BuildService(r, web).Ports[0].Backings
			why := func(tls *policy.TLS) string {
				if tls == nil || !tls.Unknown {
					return ""
				}
				return tls.Failed
			}
			require.Equal(t, [2]string{c.pods, c.instances}, [2]string{why(b[0].TLS), why(b[1].TLS)})
			told := false
			for _, f := range Validate(r) {
				told = told || f.Reason == policy.ReasonUnread && f.Object.Kind == discovery.KindService
			}
			require.Equal(t, c.instances != "", told)
			var touched []policy.Unit
			Touched(r, nil, c.source, func(u policy.Unit) { touched = append(touched, u) })
			if c.instances != "" {
				require.Contains(t, touched, this, "it is compiled again")
			}
		})
	}
}

func TestUnreadTLSOfAnExternalService(t *testing.T) {
	x := &v1alpha1.ExternalService{}
	x.Spec.Hosts, x.Spec.Ports = []string{"db.example"}, []v1alpha1.ExternalPort{{Number: 443, Name: "a"}, {Number: 80, Name: "b"}}
	x.Spec.Ports[0].TLS = &v1alpha1.UpstreamTLS{}
	o := &discovery.Object{Kind: discovery.KindExternalService, Key: discovery.Key{Namespace: "web", Name: "db"}, Hosts: x.Spec.Hosts, Spec: x}
	st := statusOf(discovery.KindTrafficPolicy, unreadObject("web", o.Name()))
	in := rows{shifts: []*discovery.Object{o}, sources: []*discovery.SourceStatus{st}}
	r := in.reader(t)
	m := upstream.BuildExternal(r, o.Key)
	require.True(t, m.Ports[0].TLS.Unknown)
	require.False(t, m.Ports[1].TLS.Unknown, "what the object says itself is known")
	var touched []policy.Unit
	Touched(r, nil, st, func(u policy.Unit) { touched = append(touched, u) })
	require.Equal(t, []policy.Unit{o.Name()}, touched)
}

// Requests must not fall to the rules of others because nobody could read the route that takes them.
func TestUnreadRoutes(t *testing.T) {
	this, gate := policy.ServiceUnit(web), policy.GatewayUnit(discovery.Key{Namespace: "web", Name: "edge"})
	decoded := testrows.Parse(t, `{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: edge, namespace: web}, spec: {gatewayClassName: causeway, listeners: [{name: http, port: 80, protocol: HTTP}]}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: causeway}, spec: {controllerName: mesh.causeway.dev/controller}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: a, namespace: web}, spec: {hostnames: [a.example], parentRefs: [{name: edge}, {group: "", kind: Service, name: php-web}], rules: [{backendRefs: [{name: php-web, port: 80}]}]}}
`)
	named := func(u discovery.Unread, hosts ...string) discovery.Unread {
		u.Hosts = hosts
		return u
	}
	for name, c := range map[string]struct {
		unread   discovery.Unread
		kind     string
		producer bool
		consumer string
		hosts    []string // that are not known
	}{
		"at the Service":                   {unread: unreadObject("web", this), producer: true},
		"of a GRPCRoute":                   {unread: unreadObject("web", this), kind: discovery.KindGRPCRoute, producer: true},
		"of another namespace":             {unread: unreadObject("shop", this), consumer: "shop"},
		"at the Gateway, for any host":     {unread: unreadObject("web", gate), hosts: []string{"*", "a.example"}},
		"at the Gateway, for the host":     {unread: named(unreadObject("web", gate), "a.example"), hosts: []string{"a.example"}},
		"at the Gateway, for another host": {unread: named(unreadObject("web", gate), "b.example"), hosts: []string{"b.example"}},
		"at the Gateway, not let in":       {unread: unreadObject("shop", gate)},
		"at nobody knows what":             {unread: unreadObject("web"), producer: true, hosts: []string{"*", "a.example"}},
		"elsewhere":                        {unread: unreadObject("elsewhere")},
	} {
		t.Run(name, func(t *testing.T) {
			if c.kind == "" {
				c.kind = discovery.KindHTTPRoute
			}
			st := statusOf(c.kind, c.unread)
			in := rows{services: []*discovery.Service{service(http80)}, shifts: decoded.Objects, sources: []*discovery.SourceStatus{st}}
			r := in.reader(t)
			unknown := func(rules []policy.Rule) bool { return len(rules) == 1 && rules[0].Backends[0].Unknown != "" }
			p := BuildService(r, web).Ports[0]
			require.Equal(t, c.producer, unknown(p.HTTP.Rules))
			consumer, ok := p.ConsumerHTTP[c.consumer]
			require.Equal(t, c.consumer != "", ok && unknown(consumer.Rules))
			var hosts []string
			for _, h := range BuildGateway(r, gate.Key).Ports[0].Listeners[0].Hosts {
				if unknown(h.Rules) {
					hosts = append(hosts, h.Domain)
				}
			}
			require.Equal(t, c.hosts, hosts)
			var touched []policy.Unit
			Touched(r, st, nil, func(u policy.Unit) { touched = append(touched, u) })
			require.Equal(t, c.producer || c.consumer != "", slices.Contains(touched, this))
			require.Equal(t, c.hosts != nil, slices.Contains(touched, gate) && name != "at the Gateway, not let in")
		})
	}
}

// What the Mesh lets InstanceGroups name is not anything because nobody could read the Mesh.
func TestUnreadMesh(t *testing.T) {
	mesh := discovery.Unread{Key: policy.MeshUnit().Key, Why: "spec.ec2: odd"}
	other := mesh
	other.Name = "other"
	for name, c := range map[string]struct {
		unread discovery.Unread
		read   bool
		told   bool
	}{
		"the Mesh":                   {unread: mesh, told: true},
		"the Mesh that was read":     {unread: mesh, read: true},
		"a Mesh that does not count": {unread: other},
	} {
		t.Run(name, func(t *testing.T) {
			in := rows{groups: []*discovery.InstanceGroup{group("ec2", maps8080)}, sources: []*discovery.SourceStatus{statusOf(discovery.KindMesh, c.unread)}}
			if c.read {
				in.shifts = []*discovery.Object{{Kind: discovery.KindMesh, Key: policy.MeshUnit().Key, Spec: &v1alpha1.Mesh{}}}
			}
			told := false
			for _, f := range Validate(in.reader(t)) {
				told = told || f.Object.Kind == discovery.KindInstanceGroup && f.Field == "spec.region" && f.Severity == policy.Error
			}
			require.Equal(t, c.told, told)
		})
	}
}

// Two sources that name one object are a finding that names both, for as long as both do.
func TestTwoSourcesAreAFinding(t *testing.T) {
	cat := catalog.New()
	of := func(scope string, services ...*discovery.Service) {
		for _, s := range services {
			s.Scope = scope
		}
		_, err := cat.Write(time.Time{}, func(tx *catalog.Tx) error {
			catalog.Services.Replace(tx, scope, services)
			return nil
		})
		require.NoError(t, err)
	}
	told := func() (out []string) {
		for _, f := range Validate(cat.Read()) {
			if f.Reason == policy.ReasonConflicted {
				out = append(out, f.Object.String()+": "+f.Message)
			}
		}
		return out
	}
	of("kubernetes/services", service(http80))
	of("file", service(http80))
	require.Equal(t, []string{"Service web/php-web: two sources have it, file and kubernetes/services: that of file is in force"}, told())
	of("file")
	require.Empty(t, told())
}
