package harness

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// LoadOptions of [StartLoad].
type LoadOptions struct {
	// URL that is asked, of an Envoy's HTTP listener as a rule; with https:// TLS is set.
	URL string
	// TLS is spoken to an https:// URL. The server name is that of Host unless it
	// is set here.
	TLS *tls.Config
	// HTTP2 makes each connection one of HTTP/2, without TLS by prior knowledge.
	// What the server says it has not begun (GOAWAY, RFC 9113 section 6.8) is sent
	// again on another connection, as every client does, and counted as a reconnect.
	HTTP2 bool
	// Host is the name of the Service that the request is for; URL's own host if empty.
	Host   string
	Method string
	Header http.Header
	Body   []byte
	// Next, if set, makes the n-th request (from 0) instead of the fields above;
	// what it leaves empty is taken from them. It is called by several goroutines.
	Next func(n int64) LoadRequest

	// Rate is how many requests per second are due. 0 means a closed loop, in which
	// each worker sends its next request when the last one is answered.
	Rate float64
	// Workers is how many requests can be open at a time, each on a connection of
	// its own: 8 if zero, or 64 with a Rate.
	Workers int
	// Timeout of one request; 10 s if zero. A timeout is a failure.
	Timeout time.Duration
	// NewConnections makes each request on a new connection.
	NewConnections bool
	// Dial opens connections in place of a net.Dialer, for a load from elsewhere.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Accept says whether an answer's status is a success; 200 to 399 if nil.
	Accept func(status int) bool
	// Limit ends the load after so many requests; 0 for none.
	Limit int64
}

// LoadRequest is a request of [LoadOptions].Next.
type LoadRequest struct {
	Method, Path, Host string
	Header             http.Header
	Body               []byte
}

// Load sends requests and counts every answer. It speaks HTTP/1.1 itself, and
// HTTP/2 on connections of its own: what Go's client would quietly try again is a failure here. Only a connection that was
// closed before a request was written to it is replaced without being counted.
type Load struct {
	o       LoadOptions
	target  *url.URL
	stop    chan struct{}
	stopped sync.Once
	done    chan struct{}
	due     chan time.Time

	mu        sync.Mutex
	changed   chan struct{}
	report    Report
	failures  map[string]*Failure
	histogram map[int]int64
}

// BackendKey is who answered.
type BackendKey struct {
	Platform, Zone, ID string
}

// MarshalText and UnmarshalText let a [Report] be JSON.
func (k BackendKey) MarshalText() ([]byte, error) {
	return []byte(k.Platform + "/" + k.Zone + "/" + k.ID), nil
}

// UnmarshalText reads what MarshalText has written.
func (k *BackendKey) UnmarshalText(text []byte) error {
	parts := strings.SplitN(string(text), "/", 3)
	if len(parts) != 3 {
		return fmt.Errorf("%q is no backend", text)
	}
	*k = BackendKey{Platform: parts[0], Zone: parts[1], ID: parts[2]}
	return nil
}

// Failure is what failed for one cause.
type Failure struct {
	Cause       string
	Count       int64
	First, Last time.Time
	// Example is the first one in more words.
	Example string
}

// Report is what a load has counted. Sent = OK + Failed + Open, at any time.
type Report struct {
	Sent, OK, Failed, Open int64
	// Reconnects is how often a connection was found closed before its next request.
	Reconnects int64
	Start, End time.Time
	Statuses   map[int]int64
	// Backends counts the successes by who answered.
	Backends map[BackendKey]int64
	// Failures by cause, the most frequent first.
	Failures []Failure
	// Of all answers, from when the request was due (with a rate) or sent.
	P50, P90, P99, Max time.Duration
}

