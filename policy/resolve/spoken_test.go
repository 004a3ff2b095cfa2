package resolve

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/upstream"
	testrows "github.com/causeway-mesh/causeway/test/rows"
)

// The objects of TestWhatIsSpoken, whose port is that of Service web/php.
const (
	spokenService = `{apiVersion: v1, kind: Service, metadata: {name: php, namespace: web}, spec: {ports: [{name: %s, port: 443}]}}`
	spokenPods    = `{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: php, namespace: web, labels: {kubernetes.io/service-name: php}}, addressType: IPv4, ports: [{name: "", port: 8443}], endpoints: [{addresses: [10.0.0.1], targetRef: {kind: Pod, namespace: web, name: php-0}}]}`
	spokenGroup   = `{apiVersion: mesh.causeway.dev/v1alpha1, kind: InstanceGroup, metadata: {name: ec2, namespace: web}, spec: {region: ap-northeast-1, serviceRef: {name: php}, ports: [{name: x, port: 8443}], selector: {autoScalingGroups: [php]}}}`
	spokenPolicy  = `{apiVersion: gateway.networking.k8s.io/v1, kind: BackendTLSPolicy, metadata: {name: tls, namespace: web}, spec: {targetRefs: [{group: "", kind: Service, name: php%s}], validation: {hostname: php.example.com, wellKnownCACertificates: System}}}`
	spokenOurs    = `{apiVersion: mesh.causeway.dev/v1alpha1, kind: TrafficPolicy, metadata: {name: tls, namespace: web}, spec: {targetRefs: [{%s}], tls: {sni: php.example.com}}}`
	spokenRoute   = `{apiVersion: gateway.networking.k8s.io/v1, kind: %s, metadata: {name: r, namespace: %s}, spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{namespace: web, %s}]}]}}`
	spokenParent  = `{apiVersion: gateway.networking.k8s.io/v1, kind: %s, metadata: {name: r, namespace: web}, spec: {parentRefs: [{group: "", kind: Service, name: php%s}]}}`
	spokenGrant   = `{apiVersion: gateway.networking.k8s.io/v1, kind: ReferenceGrant, metadata: {name: g, namespace: web}, spec: {from: [{group: gateway.networking.k8s.io, kind: GRPCRoute, namespace: shop}], to: [{group: "", kind: Service}]}}`
)

