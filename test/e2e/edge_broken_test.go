package e2e

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/kubetest"
)

// brokenListeners stand among good ones; wantedConditions says what the
// specification has for each.
const brokenListeners = `
  - {name: missing, port: 8443, protocol: HTTPS, hostname: missing.example.com, tls: {certificateRefs: [{name: missing}]}}
  - {name: unfit, port: 8443, protocol: HTTPS, hostname: unfit.example.com, tls: {certificateRefs: [{name: unfit}]}}
  - {name: foreign, port: 8443, protocol: HTTPS, hostname: foreign.example.com, tls: {certificateRefs: [{name: foreign, namespace: other}]}}
  - {name: map, port: 8443, protocol: HTTPS, hostname: map.example.com, tls: {certificateRefs: [{kind: ConfigMap, name: good}]}}
  - {name: twice-1, port: 9443, protocol: HTTPS, hostname: twice.example.com, tls: {certificateRefs: [{name: good}]}}
  - {name: twice-2, port: 9443, protocol: TLS, hostname: twice.example.com, tls: {mode: Passthrough}}
  - {name: mixed-1, port: 9001, protocol: HTTP}
  - {name: mixed-2, port: 9001, protocol: TCP}
  - {name: datagrams, port: 9002, protocol: UDP}
  - {name: kinds, port: 9003, protocol: HTTP, allowedRoutes: {kinds: [{kind: TCPRoute}]}}
  - {name: some-kinds, port: 9004, protocol: HTTP, allowedRoutes: {kinds: [{kind: TCPRoute}, {kind: HTTPRoute}]}}
`

// wantedConditions are the conditions of the listeners that are not just right.
func wantedConditions() map[string]map[string]string {
	return map[string]map[string]string{
		"missing":    {"ResolvedRefs": "False InvalidCertificateRef", "Accepted": "True Accepted"},
		"unfit":      {"ResolvedRefs": "False InvalidCertificateRef", "Accepted": "True Accepted"},
		"foreign":    {"ResolvedRefs": "False RefNotPermitted"},
		"map":        {"ResolvedRefs": "False InvalidCertificateRef"},
		"twice-1":    {"Conflicted": "True HostnameConflict"},
		"twice-2":    {"Conflicted": "True HostnameConflict"},
		"mixed-1":    {"Conflicted": "True ProtocolConflict"},
		"mixed-2":    {"Conflicted": "True ProtocolConflict"},
		"datagrams":  {"Accepted": "False UnsupportedProtocol"},
		"kinds":      {"ResolvedRefs": "False InvalidRouteKinds"},
		"some-kinds": {"ResolvedRefs": "False InvalidRouteKinds", "Accepted": "True Accepted"},
		"http":       good3(),
		"https":      good3(),
	}
}

func good3() map[string]string {
	return map[string]string{"Accepted": "True Accepted", "ResolvedRefs": "True ResolvedRefs", "Programmed": "True Programmed"}
}

func brokenGateway(listeners, https string) string {
	return fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: web}
