// Package naming makes and reads the names of what proxies are given, as operators meet them in Envoy's
// admin interface, its statistics and its access log. It knows strings and nothing of what they stand for:
// whoever gives a resource its name, tells it to a person or reads it in a report asks here.
//
//	<ns>/<svc>:<port>/<backing>             a backing, pods or instances: EDS cluster and its endpoints
//	<ns>/<svc>:<port>/pods+instances        pods, and instances while no pod is usable
//	<ns>/<svc>:<port>/instances+pods        the reverse
//	<ns>/<svc>:<port>/shared                all backings of a port that is not HTTP
//	<ns>/<svc>:<port>/instances/<group>     an InstanceGroup that a route names
//	shadow/<ns>/<svc>:<port>/<backing>      the same backing, for copies of requests
//	external/<ns>/<name>:<port>             a port of an ExternalService
//	http                                    the route configuration of HTTP callers
//	http/<svc>.<ns>:<port>                  a virtual host of it
//	http/<svc>.<ns>:<port>+short            the same by the name that only its namespace may use
//	http/external~<name>.<ns>:<port>        a virtual host of an ExternalService
//	http/any                                the virtual host of all that nobody has declared
//	captured                                the route configuration of redirected HTTP connections
//	captured/<svc>.<ns>:<port>              a virtual host of it
//	captured/any                            the virtual host of addresses that no Service has
//	captured/<address>:<port>               the listener of redirected connections to a port that is not HTTP alone
//	original-destination                    the cluster of where a redirected connection was going
//	inbound                                 the cluster of the application beside the proxy
//	gateway.<ns>.<name>.<port>              the route configuration of a port of a Gateway
//	gateway.<ns>.<name>.<port>~<listener>   the same of a listener with TLS
//	certificate/<ns>/<gateway>/<name>       a certificate of a Gateway
//	client-cas/<ns>/<gateway>:<port>         CA certificates by which its clients are checked; /optional where all are let in
package naming

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
)

// Names that stand for themselves.
const (
	// RouteConfig is the route configuration of HTTP callers.
	RouteConfig = "http"
	// AnyHost, AnyRoute, AnyTunnel and AnyCluster lead to hosts that nobody has declared.
	AnyHost    = RouteConfig + "/any"
	AnyRoute   = "any"
	AnyTunnel  = AnyRoute + "-tunnel"
	AnyCluster = "egress"
	// CapturedRoutes is the route configuration of redirected HTTP connections.
	CapturedRoutes = CapturedTraffic
	// CapturedAny leads on to addresses that no Service has, by way of OriginalDestination.
	CapturedAny         = CapturedRoutes + "/any"
	OriginalDestination = "original-destination"
	// InboundCluster is the application beside the proxy, at the port that a redirected connection was going to.
	InboundCluster = InboundTraffic
	// DefaultRoute is the route of a Service without routes.
	DefaultRoute = "default"
	// InvalidCluster is never there: the part of the requests that falls to a
	// backend that cannot be one. A direct response cannot
	// have a weight, but a cluster that is not found answers with a stated status.
	InvalidCluster = "invalid-backend"
	// UnknownCluster is the same for the part of a Service of which it is not known who has its
	// traffic. Whatever else there is in the rule, the answer is not the Service's.
	UnknownCluster = "unknown-home"
)

// sharedLast is the last part of the name of a TCP port's cluster.
const sharedLast = "shared"

const shadowFirst = "shadow/"

// Port returns what names of a port of a Service, an ExternalService or a Gateway begin with.
func Port(k discovery.Key, port uint16) string {
	return k.Namespace + "/" + k.Name + ":" + strconv.Itoa(int(port))
}

// Cluster returns the name of the cluster of a backing.
func Cluster(svc discovery.Key, port uint16, p discovery.BackingName) string {
	return Port(svc, port) + "/" + p.String()
}

// failoverJoint stands between the backings in the name of an aggregate cluster.
const failoverJoint = "+"