// StartLoad starts a load, which runs until it is stopped or at its limit.
func StartLoad(t TB, o LoadOptions) *Load {
	t.Helper()
	target, err := url.Parse(o.URL)
	if err != nil || target.Host == "" || target.Scheme != "http" && (target.Scheme != "https" || o.TLS == nil) {
		t.Fatalf("load: %q is neither a http:// URL nor a https:// one with TLS", o.URL)
	}
	if target.Port() == "" {
		target.Host = net.JoinHostPort(target.Hostname(), map[string]string{"http": "80", "https": "443"}[target.Scheme])
	}
	if o.Host == "" {
		o.Host = target.Host
	}
	if o.Method == "" {
		o.Method = http.MethodGet
	}
	if o.Workers == 0 {
		o.Workers = 8
		if o.Rate > 0 {
			o.Workers = 64
		}
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Accept == nil {
		o.Accept = func(status int) bool { return status >= 200 && status < 400 }
	}
	l := &Load{
		o: o, target: target,
		stop: make(chan struct{}), done: make(chan struct{}), due: make(chan time.Time), changed: make(chan struct{}),
		report:   Report{Start: time.Now(), Statuses: map[int]int64{}, Backends: map[BackendKey]int64{}},
		failures: map[string]*Failure{}, histogram: map[int]int64{},
	}
	go l.schedule()
	var workers sync.WaitGroup
	for range o.Workers {
		workers.Go(l.work)
	}
	go func() {
		workers.Wait()
		l.mu.Lock()
		l.report.End = time.Now()
		l.mu.Unlock()
		close(l.done)
	}()
	t.Cleanup(func() { l.Stop() })
	return l
}

// Stop ends the load, waits for the answers that are due, and returns the report.
func (l *Load) Stop() Report {
	l.stopped.Do(func() { close(l.stop) })
	<-l.done
	return l.Report()
}

// Wait waits for the load's end, which a limit sets, and returns the report.
func (l *Load) Wait() Report {
	<-l.done
	return l.Report()
}

// WaitAnswers waits until n more requests have succeeded or failed.
func (l *Load) WaitAnswers(t TB, n int64, limit time.Duration) {
	t.Helper()
	timeout := time.After(limit)
	l.mu.Lock()
	want := l.report.OK + l.report.Failed + n
	l.mu.Unlock()
	for {
		l.mu.Lock()
		have, changed := l.report.OK+l.report.Failed, l.changed
		l.mu.Unlock()
		if have >= want {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("waited %s for %d answers: %s", limit, want-have, l.Report())
		}
	}
}

// Report returns what has been counted so far.
func (l *Load) Report() Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.report
	r.Statuses, r.Backends = maps.Clone(r.Statuses), maps.Clone(r.Backends)
	r.Failures = nil
	for _, f := range l.failures {
		r.Failures = append(r.Failures, *f)
	}
	slices.SortFunc(r.Failures, func(a, b Failure) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Cause, b.Cause))
	})
	if r.End.IsZero() {
		r.End = time.Now()
	}
	buckets := slices.Sorted(maps.Keys(l.histogram))
	var total int64
	for _, b := range buckets {
		total += l.histogram[b]
	}
	at := func(part float64) time.Duration {
		var seen int64
		for _, b := range buckets {
			if seen += l.histogram[b]; float64(seen) >= part*float64(total) {
				return min(bucketEnd(b), r.Max)
			}
		}
		return 0
	}
	r.P50, r.P90, r.P99 = at(0.5), at(0.9), at(0.99)
	return r
}

// Buckets of the histogram grow by 2 % each.
const bucketGrowth = 1.02

func bucketOf(d time.Duration) int {
	return int(math.Ceil(math.Log(float64(max(d, time.Microsecond))/float64(time.Microsecond)) / math.Log(bucketGrowth)))
}

func bucketEnd(b int) time.Duration {
	return time.Duration(float64(time.Microsecond) * math.Pow(bucketGrowth, float64(b)))
}

