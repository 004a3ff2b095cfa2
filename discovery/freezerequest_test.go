package discovery_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
)

// Who unfreezes lifts their own freeze, and learns whose remain.
func TestFreezeRequests(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	change := func(f *discovery.Freeze, r discovery.FreezeRequest) (*discovery.Freeze, error) {
		return r.Change(f, now)
	}
	f, err := change(nil, discovery.FreezeRequest{By: "ada", Config: true, Reason: "INC-7"})
	require.NoError(t, err)
	f, err = change(f, discovery.FreezeRequest{By: "bob"})
	require.NoError(t, err)
	require.True(t, f.Config, "the second freeze lifts nothing of the first")
	require.Contains(t, f.Text(), "all steps and all configuration but endpoints are frozen by ada since")
	require.Contains(t, f.Text(), "\nall steps are frozen by bob since")

	_, err = change(f, discovery.FreezeRequest{By: strings.Repeat("x", 257)})
	require.EqualError(t, err, "the name of who asks has 257 bytes, and may have 256: say it shorter, and link to the rest")
	_, err = change(f, discovery.FreezeRequest{By: "eve", Reason: strings.Repeat("x", 60_000)})
	require.ErrorContains(t, err, "--reason has 60000 bytes, and may have 1024")
	many := f
	for i := range 62 {
		many, err = change(many, discovery.FreezeRequest{By: fmt.Sprint("user-", i)})
		require.NoError(t, err)
	}
	_, err = change(many, discovery.FreezeRequest{By: "eve"})
	require.ErrorContains(t, err, "64 have frozen something, which is the most: see causeway status, and to lift another's: causeway unfreeze --owner")
	_, err = change(many, discovery.FreezeRequest{By: "bob", Config: true})
	require.NoError(t, err, "one's own may change")

	_, err = change(f, discovery.FreezeRequest{By: "eve", Lift: true})
	require.ErrorContains(t, err, "eve has frozen nothing, and this stays:\nall steps and all configuration")
	require.ErrorContains(t, err, "to lift another's: causeway unfreeze --owner ada --reason")
	_, err = change(f, discovery.FreezeRequest{By: "bob", Lift: true, Owner: "ada"})
	require.EqualError(t, err, "this is the freeze of ada: say why it is lifted, with --reason")
	_, err = change(f, discovery.FreezeRequest{By: "bob", Lift: true, Owner: "carol", Reason: "over"})
	require.ErrorContains(t, err, "carol has frozen nothing")
	_, err = change(f, discovery.FreezeRequest{Lift: true})
	require.ErrorContains(t, err, "a freeze has an owner")

	mine, err := change(f, discovery.FreezeRequest{By: "bob", Lift: true})
	require.NoError(t, err)
	require.Equal(t, "ada", mine.By)
	theirs, err := change(f, discovery.FreezeRequest{By: "bob", Lift: true, Owner: "ada", Reason: "ada is asleep, INC-7 is over"})
	require.NoError(t, err)
	require.Equal(t, []any{"bob", false}, []any{theirs.By, theirs.Config})
	renamed, err := change(f, discovery.FreezeRequest{By: "oidc:ada", Formerly: "ada", Lift: true})
	require.NoError(t, err)
	require.Equal(t, "bob", renamed.By, "the name that an earlier release knew")
	last, err := change(mine, discovery.FreezeRequest{By: "ada", Lift: true})
	require.NoError(t, err)
	require.Nil(t, last)
	last, err = change(nil, discovery.FreezeRequest{By: "ada", Lift: true})
	require.NoError(t, err)
	require.Nil(t, last, "nothing was frozen")
}
