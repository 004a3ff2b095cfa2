package compile_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/test/golden"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/rows"
	"github.com/causeway-mesh/causeway/xds/compile"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// The sections of a case. Its comment says what it is about.
const (
	objectsFile   = "objects.yaml" // of every kind that the mesh reads
	listenersFile = "listeners"    // declarations, one a line
)

// wanted are the sections that the compiler makes.
var wanted = []string{"clusters.yaml", "endpoints.yaml", "zones.yaml", "nodes.yaml", "virtualhosts.yaml", "routes.yaml", "secrets.yaml", "listeners.yaml"}

func TestGolden(t *testing.T) {
	cases := golden.Cases{Files: "testdata/*.txtar", Given: []string{objectsFile, listenersFile}, Made: wanted}
	usual := usualFields(t, cases.Section(t, objectsFile)["usual"])
	cases.Run(t, func(t *testing.T, given map[string]string) map[string]string {
		t.Helper()
		in := rows.Parse(t, given[objectsFile])
		ca := harness.NewAuthority(t, "ca")
		certify(t, in, ca)
		resources := compileAll(t, in, given)
		for _, zone := range zonesOf(resources) {
			harness.ValidateEnvoy(t, withSystemCAs(t, static(t, resources, "web", zone, ""), ca.CertPEM))
		}
		for _, node := range nodesOf(resources) {
			harness.ValidateEnvoy(t, static(t, onNode(resources, node), "web", "", ""))
		}
		for _, namespace := range namespacesOf(resources) {
			harness.ValidateEnvoy(t, static(t, resources, namespace, "", ""))
		}
		requireNeedsMet(t, resources)
		requireNothingExpires(t, resources)
		for seed := range uint64(5) {
			in.Shuffle(rand.New(rand.NewPCG(seed, 0))) //nolint:gosec // a repeatable order is the point
			require.Equal(t, resources, compileAll(t, in, given), "the order of the input changes the output")
		}
		return render(t, resources, usual)
	})
}

// requireNothingExpires holds that a proxy keeps what it has, however long the control plane is away: Envoy itself forgets
// endpoints only by endpoint_stale_after.
func requireNothingExpires(t *testing.T, resources []resource.Resource) {
	t.Helper()
	for i := range resources {
		if resources[i].Type != resource.Endpoint {
			continue
		}
		var cla endpointv3.ClusterLoadAssignment
		require.NoError(t, proto.Unmarshal(slices.Concat(resources[i].Body...), &cla))
		require.Nil(t, cla.GetPolicy().GetEndpointStaleAfter(), cla.GetClusterName())
	}
}

// usualCluster has what a cluster has where nobody asks for anything else. The case
// usual.txtar shows it; those of the other cases are written without the fields that are
// the same there, and with null for those that they do not have.
const usualCluster = "web/usual:80/pods"

// clusterFields are the fields of a cluster, as a golden file has them.
type clusterFields map[string]any

func fieldsOf(t *testing.T, m proto.Message) clusterFields {
	t.Helper()
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	require.NoError(t, err)
	out := make(clusterFields)
	numbers := json.NewDecoder(bytes.NewReader(raw))
	numbers.UseNumber()
	require.NoError(t, numbers.Decode(&out))
	return out
}

// usualFields compiles the case of usualCluster and returns the cluster's fields.
func usualFields(t *testing.T, objects string) clusterFields {
	t.Helper()
	for _, r := range compileAll(t, rows.Parse(t, objects), nil) {
		if r.Type == resource.Cluster && r.Name == usualCluster {
			var m clusterv3.Cluster
			unmarshal(t, r.Body, &m)
			return fieldsOf(t, &m)
		}
	}
	t.Fatalf("the case of %s does not have it", usualCluster)
	return nil
}

// unlike returns the fields that differ.
func (c clusterFields) unlike(usual clusterFields) clusterFields {
	out := make(clusterFields)
	for name, value := range c {
		if !reflect.DeepEqual(value, usual[name]) {
			out[name] = value
		}
	}
	for name := range usual {
		if _, has := c[name]; !has {
			out[name] = nil
		}
	}
	return out
}

// certify gives the Secrets of a case certificates for the names of which its
// annotation tells: a key has no place in a file of a repository.
func certify(t *testing.T, in *rows.Set, ca *harness.Authority) {
	t.Helper()
	for _, o := range in.Objects {
		if secret, ok := o.Spec.(*corev1.Secret); ok && len(secret.Data) > 0 {
			host := string(secret.Data[corev1.TLSCertKey])
			c := ca.Issue(t, harness.CertificateOptions{Name: host, Hosts: []string{host}})
			secret.Data = map[string][]byte{corev1.TLSCertKey: c.CertPEM, corev1.TLSPrivateKeyKey: c.KeyPEM}
		}
	}
}

