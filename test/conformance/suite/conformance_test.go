// Package suite is the Gateway API's own conformance suite as a program: `make conformance`.
package suite

import (
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
)

func TestConformance(t *testing.T) { conformance.RunConformance(t) }
