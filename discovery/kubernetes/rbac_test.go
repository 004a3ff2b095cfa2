package kubernetes

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
	"github.com/causeway-mesh/causeway/discovery/objects"
	"github.com/causeway-mesh/causeway/test/harness"
)

// clusterRole returns the rights that the ClusterRole in a manifest gives, as
// "group/resource verb".
func clusterRole(t *testing.T, file string) map[string]bool {
	t.Helper()
	root, err := harness.Root()
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(root, "manifests", "install", file)) //nolint:gosec // the repository's own
	require.NoError(t, err)
	out := make(map[string]bool)
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		var role rbacv1.ClusterRole
		require.NoError(t, yaml.Unmarshal([]byte(document), &role))
		if role.Kind != "ClusterRole" {
			continue
		}
		for _, rule := range role.Rules {
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					for _, verb := range rule.Verbs {
						out[group+"/"+resource+" "+verb] = true
					}
				}
			}
		}
	}
	return out
}

// A kind that the mesh reads needs a rule; a rule for a route or policy that
// nothing needs is too much.
func TestRBACOfKinds(t *testing.T) {
	t.Parallel()
	rights := clusterRole(t, "rbac.yaml")
	policies := cluster.Kinds()
	for _, k := range objects.Kinds() {
		if k.Name == "Secret" { // by a role of their own, which nothing binds in the whole cluster
			for right := range rights {
				require.False(t, strings.HasPrefix(right, "/secrets "), right)
			}
			require.Equal(t, map[string]bool{"/secrets list": true, "/secrets watch": true}, clusterRole(t, "gateway-secrets.yaml"))
			continue
		}
		group, _, found := strings.Cut(k.APIVersion, "/")
		if !found {
			group = ""
		}
		resource := group + "/" + k.Resource
		require.True(t, rights[resource+" list"] && rights[resource+" watch"], "list and watch %s", resource)
		if !slices.ContainsFunc(policies, func(p objects.Kind) bool { return p.Name == k.Name }) {
			continue
		}
		hasStatus := k.Name != "ReferenceGrant"
		require.Equal(t, hasStatus, rights[resource+" get"], "get %s", resource)
		require.Equal(t, hasStatus, rights[resource+"/status patch"], "patch %s/status", resource)
		for _, verb := range []string{"create", "update", "patch", "delete", "deletecollection"} {
			if k.Name == "TrafficShift" && verb == "patch" {
				continue // for the finalizer
			}
			require.False(t, rights[resource+" "+verb], "%s %s", verb, resource)
		}
	}
}
