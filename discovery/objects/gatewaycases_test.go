package objects

import (
	"strings"
)

func gatewayClasses() []specCase {
	return specs(gatewayAPI, "GatewayClass", "{name: a}", [][2]string{
		{"{controllerName: mesh.causeway.dev/controller}", ""},
		{"{controllerName: mesh.causeway.dev/controller, description: a, parametersRef: {group: '', kind: ConfigMap, name: a, namespace: web}}", ""},
		{"{}", "spec.controllerName: it is missing: write it"},
		{"{controllerName: causeway}", "spec.controllerName"},
		{"{controllerName: mesh.causeway.dev/controller, description: " + strings.Repeat("a", 65) + "}", "spec.description: it is too long"},
		{"{controllerName: mesh.causeway.dev/controller, parametersRef: {kind: A, name: a}}", "spec.parametersRef.group: it is missing: write it"},
	})
}

func gateways() []specCase {
	listeners := func(s string) string { return "{gatewayClassName: causeway, listeners: [" + s + "]}" }
	const http = "{name: http, port: 80, protocol: HTTP}"
	out := specs(gatewayAPI, "Gateway", "{name: a, namespace: web}", [][2]string{
		{listeners(http), ""},
		{listeners("{name: http, port: 80, protocol: HTTP, hostname: '*.example.com', allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: shop}, matchExpressions: [{key: a, operator: In, values: [b]}]}}, kinds: [{kind: HTTPRoute}, {group: example.com, kind: A}]}}"), ""},
		{listeners(http + ", {name: b, port: 80, protocol: HTTP, hostname: b.example.com}, {name: c, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: a}, {group: '', kind: Secret, name: b, namespace: certs}]}}"), ""},
		{listeners("{name: a, port: 443, protocol: HTTPS, tls: {options: {mesh.causeway.dev/certificate-file: /etc/tls.crt, mesh.causeway.dev/private-key-file: /etc/tls.key}}}"), ""},
		{listeners("{name: a, port: 443, protocol: TLS, hostname: a.example.com, tls: {mode: Passthrough}}, {name: b, port: 443, protocol: TLS, hostname: b.example.com, tls: {mode: Terminate, certificateRefs: [{name: b}]}}, {name: c, port: 3306, protocol: TCP}"), ""},
		{listeners("{name: a, port: 53, protocol: UDP}, {name: b, port: 80, protocol: example.com/odd}"), ""},
		{"{gatewayClassName: causeway, listeners: [" + http + "], addresses: [{value: 192.0.2.1}, {type: Hostname, value: a.example.com}, {type: example.com/pool, value: a}], infrastructure: {labels: {a: b}, annotations: {a: b}}}", ""},
		{"{gatewayClassName: causeway, listeners: [" + http + "], tls: {frontend: {default: {validation: {caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}}}}, allowedListeners: {namespaces: {from: Same}}}", ""},
		{"{listeners: [" + http + "]}", "spec.gatewayClassName: it is missing: write it"},
		{"{gatewayClassName: '', listeners: [" + http + "]}", "spec.gatewayClassName"},
		{listeners(""), "spec.listeners"},
		{listeners(http + ", " + http), "Listener name must be unique within the Gateway"},
		{listeners(http + ", {name: b, port: 80, protocol: HTTP}"), "Combination of port, protocol and hostname must be unique"},
		{listeners("{name: a, protocol: HTTP}"), "spec.listeners[0].port: it is missing: write it"},
		{listeners("{name: a, port: 0, protocol: HTTP}"), "spec.listeners[0].port"},
		{listeners("{name: a, port: 65536, protocol: HTTP}"), "spec.listeners[0].port"},
		{listeners("{name: a, port: '80', protocol: HTTP}"), "spec.listeners[0].port"},
		{listeners("{name: a, port: 80}"), "spec.listeners[0].protocol: it is missing: write it"},
		{listeners("{name: a, port: 80, protocol: HTTP, tls: {certificateRefs: [{name: a}]}}"), "tls must not be specified for protocols"},
		{listeners("{name: a, port: 443, protocol: HTTPS, tls: {mode: Passthrough}}"), "tls mode must be Terminate for protocol HTTPS"},
		{listeners("{name: a, port: 443, protocol: HTTPS, tls: {}}"), "certificateRefs or options must be specified"},
		{listeners("{name: a, port: 443, protocol: HTTPS}"), ""},
		{listeners("{name: a, port: 443, protocol: TLS}"), "tls mode must be set for protocol TLS"},
		{listeners("{name: a, port: 3306, protocol: TCP, hostname: a.example.com}"), "hostname must not be specified for protocols"},
		{listeners("{name: a, port: 80, protocol: HTTP, hostname: A.example.com}"), "spec.listeners[0].hostname"},
		{listeners("{name: a, port: 80, protocol: HTTP, hostname: '*'}"), "spec.listeners[0].hostname"},
		{listeners("{name: a, port: 80, protocol: HTTP, hostnames: [a]}"), "spec.listeners[0].hostnames: there is no such field"},
		{listeners("{name: a, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Some}}}"), "spec.listeners[0].allowedRoutes.namespaces.from"},
		{"{gatewayClassName: causeway, listeners: [" + http + "], addresses: [{value: 192.0.2}]}", "spec.addresses[0]"},
		{"{gatewayClassName: causeway, listeners: [" + http + "], addresses: [{value: 192.0.2.1}, {value: 192.0.2.1}]}", "IPAddress values must be unique"},
	})
	return append(out, specs(gatewayAPIBeta, "Gateway", "{name: a, namespace: web, annotations: {mesh.causeway.dev/addresses: a.example.com, b: c}}", [][2]string{{listeners(http), ""}})...)
}

