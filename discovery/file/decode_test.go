package file

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

const (
	serviceYAML = `apiVersion: v1
kind: Service
metadata: {name: php-web, namespace: web}
spec:
  ports:
  - {name: http, port: 80}
`
	groupYAML = `apiVersion: mesh.causeway.dev/v1alpha1
kind: InstanceGroup
metadata: {name: ec2, namespace: web}
spec:
  serviceRef: {name: php-web}
  region: ap-northeast-1
  selector: {autoScalingGroups: [php-web]}
  ports:
  - {name: http, port: 8080}
`
	sliceYAML = `apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: php-web-1
  namespace: web
  labels: {kubernetes.io/service-name: php-web}
addressType: IPv4
ports:
- {name: http, port: 8080}
endpoints:
- addresses: [127.0.1.10]
  zone: ap-northeast-1a
`
)

const routeYAML = `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: php-web, namespace: web}
spec:
  parentRefs:
  - {group: "", kind: Service, name: php-web}
  rules:
  - matches: [{path: {type: PathPrefix, value: /reports}}]
    timeouts: {request: 5m}
    backendRefs: [{name: php-web, port: 8080}]
`

const meshYAML = `apiVersion: mesh.causeway.dev/v1alpha1
kind: Mesh
metadata: {name: default}
spec: {}
`

