package clients

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What a pod may be by its token: itself, in its own namespace, as a sidecar. All else needs a rule or a Gateway that
// the control plane has made the service account for.
func TestPodIdentity(t *testing.T) {
	rules, err := Parse([]byte(`clients:
- {serviceAccount: edge/public-*, namespaces: [edge], roles: [gateway]}
- {serviceAccount: ops/probe, namespaces: [web, shop]}
- {uri: "*:*", namespaces: ["*"], roles: ["*"]}
- {dns: "*", namespaces: ["*"], roles: ["*"]}
- {name: "*", namespaces: ["*"], roles: ["*"]}
`))
	require.NoError(t, err)
	made := func(namespace, gateway string) (string, bool) {
		return gateway + "-causeway", namespace == "edge" && gateway == "shop"
	}
	pod := func(namespace, account string) *Pod {
		return &Pod{Namespace: namespace, ServiceAccount: account, Name: "a-1", UID: "7", Node: "n1"}
	}
	const refused = "no rule lets"
	for name, c := range map[string]struct {
		pod   *Pod
		claim Claim
		want  string // of the identity, or of the error
	}{
		"itself":                     {pod("web", "php"), Claim{"sidecar", "web", "php", "7", "n1"}, "serviceAccount:web/php"},
		"without a node":             {pod("web", "php"), Claim{"sidecar", "web", "php", "7", ""}, "serviceAccount:web/php"},
		"a token without a node":     {&Pod{Namespace: "web", ServiceAccount: "php", Name: "a", UID: "7"}, Claim{"sidecar", "web", "php", "7", "n2"}, "serviceAccount:web/php"},
		"another node":               {pod("web", "php"), Claim{"sidecar", "web", "php", "7", "n2"}, "on the node n1"},
		"another pod":                {pod("web", "php"), Claim{"sidecar", "web", "php", "8", "n1"}, "the uid 7"},
		"its name as uid":            {pod("web", "php"), Claim{"sidecar", "web", "php", "a-1", "n1"}, "the uid 7"},
		"another namespace":          {pod("web", "php"), Claim{"sidecar", "shop", "php", "7", "n1"}, refused},
		"a gateway":                  {pod("web", "php"), Claim{"gateway", "web", "php", "7", "n1"}, refused},
		"a role that is none":        {pod("web", "php"), Claim{"", "web", "php", "7", "n1"}, refused},
		"a gateway by rule":          {pod("edge", "public-a"), Claim{"gateway", "edge", "any", "7", "n1"}, "serviceAccount:edge/public-a"},
		"a gateway elsewhere":        {pod("edge", "public-a"), Claim{"gateway", "web", "any", "7", "n1"}, refused},
		"the name in another":        {pod("web", "public-a"), Claim{"gateway", "edge", "any", "7", "n1"}, refused},
		"a sidecar by rule":          {pod("ops", "probe"), Claim{"sidecar", "shop", "probe", "7", "n1"}, "serviceAccount:ops/probe"},
		"as another by rule":         {pod("ops", "probe"), Claim{"sidecar", "shop", "probe", "8", "n1"}, "the uid 7"},
		"the account that was made":  {pod("edge", "shop-causeway"), Claim{"gateway", "edge", "shop", "7", "n1"}, "serviceAccount:edge/shop-causeway"},
		"one made for another":       {pod("edge", "shop-causeway"), Claim{"gateway", "edge", "other", "7", "n1"}, refused},
		"one made in another":        {pod("web", "shop-causeway"), Claim{"gateway", "edge", "shop", "7", "n1"}, refused},
		"a name that looks like one": {pod("edge", "other-causeway"), Claim{"gateway", "edge", "other", "7", "n1"}, refused},
	} {
		identity, err := rules.PodIdentity(c.pod, &c.claim, made)
		if err != nil {
			require.Empty(t, identity, name)
			identity = err.Error()
		}
		require.Contains(t, identity, c.want, name)
	}
	_, err = (&Rules{}).PodIdentity(pod("edge", "shop-causeway"), &Claim{"gateway", "edge", "shop", "7", ""}, nil)
	require.ErrorContains(t, err, "write one with serviceAccount: edge/shop-causeway")

	// No certificate is what a rule says of service accounts, whatever its names are.
	only, err := Parse([]byte("clients: [{serviceAccount: '*/*', namespaces: ['*'], roles: ['*']}]"))
	require.NoError(t, err)
	_, err = only.Identity(&Names{CommonName: "web/php", DNS: []string{"web/php", ""}, URIs: []string{"web/php", "system:serviceaccount:web:php"}}, "sidecar", "web")
	require.ErrorContains(t, err, refused)
	for _, wrong := range []string{"php", "web/php/x", "/[", ""} {
		_, err := Parse([]byte("clients: [{serviceAccount: '" + wrong + "', namespaces: [web]}]"))
		require.Error(t, err, wrong)
	}
}
