package cluster

import "github.com/causeway-mesh/causeway/discovery"

// The scopes of the rows that come from Kubernetes, which are also the names
// of their SourceStatus rows.
const (
	ScopeServices       = "kubernetes/services"
	ScopeEndpointSlices = "kubernetes/endpointslices"
	ScopeInstanceGroups = discovery.GroupsSource
	ScopeHomes          = "kubernetes/homes"
	ScopeConfigMaps     = "kubernetes/configmaps"
	ScopeSecrets        = "kubernetes/secrets"
	ScopeNamespaces     = "kubernetes/namespaces"
	ScopeFreeze         = "kubernetes/freeze"
)
