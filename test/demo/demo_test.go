package demo

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/test/harness"
)

// What the demo prints fits a terminal of 80 columns.
func TestWidth(t *testing.T) {
	text := spoken(100*time.Second, demoAccelerated)
	require.Greater(t, strings.Count(text, "\n"), 1)
	for line := range strings.Lines(text) {
		require.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")), columns, line)
	}
	answers := make(map[harness.BackendKey]int64)
	for i := range 5 {
		answers[harness.BackendKey{Platform: "instances", ID: fmt.Sprint(i)}] = 100
	}
	line := second(answers, 12345, 0)
	require.Equal(t, "        5 instances 100 %, 0 pods   0 % ░░░░░░░░░░  12345 sent, mesh failed 0", line)
	require.LessOrEqual(t, utf8.RuneCountInString(line), columns)

	answers[harness.BackendKey{Platform: "pods", ID: "a"}] = 500
	require.Equal(t, "        5 instances  50 %, 1 pod   50 % █████░░░░░  12345 sent, mesh failed 2", second(answers, 12345, 2))
	require.LessOrEqual(t, utf8.RuneCountInString(second(answers, 99999, 999)), columns)
	require.Equal(t, "the mesh failed 0, the bad release 10", failures(0, 10))
}
