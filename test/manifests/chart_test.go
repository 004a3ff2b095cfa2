package manifests_test

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/discovery/kubernetes/inject"
	"github.com/causeway-mesh/causeway/test/golden"
	"github.com/causeway-mesh/causeway/test/harness"
)

// helm runs Helm with a home of its own, so that it finds nothing of this machine's.
func helm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	home := t.TempDir()
	cmd := exec.CommandContext(t.Context(), harness.Tool(t, "helm"), args...)
	cmd.Dir = root(t)
	cmd.Env = []string{"HOME=" + home, "HELM_CACHE_HOME=" + home, "HELM_CONFIG_HOME=" + home, "HELM_DATA_HOME=" + home}
	var errors strings.Builder
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		return errors.String(), err
	}
	return string(out), nil
}

const chart = "manifests/chart"

// rendered is what Helm makes of the chart.
func rendered(t *testing.T, args ...string) string {
	t.Helper()
	out, err := helm(t, append([]string{"template", "causeway", chart, "--namespace", "causeway-system"}, args...)...)
	require.NoError(t, err, out)
	return out
}

// objectsIn returns the objects of a text of several documents, by kind, namespace and name.
func objectsIn(t *testing.T, text string) map[string]any {
	t.Helper()
	out := make(map[string]any)
	for document := range strings.SplitSeq("\n"+text, "\n---\n") {
		var o map[string]any
		require.NoError(t, yaml.Unmarshal([]byte(document), &o), document)
		if o == nil {
			continue
		}
		meta, _ := o["metadata"].(map[string]any)
		namespace, _ := meta["namespace"].(string)
		key := strings.Join([]string{o["kind"].(string), namespace, meta["name"].(string)}, " ")
		require.NotContains(t, out, key)
		out[key] = o
	}
	return out
}

// The plain YAML is what the chart makes, object for object: with injection, and without.
func TestPlainYAMLIsTheCharts(t *testing.T) {
	t.Parallel()
	plain := []string{"--values", chart + "/plain.yaml", "--set", "crds.keep=false"}

	want := objectsIn(t, build(t, filesys.MakeFsOnDisk(), filepath.Join(root(t), "manifests")))
	maps.Copy(want, objectsIn(t, read(t, "manifests", "install", "gatewayclass.yaml")))
	require.Equal(t, want, objectsIn(t, rendered(t, plain...)))

	files := release(t, "crds", "install", "inject", "gateways", ".")
	require.NoError(t, files.WriteFile("/mesh/kustomization.yaml", []byte("resources: [../release]\ncomponents: [../release/inject, ../release/gateways]\n")))
	want = objectsIn(t, build(t, files, "/mesh"))
	got := objectsIn(t, rendered(t, append(plain, "--set", "inject.enabled=true,gateways.managed=true,gatewayClass.create=false")...))
	require.Equal(t, want, got)
}

// release is a file system with the manifests of a release in /release.
func release(t *testing.T, dirs ...string) filesys.FileSystem {
	t.Helper()
	disk, files := filesys.MakeFsOnDisk(), filesys.MakeFsInMemory()
	for _, dir := range dirs {
		names, err := filepath.Glob(filepath.Join(root(t), "manifests", dir, "*.yaml"))
		require.NoError(t, err)
		for _, name := range names {
			data, err := disk.ReadFile(name)
			require.NoError(t, err)
			require.NoError(t, files.WriteFile(filepath.Join("/release", dir, filepath.Base(name)), data))
		}
	}
	return files
}

// With every value set the chart makes this.
func TestChartGolden(t *testing.T) {
	t.Parallel()
	out := rendered(t, "--values", "test/manifests/testdata/chart/values.yaml",
		"--api-versions", "monitoring.coreos.com/v1/PodMonitor", "--api-versions", "monitoring.coreos.com/v1/PrometheusRule", "--set", "crds.enabled=false")
	golden.Equal(t, "testdata/chart/rendered.golden", out)

	// Kinds that a cluster lacks are left out, and Helm says so.
	out = rendered(t, "--values", "test/manifests/testdata/chart/values.yaml", "--set", "crds.enabled=false")
	require.NotContains(t, out, "PodMonitor")
	require.NotContains(t, out, "PrometheusRule")
}

