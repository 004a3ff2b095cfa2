// Package equivalence proves that the evaluator of `causeway explain` does not
// lie: what it says of a request is what the real Envoy, fed by the real control
// plane, does with it.
package equivalence

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/explain"
	"github.com/causeway-mesh/causeway/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// How many cases there are, each of them a set of routes with requestsPerCase
// requests, and how many of them are pushed to Envoy at a time.
const (
	casesInCI   = 500
	casesInSoak = 5000
	perPush     = 25
)

// Routes drawn at random are pushed to Envoy, and requests that aim at their
// boundaries are sent through it. Of each the evaluator must have said which
// route it takes, who answers, what the backend gets and what the caller.
func TestEvaluatorIsEnvoy(t *testing.T) {
	seed, first, last := drawn(t, casesInCI, casesInSoak)
	m := startMesh(t)
	f := writeFixture(t, m)
	seen := make(map[string]int)
	var pushing time.Duration
	captured := 0
	begin := time.Now()
	for first < last {
		var cases []*routeCase
		for ; first < last && len(cases) < perPush; first++ {
			cases = append(cases, newCase(seed, first, f))
		}
		start := time.Now()
		if err := m.put(cases...); err != nil {
			reject(t, m, seed, cases, err)
		}
		pushing += time.Since(start)
		for _, c := range cases {
			for _, r := range c.requests {
				why, outcome := m.check(c, r)
				if why != "" {
					report(t, m, seed, c, r)
				}
				seen[outcome]++
				if why, outcome = m.checkCaptured(c, r, captured); why != "" {
					t.Fatalf("CAUSEWAY_SEED=%d CAUSEWAY_CASE=%d captured: %s\n%s", seed, c.index, why, c.text(r))
				}
				seen["captured "+outcome]++
				captured++
			}
		}
	}
	t.Logf("%s in all, %s of it for pushes, %s to evaluate; requests by outcome: %v",
		time.Since(begin).Round(time.Millisecond), pushing.Round(time.Millisecond), m.evaluating.Round(time.Millisecond), seen)
	// A generator that no longer reaches an outcome proves nothing about it.
	if last-first > 100 {
		for _, outcome := range []string{"backend", "redirect", "404", "500", "503", "captured backend", "captured redirect", "captured 404", "captured 500"} {
			require.NotZero(t, seen[outcome], "no request was answered by %s", outcome)
		}
	}
}

// drawn returns the seed of a run, and its cases from first to before last.
//
// CAUSEWAY_SEED repeats a run, CAUSEWAY_CASE one case of it, and CAUSEWAY_SOAK makes it long.
func drawn(t *testing.T, inCI, inSoak int) (seed uint64, first, last int) {
	t.Helper()
	seed, last = uint64(time.Now().UnixNano()), inCI //nolint:gosec // any will do
	if s := os.Getenv("CAUSEWAY_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
	}
	if os.Getenv("CAUSEWAY_SOAK") != "" {
		last = inSoak
	}
	if s := os.Getenv("CAUSEWAY_CASE"); s != "" {
		n, err := strconv.Atoi(s)
		require.NoError(t, err)
		first, last = n, n+1
	}
	t.Logf("CAUSEWAY_SEED=%d", seed)
	return seed, first, last
}

// check sends a request and compares; outcome says what became of it.
func (m *mesh) check(c *routeCase, r request) (why, outcome string) {
	start := time.Now()
	e := explain.Evaluate(m.catalog.Read(), c.asked(r))
	m.evaluating += time.Since(start)
	return m.compare(e, m.client, c.sent(r))
}

// checkCaptured is check for the same request of a program whose connections are captured: it connects to a port of the case's Service,
// whatever host the request names. It is one of several in turn, and skipped for ports that are not HTTP.
func (m *mesh) checkCaptured(c *routeCase, r request, turn int) (why, outcome string) {
	const oneOf = 4
	port := c.ports[turn/oneOf%len(c.ports)].Port
	if turn%oneOf != 0 || port != 80 && !slices.Contains(capturedPorts, uint32(port)) {
		return "", "skipped"
	}
	asked := c.asked(r)
	asked.Destination = m.redirect(c.key(), port)
	asked.Ranges = []netip.Prefix{discovery.VirtualIPv4}
	return m.compare(explain.Evaluate(m.catalog.Read(), asked), m.redirected, c.sent(r))
}

