package resolve

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/convert"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/golden"
)

// The sections of a case of testdata/routes: the objects that go in, what they make of the Services'
// ports, what the routes' status says, and what validate says of them.
const (
	routeObjects  = "objects.yaml"
	routeModel    = "model"
	routeStatus   = "status"
	routeFindings = "findings"
)

// prunedAnnotation lists what the API server dropped of an object, for a case only.
const prunedAnnotation = "test/pruned"

var routeCases = golden.Cases{
	Files: "testdata/routes/*.txtar", Given: []string{routeObjects}, Made: []string{routeModel, routeStatus, routeFindings},
}

func TestRoutesGolden(t *testing.T) {
	routeCases.Run(t, func(t *testing.T, given map[string]string) map[string]string {
		t.Helper()
		in := parseRouteObjects(t, given[routeObjects])
		got := renderRoutes(t, in.reader(t))
		for seed := range uint64(4) {
			in.shuffle(rand.New(rand.NewPCG(seed, 0)))
			require.Equal(t, got, renderRoutes(t, in.reader(t)), "the order of the input changes the output")
		}
		return got
	})
}

// routeRows are the rows of a case.
type routeRows struct {
	rows
	objects []*discovery.Object
}

func (in *routeRows) reader(tb testing.TB) catalog.Reader {
	tb.Helper()
	cat := catalog.New()
	_, err := cat.Write(time.Time{}, func(tx *catalog.Tx) error {
		put(tx, catalog.Services, in.services)
		put(tx, catalog.Objects, groupRows(in.groups))
		put(tx, catalog.Endpoints, in.sets)
		put(tx, catalog.Homes, in.homes)
		put(tx, catalog.Objects, in.objects)
		return nil
	})
	require.NoError(tb, err)
	return cat.Read()
}

// shuffle changes every order that means nothing.
func (in *routeRows) shuffle(rnd *rand.Rand) {
	shuffleSlice(rnd, in.services)
	shuffleSlice(rnd, in.groups)
	shuffleSlice(rnd, in.sets)
	shuffleSlice(rnd, in.objects)
	for _, s := range in.services {
		shuffleSlice(rnd, s.Ports)
	}
}

func shuffleSlice[T any](rnd *rand.Rand, s []T) {
	rnd.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
}

// parseRouteObjects reads objects as they are. An API server may have let in with older CRDs what it would refuse now,
// and routes must not harm others by that. Objects that it takes are read by package test/rows.
func parseRouteObjects(tb testing.TB, text string) *routeRows {
	tb.Helper()
	in := &routeRows{}
	for doc := range strings.SplitSeq(text, "\n---\n") {
		var head struct {
			metav1.TypeMeta   `json:",inline"`
			metav1.ObjectMeta `json:"metadata"`
		}
		require.NoError(tb, yaml.Unmarshal([]byte(doc), &head), doc)
		switch head.Kind {
		case "Service":
			in.services = append(in.services, convert.Service(decodeStrict[corev1.Service](tb, doc), "test"))
		case "EndpointSlice":
			in.sets = append(in.sets, convert.EndpointSlice(decodeStrict[discoveryv1.EndpointSlice](tb, doc), "test"))
		case "InstanceGroup":
			g := decodeStrict[v1alpha1.InstanceGroup](tb, doc)
			v1alpha1.DefaultInstanceGroup(g)
			in.groups = append(in.groups, &discovery.InstanceGroup{Scope: "test", Key: discovery.Key{Namespace: g.Namespace, Name: g.Name}, Object: g})
		case "HTTPRoute":
			in.objects = append(in.objects, routeRow(head.ObjectMeta, head.Kind, decodeStrict[gatewayv1.HTTPRoute](tb, doc)))
		case "GRPCRoute":
			in.objects = append(in.objects, routeRow(head.ObjectMeta, head.Kind, decodeStrict[gatewayv1.GRPCRoute](tb, doc)))
		case "TCPRoute":
			in.objects = append(in.objects, routeRow(head.ObjectMeta, head.Kind, decodeStrict[gatewayv1.TCPRoute](tb, doc)))
		case "TLSRoute":
			in.objects = append(in.objects, routeRow(head.ObjectMeta, head.Kind, decodeStrict[gatewayv1.TLSRoute](tb, doc)))
		case "ReferenceGrant":
			in.objects = append(in.objects, routeRow(head.ObjectMeta, head.Kind, decodeStrict[gatewayv1.ReferenceGrant](tb, doc)))
		case "ExternalService":
			o := decodeStrict[v1alpha1.ExternalService](tb, doc)
			row := routeRow(head.ObjectMeta, head.Kind, o)
			row.Hosts = o.Spec.Hosts
			in.objects = append(in.objects, row)
		default:
			tb.Fatalf("no kind %q in a case:\n%s", head.Kind, doc)
		}
	}
	return in
}

func decodeStrict[T any](tb testing.TB, doc string) *T {
	tb.Helper()
	out := new(T)
	require.NoError(tb, yaml.UnmarshalStrict([]byte(doc), out), doc)
	return out
}

