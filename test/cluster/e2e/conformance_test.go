package e2e_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/gateway-api/pkg/features"

	"github.com/causeway-mesh/causeway/test/cluster"
	"github.com/causeway-mesh/causeway/test/harness"
)

// conformanceProfiles are what is claimed.
var conformanceProfiles = []string{"GATEWAY-HTTP", "GATEWAY-GRPC", "GATEWAY-TLS", "GATEWAY-TCP", "MESH-HTTP", "MESH-GRPC"}

// meshFeatures are what a mesh has beside the core: a GatewayClass cannot say so.
var meshFeatures = []features.FeatureName{
	features.SupportMesh, features.SupportMeshClusterIPMatching, features.SupportMeshConsumerRoute, features.SupportMeshHTTPRouteRewritePath,
	features.SupportMeshHTTPRouteSchemeRedirect, features.SupportMeshHTTPRouteRedirectPort, features.SupportMeshHTTPRouteRedirectPath,
	features.SupportMeshHTTPRouteBackendRequestHeaderModification, features.SupportMeshHTTPRouteQueryParamMatching, features.SupportMeshHTTPRouteNamedRouteRule,
}

// The Gateway API's own conformance suite, its tests as they are, with managed Gateways and injected pods. `make conformance`
// runs it and leaves its report and its log in test/conformance/last.
func TestConformance(t *testing.T) {
	c := attach(t)
	if os.Getenv("CAUSEWAY_CONFORMANCE") == "" {
		t.Skip("it runs for minutes: make conformance")
	}
	dir := c.userDirectory(t)
	c.removeRest(t, dir)
	c.conformanceImages(t)
	c.addInjection(t, dir)
	c.addGateways(t, dir)
	c.install(t, dir)
	t.Cleanup(func() { c.removeRest(t, dir) })
	c.apply(t, parameters("replicas: 1"))
	// The role for certificates is bound in each namespace as a rule; the suite makes its namespaces itself.
	c.kubectl(t, "create", "clusterrolebinding", "conformance", "--clusterrole=causeway-gateway-secrets", "--serviceaccount="+system+":causeway")
	t.Cleanup(func() { c.kubectl(t, "delete", "clusterrolebinding", "conformance") })
	supported := c.supportedFeatures(t)
	out := filepath.Join(c.root(t), "test", "conformance", "last")
	require.NoError(t, os.MkdirAll(out, 0o755))

	args := []string{
		"-test.run", "^TestConformance$", "-test.v", "-test.timeout", "50m",
		"-gateway-class", "causeway", "-conformance-profiles", strings.Join(conformanceProfiles, ","), "-supported-features", supported,
		"-namespace-labels", "mesh.causeway.dev/inject=enabled", "-usable-address", "10.96.200.10", "-unusable-address", "0.0.0.0",
		"-organization", "causeway-mesh", "-project", "causeway", "-url", "https://github.com/causeway-mesh/causeway", "-version", version(t, c),
		"-contact", "https://github.com/causeway-mesh/causeway/issues", "-report-output", filepath.Join(out, "report.yaml"),
	}
	if more := os.Getenv("CAUSEWAY_CONFORMANCE_FLAGS"); more != "" {
		args = append(args, strings.Fields(more)...)
	}
	suite := c.Command(t.Context(), conformanceTool(t, c, "conformance.test"), args...)
	suite.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig())
	var said bytes.Buffer
	log, err := os.Create(filepath.Join(out, "conformance.log"))
	require.NoError(t, err)
	defer log.Close()
	suite.Stdout = io.MultiWriter(&said, log)
	suite.Stderr = suite.Stdout
	require.NoError(t, c.Start(suite))
	err = suite.Wait()
	results := regexp.MustCompile(`(?m)^ {4}--- (PASS|FAIL|SKIP): TestConformance/(\S+)`).FindAllStringSubmatch(said.String(), -1)
	count := make(map[string]int)
	for _, r := range results {
		count[r[1]]++
		if r[1] != "PASS" {
			t.Logf("%s %s", r[1], r[2])
		}
	}
	t.Logf("%v; report and log are in %s", count, out)
	require.NoError(t, err)
	require.Positive(t, count["PASS"])
	require.Zero(t, count["FAIL"])
}

