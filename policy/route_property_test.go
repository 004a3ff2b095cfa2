package policy

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"golang.org/x/tools/txtar"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
)

func TestDivideIsExactAndFair(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 20000 {
		weights := make([]uint32, 1+rnd.IntN(16))
		var sum float64
		for i := range weights {
			if rnd.IntN(3) > 0 {
				weights[i] = uint32(rnd.IntN([]int{3, 100, maxWeight + 1}[rnd.IntN(3)]))
			}
			sum += float64(weights[i])
		}
		total := []uint32{ShareTotal, uint32(rnd.IntN(ShareTotal))}[rnd.IntN(2)]
		parts := divide(total, weights)
		var got uint32
		for i, part := range parts {
			got += part
			if sum > 0 {
				require.InDelta(t, float64(total)*float64(weights[i])/sum, float64(part), 1, "%v of %d", weights, total)
			}
			if weights[i] == 0 {
				require.Zero(t, part)
			}
		}
		if sum > 0 {
			require.Equal(t, total, got, "%v", weights)
		} else {
			require.Zero(t, got)
		}
	}
}

// Raising the share of pods must never take a user away from them: the part of
// the pods, which comes first, only ever grows.
func TestPartOfPodsOnlyGrows(t *testing.T) {
	for _, weight := range []uint32{1, 3, 333333, 999999, ShareTotal} {
		last := uint32(0)
		for share := uint32(0); share <= ShareTotal; share += 997 {
			b := Backend{Targets: []Target{{Share: share}, {Share: ShareTotal - share}}}
			b.allot(weight)
			require.GreaterOrEqual(t, b.Targets[0].Share, last)
			require.Equal(t, weight, b.Targets[0].Share+b.Targets[1].Share)
			last = b.Targets[0].Share
		}
	}
}

func TestAllottingKeepsTheOriginal(t *testing.T) {
	shared := []Target{{Share: ShareTotal}}
	b := Backend{Targets: shared}
	b.allot(5)
	require.Equal(t, uint32(ShareTotal), shared[0].Share)
}

// The order of matches as the specification words it, without the code's own encoding.
func before(a, b *rankedRule) bool {
	if (a.Match.Path.Kind == PathExact) != (b.Match.Path.Kind == PathExact) {
		return a.Match.Path.Kind == PathExact
	}
	if (a.Match.Path.Kind == PathRegex) != (b.Match.Path.Kind == PathRegex) {
		return a.Match.Path.Kind == PathRegex
	}
	for _, of := range []func(*rankedRule) int{
		func(r *rankedRule) int { return len(r.Match.Path.Value) },
		func(r *rankedRule) int { return min(len(r.Match.Method), 1) },
		func(r *rankedRule) int { return len(r.Match.Headers) },
		func(r *rankedRule) int { return len(r.Match.Query) },
	} {
		if of(a) != of(b) {
			return of(a) > of(b)
		}
	}
	if !a.object.Created.Equal(b.object.Created) {
		return a.object.Created.Before(b.object.Created)
	}
	if a.object.Key != b.object.Key {
		return a.object.Key.String() < b.object.Key.String()
	}
	if a.Index != b.Index {
		return a.Index < b.Index
	}
	return a.MatchIndex < b.MatchIndex
}

func TestPrecedenceIsATotalOrder(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2, 2))
	for range 300 {
		var rules []*rankedRule
		for n := range 3 {
			o := &discovery.Object{Kind: "HTTPRoute", Key: discovery.Key{Namespace: []string{"web", "we", "we-b"}[rnd.IntN(3)], Name: string(rune('a' + n))}, Created: time.Unix(int64(rnd.IntN(2)), 0)}
			for i := range 3 {
				for j := range 3 {
					m := randomMatch(rnd)
					rules = append(rules, &rankedRule{Rule: Rule{Route: o.Ref(), Index: i, MatchIndex: j, Match: m}, rank: httpPrecedence(&m), object: o})
				}
			}
		}
		sortRules(rules)
		for i := range rules {
			for j := i + 1; j < len(rules); j++ {
				require.True(t, before(rules[i], rules[j]), "%+v\n%+v", rules[i].Rule, rules[j].Rule)
				require.False(t, before(rules[j], rules[i]))
			}
		}
		want := slices.Clone(rules)
		shuffleSlice(rnd, rules)
		sortRules(rules)
		require.Equal(t, want, rules)
	}
}

