package diff_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/file"
	"github.com/causeway-mesh/causeway/policy/diff"
)

// load reads YAML as a directory of files would be read.
func load(t *testing.T, text string) catalog.Reader {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "all.yaml"), []byte(text), 0o600))
	cat := catalog.New()
	loaded, err := file.Load(dir, cat)
	require.NoError(t, err)
	require.Empty(t, loaded.Problems)
	return cat.Read()
}

// compare compares two directories.
func compare(t *testing.T, before, after string) *diff.Diff {
	t.Helper()
	now := load(t, before)
	then, err := diff.Desired(now, load(t, after), diff.PruneEverything)
	require.NoError(t, err)
	return diff.Compare(now, then.Read(), nil)
}

const base = `
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: web, annotations: {mesh.causeway.dev/home: Pods}}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: web, annotations: {mesh.causeway.dev/home: Pods}}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: shop-1, namespace: web, labels: {kubernetes.io/service-name: shop}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.0.0.1], conditions: {ready: true}}]
`

// route is an HTTPRoute of the Service shop.
func route(rules string) string {
	return base + `
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop, namespace: web}
spec:
  parentRefs: [{group: "", kind: Service, name: shop, port: 80}]
  rules:
` + rules
}

func policyOf(settings string) string {
	return base + `
---
apiVersion: mesh.causeway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: shop, namespace: web}
spec:
  targetRefs: [{kind: Service, name: shop}]
  ` + settings + "\n"
}

const toShop = "  - backendRefs: [{name: shop, port: 80}]\n"

// limited is a Gateway with limits of its clients.
func limited(limits string) string {
	return base + "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge, namespace: web}\n" +
		"spec: {gatewayClassName: causeway, listeners: [{name: http, port: 80, protocol: HTTP}]}\n" +
		"---\napiVersion: mesh.causeway.dev/v1alpha1\nkind: GatewayPolicy\nmetadata: {name: edge, namespace: web}\n" +
		"spec: {targetRefs: [{name: edge}], limits: {" + limits + "}}\n"
}

