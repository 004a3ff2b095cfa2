package harness

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// BalancerTarget is what a [Balancer] sends connections to.
type BalancerTarget struct {
	Name string
	// Address is its "host:port".
	Address string
	// Health is the URL that answers 200 while the target wants new connections.
	Health string
}

// BalancerOptions of [StartBalancer].
type BalancerOptions struct {
	// Interval of the health checks; 200 ms if zero.
	Interval time.Duration
	// Threshold is how many checks in a row change a target's state; 2 if zero.
	Threshold int
}

// Balancer does what a load balancer for connections does (an NLB): it takes
// turns among the targets that are healthy, and leaves open connections alone
// when a target's state changes.
type Balancer struct {
	o        BalancerOptions
	listener net.Listener

	mu      sync.Mutex
	targets []*balancerTarget
	next    int
	conns   map[net.Conn]bool
}

type balancerTarget struct {
	BalancerTarget

	healthy     bool
	against     int // checks in a row that contradict healthy
	connections int64
}

// StartBalancer starts a load balancer on a free loopback port and waits until
// a target is healthy.
func StartBalancer(t TB, o BalancerOptions, targets ...BalancerTarget) *Balancer {
	t.Helper()
	if o.Interval == 0 {
		o.Interval = 200 * time.Millisecond
	}
	if o.Threshold == 0 {
		o.Threshold = 2
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", FreeAddress(t))
	if err != nil {
		t.Fatalf("load balancer: %v", err)
	}
	b := &Balancer{o: o, listener: l, conns: map[net.Conn]bool{}}
	for _, target := range targets {
		b.targets = append(b.targets, &balancerTarget{BalancerTarget: target})
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, target := range b.targets {
		running.Go(func() { b.check(ctx, target) })
	}
	running.Go(func() { b.accept(&running) })
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
		b.mu.Lock()
		for c := range b.conns {
			reset(c)
		}
		b.mu.Unlock()
		running.Wait()
	})
	Eventually(t, 30*time.Second, "a healthy target of the load balancer", func() error {
		for _, target := range targets {
			if b.Healthy(target.Name) {
				return nil
			}
		}
		return errors.New("none")
	})
	return b
}

// Address is the balancer's "host:port".
func (b *Balancer) Address() string { return b.listener.Addr().String() }

// Healthy says whether a target gets new connections.
func (b *Balancer) Healthy(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.targets {
		if t.Name == name {
			return t.healthy
		}
	}
	return false
}

// Connections is how many connections a target was sent.
func (b *Balancer) Connections(name string) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.targets {
		if t.Name == name {
			return t.connections
		}
	}
	return 0
}

// check follows the health of a target.
func (b *Balancer) check(ctx context.Context, t *balancerTarget) {
	client := &http.Client{Timeout: b.o.Interval * 5, Transport: &http.Transport{DisableKeepAlives: true}}
	ticker := time.NewTicker(b.o.Interval)
	defer ticker.Stop()
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, t.Health, http.NoBody)
		if err != nil {
			return // the URL is none: the target never gets healthy
		}
		_, err = ReadBody(client.Do(r))
		b.mu.Lock()
		if t.against++; t.healthy == (err == nil) {
			t.against = 0
		}
		if t.against >= b.o.Threshold {
			t.healthy, t.against = err == nil, 0
		}
		b.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (b *Balancer) accept(running *sync.WaitGroup) {
	for {
		client, err := b.listener.Accept()
		if err != nil {
			return
		}
		running.Go(func() { b.pass(client) })
	}
}

// pick returns the target of the next connection, nil for none.
func (b *Balancer) pick() *balancerTarget {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range b.targets {
		t := b.targets[b.next%len(b.targets)]
		if b.next++; t.healthy {
			t.connections++
			return t
		}
	}
	return nil
}

func (b *Balancer) pass(client net.Conn) {
	defer client.Close()
	t := b.pick()
	if t == nil {
		reset(client)
		return
	}
	target, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(context.Background(), "tcp", t.Address)
	if err != nil {
		reset(client)
		return
	}
	defer target.Close()
	b.mu.Lock()
	b.conns[client], b.conns[target] = true, true
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		delete(b.conns, client)
		delete(b.conns, target)
		b.mu.Unlock()
	}()
	var back sync.WaitGroup
	back.Go(func() { forward(client, target) })
	forward(target, client)
	back.Wait()
}

// forward passes bytes one way and hands on how the source ended.
func forward(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		reset(to)
		return
	}
	if tcp, ok := to.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
}
