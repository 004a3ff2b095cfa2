package objects

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestKinds(t *testing.T) {
	seen := make(map[string]bool)
	for _, k := range Kinds() {
		require.NotEmpty(t, k.Resource)
		require.False(t, seen[k.APIVersion+k.Name])
		seen[k.APIVersion+k.Name] = true
		// No kind takes just anything, and none panics.
		for _, text := range []string{"", "null", "[]", "{}", `{"metadata": {"name": "a"}, "nonsense": 1}`, `{"spec": []}`} {
			var rows Rows
			errs := k.Decode([]byte(text), "k", &rows)
			require.NotEmpty(t, errs, "%s: %s", k.Name, text)
			for _, e := range errs {
				require.NotEmpty(t, e.Message)
				require.NotEmpty(t, e.Remedy)
			}
			require.Equal(t, Rows{}, rows, "an object with mistakes adds nothing")
		}
	}
}

func TestServiceMistakes(t *testing.T) {
	for text, want := range map[string]string{
		`{"type": "Magic", "ports": [{"port": 80}]}`: `spec.type: "Magic" is not a type of Service`,
		`{}`:                       `spec.ports: it is empty`,
		`{"type": "ExternalName"}`: `spec.externalName: "" is not a host name`,
		`{"clusterIP": "10.0.0", "ports": [{"port": 80}]}`:                    `spec.clusterIP: "10.0.0" is not an IP address`,
		`{"clusterIPs": ["10.0.0.1", "x"], "ports": [{"port": 80}]}`:          `spec.clusterIPs[1]: "x" is not an IP address`,
		`{"ports": [{"port": 0}]}`:                                            `spec.ports[0].port: 0 is not a port`,
		`{"ports": [{"port": 80, "protocol": "QUIC"}]}`:                       `spec.ports[0].protocol: "QUIC" is not a protocol`,
		`{"ports": [{"port": 80, "name": "A"}]}`:                              `spec.ports[0].name: "A" is not a name`,
		`{"ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]}`:   `spec.ports[1].port: 80/TCP stands twice`,
		`{"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]}`:   `spec.ports[1].name: "a" stands twice`,
		`{"ports": [{"port": 80, "name": "a"}, {"port": 81}]}`:                `spec.ports[1].name: it is missing`,
		`{"ports": [{"port": 80, "appProtocol": 1}]}`:                         `spec.ports[0].appProtocol: it is a number`,
		`{"ports": [{"port": 80, "targetPort": [1]}]}`:                        `spec.ports[0].targetPort`,
		`{"ports": [{"port": 1e99}]}`:                                         `spec.ports[0].port: it is a number 1e99`,
		`{"ports": {"port": 80}}`:                                             `spec.ports: it is a mapping`,
		`{"ports": [{"port": 80, "prot": "TCP"}], "ports": [], "selectr": 1}`: `spec.ports: it stands twice`,
	} {
		var rows Rows
		errs := decodeService([]byte(`{"metadata": {"name": "a"}, "spec": `+text+`}`), "k", &rows)
		var got []string
		for _, e := range errs {
			got = append(got, e.Error())
		}
		require.Contains(t, strings.Join(got, "\n"), want, "%s", text)
		require.Empty(t, rows.Services)
	}
	for _, text := range []string{
		`{"clusterIP": "None"}`,
		`{"type": "ExternalName", "externalName": "php.example.com"}`,
		`{"ports": [{"port": 53, "name": "tcp"}, {"port": 53, "name": "udp", "protocol": "UDP"}]}`,
	} {
		var rows Rows
		require.Empty(t, decodeService([]byte(`{"metadata": {"name": "a"}, "spec": `+text+`}`), "k", &rows), text)
		require.Len(t, rows.Services, 1)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(`{"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80, "targetPort": "x"}]}}`)
	f.Add(`{"metadata": {"name": "a", "labels": {"kubernetes.io/service-name": "a"}}, "addressType": "IPv6", "endpoints": [{"addresses": ["::1"]}]}`)
	f.Add(`{"metadata": {"name": "a"}, "spec": {"healthCheck": {"interval": 5}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		for _, k := range Kinds() {
			var rows Rows
			if errs := k.Decode([]byte(text), "k", &rows); len(errs) > 0 {
				require.Equal(t, Rows{}, rows)
			}
		}
	})
}