func TestWhatIsSpoken(t *testing.T) {
	named := func(name string) string { return fmt.Sprintf(spokenService, name) }
	declared := func(app string) string { return fmt.Sprintf(spokenService, "btls, appProtocol: "+app) }
	whole, toGroup := fmt.Sprintf(spokenPolicy, ""), fmt.Sprintf(spokenOurs, "group: mesh.causeway.dev, kind: InstanceGroup, name: ec2")
	grpc := fmt.Sprintf(spokenRoute, "GRPCRoute", "web", "name: php, port: 443")
	mirror := strings.Replace(grpc, "rules: [{", `rules: [{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: php, port: 443}}}], `, 1)
	mirror = strings.Replace(mirror, "[{namespace: web, name: php, port: 443}]", "[{name: other, port: 80}]", 1)
	foreign := fmt.Sprintf(spokenRoute, "GRPCRoute", "shop", "name: php, port: 443")
	groupRoute := fmt.Sprintf(spokenRoute, "GRPCRoute", "web", "group: mesh.causeway.dev, kind: InstanceGroup, name: ec2")
	const failed = "port 443 speaks TLS, and no policy says how it is spoken to these endpoints"
	for name, c := range map[string]struct {
		objects []string
		want    policy.Protocol
		// pods and instances say how TLS is spoken to them: the name that is asked for, or why not; "" for in the clear.
		pods, instances string
	}{
		"https without a policy":         {[]string{named("https")}, policy.TCP, "", ""},
		"https with one":                 {[]string{named("https"), whole}, policy.HTTP1, "php.example.com", ""},
		"https-1 with one of the port":   {[]string{named("https-1"), fmt.Sprintf(spokenPolicy, ", sectionName: https-1")}, policy.HTTP1, "php.example.com", ""},
		"https with one of another port": {[]string{named("https"), fmt.Sprintf(spokenPolicy, ", sectionName: other")}, policy.TCP, "", ""},
		"HTTPS, as the suite writes it":  {[]string{declared("HTTPS"), whole}, policy.HTTP1, "php.example.com", ""},
		"by a TrafficPolicy":             {[]string{named("https"), fmt.Sprintf(spokenOurs, "kind: Service, name: php")}, policy.HTTP1, "php.example.com", ""},
		"of the instances alone":         {[]string{named("https"), spokenGroup, toGroup}, policy.HTTP1, failed, "php.example.com"},
		"of both":                        {[]string{named("https"), spokenGroup, whole}, policy.HTTP1, "php.example.com", "php.example.com"},
		"wss":                            {[]string{declared("wss"), whole}, policy.HTTP1, "php.example.com", ""},
		"wss and a GRPCRoute":            {[]string{declared("kubernetes.io/wss"), whole, grpc}, policy.HTTP1, "php.example.com", ""},
		"wss without a policy":           {[]string{declared("wss"), grpc}, policy.TCP, "", ""},
		"tls is passed through":          {[]string{named("tls"), whole}, policy.TCP, "php.example.com", ""},
		"mysql stays what it is":         {[]string{named("mysql"), whole}, policy.TCP, "php.example.com", ""},
		"undeclared":                     {[]string{named("btls"), whole}, policy.HTTP1, "php.example.com", ""},

		"gRPC to an undeclared one":          {[]string{named("btls"), whole, grpc}, policy.Negotiated, "php.example.com", ""},
		"gRPC to https":                      {[]string{named("https"), whole, grpc}, policy.Negotiated, "php.example.com", ""},
		"gRPC in the clear":                  {[]string{named("btls"), grpc}, policy.HTTP1, "", ""},
		"gRPC to https without a policy":     {[]string{named("https"), grpc}, policy.TCP, "", ""},
		"gRPC to http":                       {[]string{declared("http"), whole, grpc}, policy.HTTP1, "php.example.com", ""},
		"gRPC to h2c":                        {[]string{declared("kubernetes.io/h2c"), whole, grpc}, policy.HTTP2, "php.example.com", ""},
		"gRPC to another port":               {[]string{named("btls"), whole, strings.Replace(grpc, "443", "444", 1)}, policy.HTTP1, "php.example.com", ""},
		"gRPC that is mirrored":              {[]string{named("btls"), whole, mirror}, policy.Negotiated, "php.example.com", ""},
		"gRPC as its parent":                 {[]string{named("btls"), whole, fmt.Sprintf(spokenParent, "GRPCRoute", "")}, policy.Negotiated, "php.example.com", ""},
		"gRPC as the parent of another port": {[]string{named("btls"), whole, fmt.Sprintf(spokenParent, "GRPCRoute", ", port: 80")}, policy.HTTP1, "php.example.com", ""},
		"gRPC from elsewhere":                {[]string{named("btls"), whole, foreign}, policy.HTTP1, "php.example.com", ""},
		"gRPC from elsewhere, granted":       {[]string{named("btls"), whole, foreign, spokenGrant}, policy.Negotiated, "php.example.com", ""},
		"gRPC to the InstanceGroup":          {[]string{named("btls"), whole, spokenGroup, groupRoute}, policy.Negotiated, "php.example.com", "php.example.com"},
		"gRPC, pods in the clear":            {[]string{named("btls"), spokenGroup, toGroup, groupRoute}, policy.HTTP1, "", "php.example.com"},
		"gRPC, pods nobody knows how":        {[]string{named("https"), spokenGroup, toGroup, groupRoute}, policy.HTTP1, failed, "php.example.com"},
		"an HTTPRoute is not gRPC":           {[]string{named("btls"), whole, strings.Replace(grpc, "GRPCRoute", "HTTPRoute", 1)}, policy.HTTP1, "php.example.com", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := testrows.Parse(t, strings.Join(append(c.objects, spokenPods), "\n---\n")).Catalog(t).Read()
			key := discovery.Key{Namespace: "web", Name: "php"}
			m := BuildService(r, key)
			p := &m.Ports[0]
			require.Equal(t, c.want, p.Protocol)
			require.Equal(t, m.Shape(), (&policy.Service{Ports: upstream.ShapeOf(r, key).Ports}).Shape(), "routes of others read the same")
			require.Equal(t, []policy.Protocol{c.want}, upstream.Protocols(r, key))
			how := func(on discovery.BackingName) string {
				b := p.Backing(on)
				if b == nil || b.TLS == nil {
					return ""
				}
				return b.TLS.SNI + b.TLS.Failed
			}
			require.Equal(t, [2]string{c.pods, c.instances}, [2]string{how(discovery.Pods), how(discovery.Instances)})
			told, unsaid := false, false
			for _, f := range findingsOn(r, discovery.KindService) {
				told = told || strings.Contains(f, "no policy says how it is spoken to the pods")
				unsaid = unsaid || strings.Contains(f, "nothing says what is spoken on it")
			}
			require.Equal(t, c.pods == failed, told)
			require.Equal(t, p.Assumed && c.pods+c.instances == "", unsaid, "a policy about TLS says enough")
		})
	}
}

