package compile_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/convert"
	"github.com/causeway-mesh/causeway/discovery/objects"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/rows"
	"github.com/causeway-mesh/causeway/xds/compile"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// A randomPolicy writes sections of a TrafficPolicy with values at and beyond
// their bounds.
type randomPolicy struct{ *rand.Rand }

func (r randomPolicy) oneOf(values ...any) any { return values[r.IntN(len(values))] }

// some returns those of the fields that it draws.
func (r randomPolicy) some(fields map[string]func() any) map[string]any {
	out := make(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if r.IntN(2) == 0 {
			out[name] = fields[name]()
		}
	}
	return out
}

func (r randomPolicy) duration() any {
	return r.oneOf("0s", "1ms", "999us", "250ms", "1s", "1.5s", "1m", "5m", "1h", "24h", "8784h", "-1s", "1000000h", "10ms")
}

func (r randomPolicy) count() any { return r.oneOf(0, 1, 2, 10, 100, 101, 1<<31-1, -1) }

func (r randomPolicy) text() any {
	return r.oneOf("x-user", "a b", "", "a\nb", "ü", "/", "/healthz", "/a?b=c", "php.example.com", "*.example.com", "10.0.0.1",
		"spiffe://example.com/php", "A", strings.Repeat("x", 300))
}

func (r randomPolicy) settings() map[string]any {
	duration, count, text := r.duration, r.count, r.text
	return r.some(map[string]func() any{
		"timeout": func() any {
			return r.some(map[string]func() any{"connect": duration, "request": duration, "idle": duration})
		},
		"retry": func() any {
			return r.some(map[string]func() any{
				"attempts": count, "perTry": duration, "backoff": duration, "budgetPercent": count,
				"on":                 func() any { return []any{r.oneOf("ConnectFailure", "Reset", "GatewayError", "Nonsense")} },
				"avoidPreviousHosts": func() any { return r.IntN(2) == 0 },
			})
		},
		"connectionPool": func() any {
			return r.some(map[string]func() any{
				"maxConnections": count, "maxPendingRequests": count, "maxRequests": count, "maxRequestsPerConnection": count,
				"idleTimeout": duration, "maxConnectionAge": duration,
			})
		},
		"outlierDetection": func() any {
			return r.some(map[string]func() any{
				"consecutive5xx": count, "consecutiveGatewayErrors": count, "consecutiveConnectFailures": count,
				"interval": duration, "baseEjectionTime": duration, "maxEjectionPercent": count,
			})
		},
		"healthCheck": func() any {
			return r.some(map[string]func() any{
				"http":     func() any { return map[string]any{"path": text(), "host": text()} },
				"grpc":     func() any { return map[string]any{"service": text()} },
				"interval": duration, "timeout": duration, "unhealthyThreshold": count, "healthyThreshold": count,
			})
		},
		"loadBalancer": func() any {
			return r.some(map[string]func() any{
				"algorithm": func() any {
					return r.oneOf("RoundRobin", "LeastRequest", "Random", "RingHash", "Maglev", "Nonsense")
				},
				"hash": func() any {
					return r.some(map[string]func() any{
						"header": text, "cookie": func() any { return map[string]any{"name": text(), "ttl": duration()} },
						"source": func() any { return true },
					})
				},
				"slowStart": duration,
			})
		},
		"locality":      func() any { return r.oneOf("PreferZone", "Strict", "None", "Nonsense") },
		"proxyProtocol": func() any { return r.oneOf("V1", "V2", "V3") },
		"tls": func() any {
			return r.some(map[string]func() any{
				"sni": text, "subjectAltNames": func() any { return []any{text(), text()} },
				"caCertificateRef": func() any { return map[string]any{"name": r.oneOf("ca", "broken", "none")} },
			})
		},
	})
}

// trafficPolicy returns an object as JSON.
func trafficPolicy(tb testing.TB, name string, spec map[string]any, targets ...map[string]any) []byte {
	tb.Helper()
	spec["targetRefs"] = targets
	out, err := json.Marshal(map[string]any{
		"apiVersion": "mesh.causeway.dev/v1alpha1", "kind": "TrafficPolicy",
		"metadata": map[string]any{"namespace": "web", "name": name}, "spec": spec,
	})
	require.NoError(tb, err)
	return out
}

// admit returns the row of a TrafficPolicy, nil if an API server would refuse it.
func admit(text []byte) *discovery.Object {
	for _, k := range objects.Kinds() {
		if k.Name != "TrafficPolicy" {
			continue
		}
		var out objects.Rows
		if errs := k.Decode(text, rows.Scope, &out); len(errs) > 0 || len(out.Objects) != 1 {
			return nil
		}
		return out.Objects[0]
	}
	return nil
}

// admitted returns settings of which an API server admits every section.
func admitted(tb testing.TB, r randomPolicy) map[string]any {
	tb.Helper()
	out := make(map[string]any)
	for range 6 {
		drawn := r.settings()
		for _, section := range slices.Sorted(maps.Keys(drawn)) {
			before, had := out[section]
			out[section] = drawn[section]
			if admit(trafficPolicy(tb, "p", maps.Clone(out), targetsOf("p")...)) != nil {
				continue
			}
			delete(out, section)
			if had {
				out[section] = before
			}
		}
	}
	return out
}

// targetsOf are what the policies of the property are about: a Service with a
// port of each protocol on both platforms, and an ExternalService.
func targetsOf(name string) []map[string]any {
	return []map[string]any{
		{"kind": "Service", "name": name},
		{"group": "mesh.causeway.dev", "kind": "ExternalService", "name": name},
	}
}

