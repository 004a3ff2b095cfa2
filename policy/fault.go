package policy

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

var faultSection = SectionDef{
	"fault", "fault", RequestLayer, true,
	func(s *settings) bool { return s.Fault != nil },
	func(to, from *settings) { to.Fault = from.Fault },
}

var percentPattern = regexp.MustCompile(`^(100(\.0{1,2})?|[0-9]{1,2}(\.[0-9]{1,2})?)$`)

func checkFault(c *Checker, s *settings) {
	f := s.Fault
	if f == nil {
		return
	}
	if f.Delay == nil && f.Abort == nil {
		c.bad("fault", "it has neither delay nor abort", "give delay, abort or both")
	}
	percent := func(field string, p v1alpha1.Percent) {
		if !percentPattern.MatchString(string(p)) {
			c.bad(field, fmt.Sprintf("%q is not a percentage", p), `write "0" to "100" with up to two places`)
		}
	}
	if d := f.Delay; d != nil {
		c.duration("fault.delay.duration", &d.Duration, time.Millisecond, time.Hour, false)
		percent("fault.delay.percent", d.Percent)
	}
	if a := f.Abort; a != nil {
		if (a.Status != nil) == (a.GRPCStatus != nil) {
			c.bad("fault.abort", "it needs one status", "give either status or grpcStatus")
		}
		c.number("fault.abort.status", a.Status, 200, 599)
		c.number("fault.abort.grpcStatus", a.GRPCStatus, 0, 16)
		percent("fault.abort.percent", a.Percent)
	}
}

// Fault makes requests fail on purpose, for a rehearsal.
type Fault struct {
	// Delay of a part of the requests, nil for none.
	Delay *FaultDelay
	// Abort of a part of the requests, nil for none.
	Abort *FaultAbort
	From  Origin
}

// FaultDelay lets requests wait. Part is in ten thousandths of them.
type FaultDelay struct {
	Duration time.Duration
	Part     uint32
}

// FaultAbort answers requests. Part is in ten thousandths of them; one of Status
// and GRPCStatus is set, the latter for gRPC requests only.
type FaultAbort struct {
	Status     uint32
	GRPCStatus *uint32
	Part       uint32
}

// Fault returns what makes requests fail on purpose, nil for nothing.
func (s *Settings) Fault() *Fault {
	in := s.Stated.Fault
	if in == nil {
		return nil
	}
	out := &Fault{From: s.origin("fault")}
	if d := in.Delay; d != nil {
		out.Delay = &FaultDelay{d.Duration.Duration, tenThousandths(d.Percent)}
	}
	if a := in.Abort; a != nil {
		out.Abort = &FaultAbort{Part: tenThousandths(a.Percent)}
		if a.Status != nil {
			out.Abort.Status = uint32(*a.Status) //nolint:gosec // 200 to 599
		}
		if a.GRPCStatus != nil {
			out.Abort.GRPCStatus = new(uint32(*a.GRPCStatus)) //nolint:gosec // 0 to 16
		}
	}
	return out
}

// tenThousandths is a percentage with two decimal places. The schema admits
// nothing else than a number.
func tenThousandths(p v1alpha1.Percent) uint32 {
	whole, places, _ := strings.Cut(string(p), ".")
	n, _ := strconv.ParseUint(whole+(places + "00")[:2], 10, 32)
	return uint32(min(n, 10_000)) //nolint:gosec // bounded
}