// Failover returns the name of the aggregate cluster that prefers a backing, and has others in their order after it.
func Failover(svc discovery.Key, port uint16, first discovery.BackingName, then []discovery.BackingName) string {
	return Port(svc, port) + "/" + failoverLast(first, then)
}

func failoverLast(first discovery.BackingName, then []discovery.BackingName) string {
	var b strings.Builder
	b.Grow(32) // as long as two have
	b.WriteString(first.String())
	for _, next := range then {
		b.WriteString(failoverJoint)
		b.WriteString(next.String())
	}
	return b.String()
}

// FailsOver reports whether a cluster by its name is an aggregate of backings that stand in for each other.
func FailsOver(cluster string) bool { return strings.Contains(cluster, failoverJoint) }

// Shared returns the name of the cluster of all backings of a TCP port.
func Shared(svc discovery.Key, port uint16) string { return Port(svc, port) + "/" + sharedLast }

// Group returns the name of the cluster of an InstanceGroup.
func Group(svc discovery.Key, port uint16, group string) string {
	return Cluster(svc, port, discovery.Instances) + "/" + group
}

// Shadow returns the name of the cluster that copies of requests to a
// Service go to while a shift compares the answers of its backings.
func Shadow(svc discovery.Key, port uint16, p discovery.BackingName) string {
	return shadowFirst + Cluster(svc, port, p)
}

// ShadowWay returns the name of the cluster that leads to the listener of copies.
func ShadowWay(svc discovery.Key, port uint16, p discovery.BackingName) string {
	return Shadow(svc, port, p) + "/listener"
}

// External returns the name of the cluster of an ExternalService's port.
func External(external discovery.Key, port uint16) string { return "external/" + Port(external, port) }

// Host returns the name of a port's virtual host. What is before the last
// slash must be the route configuration's name: so Envoy finds whose it is.
func Host(svc discovery.Key, port uint16) string {
	return RouteConfig + "/" + svc.Name + "." + svc.Namespace + ":" + strconv.Itoa(int(port))
}

// CapturedHost returns the name of the virtual host of a port for redirected connections.
func CapturedHost(svc discovery.Key, port uint16) string {
	return CapturedRoutes + strings.TrimPrefix(Host(svc, port), RouteConfig)
}

// CapturedAt returns the name of the listener of redirected connections to an address.
func CapturedAt(a netip.AddrPort) string { return CapturedListener + a.String() }

// ShortHost returns the name of the virtual host of the name that only callers of the Service's namespace may use.
func ShortHost(svc discovery.Key, port uint16) string { return Host(svc, port) + "+short" }

// ExternalHost returns the name of the virtual host of an ExternalService's port.
func ExternalHost(external discovery.Key, port uint16) string {
	return Host(discovery.Key{Namespace: external.Namespace, Name: "external~" + external.Name}, port)
}

// GatewayRoutes returns the name of the route configuration of a port of a Gateway, or of
// a listener of a port with TLS, "" for one without. A listener's name follows a tilde, which no
// name in Kubernetes has: Gateways and listeners may have dots in theirs.
func GatewayRoutes(gateway discovery.Key, port uint16, listener string) string {
	name := "gateway." + gateway.Namespace + "." + gateway.Name + "." + strconv.Itoa(int(port))
	if listener != "" {
		name += "~" + listener
	}
	return name
}

// GatewayHost returns the name of the virtual host of a domain in a route configuration of a Gateway.
func GatewayHost(routeConfig, domain string) string { return routeConfig + "/" + domain }

// Certificate returns the name of the secret of a certificate of a Gateway.
func Certificate(gateway discovery.Key, certificate string) string {
	return "certificate/" + gateway.String() + "/" + certificate
}

// ClientCAs returns the name of the secret with the CA certificates by which the clients of a Gateway's port are checked.
// Where they are let in without, it is another: the two are never taken for each other while the mode changes.
func ClientCAs(gateway discovery.Key, port uint16, optional bool) string {
	name := fmt.Sprintf("client-cas/%s:%d", gateway, port)
	if optional {
		name += "/optional"
	}
	return name
}

