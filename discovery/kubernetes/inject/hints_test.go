package inject

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What looks like a word to injection and is none is told, where it stands and what was meant.
func TestHints(t *testing.T) {
	t.Parallel()
	c, err := ParseConfig([]byte(usual), "causeway-system", "v0.2.0")
	require.NoError(t, err)
	_, notes, err := Files([]byte(`apiVersion: apps/v1
kind: Deployment
metadata:
  name: php
  labels: {mesh.causeway.dev/inject: "false"}
  annotations: {mesh.causeway.dev/capture: none, other.example.com/capture: none}
spec:
  template:
    metadata:
      labels: {app: php, mesh.causeway.dev/capture: none}
      annotations:
        mesh.causeway.dev/exclude-outbound-port: "3306"
        mesh.causeway.dev/inject: "true"
        mesh.causeway.dev/workload: php
    spec: {containers: [{name: php, image: php}]}
`), "web", c)
	require.NoError(t, err)
	require.Len(t, notes, 1)
	require.Equal(t, `Deployment web/php: injected
warning: Deployment web/php: its annotation mesh.causeway.dev/exclude-outbound-port is none that injection knows: did you mean mesh.causeway.dev/exclude-outbound-ports?
warning: Deployment web/php: its annotation mesh.causeway.dev/inject does nothing: it is a label
warning: Deployment web/php: its label mesh.causeway.dev/capture does nothing: it is an annotation
warning: Deployment web/php: its own annotation mesh.causeway.dev/capture does nothing: write it into the template of its pods
warning: Deployment web/php: its own label mesh.causeway.dev/inject does nothing: write it into the template of its pods`, notes[0].String())
}

// So is what a Namespace says that does nothing, and what was probably meant to have pods.
func TestHintsWithoutPods(t *testing.T) {
	t.Parallel()
	c := configOf(t, usual)
	namespace := func(metadata string) string {
		return "apiVersion: v1\nkind: Namespace\nmetadata: {name: web, " + metadata + "}\n"
	}
	object := func(apiVersion, kind string) string {
		return "apiVersion: " + apiVersion + "\nkind: " + kind + "\nmetadata: {name: a}\nspec: {template: {spec: {containers: []}}}\n"
	}
	for text, want := range map[string]string{
		namespace("labels: {mesh.causeway.dev/inject: enbled}"):       `warning: Namespace web: its label mesh.causeway.dev/inject is "enbled", which does nothing: write "enabled"`,
		namespace(`labels: {mesh.causeway.dev/inject: "true"}`):       `warning: Namespace web: its label mesh.causeway.dev/inject is "true", which does nothing: write "enabled"`,
		namespace("labels: {mesh.causeway.dev/injection: enabled}"):   "warning: Namespace web: its label mesh.causeway.dev/injection is none that injection knows: did you mean mesh.causeway.dev/inject?",
		namespace("labels: {mesh.causway.dev/inject: enabled}"):       "warning: Namespace web: its label mesh.causway.dev/inject is none that injection knows: did you mean mesh.causeway.dev/inject?",
		namespace("annotations: {mesh.causeway.dev/inject: enabled}"): "warning: Namespace web: its annotation mesh.causeway.dev/inject does nothing: it is a label",
		namespace("annotations: {mesh.causeway.dev/captur: none}"):    "warning: Namespace web: its annotation mesh.causeway.dev/captur is none that injection knows: did you mean mesh.causeway.dev/capture?",
		namespace("annotations: {mesh.causeway.dev/workload: php}"):   "warning: Namespace web: its annotation mesh.causeway.dev/workload does nothing: write it into the templates of pods",
		namespace("labels: {mesh.causeway.dev/inject: enabled}"):      "nothing in it has pods: all stays as it was",
		namespace("labels: {mesh.causeway.dev/inject: disabled}"):     "nothing in it has pods: all stays as it was",
		namespace("labels: {kubernetes.io/metadata.name: web}"):       "nothing in it has pods: all stays as it was",
		object("apps/v1", "deployment"):                               "warning: deployment web/a: it is passed over: kind deployment is none that has pods: did you mean Deployment?",
		object("apps/v1", "StatefullSet"):                             "warning: StatefullSet web/a: it is passed over: kind StatefullSet is none that has pods: did you mean StatefulSet?",
		object("batch/v1beta1", "CronJob"):                            `warning: CronJob web/a: it is passed over: its apiVersion is "batch/v1beta1": did you mean batch/v1?`,
		object("v1", "Deployment"):                                    `warning: Deployment web/a: it is passed over: its apiVersion is "v1": did you mean apps/v1?`,
		object("example.com/v1", "Deployment"):                        "nothing in it has pods: all stays as it was",
		object("v1", "PodTemplate"):                                   "nothing in it has pods: all stays as it was",
		object("v1", "Node"):                                          "nothing in it has pods: all stays as it was",
		object("apps/v1", "ControllerRevision"):                       "nothing in it has pods: all stays as it was",
		"kind: Kustomization\nresources: [a.yaml]\n# no apiVersion\n": "nothing in it has pods: all stays as it was",
	} {
		out, notes, err := Files([]byte(text), "web", c)
		require.NoError(t, err, text)
		require.Equal(t, text, string(out))
		told, refused := Told(notes)
		require.False(t, refused)
		require.Equal(t, want+"\n", told, text)
	}
}

