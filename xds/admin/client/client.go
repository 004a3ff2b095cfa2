// Package client asks a control plane's admin API.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/discovery/kubernetes/remote"
)

// Client finds a control plane at an address, or in a cluster through a port-forward.
type Client struct {
	// Address is "host:port".
	Address string
	// Cluster goes before Address where it is given.
	Cluster remote.Cluster
}

// Error is an answer of the admin API that is not 200.
type Error struct {
	Address string
	Status  int
	Text    string
}

func (e *Error) Error() string {
	return fmt.Sprintf("the control plane at %s: %d %s: %s", e.Address, e.Status, http.StatusText(e.Status), e.Text)
}

// Do sends a request to the admin API and decodes its answer into out.
func (c *Client) Do(ctx context.Context, method, path string, query url.Values, out any) error {
	return c.Send(ctx, method, path, query, nil, out)
}

// Post sends in to the admin API, which changes something.
func (c *Client) Post(ctx context.Context, path string, query url.Values, in any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return c.Send(ctx, http.MethodPost, path, query, body, &struct{}{})
}

// Answer is what one replica has answered.
type Answer[T any] struct {
	// Replica is its pod's name, "" where a control plane was asked at an address.
	Replica string
	Value   T
	// Err is why there is no answer, nil if there is one.
	Err error
}

// All asks every ready replica of the cluster, or the control plane at the address. Its error is that nobody has answered.
func All[T any](ctx context.Context, c *Client, path string) ([]Answer[T], error) {
	var out []Answer[T]
	ask := func(replica string, c *Client, err error) {
		a := Answer[T]{Replica: replica, Err: err}
		if err == nil {
			a.Err = c.Do(ctx, http.MethodGet, path, nil, &a.Value)
		}
		out = append(out, a)
	}
	if c.Cluster.Given() {
		if err := c.Cluster.ForwardEach(ctx, func(pod, address string, err error) { ask(pod, &Client{Address: address}, err) }); err != nil {
			return nil, err
		}
	} else {
		ask("", c, nil)
	}
	for _, a := range out {
		if a.Err == nil {
			return out, nil
		}
	}
	return nil, out[0].Err
}

// said is what an answer that is not 200 says: the text, or the error of the API's JSON.
func said(status int, path string, body []byte) string {
	var failure struct{ Error string }
	text := strings.TrimSpace(string(body))
	switch {
	case json.Unmarshal(body, &failure) == nil && failure.Error != "":
		return failure.Error
	case status == http.StatusNotFound && text == "404 page not found":
		return "it does not know " + path + ": it is of another version than this command; use the command of its version"
	}
	return text
}

// Send sends a request with a body to the admin API and decodes its answer into out.
func (c *Client) Send(ctx context.Context, method, path string, query url.Values, body []byte, out any) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if c.Cluster.Given() {
		address, end, err := c.Cluster.Forward(ctx)
		if err != nil {
			return err
		}
		defer end()
		c = &Client{Address: address}
	}
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		return fmt.Errorf("--admin: %q is not HOST:PORT", c.Address)
	}
	plain, err := url.PathUnescape(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	u := url.URL{Scheme: "http", Host: c.Address, Path: plain, RawPath: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("--admin: %w", err)
	}
	if method != http.MethodGet {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // without the URL, which is no more to who reads this than where it goes
		}
		return fmt.Errorf("no control plane answers at %s: start 'causeway serve', name another with --admin, or a cluster with --context: %w", c.Address, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096)) // the status says enough without
		return &Error{c.Address, resp.StatusCode, said(resp.StatusCode, path, text)}
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("the control plane at %s: %w", c.Address, err)
	}
	return nil
}