// CutCertificate is the inverse of Certificate.
func CutCertificate(gateway discovery.Key, name string) (certificate string, ok bool) {
	return strings.CutPrefix(name, Certificate(gateway, ""))
}

// Backing is what the name of a cluster says: whose requests it takes.
type Backing struct {
	Service  discovery.Key
	Port     uint16
	Platform discovery.BackingName
	// Shared is true for a TCP port's cluster, which all backings share: its
	// endpoint says whose a connection was. The name is not set then.
	Shared bool
	// Mirrored is true for the cluster of copies of requests.
	Mirrored bool
}

// maxLabels is how long a namespace and a Service's name are together at most (RFC 1123 labels).
const maxLabels = 2 * 63

// ParseCluster reads the name of a cluster, false for one that is not
// a backing's: those of InstanceGroups, which no shift moves, of
// ExternalServices, and others' own.
func ParseCluster(name string) (b Backing, ok bool) {
	if rest, mirrored := strings.CutPrefix(name, shadowFirst); mirrored && strings.Count(rest, "/") >= 2 {
		b.Mirrored, name = true, rest
	}
	namespace, rest, ok1 := strings.Cut(name, "/")
	service, rest, ok2 := strings.Cut(rest, ":")
	port, last, ok3 := strings.Cut(rest, "/")
	number, err := strconv.ParseUint(port, 10, 16)
	if !ok1 || !ok2 || !ok3 || err != nil || number == 0 || namespace == "" || service == "" ||
		strings.Contains(service, "/") || len(namespace)+len(service) > maxLabels {
		return Backing{}, false
	}
	b.Service, b.Port = discovery.Key{Namespace: namespace, Name: service}, uint16(number)
	if last == sharedLast {
		b.Shared = true
		return b, !b.Mirrored
	}
	for name := range strings.SplitSeq(last, failoverJoint) {
		backing := discovery.BackingName(name)
		if !backing.Valid() || name == sharedLast {
			return Backing{}, false
		}
		b.Platform = cmp.Or(b.Platform, backing)
	}
	return b, true
}

// SharedOf returns the name of the cluster of all backings of a port by what names of it begin with (Port).
func SharedOf(port string) string { return port + "/" + sharedLast }

// BackingsOf returns the names of the clusters that a port may have of its backings, by what names of it begin with.
func BackingsOf(port string) []string {
	var out []string
	for _, b := range discovery.Backings() {
		out = append(out, port+"/"+b.String())
	}
	return append(out, SharedOf(port))
}

// Statistic returns the cluster's name in statistics. "/" separates, because
// StatsD reads ":" and "|" and Envoy's own tag extraction stops at ".", which
// the names of ExternalServices and InstanceGroups may have.
func Statistic(svc discovery.Key, port uint16, last string) string {
	return strings.ReplaceAll(svc.Namespace+"/"+svc.Name+"/"+strconv.Itoa(int(port))+"/"+last, ".", "_")
}

// FailoverStatistic is Statistic of the cluster that Failover names.
func FailoverStatistic(svc discovery.Key, port uint16, first discovery.BackingName, then []discovery.BackingName) string {
	return Statistic(svc, port, failoverLast(first, then))
}

// SharedStatistic is Statistic of the cluster of all backings of a TCP port.
func SharedStatistic(svc discovery.Key, port uint16) string { return Statistic(svc, port, sharedLast) }

// StatisticTag is a label that Envoy makes of the name of a statistic. The
// expression's first group is what leaves the name, its second one the label's value.
type StatisticTag struct{ Name, Regex string }

// StatisticTags returns the labels that there are in what Statistic returns.
func StatisticTags() []StatisticTag {
	return []StatisticTag{
		{"causeway.namespace", `^cluster\.(([^/.]+)/)[^/.]+/\d+/`},
		{"causeway.service", `^cluster\.[^/.]+/(([^/.]+)/)\d+/`},
		{"causeway.port", `^cluster\.[^/.]+/[^/.]+/((\d+)/)`},
		{"causeway.backing", `^cluster\.[^/.]+/[^/.]+/\d+/(([^/.]+)\.)`},
	}
}
