package main

import (
	"strings"
	"testing"
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
			got := wrap(c.text, columns)
			require.Equal(t, c.want, got)
			require.Equal(t, strings.Fields(c.text), strings.Fields(got), "no word is lost")
			require.Equal(t, got, wrap(got, columns), "a second time changes nothing")
		})
	}
	require.Equal(t, "any text", wrap("any text", 0), "no terminal, no breaks")
}

func TestFirstRows(t *testing.T) {
	t.Parallel()
	text := "1\n2\n3\n4\n5\n"
	require.Equal(t, text, firstRows(text, 5, "there"))
	require.Equal(t, text, firstRows(text, 0, "there"))
	require.Equal(t, "1\n2\n3\n  ... 2 more lines: there\n", firstRows(text, 4, "there"))
}

func FuzzWrap(f *testing.F) {
	f.Add("  "+strings.Repeat("\xff", 30)+" a b", 40)
	f.Add("  guard      Fail: pods answered 93.1 % of 300 requests\n", 40)
	f.Fuzz(func(t *testing.T, text string, columns int) {
		got := wrap(text, columns)
		if utf8.ValidString(text) {
			require.Equal(t, strings.Fields(text), strings.Fields(got))
		}
	})
}
