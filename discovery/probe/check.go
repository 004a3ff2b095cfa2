package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"syscall"
	"time"
)

// check is what to ask one instance.
type check struct {
	address string
	port    uint16
	// path to ask for over HTTP, "" for a TCP connect.
	path, host string
	timeout    time.Duration
}

// checker makes checks. Each check has a connection of its own: an open one
// would only prove that the instance was well when it was opened.
type checker struct {
	dialer net.Dialer
	client *http.Client
}

func newChecker() *checker {
	c := &checker{}
	c.client = &http.Client{
		Transport: &http.Transport{
			DialContext: c.dialer.DialContext, DisableKeepAlives: true, DisableCompression: true,
			MaxResponseHeaderBytes: 64 << 10,
		},
		// A redirect is an answer: what it leads to is not the instance's health.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c
}

func (c *checker) do(ctx context.Context, k *check) result {
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	target := net.JoinHostPort(k.address, strconv.Itoa(int(k.port)))
	if k.path == "" {
		conn, err := c.dialer.DialContext(ctx, "tcp", target)
		if err != nil {
			return failed(err, false, k.timeout)
		}
		_ = conn.Close()
		return result{ok: true}
	}
	u, err := url.ParseRequestURI(k.path)
	if err != nil {
		return result{reason: "CheckInvalid: the path cannot be asked for"}
	}
	u.Scheme, u.Host = "http", target
	connected := false
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected = true }})
	req := (&http.Request{
		Method: http.MethodGet, URL: u, Host: k.host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"User-Agent": {"causeway-probe"}}, Close: true,
	}).WithContext(ctx)
	resp, err := c.client.Do(req)
	if err != nil {
		return failed(err, connected, k.timeout)
	}
	_ = resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return result{reason: fmt.Sprintf("CheckFailed: %s answered %d", k.path, resp.StatusCode)}
	}
	return result{ok: true}
}

// failed sorts the errors of a check into answers of the instance or its machine, and
// silence. A machine that accepts connections is not silent.
func failed(err error, connected bool, timeout time.Duration) result {
	var network net.Error
	var dial *net.OpError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return result{reason: "CheckRefused: the connection was refused"}
	case errors.Is(err, syscall.ECONNRESET):
		return result{reason: "CheckFailed: the connection was reset"}
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return result{silent: !connected, reason: fmt.Sprintf("CheckTimeout: no answer within %s", timeout)}
	case errors.Is(err, context.Canceled):
		return result{silent: true, reason: "CheckCanceled: the checker stops"}
	case errors.As(err, &dial) && dial.Op == "dial":
		return result{silent: true, reason: "CheckUnreachable: " + dial.Err.Error()}
	}
	return result{reason: "CheckFailed: the answer is no HTTP"}
}
