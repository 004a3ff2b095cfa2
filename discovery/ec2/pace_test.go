package ec2

import (
	"errors"
	"testing"
	"time"

	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"
)

// A failed sweep is tried again soon, however long the interval is, and no
// sweep is due before the one that it follows has ended.
func TestPaceOfFailedSweeps(t *testing.T) {
	var (
		broken    = errors.New("connection refused")
		throttled = &smithy.GenericAPIError{Code: "RequestLimitExceeded"}
	)
	require.Equal(t, outcomeThrottled, callOutcome(throttled))
	const s = time.Second
	for _, c := range []struct {
		name     string
		interval time.Duration
		lasted   time.Duration
		errs     []error
		want     []time.Duration // from the end of each sweep, a tenth up or down
	}{
		{"all is well", 15 * s, 0, []error{nil, nil}, []time.Duration{15 * s, 15 * s}},
		{"a long interval", 5 * time.Minute, 0, []error{broken, broken, broken, broken, broken}, []time.Duration{2 * s, 4 * s, 8 * s, 15 * s, 15 * s}},
		{"the usual interval", 15 * s, 0, []error{broken, nil, broken}, []time.Duration{2 * s, 15 * s, 2 * s}},
		{"a short interval", s, 0, []error{broken, broken}, []time.Duration{s, s}},
		{"failures that last", 15 * s, time.Minute, []error{broken, broken}, []time.Duration{2 * s, 4 * s}},
		{"an answer that takes longer than the interval", 15 * s, time.Minute, []error{nil}, []time.Duration{0}},
		{"throttled for a minute", 15 * s, time.Minute, []error{throttled, throttled, throttled, throttled}, []time.Duration{30 * s, 60 * s, 120 * s, 120 * s}},
		{"throttled and then broken", 15 * s, 0, []error{throttled, broken}, []time.Duration{30 * s, 2 * s}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := pace{interval: c.interval}
			start := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
			for i, err := range c.errs {
				now := start.Add(c.lasted)
				due, earliest := p.next(err, start, now)
				require.InDelta(t, c.want[i].Seconds(), due.Sub(now).Seconds(), c.want[i].Seconds()/10+0.001, "sweep %d", i)
				if err != throttled { //nolint:errorlint // it is this very value
					require.False(t, earliest.After(start.Add(sweepGap)), "who asks need not wait for the back-off")
				}
				start = due
			}
		})
	}
}
