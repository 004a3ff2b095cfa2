package meshtest

// Service web/php-web.
const Service = `
apiVersion: v1
kind: Service
metadata: {name: php-web, namespace: web}
spec: {ports: [{name: http, port: 80}]}
`

// Group is an InstanceGroup of it.
const Group = `
apiVersion: mesh.causeway.dev/v1alpha1
kind: InstanceGroup
metadata: {name: php-web-ec2, namespace: web}
spec:
  serviceRef: {name: php-web}
  region: ap-northeast-1
  selector: {autoScalingGroups: [php-web]}
  ports: [{name: http, port: 8080}]
  spot: Avoid
`

// Example is an object, and a change of it.
type Example struct{ Name, Text, From, To string }

// InstanceGroup is of the kind whose status has a writer of its own.
var InstanceGroup = Example{"InstanceGroup web/a", `
apiVersion: mesh.causeway.dev/v1alpha1
kind: InstanceGroup
metadata: {name: a, namespace: web}
spec:
  serviceRef: {name: php-web}
  region: ap-northeast-1
  selector: {autoScalingGroups: [php-web]}
  ports: [{name: web, port: 8080}]
`, "port: 8080", "port: 8081"}

// EveryKind has an object of each other kind of route and policy.
var EveryKind = []Example{
	{"HTTPRoute web/a", `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: a, namespace: web}
spec:
  parentRefs: [{group: "", kind: Service, name: php-web}]
  rules: [{backendRefs: [{name: php-web, port: 80}]}]
`, "port: 80", "port: 81"},
	{"GRPCRoute web/a", `
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: a, namespace: web}
spec:
  parentRefs: [{group: "", kind: Service, name: php-web}]
  rules: [{backendRefs: [{name: php-web, port: 80}]}]
`, "port: 80", "port: 81"},
	{"TCPRoute web/a", `
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: a, namespace: web}
spec:
  parentRefs: [{group: "", kind: Service, name: php-web}]
  rules: [{backendRefs: [{name: php-web, port: 80}]}]
`, "port: 80", "port: 81"},
	{"TLSRoute web/a", `
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: a, namespace: web}
spec:
  parentRefs: [{group: "", kind: Service, name: php-web}]
  hostnames: [a.example]
  rules: [{backendRefs: [{name: php-web, port: 80}]}]
`, "port: 80", "port: 81"},
	{"ReferenceGrant web/a", `
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: a, namespace: web}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}]
  to: [{group: "", kind: Service}]
`, "namespace: shop", "namespace: shop2"},
	{"BackendTLSPolicy web/a", `
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: a, namespace: web}
spec:
  targetRefs: [{group: "", kind: Service, name: php-web}]
  validation: {hostname: a.example, wellKnownCACertificates: System}
`, "a.example", "b.example"},
	{"GatewayClass a", `
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: a}
spec: {controllerName: mesh.causeway.dev/controller, description: one}
`, "one", "two"},
	{"Gateway web/a", `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: a, namespace: web}
spec:
  gatewayClassName: a
  listeners: [{name: http, port: 80, protocol: HTTP}]
`, "port: 80", "port: 81"},
	{"GatewayPolicy web/a", `
apiVersion: mesh.causeway.dev/v1alpha1
kind: GatewayPolicy
metadata: {name: a, namespace: web}
spec:
  targetRefs: [{name: a}]
  timeout: {request: 5s}
`, "request: 5s", "request: 6s"},
	{"GatewayParameters web/a", `
apiVersion: mesh.causeway.dev/v1alpha1
kind: GatewayParameters
metadata: {name: a, namespace: web}
spec: {replicas: 3}
`, "replicas: 3", "replicas: 4"},
	{"TrafficShift web/a", `
apiVersion: mesh.causeway.dev/v1alpha1
kind: TrafficShift
metadata: {name: a, namespace: web}
spec:
  serviceRef: {name: php-web}
  steps: [{percent: "100", hold: 10m}]
`, "hold: 10m", "hold: 20m"},
	{"TrafficPolicy web/a", `
apiVersion: mesh.causeway.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: a, namespace: web}
spec:
  targetRefs: [{kind: Service, name: php-web}]
  timeout: {request: 5s}
`, "request: 5s", "request: 6s"},
	{"ExternalService web/a", `
apiVersion: mesh.causeway.dev/v1alpha1
kind: ExternalService
metadata: {name: a, namespace: web}
spec:
  hosts: [a.example]
  ports: [{name: http, number: 80, protocol: HTTP}]
`, "number: 80", "number: 81"},
	{"Mesh default", `
apiVersion: mesh.causeway.dev/v1alpha1
kind: Mesh
metadata: {name: default}
spec: {egress: {mode: AllowAny}}
`, "AllowAny", "RegistryOnly"},
}
