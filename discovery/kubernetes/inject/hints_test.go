package inject

import (
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
  its annotation mesh.causeway.dev/exclude-outbound-port is none that injection knows: did you mean mesh.causeway.dev/exclude-outbound-ports?
  its annotation mesh.causeway.dev/inject does nothing: it is a label
  its label mesh.causeway.dev/capture does nothing: it is an annotation
  its own annotation mesh.causeway.dev/capture does nothing: write it into the template of its pods
  its own label mesh.causeway.dev/inject does nothing: write it into the template of its pods`, notes[0].String())
}