func TestDecode(t *testing.T) {
	for name, c := range map[string]struct {
		file, data string
		objects    []string
		problems   []string
	}{
		"every kind": {
			"a.yaml", "---\n" + serviceYAML + "---\n" + groupYAML + "--- # and\n" + sliceYAML + "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: web}\n",
			[]string{"EndpointSlice web/php-web-1", "InstanceGroup web/ec2", "Namespace web", "Service web/php-web"},
			nil,
		},
		"nothing":                         {"a.yaml", "", nil, nil},
		"comments and directives":         {"a.yaml", "%YAML 1.1\n---\n# nothing\n---\n\n...\n", nil, nil},
		"byte order mark and CRLF":        {"a.yaml", "\ufeff" + strings.ReplaceAll(serviceYAML, "\n", "\r\n"), []string{"Service web/php-web"}, nil},
		"no namespace means default":      {"a.yaml", "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80}]}}", []string{"Service default/a"}, nil},
		"a list":                          {"a.yaml", "apiVersion: v1\nkind: List\nitems:\n- " + strings.ReplaceAll(strings.TrimSpace(serviceYAML), "\n", "\n  ") + "\n", []string{"Service web/php-web"}, nil},
		"JSON with tabs":                  {"a.json", "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"Service\",\n\t\"metadata\": {\"name\": \"a\"},\n\t\"spec\": {\"ports\": [{\"port\": 80}]}\n}", []string{"Service default/a"}, nil},
		"anchors":                         {"a.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: a, labels: {a: &n b}, annotations: {<<: {x: z}, y: *n}}\nspec:\n  ports:\n  - {<<: {name: a, port: 80}, appProtocol: http}\n", []string{"Service default/a"}, nil},
		"what kubectl get prints":         {"a.yaml", strings.Replace(groupYAML, "spec:", "status: {instances: {desired: 1, ready: 1, draining: 0, spot: 0}}\nspec:", 1), []string{"InstanceGroup web/ec2"}, nil},
		"broken JSON":                     {"a.json", "{\n\"a\": }", nil, []string{"a.json:2: not JSON: invalid character '}' looking for beginning of value"}},
		"broken YAML in a later document": {"a.yaml", serviceYAML + "---\nfoo: [1\nbar: 2\n", []string{"Service web/php-web"}, []string{"a.yaml:8: not YAML: did not find expected ',' or ']'"}},
		"a template of Helm":              {"a.yaml", "apiVersion: v1\nkind: Service\nmetadata:\n  name: {{ .Values.name }}\n", nil, []string{"a.yaml:4: a template, which is no YAML before it is rendered: check what comes out: helm template CHART | causeway validate -"}},
		"a template's condition":          {"a.yaml", "{{- if .Values.on }}\napiVersion: v1\nkind: Service\n{{- end }}\n", nil, []string{"a.yaml:1: a template, which is no YAML before it is rendered: check what comes out: helm template CHART | causeway validate -"}},
		"a key twice":                     {"a.yaml", "---\napiVersion: v1\nkind: Service\nkind: Service\n", nil, []string{`a.yaml:4: not YAML: key "kind" stands at line 3 already: remove one`}},
		"not an object":                   {"a.yaml", "\n- 1\n", nil, []string{"a.yaml:2: not an object: write a mapping with apiVersion, kind and metadata"}},
		"two documents without separator": {"a.yaml", "a: 1\n...\nb: 2\n", nil, []string{`a.yaml:1: something follows the end of the document: separate documents with "---"`}},
		"another program's":               {"a.yaml", serviceYAML + "---\napiVersion: apps/v1\nkind: Deployment\n", []string{"Service web/php-web"}, nil},
		"a misspelt kind": {
			"a.yaml", "apiVersion: v1\nkind: Servcie\n", nil, []string{"a.yaml:2: there is no kind Servcie: did you mean Service?"},
		},
		"a kind that our group does not have": {
			"a.yaml", "apiVersion: mesh.causeway.dev/v1alpha1\nkind: Rollout\n", nil,
			[]string{"a.yaml:2: there is no kind Rollout of mesh.causeway.dev: write one of InstanceGroup, TrafficShift, TrafficPolicy, GatewayPolicy, GatewayParameters, ExternalService, Mesh"},
		},
		"a version that is not served": {
			"a.yaml", "apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: HTTPRoute\n", nil,
			[]string{"a.yaml:1: there is no HTTPRoute of apiVersion gateway.networking.k8s.io/v1alpha2: write apiVersion: gateway.networking.k8s.io/v1"},
		},
		"a misspelt group": {
			"a.yaml", "apiVersion: gateway.netwroking.k8s.io/v1\nkind: HTTPRoute\n", nil,
			[]string{"a.yaml:1: there is no HTTPRoute of apiVersion gateway.netwroking.k8s.io/v1: write apiVersion: gateway.networking.k8s.io/v1"},
		},
		"no apiVersion": {
			"a.yaml", "kind: Service\nmetadata: {name: a}\n", nil, []string{"a.yaml:1: apiVersion is missing: for a Service write apiVersion: v1"},
		},
		"no kind": {
			"a.yaml", "apiVersion: discovery.k8s.io/v1\nmetadata: {name: a}\n", nil,
			[]string{"a.yaml:1: kind is missing: write one of EndpointSlice, or move the document elsewhere"},
		},
		"neither": {
			"a.yaml", "metadata: {name: a}\nspec: {}\n", nil,
			[]string{"a.yaml:1: apiVersion and kind are missing: write them first, for example apiVersion: v1 and kind: Service"},
		},
		"values of a chart": {"values.yaml", "replicas: 3\nimage: {tag: v1}\n", nil, nil},
		"a route": {
			"a.yaml", routeYAML, []string{"HTTPRoute web/php-web"}, nil,
		},
		"a route of the version before": {
			"a.yaml", strings.Replace(routeYAML, "k8s.io/v1", "k8s.io/v1beta1", 1), []string{"HTTPRoute web/php-web"}, nil,
		},
		"an unknown field of a route": {
			"a.yaml", strings.Replace(routeYAML, "timeouts: {request", "timeouts: {total", 1),
			[]string{"HTTPRoute web/php-web"},
			[]string{"a.yaml:9: HTTPRoute web/php-web: spec.rules[0].timeouts.total: there is no such field: correct or remove it; the fields here are backendRequest, request"},
		},
		"what a schema refuses": {
			"a.yaml", strings.NewReplacer("port: 8080", "port: 80800", "PathPrefix", "Prefix").Replace(routeYAML),
			[]string{"HTTPRoute web/php-web"},
			[]string{
				"a.yaml:10: HTTPRoute web/php-web: spec.rules[0].backendRefs[0].port: 80800 is not allowed: it should be less than or equal to 65535",
				`a.yaml:8: HTTPRoute web/php-web: spec.rules[0].matches[0].path.type: "Prefix" is not allowed: write one of Exact, PathPrefix, RegularExpression (did you mean PathPrefix?)`,
			},
		},
		"what a rule of a schema refuses": {
			"a.yaml", strings.Replace(routeYAML, "request: 5m", "request: 5m, backendRequest: 6m", 1),
			[]string{"HTTPRoute web/php-web"},
			[]string{"a.yaml:9: HTTPRoute web/php-web: spec.rules[0].timeouts: backendRequest timeout cannot be longer than request timeout: shorten it"},
		},
		"a Mesh and the same again in a namespace": {
			"a.yaml", meshYAML + "---\n" + strings.Replace(meshYAML, "name: default", "name: default, namespace: web", 1),
			[]string{"Mesh default"},
			[]string{"a.yaml:6: Mesh default: it stands at line 1 already: remove one"},
		},
		"an unknown field": {
			"a.yaml", strings.Replace(serviceYAML, "port: 80", "port: 80, prot: TCP", 1),
			[]string{"Service web/php-web"},
			[]string{"a.yaml:6: Service web/php-web: spec.ports[0].prot: there is no such field: did you mean port?"},
		},
		"a field of the wrong case": {
			"a.yaml", strings.Replace(serviceYAML, "port: 80", "Port: 80", 1),
			[]string{"Service web/php-web"},
			[]string{"a.yaml:6: Service web/php-web: spec.ports[0].Port: there is no such field: did you mean port?"},
		},
		"a string for a number, in the second of a list": {
			"a.yaml", serviceYAML + "  - name: grpc\n    port: \"90\"\n",
			[]string{"Service web/php-web"},
			[]string{"a.yaml:8: Service web/php-web: spec.ports[1].port: it is a string: write a whole number"},
		},
		"a list for a mapping": {
			"a.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: []\n",
			[]string{"Service default/a"},
			[]string{"a.yaml:4: Service default/a: spec: it is a list: write a mapping"},
		},
		"a duration that is none": {
			"a.yaml", groupYAML + "  healthCheck:\n    interval: 5x\n",
			[]string{"InstanceGroup web/ec2"},
			[]string{`a.yaml:11: InstanceGroup web/ec2: spec.healthCheck.interval: time: unknown unit "x" in duration "5x": write hours, minutes and seconds, for example 24h or 1h30m`},
		},
		"out of range": {
			"a.yaml", strings.Replace(serviceYAML, "port: 80", "port: 80000", 1),
			[]string{"Service web/php-web"},
			[]string{"a.yaml:6: Service web/php-web: spec.ports[0].port: 80000 is not a port: write 1 to 65535"},
		},
		"an annotation's key has dots": {
			"a.yaml", strings.Replace(serviceYAML, "namespace: web}", "namespace: web,\n  annotations: {mesh.causeway.dev/home: 1}}", 1),
			[]string{"Service web/php-web"},
			[]string{"a.yaml:4: Service web/php-web: metadata.annotations.mesh.causeway.dev/home: it is a number: write a string, in quotes if it looks like something else"},
		},
		"zero is not left out": {
			"a.yaml", groupYAML + "  healthCheck:\n    timeout: 0s\n    healthyThreshold: 0\n",
			[]string{"InstanceGroup web/ec2"},
			[]string{
				"a.yaml:12: InstanceGroup web/ec2: spec.healthCheck.healthyThreshold: 0 is not allowed: it should be greater than or equal to 1",
				`a.yaml:11: InstanceGroup web/ec2: spec.healthCheck.timeout: "0s" is out of bounds: write 10ms to 1m`,
			},
		},
		"the same object twice": {
			"a.yaml", serviceYAML + "---\n" + serviceYAML,
			[]string{"Service web/php-web"},
			[]string{"a.yaml:8: Service web/php-web: it stands at line 1 already: remove one"},
		},
		"several mistakes at once": {
			"a.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: A}\nspec:\n  ports:\n  - {port: 80}\n  - {port: 80}\n",
			[]string{"Service default/A"},
			[]string{
				`a.yaml:3: Service default/A: metadata.name: "A" is not a name: write lower case letters, digits and hyphens, for example a`,
				"a.yaml:6: Service default/A: spec.ports[0].name: it is missing, and there is more than one port: give every port its own lower case name",
				"a.yaml:7: Service default/A: spec.ports[1].port: 80/TCP stands twice: list each port once",
				"a.yaml:7: Service default/A: spec.ports[1].name: it is missing, and there is more than one port: give every port its own lower case name",
			},
		},
		"an address of the other family": {
			"a.yaml", strings.Replace(sliceYAML, "127.0.1.10", "'::1'", 1),
			[]string{"EndpointSlice web/php-web-1"},
			[]string{`a.yaml:11: EndpointSlice web/php-web-1: endpoints[0].addresses[0]: "::1" is not an IPv4 address: write one, or put it into a slice of its kind`},
		},
		"a slice of no Service": {
			"a.yaml", strings.Replace(sliceYAML, "kubernetes.io/service-name", "app", 1),
			[]string{"EndpointSlice web/php-web-1"},
			[]string{"a.yaml:6: EndpointSlice web/php-web-1: metadata.labels: there is no kubernetes.io/service-name: name the Service that these endpoints are of"},
		},
		"a Namespace in a namespace": {
			"a.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, namespace: b}\n",
			[]string{"Namespace a"},
			[]string{"a.yaml:3: Namespace a: metadata.namespace: objects of this kind are in no namespace: remove it"},
		},
		"too big": {"a.yaml", strings.Repeat("#", maxFile+1), nil, []string{"a.yaml:1: the file has more than 8388608 bytes: split it"}},
	} {
		t.Run(name, func(t *testing.T) {
			out, problems := decode(c.file, []byte(c.data))
			var objects, texts []string
			for o := range out.at {
				objects = append(objects, o)
			}
			for _, p := range problems {
				texts = append(texts, p.Error())
			}
			require.Equal(t, c.problems, texts)
			require.ElementsMatch(t, c.objects, objects)
		})
	}
}

