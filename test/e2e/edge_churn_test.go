package e2e

import (
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	decoding "github.com/causeway-mesh/causeway/discovery/objects"
	"github.com/causeway-mesh/causeway/test/harness"
)

// decode reads objects as files have them.
func decode(t *testing.T, text string) *decoding.Rows {
	t.Helper()
	rows := &decoding.Rows{}
	for doc := range strings.SplitSeq(text, "\n---\n") {
		if strings.Trim(doc, "-\n ") == "" {
			continue
		}
		data, err := yaml.YAMLToJSON([]byte(doc))
		require.NoError(t, err, doc)
		var meta struct{ APIVersion, Kind string }
		require.NoError(t, yaml.Unmarshal(data, &meta))
		kinds := decoding.Kinds()
		i := slices.IndexFunc(kinds, func(k decoding.Kind) bool { return k.Has(meta.APIVersion, meta.Kind) })
		require.GreaterOrEqual(t, i, 0, doc)
		require.Empty(t, kinds[i].Decode(data, "test", rows), doc)
	}
	return rows
}

// put writes objects as files have them.
func (p *plane) put(t *testing.T, text string) {
	t.Helper()
	rows := decode(t, text)
	p.write(t, func(tx *catalog.Tx) {
		for _, s := range rows.Services {
			catalog.Services.Put(tx, s)
		}
		for _, s := range rows.Endpoints {
			catalog.Endpoints.Put(tx, s)
		}
		for _, o := range rows.Objects {
			catalog.Objects.Put(tx, o)
		}
	})
}

// churn is an edge whose configuration never stays as it is.
type churn struct {
	*testing.T
	*rand.Rand
	plane     *plane
	addresses []netip.Addr
	ca        *harness.Authority
	listeners map[string]string // those that nobody asks for, by name
	routes    map[string]bool   // of them
	// generation counts edits, because an object that did not change has its old one.
	generation int

	mu       sync.Mutex
	rotation map[string]*rotation // by the host that is asked for
}

// rotation is the newest certificate of a host.
type rotation struct {
	serial string
	at     time.Time
	seen   bool
	count  int
}

// rotationLimit is how long a new certificate may take to reach users, on a
// machine that does much else.
const rotationLimit = 20 * time.Second

// rotate writes a new certificate with a new key for a host, unless nobody has
// seen the last one yet.
func (c *churn) rotate(host string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.rotation[host]
	if last != nil && !last.seen {
		require.Less(c, time.Since(last.at), rotationLimit, "no new connection to %s has seen certificate %s", host, last.serial)
		return false
	}
	certificate := c.ca.Issue(c, harness.CertificateOptions{Hosts: []string{host}})
	next := &rotation{serial: serial(c.T, certificate), at: time.Now()}
	if last != nil {
		next.count = last.count + 1
	}
	c.rotation[host] = next
	c.plane.put(c.T, secretYAML("web", strings.ReplaceAll(host, ".", "-"), certificate))
	return true
}

func serial(t *testing.T, c harness.Certificate) string {
	t.Helper()
	return c.TLS(t).Leaf.SerialNumber.String()
}

// client trusts the authority and notes what it is shown.
func (c *churn) client() *tls.Config {
	return &tls.Config{
		RootCAs: c.ca.Pool(), MinVersion: tls.VersionTLS12,
		VerifyConnection: func(s tls.ConnectionState) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			if r := c.rotation[s.ServerName]; r != nil && r.serial == s.PeerCertificates[0].SerialNumber.String() {
				r.seen = true
			}
			return nil
		},
	}
}

func (c *churn) gateway() {
	extra := ""
	for _, name := range sortedKeys(c.listeners) {
		extra += "  - " + c.listeners[name] + "\n"
	}
	c.generation++
	c.plane.put(c.T, fmt.Sprintf(`---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: web, generation: %d}
spec:
  gatewayClassName: causeway
  listeners:
  - {name: http, port: 8080, protocol: HTTP}
  - {name: shop, port: 8443, protocol: HTTPS, hostname: shop.example.com, tls: {certificateRefs: [{name: shop-example-com}]}}
  - {name: api, port: 8443, protocol: HTTPS, hostname: api.example.com, tls: {certificateRefs: [{name: api-example-com}]}}
%s`, c.generation, extra))
}

