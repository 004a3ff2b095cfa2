package inject

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestWorkloadOf(t *testing.T) {
	t.Parallel()
	hash := map[string]string{"pod-template-hash": "7d4b9c6f5"}
	for _, c := range []struct {
		kind, owner string
		labels      map[string]string
		want        string
	}{
		{"ReplicaSet", "php-web-7d4b9c6f5", hash, "php-web"},
		{"ReplicaSet", "php-web", hash, "php-web"},
		{"ReplicaSet", "-7d4b9c6f5", hash, "-7d4b9c6f5"},
		{"ReplicaSet", "shop-5c9d", map[string]string{"rollouts-pod-template-hash": "5c9d"}, "shop"},
		{"ReplicaSet", "php-web-1", nil, "php-web-1"},
		{"StatefulSet", "db", nil, "db"},
		{"DaemonSet", "logs", nil, "logs"},
		{"Job", "report-29812345", nil, "report"},
		{"Job", "migrate", nil, "migrate"},
		{"Job", "import-2026", nil, "import-2026"},
		{"Widget", "w", nil, "w"},
		{"", "", nil, "php"},
	} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "php-", Name: "php-x", Labels: c.labels}}
		if c.kind != "" {
			pod.OwnerReferences = []metav1.OwnerReference{{Kind: "Node", Name: "n"}, {Kind: c.kind, Name: c.owner, Controller: new(true)}}
		}
		require.Equal(t, c.want, workloadOf(pod), "%s %s", c.kind, c.owner)
	}
	require.Equal(t, "php-x", workloadOf(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "php-x"}}))
}

// A mistake in the configuration names its field and what to write.
func TestConfigMistakes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"{}":                       "image: it is empty",
		"image: a\n":               "serviceCIDRs: it is empty",
		"image: a b\n":             `image: "a b" is no name of an image: write, for example, registry`,
		"image: a\ncapture: all\n": `capture: "all" is neither pod nor none`,
		"image: a\ncapture: none\nservers: [a]\n":                               `servers[0]: "a" is not HOST:PORT`,
		"image: a\ncapture: none\ntlsSecret: A_B\n":                             `tlsSecret: "A_B" is no name of a Secret`,
		"image: a\nserviceCIDRs: [10.96.0.0]\n":                                 `serviceCIDRs[0]: "10.96.0.0" is no range`,
		"image: a\ncapture: none\nexcludeOutboundPorts: [9-1]\n":                `excludeOutboundPorts[0]: "9-1" is neither`,
		"image: a\ncapture: none\nexcludeInboundPorts: [http]\n":                `excludeInboundPorts[0]: "http" is neither`,
		"image: a\ncapture: none\nexcludeOutboundCIDRs: [x]\n":                  `excludeOutboundCIDRs[0]: "x" is no range`,
		"image: a\ncapture: none\nexcludeOutboundCIDRs: [10.2.0.1/16]\n":        `excludeOutboundCIDRs[0]: "10.2.0.1/16" has bits beyond its length: write 10.2.0.0/16`,
		"image: a\ncapture: none\ndrainTimeout: -1s\n":                          "drainTimeout: -1s is negative",
		"image: a\ncapture: none\nimagePullPolicy: Sometimes\n":                 `imagePullPolicy: "Sometimes" is not`,
		"image: a\ncapture: none\nimagge: b\n":                                  `unknown field "imagge": the fields are capture, `,
		"image: a\ncapture: none\ndrainTimeout: 60\n":                           "drainTimeout: cannot unmarshal number into Go value of type string: write, for example, drainTimeout: 60s",
		"image: a\nserviceCIDRs: 10.96.0.0/12\n":                                "serviceCIDRs: cannot unmarshal string into",
		"image: a\ncapture: none\nresources: {limits: {memory: 512MB}}\n":       "resources: quantities must match",
		"image: a\ncapture: none\nresources: {limit: {memory: 512Mi}}\n":        `resources: unknown field "limit": write, for example, resources: {limits: {memory: 512Mi}}`,
		"image: a\nimage: b\n":                                                  "it is not YAML with fields: unmarshal errors:\n  line 2: key \"image\" already set in map",
		"- a\n":                                                                 "it is not YAML with fields: ",
		"image: a\nserviceCIDRs: [" + strings.Repeat("10.0.0.0/8,", 17) + "]\n": "serviceCIDRs: it has 17 ranges: write 16 at most",
	} {
		_, err := ParseConfig([]byte(text), "causeway-system", "v1")
		require.ErrorContains(t, err, want)
	}
}

