package harness

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ProxyKind says what a [Proxy] understands.
type ProxyKind int

const (
	// ProxyTCP passes bytes.
	ProxyTCP ProxyKind = iota
	// ProxyHTTP passes requests: it can answer them itself and change answers.
	ProxyHTTP
)

// ProxyOptions of [StartProxy].
type ProxyOptions struct {
	// Name in messages; "proxy" if empty.
	Name string
	Kind ProxyKind
	// Target is the "host:port" behind the proxy.
	Target string
	// Server is the TLS that an HTTP proxy serves, Client the TLS that it speaks
	// to the target; nil for plain HTTP.
	Server, Client *tls.Config
	// Rewrite changes the answers of an HTTP proxy, if set.
	Rewrite func(r *http.Request, requestBody, answer []byte) []byte
}

// Answer is what an HTTP proxy answers in the target's place.
type Answer struct {
	Status int
	Header http.Header
	Body   string
}

// Proxy stands in front of a server and makes the faults between it and its
// clients. Faults last until [Proxy.Restore].
type Proxy struct {
	o       ProxyOptions
	address string
	target  string // of the TCP layer: the HTTP layer's listener, or o.Target

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool // both ends of everything that is open
	changed  chan struct{}     // closed when the faults below change
	closed   bool
	hung     bool
	delay    time.Duration
	truncate int // -1: nothing is cut
	failures []*failure
	calls    map[string]int
}

type failure struct {
	left   int // < 0: for ever
	match  func(r *http.Request, body []byte) bool
	answer Answer
}

// StartProxy starts a proxy on a free loopback port, with no faults.
func StartProxy(t TB, o ProxyOptions) *Proxy {
	t.Helper()
	if o.Name == "" {
		o.Name = "proxy"
	}
	p := &Proxy{
		o: o, address: FreeAddress(t), target: o.Target,
		conns: map[net.Conn]bool{}, changed: make(chan struct{}), truncate: -1, calls: map[string]int{},
	}
	if o.Kind == ProxyHTTP {
		p.serveHTTP(t)
	}
	if err := p.listen(); err != nil {
		t.Fatalf("%s: %v", o.Name, err)
	}
	t.Cleanup(p.Close)
	return p
}

// Address is the proxy's "127.0.0.1:port".
func (p *Proxy) Address() string { return p.address }

// URL is "http://127.0.0.1:port", with https where the proxy serves TLS.
func (p *Proxy) URL() string {
	if p.o.Server != nil {
		return "https://" + p.address
	}
	return "http://" + p.address
}

// Close ends the proxy.
func (p *Proxy) Close() {
	p.Cut()
	p.set(func() { p.closed = true })
}

// Cut breaks all connections with a reset and refuses new ones.
func (p *Proxy) Cut() {
	p.set(func() {
		if p.listener != nil {
			_ = p.listener.Close()
			p.listener = nil
		}
	})
	p.Reset()
}

// Reset breaks all connections with a reset, once.
func (p *Proxy) Reset() {
	p.mu.Lock()
	conns := slices.Collect(maps.Keys(p.conns))
	p.mu.Unlock()
	for _, c := range conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
}

// Hang accepts everything and passes nothing on, as a host does that is gone.
func (p *Proxy) Hang() { p.set(func() { p.hung = true }) }

// Delay holds each answer (HTTP), or each read from the target (TCP), back by d.
func (p *Proxy) Delay(d time.Duration) { p.set(func() { p.delay = d }) }

// Truncate cuts each answer's body (HTTP), or what each connection brings from
// the target (TCP), after n bytes, and resets the connection.
func (p *Proxy) Truncate(n int) { p.set(func() { p.truncate = n }) }

// Fail makes an HTTP proxy give this answer to the next n requests, n < 0 for
// all, that match (nil for any).
func (p *Proxy) Fail(n int, a Answer, match func(r *http.Request, body []byte) bool) {
	p.set(func() { p.failures = append(p.failures, &failure{left: n, match: match, answer: a}) })
}

// Restore ends all faults.
func (p *Proxy) Restore(t TB) {
	t.Helper()
	p.set(func() { p.hung, p.delay, p.truncate, p.failures = false, 0, -1, nil })
	if err := p.listen(); err != nil {
		t.Fatalf("%s: %v", p.o.Name, err)
	}
}

// Calls counts the requests that an HTTP proxy was sent by what they ask: the AWS
// action, or "GET /path".
func (p *Proxy) Calls() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.calls)
}

func (p *Proxy) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

// pass waits while the proxy hangs, then for its delay. It says false when the
// connection that asks has ended.
func (p *Proxy) pass(ended <-chan struct{}, delayed bool) bool {
	for {
		p.mu.Lock()
		hung, closed, changed, delay := p.hung, p.closed, p.changed, p.delay
		p.mu.Unlock()
		switch {
		case closed:
			return false
		case hung:
			select {
			case <-changed:
			case <-ended:
				return false
			}
		case delayed && delay > 0:
			select {
			case <-time.After(delay):
				return true
			case <-ended:
				return false
			}
		default:
			return true
		}
	}
}

func (p *Proxy) listen() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil || p.closed {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", p.address)
	if err != nil {
		return err
	}
	p.listener = l
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.relay(c)
		}
	}()
	return nil
}

