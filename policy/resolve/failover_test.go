package resolve

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

func TestFailoverOfAPort(t *testing.T) {
	port := func(name string, number uint16, app string) discovery.ServicePort {
		return discovery.ServicePort{Name: name, Port: number, AppProtocol: app}
	}
	moved := func(mode v1alpha1.FailoverMode) []*discovery.Object {
		return []*discovery.Object{shift("t", func(s *v1alpha1.TrafficShift) { s.Spec.Failover = mode })}
	}
	for name, c := range map[string]struct {
		port       discovery.ServicePort
		annotation string
		shifts     []*discovery.Object
		want       bool
		because    string
	}{
		"HTTP":                                 {port("http", 80, ""), "", nil, true, "the default"},
		"HTTP that is shifted":                 {port("http", 80, ""), "", moved(""), true, "the default"},
		"HTTP, annotated":                      {port("http", 80, ""), "None", nil, false, "annotation mesh.causeway.dev/failover: None"},
		"HTTP, by its shift":                   {port("http", 80, ""), "OtherBacking", moved("None"), false, "TrafficShift web/t: spec.failover: None"},
		"TCP":                                  {port("tcp", 7000, ""), "", nil, true, "the default"},
		"PHP's own":                            {port("fastcgi", 9000, ""), "", nil, true, "the default"},
		"TCP that is shifted":                  {port("tcp", 7000, ""), "", moved(""), false, "TrafficShift web/t moves a TCP port, and the other backing may have other data"},
		"TCP that is shifted, by its shift":    {port("tcp", 7000, ""), "None", moved("OtherBacking"), true, "TrafficShift web/t: spec.failover: OtherBacking"},
		"TCP that is shifted, annotated":       {port("tcp", 7000, ""), "OtherBacking", moved(""), true, "annotation mesh.causeway.dev/failover: OtherBacking"},
		"a store by its name":                  {port("kafka", 19092, ""), "", nil, false, "kafka is a store, and the other backing may have other data"},
		"a store by a word of its name":        {port("tcp-redis", 7000, ""), "", nil, false, "redis is a store, and the other backing may have other data"},
		"a store by another name":              {port("mariadb", 1, ""), "", nil, false, "mysql is a store, and the other backing may have other data"},
		"a store by its appProtocol":           {port("db", 7000, "mongo"), "", nil, false, "mongo is a store, and the other backing may have other data"},
		"a store by somebody's appProtocol":    {port("db", 7000, "example.com/postgresql"), "", nil, false, "postgres is a store, and the other backing may have other data"},
		"a store by its number":                {port("tcp", 5432, ""), "", nil, false, "postgres is a store, and the other backing may have other data"},
		"a store that nothing says is none":    {port("db", 3306, ""), "", nil, false, "mysql is a store, and the other backing may have other data"},
		"a store's number that is HTTP":        {port("http", 9092, ""), "", nil, true, "the default"},
		"a store's name that is HTTP":          {port("redis", 80, "http"), "", nil, true, "the default"},
		"a store whose sides have one history": {port("kafka", 9092, ""), "OtherBacking", nil, true, "annotation mesh.causeway.dev/failover: OtherBacking"},
		"a mistake":                            {port("kafka", 9092, ""), "none", nil, false, "kafka is a store, and the other backing may have other data"},
	} {
		t.Run(name, func(t *testing.T) {
			svc := service(c.port)
			svc.Failover = c.annotation
			m := BuildService(rows{services: []*discovery.Service{svc}, groups: []*discovery.InstanceGroup{group("ec2", v1alpha1.InstancePort{Port: 1})}, shifts: c.shifts}.reader(t), web)
			require.Equal(t, c.want, m.Ports[0].Failover)
			require.Equal(t, c.because, m.Ports[0].FailoverBecause)
		})
	}
}

// A store that has both backings says that they do not stand in for each
// other, until somebody says that it is meant.
func TestFailoverThatIsOffIsTold(t *testing.T) {
	in := func(annotation string, health discovery.Health) []string {
		svc := withHome(service(discovery.ServicePort{Name: "kafka", Port: 9092}), upstream.HomeInstances)
		svc.Failover = annotation
		r := rows{
			services: []*discovery.Service{svc}, groups: []*discovery.InstanceGroup{group("ec2", v1alpha1.InstancePort{Name: "kafka", Port: 9092})},
			sets: []*discovery.EndpointSet{
				published("ec2", discovery.EndpointPort{Name: "kafka", Port: 9092}, instance("i-1", "10.1.0.1", "z", health)),
				slice("s1", discovery.EndpointPort{Name: "kafka", Port: 9092}, pod("a", "10.0.0.1", "z", discovery.Healthy)),
			},
		}.reader(t)
		var out []string
		for _, f := range Validate(r) {
			out = append(out, f.String())
		}
		require.Zero(t, FailedOver(r, web))
		return out
	}
	const because = "kafka is a store, and the other backing may have other data"
	require.Equal(t, []string{`warning: Service web/php-web: metadata.annotations["mesh.causeway.dev/failover"]: port 9092: there is no failover to the other backing, because ` + because +
		`; without a usable endpoint connections are refused: write None to say that it is meant, or OtherBacking where both sides have the same data`}, in("", discovery.Healthy))
	require.Empty(t, in("None", discovery.Healthy))
	require.Equal(t, []string{`warning: Service web/php-web: spec.ports: port 9092: the instances have 100% of the traffic and no usable endpoint, so it is refused; ` +
		`the pods do not stand in (annotation mesh.causeway.dev/failover: None): bring the instances back`}, in("None", discovery.Draining))
	require.Contains(t, in("none", discovery.Healthy)[0], `error: Service web/php-web: metadata.annotations["mesh.causeway.dev/failover"]: "none" says nothing of failover, so the default holds: write OtherBacking or None`)
}