// Each field has an example, which is right.
func TestConfigExamples(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	for field, example := range examples {
		fmt.Fprintf(&text, "%s: %s\n", field, example)
	}
	_, err := ParseConfig([]byte(text.String()), "causeway-system", "v1")
	require.NoError(t, err)
	fields := 0
	for field := range reflect.TypeFor[Config]().Fields() {
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "-" {
			require.Contains(t, examples, name)
			fields++
		}
	}
	require.Len(t, examples, fields)
}

// A pod that wants capture where nobody has said which addresses are Services' is refused.
func TestCaptureNeedsRanges(t *testing.T) {
	t.Parallel()
	_, _, _, _, err := injectPod(t, strings.Replace(usualPod, "namespace: web", "namespace: web, annotations: {mesh.causeway.dev/capture: pod}", 1),
		usualNamespace, configOf(t, "image: a\ncapture: none\n"))
	require.ErrorContains(t, err, "write serviceCIDRs in the configuration of injection")
}

// A pod with more ports than a listener tells apart is refused, unless it leaves some out.
func TestManyPorts(t *testing.T) {
	t.Parallel()
	var ports []string
	for i := range 130 {
		ports = append(ports, fmt.Sprintf("{containerPort: %d}", 30000+i))
	}
	pod := strings.Replace(usualPod, "image: php}", "image: php, ports: ["+strings.Join(ports, ", ")+"]}", 1)
	_, _, _, _, err := injectPod(t, pod, usualNamespace, configOf(t, usual))
	require.ErrorContains(t, err, "its containers have 130 ports, and 128 are captured at most")
	_, _, _, _, err = injectPod(t, pod, usualNamespace, configOf(t, usual+"excludeInboundPorts: [30100-40000]\n"))
	require.NoError(t, err)
}