func TestDefaultsAreThoseOfTheAPIServer(t *testing.T) {
	out, problems := decode("a.yaml", []byte(groupYAML+"  healthCheck: {http: {path: /healthz}, interval: 7s}\n"))
	require.Empty(t, problems)
	s := out.Objects[0].Spec.(*v1alpha1.InstanceGroup).Spec
	require.Equal(t, v1alpha1.PrivateIPv4, s.Address)
	require.Equal(t, v1alpha1.SpotSame, s.Spot)
	require.Equal(t, int32(30), *s.RemovalGuard.MaxPercent)
	require.Equal(t, 7*time.Second, s.HealthCheck.Interval.Duration)
	require.Equal(t, time.Second, s.HealthCheck.Timeout.Duration)
	require.Equal(t, int32(2), s.HealthCheck.UnhealthyThreshold)
	out, problems = decode("a.yaml", []byte(groupYAML+"  removalGuard: {maxPercent: 0}\n"))
	require.Empty(t, problems)
	require.Equal(t, int32(0), *out.Objects[0].Spec.(*v1alpha1.InstanceGroup).Spec.RemovalGuard.MaxPercent)
	require.Nil(t, out.Objects[0].Spec.(*v1alpha1.InstanceGroup).Spec.HealthCheck)
}

func TestLoopbackEndpointsAreTaken(t *testing.T) {
	out, problems := decode("a.yaml", []byte(sliceYAML))
	require.Empty(t, problems)
	require.Equal(t, []discovery.Endpoint{{ID: "127.0.1.10", Address: "127.0.1.10", Zone: "ap-northeast-1a"}}, out.Endpoints[0].Endpoints)
	require.Equal(t, discovery.Pods, out.Endpoints[0].Platform)
}