// other makes, edits or removes a listener that nobody asks for.
func (c *churn) other() {
	name := fmt.Sprintf("other-%d", c.IntN(12))
	if c.listeners[name] != "" && c.IntN(2) == 0 {
		delete(c.listeners, name)
		c.gateway()
		return
	}
	host := fmt.Sprintf("%s-%d.example.com", name, c.IntN(3))
	switch c.IntN(5) {
	case 0:
		c.listeners[name] = fmt.Sprintf("{name: %s, port: 8080, protocol: HTTP, hostname: %s}", name, host)
	case 1, 2:
		c.listeners[name] = fmt.Sprintf("{name: %s, port: 8443, protocol: HTTPS, hostname: %s, tls: {certificateRefs: [{name: %s}]}}", name, host,
			[]string{"shop-example-com", "api-example-com", "missing"}[c.IntN(3)])
	case 3:
		c.listeners[name] = fmt.Sprintf("{name: %s, port: 8443, protocol: TLS, hostname: %s, tls: {mode: Passthrough}}", name, host)
	case 4: // ports come and go
		c.listeners[name] = fmt.Sprintf("{name: %s, port: %d, protocol: HTTP, hostname: %s}", name, 9000+c.IntN(3), host)
	}
	c.gateway()
}

// route edits the route of a host that is asked for, in ways that hurt nobody.
func (c *churn) route(host string) {
	c.generation++
	rules := []string{
		"{backendRefs: [{name: shop, port: 80}]}",
		fmt.Sprintf("{backendRefs: [{name: shop, port: 80, weight: %d}, {name: second, port: 80, weight: %d}]}", c.IntN(10), 1+c.IntN(10)),
		fmt.Sprintf("{backendRefs: [{name: second, port: 80}], timeouts: {request: %ds}}", 10+c.IntN(10)),
		fmt.Sprintf("{backendRefs: [{name: shop, port: 80}], filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-edit, value: v%d}]}}]}", c.generation),
	}
	all := ""
	for i := range c.IntN(4) { // more specific ones, which nobody asks for
		all += fmt.Sprintf("  - {matches: [{path: {value: /p%d}}], backendRefs: [{name: second, port: 80}]}\n", i)
	}
	c.plane.put(c.T, fmt.Sprintf(`---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %s, namespace: web, generation: %d}
spec:
  parentRefs: [{name: edge}]
  hostnames: [%s]
  rules:
%s  - %s
`, strings.ReplaceAll(host, ".", "-"), c.generation, host, all, rules[c.IntN(len(rules))]))
}

// otherRoute makes or removes a route that nobody asks for.
func (c *churn) otherRoute() {
	name := fmt.Sprintf("other-%d", c.IntN(20))
	if c.routes[name] && c.IntN(2) == 0 {
		delete(c.routes, name)
		c.plane.write(c.T, func(tx *catalog.Tx) { catalog.Objects.Delete(tx, "HTTPRoute web/"+name) })
		return
	}
	c.routes[name] = true
	c.generation++
	c.plane.put(c.T, fmt.Sprintf(`---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %s, namespace: web, generation: %d}
spec:
  parentRefs: [{name: edge%s}]
  hostnames: [%s-%d.example.com]
  rules: [{backendRefs: [{name: shop, port: 80}]}]
`, name, c.generation, []string{"", ", sectionName: http", ", port: 8443"}[c.IntN(3)], name, c.IntN(3)))
}

// endpoints replaces the endpoints of a side of a Service; one is always usable.
func (c *churn) endpoints(service string, platform discovery.BackingName) {
	s := &discovery.EndpointSet{
		Scope: "test", Platform: platform, Service: discovery.Key{Namespace: "web", Name: service},
		Key:   discovery.Key{Namespace: "web", Name: service + "-" + platform.String()},
		Ports: []discovery.EndpointPort{{Name: "http", Port: instancePort}},
	}
	first := c.addresses[c.IntN(len(c.addresses))]
	s.Endpoints = append(s.Endpoints, discovery.Endpoint{ID: "first-" + first.String(), Address: first.String(), Zone: "a"})
	for range c.IntN(4) {
		a := c.addresses[c.IntN(len(c.addresses))]
		s.Endpoints = append(s.Endpoints, discovery.Endpoint{
			ID: fmt.Sprintf("%s-%d", a, c.IntN(3)), Address: a.String(), Zone: []string{"a", "b"}[c.IntN(2)],
			Health: discovery.Health(c.IntN(3)), //nolint:gosec // 0 to 2
		})
	}
	c.plane.write(c.T, func(tx *catalog.Tx) { catalog.Endpoints.Put(tx, s) })
}

func (c *churn) share() {
	c.plane.put(c.T, pinned("shop", fmt.Sprint(c.IntN(101)), ""))
}

// policy edits what concerns every connection of a port, all of which drain then.
func (c *churn) policy() {
	c.generation++
	c.plane.put(c.T, fmt.Sprintf(`---
apiVersion: mesh.causeway.dev/v1alpha1
kind: GatewayPolicy
metadata: {name: limits, namespace: web, generation: %d}
spec:
  targetRefs: [{name: edge}]
  limits: {headers: %d}
`, c.generation, 90+c.IntN(20)))
}