func randomMatch(rnd *rand.Rand) Match {
	paths := []PathMatch{
		{PathPrefix, "/"},
		{PathPrefix, "/a"},
		{PathPrefix, "/a/b"},
		{PathPrefix, "/ab"},
		{PathExact, "/a"},
		{PathExact, "/a/b"},
		{PathRegex, "/a.*"},
		{PathRegex, "/[a-z]+"},
		{PathRegex, "/a/b|/a"},
	}
	m := Match{Path: paths[rnd.IntN(len(paths))], Method: []string{"", "", "GET", "POST"}[rnd.IntN(4)]}
	values := func() []ValueMatch {
		var out []ValueMatch
		for _, name := range []string{"a", "b"} {
			switch rnd.IntN(4) {
			case 0:
				out = append(out, ValueMatch{Name: name, Value: []string{"1", "2"}[rnd.IntN(2)]})
			case 1:
				out = append(out, ValueMatch{Name: name, Regex: true, Value: []string{"[0-9]", "1|3", ".*"}[rnd.IntN(3)]})
			}
		}
		return out
	}
	m.Headers, m.Query = values(), values()
	return m
}

// request is what a match sees of a request.
type request struct {
	path, method   string
	headers, query map[string]string
}

func (m *Match) takes(r *request) bool {
	switch m.Path.Kind {
	case PathExact:
		if r.path != m.Path.Value {
			return false
		}
	case PathPrefix:
		if m.Path.Value != "/" && r.path != m.Path.Value && !strings.HasPrefix(r.path, m.Path.Value+"/") {
			return false
		}
	case PathRegex:
		if !regexp.MustCompile("^(?:" + m.Path.Value + ")$").MatchString(r.path) {
			return false
		}
	}
	values := func(want []ValueMatch, have map[string]string) bool {
		for _, v := range want {
			got, ok := have[v.Name]
			if !ok || !v.Regex && got != v.Value || v.Regex && !regexp.MustCompile("^(?:"+v.Value+")$").MatchString(got) {
				return false
			}
		}
		return true
	}
	return (m.Method == "" || m.Method == r.method) && values(m.Headers, r.headers) && values(m.Query, r.query)
}

func TestCoveredMatchesAreNeverReached(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 3))
	var requests []request
	for _, path := range []string{"/", "/a", "/ab", "/a/b", "/a/b/c", "/x1"} {
		for _, method := range []string{"GET", "POST", "PUT"} {
			for _, v := range []map[string]string{nil, {"a": "1"}, {"a": "2", "b": "1"}, {"a": "3", "b": "2"}, {"b": "x"}} {
				for _, q := range []map[string]string{nil, {"a": "1", "b": "1"}, {"a": "2", "b": "3"}} {
					requests = append(requests, request{path, method, v, q})
				}
			}
		}
	}
	c := covering{compiled: make(map[string]*regexp.Regexp)}
	covered := 0
	for range 20000 {
		a, b := randomMatch(rnd), randomMatch(rnd)
		if !c.covers(&a, &b) {
			continue
		}
		covered++
		for i := range requests {
			if b.takes(&requests[i]) {
				require.True(t, a.takes(&requests[i]), "%+v does not cover %+v: %+v", a, b, requests[i])
			}
		}
	}
	require.Greater(t, covered, 100, "the test compares nothing")
}

