package naming

import (
	"fmt"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
)

// Route returns the name of a match of a rule, by which logs, statistics and explain name it, or that of
// the rule of a Service without routes if the route has no kind.
func Route(route discovery.ObjectRef, rule, match int) string {
	if route.Kind == "" {
		return DefaultRoute
	}
	return fmt.Sprintf("%s/%s/%s/%d/%d", route.Kind, route.Namespace, route.Name, rule, match)
}

// RuleOf returns the name of the rule that a route belongs to without its variant, "HTTPRoute/web/shop/0": a
// rule has a route for each of its matches.
func RuleOf(route string) string {
	if strings.Count(route, "/") == 4 {
		return route[:strings.LastIndexByte(route, '/')]
	}
	return route
}

// Variant is the part of a match's requests that a route is for: in Envoy a route has one retry policy and one
// way to hash, and mirrors all of its requests.
type Variant struct {
	// Safe is true for methods that may be sent again after more failures.
	Safe bool
	// Shadow is true for the methods that a shift's shadow step copies.
	Shadow bool
	// Keyless is true for requests that get the mesh's own cookie.
	Keyless bool
	// Upgrade is true for the requests for a websocket to a rule that bounds the time of others.
	Upgrade bool
}

// suffixes of routes, in their order.
func (v *Variant) suffixes() [4]struct {
	text string
	is   *bool
} {
	return [4]struct {
		text string
		is   *bool
	}{{"-safe", &v.Safe}, {"-shadow", &v.Shadow}, {"-keyless", &v.Keyless}, {"-upgrade", &v.Upgrade}}
}

// Suffix tells the routes of a match apart by their names.
func (v Variant) Suffix() string {
	var out strings.Builder
	for _, s := range v.suffixes() {
		if *s.is {
			out.WriteString(s.text)
		}
	}
	return out.String()
}

// CutVariant returns a route's name without its suffix, and what that says.
func CutVariant(route string) (name string, v Variant) {
	all := v.suffixes()
	for i := len(all) - 1; i >= 0; i-- {
		route, *all[i].is = strings.CutSuffix(route, all[i].text)
	}
	return route, v
}