// routeRow returns an object as a row, as sources write it.
func routeRow(m metav1.ObjectMeta, kind string, spec any) *discovery.Object {
	o := &discovery.Object{
		Scope: "test", Kind: kind, Key: discovery.Key{Namespace: m.Namespace, Name: m.Name},
		Generation: m.Generation, Created: m.CreationTimestamp.Time, Spec: spec,
	}
	if pruned := m.Annotations[prunedAnnotation]; pruned != "" {
		o.Pruned = strings.Split(pruned, ",")
	}
	o.Refs = routeRefs(o)
	return o
}

// routeRefs returns what a route refers to, sorted, each once.
func routeRefs(o *discovery.Object) []discovery.ObjectName {
	spec := commonSpec(o)
	if spec == nil {
		return nil
	}
	names := make(map[discovery.ObjectName]bool)
	for i := range spec.ParentRefs {
		if key, ok := parentService(o, &spec.ParentRefs[i]); ok {
			names[discovery.ObjectName{Kind: "Service", Key: key}] = true
		}
	}
	for _, ref := range upstream.BackendRefs(o) {
		names[upstream.BackendName(o, ref)] = true
	}
	return slices.SortedFunc(maps.Keys(names), func(a, b discovery.ObjectName) int { return strings.Compare(a.String(), b.String()) })
}

// renderRoutes returns the wanted sections of a case.
func renderRoutes(tb testing.TB, r catalog.Reader) map[string]string {
	tb.Helper()
	var model, status, findings strings.Builder
	for svc := range catalog.Services.All(r) {
		m := BuildService(r, svc.Key)
		if m == nil {
			continue
		}
		for i := range m.Ports {
			renderPort(&model, m, &m.Ports[i])
		}
	}
	for _, kind := range routeKinds {
		for o := range catalog.Objects.By(r, catalog.ByKind, kind) {
			s, ok := StatusOf(r, o)
			require.True(tb, ok)
			if len(s.Parents) == 0 {
				fmt.Fprintf(&status, "%s: no parent of ours\n", o.Name())
			}
			for _, p := range s.Parents {
				require.Equal(tb, gatewayv1.GatewayController(v1alpha1.ControllerName), p.ControllerName)
				ref, err := json.Marshal(p.ParentRef)
				require.NoError(tb, err)
				fmt.Fprintf(&status, "%s at %s\n", o.Name(), ref)
				for _, c := range p.Conditions {
					require.Equal(tb, o.Generation, c.ObservedGeneration)
					fmt.Fprintf(&status, "  %s=%s/%s: %s\n", c.Type, c.Status, c.Reason, c.Message)
				}
			}
		}
	}
	for _, f := range validateRoutes(r) {
		fmt.Fprintf(&findings, "%s\n", f)
	}
	return map[string]string{routeModel: model.String(), routeStatus: status.String(), routeFindings: sortLines(findings.String())}
}

func sortLines(text string) string {
	lines := slices.Sorted(strings.Lines(text))
	return strings.Join(lines, "")
}

func renderPort(w *strings.Builder, m *policy.Service, p *policy.Port) {
	for _, g := range p.Groups {
		fmt.Fprintf(w, "Service %s port %d: cluster of InstanceGroup %s with %d zones\n", m.Key, p.Number, g.Name, len(g.Zones))
	}
	if p.HTTP != nil {
		renderHTTP(w, fmt.Sprintf("Service %s port %d", m.Key, p.Number), p.HTTP)
	}
	for _, namespace := range slices.Sorted(maps.Keys(p.ConsumerHTTP)) {
		renderHTTP(w, fmt.Sprintf("Service %s port %d for callers in %s", m.Key, p.Number, namespace), p.ConsumerHTTP[namespace])
	}
	if p.TCP != nil {
		renderTCP(w, fmt.Sprintf("Service %s port %d", m.Key, p.Number), p.TCP)
	}
	for _, namespace := range slices.Sorted(maps.Keys(p.ConsumerTCP)) {
		renderTCP(w, fmt.Sprintf("Service %s port %d for callers in %s", m.Key, p.Number, namespace), p.ConsumerTCP[namespace])
	}
}

func renderHTTP(w *strings.Builder, title string, routes *policy.HTTPRoutes) {
	fmt.Fprintf(w, "%s, from %v\n", title, routes.Provenance)
	for i := range routes.Rules {
		r := &routes.Rules[i]
		fmt.Fprintf(w, "  %s rule %d match %d", r.Route, r.Index, r.MatchIndex)
		if r.Name != "" {
			fmt.Fprintf(w, " (%s)", r.Name)
		}
		if r.GRPC {
			fmt.Fprint(w, " gRPC")
		}
		fmt.Fprintf(w, ": %s\n", renderMatch(&r.Match))
		renderFilters(w, "    ", &r.Filters)
		if r.Own.Request != nil {
			fmt.Fprintf(w, "    timeout of the request %s\n", r.Own.Request)
		}
		if r.Own.BackendRequest != nil {
			fmt.Fprintf(w, "    timeout of an attempt %s\n", r.Own.BackendRequest)
		}
		if r.Own.Retry != nil {
			fmt.Fprintf(w, "    retry %d times on %v after %s\n", r.Own.Retry.Attempts, r.Own.Retry.Codes, r.Own.Retry.Backoff)
		}
		if r.Own.Session != nil {
			text, _ := json.Marshal(r.Own.Session)
			fmt.Fprintf(w, "    session %s\n", text)
		}
		renderBackends(w, r.Backends)
	}
}