// Every mistake of a document is told, each at its own line, whatever kinds of
// mistakes they are, and nothing that only follows from another one.
func TestEveryMistakeOfADocumentIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		data     string
		problems []string
	}{
		"types, an unknown field and a value": {
			"apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: web}\nspec:\n  ports:\n" +
				"  - name: http\n    port: \"80\"\n  - name: [x]\n    port: 81\n    targetPort: {a: b}\n  - name: c\n    port: 80000\n    prot: TCP\n",
			[]string{
				"a.yaml:7: Service web/a: spec.ports[0].port: it is a string: write a whole number",
				"a.yaml:8: Service web/a: spec.ports[1].name: it is a list: write a string, in quotes if it looks like something else",
				"a.yaml:10: Service web/a: spec.ports[1].targetPort: it is a mapping: write a whole number, or a name as a string",
				"a.yaml:13: Service web/a: spec.ports[2].prot: there is no such field: did you mean port?",
				"a.yaml:12: Service web/a: spec.ports[2].port: 80000 is not a port: write 1 to 65535",
			},
		},
		"a kind with a schema": {
			"apiVersion: mesh.causeway.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: P, namespace: web}\nspec:\n" +
				"  targetRefs: [{group: \"\", kind: Service, name: a}]\n  timeout:\n    request: 5\n    idle: 3d\n" +
				"  retry:\n    attempts: three\n    retryon: [Reset]\n    backoff: 0s\n  loadBalancer: []\n",
			[]string{
				`a.yaml:13: TrafficPolicy web/P: spec.loadBalancer: it is a list: write a mapping`,
				`a.yaml:10: TrafficPolicy web/P: spec.retry.attempts: it is a string: write a whole number`,
				`a.yaml:11: TrafficPolicy web/P: spec.retry.retryon: there is no such field: did you mean retryOn?`,
				`a.yaml:8: TrafficPolicy web/P: spec.timeout.idle: time: unknown unit "d" in duration "3d": write hours, minutes and seconds, for example 24h or 1h30m`,
				`a.yaml:7: TrafficPolicy web/P: spec.timeout.request: it is a number: write a string with a unit, for example 5s`,
				`a.yaml:12: TrafficPolicy web/P: spec.retry.backoff: "0s" is out of bounds: write 1ms to 1h`,
				`a.yaml:3: TrafficPolicy web/P: metadata.name: "P" is not a name: write lower case letters, digits, hyphens and dots, for example p`,
			},
		},
		"what a wrong part leaves out is not missing": {
			"apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a, namespace: web}\nspec:\n" +
				"  parentRefs:\n  - {nme: shop}\n  rules:\n  - matches: [{path: /a}]\n  - timeout: {request: 1s}\n",
			[]string{
				"a.yaml:6: HTTPRoute web/a: spec.parentRefs[0].nme: there is no such field: did you mean name?",
				"a.yaml:8: HTTPRoute web/a: spec.rules[0].matches[0].path: it is a string: write a mapping",
				"a.yaml:9: HTTPRoute web/a: spec.rules[1].timeout: there is no such field: did you mean timeouts?",
			},
		},
		"names that are no strings": {
			"apiVersion: v1\nkind: Service\nmetadata:\n  name: 7\n  namespace: [a]\nspec: {ports: [{port: 80}]}\n" +
				"---\napiVersion: v1\nkind:\n  a: b\n",
			[]string{
				"a.yaml:4: Service default/: metadata.name: it is a number: write a string, in quotes if it looks like something else",
				"a.yaml:5: Service default/: metadata.namespace: it is a list: write a string, in quotes if it looks like something else",
				"a.yaml:9: not an object: kind: it is a mapping: write a string, in quotes if it looks like something else",
			},
		},
		"keys twice": {
			"# web\n---\napiVersion: v1\nkind: Service\nkind: Service\nspec:\n  a: 1\nspec:\n  b:\n  - c\n  'b': {1: 2, 1: 3}\n",
			[]string{
				`a.yaml:5: not YAML: key "kind" stands at line 4 already: remove one`,
				`a.yaml:8: not YAML: key "spec" stands at line 6 already: remove one`,
				`a.yaml:11: not YAML: key "b" stands at line 9 already: remove one`,
				`a.yaml:11: not YAML: key "1" stands at line 11 already: remove one`,
			},
		},
		"keys twice by a merge": {
			"a: &a\n  x: 1\n  y: {z: 1}\nb:\n  <<: *a\n  x:\n    z: 1\nc:\n  y: 1\n  <<: [*a, {v: 1}]\nd:\n  <<: {x: 1}\n  x: 1\n",
			[]string{
				`a.yaml:6: not YAML: key "x" stands at line 5 already: remove one`,
				`a.yaml:10: not YAML: key "y" stands at line 9 already: remove one`,
				`a.yaml:13: not YAML: key "x" stands at line 12 already: remove one`,
			},
		},
		"keys twice that are not written alike": {
			"1: a\n0x1: b\n", []string{`a.yaml:2: not YAML: key 1 already set in map`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, problems := decode("a.yaml", []byte(c.data))
			var texts []string
			for _, p := range problems {
				texts = append(texts, p.Error())
			}
			require.Equal(t, c.problems, texts)
		})
	}
}

