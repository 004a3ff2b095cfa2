package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/policy/lint/files"
	"github.com/causeway-mesh/causeway/test/harness"
)

// A certificate that has ended is said where it stands, as every other finding is.
func TestValidateTellsOfCertificatesThatEnd(t *testing.T) {
	dir := t.TempDir()
	ca := harness.NewAuthority(t, "test")
	write := func(lifetime time.Duration) {
		c := ca.Issue(t, harness.CertificateOptions{Hosts: []string{"www.example.com"}, Lifetime: lifetime})
		data, err := json.Marshal(map[string][]byte{"tls.crt": c.CertPEM, "tls.key": c.KeyPEM})
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "edge.yaml"), []byte(fmt.Sprintf(`apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: public, namespace: web}
spec:
  gatewayClassName: causeway
  listeners:
  - {name: https, port: 443, protocol: HTTPS, hostname: www.example.com, tls: {certificateRefs: [{name: www}]}}
---
apiVersion: v1
kind: Secret
metadata: {name: www, namespace: web}
type: kubernetes.io/tls
data: %s
`, data)), 0o600))
	}
	found := func() []files.Result {
		report, err := files.Check([]string{dir}, nil, time.Now())
		require.NoError(t, err)
		var out []files.Result
		for _, r := range report.Results {
			if r.Object == "Secret web/www" {
				out = append(out, r)
			}
		}
		return out
	}
	write(90 * 24 * time.Hour)
	require.Empty(t, found())
	write(24 * time.Hour)
	got := found()
	require.Len(t, got, 1)
	require.Equal(t, "warning", got[0].Severity)
	require.Regexp(t, `edge\.yaml:\d+$`, got[0].Where)
	require.Contains(t, got[0].Message, "is not valid after")
}