func renderTCP(w *strings.Builder, title string, routes *policy.TCPRoutes) {
	fmt.Fprintf(w, "%s, from %v\n", title, routes.Provenance)
	for i := range routes.Rules {
		r := &routes.Rules[i]
		fmt.Fprintf(w, "  %s rule %d", r.Route, r.Index)
		if r.Name != "" {
			fmt.Fprintf(w, " (%s)", r.Name)
		}
		if len(r.ServerNames) > 0 {
			fmt.Fprintf(w, ": %s", strings.Join(r.ServerNames, " "))
		}
		fmt.Fprintln(w)
		renderBackends(w, r.Backends)
	}
}

func renderMatch(m *policy.Match) string {
	path := [...]string{policy.PathPrefix: "prefix", policy.PathExact: "exact", policy.PathRegex: "regex"}[m.Path.Kind]
	out := []string{path + " " + m.Path.Value}
	if m.Method != "" {
		out = append(out, m.Method)
	}
	values := func(what string, in []policy.ValueMatch) {
		for _, v := range in {
			op := "="
			if v.Regex {
				op = "~"
			}
			out = append(out, fmt.Sprintf("%s %s %s %q", what, v.Name, op, v.Value))
		}
	}
	values("header", m.Headers)
	values("query", m.Query)
	return strings.Join(out, ", ")
}

func renderFilters(w *strings.Builder, indent string, f *policy.Filters) {
	edits := func(what string, e *policy.HeaderEdits) {
		if !e.Empty() {
			fmt.Fprintf(w, "%s%s: set %v add %v remove %v\n", indent, what, e.Set, e.Add, e.Remove)
		}
	}
	edits("request headers", &f.Request)
	edits("response headers", &f.Response)
	path := func(p *policy.PathEdit) string {
		switch {
		case p == nil:
			return ""
		case p.Prefix:
			return fmt.Sprintf("prefix becomes %q", p.Value)
		}
		return fmt.Sprintf("path becomes %q", p.Value)
	}
	if r := f.Redirect; r != nil {
		fmt.Fprintf(w, "%sredirect %d scheme=%q host=%q port=%d %s\n", indent, r.Status, r.Scheme, r.Host, r.Port, path(r.Path))
	}
	if f.Host != "" {
		fmt.Fprintf(w, "%shost becomes %s\n", indent, f.Host)
	}
	if f.Path != nil {
		fmt.Fprintf(w, "%s%s\n", indent, path(f.Path))
	}
	for i := range f.Mirrors {
		fmt.Fprintf(w, "%smirror %d of %d to %s\n", indent, f.Mirrors[i].Numerator, f.Mirrors[i].Denominator, renderBackend(&f.Mirrors[i].To))
	}
	if f.CORS != nil {
		fmt.Fprintf(w, "%sCORS %+v\n", indent, *f.CORS)
	}
	if f.Failed != "" {
		fmt.Fprintf(w, "%s500: %s\n", indent, f.Failed)
	}
}

func renderBackends(w *strings.Builder, backends []policy.Backend) {
	if len(backends) == 0 {
		fmt.Fprintln(w, "    to nothing")
	}
	for i := range backends {
		fmt.Fprintf(w, "    [%d] weight %d to %s\n", backends[i].Index, backends[i].Weight, renderBackend(&backends[i]))
		renderFilters(w, "      ", &backends[i].Filters)
	}
}

func renderBackend(b *policy.Backend) string {
	protocol := [...]string{policy.HTTP1: "HTTP/1.1", policy.HTTP2: "HTTP/2", policy.TCP: "TCP"}[b.Protocol]
	var targets []string
	for _, t := range b.Targets {
		targets = append(targets, fmt.Sprintf("%s %d", t.Platform, t.Share))
	}
	split := strings.Join(targets, ", ")
	if b.FailsOver() {
		split += ", failover"
	}
	switch b.Kind {
	case policy.InvalidBackend:
		return fmt.Sprintf("500 (%d): %s", b.Share, b.Reason)
	case policy.ServiceBackend:
		return fmt.Sprintf("Service %s:%d %s (%d: %s)", b.Key, b.Port, protocol, b.Share, split)
	case policy.InstanceGroupBackend:
		return fmt.Sprintf("InstanceGroup %s of Service %s:%d %s (%d: %s)", b.Group, b.Key, b.Port, protocol, b.Share, split)
	case policy.ExternalBackend:
		return fmt.Sprintf("ExternalService %s:%d %s (%d)", b.Key, b.Port, protocol, b.Share)
	}
	return "?"
}
