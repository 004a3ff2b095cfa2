package client

import (
	"context"
	"errors"
	"net/url"
	"sync"
)

// Kept asks a control plane again and again: the way into its cluster stays open between. It may be used by many
// goroutines.
type Kept struct {
	client *Client

	mu      sync.Mutex
	address string
	end     func()
}

// Keep returns one that asks as c does. Close it.
func Keep(c *Client) *Kept { return &Kept{client: c} }

// Do sends a request, as Client.Do does. A way that has broken is opened anew, once.
func (k *Kept) Do(ctx context.Context, method, path string, query url.Values, out any) error {
	if !k.client.Cluster.Given() {
		return k.client.Do(ctx, method, path, query, out)
	}
	for again := true; ; again = false {
		address, err := k.way(ctx)
		if err != nil {
			return err
		}
		err = (&Client{Address: address}).Do(ctx, method, path, query, out)
		if _, answered := errors.AsType[*Error](err); err == nil || answered || ctx.Err() != nil || !again {
			return err
		}
		k.drop(address)
	}
}

// way returns an address that leads to the control plane.
func (k *Kept) way(ctx context.Context) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.address != "" {
		return k.address, nil
	}
	address, end, err := k.client.Cluster.Forward(ctx)
	if err != nil {
		return "", err
	}
	k.address, k.end = address, end
	return address, nil
}

// drop ends a way that has broken, if it is still the one in use.
func (k *Kept) drop(address string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.address == address && k.end != nil {
		k.end()
		k.address, k.end = "", nil
	}
}

// Close ends the way.
func (k *Kept) Close() {
	k.mu.Lock()
	address := k.address
	k.mu.Unlock()
	k.drop(address)
}
