package main

import (
	"context"
	"fmt"
	"net"
	"os"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/lead"
	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/xds/observe"
	"github.com/causeway-mesh/causeway/xds/replica"
)

// newObserver sets up the observer, which finds out whether objects are in
// force. replica is this replica's name, and leader returns the leader's, where
// there are several.
func (s *serve) newObserver(replica string, leader func() string) error {
	var err error
	s.observer, err = observe.New(observe.Options{
		Replica: replica, Local: s.local, Outcomes: func() outcome.Report { return s.outcomes.Report(len(s.xds.Progress())) }, Leader: leader, Logger: s.log, Registry: s.registry,
	})
	return err
}

// observeReplicas returns the parts that send this replica's reports to the
// leader, and take the others' reports on the leader.
func (s *serve) observeReplicas(client *cluster.Client, identity string) ([]component, error) {
	l, err := net.Listen("tcp", s.opts.observeListen) //nolint:noctx // it does not wait
	if err != nil {
		return nil, fmt.Errorf("--observe-listen: %w", err)
	}
	address, err := replica.Reachable(l.Addr().String(), os.Getenv("POD_IP"))
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	self := lead.Replica{Identity: identity, Address: address, Certificate: s.observer.Fingerprint()}
	return []component{
		{"--observe-listen", func(ctx context.Context) error { return s.observer.Serve(ctx, l) }},
		{"replicas", func(ctx context.Context) error {
			return lead.WatchReplicas(ctx, client, func(replicas []lead.Replica) {
				live := make([]observe.Replica, len(replicas))
				for i, r := range replicas {
					live[i] = observe.Replica{Name: r.Identity, Address: r.Address, Certificate: r.Certificate}
				}
				s.observer.SetReplicas(live)
			})
		}},
		// A replica that is not ready has no proxies and knows too little to
		// report.
		{"replica lease", s.whenServing(func(ctx context.Context) error { return lead.Announce(ctx, client, self) })},
		{"reports", s.whenServing(s.observer.Report)},
	}, nil
}

// whenServing returns a part that begins once proxies are served.
func (s *serve) whenServing(run func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.served:
		}
		return run(ctx)
	}
}

// local returns what this replica sees of its own proxies.
func (s *serve) local() observe.Local { return replica.Local(s.engine, s.xds, s.store) }

// programmed returns an object's condition Programmed.
func (s *serve) programmed(ref discovery.ObjectRef) (metav1.Condition, bool) {
	return replica.Programmed(s.observer, s.catalog.Read(), ref)
}

// unheard reports that no proxy of a Gateway listens on a port, and why.
func (s *serve) unheard(gateway discovery.Key, port uint16) (string, bool) {
	return replica.Unheard(s.observer, gateway, port)
}

// groupConditions returns the conditions of an InstanceGroup that do not come
// from the reading of EC2.
func (s *serve) groupConditions(r catalog.Reader, key discovery.Key) []metav1.Condition {
	out := resolve.InstanceGroupConditions(r, key)
	if len(out) == 0 {
		return nil
	}
	ref := discovery.ObjectRef{Kind: discovery.KindInstanceGroup, Key: key, Generation: out[0].ObservedGeneration}
	if c, ok := replica.Programmed(s.observer, r, ref); ok {
		out = append(out, c)
	}
	return out
}

// printProgrammed prints the objects that are not in force, and why; text shortens the proxies'
// error texts.
func printProgrammed(t *phrase.Table, v *observe.View, text func(string) string) {
	for _, r := range v.Replicas {
		if r.State != "reporting" {
			t.Row(fmt.Sprintf("\nreplica %s: %s", r.Name, r.State))
		}
	}
	for i := range v.Objects {
		o := &v.Objects[i]
		if o.Reason != observe.ReasonProgrammed && o.Reason != observe.ReasonNoProxies {
			t.Row(fmt.Sprintf("\n%s generation %d is not in force (%s): %s", o.String(), o.Generation, o.Reason, text(o.Message)))
		}
	}
}
