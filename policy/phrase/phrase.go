package phrase

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Few joins the first few of a list that may be long.
func Few(names []string) string {
	const most = 5
	if len(names) > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}

// Duration writes a duration without the zero units that Go adds, as an SRE would.
func Duration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// Roughly writes a duration in two units at most: "2d3h", "2h46m", "30s".
func Roughly(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	case d >= time.Hour:
		d = d.Truncate(time.Minute)
	}
	return Duration(d)
}

// Or joins words as "a, b or c".
func Or(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// Percent writes a share in millionths as people do: "0.1%".
func Percent(share uint32) string {
	return strconv.FormatFloat(float64(share)/10_000, 'f', -1, 64) + "%"
}
