package objects

import (
	"fmt"
	"strings"
)

// specCase is an object and what must be said of it.
type specCase struct {
	name, text string
	// mistake is part of what is wrong with it, as "field: message: remedy"; "" if nothing is.
	mistake string
}

func (v specCase) String() string { return v.name + "\n" + v.text }

// specs writes objects of one kind, each given by its spec.
func specs(apiVersion, kind, metadata string, of [][2]string) []specCase {
	out := make([]specCase, len(of))
	for i, c := range of {
		out[i] = specCase{
			name:    fmt.Sprintf("%s %d", kind, i),
			text:    fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: %s\nspec: %s\n", apiVersion, kind, metadata, c[0]),
			mistake: c[1],
		}
	}
	return out
}

func trafficPolicies() []specCase {
	const a = "{targetRefs: [{kind: Service, name: a}], "
	duration := func(field, bad, remedy string) [2]string {
		open := strings.ReplaceAll(field, ".", ": {")
		return [2]string{
			a + open + ": " + bad + strings.Repeat("}", strings.Count(field, ".")) + "}",
			fmt.Sprintf("spec.%s: %q is out of bounds: write %s", field, bad, remedy),
		}
	}
	return specs(ourAPI, "TrafficPolicy", "{name: a, namespace: web}", [][2]string{
		{"{targetRefs: [{kind: Service, name: a}]}", ""},
		{"{}", "spec.targetRefs: it is missing: write it"},
		{"{targetRefs: []}", "spec.targetRefs: it has 0: it should have at least 1 items"},
		{"{targetRefs: [{kind: Service, name: ''}]}", `spec.targetRefs[0].name: "" is not allowed: it should be at least 1 chars long`},
		{"{targetRefs: [{kind: Service, name: a, sectionName: http}, {kind: Service, name: a}, {group: mesh.causeway.dev, kind: InstanceGroup, name: a}]}", ""},
		{"{targetRefs: [{kind: Service, name: a}, {group: '', kind: Service, name: a}]}", "spec.targetRefs[1]: it stands twice: remove one"},
		{"{targetRefs: [{kind: Service, name: a, sectionName: HTTP}]}", "spec.targetRefs[0].sectionName"},
		{"{targetRefs: [{kind: Pod, name: a}]}", `spec.targetRefs[0].kind: "Pod" is not allowed: write one of Service, InstanceGroup`},
		{"{targetRefs: [{kind: HTTPRoute, name: a}]}", "spec.targetRefs[0]: this is not the group of the kind: write none for a Service"},
		{"{targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: a, sectionName: reports}]}", ""},
		{"{targetRefs: [{group: gateway.networking.k8s.io, kind: Service, name: a}]}", "spec.targetRefs[0]: this is not the group"},
		{"{targetRefs: [{group: core, kind: Service, name: a}]}", "spec.targetRefs[0]: this is not the group"},
		{"{targetRefs: [{group: mesh.causeway.dev, kind: ExternalService, name: a}], tls: {}}", ""},
		{a + "tls: {}}", "spec: tls.sni is missing: write the name that the target's certificate has"},
		{a + "tls: {sni: api.example.com, subjectAltNames: ['*.example.com', 'spiffe://example.com/a'], caCertificateRef: {name: a}}}", ""},
		{a + "tls: {sni: '*.example.com'}}", "spec.tls.sni"},
		{a + "tls: {sni: a, subjectAltNames: ['a b']}}", "spec.tls.subjectAltNames[0]"},
		{a + "tls: {sni: a, subjectAltNames: [" + strings.Repeat("a", 254) + "]}}", "spec.tls.subjectAltNames[0]"},
		{a + "tls: {sni: a, subjectAltNames: ['spiffe://" + strings.Repeat("a", 300) + "']}}", ""},
		{a + "tls: {sni: a, caCertificateRef: {}}}", "spec.tls.caCertificateRef.name: it is missing: write it"},
		{a + "timeout: {connect: 1ms, request: 0s, idle: 8784h}}", ""},
		{a + "timeout: {connect: 1h, request: 1ms, idle: 0s}, retry: {perTry: 1ms, backoff: 1.5ms}}", ""},
		duration("timeout.connect", "0s", "1ms to 1h"),
		duration("timeout.connect", "999us", "1ms to 1h"),
		duration("timeout.connect", "1h1s", "1ms to 1h"),
		duration("timeout.request", "-1s", "1ms to 8784h, or 0s for none"),
		duration("timeout.idle", "1us", "1ms to 8784h, or 0s for none"),
		{a + "timeout: {request: 5}}", "spec.timeout.request"},
		{a + "timeout: {request: 5x}}", "spec.timeout.request"},
		{a + "timeout: {request: ''}}", "spec.timeout.request"},
		{a + "timeout: {request: null}}", ""},
		{a + "timeout: {total: 5s}}", "spec.timeout.total: there is no such field: correct or remove it"},
		{a + "timeout: {request: 1s}, retry: {perTry: 2s}}", "spec: retry.perTry is longer than timeout.request, which holds for all attempts together: shorten it"},
		{a + "timeout: {request: 0s}, retry: {perTry: 2s}}", ""},
		{a + "retry: {attempts: 0, retryOn: [ConnectFailure, RetriableStatusCodes], statusCodes: [429, 503], methods: [POST], budgetPercent: 100, avoidPreviousHosts: false}}", ""},
		{a + "retry: {attempts: 11}}", "spec.retry.attempts: 11 is not allowed: it should be less than or equal to 10"},
		{a + "retry: {retryOn: []}}", "spec.retry.retryOn"},
		{a + "retry: {retryOn: [Timeout]}}", `spec.retry.retryOn[0]: "Timeout" is not allowed: write one of ConnectFailure`},
		{a + "retry: {retryOn: [Reset, Reset]}}", `spec.retry.retryOn[1]: "Reset" stands twice: remove one`},
		{a + "retry: {retryOn: [Reset], statusCodes: [503]}}", "spec.retry: statusCodes have no effect without RetriableStatusCodes: add it to retryOn"},
		{a + "retry: {statusCodes: [302]}}", "spec.retry.statusCodes[0]: 302 is not allowed"},
		{a + "retry: {methods: [get]}}", "spec.retry.methods[0]"},
		{a + "retry: {budgetPercent: 0}}", "spec.retry.budgetPercent"},
		duration("retry.perTry", "1us", "1ms to 8784h, or 0s for none"),
		duration("retry.backoff", "0s", "1ms to 1h"),
		{a + "connectionPool: {maxConnections: 1, maxPendingRequests: 1, maxRequests: 1, maxRequestsPerConnection: 1, idleTimeout: 55s, maxConnectionAge: 0s}}", ""},
		{a + "connectionPool: {maxConnections: 0}}", "spec.connectionPool.maxConnections"},
		{a + "connectionPool: {maxConnections: 2147483648}}", "spec.connectionPool.maxConnections"},
		duration("connectionPool.idleTimeout", "1us", "1ms to 8784h, or 0s for none"),
		duration("timeout.streamAge", "8785h", "1s to 8784h, or 0s for none"),
		duration("connectionPool.maxConnectionAge", "8785h", "1ms to 8784h, or 0s for none"),
		{a + "outlierDetection: {consecutive5xx: 5, consecutiveGatewayErrors: 5, consecutiveConnectFailures: 1, interval: 10ms, baseEjectionTime: 24h, maxEjectionPercent: 0}}", ""},
		{a + "outlierDetection: {maxEjectionPercent: 101}}", "spec.outlierDetection.maxEjectionPercent"},
		{a + "outlierDetection: {consecutive5xx: 0}}", "spec.outlierDetection.consecutive5xx"},
		duration("outlierDetection.interval", "9ms", "10ms to 1h"),
		duration("outlierDetection.baseEjectionTime", "25h", "1ms to 24h"),
		{a + "healthCheck: {http: {path: /healthz, host: a}, interval: 1s, timeout: 10ms, unhealthyThreshold: 1, healthyThreshold: 10}}", ""},
		{a + "healthCheck: {}}", ""},
		{a + "healthCheck: {grpc: {}}}", ""},
		{a + "healthCheck: {http: {path: /}, grpc: {}}}", "spec.healthCheck: it has both http and grpc: give one of them, or neither for a TCP connect"},
		{a + "healthCheck: {http: {path: '/a b'}}}", "spec.healthCheck.http.path"},
		{a + "healthCheck: {unhealthyThreshold: 11}}", "spec.healthCheck.unhealthyThreshold"},
		duration("healthCheck.interval", "500ms", "1s to 5m"),
		duration("healthCheck.timeout", "2m", "10ms to 1m"),
		{a + "loadBalancer: {}}", ""},
		{a + "loadBalancer: {algorithm: Fastest}}", `spec.loadBalancer.algorithm: "Fastest" is not allowed: write one of`},
		{a + "loadBalancer: {algorithm: Maglev}}", "spec.loadBalancer: RingHash and Maglev choose at random without a key: give hash"},
		{a + "loadBalancer: {algorithm: Maglev, hash: {header: X-User}}}", ""},
		{a + "loadBalancer: {algorithm: RingHash, hash: {cookie: {name: user, ttl: 720h, path: /}}}}", ""},
		{a + "loadBalancer: {hash: {header: X-User}}}", "spec.loadBalancer: only RingHash and Maglev hash: set algorithm to one of them"},
		{a + "loadBalancer: {algorithm: RingHash, hash: {}}}", "spec.loadBalancer.hash: it needs one key: give exactly one of header, cookie and source"},
		{a + "loadBalancer: {algorithm: RingHash, hash: {header: a, source: true}}}", "spec.loadBalancer.hash: it needs one key"},
		{a + "loadBalancer: {algorithm: RingHash, hash: {source: false}}}", "spec.loadBalancer.hash.source: false says nothing: write true or leave it out"},
		{a + "loadBalancer: {algorithm: RingHash, hash: {header: 'a b'}}}", "spec.loadBalancer.hash.header"},
		{a + "loadBalancer: {algorithm: RingHash, hash: {cookie: {name: a, path: '/;'}}}}", "spec.loadBalancer.hash.cookie.path"},
		duration("loadBalancer.slowStart", "-1s", "1ms to 24h, or 0s for none"),
		{a + "loadBalancer: {algorithm: Random, slowStart: 1s}}", "spec.loadBalancer: the algorithm has no slowStart: use RoundRobin or LeastRequest"},
		{a + "locality: Strict, proxyProtocol: V2}", ""},
		{a + "locality: Zone}", `spec.locality: "Zone" is not allowed: write one of`},
		{a + "proxyProtocol: V3}", "spec.proxyProtocol"},
		{a + "sessionPersistence: {type: Cookie, cookie: {name: a, lifetimeType: Permanent}, absoluteTimeout: 1h}}", ""},
		{a + "sessionPersistence: {type: Header, header: {name: a}}}", ""},
		{a + "sessionPersistence: {cookie: {lifetimeType: Permanent}}}", "spec.sessionPersistence: AbsoluteTimeout must be specified"},
		{a + "fault: {delay: {duration: 1s, percent: '0.01'}, abort: {status: 503, percent: '100.00'}}}", ""},
		{a + "fault: {abort: {grpcStatus: 14, percent: '5'}}}", ""},
		{a + "fault: {}}", "spec.fault: it has neither: give delay, abort or both"},
		{a + "fault: {abort: {percent: '5'}}}", "spec.fault.abort: it needs one status: give either status or grpcStatus"},
		{a + "fault: {abort: {status: 503, grpcStatus: 14, percent: '5'}}}", "spec.fault.abort: it needs one status"},
		{a + "fault: {abort: {status: 600, percent: '5'}}}", "spec.fault.abort.status: 600 is not allowed"},
		{a + "fault: {abort: {status: 503, percent: '100.01'}}}", "spec.fault.abort.percent"},
		{a + "fault: {abort: {status: 503, percent: '0.001'}}}", "spec.fault.abort.percent"},
		{a + "fault: {abort: {status: 503, percent: 5}}}", "spec.fault.abort.percent: it is a number: write a string, in quotes if it looks like something else"},
		{a + "fault: {delay: {percent: '5'}}}", "spec.fault.delay.duration: it is missing: write it"},
		{a + "fault: {delay: {duration: null, percent: '5'}}}", "spec.fault.delay.duration: it is missing: write it"},
		{a + "timeout: {connect: null, idle: 1h}}", ""},
		{a + "fault: {delay: {duration: 0s, percent: '5'}}}", `spec.fault.delay.duration: "0s" is out of bounds: write 1ms to 1h`},
	})
}

