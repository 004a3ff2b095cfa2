package policy

import (
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
)

// attachRoutes fills in what the routes that name the Service as their parent
// make of its ports, and which InstanceGroups of it routes name as backends.
func attachRoutes(r catalog.Reader, m *Service) {}

// routeParents returns the status of a route at each of its parents that are Services.
func routeParents(r catalog.Reader, o *discovery.Object) []gatewayv1.RouteParentStatus { return nil }
