package discovery

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestClosest(t *testing.T) {
	kinds := []string{"Service", "Secret", "HTTPRoute", "TCPRoute", "TrafficShift", "TrafficPolicy"}
	for written, want := range map[string]string{
		"Servcie": "Service", "service": "Service", "HttpRoute": "HTTPRoute", "TrafficShfit": "TrafficShift", "Services": "Service",
		"Deployment": "", "ServiceAccount": "", "Service": "", "a": "", "": "",
	} {
		require.Equal(t, want, Misspelt(written, kinds), written)
	}
	require.Equal(t, "timeout", Closest("timeouts", []string{"connect", "timeout"}))
	require.Equal(t, "GET", Closest("get", []string{"PUT", "GET"}))
	require.Equal(t, "PathPrefix", Closest("Prefix", []string{"Exact", "PathPrefix"}))
}
