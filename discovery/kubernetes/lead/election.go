// Package lead has what replicas do to act as one control plane of a cluster: they elect who
// leads and know of each other, and the leader publishes instances and keeps homes, freezes
// and the states of TrafficShifts. Statuses are written by package status.
package lead

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
)

// LeaderLease is the name of the Lease, in the control plane's namespace.
const LeaderLease = "causeway-leader"

// How fast a leader that died is replaced, and how long one that is cut off
// from the API server goes on: a lease is given up well before another may
// take it.
const (
	leaseDuration = 10 * time.Second
	renewDeadline = 7 * time.Second
	retryPeriod   = 2 * time.Second
)

// Election decides which replica polls EC2, publishes instances and writes status.
type Election struct {
	client   *cluster.Client
	identity string
	leading  atomic.Bool
	current  atomic.Value // string
}

// NewElection returns an election in which this replica runs as identity.
func NewElection(c *cluster.Client, identity string, reg prometheus.Registerer) *Election {
	e := &Election{client: c, identity: identity}
	e.current.Store("")
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "causeway_leader", Help: "1 on the replica that leads.",
	}, func() float64 {
		if e.leading.Load() {
			return 1
		}
		return 0
	}))
	return e
}

// Leading reports whether this replica leads.
func (e *Election) Leading() bool { return e.leading.Load() }

// Leader returns the identity of the replica that leads, "" while unknown.
func (e *Election) Leader() string { return e.current.Load().(string) }

// Run takes part in the election until the context ends. lead is called with a
// context that ends with the lease; its return gives the lease up.
func (e *Election) Run(ctx context.Context, lead func(context.Context) error) error {
	for ctx.Err() == nil {
		if err := e.term(ctx, lead); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// term waits for the lease, leads, and returns when it no longer does.
func (e *Election) term(ctx context.Context, lead func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	started := false
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: e.client.Namespace, Name: LeaderLease},
			Client:     e.client.Core.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: e.identity},
		},
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
		ReleaseOnCancel: true, Name: LeaderLease,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				started = true
				e.leading.Store(true)
				e.client.Log.Info("leading", "identity", e.identity)
				err := lead(ctx)
				e.leading.Store(false)
				done <- err
				cancel()
			},
			OnStoppedLeading: func() {},
			OnNewLeader: func(identity string) {
				e.current.Store(identity)
				e.client.Log.Info("the leader is", "identity", identity)
			},
		},
	})
	if err != nil {
		return fmt.Errorf("leader election: %w", err)
	}
	elector.Run(ctx)
	if !started {
		return nil
	}
	e.client.Log.Info("no longer leading", "identity", e.identity)
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
