package bootstrap_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/test/golden"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/bootstrap"
	"github.com/causeway-mesh/causeway/xds/compile"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// certificates is where the cases' certificates are said to be.
const certificates = "/etc/causeway"

// configuration is where the cases' configuration is said to be.
const configuration = "/etc/envoy"

func options() bootstrap.Options {
	return bootstrap.Options{
		Role: resource.Sidecar, Namespace: "web", Workload: "php-web", Instance: "i-0a1b2c3d4e5f60718",
		Region: "ap-northeast-1", Zone: "ap-northeast-1a",
		Servers: []string{"127.0.0.1:18000"}, HTTPListen: bootstrap.DefaultHTTPListen,
	}
}

// edge is a proxy of a Gateway web/edge.
func edge() bootstrap.Options {
	o := options()
	o.Role, o.Workload, o.HTTPListen = resource.Gateway, "edge", ""
	o.GatewayListen = []string{"0.0.0.0:8080=80", "[::]:8443=443"}
	o.HealthListen = "0.0.0.0:8081"
	return o
}

func full() bootstrap.Options {
	o := options()
	o.Service, o.NodeName = "php", "ip-10-0-1-23.ap-northeast-1.compute.internal"
	o.Servers = []string{"causeway-0.internal:18000", "causeway-1.internal:18000"}
	o.TCPListen = []string{"127.0.0.1:3306=data/mysql:3306", "[::1]:6379=data/redis:6379"}
	o.AdminListen = "127.0.0.1:15000"
	o.TLS = &bootstrap.TLS{
		CA: certificates + "/ca.crt", ServerName: "causeway.internal",
		Cert: certificates + "/proxy.crt", Key: certificates + "/proxy.key",
	}
	return o
}

// The bootstraps are as they are in testdata, and Envoy takes them.
func TestGolden(t *testing.T) {
	dir := t.TempDir()
	authority := harness.NewAuthority(t, "test")
	authority.Issue(t, harness.CertificateOptions{Name: "proxy"}).Write(t, dir, "proxy")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ca.crt"), authority.CertPEM, 0o600))

	got := make(map[string][]byte)
	for name, o := range map[string]bootstrap.Options{"sidecar": options(), "gateway": edge(), "full": full()} {
		text, err := bootstrap.Generate(o)
		require.NoError(t, err)
		got[name+".yaml"] = text
		harness.ValidateEnvoy(t, moved(text, dir))
	}
	files, err := bootstrap.Files(full(), configuration)
	require.NoError(t, err)
	for name, text := range files {
		got["files/"+name] = text
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), moved(text, dir), 0o600))
	}
	harness.ValidateEnvoy(t, moved(files[bootstrap.File], dir))

	if golden.Updating() {
		require.NoError(t, os.RemoveAll("testdata/golden"))
		require.NoError(t, os.MkdirAll("testdata/golden/files", 0o750))
	}
	for name, text := range got {
		golden.Equal(t, filepath.Join("testdata/golden", name), string(text))
	}
}

// moved returns a configuration whose files are in dir.
func moved(text []byte, dir string) []byte {
	return []byte(strings.NewReplacer(certificates+"/", dir+"/", configuration+"/", dir+"/", "path: "+certificates, "path: "+dir).Replace(string(text)))
}