// compileAll returns the resources of a case, in the order of their Services.
func compileAll(t *testing.T, in *rows.Set, sections map[string]string) []resource.Resource {
	t.Helper()
	cat := in.Catalog(t)
	c := compile.New()
	service, mesh := c.Service, c.Mesh
	// Other cases are not about captured traffic, and would all say the same of it.
	if l := sections[listenersFile]; strings.Contains(l, naming.CapturedListener) || strings.Contains(l, naming.InboundListener) {
		service = func(m *policy.Service) []resource.Resource { return c.Compile(m) }
		mesh = func(m *policy.Mesh) []resource.Resource { return c.Compile(m) }
	}
	models := make(map[discovery.Key]*policy.Service)
	var out []resource.Resource
	for s := range catalog.Services.All(cat.Read()) {
		m := resolve.BuildService(cat.Read(), s.Key)
		require.NotNil(t, m)
		models[s.Key] = m
		out = append(out, service(m)...)
	}
	for o := range catalog.Objects.By(cat.Read(), catalog.ByKind, "ExternalService") {
		m := upstream.BuildExternal(cat.Read(), o.Key)
		require.NotNil(t, m)
		out = append(out, c.External(m)...)
	}
	wide := resolve.BuildMesh(cat.Read())
	out = append(out, mesh(wide)...)
	gateways := make(map[discovery.Key]*policy.Gateway)
	for o := range catalog.Objects.By(cat.Read(), catalog.ByKind, "Gateway") {
		m := resolve.BuildGateway(cat.Read(), o.Key)
		require.NotNil(t, m)
		gateways[o.Key] = m
		out = append(out, c.Gateway(m)...)
		out = append(out, c.Certificates(m)...)
	}
	for line := range strings.Lines(sections[listenersFile]) {
		d, err := naming.ParseDeclaration(strings.TrimSpace(line))
		require.NoError(t, err)
		if d.IsGateway() {
			out = append(out, c.GatewayListeners(d, gateways[d.Gateway])...)
			continue
		}
		if d.IsCaptured() || d.IsInbound() {
			out = append(out, c.Declared(d, wide)...)
			continue
		}
		out = append(out, c.Listener(d, models[d.Service])...)
	}
	return out
}

// render writes resources as the sections of a case. Of the variants for the
// callers of a zone only the weights are written, which is all that differs, and of
// clusters what is unlike the usual one.
func render(t *testing.T, resources []resource.Resource, usual clusterFields) map[string]string {
	t.Helper()
	out := make(map[string]string)
	add := func(section string, m proto.Message, notes ...string) {
		fields := fieldsOf(t, m)
		if c, ok := m.(*clusterv3.Cluster); ok && c.GetName() != usualCluster {
			fields = fields.unlike(usual)
			if out[section] == "" {
				out[section] = "# Each as the cluster of usual.txtar, but for:\n"
			}
		}
		text, err := yaml.Marshal(fields)
		require.NoError(t, err)
		if out[section] != "" && !strings.HasSuffix(out[section], "but for:\n") {
			out[section] += "---\n"
		}
		for _, n := range notes {
			out[section] += "# " + n + "\n"
		}
		out[section] += string(text)
	}
	for _, r := range resources {
		var m proto.Message
		var section string
		switch r.Type {
		case resource.Cluster:
			m, section = &clusterv3.Cluster{}, "clusters.yaml"
		case resource.Endpoint:
			m, section = &endpointv3.ClusterLoadAssignment{}, "endpoints.yaml"
		case resource.VirtualHost:
			m, section = &routev3.VirtualHost{}, "virtualhosts.yaml"
		case resource.Route:
			m, section = &routev3.RouteConfiguration{}, "routes.yaml"
		case resource.Listener:
			m, section = &listenerv3.Listener{}, "listeners.yaml"
		case resource.Secret:
			m, section = &tlsv3.Secret{}, "secrets.yaml"
		}
		unmarshal(t, r.Body, m)
		if secret, ok := m.(*tlsv3.Secret); ok {
			withoutKey(secret)
		}
		var notes []string
		if r.Visible.Gateway != "" {
			notes = append(notes, "visible to proxies of "+r.Visible.Gateway)
		}
		if r.Visible.Authenticated {
			notes = append(notes, "and only to those that have proven who they are")
		}
		if r.Visible.Namespace != "" {
			notes = append(notes, "visible in namespace "+r.Visible.Namespace)
		}
		if len(r.Needs) > 0 {
			notes = append(notes, "needs "+strings.Join(r.Needs, " "))
		}
		add(section, m, notes...)
		for _, namespace := range slices.Sorted(maps.Keys(r.ByNamespace)) {
			proto.Reset(m)
			unmarshal(t, r.ByNamespace[namespace], m)
			add(section, m, "instead, for callers of namespace "+namespace)
		}
		for _, zone := range slices.Sorted(maps.Keys(r.ByZone)) {
			out["zones.yaml"] += weights(t, r, zone)
		}
		for _, node := range slices.Sorted(maps.Keys(r.ByNode)) {
			out["nodes.yaml"] += byPriority(t, r.Name+" on "+node, r.ByNode[node])
		}
		if r.OtherNodes != nil {
			out["nodes.yaml"] += byPriority(t, r.Name+" on other nodes", r.OtherNodes)
		}
	}
	return out
}

