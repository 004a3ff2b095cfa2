// Package outcome counts what callers got: how many requests ended how, and how
// long they took, for each backing of a Service that a TrafficShift moves.
//
// Counts only grow. Proxies report to a replica, which adds up (Totals); the
// leader adds up what replicas say and keeps it by time (Book), so that a
// window of any length can be asked for.
package outcome

import (
	"github.com/causeway-mesh/causeway/discovery"
)

// Key names what is counted: the requests that callers' proxies sent, by their
// routes, to a backing of a port of a Service.
type Key struct {
	Service discovery.Key
	Port    uint16
	// Platform is the backing that the share or the cohort chose. Answers of the
	// other one in its place are in Counts.FailedOver.
	Platform discovery.BackingName
}

// Cause is why a request failed, as its caller's proxy saw it.
type Cause uint8

// The causes of failures, from Envoy's response flags where a request had no
// answer of the application (Envoy: access log response flags).
const (
	// ServerError is a status of 500 to 599 that the application answered.
	ServerError Cause = iota
	// Reset is a connection that ended before the answer did (UC, UR, UPE).
	Reset
	// Timeout is a timeout of the route (UT) or of the stream (SI, DT, UMSDR).
	Timeout
	// ConnectFailure is no connection after all retries (UF, URX with it).
	ConnectFailure
	// NoHost is no host or no cluster to send to (UH, NC, NFCF).
	NoHost
	// Overflow is a circuit breaker that is open (UO).
	Overflow
	// Other is every other failure that the proxy answered itself with a 5xx.
	Other
	// Causes is how many there are.
	Causes
)

// String returns the cause as metrics and verdicts name it.
func (c Cause) String() string {
	return [...]string{"server error", "reset", "timeout", "connect failure", "no host", "overflow", "other", "?"}[min(c, Causes)]
}

// Counts is how requests ended. A request that the caller itself gave up (DC) is
// in Abandoned and nowhere else.
type Counts struct {
	// Requests that this backing answered or should have, failures among them. For TCP:
	// connections. Those that the other backing answered are in FailedOver and in nothing
	// else: they say nothing about this one.
	Requests uint64
	Failures [Causes]uint64
	// Abandoned by their callers.
	Abandoned uint64
	// FailedOver were meant for this backing and answered by the other one, and
	// FailedOverFailures of them failed there.
	FailedOver, FailedOverFailures uint64
	// Latency from the request's first byte to the answer's last one, in microseconds, of
	// all requests that are not abandoned.
	Latency Histogram
	// Codes of the requests by the status that the application answered. Those that the other
	// backing answered are not in it, nor are those that older replicas tell of.
	Codes Codes
	// Endpoints is the part of single endpoints, by their ids; bounded: those
	// beyond the bound are in the sums alone.
	Endpoints map[string]EndpointCounts
	// Callers is the part of single proxies that report, by their ids; bounded as Endpoints are.
	Callers map[string]CallerCounts
}

// EndpointCounts is what one endpoint answered.
type EndpointCounts struct{ Requests, Failures uint64 }

// CallerCounts are the counts of one proxy. The counts that decide a verdict are kept by proxy, because one that is
// sick, or lies, must not decide it alone.
type CallerCounts struct {
	// As in Counts.
	Requests, Failures, Abandoned, FailedOver uint64
	// Latency is less precise than that of Counts (Histogram.AddCoarse), and is not kept of those who had few answers and
	// no slow ones beside many others.
	Latency Histogram
}

// Failed returns the sum of all failures.
func (c *Counts) Failed() uint64 {
	n := uint64(0)
	for _, f := range c.Failures {
		n += f
	}
	return n
}

// Meant returns how many requests were meant for the backing, whichever answered them.
func (c *Counts) Meant() uint64 { return plus(plus(c.Requests, c.Abandoned), c.FailedOver) }

// Changed reports whether anything was counted since before, nil for nothing.
func (c *Counts) Changed(before *Counts) bool {
	return before == nil || c.Requests != before.Requests || c.Abandoned != before.Abandoned ||
		c.FailedOver != before.FailedOver || c.FailedOverFailures != before.FailedOverFailures || c.Failures != before.Failures
}

// Pairs compares answers that callers got with the mirrored ones to the same
// requests.
type Pairs struct {
	// Compared is how many pairs were complete.
	Compared uint64
	// StatusDiffers have another class of status, and SizeDiffers sizes of the
	// body that differ by more than a tenth and 64 bytes.
	StatusDiffers, SizeDiffers uint64
	// MirrorFailed are pairs whose mirrored answer was a failure while the caller's was not.
	MirrorFailed uint64
	// Answer and Mirror are the latencies of both, in microseconds.
	Answer, Mirror Histogram
}

// Changed reports whether anything was compared since before, nil for nothing.
func (p *Pairs) Changed(before *Pairs) bool { return before == nil || p.Compared != before.Compared }

// Totals is all that one reporter has counted since it began. All of it only grows.
type Totals struct {
	Outcomes map[Key]*Counts
	// Pairs by Key with the Platform that is mirrored to.
	Pairs map[Key]*Pairs
	// Load is how many requests proxies issued to the endpoints of a backing,
	// retries included, by their load reports (Envoy: LRS, total_issued_requests): another way to
	// know of demand than the outcomes.
	Load map[Key]uint64
	// Issuers is the part of the proxies in Load that issued most.
	Issuers map[Key]Names
	// Paths is how the requests of single groups of paths ended.
	Paths map[PathKey]*PathCounts
}

// NewTotals returns totals that have counted nothing.
func NewTotals() Totals {
	return Totals{
		Outcomes: make(map[Key]*Counts), Pairs: make(map[Key]*Pairs), Load: make(map[Key]uint64), Paths: make(map[PathKey]*PathCounts),
		Issuers: make(map[Key]Names),
	}
}