func TestShapeIsWhatBuildServiceSays(t *testing.T) {
	for seed := range uint64(200) {
		in := randomRows(rand.New(rand.NewPCG(seed, 4)))
		r := in.reader(t)
		want := BuildService(r, web)
		got := &Service{Key: web}
		shape := shapeOf(r, web)
		got.Ports, got.Shift, got.Reported, got.ClientIP = shape.ports, shape.shift, shape.reported, shape.clientIP
		require.Equal(t, want.Shape(), got.Shape(), "seed %d", seed)
	}
	ports := shapeOf((&rows{}).reader(t), web).ports
	require.Empty(t, ports)
	alias := &discovery.Service{Key: web, ExternalName: "www.example.com", Ports: []discovery.ServicePort{{Port: 80}}}
	ports = shapeOf((&rows{services: []*discovery.Service{alias}}).reader(t), web).ports
	require.Empty(t, ports)
}

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0s": 0, "1h": time.Hour, "1m30s": 90 * time.Second, "500ms": 500 * time.Millisecond,
		"1h2h20m10m": 3*time.Hour + 30*time.Minute, "00060m": time.Hour, "99999h": 99999 * time.Hour,
	} {
		got, err := parseDuration(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "0", "1", "s", "1.5s", "-1s", "+1s", "1d", "100000s", "1h1h1h1h1h", "1s ", " 1s", "1µs", "1H"} {
		_, err := parseDuration(text)
		require.Error(t, err, text)
	}
}

// routeSeeds returns the routes of all cases as JSON, by kind.
func routeSeeds(tb testing.TB) map[string][][]byte {
	tb.Helper()
	files, err := filepath.Glob("testdata/routes/*.txtar")
	require.NoError(tb, err)
	out := make(map[string][][]byte)
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		require.NoError(tb, err)
		for _, o := range parseRouteObjects(tb, string(archive.Files[0].Data)).objects {
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
	archive, err := txtar.ParseFile("testdata/routes/kinds.txtar")
	require.NoError(tb, err)
	in := parseRouteObjects(tb, string(archive.Files[0].Data))
	archive, err = txtar.ParseFile("testdata/routes/instancegroups.txtar")
	require.NoError(tb, err)
	in.groups = parseRouteObjects(tb, string(archive.Files[0].Data)).groups
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
			for _, routes := range append([]*HTTPRoutes{p.HTTP}, values(p.ConsumerHTTP)...) {
				if routes == nil {
					continue
				}
				require.NotEqual(tb, TCP, p.Protocol)
				for j := range routes.Rules {
					checkRule(tb, &routes.Rules[j])
				}
			}
			for _, routes := range append([]*TCPRoutes{p.TCP}, values(p.ConsumerTCP)...) {
				if routes == nil {
					continue
				}
				require.Equal(tb, TCP, p.Protocol)
				names := make(map[string]bool)
				for j := range routes.Rules {
					checkBackends(tb, routes.Rules[j].Backends)
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

func checkRule(tb testing.TB, r *Rule) {
	tb.Helper()
	require.True(tb, strings.HasPrefix(r.Match.Path.Value, "/") || r.Match.Path.Kind == PathRegex)
	if r.Match.Path.Kind == PathRegex {
		_, err := CompileRegex(r.Match.Path.Value)
		require.NoError(tb, err)
	}
	for _, list := range [][]ValueMatch{r.Match.Headers, r.Match.Query} {
		for i, v := range list {
			require.True(tb, i == 0 || list[i-1].Name < v.Name)
			if v.Regex {
				_, err := CompileRegex(v.Value)
				require.NoError(tb, err)
			}
		}
	}
	if r.Filters.Path != nil && r.Filters.Path.Prefix {
		require.Equal(tb, PathPrefix, r.Match.Path.Kind)
	}
	require.False(tb, r.Filters.Redirect != nil && len(r.Backends) > 0)
	for i := range r.Filters.Mirrors {
		m := &r.Filters.Mirrors[i]
		require.NotEqual(tb, InvalidBackend, m.To.Kind)
		require.LessOrEqual(tb, m.Numerator, m.Denominator)
		require.NotZero(tb, m.Numerator)
	}
	checkBackends(tb, r.Backends)
}

func checkBackends(tb testing.TB, backends []Backend) {
	tb.Helper()
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
		require.Equal(tb, b.Kind == InvalidBackend, b.Reason != "")
		require.NotZero(tb, b.Weight)
		require.Nil(tb, b.Filters.Path)
		require.Empty(tb, b.Filters.Failed)
	}
	if len(backends) > 0 {
		require.Equal(tb, uint32(ShareTotal), sum)
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