// withoutKey takes out what is another one in every run.
func withoutKey(secret *tlsv3.Secret) {
	c := secret.GetTlsCertificate()
	for _, source := range []*corev3.DataSource{c.GetCertificateChain(), c.GetPrivateKey()} {
		if len(source.GetInlineBytes()) > 0 {
			source.Specifier = &corev3.DataSource_InlineString{InlineString: "as in the Secret"}
		}
	}
}

// weights writes the weights and priorities of the variant for callers in a
// zone, and checks that nothing else differs.
func weights(t *testing.T, r resource.Resource, zone string) string {
	t.Helper()
	var base, own endpointv3.ClusterLoadAssignment
	unmarshal(t, r.Body, &base)
	unmarshal(t, r.ByZone[zone], &own)
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s from %s: {", r.Name, zone)
	for i, l := range own.GetEndpoints() {
		if i > 0 {
			out.WriteString(", ")
		}
		fmt.Fprintf(&out, "%s: %d", l.GetLocality().GetZone(), l.GetLoadBalancingWeight().GetValue())
		if l.GetPriority() > 0 {
			fmt.Fprintf(&out, " at priority %d", l.GetPriority())
		}
		l.LoadBalancingWeight = base.GetEndpoints()[i].GetLoadBalancingWeight()
		l.Priority = base.GetEndpoints()[i].GetPriority()
	}
	require.True(t, proto.Equal(&base, &own), "more than the weights differs in zone %s", zone)
	out.WriteString("}\n")
	return out.String()
}

// byPriority writes which endpoints a variant has, and in what order they are chosen.
func byPriority(t *testing.T, name string, body resource.Parts) string {
	t.Helper()
	var cla endpointv3.ClusterLoadAssignment
	unmarshal(t, body, &cla)
	require.NoError(t, cla.ValidateAll())
	if len(cla.GetEndpoints()) == 0 {
		return name + ": none\n"
	}
	out := name + ":\n"
	for _, l := range cla.GetEndpoints() {
		var ids []string
		for _, e := range l.GetLbEndpoints() {
			id := e.GetEndpoint().GetHostname()
			if e.GetHealthStatus() != corev3.HealthStatus_UNKNOWN {
				id += " " + e.GetHealthStatus().String()
			}
			ids = append(ids, id)
		}
		zone := strings.TrimSuffix(l.GetLocality().GetZone()+"/"+l.GetLocality().GetSubZone(), "/")
		out += fmt.Sprintf("- {priority: %d, zone: %s, weight: %d, endpoints: [%s]}\n",
			l.GetPriority(), zone, l.GetLoadBalancingWeight().GetValue(), strings.Join(ids, ", "))
	}
	return out
}

// nodesOf returns the nodes that make a difference, and one that has no endpoints if any does.
func nodesOf(resources []resource.Resource) []string {
	nodes := make(map[string]bool)
	for _, r := range resources {
		for n := range r.ByNode {
			nodes[n], nodes["elsewhere"] = true, true
		}
	}
	return slices.Sorted(maps.Keys(nodes))
}

// onNode returns resources with what proxies on a node get in place of what others get.
func onNode(resources []resource.Resource, node string) []resource.Resource {
	out := slices.Clone(resources)
	for i := range out {
		out[i].Body = out[i].For(resource.Place{Node: node})
	}
	return out
}

// namespacesOf returns the namespaces whose callers get something of their own.
func namespacesOf(resources []resource.Resource) []string {
	namespaces := make(map[string]bool)
	for _, r := range resources {
		for n := range r.ByNamespace {
			namespaces[n] = true
		}
	}
	return slices.Sorted(maps.Keys(namespaces))
}

// zonesOf returns the zones that make a difference, and one that makes none.
func zonesOf(resources []resource.Resource) []string {
	zones := map[string]bool{"elsewhere": true}
	for _, r := range resources {
		for z := range r.ByZone {
			zones[z] = true
		}
	}
	return slices.Sorted(maps.Keys(zones))
}
