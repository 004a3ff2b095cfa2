package inject

import (
	stdjson "encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/test/golden"
)

// usual is the configuration of cases that have none of their own.
const usual = `
image: registry.example.com/platform/causeway-agent:v0.2.0
serviceCIDRs: [10.96.0.0/12]
`

// usualNamespace is the namespace of cases that have none of their own.
const usualNamespace = `
apiVersion: v1
kind: Namespace
metadata:
  name: web
  labels: {mesh.causeway.dev/inject: enabled}
`

// usualPod is what all others are compared with: of what is injected, golden files have what differs from its.
const usualPod = `
apiVersion: v1
kind: Pod
metadata: {name: php-web, namespace: web}
spec: {containers: [{name: php, image: php}]}
`

func configOf(t *testing.T, text string) *Config {
	t.Helper()
	c, err := ParseConfig([]byte(text), "causeway-system", "v0.2.0")
	require.NoError(t, err)
	return c
}

// injectPod does as the webhook does.
func injectPod(t *testing.T, pod, namespace string, c *Config) (text, patched []byte, i *Injection, why string, err error) {
	t.Helper()
	text, err = yaml.YAMLToJSON([]byte(pod))
	require.NoError(t, err)
	var p corev1.Pod
	var ns corev1.Namespace
	require.NoError(t, stdjson.Unmarshal(text, &p))
	require.NoError(t, yaml.Unmarshal([]byte(namespace), &ns))
	i, why, err = Inject(&p, "", Namespace{ns.Name, ns.Labels, ns.Annotations}, c)
	if i != nil {
		patched = patch(t, text, i.Patch(&p))
	}
	return text, patched, i, why, err
}

// patch applies a patch of additions as RFC 6902 has it.
func patch(t *testing.T, text []byte, operations []Operation) []byte {
	t.Helper()
	var root any
	require.NoError(t, stdjson.Unmarshal(text, &root))
	for _, o := range operations {
		require.Equal(t, "add", o.Op)
		value, err := stdjson.Marshal(o.Value)
		require.NoError(t, err)
		var decoded any
		require.NoError(t, stdjson.Unmarshal(value, &decoded))
		steps := strings.Split(o.Path, "/")[1:]
		root = added(t, root, steps, decoded)
	}
	out, err := stdjson.Marshal(root)
	require.NoError(t, err)
	return out
}

func added(t *testing.T, to any, steps []string, value any) any {
	t.Helper()
	name := strings.NewReplacer("~1", "/", "~0", "~").Replace(steps[0])
	switch to := to.(type) {
	case map[string]any:
		if len(steps) == 1 {
			to[name] = value
		} else {
			require.Contains(t, to, name)
			to[name] = added(t, to[name], steps[1:], value)
		}
		return to
	case []any:
		at, err := strconv.Atoi(name)
		require.NoError(t, err)
		require.LessOrEqual(t, at, len(to))
		require.Len(t, steps, 1)
		return append(to[:at:at], append([]any{value}, to[at:]...)...)
	}
	t.Fatalf("%T has no %s", to, name)
	return nil
}

// additions is what is added to a pod, as YAML.
func additions(t *testing.T, i *Injection) string {
	t.Helper()
	out, err := yaml.Marshal(map[string]any{"annotations": i.Annotations, "initContainers": i.InitContainers, "volumes": i.Volumes})
	require.NoError(t, err)
	return string(out)
}

// difference returns the lines that only one of two texts has.
func difference(before, after string) string {
	count := make(map[string]int)
	for line := range strings.Lines(before) {
		count[line]++
	}
	var more strings.Builder
	for line := range strings.Lines(after) {
		if count[line]--; count[line] < 0 {
			more.WriteString("+ " + line)
		}
	}
	var fewer strings.Builder
	for line := range strings.Lines(before) {
		if count[line]--; count[line] >= 0 {
			fewer.WriteString("- " + line)
		}
	}
	return fewer.String() + more.String()
}