// relay passes bytes between a client and the target until either ends.
func (p *Proxy) relay(client net.Conn) {
	if !p.track(client) {
		return
	}
	defer p.forget(client)
	ended := make(chan struct{})
	defer close(ended)
	if !p.pass(ended, false) {
		return
	}
	target, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(context.Background(), "tcp", p.target)
	if err != nil {
		reset(client)
		return
	}
	if !p.track(target) {
		return
	}
	defer p.forget(target)

	var both sync.WaitGroup
	both.Go(func() { p.copy(target, client, ended, false) })
	both.Go(func() { p.copy(client, target, ended, true) })
	both.Wait()
}

// copy passes bytes one way and hands on how the source ended.
func (p *Proxy) copy(to, from net.Conn, ended <-chan struct{}, answers bool) {
	raw := p.o.Kind == ProxyTCP // else the HTTP layer makes the delays and cuts
	buffer := make([]byte, 32<<10)
	passed := 0
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if !p.pass(ended, answers && raw) {
				reset(to)
				return
			}
			p.mu.Lock()
			limit := p.truncate
			p.mu.Unlock()
			cut := answers && raw && limit >= 0 && passed+n >= limit
			if cut {
				n = max(0, limit-passed)
			}
			if _, werr := to.Write(buffer[:n]); werr != nil || cut {
				reset(to)
				reset(from)
				return
			}
			passed += n
		}
		switch {
		case errors.Is(err, io.EOF):
			if tcp, ok := to.(*net.TCPConn); ok {
				_ = tcp.CloseWrite()
			}
			return
		case err != nil:
			reset(to)
			return
		}
	}
}

func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

func (p *Proxy) track(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.listener == nil {
		reset(c)
		return false
	}
	p.conns[c] = true
	return true
}

func (p *Proxy) forget(c net.Conn) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// serveHTTP puts the HTTP layer behind the TCP one.
func (p *Proxy) serveHTTP(t TB) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("%s: %v", p.o.Name, err)
	}
	p.target = l.Addr().String()
	scheme := "http"
	if p.o.Client != nil {
		scheme = "https"
	}
	transport := &http.Transport{
		TLSClientConfig: p.o.Client, ForceAttemptHTTP2: p.o.Client != nil,
		MaxIdleConnsPerHost: 64, DisableCompression: true,
	}
	server := &http.Server{
		Handler:           &httpLayer{p: p, base: url.URL{Scheme: scheme, Host: p.o.Target}, transport: transport},
		TLSConfig:         p.o.Server,
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	go func() {
		if p.o.Server != nil {
			_ = server.ServeTLS(l, "", "")
		} else {
			_ = server.Serve(l)
		}
	}()
	t.Cleanup(func() {
		_ = server.Close()
		transport.CloseIdleConnections()
	})
}

type httpLayer struct {
	p         *Proxy
	base      url.URL
	transport *http.Transport
}

// ServeHTTP passes one request on, or fails it.
func (h *httpLayer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<20))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	answer := h.p.record(r, body)
	if !h.p.pass(r.Context().Done(), true) {
		panic(http.ErrAbortHandler)
	}
	if answer != nil {
		maps.Copy(w.Header(), answer.Header)
		w.WriteHeader(answer.Status)
		_, _ = io.WriteString(w, answer.Body)
		return
	}
	out := r.Clone(r.Context())
	out.RequestURI = ""
	out.URL.Scheme, out.URL.Host = h.base.Scheme, h.base.Host
	out.Body = io.NopCloser(bytes.NewReader(body))
	if len(body) == 0 {
		out.Body = http.NoBody
	}
	out.ContentLength = int64(len(body))
	in, err := h.transport.RoundTrip(out)
	if err != nil {
		http.Error(w, "proxy: "+err.Error(), http.StatusBadGateway)
		return
	}
	defer in.Body.Close()
	h.answer(w, r, body, in)
}

func (h *httpLayer) answer(w http.ResponseWriter, r *http.Request, body []byte, in *http.Response) {
	h.p.mu.Lock()
	limit := h.p.truncate
	h.p.mu.Unlock()
	maps.Copy(w.Header(), in.Header)
	if h.p.o.Rewrite == nil && limit < 0 {
		w.WriteHeader(in.StatusCode)
		flusher := http.NewResponseController(w)
		buffer := make([]byte, 32<<10)
		for { // a watch must pass as it comes
			n, err := in.Body.Read(buffer)
			if _, werr := w.Write(buffer[:n]); werr != nil {
				return
			}
			_ = flusher.Flush()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				panic(http.ErrAbortHandler)
			}
		}
	}
	whole, err := io.ReadAll(in.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if h.p.o.Rewrite != nil {
		whole = h.p.o.Rewrite(r, body, whole)
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(whole)))
	w.WriteHeader(in.StatusCode)
	if limit >= 0 && limit < len(whole) {
		_, _ = w.Write(whole[:limit])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(whole)
}

// record counts a request and returns the answer that a fault has for it.
func (p *Proxy) record(r *http.Request, body []byte) *Answer {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls[CallName(r, body)]++
	for _, f := range p.failures {
		if f.left != 0 && (f.match == nil || f.match(r, body)) {
			if f.left > 0 {
				f.left--
			}
			return &f.answer
		}
	}
	return nil
}

// CallName is what a request asks: the action of one to AWS, or method and path.
func CallName(r *http.Request, body []byte) string {
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		return target[strings.LastIndexByte(target, '.')+1:]
	}
	if r.Method == http.MethodPost && strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		if form, err := url.ParseQuery(string(body)); err == nil && form.Has("Action") {
			return form.Get("Action")
		}
	}
	return r.Method + " " + r.URL.Path
}
