package phrase

import (
	"regexp"
	"strings"
	"unicode"
)

// Colours of a terminal, as the codes of SGR (ECMA-48): the sixteen that every terminal has, so that a reader's own
// palette holds.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
)

// painted are the words of our texts that a reader looks for first, each where the texts have it. The first group
// is painted.
var painted = []struct {
	colour string
	words  *regexp.Regexp
}{
	{red, regexp.MustCompile(`(?m)^  (error|Refused|NotProgrammed|failed over|held):`)},
	{yellow, regexp.MustCompile(`(?m)^  (warning):`)},
	{green, regexp.MustCompile(`(?m)^causeway   \S+, (serving)\b`)},
	{red, regexp.MustCompile(`(?m)^causeway   \S+, (not serving yet)`)},
	{green, regexp.MustCompile(`(?m)^[a-z]+ +\d+, (all well)`)},
	{red, regexp.MustCompile(`(?m)^[a-z]+ +\d+, (\d+ (?:not well|with trouble).*)$`)},
	{red, regexp.MustCompile(`(?m)^  \S+ (stalled for \S+|rejected) `)},
	{yellow, regexp.MustCompile(`(?m)^frozen     (by .*|.*frozen.*)$`)},
	{red, regexp.MustCompile(`(?m)^(?:\S+: Service .*: |  \S+/\S+ )(RolledBack|RollingBack)\b`)},
	{green, regexp.MustCompile(`(?m)^(?:\S+: Service .*: |  \S+/\S+ )(Completed|Shifting|Shadowing|Soaking)\b`)},
	{yellow, regexp.MustCompile(`(?m)^(?:\S+: Service .*: |  \S+/\S+ )(Paused|AwaitingApproval|Pending)\b`)},
	{green, regexp.MustCompile(`(?m)^  guard      (Pass):`)},
	{yellow, regexp.MustCompile(`(?m)^  guard      (Hold):`)},
	{red, regexp.MustCompile(`(?m)^  guard      (Fail):`)},
	{red, regexp.MustCompile(`(?m)^  (\S+=False/\S+):`)},
}

// Plain leaves out what a text has of control characters, which proxies and people may have written, and of those that
// turn the direction of reading, with which one name looks like another.
func Plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return -1
		}
		return r
	}, text)
}

// Paint colours what matters in a text, made plain, for a terminal. Colours say nothing that the words do not.
func Paint(text string) string {
	text = Plain(text)
	for _, p := range painted {
		var b strings.Builder
		end := 0
		for _, at := range p.words.FindAllStringSubmatchIndex(text, -1) {
			b.WriteString(text[end:at[2]] + "\x1b[" + p.colour + "m" + text[at[2]:at[3]] + "\x1b[0m")
			end = at[3]
		}
		text = b.String() + text[end:]
	}
	return text
}
