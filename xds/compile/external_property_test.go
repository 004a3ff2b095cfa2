package compile_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/objects"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/compile"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// external is an ExternalService with hosts of a small pool, so that many claim the same.
func (r randomPolicy) external(name string) map[string]any {
	hosts := make(map[string]bool)
	var claimed []any
	for range 1 + r.IntN(4) {
		host := r.oneOf("a.example.com", "b.example.com", "c.example.com", "php.web", "php.web.svc.cluster.local", "php.shop", "10.96.0.10", "10.96.0.99").(string)
		if !hosts[host] {
			claimed = append(claimed, host)
		}
		hosts[host] = true
	}
	spec := map[string]any{"hosts": claimed}
	var ports []any
	taken := make(map[int]bool)
	for range 1 + r.IntN(3) {
		n := r.oneOf(80, 443, 8080, 65535).(int)
		if taken[n] {
			continue
		}
		taken[n] = true
		p := map[string]any{"number": n, "protocol": r.oneOf("HTTP", "HTTP2", "TCP")}
		if r.IntN(3) == 0 {
			p["tls"] = r.some(map[string]func() any{"sni": func() any { return r.oneOf("a.example.com", "10.0.0.1") }})
		}
		if r.IntN(3) == 0 {
			p["targetPort"] = r.oneOf(1, 8443)
		}
		ports = append(ports, p)
	}
	spec["ports"] = ports
	if r.IntN(2) == 0 {
		spec["resolution"] = "Static"
		spec["endpoints"] = []any{
			map[string]any{"address": r.oneOf("192.0.2.1", "2001:db8::1"), "zone": r.oneOf("zone-a", "")},
			map[string]any{"address": "192.0.2.7", "zone": r.oneOf("zone-a", "zone-b")},
		}
	}
	return map[string]any{
		"apiVersion": "mesh.causeway.dev/v1alpha1", "kind": "ExternalService", "spec": spec,
		"metadata": map[string]any{
			"namespace": r.oneOf("web", "shop"), "name": name, "creationTimestamp": fmt.Sprintf("2026-11-%02dT00:00:00Z", 1+r.IntN(3)),
		},
	}
}

// Whatever hosts ExternalServices claim, of each other and of Services, a proxy
// takes what they are compiled to: no domain stands twice.
func TestEnvoyTakesEveryAdmittedExternalService(t *testing.T) {
	t.Parallel()
	ca := harness.NewAuthority(t, "ca").CertPEM
	admitted, conflicts := 0, 0
	for seed := range uint64(12) {
		r := randomPolicy{rand.New(rand.NewPCG(seed, 5))}
		var rows objects.Rows
		for i := range 6 {
			text, err := json.Marshal(r.external(fmt.Sprintf("x%d", i)))
			require.NoError(t, err)
			for _, k := range objects.Kinds() {
				if k.Name == "ExternalService" {
					_ = k.Decode(text, "test", &rows) // what an API server refuses adds nothing
				}
			}
		}
		cat := catalog.New()
		_, err := cat.Write(time.Time{}, func(tx *catalog.Tx) error {
			for i, key := range []discovery.Key{{Namespace: "web", Name: "php"}, {Namespace: "shop", Name: "php"}} {
				catalog.Services.Put(tx, &discovery.Service{
					Key: key, Ports: []discovery.ServicePort{{Name: "http", Port: 80}, {Name: "http-admin", Port: 8080}},
					ClusterIPs: []string{fmt.Sprintf("10.96.0.%d", 10+i)},
				})
			}
			for _, o := range rows.Objects {
				catalog.Objects.Put(tx, o)
			}
			return nil
		})
		require.NoError(t, err)
		admitted += len(rows.Objects)
		c := compile.New()
		resources := c.Mesh(resolve.BuildMesh(cat.Read()))
		for s := range catalog.Services.All(cat.Read()) {
			resources = append(resources, c.Service(resolve.BuildService(cat.Read(), s.Key))...)
		}
		owners := make(map[string]string)
		for o := range catalog.Objects.All(cat.Read()) {
			m := upstream.BuildExternal(cat.Read(), o.Key)
			for _, host := range m.Hosts {
				require.Empty(t, owners[host], "seed %d: %s has two owners", seed, host)
				owners[host] = o.Key.String()
			}
			conflicts += len(o.Hosts) - len(m.Hosts)
			resources = append(resources, c.External(m)...)
		}
		d, err := naming.ParseDeclaration("http/127.0.0.1:15001")
		require.NoError(t, err)
		resources = append(resources, c.Listener(d, nil)...)
		for _, namespace := range []string{"web", "shop"} {
			err := harness.CheckEnvoyConfig(withSystemCAs(t, static(t, resources, namespace, "zone-a", ""), ca))
			require.NoError(t, err, "seed %d, callers of %s", seed, namespace)
		}
		checkOnce(t, resources)
	}
	require.Greater(t, admitted, 30)
	require.Greater(t, conflicts, 30)
}

// checkOnce checks that no name of a resource stands twice.
func checkOnce(t *testing.T, resources []resource.Resource) {
	t.Helper()
	seen := make(map[string]bool)
	for _, r := range resources {
		name := r.Type.String() + " " + r.Name
		require.False(t, seen[name], "%s twice", name)
		seen[name] = true
	}
}
