package phrase

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// hanging is the column at which the text of a line such as "  waits      ..." begins.
const hanging = 13

// Wrap breaks lines between words so that none is longer than the number of
// columns. The rest of a broken line is indented to the text of the line, right
// of its heading.
func Wrap(text string, columns int) string {
	if columns <= hanging+10 {
		return text
	}
	var b strings.Builder
	for line := range strings.Lines(strings.ToValidUTF8(text, "\uFFFD")) {
		line = strings.TrimSuffix(line, "\n")
		indent := 4
		if strings.HasPrefix(line, "  ") && len(line) > hanging && strings.TrimRight(line[:hanging], " ") != line[:hanging] {
			indent = hanging
		}
		for utf8.RuneCountInString(line) > columns {
			head := string([]rune(line)[:columns+1])
			cut := strings.LastIndexByte(head, ' ')
			if cut <= indent {
				break // one word, such as a path, stays whole: it may be copied
			}
			b.WriteString(strings.TrimRight(line[:cut], " ") + "\n")
			line = strings.Repeat(" ", indent) + strings.TrimLeft(line[cut:], " ")
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}

// FirstLines cuts a text to so many lines. The last one says how many are missing
// and where they are.
func FirstLines(text string, most int, where string) string {
	lines := strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")
	if most <= 1 || len(lines) <= most {
		return text
	}
	more := len(lines) - most + 1
	return strings.Join(lines[:most-1], "") + "  ... " + Plural(more, "more lines") + ": " + where + "\n"
}

// briefText is how many bytes of a text that is not ours a line of an overview has.
const briefText = 160

// Brief is the beginning of the first line of a text that may have been written by a proxy,
// and what we have said after it.
func Brief(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	head, _, more := strings.Cut(text, "\n")
	if len(head) > briefText {
		head, more = strings.ToValidUTF8(head[:briefText], ""), true
		if i := strings.LastIndexByte(head, ' '); i > briefText/2 {
			head = head[:i]
		}
	}
	if !more {
		return text
	}
	out := strings.TrimRight(head, " ") + " ..."
	if i := strings.LastIndex(text, "; "); i >= len(head) && len(text)-i <= briefText/2 {
		out += text[i:]
	}
	return out
}

// Plural counts things whose name is given in the plural.
func Plural(n int, things string) string {
	if n == 1 {
		things = strings.TrimSuffix(things, "s")
	}
	return fmt.Sprintf("%d %s", n, things)
}
