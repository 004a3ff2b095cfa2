package kubernetes

import (
	"context"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/upstream"
)

// Whatever the control plane writes into the cluster, no byte of a Secret is
// in it: not in a status, an Event, a record of homes or a Lease.
func TestNothingOfASecretIsWritten(t *testing.T) {
	t.Parallel()
	kube := startKubeWithRoutes(t)
	bindSecrets(t, kube, "web")
	kube.ApplyYAML(t, service)
	// Neither is PEM, so that everyone who reads them has something to complain about.
	const chain, key = "chain-that-is-none", "key-that-is-none"
	kube.ApplyYAML(t, certificate("web", "tls", chain, key))
	kube.ApplyYAML(t, statusClass)
	kube.ApplyYAML(t, gateway)
	r := newReplica(t, kube, nil)
	r.waitRow(t, "Secret web/tls", "is read", there)
	startPolicyStatus(t, r, func(ref discovery.ObjectRef) (metav1.Condition, bool) {
		return metav1.Condition{Type: "Programmed", Status: metav1.ConditionUnknown, Reason: "NoProxies", ObservedGeneration: ref.Generation}, true
	})
	run(t, func(ctx context.Context) error { return r.RecordHomes(ctx, r.catalog, upstream.UnrecordedHomes) })
	run(t, func(ctx context.Context) error { return r.Publish(ctx, r.catalog) })
	waitCondition(t, kube, "Gateway", "web", "edge", "Programmed", metav1.ConditionFalse, "Invalid")
	kube.ApplyYAML(t, strings.Replace(certificate("web", "tls", chain+"2", key+"2"), "another", "third", 1))
	r.waitRow(t, "Secret web/tls", "is rotated", func(o *discovery.Object) bool { return chainOf(o) == chain+"2" })
	waitCondition(t, kube, "GatewayClass", "", "causeway", "Accepted", metav1.ConditionTrue, "")

	seen := 0
	for _, path := range []string{
		"/api/v1/configmaps", "/api/v1/events", "/api/v1/endpoints", "/apis/events.k8s.io/v1/events", "/apis/coordination.k8s.io/v1/leases",
		"/apis/discovery.k8s.io/v1/endpointslices", "/apis/gateway.networking.k8s.io/v1/gateways", "/apis/gateway.networking.k8s.io/v1/gatewayclasses",
	} {
		raw, err := api(t, kube).Get().AbsPath(path).DoRaw(t.Context())
		require.NoError(t, err)
		seen += strings.Count(string(raw), `"metadata"`)
		for _, secret := range []string{chain, key} {
			require.NotContains(t, string(raw), secret, path)
			// Its first bytes, whatever follows.
			encoded := base64.RawStdEncoding.EncodeToString([]byte(secret))
			require.NotContains(t, string(raw), encoded[:len(encoded)-4], path)
		}
	}
	require.Greater(t, seen, 8, "there is something to look at")
}