// schedule hands out when each request is due. Those that no worker is free for
// wait, and the wait counts as latency.
func (l *Load) schedule() {
	defer close(l.due)
	start := time.Now()
	for n := int64(0); l.o.Limit == 0 || n < l.o.Limit; n++ {
		at := time.Time{}
		if l.o.Rate > 0 {
			at = start.Add(time.Duration(float64(n) / l.o.Rate * float64(time.Second)))
			if wait := time.Until(at); wait > 0 {
				select {
				case <-time.After(wait):
				case <-l.stop:
					return
				}
			}
		}
		select {
		case l.due <- at:
		case <-l.stop:
			return
		}
	}
}

// connection is a worker's, if it has one.
type connection struct {
	net.Conn // the TCP connection, or the TLS one on it
	tcp      net.Conn
	reader   *bufio.Reader
	http2    *http.ClientConn // nil for HTTP/1.1
}

// Close ends the connection at once.
func (c *connection) Close() error {
	if c.http2 != nil {
		return c.http2.Close()
	}
	return c.Conn.Close()
}

func (l *Load) work() {
	var c *connection
	defer func() {
		if c != nil {
			_ = c.Close()
		}
	}()
	for at := range l.due {
		if at.IsZero() {
			at = time.Now()
		}
		c = l.one(at, c)
	}
}

// one sends one request and counts its end. It returns the connection if the next
// request can use it.
func (l *Load) one(due time.Time, c *connection) *connection {
	l.mu.Lock()
	number := l.report.Sent
	l.report.Sent++
	l.report.Open++
	l.mu.Unlock()

	if c != nil && (l.o.NewConnections || c.gone()) {
		_ = c.Close()
		if !l.o.NewConnections {
			l.mu.Lock()
			l.report.Reconnects++
			l.mu.Unlock()
		}
		c = nil
	}
	if c == nil {
		var err error
		if c, err = l.connect(); err != nil {
			l.fail(due, "connecting: "+errorName(err), err.Error())
			return nil
		}
	}
	if c.http2 != nil {
		return l.oneHTTP2(due, c, number)
	}
	_ = c.SetDeadline(time.Now().Add(l.o.Timeout))
	request, method := l.request(number)
	if _, err := c.Write(request); err != nil {
		_ = c.Close()
		l.fail(due, "sending: "+errorName(err), err.Error())
		return nil
	}
	answer, err := http.ReadResponse(c.reader, &http.Request{Method: method})
	for err == nil && answer.StatusCode >= 100 && answer.StatusCode < 200 && answer.StatusCode != http.StatusSwitchingProtocols {
		answer, err = http.ReadResponse(c.reader, &http.Request{Method: method})
	}
	if err != nil {
		_ = c.Close()
		l.fail(due, "waiting for the answer: "+errorName(err), err.Error())
		return nil
	}
	body, err := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	if err != nil {
		_ = c.Close()
		l.fail(due, fmt.Sprintf("reading the body of a %d: %s", answer.StatusCode, errorName(err)), err.Error())
		return nil
	}
	l.count(due, answer, body)
	if answer.Close {
		_ = c.Close()
		return nil
	}
	return c
}

// connect opens a connection for a worker.
func (l *Load) connect() (*connection, error) {
	if l.o.HTTP2 {
		return l.connectHTTP2()
	}
	ctx, cancel := context.WithTimeout(context.Background(), l.o.Timeout)
	defer cancel()
	dial := l.o.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	address := l.target.Host
	if l.target.Port() == "" {
		address = net.JoinHostPort(l.target.Hostname(), l.target.Scheme)
	}
	raw, err := dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if l.target.Scheme == "http" {
		return &connection{Conn: raw, tcp: raw, reader: bufio.NewReader(raw)}, nil
	}
	secured := tls.Client(raw, l.tlsConfig())
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return &connection{Conn: secured, tcp: raw, reader: bufio.NewReader(secured)}, nil
}

// tlsConfig is the load's, with the server name that it asks for.
func (l *Load) tlsConfig() *tls.Config {
	config := l.o.TLS.Clone()
	if config.ServerName == "" {
		config.ServerName = l.o.Host
		if host, _, err := net.SplitHostPort(l.o.Host); err == nil {
			config.ServerName = host
		}
	}
	return config
}

