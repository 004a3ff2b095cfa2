package shift

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Whole is all of the traffic in hundredths of a percent, the unit in which
// shares are counted exactly: a Percent has at most two places.
const Whole Hundredths = 10_000

// Hundredths is a part in hundredths of a percent, 0 to Whole.
type Hundredths uint32

// ParsePercent reads a Percent. "" is an error, as is everything that the
// schema does not admit: signs, exponents, a third place, more than 100.
func ParsePercent(p v1alpha1.Percent) (Hundredths, error) {
	whole, places, dot := strings.Cut(string(p), ".")
	if whole == "" || len(whole) > 3 || len(places) > 2 || dot && places == "" || strings.Trim(whole+places, "0123456789") != "" {
		return 0, fmt.Errorf("percent %q is not a decimal number between 0 and 100 with at most two places, such as \"0.1\"", p)
	}
	n, err := strconv.ParseUint(whole+(places + "00")[:2], 10, 32)
	if err != nil || Hundredths(n) > Whole {
		return 0, fmt.Errorf("percent %q is more than 100", p)
	}
	return Hundredths(n), nil
}

// Percent returns the part as it is written, without needless zeros: "0.1", "50".
func (h Hundredths) Percent() v1alpha1.Percent {
	s := strconv.FormatUint(uint64(h/100), 10)
	if places := h % 100; places > 0 {
		s += "." + strings.TrimRight(fmt.Sprintf("%02d", places), "0")
	}
	return v1alpha1.Percent(s)
}

// String returns the part as people read it: "0.1 %".
func (h Hundredths) String() string { return string(h.Percent()) + " %" }

// Millionths returns the part in the unit of shares (policy.ShareTotal).
func (h Hundredths) Millionths() uint32 {
	return uint32(min(h, Whole)) * (policy.ShareTotal / uint32(Whole))
}

// Part returns the part as a number between 0 and 1.
func (h Hundredths) Part() float64 { return float64(h) / float64(Whole) }