func TestErrors(t *testing.T) {
	for _, tc := range []struct {
		change func(o *bootstrap.Options)
		want   string
	}{
		{func(o *bootstrap.Options) { o.Namespace = "" }, "--namespace: it is empty: write lower case letters, digits and hyphens, at most 63, for example web"},
		{func(o *bootstrap.Options) { o.Namespace = "Web" }, "--namespace: \"Web\" is not a name: write lower case letters"},
		{func(o *bootstrap.Options) { o.Namespace = strings.Repeat("a", 64) }, "is not a name: write lower case letters, digits and hyphens, at most 63"},
		{func(o *bootstrap.Options) { o.Workload = "a b" }, "--workload: \"a b\" is not a name: write letters, digits and the signs - _ . : @ + between them, without spaces, for example php-web"},
		{func(o *bootstrap.Options) { o.Workload = "web/php" }, "--workload: \"web/php\" is not a name"},
		{func(o *bootstrap.Options) { o.Workload = "-php" }, "--workload: \"-php\" is not a name"},
		{func(o *bootstrap.Options) { *o = edge(); o.Workload = "Edge" }, "--workload: \"Edge\" is not a name: write the name of the Gateway"},
		{func(o *bootstrap.Options) { o.Instance = "i 1" }, "--id: \"i 1\" is not a name: write letters"},
		{func(o *bootstrap.Options) { o.Instance = "$(POD_UID)" }, "--id: \"$(POD_UID)\" is a variable that nobody has filled in: write"},
		{func(o *bootstrap.Options) { o.Instance = "café" }, "--id: \"café\" is not a name"},
		{func(o *bootstrap.Options) { o.Service = "web/php" }, "--service: \"web/php\" is not a name: write lower case letters"},
		{func(o *bootstrap.Options) { o.Region = "ap northeast 1" }, "--region: \"ap northeast 1\" is not a name"},
		{func(o *bootstrap.Options) { o.Zone = "a b" }, "--zone: \"a b\" is not a name: write letters"},
		{func(o *bootstrap.Options) { o.Servers = []string{"a b:18000"} }, "--server: \"a b:18000\" is not HOST:PORT: write, for example, causeway.internal:18000"},
		{func(o *bootstrap.Options) { o.TCPListen = []string{"127.0.0.1:3306=data/my sql:3306"} }, "--tcp-listen: "},
		{func(o *bootstrap.Options) {
			o.TLS = &bootstrap.TLS{CA: "ca", Cert: "c", Key: "k", ServerName: "a b"}
		}, "--tls-server-name: \"a b\" is not a host name"},
		{func(o *bootstrap.Options) { o.Workload = "a~b" }, "--workload: \"a~b\" has a ~"},
		{func(o *bootstrap.Options) { o.Instance = strings.Repeat("x", 254) }, "longer than 253 bytes"},
		{func(o *bootstrap.Options) { o.Instance = "i-1\x1b[2J" }, "--id: "},
		{func(o *bootstrap.Options) { o.Zone = "a\xff" }, "--zone: "},
		{func(o *bootstrap.Options) { o.NodeName = "$(NODE_NAME)" }, "--node-name: \"$(NODE_NAME)\" is not the name of a Kubernetes node, such as"},
		{func(o *bootstrap.Options) { o.NodeName = "Node-1" }, "take it from the field spec.nodeName"},
		{func(o *bootstrap.Options) { o.NodeName = strings.Repeat("x", 254) }, "--node-name: "},
		{func(o *bootstrap.Options) {
			o.Workload, o.Instance = strings.Repeat("x", 253), strings.Repeat("y", 253)
		}, "together they are longer than 512 bytes"},
		{func(o *bootstrap.Options) { o.Role = "router" }, "--role: \"router\" is neither sidecar nor gateway"},
		{func(o *bootstrap.Options) { o.Servers = nil }, "--server: give at least one HOST:PORT"},
		{func(o *bootstrap.Options) { o.Servers = []string{"causeway"} }, "--server: \"causeway\" is not HOST:PORT"},
		{func(o *bootstrap.Options) { o.Servers = []string{":18000"} }, "is not HOST:PORT"},
		{func(o *bootstrap.Options) { o.Servers = []string{"a:0"} }, "is not HOST:PORT"},
		{func(o *bootstrap.Options) { o.AdminListen = "0.0.0.0:15000" }, "--admin-listen: \"0.0.0.0:15000\" is not a loopback"},
		{func(o *bootstrap.Options) { o.HTTPListen = "10.0.0.1:80" }, "--http-listen: "},
		{func(o *bootstrap.Options) { o.TCPListen = []string{"127.0.0.1:3306"} }, "--tcp-listen: "},
		{func(o *bootstrap.Options) { o.TCPListen = []string{"127.0.0.1:15001=data/mysql:3306"} }, "127.0.0.1:15001 is used twice"},
		{func(o *bootstrap.Options) { o.InboundListen = []string{"0.0.0.0:15006"} }, "--inbound-listen: "},
		{func(o *bootstrap.Options) { o.InboundListen = []string{"0.0.0.0:15006=8080/udp"} }, "--inbound-listen: "},
		{func(o *bootstrap.Options) { o.AdminListen = o.HTTPListen }, "127.0.0.1:15001 is used twice"},
		{func(o *bootstrap.Options) {
			for port := range 65 {
				o.TCPListen = append(o.TCPListen, fmt.Sprintf("127.0.0.1:%d=data/mysql:3306", 20000+port))
			}
		}, "more than 64 listeners"},
		{func(o *bootstrap.Options) { o.TLS = &bootstrap.TLS{CA: "ca.crt"} }, "go together"},
		{func(o *bootstrap.Options) { o.GatewayListen = []string{"0.0.0.0"} }, "--gateway-listen: a sidecar serves no Gateway: give --role gateway"},
		{func(o *bootstrap.Options) { o.HealthListen = "0.0.0.0:8081" }, "--health-listen: load balancers do not check a sidecar"},
		{func(o *bootstrap.Options) { *o = edge(); o.GatewayListen = nil }, "--gateway-listen: a proxy of a Gateway needs to know where to listen"},
		{func(o *bootstrap.Options) { *o = edge(); o.GatewayListen = []string{"0.0.0.0", "0.0.0.0:8443=443"} }, "not both"},
		{func(o *bootstrap.Options) { *o = edge(); o.GatewayListen = []string{"0.0.0.0:80=80", "0.0.0.0:80=443"} }, "0.0.0.0:80 is used twice"},
		{func(o *bootstrap.Options) { *o = edge(); o.GatewayListen = []string{"0.0.0.0:8443"} }, "--gateway-listen: "},
		{func(o *bootstrap.Options) { *o = edge(); o.GatewayListen = []string{"eth0"} }, "--gateway-listen: "},
		{func(o *bootstrap.Options) { *o = edge(); o.HealthListen = "8081" }, "--health-listen: \"8081\" is not ADDRESS:PORT"},
	} {
		o := options()
		tc.change(&o)
		_, err := bootstrap.Generate(o)
		require.ErrorContains(t, err, tc.want)
	}
}