// The chart's alerts are those of manifests/alerts, and Prometheus takes them.
func TestChartAlerts(t *testing.T) {
	t.Parallel()
	out := rendered(t, "--set", "image.repository=a,metrics.rules.enabled=true", "--api-versions", "monitoring.coreos.com/v1/PrometheusRule")
	rule := objectsIn(t, out)["PrometheusRule causeway-system causeway"]
	require.NotNil(t, rule)
	var want map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "manifests", "alerts", "causeway.rules.yaml")), &want))
	spec := rule.(map[string]any)["spec"]
	require.Equal(t, want, spec)
	text, err := yaml.Marshal(spec)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "rules.yaml")
	require.NoError(t, os.WriteFile(file, text, 0o600))
	checkRules(t, file)
	require.NotContains(t, rendered(t, "--set", "image.repository=a", "--api-versions", "monitoring.coreos.com/v1/PrometheusRule"), "PrometheusRule", "off by default")
}

// The PodMonitor of the mesh's pods reads the port that injection gives them.
func TestChartMonitorsMembers(t *testing.T) {
	t.Parallel()
	out := rendered(t, "--set", "image.repository=a,metrics.members=true", "--api-versions", "monitoring.coreos.com/v1/PodMonitor")
	monitor, _ := objectsIn(t, out)["PodMonitor causeway-system causeway-members"].(map[string]any)
	text, err := json.Marshal(monitor["spec"])
	require.NoError(t, err)
	require.Contains(t, string(text), `"port":"mesh-metrics"`)
	require.Contains(t, string(text), `"key":"`+inject.Label+`"`)
	require.Contains(t, read(t, "discovery", "kubernetes", "inject", "containers.go"), `corev1.ContainerPort{{Name: "mesh-metrics"`)
	for _, line := range []string{"podMetricsEndpoints: [{port: mesh-metrics}]", "name: causeway-members"} {
		require.Contains(t, read(t, "docs", "operations.md"), line)
	}
}

// What configures injection is what the program reads.
func TestChartConfiguresInjection(t *testing.T) {
	t.Parallel()
	out := rendered(t, "--values", "test/manifests/testdata/chart/values.yaml", "--show-only", "templates/inject/config.yaml")
	var config struct{ Data map[string]string }
	require.NoError(t, yaml.Unmarshal([]byte(out), &config))
	_, err := inject.ParseConfig([]byte(config.Data["inject.yaml"]), "causeway-system", "v1")
	require.NoError(t, err)

	var known []string
	for field := range reflect.TypeFor[inject.Config]().Fields() {
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "-" {
			known = append(known, name)
		}
	}
	require.ElementsMatch(t, known, sortedKeys(schemaOf(t, chart).Properties["inject"].Properties["config"].Properties))
}

// valueSchema is what the test reads of a JSON schema.
type valueSchema struct {
	Description, Type    string
	Default              any
	Enum                 []any
	AdditionalProperties any
	Properties           map[string]*valueSchema
}

func schemaOf(t *testing.T, chart string) *valueSchema {
	t.Helper()
	var out valueSchema
	require.NoError(t, json.Unmarshal([]byte(read(t, chart, "values.schema.json")), &out))
	return &out
}

