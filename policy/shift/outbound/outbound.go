// Package outbound makes the HTTP requests that people who write TrafficShifts
// ask for: of metric providers and of webhooks.
//
// Whoever may write a TrafficShift chooses where the control plane connects to.
// So that nobody reaches through it what the network keeps from them, addresses
// of the machine itself, of its link and of the cloud's metadata are refused
// when a connection is made, by the address that a name has resolved to.
package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"syscall"
	"time"
)

// Options of a client.
type Options struct {
	// AllowLoopback admits addresses of this machine, for a control plane without
	// Kubernetes, whose configuration only the machine's owner writes.
	AllowLoopback bool
}

// NewClient returns a client that refuses addresses as the package says, follows
// no redirect and uses no proxy. A redirect would take credentials to a host
// that nobody has written down, and a proxy resolves names where nobody checks them.
func NewClient(o Options) *http.Client {
	dialer := &net.Dialer{
		Timeout:   10 * time.Second,
		KeepAlive: 30 * time.Second,
		// Control runs after the name is resolved, for each address that is tried.
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			return check(address, o)
		},
	}
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			ForceAttemptHTTP2:      true,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    10 * time.Second,
			MaxIdleConnsPerHost:    2,
			MaxIdleConns:           64,
			MaxConnsPerHost:        8,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// RefusedError is an address that must not be connected to.
type RefusedError struct {
	Address netip.Addr
	// Kind of address, for example "a link-local address".
	Kind string
}

// Error names the address and what may be done.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s is %s, which the control plane does not connect to: name a host of the network", e.Address, e.Kind)
}

// metadata are the addresses of clouds' metadata and credentials that are not
// link-local (EC2: IPv6 instance metadata and EKS Pod Identity).
func metadata() netip.Prefix { return netip.MustParsePrefix("fd00:ec2::/32") }

// nat64 carries an IPv4 address in its last 32 bits (RFC 6052), nat64Local as well (RFC 8215).
func nat64() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48")}
}

// check refuses an "address:port" that a name has resolved to.
func check(address string, o Options) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("address %q: %w", address, err)
	}
	addr := to.Addr().Unmap().WithZone("")
	inner := addr
	if slices.ContainsFunc(nat64(), func(p netip.Prefix) bool { return p.Contains(addr) }) {
		bytes := addr.As16()
		inner = netip.AddrFrom4([4]byte(bytes[12:]))
	}
	switch {
	case inner.IsLoopback():
		if o.AllowLoopback {
			return nil
		}
		return &RefusedError{addr, "an address of the control plane itself"}
	case inner.IsUnspecified() || inner.Is4() && inner.As4()[0] == 0:
		return &RefusedError{addr, "no host's address"}
	case inner.IsLinkLocalUnicast():
		return &RefusedError{addr, "a link-local address, as those of instance metadata are"}
	case metadata().Contains(inner):
		return &RefusedError{addr, "an address of instance metadata"}
	case inner.IsMulticast() || inner == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return &RefusedError{addr, "an address of many hosts"}
	}
	return nil
}

// Answer is an HTTP answer with its whole body.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do sends a request and reads the answer, at most limit bytes of it. An error
// never has the request's URL, because a URL may be a secret.
func Do(client *http.Client, request *http.Request, limit int64) (*Answer, error) {
	response, err := client.Do(request)
	if err != nil {
		return nil, reason(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("the answer breaks off: %w", reason(err))
	}
	if int64(len(body)) > limit {
		return nil, fmt.Errorf("the answer is longer than %d KiB", limit>>10)
	}
	return &Answer{Status: response.StatusCode, Header: response.Header, Body: body}, nil
}

// reason takes the URL off an error, and words timeouts as people do.
func reason(err error) error {
	if of := (*url.Error)(nil); errors.As(err, &of) {
		err = of.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("there is no answer in time: %w", context.DeadlineExceeded)
	}
	return err
}