// compare sends a request and compares what was said of it.
func (m *mesh) compare(e *explain.Explanation, client *client, sent request) (why, outcome string) {
	seen, err := client.do(sent)
	switch {
	case e.Answer != nil && e.Answer.Status == 0:
		if !errors.Is(err, errReset) {
			return fmt.Sprintf("the evaluator says %s, Envoy answered %d, %v", e.Answer.Because, seen.Status, err), ""
		}
		return "", "reset"
	case err != nil:
		return err.Error(), ""
	case e.Answer == nil:
		outcome = "backend"
	case e.Answer.Location != "":
		outcome = "redirect"
	case e.Answer.GRPCStatus != nil:
		outcome = fmt.Sprintf("grpc-status %d", *e.Answer.GRPCStatus)
	default:
		outcome = strconv.Itoa(e.Answer.Status)
	}
	if why := m.unnamed(&e.Envoy); why != "" {
		return why, outcome
	}
	return differs(e, seen), outcome
}

// unnamed says which of the names of Envoy's resources there is none of, "" if all are there.
func (m *mesh) unnamed(e *explain.Envoy) string {
	var names []string
	if e.RouteConfig != "" {
		names = append(names, "RDS "+e.RouteConfig)
	}
	if e.VirtualHost != "" {
		names = append(names, "VHDS "+e.VirtualHost)
	}
	for _, c := range e.Clusters {
		names = append(names, "CDS "+c)
	}
	for _, name := range names {
		if !m.named[name] {
			return "there is no " + name
		}
	}
	return ""
}

// tries is how often a request is sent while a failure is made smaller: where
// a rule has several backends, not every one may show it.
const tries = 12

// report fails the test with the smallest case that shows the difference.
func report(t *testing.T, m *mesh, seed uint64, c *routeCase, r request) {
	t.Helper()
	fails := func(c *routeCase, r request) bool {
		if m.put(c) != nil {
			return false
		}
		for range tries {
			if why, _ := m.check(c, r); why != "" {
				return true
			}
		}
		return false
	}
	index := c.index
	if fails(c, r) {
		c, r = shrink(c, r, smaller, fails)
	}
	if err := m.put(c); err != nil {
		t.Fatalf("case %d: %v", index, err)
	}
	why := "it does not show again"
	for range tries {
		if again, _ := m.check(c, r); again != "" {
			why = again
			break
		}
	}
	said, err := json.MarshalIndent(explain.Evaluate(m.catalog.Read(), c.asked(r)), "", "  ")
	require.NoError(t, err)
	seen, err := m.client.do(c.sent(r))
	t.Fatalf("CAUSEWAY_SEED=%d CAUSEWAY_CASE=%d\n%s\n%s\nthe evaluator says: %s\nEnvoy did: %+v %v\necho: %+v", seed, index, why, c.text(r), said, seen, err, seen.Echo)
}

// reject fails the test with the smallest case that Envoy does not take.
func reject(t *testing.T, m *mesh, seed uint64, cases []*routeCase, err error) {
	t.Helper()
	for _, c := range cases {
		if m.put(c) == nil {
			continue
		}
		small, _ := shrink(c, request{Method: "GET", Host: "$", Path: "/"}, smaller, func(c *routeCase, _ request) bool { return m.put(c) != nil })
		t.Fatalf("CAUSEWAY_SEED=%d CAUSEWAY_CASE=%d: %v\n%s", seed, c.index, m.put(small), small.text(small.requests[0]))
	}
	t.Fatalf("CAUSEWAY_SEED=%d: cases %d to %d together: %v", seed, cases[0].index, cases[len(cases)-1].index, err)
}

func itoa(n uint16) string { return strconv.Itoa(int(n)) }
