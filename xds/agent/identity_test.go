package agent

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/xds/agent/workload"
)

func TestPrintIdentity(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 12, 1, 8, 0, 0, 0, time.Local)
	id := "spiffe://cluster.local/ns/web/sa/php"
	state := &workload.State{
		ID: id, Attestation: "token of the pod web/php-1 of the service account php, uid u", Issued: at, Renew: at.Add(12 * time.Hour),
		Chain: []workload.Certificate{{Subject: id, Serial: "a1", Expires: at.Add(24 * time.Hour)}, {Subject: "causeway intermediate", Serial: "b2", Expires: at.Add(168 * time.Hour)}},
		Roots: []workload.Certificate{{Subject: "causeway root", Serial: "c3", Expires: at.Add(1000 * time.Hour)}},
	}
	for _, c := range []struct {
		state *workload.State
		says  []string
	}{
		{nil, []string{"has no identity", "--token-file"}},
		{&workload.State{Error: "no control plane answers"}, []string{"none yet", "no control plane answers"}},
		{state, []string{id, "token of the pod web/php-1", "2026-12-01 20:00:00", "2026-12-02 08:00:00, serial a1", "causeway intermediate, until", "causeway root, until"}},
	} {
		var out strings.Builder
		table := phrase.NewTable(&out)
		(&Status{Identity: c.state}).PrintIdentity(table)
		require.NoError(t, table.Flush())
		for _, says := range c.says {
			require.Contains(t, out.String(), says)
		}
	}
	var out strings.Builder
	table := phrase.NewTable(&out)
	(&Status{Identity: state}).Print(table)
	require.NoError(t, table.Flush())
	require.Contains(t, out.String(), "until 2026-12-02 08:00:00, renewed from 2026-12-01 20:00:00 on")
}
