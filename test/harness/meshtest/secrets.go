package meshtest

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/test/harness/kubetest"
)

// Gateway web/edge names the Secret web/tls.
const Gateway = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: web}
spec:
  gatewayClassName: causeway
  listeners:
  - name: https
    port: 443
    protocol: HTTPS
    tls: {certificateRefs: [{name: tls}]}
`

// Certificate returns a Secret of type kubernetes.io/tls. An API server only
// looks whether its keys are there.
func Certificate(namespace, name, chain, key string) string {
	return `
apiVersion: v1
kind: Secret
metadata: {name: ` + name + `, namespace: ` + namespace + `}
type: kubernetes.io/tls
stringData: {tls.crt: "` + chain + `", tls.key: "` + key + `", ca.crt: "another"}
`
}

// ChainOf returns the certificate chain in a row of a Secret, "" for none.
func ChainOf(o *discovery.Object) string {
	if o == nil {
		return ""
	}
	return string(o.Spec.(*corev1.Secret).Data[corev1.TLSCertKey])
}

// BindSecrets lets the control plane read the Secrets of a namespace, as the
// documentation says.
func BindSecrets(t *testing.T, kube *kubetest.Kube, namespace string) {
	t.Helper()
	kube.ApplyYAML(t, `
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: causeway-gateway-secrets, namespace: `+namespace+`}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: causeway-gateway-secrets}
subjects: [{kind: ServiceAccount, name: causeway, namespace: causeway-system}]
`)
}
