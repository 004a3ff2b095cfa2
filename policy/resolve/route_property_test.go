package resolve

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/upstream"
)

func TestShapeIsWhatBuildServiceSays(t *testing.T) {
	for seed := range uint64(200) {
		in := randomRows(rand.New(rand.NewPCG(seed, 4)))
		r := in.reader(t)
		want := BuildService(r, web)
		got := &policy.Service{Key: web}
		shape := upstream.ShapeOf(r, web)
		got.Ports, got.Shift, got.Reported, got.ClientIP = shape.Ports, shape.Shift, shape.Reported, shape.ClientIP
		require.Equal(t, want.Shape(), got.Shape(), "seed %d", seed)
	}
	ports := upstream.ShapeOf((&rows{}).reader(t), web).Ports
	require.Empty(t, ports)
	alias := &discovery.Service{Key: web, ExternalName: "www.example.com", Ports: []discovery.ServicePort{{Port: 80}}}
	ports = upstream.ShapeOf((&rows{services: []*discovery.Service{alias}}).reader(t), web).Ports
	require.Empty(t, ports)
}

// routeSeeds returns the routes of all cases as JSON, by kind.
func routeSeeds(tb testing.TB) map[string][][]byte {
	tb.Helper()
	out := make(map[string][][]byte)
	for _, text := range routeCases.Section(tb, routeObjects) {
		for _, o := range parseRouteObjects(tb, text).objects {
			data, err := json.Marshal(o.Spec)
			require.NoError(tb, err)
			out[o.Kind] = append(out[o.Kind], data)
		}
	}
	return out
}

// surroundings are what a route under test meets: its parent, backends of each kind, rivals.
func surroundings(tb testing.TB) *routeRows {
	tb.Helper()
	cases := routeCases.Section(tb, routeObjects)
	in := parseRouteObjects(tb, cases["kinds"])
	in.groups = parseRouteObjects(tb, cases["instancegroups"]).groups
	return in
}

func FuzzRoutes(f *testing.F) {
	for kind, seeds := range routeSeeds(f) {
		for _, data := range seeds {
			f.Add(kind, data)
		}
	}
	f.Fuzz(func(t *testing.T, kind string, data []byte) {
		var spec any
		switch kind {
		case "HTTPRoute":
			spec = &gatewayv1.HTTPRoute{}
		case "GRPCRoute":
			spec = &gatewayv1.GRPCRoute{}
		case "TCPRoute":
			spec = &gatewayv1.TCPRoute{}
		case "TLSRoute":
			spec = &gatewayv1.TLSRoute{}
		case "ReferenceGrant":
			spec = &gatewayv1.ReferenceGrant{}
		default:
			t.Skip()
		}
		if json.Unmarshal(data, spec) != nil {
			t.Skip()
		}
		in := surroundings(t)
		o := &discovery.Object{Scope: "test", Kind: kind, Key: discovery.Key{Namespace: "web", Name: "fuzzed"}, Spec: spec}
		o.Refs = routeRefs(o)
		in.objects = append(in.objects, o)
		checkRoutes(t, in.reader(t))
	})
}

// checkRoutes checks what must hold whatever routes say.
func checkRoutes(tb testing.TB, r catalog.Reader) {
	tb.Helper()
	for svc := range catalog.Services.All(r) {
		m := BuildService(r, svc.Key)
		if m == nil {
			continue
		}
		require.Empty(tb, cmp.Diff(m, BuildService(r, svc.Key)), "twice the same")
		for i := range m.Ports {
			p := &m.Ports[i]
			for _, routes := range append([]*policy.HTTPRoutes{p.HTTP}, values(p.ConsumerHTTP)...) {
				if routes == nil {
					continue
				}
				require.NotEqual(tb, policy.TCP, p.Protocol)
				for j := range routes.Rules {
					checkRule(tb, &routes.Rules[j])
				}
			}
			for _, routes := range append([]*policy.TCPRoutes{p.TCP}, values(p.ConsumerTCP)...) {
				if routes == nil {
					continue
				}
				require.Equal(tb, policy.TCP, p.Protocol)
				names := make(map[string]bool)
				for j := range routes.Rules {
					checkBackends(tb, &policy.Rule{Backends: routes.Rules[j].Backends})
					for _, name := range routes.Rules[j].ServerNames {
						require.False(tb, names[name], "Envoy refuses two filter chains with one name")
						names[name] = true
					}
				}
			}
		}
	}
	for _, kind := range routeKinds {
		for o := range catalog.Objects.By(r, catalog.ByKind, kind) {
			s, _ := StatusOf(r, o)
			for _, p := range s.Parents {
				require.GreaterOrEqual(tb, len(p.Conditions), 2)
				for _, c := range p.Conditions {
					require.LessOrEqual(tb, len(c.Message), 32768)
					require.Regexp(tb, `^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$`, c.Reason)
					if c.Type == "PartiallyInvalid" {
						require.Equal(tb, "Accepted", p.Conditions[0].Reason)
						require.True(tb, strings.HasPrefix(c.Message, "Dropped Rule"))
					}
				}
			}
		}
	}
	for _, f := range validateRoutes(r) {
		require.NotEmpty(tb, f.Message)
		require.NotEmpty(tb, f.Remedy)
		require.NotEmpty(tb, f.Field)
	}
}

