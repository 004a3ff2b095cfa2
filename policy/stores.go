package policy

import (
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
)

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

// StoreOf returns which store a port is one of, "" for none: what its
// appProtocol or a word of its name says, else its number. A number says
// nothing of a port that is stated to be HTTP.
func StoreOf(p discovery.ServicePort) string {
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
	if ProtocolOf(p) != TCP && OtherThanHTTP(p) == "" {
		return ""
	}
	for name, ports := range stores {
		if slices.Contains(ports, p.Port) {
			return name
		}
	}
	return ""
}