// A big slice with a mistake at its end must be told of in reasonable time.
func TestLocatingAMistakeIsQuick(t *testing.T) {
	var b strings.Builder
	b.WriteString(sliceYAML)
	for i := range 900 {
		fmt.Fprintf(&b, "- addresses: [10.0.%d.%d]\n", i/250, i%250)
	}
	b.WriteString("- addresses: 10.1.1.1\n")
	start := cpuTime(t)
	_, problems := decode("a.yaml", []byte(b.String()))
	require.Len(t, problems, 1)
	require.Equal(t, "a.yaml:913: EndpointSlice web/php-web-1: endpoints[901].addresses: it is a string: write a list", problems[0].Error())
	require.Less(t, cpuTime(t)-start, 5*time.Second)
}

// What is not configuration at all costs bounded time and memory, and says so.
func TestHostileFiles(t *testing.T) {
	bomb := "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c < 'l'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c, ", c-1), 10), ", "))
	}
	pair := "a: &a [" + strings.Repeat("x, ", 1000) + "x]\nb: [" + strings.Repeat("*a, ", 1000) + "*a]\n"
	numbered := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	slice, _, _ := strings.Cut(sliceYAML, "- addresses")
	for name, c := range map[string]struct{ text, first string }{
		"aliases of aliases":       {bomb, "the aliases of the file stand for more than 20000 values"},
		"many aliases":             {"a: &a {apiVersion: v1, kind: Service}\nb: [" + strings.Repeat("*a, ", 750_000/slower) + "*a]\n", "the file has more than 20000 aliases"},
		"aliases everywhere":       {strings.Repeat("---\n"+pair, 400), "the file has more than 20000 aliases"},
		"deep":                     {strings.Repeat("[", 100_000), "exceeded max depth"},
		"many documents":           {strings.Repeat("---\na\n", 200_000/slower), "not an object"},
		"one key many times":       {strings.Repeat("a: 1\n", 600_000/slower), "stands at line 1 already"},
		"a template's keys":        {"a: '{{'\n" + strings.Repeat("a: 1\n", 60_000/slower), "stands at line 1 already"},
		"many keys twice":          {"a:\n" + numbered(20_000/slower, "- {b%[1]d: 1, b%[1]d: 2}\n"), "stands at line 2 already"},
		"many merges":              {"a:\n" + strings.Repeat("- {<<: {b: 1}, b: 2}\n", 20_000/slower), "stands at line 2 already"},
		"merges in merges":         {"a: " + strings.Repeat("{<<: ", 3000) + "{" + numbered(50_000/slower, "b%d: 1, ") + "b0: 1}" + strings.Repeat("}", 3000), "stands at line 1 already"},
		"a number in many guises":  {numbered(50_000/slower, "1: 1\n0x%x: 1\n"), "stands at line 1 already"},
		"many unknown fields":      {serviceYAML + numbered(300_000/slower, "field%d: 1\n"), "there is no such field"},
		"many values of no type":   {serviceYAML + strings.Repeat("  - x\n", 50_000/slower), "it is a string: write a mapping"},
		"mistakes of two kinds":    {slice + strings.Repeat("- {addresses: [127.0.0.x], zne: a}\n", 80_000/slower), "there is no such field"},
		"many values out of range": {slice + strings.Repeat("- {addresses: [127.0.0.x]}\n", 20_000/slower), "there are more than 1000"},
		"many labels":              {"apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n  labels:\n" + numbered(50_000/slower, "    label%d: a b\n"), "is not a label's value"},
		"a List of mistakes":       {"apiVersion: v1\nkind: List\nitems:\n" + strings.Repeat("- {apiVersion: v1, kind: Servcie}\n", 20_000/slower), "there is no kind Servcie"},
		"Lists in Lists":           {strings.Repeat("{apiVersion: v1, kind: List, items: [", 4000) + "{" + numbered(50_000/slower, "b%d: 1, ") + "}" + strings.Repeat("]}", 4000), "it is within 10 Lists"},
		"one long line":            {strings.Repeat("a", 4<<20/slower), "not an object"},
		"binary":                   {strings.Repeat("\x00\xff\x7f", 100_000), "not YAML"},
	} {
		t.Run(name, func(t *testing.T) {
			begin := cpuTime(t)
			_, problems := decode("a.yaml", []byte(c.text))
			used := cpuTime(t) - begin
			t.Logf("%s of processor time", used)
			require.NotEmpty(t, problems)
			require.Contains(t, problems[0].Message, c.first)
			require.LessOrEqual(t, len(problems), maxProblems+1)
			for _, p := range problems {
				require.Less(t, len(p.Message), 1000)
			}
			require.Less(t, used, time.Minute, "what grows without bound takes hours")
		})
	}
	_, problems := decode("a.yaml", []byte("x: &x {name: web}\n---\na: &a [1, 2]\nb: [*a, *a, {c: *a}]\n"))
	for _, p := range problems {
		require.NotContains(t, p.Message, "aliases", "a few are fine")
	}
}