// Every change that should make a person look is found, and what is found says what it is about.
func TestRisks(t *testing.T) {
	split := func(shop, cart int) string {
		return route(fmt.Sprintf("  - backendRefs: [{name: shop, port: 80, weight: %d}, {name: cart, port: 80, weight: %d}]\n", shop, cart))
	}
	const rewrite = "  - matches: [{path: {value: /a}}]\n    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]\n    backendRefs: [{name: shop, port: 80}]\n"
	external := func(host string) string {
		return "apiVersion: mesh.causeway.dev/v1alpha1\nkind: ExternalService\nmetadata: {name: x, namespace: web}\n" +
			"spec: {hosts: [" + host + "], ports: [{name: http, number: 80}]}\n"
	}
	const group = base + "---\napiVersion: mesh.causeway.dev/v1alpha1\nkind: InstanceGroup\nmetadata: {name: shop-ec2, namespace: web}\n" +
		"spec: {serviceRef: {name: shop}, region: eu-west-1, selector: {autoScalingGroups: [shop]}, ports: [{name: http, port: 80}]}\n"
	instances := func(s string) string { return strings.Replace(s, "home: Pods", "home: Instances", 1) }
	for name, c := range map[string]struct {
		before, after string
		code          diff.RiskCode
		want          string
	}{
		"a path loses its route":            {route("  - matches: [{path: {value: /a}}, {path: {value: /b}}]\n    backendRefs: [{name: shop, port: 80}]\n"), route("  - matches: [{path: {value: /a}}]\n    backendRefs: [{name: shop, port: 80}]\n"), diff.Answers404, "/b are answered 404"},
		"the first route covers not all":    {base, route("  - matches: [{path: {value: /a}}]\n    backendRefs: [{name: shop, port: 80}]\n"), diff.DefaultRouteLost, "every request had a route"},
		"a backend that there is not":       {route(toShop), route("  - backendRefs: [{name: none, port: 80}]\n"), diff.Answers500, "answered 500"},
		"a weight jumps":                    {split(90, 10), split(10, 90), diff.WeightJump, "Service web/shop:80 goes from 90% to 10% at once"},
		"a backend without endpoints":       {route(toShop), split(90, 10), diff.NoEndpoints, "Service web/cart:80 gets 10% and has no usable endpoint"},
		"the home changes":                  {group, instances(group), diff.HomeChanges, "from pods to instances"},
		"a rule's timeout shrinks":          {route(strings.Replace(toShop, "- ", "- timeouts: {request: 10s}\n    ", 1)), route(strings.Replace(toShop, "- ", "- timeouts: {request: 2s}\n    ", 1)), diff.TimeoutShrinks, "from 10s to 2s"},
		"a policy's timeout shrinks":        {policyOf("timeout: {request: 10s}"), policyOf("timeout: {request: 2s}"), diff.TimeoutShrinks, "timeout.request shrinks from 10s to 2s"},
		"a policy's connect timeout":        {policyOf("timeout: {connect: 3s}"), policyOf("timeout: {connect: 1s}"), diff.TimeoutShrinks, "timeout.connect shrinks from 3s to 1s"},
		"a timeout where there was none":    {base, policyOf("timeout: {request: 2s}"), diff.TimeoutShrinks, "timeout.request had no bound and gets 2s"},
		"the rewrite goes":                  {route(rewrite + toShop), route(toShop), diff.RewriteLost, "not rewritten any more"},
		"session persistence goes":          {policyOf("sessionPersistence: {type: Cookie, cookie: {name: s}}"), base, diff.SessionPersistenceLost, "do not stay"},
		"a group that carries traffic goes": {instances(group), instances(base), diff.GroupCarriesTraffic, "the instances get 100% of Service web/shop"},
		"a group is given away":             {instances(group), strings.Replace(instances(group), "serviceRef: {name: shop}", "serviceRef: {name: cart}", 1), diff.GroupCarriesTraffic, "spec.serviceRef gives it to Service cart while it carries traffic: the instances get 100% of Service web/shop"},
		"a host is lost":                    {external("a.example.com"), external("b.example.com"), diff.HostLost, "a.example.com"},
		"a Service goes":                    {base, base[strings.Index(base, "---")+4:], diff.ServiceRemoved, "nothing answers"},
		"a limit of clients changes":        {limited("headers: 90"), limited("headers: 91"), diff.ConnectionsClose, "websockets too"},
		"an object becomes invalid":         {route(toShop), route("  - backendRefs: [{name: none, port: 80}]\n"), diff.ObjectInvalid, "becomes invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := compare(t, c.before, c.after)
			var found []string
			for _, r := range d.Risks {
				if r.Code == c.code {
					found = append(found, r.Message)
				}
			}
			require.Contains(t, strings.Join(found, "\n"), c.want, "%+v", d.Risks)
			for _, r := range compare(t, c.after, c.after).Risks {
				t.Fatalf("a risk without a change: %+v", r)
			}
		})
	}
}

// How large bodies may be stands in no listener: no connection closes for it.
func TestBodyLimitClosesNoConnections(t *testing.T) {
	for _, c := range []struct{ before, after string }{
		{"bodyBytes: 1000", "bodyBytes: 2000"}, {"headers: 90", "headers: 90, bodyBytes: 1000"}, {"headers: 90, bodyBytes: 1000", "headers: 90"},
	} {
		d := compare(t, limited(c.before), limited(c.after))
		require.NotEmpty(t, d.Changes)
		require.Empty(t, d.Risks)
	}
}

// What is written differently and means the same is an edit of the object and
// no change of the mesh.
func TestSameMeaning(t *testing.T) {
	before := route("  - matches: [{path: {value: /a}}]\n    backendRefs: [{name: shop, port: 80, weight: 1}, {name: cart, port: 80, weight: 1}]\n" + toShop)
	require.True(t, compare(t, before, before).Empty())
	after := strings.ReplaceAll(before, "weight: 1}", "weight: 7}")
	d := compare(t, before, after)
	require.Empty(t, d.Changes)
	require.Empty(t, d.Risks)
	require.Equal(t, []diff.ObjectChange{{Action: diff.Changed, Object: "HTTPRoute web/shop"}}, d.Objects)
}

// What a rule states itself replaces what a policy says of it, so an edit of that changes nothing.
func TestRuleBeatsPolicy(t *testing.T) {
	const own = "  - retry: {attempts: 2, codes: [500], backoff: 50ms}\n    timeouts: {request: 9s, backendRequest: 3s}\n    backendRefs: [{name: shop, port: 80}]\n"
	with := func(settings string) string {
		return route(own) + strings.TrimPrefix(policyOf(settings), base)
	}
	before := with("timeout: {request: 10s}, retry: {attempts: 4, statusCodes: [502], backoff: 10ms, perTry: 4s}")
	after := with("timeout: {request: 20s}, retry: {attempts: 5, statusCodes: [503], backoff: 20ms, perTry: 5s}")
	before, after = strings.ReplaceAll(before, "}, retry", "}\n  retry"), strings.ReplaceAll(after, "}, retry", "}\n  retry")
	d := compare(t, before, after)
	require.Empty(t, d.Changes)
	require.Empty(t, d.Risks)
	d = compare(t, before, strings.Replace(before, "attempts: 2", "attempts: 3", 1))
	require.Len(t, d.Changes, 1)
	require.Equal(t, "retry.attempts", d.Changes[0].Field)
	require.Equal(t, "HTTPRoute web/shop rules[0].retry", d.Changes[0].AfterFrom)
}

