package resolve

import (
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// outside is the row of an ExternalService of namespace web.
func outside(name string, created int, spec v1alpha1.ExternalServiceSpec, hosts ...string) *discovery.Object {
	spec.Hosts = hosts
	if spec.Ports == nil {
		spec.Ports = []v1alpha1.ExternalPort{{Number: 80, Name: "http"}}
	}
	o := &discovery.Object{
		Scope: "test", Kind: discovery.KindExternalService, Key: discovery.Key{Namespace: "web", Name: name}, Generation: 3, Created: day(created),
		Spec: &v1alpha1.ExternalService{Spec: spec}, Hosts: hosts,
	}
	for _, p := range spec.Ports {
		if p.TLS != nil && p.TLS.CACertificateRef != nil {
			o.Refs = append(o.Refs, discovery.ObjectName{Kind: discovery.KindConfigMap, Key: discovery.Key{Namespace: "web", Name: p.TLS.CACertificateRef.Name}})
		}
	}
	return o
}

func TestExternalHostsHaveOneOwner(t *testing.T) {
	php := service(http80)
	old := outside("old", 1, v1alpha1.ExternalServiceSpec{}, "api.example.com", "old.example.com")
	later := outside("new", 2, v1alpha1.ExternalServiceSpec{},
		"new.example.com", "api.example.com", "php-web.web", "php-web.web.svc", "php-web.web.svc.cluster.local", "10.96.0.10", "db.web")
	r := rows{services: []*discovery.Service{php}}.with(t, old, later)
	require.Equal(t, []string{"api.example.com", "old.example.com"}, upstream.BuildExternal(r, old.Key).Hosts)
	require.Equal(t, []string{"db.web", "new.example.com"}, upstream.BuildExternal(r, later.Key).Hosts, "db.web is no Service")
	require.Equal(t, []string{
		`[Conflicted] error: ExternalService web/new: spec.hosts[1]: ExternalService web/new does not have "api.example.com": ExternalService web/old is older and claims it too: remove the host here or there`,
		`[Conflicted] error: ExternalService web/new: spec.hosts[2]: ExternalService web/new does not have "php-web.web": Service web/php-web answers to it: remove the host here or there`,
		`[Conflicted] error: ExternalService web/new: spec.hosts[3]: ExternalService web/new does not have "php-web.web.svc": Service web/php-web answers to it: remove the host here or there`,
		`[Conflicted] error: ExternalService web/new: spec.hosts[4]: ExternalService web/new does not have "php-web.web.svc.cluster.local": Service web/php-web answers to it: remove the host here or there`,
		`[Conflicted] error: ExternalService web/new: spec.hosts[5]: ExternalService web/new does not have "10.96.0.10": Service web/php-web answers to it: remove the host here or there`,
	}, findingsOn(r, discovery.KindExternalService))
	require.Nil(t, upstream.BuildExternal(r, discovery.Key{Namespace: "web", Name: "none"}))

	// Who loses gets the host when the winner goes: what is touched says so.
	var touched []policy.Unit
	Touched(r, old, nil, func(u policy.Unit) { touched = append(touched, u) })
	require.Contains(t, touched, later.Name())
	touched = nil
	Touched(r, php, nil, func(u policy.Unit) { touched = append(touched, u) })
	require.Contains(t, touched, later.Name())
	touched = nil
	Touched(r, &discovery.Service{Key: discovery.Key{Namespace: "web", Name: "other"}, ClusterIPs: []string{"10.96.0.10"}}, nil,
		func(u policy.Unit) { touched = append(touched, u) })
	require.Contains(t, touched, later.Name(), "an address is a host too")
}

func TestExternalPorts(t *testing.T) {
	ca, _ := certificate(t)
	spec := v1alpha1.ExternalServiceSpec{Ports: []v1alpha1.ExternalPort{
		{Number: 8080, Name: "h2", Protocol: v1alpha1.ExternalHTTP2},
		{Number: 443, Name: "api", TargetPort: 8443, TLS: &v1alpha1.UpstreamTLS{CACertificateRef: &v1alpha1.LocalName{Name: "ca"}}},
		{Number: 3306, Protocol: v1alpha1.ExternalTCP},
		{Number: 443, Name: "twice"},
	}}
	tls := traffic("tls", 1, v1alpha1.TrafficSettings{TLS: &v1alpha1.UpstreamTLS{SNI: "other.example.com"}}, "ExternalService/api")
	more := traffic("more", 1, v1alpha1.TrafficSettings{Timeout: &v1alpha1.Timeout{Connect: ms(5), Request: ms(6)}}, "ExternalService/api#h2")
	r := rows{}.with(t, outside("api", 1, spec, "api.example.com"), tls, more, configMap("ca", ca))
	m := upstream.BuildExternal(r, discovery.Key{Namespace: "web", Name: "api"})
	require.Equal(t, "api.example.com", m.DNS)
	var got []string
	for _, p := range m.Ports {
		text := p.Name
		if p.TLS != nil {
			text += " " + p.TLS.SNI
		}
		got = append(got, text)
	}
	require.Equal(t, []string{"api api.example.com", " other.example.com", "h2 other.example.com"}, got, "a port's own TLS comes first, its host is the name")
	require.Equal(t, []bool{true, false, false}, []bool{m.Ports[0].DefaultHTTP, m.Ports[1].DefaultHTTP, m.Ports[2].DefaultHTTP})
	require.Equal(t, ca, m.Ports[0].TLS.CAs)
	require.Equal(t, uint16(8443), m.Ports[0].TargetPort)
	require.Equal(t, uint16(3306), m.Ports[1].TargetPort)
	require.Equal(t, 5, connectTimeout(m.Ports[2].Settings))
	require.Equal(t, 6, requestTimeout(m.Ports[2].Settings))
	require.Nil(t, m.Ports[0].Settings.Stated.Timeout)
	require.Equal(t, []string{
		"ExternalService web/api", "ConfigMap web/ca", "TrafficPolicy web/more", "TrafficPolicy web/tls",
	}, refNames(m.Provenance))
	require.Equal(t, []string{
		"[Invalid] error: ExternalService web/api: spec.ports[3].number: 443 stands twice, and the first counts: give each port once",
	}, findingsOn(r, discovery.KindExternalService))
}

func TestExternalFindings(t *testing.T) {
	static := v1alpha1.ExternalServiceSpec{Resolution: v1alpha1.ResolveStatic}
	addresses := v1alpha1.ExternalServiceSpec{Resolution: v1alpha1.ResolveStatic, Endpoints: []v1alpha1.ExternalEndpoint{
		{Address: "192.0.2.1", Zone: "b"}, {Address: "nonsense"}, {Address: "192.0.2.1"},
	}}
	for name, tc := range map[string]struct {
		object *discovery.Object
		want   []string
	}{
		"nothing wrong": {outside("api", 1, v1alpha1.ExternalServiceSpec{}, "api.example.com"), nil},
		"no host":       {outside("api", 1, v1alpha1.ExternalServiceSpec{}), []string{"[Invalid] error: ExternalService web/api: spec.hosts: it is empty: name the hosts that workloads call"}},
		"not a host": {
			outside("api", 1, v1alpha1.ExternalServiceSpec{}, "*.example.com"),
			[]string{`[Invalid] error: ExternalService web/api: spec.hosts[0]: "*.example.com" is not a host name: write it in small letters with a domain, like api.example.com`},
		},
		"no addresses": {
			outside("api", 1, static, "api.example.com"),
			[]string{"[Invalid] error: ExternalService web/api: spec.endpoints: resolution Static has no addresses, so requests are answered 503: give endpoints"},
		},
		"not an address": {
			outside("api", 1, addresses, "api.example.com"),
			[]string{`[Invalid] error: ExternalService web/api: spec.endpoints[1].address: "nonsense" is not an IP address: write one, or use resolution DNS`},
		},
		"CAs that are not there": {
			outside("api", 1, v1alpha1.ExternalServiceSpec{Ports: []v1alpha1.ExternalPort{
				{Number: 443, TLS: &v1alpha1.UpstreamTLS{CACertificateRef: &v1alpha1.LocalName{Name: "ca"}}},
			}}, "api.example.com"),
			[]string{"[InvalidCACertificateRef] error: ExternalService web/api: spec.ports[0].tls.caCertificateRef: there is no ConfigMap web/ca with the key ca.crt, so requests fail: put PEM certificates into the ConfigMap's key ca.crt"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := rows{}.with(t, tc.object)
			require.Equal(t, tc.want, findingsOn(r, discovery.KindExternalService))
			if m := upstream.BuildExternal(r, tc.object.Key); m != nil {
				require.LessOrEqual(t, len(m.Endpoints), 1, "each address once")
			}
			s, ok := StatusOf(r, tc.object)
			require.True(t, ok)
			require.Equal(t, tc.want == nil, s.Conditions[0].Status == metav1.ConditionTrue && s.Conditions[1].Status == metav1.ConditionTrue)
		})
	}
}

func TestMeshFindings(t *testing.T) {
	other := meshWith(v1alpha1.MeshSpec{})
	other.Key.Name = "second"
	r := rows{
		services: []*discovery.Service{service(http80)},
		groups:   []*discovery.InstanceGroup{group("ec2", maps8080)},
	}.with(t, other, meshWith(v1alpha1.MeshSpec{
		Egress:   v1alpha1.Egress{Mode: "Everything"},
		Defaults: &v1alpha1.TrafficSettings{TLS: &v1alpha1.UpstreamTLS{SNI: "x.example"}, Timeout: &v1alpha1.Timeout{Connect: ms(0)}},
		EC2:      &v1alpha1.MeshEC2{Regions: []string{"us-east-1", "eu-west-1b"}},
		Trust:    &v1alpha1.MeshTrust{Domain: "Example.com"},
	}))
	require.Equal(t, []string{
		"[Invalid] error: Mesh default: spec.defaults.timeout.connect: 0s is out of bounds, so the section timeout has no effect: write 1ms to 1h",
		"[UnsupportedValue] error: Mesh default: spec.defaults.tls: it has no effect: every target has a certificate of its own name: state tls in a TrafficPolicy or a BackendTLSPolicy about each target",
		`[Invalid] warning: Mesh default: spec.ec2.regions[1]: "eu-west-1b" is an availability zone, not a region: did you mean eu-west-1?`,
		`[Invalid] error: Mesh default: spec.egress.mode: "Everything" is not known, so unknown hosts are answered 404: write AllowAny or RegistryOnly`,
		`[Invalid] error: Mesh default: spec.trust.domain: "Example.com" is no trust domain, so workloads get no new certificates: write lower-case letters, digits, dots, dashes and underscores, for example mesh.example.com`,
		`[Invalid] error: Mesh second: metadata.name: "second" is not the Mesh that counts, so it has no effect: name it default`,
	}, findingsOn(r, discovery.KindMesh))
	require.Nil(t, BuildService(r, web).Ports[0].TLS)
	require.Equal(t, []string{
		`[Invalid] error: InstanceGroup web/ec2: spec.region: the Mesh does not list "ap-northeast-1", so no instances are read: add it to the Mesh's spec.ec2.regions, or write one of us-east-1, eu-west-1b`,
	}, findingsOn(r, "InstanceGroup"))
	conditions := InstanceGroupConditions(r, discovery.Key{Namespace: "web", Name: "ec2"})
	require.Equal(t, metav1.ConditionFalse, conditions[0].Status)
}
