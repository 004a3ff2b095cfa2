package compile

import (
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// Gateway returns the route configurations and virtual hosts of a Gateway,
// which only its proxies see, sorted by type and name.
func (c *Compiler) Gateway(*policy.Gateway) []resource.Resource { return nil }

// Certificates returns the secrets of a Gateway, which only its proxies see.
func (c *Compiler) Certificates(*policy.Gateway) []resource.Resource { return nil }

// GatewayListeners returns the listeners of a declaration: one for every port
// of the Gateway that it is about and that there is.
func (c *Compiler) GatewayListeners(Declaration, *policy.Gateway) []resource.Resource { return nil }
