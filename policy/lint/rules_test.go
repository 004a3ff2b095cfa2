package lint

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/file"
	"github.com/causeway-mesh/causeway/policy"
)

// found returns what the rules say of objects, as "Rule field: message: remedy".
func found(t *testing.T, text string) []string {
	t.Helper()
	cat := catalog.New()
	loaded, err := file.LoadAll([]string{file.Stdin}, strings.NewReader(text), cat)
	require.NoError(t, err)
	require.Empty(t, loaded.Problems)
	var objects []Object
	for _, w := range loaded.Written() {
		objects = append(objects, Object{ObjectName: w.ObjectName, Value: w.Value})
	}
	var out []string
	for _, f := range Check(cat.Read(), objects) {
		out = append(out, f.Reason+" "+f.Field+": "+f.Message+": "+f.Remedy)
	}
	return out
}

func rulesMap(data string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: causeway-client-rules, namespace: causeway-system}\ndata: {" + strings.ReplaceAll(data, "'", "\"") + "}\n"
}

const (
	service  = "apiVersion: v1\nkind: Service\nmetadata: {name: shop, namespace: web}\nspec: {ports: [{name: http, port: 80}]}\n---\n"
	database = "apiVersion: v1\nkind: Service\nmetadata: {name: shop, namespace: web}\nspec: {ports: [{name: mysql, port: 3306}]}\n---\n"
	header   = "apiVersion: mesh.causeway.dev/v1alpha1\nkind: "
)

func route(spec string) string {
	return "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: shop, namespace: web}\nspec: {" + spec + "}\n"
}

func rule(rule string) string {
	return route(`parentRefs: [{group: "", kind: Service, name: shop}], rules: [{` + rule + "}]")
}

func ours(kind, spec string) string {
	return header + kind + "\nmetadata: {name: shop, namespace: web}\nspec: {" + spec + "}\n"
}

const bounded = `guard: {successRate: {atLeast: "99.9"}}`

func shiftOf(spec string) string {
	steps := `steps: [{percent: "1", hold: 10m}, {percent: "100", hold: 1h}], `
	if strings.Contains(spec, "steps:") {
		steps = ""
	}
	return ours(discovery.KindTrafficShift, "serviceRef: {name: shop}, "+steps+spec)
}