func sortedKeys[V any](m map[string]V) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// Every value is described, has a type, is known to a template, and has no neighbours that nobody knows.
func TestChartValues(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{chart, chart + "/charts/crds"} {
		var templates strings.Builder
		require.NoError(t, filepath.WalkDir(filepath.Join(root(t), dir), func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() && strings.Contains(path, "/templates/") {
				data, err := os.ReadFile(path)
				templates.Write(data)
				return err
			}
			return err
		}))
		text := templates.String()
		var walk func(path string, s *valueSchema)
		walk = func(path string, s *valueSchema) {
			require.Equal(t, false, s.AdditionalProperties, "%s takes values that nobody reads", path)
			for name, p := range s.Properties {
				at := path + "." + name
				if name == "global" { // Helm's own
					continue
				}
				require.NotEmpty(t, p.Description, at)
				require.True(t, strings.HasSuffix(p.Description, "."), "%s: %q is no sentence", at, p.Description)
				require.NotEmpty(t, p.Type, at)
				switch {
				case at == ".crds" && dir == chart: // the sub-chart's
				case at == ".inject.config": // passed on as it is
				case p.Properties != nil:
					walk(at, p)
				case at == ".enabled" && dir != chart: // the condition in Chart.yaml
				default:
					used := regexp.MustCompile(`\.` + name + `\b|get \$\.Values|"` + name + `"`).FindString(text)
					require.NotEmpty(t, used, "%s is read by no template", at)
				}
			}
		}
		walk("", schemaOf(t, dir))
	}
}

// A wrong value is refused before anything is installed, by its name.
func TestChartRefusesWrongValues(t *testing.T) {
	t.Parallel()
	for set, says := range map[string]string{
		"replicas=two":                                       "at '/replicas': got string, want integer",
		"replicas=0":                                         "at '/replicas': minimum: got 0, want 1",
		"replica=3":                                          "additional properties 'replica' not allowed",
		"logLevel=loud":                                      "at '/logLevel': value must be one of 'debug', 'info', 'warn', 'error'",
		"crds.keeep=true":                                    "at '/crds': additional properties 'keeep' not allowed",
		"image.digest=abc":                                   "at '/image/digest': 'abc' does not match pattern",
		"inject.failurePolicy=Perhaps":                       "at '/inject/failurePolicy': value must be one of 'Fail', 'Ignore'",
		"inject.config.serviceCIDR=10.96.0.0/12":             "at '/inject/config': additional properties 'serviceCIDR' not allowed",
		"ec2.roleARN=role/causeway":                          "at '/ec2/roleARN': 'role/causeway' does not match pattern",
		"metrics.monitor=Servicemonitor":                     "at '/metrics/monitor': value must be one of",
		"image.repository=":                                  "image.repository: name the image of the control plane",
		"tls.certManager.enabled=true":                       "tls.certManager.issuerRef.name: name the issuer",
		"inject.enabled=true,inject.config.capture=none":     "inject.config.image: name the image with the agent and Envoy",
		"extraArgs={log-level=debug}":                        "at '/extraArgs/0': 'log-level=debug' does not match pattern",
		"autoscaling.enabled=yes":                            "at '/autoscaling/enabled': got string, want boolean",
		"xdsLoadBalancer.sourceRanges={10.0.0.1}":            "at '/xdsLoadBalancer/sourceRanges/0': '10.0.0.1' does not match pattern",
		"networkPolicy.xdsFrom=everyone":                     "at '/networkPolicy/xdsFrom': got string, want array",
		"tls.certManager.duration=90d,image.repository=mine": "at '/tls/certManager/duration': '90d' does not match pattern",
	} {
		t.Run(set, func(t *testing.T) {
			t.Parallel()
			args := []string{"template", "causeway", chart, "--set", "image.repository=registry.example.com/causeway", "--set", set}
			out, err := helm(t, args...)
			require.Error(t, err, out)
			require.Contains(t, out, says)
		})
	}
}

// A Kubernetes that lacks what the chart installs is refused, one of a vendor's version is not.
func TestChartRefusesOldKubernetes(t *testing.T) {
	t.Parallel()
	for version, refused := range map[string]bool{"v1.29.9": true, "v1.30.0": false, "v1.31.2-eks-7f9249a": false, "v1.37.2+k3s1": false} {
		out, err := helm(t, "template", "causeway", chart, "--set", "image.repository=a", "--kube-version", version)
		require.Equal(t, refused, err != nil, "%s: %s", version, out)
		if refused {
			require.Contains(t, out, "Kubernetes is v1.29.9, and lacks admission policies: upgrade it to 1.30 or newer")
		}
	}
}