func gatewayPolicies() []specCase {
	const a = "{targetRefs: [{name: a}], "
	return specs(ourAPI, "GatewayPolicy", "{name: a, namespace: web}", [][2]string{
		{"{targetRefs: [{name: a}]}", ""},
		{"{targetRefs: [{name: a}, {name: a, sectionName: https}, {group: gateway.networking.k8s.io, kind: Gateway, name: b}]}", ""},
		{"{}", "spec.targetRefs: it is missing: write it"},
		{"{targetRefs: []}", "spec.targetRefs: it has 0"},
		{"{targetRefs: [{name: ''}]}", "spec.targetRefs[0].name"},
		{"{targetRefs: [{name: a}, {kind: Gateway, name: a}]}", "spec.targetRefs[1]: it stands twice: remove one"},
		{"{targetRefs: [{kind: Service, name: a}]}", "spec.targetRefs[0]: a GatewayPolicy is about Gateways: write group gateway.networking.k8s.io and kind Gateway, or leave both out"},
		{"{targetRefs: [{group: '', name: a}]}", "spec.targetRefs[0]: a GatewayPolicy is about Gateways"},
		{a + "inFront: [{kind: CloudFront, idleTimeout: 30s}, {kind: ALB, addresses: [10.0.0.0/16, '2001:db8::/32']}]}", ""},
		{a + "inFront: [{kind: NLB, proxyProtocol: true}]}", ""},
		{a + "inFront: [{kind: ALB}, {kind: Proxy, proxyProtocol: true}]}", ""},
		{a + "inFront: []}", ""},
		{a + "inFront: [{}]}", "spec.inFront[0].kind: it is missing: write it"},
		{a + "inFront: [{kind: Nginx}]}", `spec.inFront[0].kind: "Nginx" is not allowed: write one of CloudFront, ALB, NLB, Proxy`},
		{a + "inFront: [{kind: NLB}, {kind: NLB}]}", "spec.inFront: it has several NLBs: an NLB adds no header, so name only the last one"},
		{a + "inFront: [{kind: ALB, proxyProtocol: true}]}", "spec.inFront[0]: CloudFront and an ALB do not speak the PROXY protocol: remove proxyProtocol, or correct kind"},
		{a + "inFront: [{kind: ALB, proxyProtocol: false}]}", ""},
		{a + "inFront: [{kind: ALB, idleTimeout: 0s}]}", `spec.inFront[0].idleTimeout: "0s" is not from 1s to 24h: write, for example, 60s`},
		{a + "inFront: [{kind: ALB, addresses: [10.0.0.1]}]}", `spec.inFront[0].addresses[0]: "10.0.0.1" is not a CIDR range: write, for example, 10.0.0.0/16`},
		{a + "inFront: [{kind: ALB, addresses: [10.0.0.0/8, 10.0.0.0/8]}]}", `spec.inFront[0].addresses[1]: "10.0.0.0/8" stands twice: remove one`},
		{a + "timeout: {requestHeaders: 0s, request: 24h, idle: 75s, streamIdle: 1.5s}}", ""},
		{a + "timeout: {requestHeaders: 25h}}", `spec.timeout.requestHeaders: "25h" is not from 0s to 24h: write, for example, 10s`},
		{a + "timeout: {request: -1s}}", "spec.timeout.request"},
		{a + "timeout: {idle: 5}}", "spec.timeout.idle"},
		{a + "timeout: {streamIdle: 1d}}", "spec.timeout.streamIdle"},
		{a + "limits: {headerBytes: 1024, headers: 1, bodyBytes: 1, concurrentStreams: 1, connections: 1}}", ""},
		{a + "limits: {headerBytes: 1023}}", "spec.limits.headerBytes: 1023 is not allowed"},
		{a + "limits: {headers: 0}}", "spec.limits.headers"},
		{a + "limits: {bodyBytes: 1073741825}}", "spec.limits.bodyBytes"},
		{a + "limits: {concurrentStreams: 10001}}", "spec.limits.concurrentStreams"},
		{a + "limits: {connections: 0}}", "spec.limits.connections"},
		{a + "limits: {body: 1}}", "spec.limits.body: there is no such field"},
		{a + "tls: {minVersion: '1.3', cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256]}}", ""},
		{a + "tls: {minVersion: '1.1'}}", `spec.tls.minVersion: "1.1" is not allowed: write one of 1.2, 1.3`},
		{a + "tls: {minVersion: 1.3}}", "spec.tls.minVersion: it is a number: write a string"},
		{a + "tls: {cipherSuites: [RC4-SHA]}}", "spec.tls.cipherSuites[0]"},
		{a + "healthCheck: {path: /healthz}}", ""},
		{a + "healthCheck: {}}", "spec.healthCheck.path: it is missing: write it"},
		{a + "healthCheck: {path: /}}", "spec.healthCheck.path"},
		{a + "healthCheck: {path: healthz}}", "spec.healthCheck.path"},
		{a + "healthCheck: {path: '/a?b'}}", "spec.healthCheck.path"},
	})
}

