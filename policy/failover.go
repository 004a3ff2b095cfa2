package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// failover reports whether the backings of a port stand in for each other, whether
// somebody has stated it, and what made it so. Two web tiers are copies of each
// other; two stores are not: a connection that goes to the other one for the
// seconds of a restart writes where nobody looks for it afterwards.
func (d *division) failover(p discovery.ServicePort) (on, stated bool, because string) {
	if d.object != nil {
		if mode := d.object.Spec.(*v1alpha1.TrafficShift).Spec.Failover; mode != "" {
			return mode == v1alpha1.FailoverOtherBacking, true, fmt.Sprintf("%s: spec.failover: %s", d.object.Name(), mode)
		}
	}
	if mode, ok := parseFailover(d.stated); ok {
		return mode == v1alpha1.FailoverOtherBacking, true, fmt.Sprintf("annotation %s: %s", v1alpha1.FailoverAnnotation, mode)
	}
	if store := storeOf(p); store != "" {
		return false, false, store + " is a store, and the other backing may have other data"
	}
	if d.object != nil && ProtocolOf(p) == TCP {
		return false, false, d.object.Name().String() + " moves a TCP port, and the other backing may have other data"
	}
	return true, false, "the default"
}

// parseFailover returns the mode that the annotation names.
func parseFailover(s string) (v1alpha1.FailoverMode, bool) {
	mode := v1alpha1.FailoverMode(s)
	return mode, mode == v1alpha1.FailoverOtherBacking || mode == v1alpha1.FailoverNone
}

// stores are protocols of what keeps data or messages, with the ports that are
// registered or usual for them.
var stores = map[string][]uint16{
	"aerospike": nil, "amqp": {5671, 5672}, "cassandra": {9042}, "clickhouse": nil, "etcd": {2379, 2380},
	"hbase": {16000, 16020}, "kafka": {9092, 9093, 9094}, "ldap": {389, 636}, "memcached": {11211}, "mongo": {27017, 27018, 27019},
	"mqtt": {1883, 8883}, "mssql": {1433}, "mysql": {3306, 33060}, "nats": {4222}, "nfs": {2049}, "oracle": {1521},
	"postgres": {5432, 6432}, "pulsar": {6650, 6651}, "redis": {6379, 6380, 26379}, "zookeeper": {2181},
}

// storeNames are other names of the same.
var storeNames = map[string]string{
	"amqps": "amqp", "cql": "cassandra", "ldaps": "ldap", "mariadb": "mysql", "memcache": "memcached", "mongodb": "mongo",
	"mqtts": "mqtt", "postgresql": "postgres", "pgsql": "postgres", "rabbitmq": "amqp", "rediss": "redis", "sqlserver": "mssql", "valkey": "redis",
}

// storeOf returns which store a port is one of, "" for none: what its
// appProtocol or a word of its name says, else its number. A number says
// nothing of a port that is stated to be HTTP.
func storeOf(p discovery.ServicePort) string {
	app := strings.ToLower(p.AppProtocol)
	words := strings.FieldsFunc(strings.ToLower(p.Name), func(r rune) bool { return r == '-' })
	for _, word := range append([]string{app[strings.LastIndexByte(app, '/')+1:]}, words...) {
		if other, ok := storeNames[word]; ok {
			word = other
		}
		if _, ok := stores[word]; ok && (p.AppProtocol == "" || ProtocolOf(p) == TCP) {
			return word
		}
	}
	if ProtocolOf(p) != TCP && otherThanHTTP(p) == "" {
		return ""
	}
	for name, ports := range stores {
		if slices.Contains(ports, p.Port) {
			return name
		}
	}
	return ""
}

// failoverFindings says what a Service's annotation cannot mean, and where
// failover is off although nobody has said so.
func failoverFindings(r catalog.Reader, obj discovery.ObjectRef, svc *discovery.Service, m *Service) []Finding {
	field := fmt.Sprintf("metadata.annotations[%q]", v1alpha1.FailoverAnnotation)
	var out []Finding
	if _, ok := parseFailover(svc.Failover); !ok && svc.Failover != "" {
		out = append(out, Finding{
			Severity: Error, Object: obj, Field: field, Condition: v1alpha1.ConditionAccepted, Reason: ReasonUnsupported,
			Message: fmt.Sprintf("%q says nothing of failover, so the default holds", svc.Failover), Remedy: "write OtherBacking or None",
		})
	}
	// One backing alone has nothing that could stand in for it.
	if m == nil || len(shiftsOf(r, svc.Key)) == 0 && !hasBoth(r, svc.Key) {
		return out
	}
	for i := range m.Ports {
		p := &m.Ports[i]
		if len(p.Backings) < 2 || p.Failover || p.FailoverStated {
			continue
		}
		out = append(out, Finding{
			Severity: Warning, Object: obj, Field: field, Condition: v1alpha1.ConditionAccepted, Reason: ReasonNoFailover,
			Message: fmt.Sprintf("port %d: there is no failover to the other backing, because %s; without a usable endpoint connections are refused", p.Number, p.FailoverBecause),
			Remedy:  "write None to say that it is meant, or OtherBacking where both sides have the same data",
		})
	}
	return out
}

// hasBoth reports whether a Service has endpoints of both platforms.
func hasBoth(r catalog.Reader, service discovery.Key) bool {
	var has [2]bool
	for s := range catalog.Endpoints.By(r, catalog.ByService, service.String()) {
		has[s.Platform] = has[s.Platform] || len(s.Endpoints) > 0
	}
	return has[discovery.Pods] && has[discovery.Instances]
}