// gone says whether the peer has closed the connection, without waiting.
func (c *connection) gone() bool {
	if c.http2 != nil {
		return c.http2.Available() == 0
	}
	if c.reader.Buffered() > 0 {
		return true // an answer to nothing
	}
	tcp, ok := c.tcp.(*net.TCPConn)
	if !ok {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return true
	}
	gone := true
	err = raw.Read(func(fd uintptr) bool {
		var one [1]byte
		_, _, err := unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		gone = !errors.Is(err, unix.EAGAIN)
		return true
	})
	return gone || err != nil
}

// next is the n-th request, with what Next leaves empty.
func (l *Load) next(n int64) LoadRequest {
	r := LoadRequest{}
	if l.o.Next != nil {
		r = l.o.Next(n)
	}
	r.Method = cmp.Or(r.Method, l.o.Method)
	r.Path = cmp.Or(r.Path, l.target.RequestURI())
	r.Host = cmp.Or(r.Host, l.o.Host)
	if r.Body == nil {
		r.Body = l.o.Body
	}
	return r
}

func (l *Load) request(n int64) (text []byte, method string) {
	r := l.next(n)
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", r.Method, r.Path, r.Host)
	_ = l.o.Header.Write(&b)
	_ = r.Header.Write(&b)
	if len(r.Body) > 0 || r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(r.Body))
	}
	b.WriteString("\r\n")
	b.Write(r.Body)
	return b.Bytes(), r.Method
}

func (l *Load) fail(due time.Time, cause, example string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end(due)
	l.report.Failed++
	f := l.failures[cause]
	if f == nil {
		f = &Failure{Cause: cause, First: time.Now(), Example: example}
		l.failures[cause] = f
	}
	f.Count++
	f.Last = time.Now()
}

// end counts a request as answered, well or not; l.mu is held.
func (l *Load) end(due time.Time) {
	took := time.Since(due)
	l.report.Open--
	l.report.Max = max(l.report.Max, took)
	l.histogram[bucketOf(took)]++
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *Load) count(due time.Time, answer *http.Response, body []byte) {
	if !l.o.Accept(answer.StatusCode) {
		l.fail(due, answerCause(answer, body), answerExample(answer, body))
		l.mu.Lock()
		l.report.Statuses[answer.StatusCode]++
		l.mu.Unlock()
		return
	}
	var who Backend
	_ = json.Unmarshal(body, &who) // an answer that is none of a workload's counts as nobody's
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end(due)
	l.report.OK++
	l.report.Statuses[answer.StatusCode]++
	l.report.Backends[BackendKey{Platform: who.Platform, Zone: who.Zone, ID: who.ID}]++
}

// flagHeaders may carry Envoy's response flags (%RESPONSE_FLAGS%), where its
// configuration adds them.
var flagHeaders = []string{"X-Causeway-Flags", "X-Envoy-Response-Flags", "X-Response-Flags"}

func responseFlags(h http.Header) string {
	for _, name := range flagHeaders {
		if flags := h.Get(name); flags != "" && flags != "-" {
			return flags
		}
	}
	return ""
}

// answerCause names why an answer is no success: the status, Envoy's flags, and
// whether Envoy made the answer itself, with its reason, or the backend did.
func answerCause(answer *http.Response, body []byte) string {
	cause := strconv.Itoa(answer.StatusCode)
	if flags := responseFlags(answer.Header); flags != "" {
		cause += " " + flags
	}
	if answer.Header.Get("X-Envoy-Upstream-Service-Time") != "" {
		return cause + " from the backend"
	}
	text := string(bytes.TrimSpace(body))
	if len(text) > 160 || strings.ContainsAny(text, "{<") {
		return cause
	}
	return cause + " from Envoy: " + text
}

func answerExample(answer *http.Response, body []byte) string {
	var b strings.Builder
	b.WriteString(answer.Status)
	for _, name := range slices.Sorted(maps.Keys(answer.Header)) {
		if strings.HasPrefix(name, "X-") || name == "Server" {
			fmt.Fprintf(&b, ", %s: %s", strings.ToLower(name), strings.Join(answer.Header[name], ", "))
		}
	}
	return b.String() + ": " + string(body[:min(len(body), 300)])
}

