package harness_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/test/harness"
)

func goWorkload(t *testing.T, id string) *harness.Workload {
	t.Helper()
	return harness.StartWorkload(t, harness.WorkloadOptions{Kind: harness.Go, Platform: "pods", ID: id, Zone: "z"})
}

func TestLoadCountsEveryAnswer(t *testing.T) {
	t.Parallel()
	w := goWorkload(t, "pod-1")
	const n = 2000
	r := harness.StartLoad(t, harness.LoadOptions{
		URL: "http://" + w.Address(), Host: "php-web.web", Limit: n,
		Next: func(i int64) harness.LoadRequest {
			if i%10 == 0 {
				return harness.LoadRequest{Path: "/status?code=500", Method: http.MethodPost, Body: []byte("x")}
			}
			return harness.LoadRequest{}
		},
	}).Wait()
	require.EqualValues(t, n, r.Sent)
	require.EqualValues(t, n/10, r.Failed)
	require.EqualValues(t, n-n/10, r.OK)
	require.Zero(t, r.Open)
	require.Equal(t, map[int]int64{200: n - n/10, 500: n / 10}, r.Statuses)
	require.Equal(t, map[string]int64{"pods": n - n/10}, r.Platforms())
	require.EqualValues(t, n, w.Served(), "nothing is sent twice")
	require.Len(t, r.Failures, 1)
	require.Positive(t, r.P50)
	require.LessOrEqual(t, r.P99, r.Max)
	require.Contains(t, r.String(), "failed 200: 500")
}

func TestLoadNamesTransportFailures(t *testing.T) {
	t.Parallel()
	w := goWorkload(t, "pod-1")
	p := harness.StartProxy(t, harness.ProxyOptions{Target: w.Address()})
	l := harness.StartLoad(t, harness.LoadOptions{URL: "http://" + p.Address(), Workers: 2, Timeout: 500 * time.Millisecond})
	l.WaitAnswers(t, 100, 10*time.Second)
	before := l.Report()
	before.RequireNoFailures(t)

	// met reports whether the load has met a fault for this cause.
	met := func(cause string) error {
		for _, f := range l.Report().Since(before).Failures {
			if strings.Contains(f.Cause, cause) {
				return nil
			}
		}
		return &missing{l.Report().Since(before)}
	}
	// phase makes a fault and waits until the load has met it.
	phase := func(fault func(), cause string) {
		t.Helper()
		fault()
		harness.Eventually(t, 10*time.Second, "failure "+cause, func() error { return met(cause) })
		p.Restore(t)
		l.WaitAnswers(t, 100, 10*time.Second)
		before = l.Report()
		l.WaitAnswers(t, 100, 10*time.Second)
		l.Report().Since(before).RequireNoFailures(t)
		before = l.Report()
	}
	phase(p.Cut, "connection refused")
	phase(p.Hang, "timeout")
	phase(func() { p.Truncate(150) }, "reading the body of a 200")
	const waiting = "waiting for the answer"
	phase(func() {
		p.Delay(100 * time.Millisecond)
		// A reset may meet a request that is just being sent, which is another cause.
		harness.Eventually(t, 10*time.Second, "a request on its way", func() error {
			p.Reset()
			return met(waiting)
		})
	}, waiting)

	r := l.Stop()
	require.Equal(t, r.Sent, r.OK+r.Failed)
	require.Zero(t, r.Open)
}

type missing struct{ r harness.Report }

func (m *missing) Error() string { return m.r.String() }

func TestLoadKeepsItsRate(t *testing.T) {
	t.Parallel()
	w := goWorkload(t, "pod-1")
	l := harness.StartLoad(t, harness.LoadOptions{URL: "http://" + w.Address() + "/slow?ms=20", Rate: 200, Limit: 200})
	r := l.Wait()
	r.RequireNoFailures(t)
	require.EqualValues(t, 200, r.OK)
	require.GreaterOrEqual(t, r.End.Sub(r.Start), 990*time.Millisecond)
	require.GreaterOrEqual(t, r.P50, 20*time.Millisecond)
}

func TestLoadReplacesAnIdleConnectionThatWasClosed(t *testing.T) {
	t.Parallel()
	w := goWorkload(t, "pod-1")
	p := harness.StartProxy(t, harness.ProxyOptions{Target: w.Address()})
	l := harness.StartLoad(t, harness.LoadOptions{URL: "http://" + p.Address(), Rate: 5, Workers: 1})
	l.WaitAnswers(t, 1, 5*time.Second)
	p.Reset()
	l.WaitAnswers(t, 2, 5*time.Second)
	r := l.Stop()
	r.RequireNoFailures(t)
	require.EqualValues(t, 1, r.Reconnects)
}

// A report passes through JSON, from a load in a pod to its test.
func TestReportIsJSON(t *testing.T) {
	t.Parallel()
	r := harness.Report{Sent: 2, Backends: map[harness.BackendKey]int64{{Platform: "pods", Zone: "a", ID: "users-1/2"}: 2}, Statuses: map[int]int64{200: 2}}
	text, err := json.Marshal(r)
	require.NoError(t, err)
	var back harness.Report
	require.NoError(t, json.Unmarshal(text, &back))
	require.Equal(t, r, back)
	require.ErrorContains(t, json.Unmarshal([]byte(`{"Backends": {"pods": 1}}`), &back), "is no backend")
}
