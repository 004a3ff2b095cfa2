// Package e2e proves what Causeway promises, with the real parts: the shipped
// binary, Envoy, kube-apiserver, an EC2 API and workloads that can be killed.
// It runs a normal build, because it puts load on things; everything else runs
// under the race detector.
package e2e

import (
	"testing"

	"github.com/causeway-mesh/causeway/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