// Of a run that refuses a pod nothing is printed, and nothing is said to be injected.
func TestToldOfARefusal(t *testing.T) {
	t.Parallel()
	pod := func(name, more string) string {
		return "---\napiVersion: v1\nkind: Pod\nmetadata: {name: " + name + "}\nspec: {containers: [{name: a, image: a}]" + more + "}\n"
	}
	_, notes, err := Files([]byte(pod("good", "")+pod("bad", ", hostNetwork: true")), "web", configOf(t, usual))
	require.NoError(t, err)
	told, refused := Told(notes)
	require.True(t, refused)
	require.Contains(t, told, "Pod web/good: not printed, because another one is refused\nerror: Pod web/bad: refused: it has hostNetwork: true")
	require.NotContains(t, told, "injected\n")
}

// Ports that the API server refuses are refused offline too.
func TestPortsThatThereAreNot(t *testing.T) {
	t.Parallel()
	for port, want := range map[string]string{
		"containerPort: 70000":             "its container a has ports[0].containerPort: 70000: it must be between 1 and 65535, inclusive",
		"containerPort: 0":                 "its container a has ports[0].containerPort: 0: it must be",
		"containerPort: 80, hostPort: -1":  "its container a has ports[0].hostPort: -1: it must be",
		"containerPort: 80, protocol: tcp": `its container a has ports[0].protocol: "tcp": it must be TCP, UDP or SCTP`,
	} {
		_, notes, err := Files([]byte("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: a, ports: [{"+port+"}]}]}\n"), "web", configOf(t, usual))
		require.NoError(t, err)
		require.True(t, notes[0].Refused, port)
		require.Contains(t, notes[0].Why, want)
	}
}

// An address without a length is one address, in the configuration and in annotations, as for causeway agent capture.
func TestOneAddressIsExcluded(t *testing.T) {
	t.Parallel()
	out, notes, err := Files([]byte("apiVersion: v1\nkind: Pod\nmetadata: {name: a, annotations: {mesh.causeway.dev/exclude-outbound-cidrs: \"192.0.2.7, 2001:db8::7\"}}\n"+
		"spec: {containers: [{name: a, image: a}]}\n"), "web", configOf(t, usual+"excludeOutboundCIDRs: [192.0.2.8]\n"))
	require.NoError(t, err)
	require.True(t, notes[0].Injected, notes[0].Why)
	require.Contains(t, string(out), "192.0.2.8,192.0.2.7,2001:db8::7")
	for _, wrong := range []string{"fe80::1%eth0", "::ffff:192.0.2.1", "192.0.2", "192.0.2.7/8"} {
		require.Error(t, isAddresses(wrong), wrong)
	}
}

// Names of images are those that registries know.
func TestIsImage(t *testing.T) {
	t.Parallel()
	digest := "@sha256:" + strings.Repeat("0a", 32)
	for _, right := range []string{"a", "a:v1", "a/b__c/d--e:v1", "localhost:5000/a", "[::1]:5000/a/b" + digest, "registry.example.com/platform/causeway-agent:v0.2.0" + digest, "123456789012.dkr.ecr.ap-northeast-1.amazonaws.com/a:V_1.0-x"} {
		require.NoError(t, isImage(right), right)
	}
	for _, wrong := range []string{"a:", "A/b:v1:", "my image", "http://a/b", "a//b", "Agent:v1", "a:v1@sha256:12", " a", "a/", "a:" + strings.Repeat("v", 129)} {
		require.ErrorContains(t, isImage(wrong), "is no name of an image: write, for example, registry.example.com/platform/causeway-agent:v0.2.0", wrong)
	}
}