func values[T any](m map[string]T) []T {
	var out []T
	for _, v := range m {
		out = append(out, v)
	}
	return out
}

func checkRule(tb testing.TB, r *policy.Rule) {
	tb.Helper()
	require.True(tb, strings.HasPrefix(r.Match.Path.Value, "/") || r.Match.Path.Kind == policy.PathRegex)
	if r.Match.Path.Kind == policy.PathRegex {
		_, err := policy.CompileRegex(r.Match.Path.Value)
		require.NoError(tb, err)
	}
	for _, list := range [][]policy.ValueMatch{r.Match.Headers, r.Match.Query} {
		for i, v := range list {
			require.True(tb, i == 0 || list[i-1].Name < v.Name)
			if v.Regex {
				_, err := policy.CompileRegex(v.Value)
				require.NoError(tb, err)
			}
		}
	}
	if r.Filters.Path != nil && r.Filters.Path.Prefix {
		require.Equal(tb, policy.PathPrefix, r.Match.Path.Kind)
	}
	require.False(tb, r.Filters.Redirect != nil && len(r.Backends) > 0)
	for i := range r.Filters.Mirrors {
		m := &r.Filters.Mirrors[i]
		require.NotEqual(tb, policy.InvalidBackend, m.To.Kind)
		require.LessOrEqual(tb, m.Numerator, m.Denominator)
		require.NotZero(tb, m.Numerator)
	}
	checkBackends(tb, r)
}

func checkBackends(tb testing.TB, r *policy.Rule) {
	tb.Helper()
	backends := r.Backends
	var sum uint32
	for i := range backends {
		b := &backends[i]
		sum += b.Share
		var parts uint32
		require.NotEmpty(tb, b.Targets)
		for _, target := range b.Targets {
			parts += target.Share
		}
		require.Equal(tb, b.Share, parts)
		require.Equal(tb, b.Kind == policy.InvalidBackend, b.Reason != "")
		require.NotZero(tb, b.Weight)
		if b.Filters.Path != nil && b.Filters.Path.Prefix {
			require.Equal(tb, policy.PathPrefix, r.Match.Path.Kind)
		}
		require.Empty(tb, b.Filters.Failed)
	}
	if len(backends) > 0 {
		require.Equal(tb, uint32(policy.ShareTotal), sum)
	}
}

// Routes of random values, most of which no API server would take.
func TestRandomRoutes(t *testing.T) {
	for seed := range uint64(150) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		in := surroundings(t)
		for n := range 3 {
			for kind, spec := range map[string]any{
				"HTTPRoute": &gatewayv1.HTTPRoute{}, "GRPCRoute": &gatewayv1.GRPCRoute{},
				"TCPRoute": &gatewayv1.TCPRoute{}, "TLSRoute": &gatewayv1.TLSRoute{},
			} {
				fill(rnd, reflect.ValueOf(spec).Elem().FieldByName("Spec"), 0)
				o := &discovery.Object{Scope: "test", Kind: kind, Key: discovery.Key{Namespace: []string{"web", "client"}[rnd.IntN(2)], Name: fmt.Sprintf("r%d", n)}, Spec: spec}
				if common := commonSpec(o); rnd.IntN(4) > 0 {
					group, service := gatewayv1.Group(""), gatewayv1.Kind("Service")
					namespace := gatewayv1.Namespace("web")
					common.ParentRefs = append(common.ParentRefs, gatewayv1.ParentReference{Group: &group, Kind: &service, Namespace: &namespace, Name: "shop"})
				}
				o.Refs = routeRefs(o)
				in.objects = append(in.objects, o)
			}
		}
		checkRoutes(t, in.reader(t))
	}
}

// fill sets a value and everything in it at random, with words that often mean something.
func fill(rnd *rand.Rand, v reflect.Value, depth int) {
	switch v.Kind() { //nolint:exhaustive // what the API's types are made of
	case reflect.Pointer:
		if rnd.IntN(2) == 0 && depth < 12 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(rnd, v.Elem(), depth+1)
		}
	case reflect.Struct:
		for _, field := range v.Fields() {
			if field.CanSet() {
				fill(rnd, field, depth+1)
			}
		}
	case reflect.Slice:
		n := rnd.IntN(4)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(rnd, v.Index(i), depth+1)
		}
	case reflect.String:
		words := []string{
			"", "shop", "shop-v2", "web", "Service", "InstanceGroup", "mesh.causeway.dev", "one", "http", "/", "/a", "/a/", "/a.*", "[", "x", "X",
			"Exact", "PathPrefix", "RegularExpression", "GET", "1s", "1h", "a b", "\x00", "*", "*.example.com", "ReplacePrefixMatch", "ReplaceFullPath",
			"RequestRedirect", "URLRewrite", "RequestMirror", "CORS", "RequestHeaderModifier", "ResponseHeaderModifier", "ExtensionRef", "ExternalAuth",
			"Cookie", "Header", "Permanent", "https", "shop.v1.Cart",
		}
		v.SetString(words[rnd.IntN(len(words))])
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt([]int64{-1, 0, 1, 2, 80, 100, 301, 302, 503, 3306, 9090, 70000, 1 << 30}[rnd.IntN(13)])
	case reflect.Bool:
		v.SetBool(rnd.IntN(2) == 0)
	}
}
