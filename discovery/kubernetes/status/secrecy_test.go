package status

import (
	"context"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/lead"
	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/test/harness/meshtest"
)

// Whatever the control plane writes into the cluster, no byte of a Secret is
// in it: not in a status, an Event, a record of homes or a Lease.
func TestNothingOfASecretIsWritten(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
	meshtest.BindSecrets(t, kube, "web")
	kube.ApplyYAML(t, meshtest.Service)
	// Neither is PEM, so that everyone who reads them has something to complain about.
	const chain, key = "chain-that-is-none", "key-that-is-none"
	kube.ApplyYAML(t, meshtest.Certificate("web", "tls", chain, key))
	kube.ApplyYAML(t, statusClass)
	kube.ApplyYAML(t, meshtest.Gateway)
	r := newReplica(t, kube, nil)
	r.WaitRow(t, "Secret web/tls", "is read", meshtest.There)
	startPolicyStatus(t, r, func(ref discovery.ObjectRef) (metav1.Condition, bool) {
		return metav1.Condition{Type: "Programmed", Status: metav1.ConditionUnknown, Reason: "NoProxies", ObservedGeneration: ref.Generation}, true
	})
	meshtest.Run(t, func(ctx context.Context) error {
		return lead.RecordHomes(ctx, r.Client, r.Catalog, upstream.UnrecordedHomes)
	})
	meshtest.Run(t, func(ctx context.Context) error { return lead.Publish(ctx, r.Client, r.Catalog) })
	meshtest.WaitCondition(t, kube, "Gateway", "web", "edge", "Programmed", metav1.ConditionFalse, "Invalid")
	kube.ApplyYAML(t, strings.Replace(meshtest.Certificate("web", "tls", chain+"2", key+"2"), "another", "third", 1))
	r.WaitRow(t, "Secret web/tls", "is rotated", func(o *discovery.Object) bool { return meshtest.ChainOf(o) == chain+"2" })
	meshtest.WaitCondition(t, kube, "GatewayClass", "", "causeway", "Accepted", metav1.ConditionTrue, "")

	seen := 0
	for _, path := range []string{
		"/api/v1/configmaps", "/api/v1/events", "/api/v1/endpoints", "/apis/events.k8s.io/v1/events", "/apis/coordination.k8s.io/v1/leases",
		"/apis/discovery.k8s.io/v1/endpointslices", "/apis/gateway.networking.k8s.io/v1/gateways", "/apis/gateway.networking.k8s.io/v1/gatewayclasses",
	} {
		raw, err := meshtest.API(t, kube).Get().AbsPath(path).DoRaw(t.Context())
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