// Nobody may be told that an https port is TCP because a policy about it cannot be read: its requests would
// meet nothing. Where a route about requests names the port, it stays HTTP, and its clusters are withheld.
func TestWhatIsSpokenIsNotKnown(t *testing.T) {
	unread := statusOf(discovery.KindBackendTLSPolicy, unreadObject("web", policy.ServiceUnit(discovery.Key{Namespace: "web", Name: "php"})))
	http := fmt.Sprintf(spokenRoute, "HTTPRoute", "web", "name: php, port: 443")
	for name, c := range map[string]struct {
		port    string
		objects []string
		want    policy.Protocol
	}{
		"no route":                      {"https", nil, policy.TCP},
		"an HTTPRoute":                  {"https", []string{http}, policy.HTTP1},
		"a GRPCRoute":                   {"https", []string{strings.Replace(http, "HTTPRoute", "GRPCRoute", 1)}, policy.Negotiated},
		"of its only port":              {"https", []string{fmt.Sprintf(spokenParent, "HTTPRoute", "")}, policy.HTTP1},
		"perhaps of another":            {"https, port: 443}, {name: http, port: 80", []string{fmt.Sprintf(spokenParent, "HTTPRoute", "")}, policy.TCP},
		"of this one by its name":       {"https, port: 443}, {name: http, port: 80", []string{fmt.Sprintf(spokenParent, "HTTPRoute", ", sectionName: https")}, policy.HTTP1},
		"a TCPRoute":                    {"https", []string{strings.Replace(http, "HTTPRoute", "TCPRoute", 1)}, policy.TCP},
		"undeclared, and whatever else": {"btls", []string{http}, policy.HTTP1},
	} {
		t.Run(name, func(t *testing.T) {
			text := fmt.Sprintf(spokenService, c.port)
			if strings.Contains(c.port, "80") {
				text = strings.Replace(text, "80, port: 443", "80", 1)
			}
			in := testrows.Parse(t, strings.Join(append(c.objects, text), "\n---\n"))
			cat := in.Catalog(t)
			_, err := cat.Write(day(1), func(tx *catalog.Tx) error {
				catalog.Sources.Put(tx, unread)
				return nil
			})
			require.NoError(t, err)
			ports := BuildService(cat.Read(), discovery.Key{Namespace: "web", Name: "php"}).Ports
			p := &ports[len(ports)-1]
			require.Equal(t, c.want, p.Protocol)
			require.True(t, p.Backings[0].TLS.Unknown, "its cluster is withheld")
		})
	}
}