// Each mistake is told by its rule, with the field and what to do.
func TestRules(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want string // part of a line; "" if nothing is told
	}{
		"all weights 0":             {rule("backendRefs: [{name: a, port: 80, weight: 0}, {name: b, port: 80, weight: 0}]"), "NoWeight spec.rules[0].backendRefs: all weights are 0"},
		"one weight 0":              {rule("backendRefs: [{name: a, port: 80, weight: 0}, {name: b, port: 80}]"), ""},
		"all weights of TCP 0":      {strings.Replace(rule("backendRefs: [{name: a, port: 80, weight: 0}]"), "HTTPRoute", "TCPRoute", 1), "NoWeight"},
		"weights that say nothing":  {rule("backendRefs: [{name: a, port: 80, weight: 99999}, {name: b, port: 80, weight: 1}]"), "OddWeight spec.rules[0].backendRefs[0].weight"},
		"abort 100 %":               {ours("TrafficPolicy", `targetRefs: [{kind: Service, name: shop}], fault: {abort: {status: 503, percent: "100"}}`), "FaultForAll spec.fault.abort.percent: every request fails"},
		"abort 100.0 % by default":  {header + `Mesh` + "\nmetadata: {name: default}\nspec: {defaults: {fault: {abort: {status: 503, percent: \"100.0\"}}}}\n", "FaultForAll spec.defaults.fault.abort.percent"},
		"a fault of 0 %":            {ours("TrafficPolicy", `targetRefs: [{kind: Service, name: shop}], fault: {delay: {duration: 1s, percent: "0"}}`), "FaultForAll spec.fault.delay.percent: it meets no request"},
		"a parent without group":    {route("parentRefs: [{kind: Service, name: shop, port: 80}]"), `WrongParent spec.parentRefs[0].group: without group it is gateway.networking.k8s.io, which has no Service, so the route is not in force there: write group: ""`},
		"a parent of another group": {route(`parentRefs: [{group: apps, kind: Gateway, name: shop}]`), `WrongParent spec.parentRefs[0].group: "apps" is not the group of a Gateway`},
		"a parent of another kind":  {route(`parentRefs: [{group: "", kind: Servcie, name: shop}]`), "WrongParent spec.parentRefs[0].kind: no route attaches to a Servcie here, so the route is not in force there: write Service"},
		"no parent":                 {route("rules: [{}]"), "NoParent spec.parentRefs: it is missing"},
		"a misspelt annotation":     {strings.Replace(service, "namespace: web}", "namespace: web, annotations: {mesh.causeway.dev/hoem: Pods}}", 1), "UnknownAnnotation metadata.annotations.mesh.causeway.dev/hoem: the mesh does not know it, so it has no effect: did you mean mesh.causeway.dev/home?"},
		"a misspelt group":          {strings.Replace(service, "namespace: web}", "namespace: web, annotations: {mesh.causeway.io/home: Pods}}", 1), "did you mean mesh.causeway.dev/home?"},
		"another kind's annotation": {strings.Replace(service, "namespace: web}", "namespace: web, annotations: {mesh.causeway.dev/addresses: a.example.com}}", 1), "it has no effect on a Service"},
		"a label for an annotation": {strings.Replace(service, "namespace: web}", "namespace: web, labels: {mesh.causeway.dev/home: Pods}}", 1), "UnknownAnnotation metadata.labels.mesh.causeway.dev/home"},
		"others' annotations":       {strings.Replace(service, "namespace: web}", "namespace: web, annotations: {example.com/home: Pods}}", 1), ""},
		"a slice's port":            {service + slice("ports: [{name: web, port: 8080}, {name: http, port: 80}]", "10.0.0.1"), `UnknownPort ports[0].name: Service web/shop has no port named "web", so the endpoints get no traffic on it: name one of its ports: "http"`},
		"a slice's only port":       {service + slice("ports: [{name: web, port: 8080}]", "10.0.0.1"), `UnknownPort ports[0].name`},
		"a slice of no Service":     {slice("ports: [{name: http, port: 8080}]", "10.0.0.1"), "NoService metadata.labels.kubernetes.io/service-name: there is no Service web/shop"},
		"an address of nobody":      {service + slice("ports: [{name: http, port: 8080}]", "0.0.0.0"), "OddAddress endpoints[0].addresses[0]: 0.0.0.0"},
		"a cohort by Host":          {service + shiftOf("cohort: {header: Host}, "+bounded), "BadKey spec.cohort.header: Host is the same for all users"},
		"a cohort by address":       {service + shiftOf("cohort: {header: X-Forwarded-For}, "+bounded), "BadKey spec.cohort.header: X-Forwarded-For changes between requests of one user"},
		"a hash by Host":            {ours("TrafficPolicy", `targetRefs: [{kind: Service, name: shop}], loadBalancer: {algorithm: Maglev, hash: {header: host}}`), "BadKey spec.loadBalancer.hash.header"},
		"a good cohort":             {service + shiftOf("cohort: {header: X-User-Id}, "+bounded), ""},
		"a shadow with POST":        {service + shiftOf(`steps: [{shadow: {percent: "1", methods: [GET, POST]}, hold: 10m}, {percent: "1", hold: 10m}, {percent: "100", hold: 10m}], `+bounded), "ShadowWrites spec.steps[0].shadow.methods[1]: POST changes something"},
		"a single step":             {service + shiftOf(`steps: [{percent: "100", hold: 24h}], `+bounded), "BigFirstStep spec.steps[0].percent: the first step moves 100 % of the traffic at once"},
		"a cut-over of a store":     {database + shiftOf(`steps: [{percent: "100", hold: 24h}], `+bounded), ""},
		"no guard":                  {service + shiftOf("paused: true"), "NoBounds spec: there is no guard"},
		"a guard without bounds":    {service + shiftOf("guard: {minRequests: 100, window: 1m}"), "NoBounds spec.guard: it has no bound"},
		"a guard of comparisons":    {service + shiftOf("guard: {statusCodes: {comparison: Disabled}, paths: {comparison: Disabled}}"), "NoBounds spec.guard: it has no bound"},
		"/checkout/*":               {rule("matches: [{path: {value: '/checkout/*'}}]"), `LiteralPattern spec.rules[0].matches[0].path.value: "/checkout/*" is compared letter by letter, so no path that a client asks for is like it: write type: PathPrefix and value: /checkout`},
		"/*":                        {rule("matches: [{path: {value: '/*'}}]"), "value: /, which"},
		"a pattern in a header":     {rule("matches: [{headers: [{name: x-version, value: 'v2.*'}]}]"), "LiteralPattern spec.rules[0].matches[0].headers[0].value"},
		"a pattern without slash":   {rule("matches: [{path: {type: RegularExpression, value: 'shop/[0-9]+'}}]"), "NeverMatches spec.rules[0].matches[0].path.value"},
		"the header Host":           {rule("matches: [{headers: [{name: Host, value: a.example.com}]}]"), "HostHeader"},
		"back-off above timeout":    {ours("TrafficPolicy", `targetRefs: [{kind: Service, name: shop}], timeout: {request: 1s}, retry: {backoff: 2s}`), "TimeoutConflict spec.retry.backoff: 2s is not less than timeout.request (1s)"},
		"back-off of a route":       {rule("timeouts: {request: 1s}, retry: {attempts: 2, backoff: 2s}"), "TimeoutConflict spec.rules[0].retry.backoff"},
		"connect above request":     {ours("TrafficPolicy", `targetRefs: [{kind: Service, name: shop}], timeout: {request: 1s, connect: 5s}`), "TimeoutConflict spec.timeout.connect"},
		"idle below request":        {ours("TrafficPolicy", `targetRefs: [{kind: Service, name: shop}], timeout: {request: 1m, idle: 5s}`), "TimeoutConflict spec.timeout.idle"},
		"successRate 1":             {service + shiftOf(`guard: {successRate: {atLeast: "1"}}`), "OddBound spec.guard.successRate.atLeast: with 1, half of the requests may fail: it is in percent"},
		"maxIncrease 20000":         {service + shiftOf(`guard: {latency: {maxIncrease: "20000"}}`), "OddBound spec.guard.latency.maxIncrease"},
		"quantile 0.9999":           {service + shiftOf(`guard: {latency: {quantile: "0.9999", atMost: 1s}}`), "OddBound spec.guard.latency.quantile"},
		"minRequests 100000000":     {service + shiftOf(`guard: {successRate: {atLeast: "99"}, minRequests: 100000000}`), "OddBound spec.guard.minRequests: with 100000000, no window has so many"},
		"dots in a pattern":         {service + shiftOf("guard: {successRate: {atLeast: '99.9'}, metrics: ["+prometheus(`sum(rate(errors{path=~"/api/...", pod!~"a|b...."}[2m]))`)+"]}"), ""},
		"quotes in a pattern":       {service + shiftOf("guard: {successRate: {atLeast: '99.9'}, metrics: ["+prometheus(`sum(rate(errors{title="“x”", b="\"..."}[2m]))`)+"]}"), ""},
		"a placeholder":             {service + shiftOf("guard: {metrics: ["+prometheus("sum(rate(...))")+"]}"), "it is a placeholder"},
		"a placeholder in quotes":   {service + shiftOf("guard: {metrics: ["+prometheus(`"..."`)+"]}"), "it is a placeholder"},
		"a word processor's quotes": {service + shiftOf("guard: {metrics: ["+prometheus(`sum(rate(errors{a=“b”}[2m]))`)+"]}"), "quotes of a word processor"},
		"no PromQL":                 {service + shiftOf("guard: {metrics: ["+prometheus("sum(rate(errors[2m])")+"]}"), "BadQuery spec.guard.metrics[0].prometheus.query: Prometheus cannot read it"},
		"a range":                   {service + shiftOf("guard: {metrics: ["+prometheus("errors[2m]")+"]}"), "it yields a range vector"},
		"a counter without range":   {service + shiftOf("guard: {metrics: ["+prometheus("rate(errors)")+"]}"), "BadQuery"},
		"right PromQL":              {service + shiftOf("guard: {metrics: ["+prometheus("sum(rate(errors[2m])) / sum(rate(requests[2m]))")+"]}"), ""},
		"no NRQL":                   {service + shiftOf("guard: {metrics: [{name: a, atMost: '1', newRelic: {accountID: 1, query: errors, credentials: {secretName: a}}}]}"), "it is no NRQL"},
		"NRQL in lines":             {service + shiftOf("guard: {successRate: {atLeast: '99.9'}, metrics: [{name: a, atMost: '1', newRelic: {accountID: 1, query: \"SELECT\\ncount(*)\\nFROM\\tErrors\", credentials: {secretName: a}}}]}"), ""},
		"no query of Datadog":       {service + shiftOf("guard: {metrics: [{name: a, atMost: '1', datadog: {query: errors, credentials: {secretName: a}}}]}"), "BadQuery spec.guard.metrics[0].datadog.query"},
		"a password in an address":  {service + shiftOf("guard: {metrics: ["+strings.Replace(prometheus("up"), "http://", "http://me:secret@", 1)+"]}"), "SecretInURL spec.guard.metrics[0].prometheus.address"},
		"a webhook of Slack":        {service + shiftOf(bounded+", notifications: [{name: chat, url: 'https://hooks.slack.com/services/T/B/x'}]"), "SecretInURL spec.notifications[0].url"},
		"health timeout":            {group("healthCheck: {interval: 1s, timeout: 5s}"), "CheckConflict spec.healthCheck.timeout: a check may take 5s, longer than the interval of 1s"},
		"health timeout by default": {ours("TrafficPolicy", `targetRefs: [{kind: Service, name: shop}], healthCheck: {timeout: 10s}`), "CheckConflict spec.healthCheck.timeout"},
		"TLS to port 80":            {ours("ExternalService", "hosts: [api.example.com], ports: [{number: 80, tls: {}}]"), "PlainTLSPort spec.ports[0].number: TLS is spoken to port 80"},
		"none to 443":               {ours("ExternalService", "hosts: [api.example.com], ports: [{number: 443}]"), "PlainTLSPort spec.ports[0].number: HTTP without TLS is spoken to port 443"},
		"none to target 443":        {ours("ExternalService", "hosts: [api.example.com], ports: [{number: 80, targetPort: 443}]"), "PlainTLSPort spec.ports[0].targetPort"},
		"TLS to 443":                {ours("ExternalService", "hosts: [api.example.com], ports: [{number: 80, targetPort: 443, tls: {}}]"), ""},
		"a Service's port 80":       {service + ours("TrafficPolicy", `targetRefs: [{kind: Service, name: shop}], tls: {sni: shop.example.com}`), "PlainTLSPort spec.targetRefs[0]: TLS is spoken to port 80 of Service web/shop"},
		"a listener of HTTP at 443": {gateway("{name: a, port: 443, protocol: HTTP}"), "PlainTLSPort spec.listeners[0].protocol: clients speak TLS to port 443"},
		"a class of nobody":         {strings.Replace(gateway("{name: a, port: 80, protocol: HTTP}"), "causeway,", "causway,", 1), "UnknownClass spec.gatewayClassName: there is no GatewayClass causway"},
		"an ARN for a name":         {strings.Replace(group(""), "[shop]", "['arn:aws:autoscaling:eu-west-1:123456789012:autoScalingGroup:x:autoScalingGroupName/shop']", 1), "an auto scaling group is selected by its name, and this is an ARN: write shop"},
		"a guard that holds none":   {group("removalGuard: {maxPercent: 100}"), "SwitchedOff spec.removalGuard.maxPercent"},
		"every address":             {ours("GatewayPolicy", "targetRefs: [{name: a}], inFront: [{kind: ALB, addresses: [0.0.0.0/0]}]"), "OddRange spec.inFront[0].addresses[0]: 0.0.0.0/0 is every address"},
		"bits after the prefix":     {ours("GatewayPolicy", "targetRefs: [{name: a}], inFront: [{kind: ALB, addresses: [10.0.0.1/8]}]"), "OddRange spec.inFront[0].addresses[0]: 10.0.0.1/8 has bits after the prefix, and means 10.0.0.0/8"},
		"a name with a space":       {rule("backendRefs: [{name: 'shop ', port: 80}]"), `OddName spec.rules[0].backendRefs[0].name: "shop " begins or ends with a space`},
		"the same backend twice":    {rule("backendRefs: [{name: shop, port: 80}, {name: shop, port: 80}]"), "Twice spec.rules[0].backendRefs[1]"},
		"a method of nobody":        {ours("TrafficPolicy", "targetRefs: [{kind: Service, name: shop}], retry: {methods: [GTE]}"), "UnknownMethod spec.retry.methods[0]: GTE is no method that clients use: did you mean GET?"},
		"no client rules":           {rulesMap("ruels.yaml: 'clients: []'"), "OddClientRules data: it has no key rules.yaml, which --xds-client-rules names in the manifests, so no certificate may be a proxy"},
		"no client rule":            {rulesMap("rules.yaml: 'clients: []'"), "OddClientRules data.rules.yaml: clients is empty"},
		"a client rule of no kind":  {rulesMap("rules.yaml: 'clients: [{uri: a.example.org, namespaces: [web]}]'"), "for a host name write dns"},
		"a role of no kind":         {rulesMap("rules.yaml: 'clients: [{dns: a.example.org, namespaces: [web], roles: [edge]}]'"), "OddClientRules data.rules.yaml.clients[0].roles[0]"},
		"right client rules":        {rulesMap("rules.yaml: 'clients: [{dns: a.example.org, namespaces: [web]}]'"), ""},
		"404 is retried":            {ours("TrafficPolicy", "targetRefs: [{kind: Service, name: shop}], retry: {retryOn: [RetriableStatusCodes], statusCodes: [404]}"), "UselessRetry spec.retry.statusCodes[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			got := found(t, c.text)
			if c.want == "" {
				require.Empty(t, got)
				return
			}
			require.Truef(t, slices.ContainsFunc(got, func(line string) bool { return strings.Contains(line, c.want) }), "want %s\nhave %s", c.want, strings.Join(got, "\n"))
		})
	}
}

