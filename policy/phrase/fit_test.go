package phrase

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestWrap(t *testing.T) {
	t.Parallel()
	const columns = 40
	for name, c := range map[string]struct{ text, want string }{
		"short": {"a line\n", "a line\n"},
		"under its heading": {
			"  waits      the guard has seen 12 of 500 requests in its window\n",
			"  waits      the guard has seen 12 of\n             500 requests in its window\n",
		},
		"a title": {
			"web/php-web: Service php-web, from instances to pods: Shifting\n",
			"web/php-web: Service php-web, from\n    instances to pods: Shifting\n",
		},
		"a word that is too long stays whole": {
			"  next       " + strings.Repeat("x", 60) + "\n",
			"  next       " + strings.Repeat("x", 60) + "\n",
		},
		"counts letters, not bytes": {
			"  pods       █████████████░░░░░░░░░░░░░\n", "  pods       █████████████░░░░░░░░░░░░░\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := Wrap(c.text, columns)
			require.Equal(t, c.want, got)
			require.Equal(t, strings.Fields(c.text), strings.Fields(got), "no word is lost")
			require.Equal(t, got, Wrap(got, columns), "a second time changes nothing")
		})
	}
	require.Equal(t, "any text", Wrap("any text", 0), "no terminal, no breaks")
}

func TestFirstLines(t *testing.T) {
	t.Parallel()
	text := "1\n2\n3\n4\n5\n"
	require.Equal(t, text, FirstLines(text, 5, "there"))
	require.Equal(t, text, FirstLines(text, 0, "there"))
	require.Equal(t, "1\n2\n3\n  ... 2 more lines: there\n", FirstLines(text, 4, "there"))
}

func FuzzWrap(f *testing.F) {
	f.Add("  "+strings.Repeat("\xff", 30)+" a b", 40)
	f.Add("  guard      Fail: pods answered 93.1 % of 300 requests\n", 40)
	f.Fuzz(func(t *testing.T, text string, columns int) {
		got := Wrap(text, columns)
		if utf8.ValidString(text) {
			require.Equal(t, strings.Fields(text), strings.Fields(got))
		}
	})
}

func TestBrief(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("word ", 60)
	for _, c := range []struct{ text, want string }{
		{"short", "short"},
		{"one\ntwo", "one ..."},
		{"one\ntwo; kept", "one ...; kept"},
		{long, strings.TrimSpace(long[:briefText]) + " ..."},
		{long + "; kept", strings.TrimSpace(long[:briefText]) + " ...; kept"},
		{long + "; " + long, strings.TrimSpace(long[:briefText]) + " ..."},
		{strings.Repeat("é", 200), strings.Repeat("é", briefText/2) + " ..."},
	} {
		require.Equal(t, c.want, Brief(c.text))
	}
}

func TestDurations(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]struct{ exact, roughly string }{
		0:                             {"0s", "0s"},
		1500 * time.Millisecond:       {"1.5s", "1.5s"},
		10 * time.Minute:              {"10m", "10m"},
		90 * time.Second:              {"1m30s", "1m30s"},
		time.Hour:                     {"1h", "1h"},
		time.Hour + 12*time.Second:    {"1h0m12s", "1h"},
		166*time.Minute + time.Second: {"2h46m1s", "2h46m"},
		47 * time.Hour:                {"47h", "47h"},
		51*time.Hour + time.Minute:    {"51h1m", "2d3h"},
	} {
		require.Equal(t, want.exact, Duration(d))
		require.Equal(t, want.roughly, Roughly(d))
	}
}