func externalServices() []specCase {
	return specs(ourAPI, "ExternalService", "{name: a, namespace: web}", [][2]string{
		{"{hosts: [api.example.com], ports: [{number: 443}]}", ""},
		{"{hosts: [api.example.com, b.example.com], ports: [{number: 80, name: http, targetPort: 443, tls: {}}, {number: 443, name: https, protocol: TCP}]}", ""},
		{"{ports: [{number: 443}]}", "spec.hosts: it is missing: write it"},
		{"{hosts: [API.example.com], ports: [{number: 443}]}", "spec.hosts[0]"},
		{"{hosts: [localhost], ports: [{number: 443}]}", "spec.hosts[0]"},
		{"{hosts: ['*.example.com'], ports: [{number: 443}]}", "spec.hosts[0]"},
		{"{hosts: [a.example.com, a.example.com], ports: [{number: 443}]}", `spec.hosts[1]: "a.example.com" stands twice: remove one`},
		{"{hosts: [php-web.web.svc.cluster.local], ports: [{number: 443}]}", `spec.hosts[0]: "php-web.web.svc.cluster.local" is the name of a Service: route to the Service itself`},
		{"{hosts: [a.example.com], ports: []}", "spec.ports"},
		{"{hosts: [a.example.com], ports: [{number: 0}]}", "spec.ports[0].number: 0 is not allowed: it should be greater than or equal to 1"},
		{"{hosts: [a.example.com], ports: [{number: 80}, {number: 80}]}", "spec.ports[1]: it stands twice: remove one"},
		{"{hosts: [a.example.com], ports: [{number: 80, name: a}, {number: 81, name: a}]}", "spec: two ports have the same name: give each its own"},
		{"{hosts: [a.example.com], ports: [{number: 80, name: A}]}", "spec.ports[0].name"},
		{"{hosts: [a.example.com], ports: [{number: 80, protocol: HTTPS}]}", `spec.ports[0].protocol: "HTTPS" is not allowed: write one of HTTP, HTTP2, TCP`},
		{"{hosts: [a.example.com], ports: [{number: 80, targetPort: 65536}]}", "spec.ports[0].targetPort"},
		{"{hosts: [a.example.com], ports: [{number: 80}], resolution: Static, endpoints: [{address: 192.0.2.1, zone: ap-northeast-1a}, {address: '2001:db8::1'}]}", ""},
		{"{hosts: [a.example.com], ports: [{number: 80}], resolution: Static}", "spec: resolution Static has no addresses: give endpoints"},
		{"{hosts: [a.example.com], ports: [{number: 80}], endpoints: [{address: 192.0.2.1}]}", "spec: endpoints have no effect with resolution DNS: set resolution to Static"},
		{"{hosts: [a.example.com], ports: [{number: 80}], resolution: Static, endpoints: [{address: 192.0.2}]}", `spec.endpoints[0].address: "192.0.2" is not an IP address: write one, or use resolution DNS`},
		{"{hosts: [a.example.com], ports: [{number: 80}], resolution: Static, endpoints: [{address: 192.0.2.1}, {address: 192.0.2.1}]}", "spec.endpoints[1]: it stands twice"},
		{"{hosts: [a.example.com], ports: [{number: 80}], resolution: Consul}", "spec.resolution"},
	})
}