func slice(ports, address string) string {
	return "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: shop-1, namespace: web, labels: {kubernetes.io/service-name: shop}}\naddressType: IPv4\n" +
		ports + "\nendpoints: [{addresses: [" + address + "]}]\n"
}

func prometheus(query string) string {
	return "{name: a, atMost: '1', prometheus: {address: 'http://prometheus:9090', query: '" + query + "'}}"
}

func group(spec string) string {
	return ours("InstanceGroup", "serviceRef: {name: shop}, region: ap-northeast-1, selector: {autoScalingGroups: [shop]}, ports: [{name: http, port: 80}], "+spec)
}

func gateway(listeners string) string {
	return "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: a, namespace: web}\nspec: {gatewayClassName: causeway, listeners: [" + listeners + "]}\n"
}

// The examples are free of what the rules find.
func TestExamplesAreClean(t *testing.T) {
	for _, dir := range worlds(t) {
		if strings.Contains(dir, "testdata") {
			continue
		}
		t.Run(filepath.Base(dir), func(t *testing.T) {
			cat := catalog.New()
			loaded, err := file.LoadAll([]string{dir}, nil, cat)
			require.NoError(t, err)
			var objects []Object
			for _, w := range loaded.Written() {
				objects = append(objects, Object{ObjectName: w.ObjectName, Value: w.Value})
			}
			require.Empty(t, Check(cat.Read(), objects))
		})
	}
}