// What has no pods, or none to inject, stays to the byte; what is injected keeps its text where it stands in lines.
func TestFiles(t *testing.T) {
	t.Parallel()
	c := configOf(t, usual)
	const (
		other  = "# a header\r\napiVersion: v1\nkind: ConfigMap   # of ours\nmetadata: {name: a}\ndata: {x: \"yes\"}\n\n"
		helm   = "---\n# Source: chart/templates/a.yaml\n\n---   # empty\n--- {apiVersion: v1, kind: Service, metadata: {name: s}}\n"
		opted  = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: out, labels: {mesh.causeway.dev/inject: \"false\"}}\nspec: {containers: []}\n"
		inLine = "---\n# gone\napiVersion: v1\nkind: Pod\nmetadata: {name: in-line}\nspec: {containers: [{name: a, image: a}]}\n"
		lines  = "---\napiVersion: v1\nkind: Pod\n# stays\nmetadata:\n  name: lines\nspec:\n  containers:\n  - name: a\n    image: a # stays\n"
		list   = "---\napiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata:\n    name: one\n  spec:\n    containers: [] # stays\n" +
			"- apiVersion: v1\n  kind: Service\n- apiVersion: apps/v1\n  kind: Deployment\n  metadata:\n    name: two\n  spec:\n    template:\n      metadata:\n        labels: {a: b}\n      spec:\n        containers: []\n"
		shared = "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: shared}\nspec:\n  selector: {matchLabels: &l {a: b}}\n  template:\n    metadata:\n      labels: *l\n    spec:\n      containers: []\n"
		broken = "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: no-pods}\n"
		same   = other + helm + opted
		whole  = same + inLine + lines + list + shared + broken
	)
	out, notes, err := Files([]byte(same), "web", c)
	require.NoError(t, err)
	require.Equal(t, strings.ReplaceAll(same, "--- {", "---\n    {"), string(out))
	require.Len(t, notes, 1)

	out, notes, err = Files([]byte(whole), "web", c)
	require.NoError(t, err)
	var told []string
	for _, n := range notes {
		told = append(told, n.String())
	}
	require.Equal(t, []string{
		`Pod web/out: as it was: its label mesh.causeway.dev/inject is "false"`,
		"Pod web/in-line: injected", "Pod web/lines: injected", "Pod web/one: injected", "Deployment web/two: injected", "Deployment web/shared: injected",
	}, told)
	kept(t, lines+list+shared+broken, string(out))
	require.NotContains(t, string(out), "# gone")
	require.Equal(t, 6-1, strings.Count(string(out), "name: "+ProxyName+"\n"))

	// Windows' line ends stay.
	out, _, err = Files([]byte(strings.ReplaceAll(lines, "\n", "\r\n")), "web", c)
	require.NoError(t, err)
	require.Equal(t, strings.Count(string(out), "\n"), strings.Count(string(out), "\r\n"))

	_, _, err = Files([]byte(same+"---\na: [\n"), "web", c)
	require.ErrorContains(t, err, "the document at line 17 is not YAML: line")
	_, _, err = Files([]byte("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: 7}\n"), "web", c)
	require.ErrorContains(t, err, "the document at line 1: Pod web/a: its pod cannot be read")
}

// A label or annotation without quotes, such as false, is told; the pod is not passed over without a word.
func TestFilesUnquoted(t *testing.T) {
	t.Parallel()
	const (
		pod        = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, %s}\nspec: {containers: []}\n"
		deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {template: {metadata: {%s}, spec: {containers: []}}}\n"
		namespace  = "apiVersion: v1\nkind: Namespace\nmetadata: {name: web, %s}\n"
	)
	for _, c := range []struct{ text, metadata, want string }{
		{pod, "labels: {mesh.causeway.dev/inject: false}", "Pod a: its label mesh.causeway.dev/inject is no text, but false: put it in quotes"},
		{pod, "annotations: {mesh.causeway.dev/exclude-outbound-ports: 3306}", "Pod a: its annotation mesh.causeway.dev/exclude-outbound-ports is no text, but 3306: put it in quotes"},
		{deployment, "annotations: {mesh.causeway.dev/capture-inbound: false}", "Deployment web/d: its pod: its annotation mesh.causeway.dev/capture-inbound is no text, but false: put it in quotes"},
		{namespace, "annotations: {mesh.causeway.dev/capture-inbound: false}", "Namespace web: its annotation mesh.causeway.dev/capture-inbound is no text, but false: put it in quotes"},
		{pod, "namespace: 7", "Pod a: its metadata cannot be read: "},
	} {
		out, _, err := Files(fmt.Appendf(nil, c.text, c.metadata), "web", configOf(t, usual))
		require.ErrorContains(t, err, "the document at line 1: "+c.want)
		require.Empty(t, out)
	}
}

// Whatever is in a file, what comes out is as good as what went in, and a second time changes nothing.
func FuzzFiles(f *testing.F) {
	f.Add([]byte(usualPod))
	f.Add([]byte(usualNamespace + "---" + usualPod))
	f.Add([]byte("apiVersion: v1\nkind: List\nitems:\n- &p\n  apiVersion: v1\n  kind: Pod\n  spec: {}\n- *p\n"))
	f.Add([]byte("kind: Deployment\napiVersion: apps/v1\nspec:\n  template:\n    spec:\n      volumes: null\n      initContainers:\n      - name: a\n"))
	c, err := ParseConfig([]byte(usual), "causeway-system", "v0.2.0")
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, text []byte) {
		out, notes, err := Files(text, "web", c)
		if err != nil {
			return
		}
		again, more, err := Files(out, "web", c)
		require.NoError(t, err)
		require.Equal(t, string(out), string(again))
		require.Len(t, more, len(notes))
		for _, n := range more {
			require.False(t, n.Injected)
		}
	})
}