func meshes() []specCase {
	out := specs(ourAPI, "Mesh", "{name: default}", [][2]string{
		{"{}", ""},
		{"{egress: {}, defaults: {timeout: {request: 15s}, retry: {attempts: 1}}, ec2: {regions: [ap-northeast-1], accounts: ['123456789012']}}", ""},
		{"{egress: {mode: AllowAny}}", ""},
		{"{egress: {mode: DenyAll}}", `spec.egress.mode: "DenyAll" is not allowed: write one of AllowAny, RegistryOnly`},
		{"{defaults: {tls: {sni: a}}}", "spec.defaults: tls cannot be a default, because every target has a certificate of its own name"},
		{"{defaults: {timeout: {request: 1s}, retry: {perTry: 2s}}}", "spec.defaults: retry.perTry is longer"},
		{"{ec2: {regions: [tokyo]}}", "spec.ec2.regions[0]"},
		{"{ec2: {accounts: ['1']}}", "spec.ec2.accounts[0]"},
		{"{ec2: {accounts: [123456789012]}}", "spec.ec2.accounts[0]: it is a number: write a string"},
	})
	return append(out, specs(ourAPI, "Mesh", "{name: other}", [][2]string{{"{}", "metadata.name is not that of the one Mesh: name it default"}})...)
}

