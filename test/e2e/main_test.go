// Package e2e proves what Causeway promises, with the real parts: the shipped
// binary, Envoy, kube-apiserver, an EC2 API and workloads that can be killed.
// It runs a normal build, because it puts load on things; everything else runs
// under the race detector.
package e2e

import (
	"runtime"
	"testing"
	"time"

	"github.com/causeway-mesh/causeway/test/harness"
)

func TestMain(m *testing.M) {
	harness.Parallel(1 << 10) // cores say how many run
	harness.Main(m)
}

var cores = harness.Cores{Total: float64(runtime.GOMAXPROCS(0))}

// beside runs a test side by side with others. It takes so many cores for about
// that long, on a machine with two.
func beside(t *testing.T, share float64, takes time.Duration) {
	t.Helper()
	t.Parallel()
	cores.Take(t, share, takes)
}