// A rule that is inserted is one change, although the indexes of all others move.
func TestInsertedRule(t *testing.T) {
	const rule = "  - matches: [{path: {value: /%s}}]\n    backendRefs: [{name: shop, port: 80}]\n"
	before := route(fmt.Sprintf(rule, "b") + fmt.Sprintf(rule, "c") + toShop)
	after := route(fmt.Sprintf(rule, "a") + fmt.Sprintf(rule, "b") + fmt.Sprintf(rule, "c") + toShop)
	d := compare(t, before, after)
	require.Len(t, d.Changes, 1)
	require.Equal(t, diff.Added, d.Changes[0].Action)
	require.Contains(t, d.Changes[0].After, "prefix /a")
	d = compare(t, after, before)
	require.Len(t, d.Changes, 1)
	require.Equal(t, diff.Removed, d.Changes[0].Action)
}

// Effective values say which policy they come from.
func TestEffectiveValues(t *testing.T) {
	d := compare(t, policyOf("timeout: {request: 10s}"), policyOf("timeout: {request: 20s}"))
	require.Equal(t, []diff.Change{{
		Action: diff.Changed, Target: "Service web/shop", Port: 80, Object: "Service web/shop", Rule: "no route is attached",
		Field: "timeout.request", Before: "10s", After: "20s",
		BeforeFrom: "TrafficPolicy web/shop", AfterFrom: "TrafficPolicy web/shop",
	}}, d.Changes)
}

// A directory says something about its own namespaces, and nothing about
// Services where it has none.
func TestPrune(t *testing.T) {
	now := load(t, route(toShop)+"---\n"+strings.ReplaceAll(route(toShop), "namespace: web", "namespace: other"))
	const only = "apiVersion: mesh.causeway.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: p, namespace: web}\nspec: {targetRefs: [{kind: Service, name: cart}], timeout: {idle: 5m}}\n"
	count := func(p diff.Prune) (services, routes, endpoints int) {
		after, err := diff.Desired(now, load(t, only), p)
		require.NoError(t, err)
		for range catalog.Services.All(after.Read()) {
			services++
		}
		for range catalog.Objects.By(after.Read(), catalog.ByKind, "HTTPRoute") {
			routes++
		}
		for range catalog.Endpoints.All(after.Read()) {
			endpoints++
		}
		return services, routes, endpoints
	}
	for p, want := range map[diff.Prune][3]int{
		diff.PruneNone: {4, 2, 2}, diff.PruneNamespaces: {4, 1, 2}, diff.PruneAll: {4, 0, 2}, diff.PruneEverything: {0, 0, 0},
	} {
		s, r, e := count(p)
		require.Equal(t, want, [3]int{s, r, e}, p)
	}
}

// An object heals when what it names appears, although nobody edits it.
func TestHeals(t *testing.T) {
	to := strings.ReplaceAll(route("  - backendRefs: [{name: late, port: 80}]\n"), "\r", "")
	late := to + "---\napiVersion: v1\nkind: Service\nmetadata: {name: late, namespace: web}\nspec: {ports: [{name: http, port: 80}]}\n"
	d := compare(t, to, late)
	require.Contains(t, d.Objects, diff.ObjectChange{Object: "HTTPRoute web/shop", Validity: "heals"})
	require.Contains(t, d.Objects, diff.ObjectChange{Action: diff.Added, Object: "Service web/late"})
}

// Routes that leave requests over are told of, those that do not are not.
func TestUncovered(t *testing.T) {
	require.Empty(t, diff.Uncovered(load(t, route(toShop))))
	found := diff.Uncovered(load(t, route("  - matches: [{path: {value: /a}}]\n    backendRefs: [{name: shop, port: 80}]\n")))
	require.Len(t, found, 1)
	require.Equal(t, "HTTPRoute web/shop", found[0].Object.String())
}
