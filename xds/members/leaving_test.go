package members

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/xds/members/membersv1"
)

// A host leaves while its agent says so, and for a while after its connection has ended; not because the agent ends.
func TestLeaving(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	hello := &membersv1.Hello{Node: "sidecar~web~cron~i-1"}
	s := p.join(hello)
	names(t, s)
	say := func(s membersv1.Members_JoinClient, r *membersv1.Report) {
		require.NoError(t, s.Send(&membersv1.JoinRequest{Content: &membersv1.JoinRequest_Report{Report: r}}))
	}
	leaving := func(reason string) func() bool {
		return func() bool {
			list := p.Leaving(time.Now())
			if reason == "" {
				return len(list) == 0
			}
			return len(list) == 1 && list[0].Instance == "i-1" && list[0].Namespace == "web" && list[0].Reason == reason
		}
	}
	say(s, &membersv1.Report{Draining: true, DrainReason: "Ending: the agent ends"})
	p.eventually("the report", func() bool { return len(p.List()) == 1 && p.List()[0].Draining })
	require.Empty(t, p.Leaving(time.Now()))
	say(s, &membersv1.Report{Draining: true, DrainReason: "SpotInterruption: x", DrainUntil: 1_800_000_000, Notices: make([]string, 20)})
	<-p.LeavingChanged()
	require.True(t, leaving("SpotInterruption: x")())
	m := p.List()[0]
	require.Equal(t, int64(1_800_000_000), m.DrainUntil.Unix())
	require.Len(t, m.Notices, maxNotices)

	require.NoError(t, s.CloseSend())
	p.eventually("it to be gone", func() bool { return len(p.List()) == 0 })
	require.True(t, leaving("SpotInterruption: x")(), "a host that reboots drains still")
	require.Empty(t, p.Leaving(time.Now().Add(discovery.LeavingFor)))

	s = p.join(hello)
	names(t, s)
	say(s, &membersv1.Report{Draining: true, DrainReason: "DrainRequested: x"})
	p.eventually("the other reason", leaving("DrainRequested: x"))
	say(s, &membersv1.Report{Ready: true})
	p.eventually("its end", leaving(""))
}