// node returns the node of a bootstrap.
func node(t *testing.T, text []byte) *corev3.Node {
	t.Helper()
	return parse(t, text).GetNode()
}

func parse(t *testing.T, text []byte) *bootstrapv3.Bootstrap {
	t.Helper()
	raw, err := yaml.YAMLToJSON(text)
	require.NoError(t, err)
	b := &bootstrapv3.Bootstrap{}
	require.NoError(t, protojson.Unmarshal(raw, b))
	return b
}

func TestNodeRoundTrip(t *testing.T) {
	text, err := bootstrap.Generate(full())
	require.NoError(t, err)
	got, err := bootstrap.ParseNode(node(t, text))
	require.NoError(t, err)
	require.Equal(t, bootstrap.Node{
		ID: "sidecar~web~php-web~i-0a1b2c3d4e5f60718", Role: resource.Sidecar,
		Namespace: "web", Workload: "php-web", Instance: "i-0a1b2c3d4e5f60718", Service: "web/php",
		Region: "ap-northeast-1", Zone: "ap-northeast-1a", NodeName: "ip-10-0-1-23.ap-northeast-1.compute.internal",
		Declared: []string{
			"http/127.0.0.1:15001", naming.InternalListeners, "tcp/127.0.0.1:3306=data/mysql:3306", "tcp/[::1]:6379=data/redis:6379",
		},
	}, got)
}

func TestInboundNodeRoundTrip(t *testing.T) {
	o := full()
	o.HTTPListen, o.TCPListen, o.InboundListen = "", nil, []string{"0.0.0.0:15006=9090/grpc,8080", "[::]:15006=8080"}
	text, err := bootstrap.Generate(o)
	require.NoError(t, err)
	got, err := bootstrap.ParseNode(node(t, text))
	require.NoError(t, err)
	require.Equal(t, []string{naming.InboundTraffic, "inbound/0.0.0.0:15006=8080,9090/http", "inbound/[::]:15006=8080", naming.InternalListeners}, got.Declared)
}

func TestGatewayNodeRoundTrip(t *testing.T) {
	text, err := bootstrap.Generate(edge())
	require.NoError(t, err)
	got, err := bootstrap.ParseNode(node(t, text))
	require.NoError(t, err)
	require.Equal(t, resource.Gateway, got.Role)
	require.Equal(t, []string{"gateway/0.0.0.0:8080=web/edge:80", "gateway/[::]:8443=web/edge:443", naming.InternalListeners}, got.Declared)
}