const fixtures = `
apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: web, annotations: {mesh.causeway.dev/home: Instances}}
spec:
  clusterIP: None
  ports: [{name: http, port: 80}, {name: grpc, port: 90}, {name: tcp-db, port: 3306}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: NAME-1, namespace: web, labels: {kubernetes.io/service-name: NAME}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: grpc, port: 9090}, {name: tcp-db, port: 3306}]
endpoints:
- {addresses: [10.0.0.1], targetRef: {kind: Pod, name: a, namespace: web}, zone: zone-a, conditions: {ready: true}}
- {addresses: [10.0.0.2], targetRef: {kind: Pod, name: b, namespace: web}, zone: zone-b, conditions: {ready: true}}
---
apiVersion: mesh.causeway.dev/v1alpha1
kind: ExternalService
metadata: {name: NAME, namespace: web}
spec:
  hosts: [NAME.example.com]
  ports: [{number: 80, name: http}, {number: 90, protocol: HTTP2}, {number: 3306, protocol: TCP}]
`

// compileUnder compiles the fixtures under a policy.
func compileUnder(tb testing.TB, name string, p *discovery.Object, cas map[string]string) []resource.Resource {
	tb.Helper()
	in := rows.Parse(tb, strings.ReplaceAll(fixtures, "NAME", name))
	in.Objects = append(in.Objects, p)
	for name, ca := range cas {
		in.Objects = append(in.Objects, convert.Object(&corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: name}, Data: map[string]string{"ca.crt": ca},
		}, rows.Scope))
	}
	cat := in.Catalog(tb)
	key := discovery.Key{Namespace: "web", Name: name}
	c := compile.New()
	out := c.Service(resolve.BuildService(cat.Read(), key))
	return append(out, c.External(upstream.BuildExternal(cat.Read(), key))...)
}

// clustersOnly leaves what policies about clusters are compiled to, and checks it by Envoy's own rules.
func clustersOnly(tb testing.TB, resources []resource.Resource) []resource.Resource {
	tb.Helper()
	var out []resource.Resource
	for _, r := range resources {
		switch r.Type {
		case resource.Cluster:
			m := &clusterv3.Cluster{}
			require.NoError(tb, proto.Unmarshal(r.Body.Bytes(), m))
			require.NoError(tb, m.ValidateAll(), r.Name)
		case resource.Endpoint:
			m := &endpointv3.ClusterLoadAssignment{}
			require.NoError(tb, proto.Unmarshal(r.Body.Bytes(), m))
			require.NoError(tb, m.ValidateAll(), r.Name)
		case resource.Listener, resource.Route, resource.VirtualHost:
			continue
		}
		out = append(out, r)
	}
	return out
}

// Whatever TrafficPolicy an API server admits, Envoy takes the clusters that it is compiled to.
func TestEnvoyTakesEveryAdmittedPolicy(t *testing.T) {
	t.Parallel()
	ca := harness.NewAuthority(t, "ca")
	cas := map[string]string{"ca": string(ca.CertPEM), "broken": "-----BEGIN CERTIFICATE-----\nbm9uc2Vuc2U=\n-----END CERTIFICATE-----\n"}
	const wanted = 150
	var all []resource.Resource
	specs := make(map[string]string)
	sections := make(map[string]int)
	for seed := uint64(0); len(specs) < wanted; seed++ {
		name := fmt.Sprintf("s%d", seed)
		spec := admitted(t, randomPolicy{rand.New(rand.NewPCG(seed, 4))})
		text := trafficPolicy(t, name, spec, targetsOf(name)...)
		p := admit(text)
		require.NotNil(t, p, string(text))
		for section := range spec {
			sections[section]++
		}
		specs[name] = string(text)
		all = append(all, clustersOnly(t, compileUnder(t, name, p, cas))...)
	}
	t.Logf("sections in %d policies: %v", wanted, sections)
	for _, name := range []string{"timeout", "connectionPool", "outlierDetection", "healthCheck", "loadBalancer", "locality", "proxyProtocol", "tls"} {
		require.Positive(t, sections[name], name)
	}
	check := func(resources []resource.Resource) error {
		return harness.CheckEnvoyConfig(withSystemCAs(t, static(t, resources, "web", "zone-a", ""), ca.CertPEM))
	}
	if check(all) == nil {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(specs)) {
		var own []resource.Resource
		for _, r := range all {
			if strings.Contains(r.Name, "/"+name+":") {
				own = append(own, r)
			}
		}
		require.NoError(t, check(own), specs[name])
	}
	t.Fatal("Envoy takes each policy's clusters, but not all together")
}

// Whatever stands in a policy: no panic, and clusters that Envoy's own rules accept.
func FuzzTrafficPolicy(f *testing.F) {
	for seed := range uint64(20) {
		spec, err := json.Marshal(admitted(f, randomPolicy{rand.New(rand.NewPCG(seed, 4))}))
		require.NoError(f, err)
		f.Add(spec)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var spec map[string]any
		if json.Unmarshal(text, &spec) != nil || spec == nil {
			t.Skip("not an object")
		}
		p := admit(trafficPolicy(t, "p", spec, targetsOf("p")...))
		if p == nil {
			t.Skip("no API server lets this in")
		}
		clustersOnly(t, compileUnder(t, "p", p, map[string]string{"ca": string(text)}))
	})
}
