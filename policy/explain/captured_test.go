package explain_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/explain"
	"github.com/causeway-mesh/causeway/policy/explain/describe"
	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// What becomes of a captured request is decided by what the program connects to, and by what its proxy captures.
func TestCapturedRequest(t *testing.T) {
	w := newWorld(t)
	key := func(name string) discovery.Key { return discovery.Key{Namespace: "web", Name: name} }
	w.write(func(tx *catalog.Tx) {
		http, mysql := discovery.ServicePort{Name: "http", Port: 80}, discovery.ServicePort{Name: "mysql", Port: 3306}
		catalog.Services.Put(tx, &discovery.Service{Key: key("users"), Ports: []discovery.ServicePort{http, mysql}, ClusterIPs: []string{"10.96.0.1", "fd00::1"}})
		catalog.Services.Put(tx, &discovery.Service{Key: key("none"), Ports: []discovery.ServicePort{http}}) // headless
	})
	w.pods("web", "users", discovery.Endpoint{ID: "web/users-1", Address: "10.0.0.1"}, discovery.Endpoint{ID: "web/users-2", Address: "10.0.0.2"})
	virtual, virtual6 := discovery.VirtualAddress(key("users"), 0).String(), discovery.VirtualAddress6(key("users")).String()
	proxies := []explain.Proxy{
		{ID: "sidecar~web~cron~i-1", Listeners: []string{"captured/127.0.0.1:15002=240.0.0.0/4", "captured/[::1]:15002=fdca:5e0a:7a1e::/48", "http/127.0.0.1:15001"}},
		{ID: "sidecar~web~front~front-1", Listeners: []string{"captured/127.0.0.1:15002=10.96.0.0/16"}},
		{ID: "sidecar~web~users~users-1", Listeners: []string{"inbound/0.0.0.0:15006=8080/http,9090"}},
	}
	const onward, host, closed = "goes where it was going", "it is not captured", "closed"
	for _, mode := range []v1alpha1.EgressMode{"", v1alpha1.RegistryOnly} {
		w.write(func(tx *catalog.Tx) {
			catalog.Objects.Put(tx, &discovery.Object{Kind: discovery.KindMesh, Key: discovery.Key{Name: "default"}, Spec: &v1alpha1.Mesh{Spec: v1alpha1.MeshSpec{Egress: v1alpha1.Egress{Mode: mode}}}})
		})
		for _, c := range []struct{ from, url, header, virtualHost, says string }{
			{"web/cron", "http://users.web.svc.cluster.local/", "", "captured/users.web:80", virtual + ", the virtual address"},
			{"web/cron", "http://users.web.svc.cluster.local./", "", "captured/users.web:80", virtual + ", the virtual address"},
			{"web/cron", "http://USERS:80/", "none.web", "captured/users.web:80", "not the Host header"},
			{"web/cron", "http://none.web/", "", "captured/none.web:80", "the virtual address"},
			{"web/cron", "http://" + virtual + "/", "", "captured/users.web:80", "is the virtual address of Service web/users"},
			{"web/cron", "http://[" + virtual6 + "]/", "", "captured/users.web:80", "is the virtual address of Service web/users"},
			{"web/cron", "http://example.org/", "users.web", "", host},
			{"web/cron", "http://10.0.0.9/", "users.web", "", host},
			{"web/front", "http://users.web.svc.cluster.local/", "", "captured/users.web:80", "10.96.0.1, the cluster IP"},
			{"web/front", "http://10.96.0.1:80/", "", "captured/users.web:80", "10.96.0.1 is a cluster IP"},
			{"web/front", "http://users.web:3306/", "", "", "bytes are passed on"},
			{"web/front", "http://none.web/", "", "", "headless"},
			{"web/front", "http://example.org/", "users.web", "", map[v1alpha1.EgressMode]string{"": onward, v1alpha1.RegistryOnly: closed}[mode]},
			{"web/other", "http://users.web/", "", "captured/users.web:80", "10.96.0.1, the cluster IP"},
		} {
			q := &explain.Question{From: c.from, Method: "GET", URL: c.url, Captured: true}
			if c.header != "" {
				q.Headers = []string{"Host: " + c.header}
			}
			require.NoError(t, q.Check())
			e, err := explain.QuestionOf(q.Values()).Answer(w.Read(), proxies)
			require.NoError(t, err, c.url)
			require.Equal(t, c.virtualHost, e.Envoy.VirtualHost, "%s of %s, %+v", c.url, c.from, e.VirtualHost)
			var text strings.Builder
			table := phrase.NewTable(&text)
			describe.Request(table, e)
			require.Contains(t, strings.Join(strings.Fields(text.String()), " "), c.says, "%s of %s", c.url, c.from)
			if strings.HasSuffix(c.virtualHost, "users:80") {
				require.Contains(t, strings.Join(strings.Fields(text.String()), " "), "1 of 2 endpoints have a sidecar that takes what comes to its ports 8080/http,9090")
			}
		}
		// An address of the mesh that is none of a Service's, or not of that port.
		for _, at := range []string{"240.0.0.1", virtual + ":81"} {
			e, err := (&explain.Question{From: "web/cron", Method: "GET", URL: "http://" + at + "/", Captured: true}).Answer(w.Read(), proxies)
			require.NoError(t, err)
			if mode == "" {
				require.Equal(t, "captured/any", e.Envoy.VirtualHost)
				require.Equal(t, []string{"original-destination"}, e.Envoy.Clusters)
			} else {
				require.Equal(t, 404, e.Answer.Status)
			}
		}
	}
	_, err := (&explain.Question{From: "web/users", Method: "GET", URL: "http://users/", Captured: true}).Answer(w.Read(), proxies)
	require.ErrorContains(t, err, "--captured: the proxies of web/users capture nothing")
	nowhere := explain.Question{From: "web/cron", Method: "GET", URL: "http:///x", Headers: []string{"Host: users.web"}, Captured: true}
	require.ErrorContains(t, nowhere.Check(), "--captured: http:///x does not say what the program connects to: write http://HOST[:PORT]/PATH")
	require.ErrorContains(t, (&explain.Question{Gateway: "edge/public", Method: "GET", URL: "http://users/", Captured: true}).Check(), "--captured: it means something with --from only")
}
