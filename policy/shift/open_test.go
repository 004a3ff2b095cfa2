package shift

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
)

// What stays open on the source is told before traffic moves, and before the source goes.
func TestOpen(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		open      Open
		preflight []string
		advice    []string
	}{
		"none": {open: Open{Source: discovery.Instances}},
		"websockets before": {
			open: Open{Source: discovery.Instances, Requests: 4, Share: 1_000_000},
			preflight: []string{"requests that are open (websockets, streams) stay on the instances until they end, whatever the steps say: " +
				"status.analysis.instances.open counts them; a TrafficPolicy of Service php ends them after a time with timeout.streamAge"},
		},
		"websockets, bounded, before": {open: Open{Source: discovery.Instances, Requests: 4, Share: 1_000_000, Age: time.Hour}},
		"websockets after": {
			open: Open{Source: discovery.Instances, Requests: 4},
			preflight: []string{"requests that are open (websockets, streams) stay on the instances until they end, whatever the steps say: " +
				"status.analysis.instances.open counts them; a TrafficPolicy of Service php ends them after a time with timeout.streamAge"},
			advice: []string{"4 requests are still open on the instances (websockets, streams): they break when those go; " +
				"wait, or end them after a time with timeout.streamAge in a TrafficPolicy"},
		},
		"websockets, bounded, after": {
			open: Open{Source: discovery.Instances, Requests: 1, Age: 10 * time.Minute},
			advice: []string{"1 request is still open on the instances (websockets, streams): they break when those go; " +
				"timeout.streamAge ends them within 10m: wait for it"},
		},
		"connections after": {
			open: Open{Source: discovery.Pods, Requests: 7, TCP: true},
			preflight: []string{"connections that are open stay on the pods until they end, whatever the steps say: " +
				"status.analysis.pods.open counts them; a TrafficPolicy of Service php ends them after a time with timeout.connectionAge"},
			advice: []string{"7 connections are still open on the pods: they break when those go; " +
				"wait, or end them after a time with timeout.connectionAge in a TrafficPolicy"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.preflight, c.open.Preflight("php"))
			require.Equal(t, c.advice, c.open.Advice())
		})
	}
}