// errorName is an error without the addresses that would make each one differ.
func errorName(err error) string {
	var network net.Error
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return "timeout"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET):
		return "connection reset"
	case errors.Is(err, syscall.EPIPE):
		return "broken pipe"
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return "connection closed"
	}
	return err.Error()
}

// Platforms counts the successes by the platform that answered.
func (r Report) Platforms() map[string]int64 {
	counts := map[string]int64{}
	for k, n := range r.Backends {
		counts[k.Platform] += n
	}
	return counts
}

// Zones counts the successes by the zone that answered.
func (r Report) Zones() map[string]int64 {
	counts := map[string]int64{}
	for k, n := range r.Backends {
		counts[k.Zone] += n
	}
	return counts
}

// IDs counts the successes by the backend that answered.
func (r Report) IDs() map[string]int64 {
	counts := map[string]int64{}
	for k, n := range r.Backends {
		counts[k.ID] += n
	}
	return counts
}

// Since is what was counted after an earlier report of the same load; requests
// that were open then are counted as sent since. Latencies and the failures' first times remain those of the whole load.
func (r Report) Since(earlier Report) Report {
	r.Sent -= earlier.OK + earlier.Failed
	r.OK -= earlier.OK
	r.Failed -= earlier.Failed
	r.Reconnects -= earlier.Reconnects
	r.Start = earlier.End
	r.Statuses, r.Backends = maps.Clone(r.Statuses), maps.Clone(r.Backends)
	subtract(r.Statuses, earlier.Statuses)
	subtract(r.Backends, earlier.Backends)
	before := map[string]int64{}
	for _, f := range earlier.Failures {
		before[f.Cause] = f.Count
	}
	var failures []Failure
	for _, f := range r.Failures {
		if f.Count -= before[f.Cause]; f.Count > 0 {
			failures = append(failures, f)
		}
	}
	r.Failures = failures
	return r
}

func subtract[K comparable](from, what map[K]int64) {
	for k, n := range what {
		if from[k] -= n; from[k] == 0 {
			delete(from, k)
		}
	}
}

// String is the report in a few lines, failures by cause first.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d requests in %s: %d answered, %d failed, %d open; p50 %s, p99 %s, longest %s\n",
		r.Sent, r.End.Sub(r.Start).Round(time.Millisecond), r.OK, r.Failed, r.Open,
		r.P50.Round(10*time.Microsecond), r.P99.Round(10*time.Microsecond), r.Max.Round(10*time.Microsecond))
	for _, f := range r.Failures {
		fmt.Fprintf(&b, "  failed %d: %s (%s to %s after the start; the first: %s)\n", f.Count, f.Cause,
			f.First.Sub(r.Start).Round(time.Millisecond), f.Last.Sub(r.Start).Round(time.Millisecond), f.Example)
	}
	keys := slices.SortedFunc(maps.Keys(r.Backends), func(a, b BackendKey) int {
		return cmp.Or(cmp.Compare(a.Platform, b.Platform), cmp.Compare(a.Zone, b.Zone), cmp.Compare(a.ID, b.ID))
	})
	for _, k := range keys {
		fmt.Fprintf(&b, "  %d by %s %s %s\n", r.Backends[k], cmp.Or(k.Platform, "?"), k.Zone, k.ID)
	}
	return b.String()
}

// RequireNoFailures fails the test, with the causes, if any request has failed,
// and if none was sent at all.
func (r Report) RequireNoFailures(t TB) {
	t.Helper()
	switch {
	case r.Sent != r.OK+r.Failed+r.Open:
		t.Fatalf("the load has lost count: %s", r)
	case r.Failed > 0:
		t.Fatalf("requests failed: %s", r)
	case r.OK == 0:
		t.Fatalf("no request was answered: %s", r)
	}
}
