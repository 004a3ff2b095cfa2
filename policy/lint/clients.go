package lint

import (
	"fmt"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/clients"
)

// The ConfigMap that the manifests mount for --xds-client-rules, and its key.
const (
	clientRulesName = "causeway-client-rules"
	clientRulesKey  = "rules.yaml"
)

func clientRules() []Rule {
	return []Rule{{
		Name: "OddClientRules", Severity: policy.Error,
		Doc:    "client rules in the ConfigMap " + clientRulesName + " that cannot be read, so that no control plane starts with them, or that let nobody in",
		object: oddClientRules,
	}}
}

func oddClientRules(c *check, o *Object) {
	if o.Kind != discovery.KindConfigMap || o.Name != clientRulesName {
		return
	}
	const remedy = "write clients: with a list of rules, for example {uri: 'spiffe://example.org/ns/web/sa/*', namespaces: [web]}"
	content, given := at(o.Value, "data", clientRulesKey).(string)
	if !given {
		c.tell("data", "it has no key "+clientRulesKey+", which --xds-client-rules names in the manifests, so no certificate may be a proxy",
			"add "+clientRulesKey+", or correct the key's name")
		return
	}
	rules, err := clients.Parse([]byte(content))
	if err != nil {
		c.tell("data."+clientRulesKey, strings.Join(strings.Fields(err.Error()), " "), remedy)
		return
	}
	for i := range rules.Clients {
		for j, role := range rules.Clients[i].Roles {
			if role != "sidecar" && role != "gateway" && role != "*" {
				c.tell(fmt.Sprintf("data.%s.clients[%d].roles[%d]", clientRulesKey, i, j), fmt.Sprintf("there is no role %q, so the rule lets nobody be one", role), "write sidecar or gateway")
			}
		}
	}
}