func TestParseNodeErrors(t *testing.T) {
	for _, tc := range []struct {
		id   string
		list []any
		want string
	}{
		{id: "", want: "is not ROLE~NAMESPACE~WORKLOAD~INSTANCE"},
		{id: "sidecar~web~php", want: "make the bootstrap with 'causeway bootstrap'"},
		{id: "sidecar~~php~i-1", want: "is not ROLE~"},
		{id: "sidecar~a~b~c~d", want: "is not ROLE~"},
		{id: "router~a~b~c", want: "role \"router\" is neither sidecar nor gateway"},
		{id: "sidecar~a~b~" + strings.Repeat("c", 512), want: "at most 512 bytes"},
		{id: "sidecar~a~b~c\n", want: "cannot be printed"},
		{id: "sidecar~a~b~c", list: []any{"http/10.0.0.1:80"}, want: "not a loopback address"},
		{id: "sidecar~a~b~c", list: []any{"gateway/0.0.0.0=a/b"}, want: "only proxies whose id begins with gateway~a~b~ are of the Gateway a/b"},
		{id: "gateway~a~b~c", list: []any{"gateway/0.0.0.0=a/other"}, want: "only proxies whose id begins with gateway~a~other~"},
		{id: "gateway~a~b~c", list: []any{"gateway/0.0.0.0:443=b/b:443"}, want: "only proxies whose id begins with gateway~b~b~"},
		{id: "gateway~a~b~c", list: []any{"gateway/0.0.0.0:0=a/b:443"}, want: "an address with a port"},
		{id: "sidecar~a~b~c", list: []any{4.0}, want: "causeway.dev/listeners"},
		{id: "sidecar~a~b~c", list: slices.Repeat([]any{"http/127.0.0.1:80"}, 65), want: "at most 64 listeners"},
	} {
		metadata, err := structpb.NewStruct(map[string]any{"causeway.dev/listeners": tc.list})
		require.NoError(t, err)
		got, err := bootstrap.ParseNode(&corev3.Node{Id: tc.id, Metadata: metadata})
		require.ErrorContains(t, err, tc.want)
		require.Zero(t, got)
	}
	for name, want := range map[string]string{strings.Repeat("n", 513): "causeway.dev/node-name have at most 512 bytes", "n\x1b[2J": "cannot be printed"} {
		metadata, err := structpb.NewStruct(map[string]any{"causeway.dev/node-name": name})
		require.NoError(t, err)
		_, err = bootstrap.ParseNode(&corev3.Node{Id: "sidecar~a~b~c", Metadata: metadata})
		require.ErrorContains(t, err, want)
	}
	_, err := bootstrap.ParseNode(nil)
	require.Error(t, err)
}

func FuzzParseNode(f *testing.F) {
	for _, n := range []*corev3.Node{
		{Id: "sidecar~web~php-web~i-1", Cluster: "web/php-web", Locality: &corev3.Locality{Zone: "a"}, UserAgentName: "envoy"},
		{Id: "gateway~a~b~c", Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{
			"causeway.dev/listeners": structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{structpb.NewStringValue("http/127.0.0.1:015001")}}),
		}}},
		{Id: "gateway~a~b~c", Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{
			"causeway.dev/listeners": structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{structpb.NewStringValue("gateway/[::]:8443=a/b:443")}}),
		}}},
	} {
		raw, err := proto.Marshal(n)
		require.NoError(f, err)
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		n := &corev3.Node{}
		if proto.Unmarshal(raw, n) != nil {
			return
		}
		got, err := bootstrap.ParseNode(n)
		if err != nil {
			return
		}
		require.Contains(t, []resource.Role{resource.Sidecar, resource.Gateway}, got.Role)
		require.Equal(t, got.ID, fmt.Sprintf("%s~%s~%s~%s", got.Role, got.Namespace, got.Workload, got.Instance))
		require.LessOrEqual(t, len(got.ID), 512)
		require.LessOrEqual(t, len(got.Declared), 64)
		require.True(t, slices.IsSorted(got.Declared))
	})
}

// Whatever is made can be read back: no flags lead to a proxy that the control
// plane then refuses.
func FuzzGenerate(f *testing.F) {
	f.Add("web", "php-web", "i-1", "", "ap-northeast-1a", "10.0.0.1:18000", "127.0.0.1:15001", "127.0.0.1:3306=data/mysql:3306")
	f.Fuzz(func(t *testing.T, namespace, workload, id, service, zone, server, http, tcp string) {
		o := bootstrap.Options{
			Role: resource.Sidecar, Namespace: namespace, Workload: workload, Instance: id, Service: service, Zone: zone,
			Servers: []string{server}, HTTPListen: http, TCPListen: []string{tcp},
		}
		text, err := bootstrap.Generate(o)
		if err != nil {
			return
		}
		got, err := bootstrap.ParseNode(node(t, text))
		require.NoError(t, err)
		require.Equal(t, namespace, got.Namespace)
		require.Equal(t, id, got.Instance)
		require.Equal(t, zone, got.Zone)
	})
}

// Listeners name the cluster that stands in every bootstrap.
func TestControlPlaneCluster(t *testing.T) {
	require.Equal(t, bootstrap.ClusterName, compile.ControlPlane)
}
