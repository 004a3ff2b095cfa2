package mototest_test

import (
	"testing"

	"github.com/causeway-mesh/causeway/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