func routes() []specCase {
	const parent = `parentRefs: [{group: "", kind: Service, name: a, port: 80}]`
	rule := func(s string) string { return "{" + parent + ", rules: [" + s + "]}" }
	out := specs(gatewayAPI, "HTTPRoute", "{name: a, namespace: web}", [][2]string{
		{rule("{backendRefs: [{name: a, port: 80}]}"), ""},
		{"{" + parent + "}", ""},
		{rule("{name: reports, matches: [{path: {type: RegularExpression, value: '/r.*'}, method: GET, headers: [{name: a, value: b}], queryParams: [{name: a, value: b}]}], timeouts: {request: 5m, backendRequest: 1m}, retry: {codes: [503], attempts: 2, backoff: 100ms}, sessionPersistence: {cookie: {name: a}}, backendRefs: [{name: a, port: 80, weight: 9}, {group: mesh.causeway.dev, kind: InstanceGroup, name: b, port: 80}]}"), ""},
		{rule("{filters: [{type: RequestRedirect, requestRedirect: {scheme: https, hostname: a.example.com, statusCode: 308}}]}"), ""},
		{rule("{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: b, port: 80}, percent: 5}}, {type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}], matches: [{path: {value: /a}}], backendRefs: [{name: a, port: 80}]}"), ""},
		{rule("{filters: [{type: CORS, cors: {allowOrigins: ['https://a.example.com'], maxAge: 60}}], backendRefs: [{name: a, port: 80}]}"), ""},
		{rule("{backendRefs: [{name: a}]}"), "spec.rules[0].backendRefs[0]: Must have port for Service reference"},
		{rule("{backendRefs: [{name: a, port: 80, weight: -1}]}"), "spec.rules[0].backendRefs[0].weight: -1 is not allowed"},
		{rule("{backendRefs: [{name: a, port: 80, wieght: 1}]}"), "spec.rules[0].backendRefs[0].wieght: there is no such field"},
		{rule("{matches: [{path: {value: a}}]}"), "spec.rules[0].matches[0].path"},
		{rule("{matches: [{path: {type: Prefix, value: /a}}]}"), "spec.rules[0].matches[0].path.type"},
		{rule("{matches: [{method: FETCH}]}"), "spec.rules[0].matches[0].method"},
		{rule("{timeouts: {request: 1s, backendRequest: 2s}}"), "spec.rules[0].timeouts: backendRequest timeout cannot be longer"},
		{rule("{timeouts: {request: 1.5s}}"), "spec.rules[0].timeouts.request"},
		{rule("{filters: [{type: RequestRedirect}]}"), "spec.rules[0].filters[0]: filter.requestRedirect must be specified"},
		{rule("{filters: [{type: RequestRedirect, requestRedirect: {}}, {type: URLRewrite, urlRewrite: {}}]}"), "spec.rules[0].filters"},
		{rule("{filters: [{type: RequestRedirect, requestRedirect: {}}], backendRefs: [{name: a, port: 80}]}"), "spec.rules[0]"},
		{rule("{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: b, port: 80}, percent: 5, fraction: {numerator: 1}}}]}"), "spec.rules[0].filters[0].requestMirror: Only one of percent or fraction may be specified"},
		{rule("{name: a}, {name: a}"), "spec.rules: Rule name must be unique within the route"},
		{"{parentRefs: [{group: '', kind: Service, name: a, port: 80}, {group: '', kind: Service, name: a}], rules: [{}]}", "spec.parentRefs"},
		{"{parentRefs: [{group: '', kind: Service, name: a, port: 99999}]}", "spec.parentRefs[0].port"},
	})
	out = append(out, specs(gatewayAPIBeta, "HTTPRoute", "{name: a, namespace: web}", [][2]string{{rule("{backendRefs: [{name: a, port: 80}]}"), ""}})...)
	out = append(out, specs(gatewayAPI, "GRPCRoute", "{name: a, namespace: web}", [][2]string{
		{rule("{name: a, matches: [{method: {service: a.B, method: C}, headers: [{name: a, value: b}]}], backendRefs: [{name: a, port: 80}]}"), ""},
		{rule("{matches: [{method: {}}]}"), "spec.rules[0].matches[0].method: One or both of 'service' or 'method' must be specified"},
		{rule("{matches: [{method: {service: 'a/b'}}]}"), "spec.rules[0].matches[0].method"},
		{rule("{timeouts: {request: 1s}}"), "spec.rules[0].timeouts: there is no such field"},
	})...)
	out = append(out, specs(gatewayAPI, "TCPRoute", "{name: a, namespace: web}", [][2]string{
		{rule("{backendRefs: [{name: a, port: 3306, weight: 1}, {name: b, port: 3306, weight: 0}]}"), ""},
		{"{" + parent + "}", "spec.rules"},
		{rule("{}"), "spec.rules[0].backendRefs"},
	})...)
	out = append(out, specs(gatewayAPI, "TLSRoute", "{name: a, namespace: web}", [][2]string{
		{"{" + parent + ", hostnames: [a.example.com], rules: [{backendRefs: [{name: a, port: 443}]}]}", ""},
		{"{" + parent + ", hostnames: [192.0.2.1], rules: [{backendRefs: [{name: a, port: 443}]}]}", "spec.hostnames"},
	})...)
	for _, version := range []string{gatewayAPI, gatewayAPIBeta} {
		out = append(out, specs(version, "ReferenceGrant", "{name: a, namespace: web}", [][2]string{
			{"{from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}], to: [{group: '', kind: Service, name: a}]}", ""},
			{"{from: [{group: gateway.networking.k8s.io, kind: HTTPRoute}], to: [{group: '', kind: Service}]}", "spec.from[0].namespace: it is missing: write it"},
			{"{to: [{group: '', kind: Service}]}", "spec.from: it is missing: write it"},
		})...)
	}
	return append(out, specs(gatewayAPI, "BackendTLSPolicy", "{name: a, namespace: web}", [][2]string{
		{"{targetRefs: [{group: '', kind: Service, name: a, sectionName: https}], validation: {hostname: a.example.com, wellKnownCACertificates: System}}", ""},
		{"{targetRefs: [{group: '', kind: Service, name: a}], validation: {hostname: a.example.com, caCertificateRefs: [{group: '', kind: ConfigMap, name: a}], subjectAltNames: [{type: URI, uri: 'spiffe://a/b'}]}}", ""},
		{"{targetRefs: [{group: '', kind: Service, name: a}], validation: {hostname: a.example.com}}", "spec.validation: exactly one of the fields in [caCertificateRefs wellKnownCACertificates] must be set: write one of them"},
		{"{targetRefs: [{group: '', kind: Service, name: a}], validation: {hostname: a.example.com, wellKnownCACertificates: Mozilla}}", "spec.validation.wellKnownCACertificates"},
		{"{targetRefs: [{group: '', kind: Service, name: a}], validation: {hostname: a_b, wellKnownCACertificates: System}}", "spec.validation.hostname"},
	})...)
}

