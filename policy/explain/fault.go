package explain

import (
	"fmt"
	"strings"

	"github.com/causeway-mesh/causeway/policy"
)

// Fault is the effect of fault injection on requests before they go anywhere.
type Fault struct {
	Delay        string  `json:"delay,omitempty"`
	DelayPercent float64 `json:"delayPercent,omitempty"`
	AbortStatus  int     `json:"abortStatus,omitempty"`
	AbortGRPC    *int    `json:"abortGRPCStatus,omitempty"`
	AbortPercent float64 `json:"abortPercent,omitempty"`
	From         string  `json:"from"`
}

// fault takes note of the effective fault section and returns the answer if
// every request gets it.
func (e *evaluation) fault(r *policy.Rule) *Answer {
	f := r.Settings.Fault()
	if f == nil || (f.Abort != nil && f.Abort.GRPCStatus != nil && !isGRPC(&e.req)) {
		return nil
	}
	v := &Fault{From: f.From.String()}
	if f.Delay != nil {
		v.Delay, v.DelayPercent = f.Delay.Duration.String(), float64(f.Delay.Part)/100
	}
	if f.Abort != nil {
		v.AbortPercent, v.AbortStatus = float64(f.Abort.Part)/100, int(f.Abort.Status)
		if code := f.Abort.GRPCStatus; code != nil {
			v.AbortGRPC = new(int(*code))
		}
	}
	e.out.Fault = v
	if v.AbortPercent < 100 {
		return nil
	}
	because := "the fault section of " + v.From + " aborts every request"
	if v.AbortGRPC != nil {
		return &Answer{Status: 200, GRPCStatus: v.AbortGRPC, Because: because}
	}
	return e.answer(v.AbortStatus, because)
}

// Text says which part of the requests meets what, and who says so.
func (f *Fault) Text() string {
	var parts []string
	if f.Delay != "" {
		parts = append(parts, fmt.Sprintf("%g%% of the requests are delayed by %s", f.DelayPercent, f.Delay))
	}
	switch {
	case f.AbortGRPC != nil:
		parts = append(parts, fmt.Sprintf("%g%% are answered grpc-status %d", f.AbortPercent, *f.AbortGRPC))
	case f.AbortStatus != 0:
		parts = append(parts, fmt.Sprintf("%g%% are answered %d", f.AbortPercent, f.AbortStatus))
	}
	return strings.Join(parts, ", ") + " (" + f.From + ")"
}
