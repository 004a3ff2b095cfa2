package phrase

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var sequence = regexp.MustCompile("\x1b\\[[0-9]+m")

// What is wrong is red, what is well is green, what waits for a person is yellow, and no word is changed.
func TestPaint(t *testing.T) {
	t.Parallel()
	text := `causeway   v1.2.3, serving
sources    3, 1 not well
  ec2/ap-northeast-1 failing for 3m: UnauthorizedOperation
objects    12, all well
  error: HTTPRoute web/shop: there is no Service
  warning: HTTPRoute web/cart: odd
proxies    3, 2 in sync
  sidecar~web~a~1 stalled for 12s 
shifts     3, 2 under way
  web/php-web RolledBack 0 %, step 0 of 4
  web/cart AwaitingApproval 50 %, step 3 of 4
frozen     nothing
web/php-web: Service php-web, from instances to pods: Shifting at 10 %, step 2 of 4
  guard      Fail: success rate 12 %
  Programmed=False/Rejected: no
`
	got := Paint(text)
	require.Equal(t, text, sequence.ReplaceAllString(got, ""))
	for _, part := range []string{
		"\x1b[32mserving\x1b[0m", "\x1b[31m1 not well\x1b[0m", "\x1b[32mall well\x1b[0m", "\x1b[31merror\x1b[0m:", "\x1b[33mwarning\x1b[0m:",
		"\x1b[31mstalled for 12s\x1b[0m", "\x1b[31mRolledBack\x1b[0m", "\x1b[33mAwaitingApproval\x1b[0m", "\x1b[32mShifting\x1b[0m",
		"\x1b[31mFail\x1b[0m:", "\x1b[31mProgrammed=False/Rejected\x1b[0m:",
	} {
		require.Contains(t, got, part)
	}
	require.Equal(t, 11, strings.Count(got, "\x1b[0m"))
}

// A terminal does nothing that a proxy or a person has written.
func TestPaintKeepsControlCharactersOut(t *testing.T) {
	t.Parallel()
	require.Equal(t, "a[2Jb]0;titlec\n\td", Paint("a\x1b[2Jb\x1b]0;title\x07c\r\n\td\u009b"))
	require.Equal(t, "gnp.exe", Plain("\u202egnp\u2066.e\u200fxe"), "nor looks like something else")
	require.Empty(t, Paint(""))
}