// certificates are Secrets of type kubernetes.io/tls: of others there is no row.
func certificates() []specCase {
	const head = "apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: web}\ntype: kubernetes.io/tls\n"
	return []specCase{
		{"data", head + "data: {tls.crt: YQ==, tls.key: Yg==, ca.crt: Yw==}\n", ""},
		{"string data", head + "stringData: {tls.crt: a, tls.key: b}\n", ""},
		{"both", head + "data: {tls.crt: YQ==}\nstringData: {tls.key: b, tls.crt: c}\n", ""},
		{"empty values", head + "data: {tls.crt: '', tls.key: ''}\n", ""},
		{"no data", head, "data.tls.crt: it is missing, which type kubernetes.io/tls must have: write it in PEM, under data or stringData"},
		{"no key", head + "data: {tls.crt: YQ==}\n", "data.tls.key: it is missing"},
		{"no base64", head + "data: {tls.crt: a, tls.key: Yg==}\n", "data.tls.crt: it is not base64: encode the text, or write it under stringData as it is"},
		{"a number", head + "stringData: {tls.crt: 1, tls.key: b}\n", "stringData.tls.crt: it is a number: write a string"},
		{"an unknown field", head + "dat: {}\ndata: {tls.crt: YQ==, tls.key: Yg==}\n", "dat: there is no such field"},
		{"a spec", head + "spec: {}\ndata: {tls.crt: YQ==, tls.key: Yg==}\n", "spec: there is no such field"},
		{"too much", head + "stringData: {tls.crt: a, tls.key: " + strings.Repeat("a", 1<<20) + "}\n", "data: it has more than 1048576 bytes"},
		{"no name", strings.Replace(head, "name: a, ", "", 1) + "stringData: {tls.crt: a, tls.key: b}\n", "metadata.name"},
	}
}

func namespaces() []specCase {
	const head = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a"
	return []specCase{
		{"plain", head + "}\n", ""},
		{"labels", head + ", labels: {team: shop, example.com/tier: edge, empty: ''}}\n", ""},
		{"a label that it cannot have", head + ", labels: {kubernetes.io/metadata.name: b}}\n", ""},
		{"a key that is none", head + ", labels: {'a b': c}}\n", `metadata.labels: "a b" is not a label's key`},
		{"a value that is none", head + ", labels: {a: 'b c'}}\n", `metadata.labels.a: "b c" is not a label's value`},
		{"a name with dots", "apiVersion: v1\nkind: Namespace\nmetadata: {name: a.b}\n", "metadata.name"},
	}
}