// The YAML of the documentation is free of it too.
func TestDocumentationIsClean(t *testing.T) {
	docs, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	n := 0
	for _, doc := range append(docs, "../../README.md") {
		text, err := os.ReadFile(doc)
		require.NoError(t, err)
		for block := range strings.SplitSeq(string(text), "```yaml\n") {
			block, _, _ = strings.Cut(block, "```")
			if !strings.HasPrefix(block, "apiVersion:") {
				continue
			}
			n++
			for _, line := range found(t, block) {
				// A page shows an object without those that it names.
				if !strings.HasPrefix(line, "NoService") && !strings.Contains(line, "there is no ") {
					t.Errorf("%s: %s\n%s", filepath.Base(doc), line, block)
				}
			}
		}
	}
	require.Positive(t, n)
}

// A reference that leads nowhere says what was probably meant.
func TestExplain(t *testing.T) {
	cat := catalog.New()
	_, err := file.LoadAll([]string{file.Stdin}, strings.NewReader(service+strings.Replace(service, "namespace: web", "namespace: shop", 1)), cat)
	require.NoError(t, err)
	nowhere := func(discovery.ObjectName) string { return "" }
	remedy := func(message string, unread func(discovery.ObjectName) string) string {
		return Explain(cat.Read(), []policy.Finding{{Message: message, Remedy: "create it or correct the name"}}, unread)[0].Remedy
	}
	require.Equal(t, "create it or correct the name (did you mean shop?)", remedy("there is no Service web/shpo", nowhere))
	require.Equal(t, "create it or correct the name (did you mean shop/shop?)", remedy("there is no Service data/shop, so nothing comes in", nowhere))
	require.Equal(t, "create it or correct the name", remedy("there is no Service web/database", nowhere))
	require.Equal(t, "correct the mistakes in the file of Service web/database (db.yaml:1): while there are any, nothing in it is read",
		remedy("there is no Service web/database", func(discovery.ObjectName) string { return "db.yaml:1" }))
}