func TestLoadTellsWhereObjectsStand(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.yaml"), []byte("# web\n---\n"+serviceYAML+"---\n"+groupYAML), 0o600))
	cat := catalog.New()
	loaded, err := Load(dir, cat)
	require.NoError(t, err)
	require.Empty(t, loaded.Problems)
	require.Equal(t, "a.yaml:3", loaded.Origin(discovery.ObjectRef{Kind: "Service", Key: discovery.Key{Namespace: "web", Name: "php-web"}}))
	require.Equal(t, "a.yaml:10", loaded.Origin(discovery.ObjectRef{Kind: "InstanceGroup", Key: discovery.Key{Namespace: "web", Name: "ec2"}}))
	_, ok := catalog.Services.Get(cat.Read(), "web/php-web")
	require.True(t, ok)
	_, err = Load(filepath.Join(dir, "none"), cat)
	require.ErrorIs(t, err, os.ErrNotExist)
}

// Routes, policies and the Mesh are rows too, and go with their files.
func TestObjectsComeAndGo(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(meshYAML+"---\n"+routeYAML), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "b.yaml"), []byte(routeYAML), 0o600))
	cat := catalog.New()
	loaded, err := Load(dir, cat)
	require.NoError(t, err)
	require.Len(t, loaded.Problems, 1)
	require.Equal(t, "b.yaml:1: HTTPRoute web/php-web: it stands at a.yaml:6 already, which counts: remove one of them", loaded.Problems[0].Error())
	require.Equal(t, "a.yaml:1", loaded.Origin(discovery.ObjectRef{Kind: "Mesh", Key: discovery.Key{Name: "default"}}))
	route, ok := catalog.Objects.Get(cat.Read(), "HTTPRoute web/php-web")
	require.True(t, ok)
	require.Equal(t, []discovery.ObjectName{{Kind: "Service", Key: discovery.Key{Namespace: "web", Name: "php-web"}}}, route.Refs)
	_, ok = catalog.Objects.Get(cat.Read(), "Mesh default")
	require.True(t, ok)
	require.NoError(t, os.Remove(filepath.Join(dir, "a.yaml")))
	_, err = Load(dir, cat)
	require.NoError(t, err)
	_, ok = catalog.Objects.Get(cat.Read(), "Mesh default")
	require.False(t, ok)
	_, ok = catalog.Objects.Get(cat.Read(), "HTTPRoute web/php-web")
	require.True(t, ok, "the other file's counts now")
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		serviceYAML, groupYAML, sliceYAML, routeYAML, meshYAML, secretYAML, passwordYAML, namespaceYAML, classYAML, gatewayYAML, gatewayPolicyYAML,
		secretYAML + "---\n" + serviceYAML + "--- # another\n" + passwordYAML, "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ntype: kubernetes.io/tls\ndata: {tls.crt: YQ==, tls.key: YQ==}",
		"apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Secret, metadata: {name: a}}, {apiVersion: v1, kind: Namespace, metadata: {name: a}}]", serviceYAML + "---\n" + groupYAML, "{}", "- a", "a: &a [*a]",
		"apiVersion: v1\nkind: List\nitems: [{}, null, [], &a {b: *a}]", "\r\r0", "kind: [1]", "? {a: b}\n: c", "\ufeff---\n...",
		"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: &s {ports: [{port: 1e400}, {port: 0x50}, {port: !!str 80}]}",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data string) {
		for _, name := range []string{"a.yaml", "a.json"} {
			out, problems := decode(name, []byte(data))
			// YAML breaks lines at all of these (YAML 1.1, section 4.1.4).
			lines := 1
			for _, br := range []string{"\n", "\r", "\u0085", "\u2028", "\u2029"} {
				lines += strings.Count(data, br)
			}
			for _, p := range problems {
				require.NotEmpty(t, p.Message)
				require.GreaterOrEqual(t, p.Line, 1)
				require.LessOrEqual(t, p.Line, lines+1, p.Error())
			}
			for _, s := range out.Services {
				require.NotEmpty(t, s.Name)
				require.NotEmpty(t, s.Namespace)
				for _, p := range s.Ports {
					require.NotZero(t, p.Port)
				}
			}
			for _, o := range out.Objects {
				require.NotEmpty(t, o.Key.Name)
				if secret, ok := o.Spec.(*corev1.Secret); ok {
					require.Len(t, secret.Data, 2)
					require.Empty(t, secret.StringData)
				}
			}
			again, _ := decode(name, []byte(data))
			require.Equal(t, out, again)
			if len(problems) == 0 {
				checkLasting(t, name, out)
			}
		}
	})
}