// odd are objects that are wrong in what all kinds have.
func odd() []specCase {
	const tail = "spec: {hosts: [a.example.com], ports: [{number: 443}]}\n"
	const head = "apiVersion: mesh.causeway.dev/v1alpha1\nkind: ExternalService\n"
	return []specCase{
		{"no spec", head + "metadata: {name: a, namespace: web}\n", "spec: it is missing: write it"},
		{"null spec", head + "metadata: {name: a, namespace: web}\nspec: null\n", "spec: it is missing: write it"},
		{"a spec that is a list", head + "metadata: {name: a, namespace: web}\nspec: []\n", "spec: it is a list: write a mapping"},
		{"no name", head + "metadata: {namespace: web}\n" + tail, `metadata.name: "" is not a name`},
		{"a name in capitals", head + "metadata: {name: A, namespace: web}\n" + tail, `metadata.name: "A" is not a name`},
		{"unknown metadata", head + "metadata: {name: a, namespace: web, labls: {}}\n" + tail, "metadata.labls: there is no such field"},
		{"a label that is a number", head + "metadata: {name: a, namespace: web, labels: {a: 1}}\n" + tail, "metadata.labels"},
		{"an unknown field beside spec", head + "metadata: {name: a, namespace: web}\nspecs: {}\n" + tail, "specs: there is no such field"},
		{"a status, which is dropped", head + "metadata: {name: a, namespace: web}\nstatus: {conditions: []}\n" + tail, ""},
		{"a status that says too little", head + "metadata: {name: a, namespace: web}\nstatus: {conditions: [{type: A}]}\n" + tail, ""},
		{"an unknown field of the status", head + "metadata: {name: a, namespace: web}\nstatus: {phase: A}\n" + tail, "status.phase: there is no such field"},
	}
}

func specCases() []specCase {
	var out []specCase
	for _, of := range [][]specCase{trafficShifts(), trafficPolicies(), externalServices(), meshes(), routes(), gatewayClasses(), gateways(), gatewayPolicies(), certificates(), namespaces(), odd()} {
		out = append(out, of...)
	}
	return out
}
