package compile_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	internallistenerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/bootstrap/internal_listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// static makes a bootstrap of what a proxy in a namespace and zone sees, for
// Envoy without a control plane: what it would ask for over ADS stands in the
// bootstrap, and endpoints in files under dir where one is given.
func static(t *testing.T, resources []resource.Resource, namespace, zone, dir string) []byte {
	t.Helper()
	b := &bootstrapv3.Bootstrap{
		Node:            &corev3.Node{Id: "test", Cluster: "test", Locality: &corev3.Locality{Zone: zone}},
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{},
	}
	if slices.ContainsFunc(resources, func(r resource.Resource) bool { return r.Visible.Declared == naming.InternalListeners }) {
		config, err := anypb.New(&internallistenerv3.InternalListener{})
		require.NoError(t, err)
		b.BootstrapExtensions = []*corev3.TypedExtensionConfig{{Name: "envoy.bootstrap.internal_listener", TypedConfig: config}}
	}
	assignments := make(map[string]*endpointv3.ClusterLoadAssignment)
	routes := make(map[string]*routev3.RouteConfiguration)
	configuration := func(name string) *routev3.RouteConfiguration {
		if routes[name] == nil {
			routes[name] = &routev3.RouteConfiguration{Name: name}
		}
		return routes[name]
	}
	for _, r := range resources {
		switch r.Type {
		case resource.Endpoint:
			cla := &endpointv3.ClusterLoadAssignment{}
			unmarshal(t, inZone(r, zone), cla)
			assignments[r.Name] = cla
		case resource.VirtualHost:
			if r.Visible.Namespace == "" || r.Visible.Namespace == namespace {
				host := &routev3.VirtualHost{}
				unmarshal(t, inNamespace(r, namespace), host)
				c := configuration(r.Name[:strings.LastIndexByte(r.Name, '/')])
				c.VirtualHosts = append(c.VirtualHosts, host)
			}
		case resource.Route:
			c := configuration(r.Name)
			hosts := c.GetVirtualHosts()
			unmarshal(t, r.Body, c)
			c.VirtualHosts, c.Vhds = hosts, nil
		case resource.Secret:
			secret := &tlsv3.Secret{}
			unmarshal(t, r.Body, secret)
			onThisHost(t, secret)
			b.StaticResources.Secrets = append(b.StaticResources.Secrets, secret)
		case resource.Cluster, resource.Listener:
		}
	}
	for _, r := range resources {
		switch r.Type {
		case resource.Cluster:
			c := &clusterv3.Cluster{}
			unmarshal(t, r.Body, c)
			if r.EDS && assignments[r.Name] == nil {
				// They are not known, which to an Envoy without a past is none.
				require.Contains(t, r.Name, "instances", "the cluster's endpoints")
				assignments[r.Name] = &endpointv3.ClusterLoadAssignment{ClusterName: r.Name}
			}
			switch {
			case !r.EDS:
			case dir == "":
				c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
				c.EdsClusterConfig = nil
				c.LoadAssignment = assignments[r.Name]
			default:
				writeEndpoints(t, dir, assignments[r.Name])
				c.EdsClusterConfig.EdsConfig = &corev3.ConfigSource{
					ResourceApiVersion: corev3.ApiVersion_V3,
					ConfigSourceSpecifier: &corev3.ConfigSource_PathConfigSource{
						PathConfigSource: &corev3.PathConfigSource{Path: endpointsFile(dir, r.Name)},
					},
				}
			}
			b.StaticResources.Clusters = append(b.StaticResources.Clusters, c)
		case resource.Listener:
			l := &listenerv3.Listener{}
			unmarshal(t, inNamespace(r, namespace), l)
			for _, chain := range l.GetFilterChains() {
				inlineRoutes(t, chain, configuration)
				inlineSecrets(t, chain)
			}
			b.StaticResources.Listeners = append(b.StaticResources.Listeners, l)
		case resource.Endpoint, resource.VirtualHost, resource.Route, resource.Secret:
		}
	}
	out, err := protojson.Marshal(b)
	require.NoError(t, err)
	return out
}

// inlineRoutes puts the route configuration that a chain asks for into it.
func inlineRoutes(t *testing.T, chain *listenerv3.FilterChain, configuration func(string) *routev3.RouteConfiguration) {
	t.Helper()
	filters := chain.GetFilters()
	config := filters[len(filters)-1].GetTypedConfig()
	hcm := &hcmv3.HttpConnectionManager{}
	if !config.MessageIs(hcm) {
		return
	}
	require.NoError(t, config.UnmarshalTo(hcm))
	if hcm.GetRds() != nil {
		hcm.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: configuration(hcm.GetRds().GetRouteConfigName())}
		require.NoError(t, config.MarshalFrom(hcm))
	}
}

// onThisHost puts a certificate in the place of files that only a proxy's host has.
func onThisHost(t *testing.T, secret *tlsv3.Secret) {
	t.Helper()
	c := secret.GetTlsCertificate()
	if file := c.GetCertificateChain().GetFilename(); file != "" {
		if _, err := os.Stat(file); err != nil {
			pair := harness.NewAuthority(t, "ca").Issue(t, harness.CertificateOptions{Name: "file"})
			c.CertificateChain.Specifier = &corev3.DataSource_InlineBytes{InlineBytes: pair.CertPEM}
			c.PrivateKey.Specifier = &corev3.DataSource_InlineBytes{InlineBytes: pair.KeyPEM}
			c.WatchedDirectory = nil
		}
	}
}

// inlineSecrets has a chain take its certificates from the bootstrap.
func inlineSecrets(t *testing.T, chain *listenerv3.FilterChain) {
	t.Helper()
	config := chain.GetTransportSocket().GetTypedConfig()
	if config == nil {
		return
	}
	context := &tlsv3.DownstreamTlsContext{}
	require.NoError(t, config.UnmarshalTo(context))
	for _, s := range context.GetCommonTlsContext().GetTlsCertificateSdsSecretConfigs() {
		s.SdsConfig = nil
	}
	if s := context.GetCommonTlsContext().GetValidationContextSdsSecretConfig(); s != nil {
		s.SdsConfig = nil
	}
	require.NoError(t, config.MarshalFrom(context))
}

// inNamespace returns the bytes that a proxy in a namespace gets.
func inNamespace(r resource.Resource, namespace string) resource.Parts {
	if own, ok := r.ByNamespace[namespace]; ok {
		return own
	}
	return r.Body
}

// inZone returns the bytes that a proxy in a zone gets.
func inZone(r resource.Resource, zone string) resource.Parts {
	if own, ok := r.ByZone[zone]; ok {
		return own
	}
	return r.Body
}

func unmarshal(t *testing.T, p resource.Parts, m proto.Message) {
	t.Helper()
	require.NoError(t, proto.Unmarshal(p.Bytes(), m))
	require.Empty(t, m.ProtoReflect().GetUnknown())
}

func endpointsFile(dir, cluster string) string {
	return filepath.Join(dir, fmt.Sprintf("%x.json", cluster))
}

// writeEndpoints puts the endpoints of a cluster where Envoy watches for them.
func writeEndpoints(t *testing.T, dir string, cla *endpointv3.ClusterLoadAssignment) {
	t.Helper()
	packed, err := anypb.New(cla)
	require.NoError(t, err)
	out, err := protojson.Marshal(&discoveryv3.DiscoveryResponse{Resources: []*anypb.Any{packed}})
	require.NoError(t, err)
	file := endpointsFile(dir, cla.GetClusterName())
	require.NoError(t, os.WriteFile(file+".new", out, 0o600))
	require.NoError(t, os.Rename(file+".new", file))
}
