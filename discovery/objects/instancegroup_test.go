package objects

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Files must take what the API server takes, with the same defaults, and
// refuse what it refuses: an SRE moves objects from one to the other.
func TestFilesTakeWhatTheCRDTakes(t *testing.T) {
	instanceGroups, err := compileSchema("crds/mesh.causeway.dev_instancegroups.yaml")
	require.NoError(t, err)
	kind, _ := Named(discovery.KindInstanceGroup)
	const base = `
apiVersion: mesh.causeway.dev/v1alpha1
kind: InstanceGroup
metadata: {name: ec2, namespace: web}
spec:
  serviceRef: {name: php-web}
  region: ap-northeast-1
  selector: {autoScalingGroups: [php-web]}
  ports: [{name: http, port: 80}]
`
	long := strings.Repeat("x", 2000)
	many := func(n int, item string) string { return strings.TrimSuffix(strings.Repeat(item+", ", n), ", ") }
	var mutations []string
	for _, c := range []struct {
		field  string
		values []string
	}{
		{"serviceRef: {name: php-web}", []string{"serviceRef: {}", "serviceRef: {name: ''}", "serviceRef: {name: " + long[:63] + "}", "serviceRef: {name: " + long[:64] + "}", "serviceRef: {name: a, kind: b}", ""}},
		{"region: ap-northeast-1", []string{"", "region: ''", "region: tokyo", "region: us-gov-east-1", "region: ap-northeast-1a", "region: 1"}},
		{"selector: {autoScalingGroups: [php-web]}", []string{
			"", "selector: {}", "selector: {tags: {}}", "selector: {autoScalingGroups: []}", "selector: {tags: {a: b}}",
			"selector: {tags: {a: 1}}", "selector: {autoScalingGroups: [a, a]}", "selector: {autoScalingGroups: [a, b]}",
			"selector: {autoScalingGroups: [" + many(33, "a") + "]}", "selector: {vpc: a}",
		}},
		{"ports: [{name: http, port: 80}]", []string{
			"", "ports: []", "ports: [{port: 80}]", "ports: [{name: '', port: 80}]", "ports: [{name: a}]", "ports: [{name: a, port: 0}]",
			"ports: [{name: a, port: 65535}]", "ports: [{name: a, port: 65536}]", "ports: [{name: a, port: '80'}]", "ports: [{name: a, port: 80.5}]",
			"ports: [{name: a, port: 80}, {name: a, port: 81}]", "ports: [{port: 80}, {port: 81}]", "ports: [{port: 80}, {name: a, port: 80}]",
			"ports: [{name: " + long[:63] + ", port: 1}]", "ports: [{name: " + long[:64] + ", port: 1}]", "ports: {name: a, port: 80}",
		}},
	} {
		for _, v := range c.values {
			mutations = append(mutations, strings.Replace(base, c.field, v, 1))
		}
	}
	for _, extra := range []string{
		"", "address: IPv6", "address: PrivateIPv4", "address: Public", "address: ''",
		"spot: Prefer", "spot: Same", "spot: Avoid", "spot: never", "spot: ''",
		"roleARN: arn:aws:iam::123456789012:role/x", "roleARN: arn:aws-cn:iam::123456789012:role/a/b", "roleARN: arn:aws:iam::1:role/x",
		"removalGuard: {}", "removalGuard: {maxPercent: 0}", "removalGuard: {maxPercent: 100}", "removalGuard: {maxPercent: 101}", "removalGuard: {maxPercent: -1}",
		"healthCheck: {}", "healthCheck: {port: 80}", "healthCheck: {port: 70000}", "healthCheck: {port: -1}",
		"healthCheck: {http: {path: /a}}", "healthCheck: {http: {path: a}}", "healthCheck: {http: {path: ''}}", "healthCheck: {http: {}}",
		"healthCheck: {http: {path: /" + long[:1023] + "}}", "healthCheck: {http: {path: /" + long[:1024] + "}}",
		"healthCheck: {http: {path: /, host: " + long[:253] + "}}", "healthCheck: {http: {path: /, host: " + long[:254] + "}}",
		"healthCheck: {interval: 1s}", "healthCheck: {interval: 5m}", "healthCheck: {interval: 999ms}", "healthCheck: {interval: 5m1s}",
		"healthCheck: {interval: 0s}", "healthCheck: {interval: 5}", "healthCheck: {interval: soon}", "healthCheck: {interval: ''}",
		"healthCheck: {timeout: 10ms}", "healthCheck: {timeout: 9ms}", "healthCheck: {timeout: 1m}", "healthCheck: {timeout: 61s}", "healthCheck: {timeout: 0s}",
		"healthCheck: {unhealthyThreshold: 0}", "healthCheck: {unhealthyThreshold: 1}", "healthCheck: {unhealthyThreshold: 10}", "healthCheck: {unhealthyThreshold: 11}",
		"healthCheck: {healthyThreshold: 0}", "healthCheck: {healthyThreshold: 11}", "healthCheck: {tcp: {}}", "weight: 1",
	} {
		mutations = append(mutations, base+"  "+extra+"\n")
	}
	accepted := 0
	for _, text := range mutations {
		data, err := yaml.YAMLToJSON([]byte(text))
		require.NoError(t, err)
		var object map[string]any
		require.NoError(t, utiljson.Unmarshal(data, &object))
		refused := instanceGroups.admit(object)
		var rows Rows
		mistakes := kind.Decode(data, "file", &rows)
		require.Equal(t, len(refused) == 0, len(mistakes) == 0, "%s\nthe CRD: %v\nfiles: %v", text, refused, mistakes)
		if len(mistakes) > 0 {
			continue
		}
		accepted++
		// With the same defaults: what the API server would hand out means the same.
		stored, err := json.Marshal(object)
		require.NoError(t, err)
		var again Rows
		require.Empty(t, kind.Decode(stored, "file", &again))
		require.Equal(t, again, rows, "%s", text)
		spec, err := json.Marshal(rows.Objects[0].Spec.(*v1alpha1.InstanceGroup).Spec)
		require.NoError(t, err)
		var asRead, asStored map[string]any
		// Go writes a duration of whole minutes with its seconds.
		require.NoError(t, json.Unmarshal(bytes.ReplaceAll(spec, []byte("m0s"), []byte("m")), &asRead))
		require.NoError(t, json.Unmarshal(stored, &asStored))
		for k, v := range asStored["spec"].(map[string]any) {
			require.Equal(t, v, asRead[k], "%s: %s", text, k)
		}
	}
	require.Greater(t, accepted, 20)
	require.Greater(t, len(mutations)-accepted, 20)
}
