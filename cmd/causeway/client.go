package main

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

	"github.com/spf13/cobra"
)

// adminFlag is where the commands find a running control plane: at an address, or
// in a cluster, through a port-forward.
type adminFlag struct {
	address string
	cluster kubernetesFlag
}

func (a *adminFlag) add(c *cobra.Command) {
	a.addAddress(c)
	a.cluster.add(c)
}

// addAddress is for commands that themselves ask the cluster's API where one is named.
func (a *adminFlag) addAddress(c *cobra.Command) {
	c.Flags().StringVar(&a.address, "admin", defaultAdminListen, "address of the control plane's admin API, where it is on this host")
}

// adminError is an answer of the admin API that is not 200.
type adminError struct {
	address string
	status  int
	text    string
}

func (e *adminError) Error() string {
	return fmt.Sprintf("the control plane at %s: %d %s: %s", e.address, e.status, http.StatusText(e.status), e.text)
}

// do sends a request to the admin API and decodes its answer into out.
func (a *adminFlag) do(ctx context.Context, method, path string, query url.Values, out any) error {
	return a.send(ctx, method, path, query, nil, out)
}

// post sends in to the admin API, which changes something.
func (a *adminFlag) post(ctx context.Context, path string, query url.Values, in any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return a.send(ctx, http.MethodPost, path, query, body, &struct{}{})
}

func (a *adminFlag) send(ctx context.Context, method, path string, query url.Values, body []byte, out any) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if a.cluster.Given() {
		address, end, err := a.cluster.Forward(ctx)
		if err != nil {
			return err
		}
		defer end()
		a = &adminFlag{address: address}
	}
	if _, _, err := net.SplitHostPort(a.address); err != nil {
		return fmt.Errorf("--admin: %q is not HOST:PORT", a.address)
	}
	u := url.URL{Scheme: "http", Host: a.address, Path: path, RawQuery: query.Encode()}
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
		return fmt.Errorf("no control plane answers at %s: start 'causeway serve', name another with --admin, or a cluster with --context: %w", a.address, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096)) // the status says enough without
		return &adminError{a.address, resp.StatusCode, strings.TrimSpace(string(text))}
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("the control plane at %s: %w", a.address, err)
	}
	return nil
}