spec:
  gatewayClassName: causeway
  listeners:
  - {name: http, port: 8080, protocol: HTTP}
  - {name: https, port: 8443, protocol: HTTPS, hostname: shop.example.com, tls: {certificateRefs: [{name: %s}]}}%s`, https, strings.TrimSuffix(listeners, "\n"))
}

// edgeCluster is a Kubernetes API with a control plane and an edge.
type edgeCluster struct {
	*testing.T
	kube   *kubetest.Kube
	client rest.Interface
	ca     *harness.Authority
	edge   *edge
	plane  *replica
}

func startEdgeCluster(t *testing.T, gateway string) *edgeCluster {
	t.Helper()
	c := &edgeCluster{T: t, kube: kubetest.Start(t, kubetest.Options{}), ca: harness.NewAuthority(t, "edge")}
	c.client = c.kube.Client(t).Discovery().RESTClient()
	root, err := harness.Root()
	require.NoError(t, err)
	c.kube.ApplyCRDs(t, filepath.Join(root, "manifests", "crds"))
	c.kube.ApplyCRDs(t, filepath.Join(root, "manifests", "gateway-api", "experimental"))
	for _, namespace := range []string{"web", "other"} {
		c.kube.Namespace(t, namespace)
	}
	for _, file := range []string{"namespace", "rbac"} {
		c.kube.Apply(t, filepath.Join(root, "manifests", "install", file+".yaml"))
	}
	// Certificates are read where somebody lets the control plane do so.
	for _, namespace := range []string{"web", "other"} {
		c.kube.ApplyYAML(t, fmt.Sprintf(`
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: certificates, namespace: %[1]s}
rules: [{apiGroups: [""], resources: [secrets], verbs: [get, list, watch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: certificates, namespace: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: certificates}
subjects: [{kind: ServiceAccount, name: causeway, namespace: causeway-system}]
`, namespace))
	}
	address := harness.Addresses(t, 1)[0]
	harness.StartWorkload(t, harness.WorkloadOptions{Kind: harness.GoProcess, Address: address, Port: instancePort, ID: "back", Platform: "pods"})
	c.kube.ApplyYAML(t, podYAML("web", "back", 80, instancePort, "", address, "a")+podYAML("other", "hidden", 80, instancePort, "", address, "a")+`---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: causeway}
spec: {controllerName: mesh.causeway.dev/controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: elsewhere}
spec: {controllerName: example.com/other}
---
`+strings.TrimPrefix(gateway, "\n"))
	kubeconfig := c.kube.KubeconfigFor(t, c.kube.ServiceAccountConfig(t, "causeway-system", "causeway"))
	c.plane = startReplica(t, "causeway", []string{"AWS_EC2_METADATA_DISABLED=true"}, "--kubeconfig", kubeconfig, "--xds-insecure-certificates")
	c.plane.waitReady()
	return c
}

// start starts the edge, with everything that it may wait for in place.
func (c *edgeCluster) start() {
	c.Helper()
	c.edge = startEdge(c.T, edgeOptions{namespace: "web", gateway: "edge", id: "i-edge", zone: "a", servers: []string{c.plane.xds}})
}

func (c *edgeCluster) get(path string, into any) error {
	data, err := c.client.Get().AbsPath(path).DoRaw(c.Context())
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

// gateway returns a Gateway of namespace web.
func (c *edgeCluster) gateway(name string) (*gatewayv1.Gateway, error) {
	g := &gatewayv1.Gateway{}
	return g, c.get("/apis/gateway.networking.k8s.io/v1/namespaces/web/gateways/"+name, g)
}

// same compares conditions, of the object's newest generation, with "status reason" by type.
func same(have []metav1.Condition, want map[string]string, generation int64) error {
	for kind, status := range want {
		c := apimeta.FindStatusCondition(have, kind)
		if c == nil {
			return fmt.Errorf("no condition %s in %v", kind, have)
		}
		if got := fmt.Sprintf("%s %s", c.Status, c.Reason); got != status || c.ObservedGeneration != generation {
			return fmt.Errorf("%s is %s of generation %d, not %s of %d: %s", kind, got, c.ObservedGeneration, status, generation, c.Message)
		}
		if c.Status == metav1.ConditionFalse && c.Message == "" {
			return fmt.Errorf("%s says nothing", kind)
		}
	}
	return nil
}

// listeners waits for what the Gateway says of its listeners.
func (c *edgeCluster) listeners(what string, want map[string]map[string]string) *gatewayv1.Gateway {
	c.Helper()
	var g *gatewayv1.Gateway
	harness.Eventually(c, time.Minute, what, func() error {
		var err error
		if g, err = c.gateway("edge"); err != nil {
			return err
		}
		have := make(map[string][]metav1.Condition)
		for _, l := range g.Status.Listeners {
			have[string(l.Name)] = l.Conditions
		}
		for _, name := range sortedKeys(want) {
			if err := same(have[name], want[name], g.Generation); err != nil {
				return fmt.Errorf("listener %s: %w", name, err)
			}
		}
		return nil
	})
	return g
}

// route waits for what an HTTPRoute says of its only parent.
func (c *edgeCluster) route(namespace, name string, want map[string]string) {
	c.Helper()
	harness.Eventually(c, time.Minute, fmt.Sprintf("HTTPRoute %s/%s is %v", namespace, name, want), func() error {
		var r gatewayv1.HTTPRoute
		if err := c.get(fmt.Sprintf("/apis/gateway.networking.k8s.io/v1/namespaces/%s/httproutes/%s", namespace, name), &r); err != nil {
			return err
		}
		if len(r.Status.Parents) != 1 {
			return fmt.Errorf("parents %+v", r.Status.Parents)
		}
		return same(r.Status.Parents[0].Conditions, want, r.Generation)
	})
}

func routeYAML(namespace, name, parent, host, backend string) string {
	return fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %s, namespace: %s}
spec:
  parentRefs: [{name: edge, namespace: web%s}]
  hostnames: [%s]
  rules: [{backendRefs: [%s]}]
`, name, namespace, parent, host, backend)
}

