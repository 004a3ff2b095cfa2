package naming_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/naming"
)

var php = discovery.Key{Namespace: "web", Name: "php"}

// What is made is read as what it was made of.
func TestParseCluster(t *testing.T) {
	t.Parallel()
	for p, then := range map[discovery.BackingName][]discovery.BackingName{
		discovery.Pods: {discovery.Instances}, discovery.Instances: {discovery.Pods}, "pods.other-cluster": {discovery.Pods, discovery.Instances},
	} {
		want := naming.Backing{Service: php, Port: 80, Platform: p}
		for _, name := range []string{naming.Cluster(php, 80, p), naming.Failover(php, 80, p, then)} {
			got, ok := naming.ParseCluster(name)
			require.True(t, ok, name)
			require.Equal(t, want, got, name)
		}
		want.Mirrored = true
		got, ok := naming.ParseCluster(naming.Shadow(php, 80, p))
		require.True(t, ok)
		require.Equal(t, want, got)
		_, ok = naming.ParseCluster(naming.ShadowWay(php, 80, p))
		require.False(t, ok, "nobody reports it")
	}
	got, ok := naming.ParseCluster(naming.Shared(php, 80))
	require.True(t, ok)
	require.Equal(t, naming.Backing{Service: php, Port: 80, Shared: true}, got)
	for _, name := range []string{
		naming.Group(php, 80, "asg"), naming.External(php, 443), naming.InvalidCluster, naming.UnknownCluster, naming.AnyCluster, "",
		"web/php:0/pods", "web/php:80", "web/php:80/", "web/php:80/pods+", "web/php:80/Pods", "web/php:80/pods+shared", "/php:80/pods", "web/:80/pods", "web/php:80000/pods", "shadow/web/php:80/shared",
		"web/" + strings.Repeat("x", 127) + ":80/pods",
	} {
		_, ok := naming.ParseCluster(name)
		require.False(t, ok, name)
	}
	// A namespace may have the name of a prefix.
	got, ok = naming.ParseCluster("shadow/php:80/pods")
	require.True(t, ok)
	require.Equal(t, naming.Backing{Service: discovery.Key{Namespace: "shadow", Name: "php"}, Port: 80, Platform: discovery.Pods}, got)
	require.Equal(t, []string{"web/php:80/pods", "web/php:80/instances", "web/php:80/shared"}, naming.BackingsOf(naming.Port(php, 80)))
}

// A route's variants have names of their own, and each is read as what it was made of.
func TestVariants(t *testing.T) {
	t.Parallel()
	route := discovery.ObjectRef{Kind: "HTTPRoute", Key: discovery.Key{Namespace: "web", Name: "shop-safe"}}
	seen := make(map[string]bool)
	for bits := range 16 {
		v := naming.Variant{Safe: bits&1 > 0, Shadow: bits&2 > 0, Keyless: bits&4 > 0, Upgrade: bits&8 > 0}
		for rule, of := range map[string]discovery.ObjectRef{"HTTPRoute/web/shop-safe/1": route, "default": {}} {
			name := naming.Route(of, 1, 2) + v.Suffix()
			require.False(t, seen[name], name)
			seen[name] = true
			whole, got := naming.CutVariant(name)
			require.Equal(t, v, got, name)
			require.Equal(t, rule, naming.RuleOf(whole), name)
		}
	}
}

// Envoy makes the labels of what Statistic returns.
func TestStatisticTags(t *testing.T) {
	t.Parallel()
	name := "cluster." + naming.FailoverStatistic(php, 80, discovery.Pods, []discovery.BackingName{discovery.Instances}) + ".upstream_rq_total"
	want := map[string]string{"causeway.namespace": "web", "causeway.service": "php", "causeway.port": "80", "causeway.backing": "pods+instances"}
	for _, tag := range naming.StatisticTags() {
		m := regexp.MustCompile(tag.Regex).FindStringSubmatch(name)
		require.Len(t, m, 3, tag.Name)
		require.Equal(t, want[tag.Name], m[2])
		require.True(t, strings.HasPrefix(m[1], m[2]))
	}
}

func TestNode(t *testing.T) {
	t.Parallel()
	role, namespace, workload, instance, ok := naming.ParseNode(naming.Node("sidecar", "web", "php", "i-1"))
	require.True(t, ok)
	require.Equal(t, []string{"sidecar", "web", "php", "i-1"}, []string{role, namespace, workload, instance})
	for _, id := range []string{"", "sidecar~web~php", "sidecar~web~php~", "a~b~c~d~e"} {
		_, _, _, _, ok := naming.ParseNode(id)
		require.False(t, ok, id)
	}
}

func TestGatewayNames(t *testing.T) {
	t.Parallel()
	require.Equal(t, "gateway.web.php.80", naming.GatewayRoutes(php, 80, ""))
	require.Equal(t, "gateway.web.php.443~shop.example", naming.GatewayRoutes(php, 443, "shop.example"))
	certificate, ok := naming.CutCertificate(php, naming.Certificate(php, "shop/tls"))
	require.True(t, ok)
	require.Equal(t, "shop/tls", certificate)
	_, ok = naming.CutCertificate(php, "certificate/web/other/tls")
	require.False(t, ok)
}