// A policy about the https port must not have requests that say no port go there.
func TestHTTPSIsNotTheDefaultPort(t *testing.T) {
	two := func(number string) string {
		return fmt.Sprintf(spokenService, "https, port: 443}, {name: http, port: "+number)
	}
	for number, want := range map[string]uint16{"8080": 8080, "80": 80} {
		text := strings.Replace(two(number), number+", port: 443", number, 1)
		m := BuildService(testrows.Parse(t, text+"\n---\n"+fmt.Sprintf(spokenPolicy, ", sectionName: https")).Catalog(t).Read(), discovery.Key{Namespace: "web", Name: "php"})
		for _, p := range m.Ports {
			require.Equal(t, p.Number == want, p.DefaultHTTP, "%d", p.Number)
			require.NotEqual(t, policy.TCP, p.Protocol)
		}
	}
	only := BuildService(testrows.Parse(t, fmt.Sprintf(spokenService, "https")+"\n---\n"+fmt.Sprintf(spokenPolicy, "")).Catalog(t).Read(), discovery.Key{Namespace: "web", Name: "php"})
	require.True(t, only.Ports[0].DefaultHTTP)
}

// A route that cannot send to a port says what helps: not to declare HTTP in the clear where TLS is spoken.
func TestRemediesOfPortsWithTLS(t *testing.T) {
	whole := fmt.Sprintf(spokenPolicy, "")
	for name, c := range map[string]struct {
		port    string
		objects []string
		want    string
	}{
		"HTTP to https":                    {"https", []string{fmt.Sprintf(spokenRoute, "HTTPRoute", "web", "name: php, port: 443")}, "say how TLS is spoken to it in a BackendTLSPolicy about the Service, or, if it speaks no TLS, set the appProtocol of the port, for example to http"},
		"HTTP to mysql":                    {"mysql", []string{fmt.Sprintf(spokenRoute, "HTTPRoute", "web", "name: php, port: 443")}, "set the appProtocol of the port, for example to http"},
		"gRPC to https":                    {"https", []string{fmt.Sprintf(spokenRoute, "GRPCRoute", "web", "name: php, port: 443")}, "say how TLS is spoken to it in a BackendTLSPolicy about the Service, or, if it speaks no TLS, set the appProtocol of the port, for example to kubernetes.io/h2c"},
		"gRPC to what nobody has declared": {"btls", []string{fmt.Sprintf(spokenRoute, "GRPCRoute", "web", "name: php, port: 443")}, "set the appProtocol of the port, for example to kubernetes.io/h2c, or, if it speaks TLS, create a BackendTLSPolicy about the Service"},
		"gRPC to http":                     {"http", []string{fmt.Sprintf(spokenRoute, "GRPCRoute", "web", "name: php, port: 443")}, "set the appProtocol of the port, for example to kubernetes.io/h2c"},
		"gRPC to wss":                      {"wss", []string{whole, fmt.Sprintf(spokenRoute, "GRPCRoute", "web", "name: php, port: 443")}, "set the appProtocol of the port, for example to kubernetes.io/h2c"},
		"gRPC as the parent of https":      {"https", []string{fmt.Sprintf(spokenParent, "GRPCRoute", "")}, "set the appProtocol of the port: kubernetes.io/h2c, or grpc; or, if it speaks TLS, create a BackendTLSPolicy about the Service"},
		"HTTP as the parent of mysql":      {"mysql", []string{fmt.Sprintf(spokenParent, "HTTPRoute", "")}, "set the appProtocol of the port: http, or kubernetes.io/h2c"},
	} {
		t.Run(name, func(t *testing.T) {
			const gateway = `{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: causeway}, spec: {controllerName: mesh.causeway.dev/controller}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: edge, namespace: web}, spec: {gatewayClassName: causeway, listeners: [{name: http, port: 80, protocol: HTTP}]}}`
			r := testrows.Parse(t, strings.Join(append(c.objects, fmt.Sprintf(spokenService, c.port), gateway), "\n---\n")).Catalog(t).Read()
			var got []string
			for _, f := range Validate(r) {
				if strings.HasSuffix(f.Object.Kind, "Route") && f.Severity == policy.Error {
					got = append(got, f.Remedy)
				}
			}
			require.Equal(t, []string{c.want}, got)
		})
	}
}
