package edges

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/test/golden"
	testrows "github.com/causeway-mesh/causeway/test/rows"
)

// usual are the objects of every case, beside its own.
const usual = `
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: causeway}
spec:
  controllerName: mesh.causeway.dev/controller
  parametersRef: {group: mesh.causeway.dev, kind: GatewayParameters, name: causeway, namespace: causeway-system}
---
apiVersion: mesh.causeway.dev/v1alpha1
kind: GatewayParameters
metadata: {name: causeway, namespace: causeway-system}
spec: {managed: true, image: "registry.example.com/platform/causeway-agent:v0.2.0"}
---
`

// seenText is the section "seen" of a case: what the cluster has decided already.
type seenText struct {
	IPv4     bool   `json:"ipv4"`
	IPv6     bool   `json:"ipv6"`
	Replicas *int32 `json:"replicas"`
	Scaled   bool   `json:"scaled"`
}

// Rows in, objects out, as they are applied. The case "usual" has all of them, the others what differs from it.
func TestEdgesGolden(t *testing.T) {
	t.Parallel()
	cases := golden.Cases{Files: "testdata/*.txtar", Given: []string{"objects.yaml", "seen.yaml"}, Made: []string{"held", "made.yaml", "differs"}}
	base := made(t, cases.Section(t, "objects.yaml")["usual"], "ipv4: true")
	cases.Run(t, func(t *testing.T, given map[string]string) map[string]string {
		t.Helper()
		seen := cmp.Or(given["seen.yaml"], "ipv4: true")
		cat := testrows.Parse(t, usual[1:]+given["objects.yaml"]).Catalog(t)
		var held strings.Builder
		for _, e := range resolve.Edges(cat.Read()) {
			if e.Held != "" {
				held.WriteString(e.String() + ": " + e.Held + "\n")
			}
		}
		got := made(t, given["objects.yaml"], seen)
		if got == base {
			return map[string]string{"made.yaml": got, "held": held.String()}
		}
		return map[string]string{"held": held.String(), "differs": difference(base, got)}
	})
}

// made returns what is made of a case, as YAML.
func made(t *testing.T, objects, seen string) string {
	t.Helper()
	var s seenText
	require.NoError(t, yaml.UnmarshalStrict([]byte(seen), &s))
	var out strings.Builder
	for _, e := range resolve.Edges(testrows.Parse(t, usual[1:]+objects).Catalog(t).Read()) {
		if e.Held == "" {
			out.WriteString(render(t, ObjectsOf(&e, Plane{"causeway-system", "causeway"}, Seen(s))))
		}
	}
	return out.String()
}

func render(t *testing.T, o Objects) string {
	t.Helper()
	var out strings.Builder
	add := func(there bool, o any) {
		if !there {
			return
		}
		text, err := applied(o)
		require.NoError(t, err)
		var fields map[string]any
		require.NoError(t, json.Unmarshal(text, &fields))
		require.NotContains(t, fields, "status")
		text, err = yaml.JSONToYAML(text)
		require.NoError(t, err)
		out.WriteString("---\n" + string(text))
	}
	add(o.ServiceAccount != nil, o.ServiceAccount)
	add(o.Service != nil, o.Service)
	add(o.Deployment != nil, o.Deployment)
	add(o.DaemonSet != nil, o.DaemonSet)
	add(o.Budget != nil, o.Budget)
	add(o.Autoscaler != nil, o.Autoscaler)
	return out.String()
}

// difference returns the lines that only one of two texts has.
func difference(before, after string) string {
	count := make(map[string]int)
	for line := range strings.Lines(before) {
		count[line]++
	}
	var more, fewer strings.Builder
	for line := range strings.Lines(after) {
		if count[line]--; count[line] < 0 {
			more.WriteString("+ " + line)
		}
	}
	for line := range strings.Lines(before) {
		if count[line]--; count[line] >= 0 {
			fewer.WriteString("- " + line)
		}
	}
	return fewer.String() + more.String()
}

// The service account that was made for a Gateway's proxies is theirs as long as they are there, also once nobody
// manages them. Proxies that somebody else has made have none.
func TestEdgeAccount(t *testing.T) {
	t.Parallel()
	const objects = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: public, namespace: web, uid: "1"%s}
spec:
  gatewayClassName: causeway
  listeners: [{name: http, port: 80, protocol: HTTP}]
---
apiVersion: v1
kind: Service
metadata:
  name: public-causeway
  namespace: web
  labels: {app.kubernetes.io/managed-by: causeway.dev, gateway.networking.k8s.io/gateway-name: public}
  ownerReferences: [{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, name: public, uid: "%s", controller: true}]
spec: {ports: [{port: 80}]}
`
	const unmanaged = `, annotations: {mesh.causeway.dev/managed: "false"}`
	for _, c := range []struct {
		annotations, owner string
		want               bool
	}{{"", "", true}, {unmanaged, "1", true}, {unmanaged, "2", false}} {
		r := testrows.Parse(t, usual[1:]+fmt.Sprintf(objects, c.annotations, c.owner)).Catalog(t).Read()
		account, ok := resolve.EdgeAccount(r, discovery.Key{Namespace: "web", Name: "public"})
		require.Equal(t, c.want, ok, "%+v", c)
		require.Equal(t, "public-causeway", account)
		_, ok = resolve.EdgeAccount(r, discovery.Key{Namespace: "web", Name: "other"})
		require.False(t, ok)
	}
}

// Names are those of a Service, and two Gateways never share one.
func TestEdgeName(t *testing.T) {
	t.Parallel()
	require.Equal(t, "public-causeway", discovery.EdgeName("public", "causeway"))
	long := strings.Repeat("a", 70)
	names := make(map[string]bool)
	for _, n := range []string{"a.b", "a-b", long + "1", long + "2", strings.Repeat("a", 53) + "-b" + strings.Repeat("c", 20), "public"} {
		for _, class := range []string{"causeway", "causeway.internal"} {
			name := discovery.EdgeName(n, class)
			require.Regexp(t, `^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`, name)
			require.False(t, names[name], name)
			names[name] = true
		}
		require.LessOrEqual(t, len(discovery.GatewayLabel(n)), 63)
	}
}