// Whatever is wrong says so in the words of the specification, takes nothing
// else with it, and works as soon as it is right.
func TestEdgeBroken(t *testing.T) {
	beside(t, 0.5, 30*time.Second)
	c := startEdgeCluster(t, brokenGateway(brokenListeners, "good"))
	issue := func(hosts ...string) harness.Certificate {
		return c.ca.Issue(t, harness.CertificateOptions{Hosts: hosts})
	}
	goodPair, otherPair := issue("shop.example.com"), issue("unfit.example.com")
	unfit := harness.Certificate{CertPEM: otherPair.CertPEM, KeyPEM: goodPair.KeyPEM}
	const back = "{name: back, port: 80}"
	for _, text := range []string{
		secretYAML("web", "good", goodPair), secretYAML("web", "unfit", unfit), secretYAML("other", "foreign", issue("foreign.example.com")),
		routeYAML("web", "shop", "", "shop.example.com", back),
		routeYAML("web", "missing", ", sectionName: missing", "missing.example.com", back),
		routeYAML("web", "unfit", ", sectionName: unfit", "unfit.example.com", back),
		routeYAML("web", "foreign", ", sectionName: foreign", "foreign.example.com", back),
		routeYAML("web", "hidden", ", sectionName: http", "hidden.example.com", "{name: hidden, namespace: other, port: 80}"),
		routeYAML("web", "gone", ", sectionName: http", "gone.example.com", "{name: gone, port: 80}"),
		routeYAML("web", "stranger", ", sectionName: https", "stranger.example.com", back),
		routeYAML("web", "nowhere", ", sectionName: nowhere", "nowhere.example.com", back),
		routeYAML("other", "uninvited", ", sectionName: http", "uninvited.example.com", "{name: hidden, port: 80}"),
		"apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: theirs, namespace: web}\n" +
			"spec: {gatewayClassName: elsewhere, listeners: [{name: http, port: 80, protocol: HTTP}]}\n",
	} {
		c.kube.ApplyYAML(t, text)
	}
	c.start()
	client := &tls.Config{RootCAs: c.ca.Pool(), MinVersion: tls.VersionTLS12}
	plain, secure := c.edge.at(edgePlain), c.edge.at(edgeTLS)
	for _, q := range []question{{address: plain, host: "shop.example.com"}, {address: secure, host: "shop.example.com", tls: client}} {
		q.wait(t, "the good listeners work", isOK)
	}
	loads := []*harness.Load{
		harness.StartLoad(t, harness.LoadOptions{URL: "http://" + plain, Host: "shop.example.com", Rate: 40, Workers: 4}),
		harness.StartLoad(t, harness.LoadOptions{URL: "https://" + secure, Host: "shop.example.com", TLS: client, HTTP2: true, Rate: 40, Workers: 4}),
		harness.StartLoad(t, harness.LoadOptions{URL: "https://" + secure, Host: "shop.example.com", TLS: client, NewConnections: true, Rate: 10, Workers: 4}),
	}
	g := c.listeners("the broken listeners say what is wrong", wantedConditions())
	require.NoError(t, same(g.Status.Conditions, map[string]string{"Programmed": "True Programmed"}, g.Generation))
	accepted := apimeta.FindStatusCondition(g.Status.Conditions, "Accepted")
	require.NotNil(t, accepted)
	require.Equal(t, "ListenersNotValid", accepted.Reason, "%+v", accepted)
	for _, l := range g.Status.Listeners {
		switch l.Name {
		case "kinds":
			require.Empty(t, l.SupportedKinds, "none of those that it allows")
		case "some-kinds":
			require.Len(t, l.SupportedKinds, 1, "%+v", l.SupportedKinds)
			require.EqualValues(t, "HTTPRoute", l.SupportedKinds[0].Kind)
		case "https":
			require.EqualValues(t, 1, l.AttachedRoutes, "that of the shop")
		case "http":
			require.EqualValues(t, 3, l.AttachedRoutes, "shop, hidden and gone attach, whatever their backends are")
		}
	}
	c.route("web", "shop", map[string]string{"Accepted": "True Accepted", "ResolvedRefs": "True ResolvedRefs"})
	c.route("web", "hidden", map[string]string{"Accepted": "True Accepted", "ResolvedRefs": "False RefNotPermitted"})
	c.route("web", "gone", map[string]string{"Accepted": "True Accepted", "ResolvedRefs": "False BackendNotFound"})
	c.route("web", "stranger", map[string]string{"Accepted": "False NoMatchingListenerHostname"})
	c.route("web", "nowhere", map[string]string{"Accepted": "False NoMatchingParent"})
	c.route("other", "uninvited", map[string]string{"Accepted": "False NotAllowedByListeners"})
	for host, status := range map[string]int{
		"hidden.example.com": http.StatusInternalServerError, "gone.example.com": http.StatusInternalServerError,
		"uninvited.example.com": http.StatusNotFound, "stranger.example.com": http.StatusNotFound,
	} {
		question{address: plain, host: host}.wait(t, fmt.Sprintf("%s is answered %d", host, status), func(a answer) bool { return a.status == status })
	}
	theirs, err := c.gateway("theirs")
	require.NoError(t, err)
	for _, condition := range theirs.Status.Conditions { // the CRD's default says that a controller is awaited
		require.Equal(t, metav1.ConditionUnknown, condition.Status, "another controller's Gateway: %+v", condition)
	}

	// The good ones are broken too: what was last known of a certificate goes on.
	c.kube.ApplyYAML(t, secretYAML("web", "good", unfit))
	c.listeners("the Secret of the good listener is broken", map[string]map[string]string{
		"http": good3(), "https": {"ResolvedRefs": "False InvalidCertificateRef"},
	})
	for _, l := range loads {
		l.WaitAnswers(t, 30, 20*time.Second)
	}

	// All heal.
	for _, text := range []string{
		secretYAML("web", "good", issue("shop.example.com")), secretYAML("web", "missing", issue("missing.example.com")),
		secretYAML("web", "unfit", otherPair), `
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: edge, namespace: other}
spec:
  from:
  - {group: gateway.networking.k8s.io, kind: Gateway, namespace: web}
  - {group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: web}
  to: [{group: "", kind: Secret}, {group: "", kind: Service}]
`,
	} {
		c.kube.ApplyYAML(t, text)
	}
	want := wantedConditions()
	want["missing"], want["unfit"], want["foreign"] = good3(), good3(), good3()
	c.listeners("what was mended works", want)
	c.route("web", "hidden", map[string]string{"Accepted": "True Accepted", "ResolvedRefs": "True ResolvedRefs"})
	for _, host := range []string{"missing.example.com", "unfit.example.com", "foreign.example.com"} {
		question{address: secure, host: host, tls: client}.wait(t, host+" answers", isOK)
	}
	question{address: plain, host: "hidden.example.com"}.wait(t, "the other namespace's Service answers", isOK)

	// The whole Gateway is mended.
	c.kube.ApplyYAML(t, brokenGateway("", "good"))
	g = c.listeners("only good listeners are left", map[string]map[string]string{"http": good3(), "https": good3()})
	require.Len(t, g.Status.Listeners, 2)
	harness.Eventually(t, 30*time.Second, "the Gateway is accepted as a whole", func() error {
		g, err := c.gateway("edge")
		if err != nil {
			return err
		}
		return same(g.Status.Conditions, map[string]string{"Accepted": "True Accepted", "Programmed": "True Programmed"}, g.Generation)
	})
	for _, l := range loads {
		r := l.Stop()
		t.Logf("%s", r)
		r.RequireNoFailures(t)
	}
}