// Listeners, certificates, routes, shares and endpoints change thousands of
// times while users come over HTTP/1.1, HTTP/2 and always anew, and no request fails.
func TestEdgeChurn(t *testing.T) {
	beside(t, 0.9, 40*time.Second)
	const least = 3000
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // any will do
	t.Logf("seed %d", seed)
	c := &churn{
		T: t, Rand: rand.New(rand.NewPCG(seed, 0)), //nolint:gosec // which change comes when
		plane: startPlane(t), addresses: harness.Addresses(t, 4), ca: harness.NewAuthority(t, "edge"),
		listeners: make(map[string]string), routes: make(map[string]bool), rotation: make(map[string]*rotation),
	}
	for i, a := range c.addresses {
		harness.StartWorkload(t, harness.WorkloadOptions{
			Kind: harness.GoProcess, Address: a, Port: instancePort, ID: fmt.Sprintf("b%d", i), Platform: "pods", Zone: "a",
		})
	}
	for _, name := range []string{"shop", "second"} {
		c.plane.put(t, fmt.Sprintf(`---
apiVersion: v1
kind: Service
metadata: {name: %s, namespace: web, annotations: {mesh.causeway.dev/home: Instances}}
spec: {ports: [{name: http, port: 80}]}
`, name))
		c.endpoints(name, discovery.Instances)
		c.endpoints(name, discovery.Pods)
	}
	hosts := []string{"shop.example.com", "api.example.com"}
	for _, host := range hosts {
		c.rotate(host)
		c.route(host)
	}
	c.gateway()
	e := startEdge(t, edgeOptions{namespace: "web", gateway: "edge", id: "i-edge", zone: "a", servers: []string{c.plane.address}})
	for _, host := range hosts {
		question{address: e.at(edgeTLS), host: host, tls: c.client()}.wait(t, host+" answers", isOK)
	}
	plain, secure := "http://"+e.at(edgePlain), "https://"+e.at(edgeTLS)
	var loads []*harness.Load
	for _, o := range []harness.LoadOptions{
		{URL: plain, Host: hosts[0], Rate: 60},
		{URL: secure, Host: hosts[0], Rate: 60},
		{URL: secure, Host: hosts[1], Rate: 60, HTTP2: true},
		{URL: secure, Host: hosts[0], Rate: 20, NewConnections: true},
		{URL: secure, Host: hosts[1], Rate: 20, NewConnections: true},
	} {
		// Few workers, so that no connection is idle for long: what an edge that
		// drains closes while it is idle may just then be used.
		o.TLS, o.Workers = c.client(), 4
		loads = append(loads, harness.StartLoad(t, o))
	}
	for _, l := range loads {
		l.WaitAnswers(t, 10, 20*time.Second)
	}

	changes := make(map[string]int)
	total := 0
	began := time.Now()
	for long := soak(t, 20*time.Second); time.Since(began) < long || total < least; total++ {
		what := "route"
		switch n := c.IntN(40); {
		case n < 12:
			what = "listener"
			c.other()
		case n < 16 && c.rotate(hosts[c.IntN(2)]):
			what = "certificate"
		case n < 24:
			what = "other route"
			c.otherRoute()
		case n < 28:
			what = "share"
			c.share()
		case n < 33:
			what = "endpoints"
			c.endpoints([]string{"shop", "second"}[c.IntN(2)], []discovery.BackingName{discovery.Instances, discovery.Pods}[c.IntN(2)])
		case n == 33 && c.IntN(5) == 0:
			what = "policy"
			c.policy()
		default:
			c.route(hosts[c.IntN(2)])
		}
		changes[what]++
		harness.TakeTime(time.Duration(c.IntN(12)) * time.Millisecond)
	}
	t.Logf("%d changes in %s: %v", total, time.Since(began).Round(time.Second), changes)
	// The edge has followed to the end: what comes last is in force.
	const last = "last.example.com"
	c.rotate(last)
	c.route(last)
	c.listeners["last"] = "{name: last, port: 8443, protocol: HTTPS, hostname: last.example.com, tls: {certificateRefs: [{name: last-example-com}]}}"
	c.gateway()
	question{address: e.at(edgeTLS), host: last, tls: c.client()}.wait(t, "the last listener answers", isOK)
	harness.Eventually(t, rotationLimit, "the last certificates are seen", func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		for host, r := range c.rotation {
			if !r.seen {
				return fmt.Errorf("%s: %s is not", host, r.serial)
			}
		}
		return nil
	})
	for _, host := range hosts {
		r := c.rotation[host]
		t.Logf("%d certificates of %s", r.count, host)
		require.Greater(t, r.count, 5, host)
	}
	for _, l := range loads {
		r := l.Stop()
		t.Logf("%s", r)
		r.RequireNoFailures(t)
	}
	for _, proxy := range c.plane.server.Proxies() {
		for _, s := range proxy.Types {
			require.Empty(t, s.Rejected, "%s: %s", s.Type, s.Error)
		}
	}
}
