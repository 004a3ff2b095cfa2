package policy

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
)

// MaxRegexProgram is the size of RE2's program of a regular expression, in
// instructions, that matchers must allow (google_re2.max_program_size): Envoy's
// own limit is 100, which is little more than a UUID written out digit by digit takes.
const MaxRegexProgram = 5 * maxReckoned

// maxReckoned is the size up to which expressions are accepted. The estimate is
// seldom too low and never by much: Go merges alternatives that RE2 leaves apart.
const maxReckoned = 2000

// CheckRegex says why Envoy would refuse a regular expression or read it
// otherwise than Go does, "" if it would not. Envoy's dialect is RE2, which
// Go's is too, but Envoy reads expressions and values as Latin-1: what is not
// ASCII would mean single bytes of it there.
func CheckRegex(pattern string) string {
	if pattern == "" {
		return "it is empty"
	}
	for i := range len(pattern) {
		if c := pattern[i]; c >= 0x80 || c < 0x20 || c == 0x7f {
			return fmt.Sprintf("it has the byte %#02x, which is not printable ASCII", c)
		}
	}
	if problem := checkEscapes(pattern); problem != "" {
		return problem
	}
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return strings.TrimPrefix(err.Error(), "error parsing regexp: ")
	}
	if n := programSize(re); n > maxReckoned {
		return fmt.Sprintf("it compiles to some %d instructions, and %d are allowed: counted repetitions such as {20} are what costs most", n, maxReckoned)
	}
	return ""
}

// LargeRegex reports whether an expression may need more than Envoy allows
// where a matcher does not state MaxRegexProgram. Stating it is deprecated, and
// Envoy's log says so each time, so that only those do that must.
func LargeRegex(pattern string) bool {
	size, ok := RegexSize(pattern)
	return !ok || size > surelySmall
}

// RegexSize reckons the instructions that RE2 makes of an expression, rather too many than too
// few; it returns false for one that is none.
func RegexSize(pattern string) (int, bool) {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return 0, false
	}
	return programSize(re), true
}

// surelySmall is half of Envoy's own limit: what is reckoned may be too low.
const surelySmall = 50

// checkEscapes refuses the escapes that Go knows and Envoy does not, or
// otherwise: classes of Unicode, and characters beyond Latin-1.
func checkEscapes(pattern string) string {
	for i := 0; i+1 < len(pattern); i++ {
		if pattern[i] != '\\' {
			continue
		}
		i++
		switch pattern[i] {
		case 'p', 'P':
			return fmt.Sprintf(`\%c stands for classes of Unicode, which Envoy compares byte by byte`, pattern[i])
		case 'Q':
			end := strings.Index(pattern[i:], `\E`)
			if end < 0 {
				return ""
			}
			i += end + 1
		case 'x':
			hex, _, closed := strings.Cut(strings.TrimPrefix(pattern[i+1:], "{"), "}")
			if n, err := strconv.ParseUint(hex, 16, 32); strings.HasPrefix(pattern[i+1:], "{") && closed && err == nil && n > 0x7f {
				return fmt.Sprintf(`\x{%s} is not ASCII`, hex)
			}
			if !strings.HasPrefix(pattern[i+1:], "{") && i+1 < len(pattern) && pattern[i+1] >= '8' {
				return fmt.Sprintf(`\x%c… is not ASCII`, pattern[i+1])
			}
		}
	}
	return ""
}

// programSize reckons the instructions that RE2 makes of an expression, rather too many than too few.
func programSize(re *syntax.Regexp) int {
	// Around every program: the search for the beginning, match and fail.
	return 4 + regexSize(re)
}

func regexSize(re *syntax.Regexp) int {
	n := 0
	for _, sub := range re.Sub {
		n += regexSize(sub)
	}
	switch re.Op {
	case syntax.OpLiteral:
		return len(re.Rune)
	case syntax.OpCharClass:
		for i := 0; i < len(re.Rune); i += 2 {
			if re.Rune[i] <= 0xff {
				n++
			}
		}
		return max(n, 1)
	case syntax.OpAnyCharNotNL:
		return 2
	case syntax.OpConcat:
		return n
	case syntax.OpAlternate:
		return n + len(re.Sub) - 1
	case syntax.OpCapture, syntax.OpPlus, syntax.OpQuest:
		return n + 2
	case syntax.OpStar:
		// RE2 turns x* into (x+)? where x may be empty, so that it does not
		// loop.
		return n + 4
	case syntax.OpRepeat:
		// x{2,} is xx+ and x{2,4} is xx(x(x)?)?.
		if re.Max < 0 {
			return n*max(re.Min, 1) + 4
		}
		return n*max(re.Max, 1) + 2*(re.Max-re.Min)
	}
	return n + 1
}

// CompileRegex returns an expression of a Match in a form that compares whole
// values, as Envoy does. Every expression of a model compiles.
func CompileRegex(pattern string) (*regexp.Regexp, error) {
	re, err := regexp.Compile(`^(?:` + pattern + `)$`)
	if err != nil {
		return nil, fmt.Errorf("compile %q: %w", pattern, err)
	}
	return re, nil
}
