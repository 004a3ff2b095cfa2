package compile_test

import (
	"testing"

	"github.com/causeway-mesh/causeway/test/harness"
)

func TestMain(m *testing.M) {
	harness.Parallel(4) // most of the time Envoy's clients wait
	harness.Main(m)
}
