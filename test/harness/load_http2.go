package harness

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// connectHTTP2 opens a connection that speaks HTTP/2 and nothing else.
func (l *Load) connectHTTP2() (*connection, error) {
	protocols := new(http.Protocols)
	transport := &http.Transport{Protocols: protocols, DisableCompression: true}
	if l.target.Scheme == "https" {
		protocols.SetHTTP2(true)
		transport.TLSClientConfig = l.tlsConfig()
	} else {
		protocols.SetUnencryptedHTTP2(true)
	}
	ctx, cancel := context.WithTimeout(context.Background(), l.o.Timeout)
	defer cancel()
	c, err := transport.NewClientConn(ctx, l.target.Scheme, l.target.Host)
	if err != nil {
		return nil, err
	}
	return &connection{http2: c}, nil
}

// oneHTTP2 is what one does after a connection is there.
func (l *Load) oneHTTP2(due time.Time, c *connection, number int64) *connection {
	for retries := 0; ; retries++ {
		answer, body, err := l.exchangeHTTP2(c.http2, number)
		switch {
		case err == nil:
			l.count(due, answer, body)
			return c
		case notBegun(err) && retries < 3:
			_ = c.Close()
			l.mu.Lock()
			l.report.Reconnects++
			l.mu.Unlock()
			if c, err = l.connect(); err != nil {
				l.fail(due, "connecting: "+errorName(err), err.Error())
				return nil
			}
		default:
			_ = c.Close()
			cause := "waiting for the answer: "
			if answer != nil {
				cause = fmt.Sprintf("reading the body of a %d: ", answer.StatusCode)
			}
			l.fail(due, cause+errorName(err), err.Error())
			return nil
		}
	}
}

// notBegun says whether the server has said of a request that it did not begin
// with it, or the request was never sent. The package net/http has no names for these errors.
func notBegun(err error) bool {
	for _, text := range []string{"graceful shutdown GOAWAY", "client conn not usable", "client conn is closed", "REFUSED_STREAM"} {
		if strings.Contains(err.Error(), text) {
			return true
		}
	}
	return false
}

// exchangeHTTP2 sends one request. With an error, the answer is what came of it.
func (l *Load) exchangeHTTP2(c *http.ClientConn, number int64) (*http.Response, []byte, error) {
	r := l.next(number)
	path, err := url.ParseRequestURI(r.Path)
	if err != nil {
		return nil, nil, err
	}
	path.Scheme, path.Host = l.target.Scheme, r.Host
	ctx, cancel := context.WithTimeout(context.Background(), l.o.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, r.Method, path.String(), bytes.NewReader(r.Body))
	if err != nil {
		return nil, nil, err
	}
	// Only what NewClientConn returned may decide about trying again.
	request.GetBody = nil
	maps.Copy(request.Header, l.o.Header)
	maps.Copy(request.Header, r.Header)
	answer, err := c.RoundTrip(request)
	if err != nil {
		return nil, nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return answer, body, err
}