func TestInjectGolden(t *testing.T) {
	t.Parallel()
	_, _, reference, _, err := injectPod(t, usualPod, usualNamespace, configOf(t, usual))
	require.NoError(t, err)
	golden.Equal(t, "testdata/usual.yaml", additions(t, reference))
	golden.Cases{
		Files: "testdata/pods/*.txtar",
		Given: []string{"kubernetes", "config", "namespace", "object"},
		Made:  []string{"outcome", "containers", "differs"},
	}.Run(t, func(t *testing.T, given map[string]string) map[string]string {
		t.Helper()
		config, namespace := usual, usualNamespace
		if given["config"] != "" {
			config = given["config"]
		}
		if given["namespace"] != "" {
			namespace = given["namespace"]
		}
		c := configOf(t, config)
		c.Kubernetes = strings.TrimSpace(given["kubernetes"])

		// As a file.
		whole := namespace + "---\n" + given["object"]
		out, notes, err := Files([]byte(whole), "web", c)
		require.NoError(t, err)
		require.Len(t, notes, 1)
		outcome := notes[0].String()
		if !notes[0].Injected {
			require.Equal(t, whole, string(out), "nothing changes")
		}
		if !strings.Contains(whole, AnnotationInjected+":") { // else a line changes, and all is written anew
			kept(t, whole, string(out))
		}

		// What is injected is not injected again, also by another version.
		later := *c
		later.Version = "v0.3.0"
		for _, again := range []*Config{c, &later} {
			twice, notes, err := Files(out, "web", again)
			require.NoError(t, err)
			require.False(t, notes[0].Injected)
			require.Equal(t, string(out), string(twice))
		}

		pod, injection := given["object"], (*Injection)(nil)
		if strings.Contains(pod, "kind: Pod\n") {
			// As the API server's: the same comes out.
			text, patched, i, why, err := injectPod(t, pod, namespace, c)
			switch {
			case err != nil:
				outcome = "Refused: " + err.Error()
				require.Contains(t, notes[0].String(), err.Error())
			case i == nil:
				outcome = "As it was: " + why
			default:
				injection, outcome = i, "Injected"
				fromFile, err := yaml.YAMLToJSON(out[len(namespace)+4:])
				require.NoError(t, err)
				require.JSONEq(t, string(fromFile), string(patched))
				ownUnchanged(t, text, patched)
			}
		} else if notes[0].Injected {
			injection = injectionOf(t, out, given["object"], namespace, c)
		}
		if injection == nil {
			return map[string]string{"outcome": outcome + "\n"}
		}
		return map[string]string{
			"outcome":    outcome + " as " + injection.Workload + "\n",
			"containers": containersOf(t, out),
			"differs":    difference(additions(t, reference), additions(t, injection)),
		}
	})
}

// kept requires that all lines of a text are in another in their order.
func kept(t *testing.T, before, after string) {
	t.Helper()
	rest := strings.SplitAfter(after, "\n")
	for line := range strings.Lines(before) {
		for len(rest) > 0 && rest[0] != line {
			rest = rest[1:]
		}
		require.NotEmpty(t, rest, "the line is gone or elsewhere: %s", line)
		rest = rest[1:]
	}
}

// ownUnchanged requires that a pod's own parts are as they were.
func ownUnchanged(t *testing.T, before, after []byte) {
	t.Helper()
	var a, b map[string]any
	require.NoError(t, stdjson.Unmarshal(before, &a))
	require.NoError(t, stdjson.Unmarshal(after, &b))
	spec := func(o map[string]any) map[string]any { return o["spec"].(map[string]any) }
	own, now := spec(a), spec(b)
	for _, name := range []string{"initContainers", "volumes"} {
		was, _ := own[name].([]any)
		is := now[name].([]any)
		require.Equal(t, fmt.Sprint(was), fmt.Sprint(is[len(is)-len(was):]), name)
		delete(own, name)
		delete(now, name)
	}
	require.Equal(t, own, now)
}

// decodedPod returns the pod, or the template, of the last document of a text.
func decodedPod(t *testing.T, text string) (pod *corev1.Pod, workload string) {
	t.Helper()
	d := split([]byte(text))
	last := &d[len(d)-1]
	require.NoError(t, last.parse())
	o := last.objects()[0].value
	m, err := metaOf(o)
	require.NoError(t, err)
	for _, name := range templates[m.APIVersion+"/"+m.Kind] {
		o = o[name].(map[string]any)
	}
	pod = &corev1.Pod{}
	require.NoError(t, into(o, pod))
	return pod, m.Name
}

func injectionOf(t *testing.T, _ []byte, object, namespace string, c *Config) *Injection {
	t.Helper()
	pod, workload := decodedPod(t, object)
	var ns corev1.Namespace
	require.NoError(t, yaml.Unmarshal([]byte(namespace), &ns))
	i, _, err := Inject(pod, workload, Namespace{ns.Name, ns.Labels, ns.Annotations}, c)
	require.NoError(t, err)
	return i
}

// containersOf returns the names of the last document's containers, in the order in which they start.
func containersOf(t *testing.T, text []byte) string {
	t.Helper()
	pod, _ := decodedPod(t, string(text))
	var out strings.Builder
	for _, c := range pod.Spec.InitContainers {
		kind := "init"
		if c.RestartPolicy != nil {
			kind = "sidecar"
		}
		fmt.Fprintf(&out, "%s %s\n", kind, c.Name)
	}
	for _, c := range pod.Spec.Containers {
		fmt.Fprintf(&out, "main %s\n", c.Name)
	}
	return out.String()
}
