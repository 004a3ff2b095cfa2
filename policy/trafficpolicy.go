package policy

import (
	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
)

// ruleSettings returns the sections that are effective for a rule of a route
// ("" for one without a name) that is attached to a Service.
func ruleSettings(r catalog.Reader, route *discovery.Object, rule string, parent discovery.Key) Settings {
	return Settings{}
}

// serviceSettings returns the sections that are effective for requests to a
// port of a Service where no route is attached.
func serviceSettings(r catalog.Reader, service discovery.Key, port string) Settings {
	return Settings{}
}

// backingSettings returns the sections that are effective for a backing's
// cluster; group is "" or the one InstanceGroup whose cluster it is.
func backingSettings(r catalog.Reader, service discovery.Key, port string, on discovery.Platform, group string) Settings {
	return Settings{}
}
