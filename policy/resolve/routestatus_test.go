package resolve

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
)

const goodRoute = `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %[2]s, namespace: web, generation: 3}
spec:
  parentRefs: [{group: "", kind: Service, name: %[1]s}]
  rules:
  - matches: [{path: {value: /good}}]
    backendRefs: [{name: %[1]s, port: 80}]
`

// broken are ways in which a route of the Service THIS can be wrong, as its rule about /broken.
var broken = []string{
	`{matches: [{path: {type: RegularExpression, value: "["}}], backendRefs: [{name: THIS, port: 80}]}`,
	`{matches: [{path: {value: broken}}], backendRefs: [{name: THIS, port: 80}]}`,
	`{matches: [{path: {value: /broken}, method: BREW}], backendRefs: [{name: THIS, port: 80}]}`,
	`{matches: [{path: {value: /broken}}], filters: [{type: Teleport}], backendRefs: [{name: THIS, port: 80}]}`,
	`{matches: [{path: {value: /broken}}], filters: [{type: ExtensionRef, extensionRef: {group: a.b, kind: C, name: d}}], backendRefs: [{name: THIS, port: 80}]}`,
	`{matches: [{path: {value: /broken}}], backendRefs: [{name: gone, port: 80}]}`,
	`{matches: [{path: {value: /broken}}], backendRefs: [{name: THIS, port: 81}]}`,
	`{matches: [{path: {value: /broken}}], backendRefs: [{name: THIS, namespace: pay, port: 80}]}`,
	`{matches: [{path: {value: /broken}}], backendRefs: [{kind: Pod, name: THIS, port: 80}]}`,
	`{matches: [{path: {value: /broken}}], timeouts: {request: soon}, backendRefs: [{name: THIS, port: 80}]}`,
	`{matches: [{path: {value: /broken}}], retry: {attempts: -5}, backendRefs: [{name: THIS, port: 80}]}`,
	`{matches: [{path: {value: /broken}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: x}}}], backendRefs: [{name: THIS, port: 80}]}`,
}

// A wrong object harms nobody: among a thousand good routes, a hundred broken
// ones say each what is wrong with it, and the good ones do what they did.
func TestBrokenRoutesHarmNobody(t *testing.T) {
	const services, wrong = 1000, 100
	in := &routeRows{}
	for i := range services {
		name := fmt.Sprintf("s%d", i)
		in.services = append(in.services, &discovery.Service{
			Scope: "test", Key: discovery.Key{Namespace: "web", Name: name}, Ports: []discovery.ServicePort{{Name: "http", Port: 80}},
		})
		in.objects = append(in.objects, parseRouteObjects(t, fmt.Sprintf(goodRoute, name, name)).objects...)
	}
	before := in.reader(t)
	for i := range wrong {
		name := fmt.Sprintf("s%d", i*7)
		head, _, _ := strings.Cut(fmt.Sprintf(goodRoute, name, "broken-"+name), "  - matches")
		doc := head + "  - " + strings.ReplaceAll(broken[i%len(broken)], "THIS", name) + "\n"
		in.objects = append(in.objects, parseRouteObjects(t, doc).objects...)
	}
	after := in.reader(t)
	for _, svc := range in.services {
		was, is := BuildService(before, svc.Key), BuildService(after, svc.Key)
		good := slices.DeleteFunc(slices.Clone(is.Ports[0].HTTP.Rules), func(r policy.Rule) bool { return strings.HasPrefix(r.Route.Name, "broken") })
		require.Equal(t, was.Ports[0].HTTP.Rules, good)
	}
	told := make(map[discovery.ObjectName]bool)
	for _, f := range validateRoutes(after) {
		require.True(t, strings.HasPrefix(f.Object.Name, "broken"), f.String())
		told[discovery.ObjectName{Kind: f.Object.Kind, Key: f.Object.Key}] = true
	}
	require.Len(t, told, wrong)
	for _, o := range in.objects {
		s, _ := StatusOf(after, o)
		require.Len(t, s.Parents, 1)
		bad := slices.ContainsFunc(s.Parents[0].Conditions, func(c metav1.Condition) bool { return c.Status != metav1.ConditionTrue })
		require.Equal(t, strings.HasPrefix(o.Key.Name, "broken"), bad, "%s: %+v", o.Name(), s.Parents[0].Conditions)
	}
}

// What a route needs may appear after it, in any order, and go again.
func TestRoutesHealByThemselves(t *testing.T) {
	in := &routeRows{objects: parseRouteObjects(t, fmt.Sprintf(goodRoute, "late", "r")).objects}
	reasons := func() []string {
		s, _ := StatusOf(in.reader(t), in.objects[0])
		var out []string
		for _, c := range s.Parents[0].Conditions {
			out = append(out, c.Reason)
		}
		return out
	}
	require.Equal(t, []string{"NoMatchingParent", "BackendNotFound"}, reasons())
	svc := &discovery.Service{Scope: "test", Key: discovery.Key{Namespace: "web", Name: "late"}, Ports: []discovery.ServicePort{{Port: 3306, AppProtocol: "tcp"}}}
	in.services = []*discovery.Service{svc}
	require.Equal(t, []string{"UnsupportedValue", "BackendNotFound"}, reasons())
	svc.Ports = []discovery.ServicePort{{Port: 80}}
	require.Equal(t, []string{"Accepted", "ResolvedRefs"}, reasons())
	require.Len(t, BuildService(in.reader(t), svc.Key).Ports[0].HTTP.Rules, 1)
	in.services = nil
	require.Equal(t, []string{"NoMatchingParent", "BackendNotFound"}, reasons())
}

func TestMessagesStayWithinTheLimit(t *testing.T) {
	o := parseRouteObjects(t, fmt.Sprintf(goodRoute, "s", "r")).objects[0]
	route := o.Spec.(*gatewayv1.HTTPRoute)
	long := gatewayv1.ObjectName(strings.Repeat("x", 40000))
	for range 64 {
		port := gatewayv1.PortNumber(80)
		route.Spec.Rules[0].BackendRefs = append(route.Spec.Rules[0].BackendRefs, gatewayv1.HTTPBackendRef{
			BackendRef: gatewayv1.BackendRef{BackendObjectReference: gatewayv1.BackendObjectReference{Name: long, Port: &port}},
		})
	}
	s, _ := StatusOf((&routeRows{}).reader(t), o)
	for _, c := range s.Parents[0].Conditions {
		require.LessOrEqual(t, len(c.Message), 32768)
	}
	require.Contains(t, s.Parents[0].Conditions[1].Message, "more, which `causeway validate` lists")
}