// supportedFeatures are those that the GatewayClass states, and the mesh's.
func (c *onCluster) supportedFeatures(t *testing.T) string {
	t.Helper()
	var names []string
	for _, f := range meshFeatures {
		names = append(names, string(f))
	}
	harness.Eventually(t, 30*time.Second, "the GatewayClass to say what it supports", func() error {
		stated := strings.Fields(c.kubectl(t, "get", "gatewayclass", "causeway", "-o", "jsonpath={.status.supportedFeatures[*].name}"))
		if !slices.Contains(stated, "GatewayAddressEmpty") { // of managed Gateways
			return fmt.Errorf("it says %v", stated)
		}
		names = append(names[:len(meshFeatures)], stated...)
		return nil
	})
	return strings.Join(names, ",")
}

// conformanceTool is where `test/tools/get conformance` has put a program. make test does not get them.
func conformanceTool(t *testing.T, c *onCluster, name string) string {
	t.Helper()
	path := filepath.Join(cmp.Or(os.Getenv("CAUSEWAY_TOOLS"), filepath.Join(c.root(t), ".tools")), "bin", name)
	_, err := os.Stat(path)
	require.NoError(t, err, "run `make conformance`")
	return path
}

// version is that of the tree.
func version(t *testing.T, c *onCluster) string {
	t.Helper()
	git := exec.CommandContext(t.Context(), "git", "describe", "--tags", "--always")
	git.Dir = c.root(t)
	out, err := git.Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(out))
}

// conformanceImages gives the node the servers of the suite under the names that its manifests have.
func (c *onCluster) conformanceImages(t *testing.T) {
	t.Helper()
	list := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api/conformance")
	tools := filepath.Dir(filepath.Dir(conformanceTool(t, c, "conformance.test")))
	list.Dir, list.Env = filepath.Join(tools, "conformance", "suite"), append(os.Environ(), "GOTOOLCHAIN=auto", "GOFLAGS=-mod=readonly")
	module, err := list.Output()
	require.NoError(t, err)
	text, err := exec.CommandContext(t.Context(), "grep", "-rhoE", `image: \S+`, strings.TrimSpace(string(module))).Output()
	require.NoError(t, err)
	names := strings.Fields(strings.ReplaceAll(string(text), "image: ", ""))
	slices.Sort(names)
	certificate := harness.NewAuthority(t, "echo").Issue(t, harness.CertificateOptions{Hosts: []string{"echo"}})
	for _, name := range slices.Compact(names) {
		image := cluster.Image{Name: name, Files: []cluster.File{{Path: "/tmp", Folder: true}}}
		switch {
		case strings.Contains(name, "/echo-basic:"):
			image.Entrypoint = []string{"/echo-basic"}
			image.Files = append(image.Files, cluster.File{Path: "/echo-basic", From: conformanceTool(t, c, "echo-basic")})
		case strings.Contains(name, "/echo-advanced:"):
			image.Entrypoint = []string{"/usr/local/bin/server"}
			image.Files = append(image.Files,
				cluster.File{Path: "/usr/local/bin/server", From: conformanceTool(t, c, "istio-echo-server")},
				cluster.File{Path: "/usr/local/bin/client", From: conformanceTool(t, c, "istio-echo-client")},
				cluster.File{Path: "/cert.crt", Text: string(certificate.CertPEM)},
				cluster.File{Path: "/cert.key", Text: string(certificate.KeyPEM)})
		default:
			t.Fatalf("nothing is known to be the suite's image %s", name)
		}
		within, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		_, err := c.Load(within, image)
		cancel()
		require.NoError(t, err, fmt.Sprint("image ", name))
	}
}
