package bootstrap_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/bootstrap"
	"github.com/causeway-mesh/causeway/xds/compile"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// Envoy takes the host's CA certificates from the file that the bootstrap names.
func TestSystemCAs(t *testing.T) {
	ca, _ := harness.NewAuthority(t, "ca").Issue(t, harness.CertificateOptions{Name: "ca"}).Write(t, t.TempDir(), "ca")
	o := bootstrap.Options{
		Role: resource.Sidecar, Namespace: "web", Workload: "php", Instance: "i-1", Servers: []string{"127.0.0.1:1"}, SystemCAs: ca,
	}
	config, err := bootstrap.Generate(o)
	require.NoError(t, err)
	require.Contains(t, string(config), compile.SystemCAs)
	harness.ValidateEnvoy(t, config)

	// A host without the file has a proxy all the same: only a cluster that needs it is refused.
	o.SystemCAs = filepath.Join(t.TempDir(), "none")
	config, err = bootstrap.Generate(o)
	require.NoError(t, err)
	harness.ValidateEnvoy(t, config)
}
