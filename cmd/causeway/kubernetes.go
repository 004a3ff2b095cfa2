package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/ec2"
	"github.com/causeway-mesh/causeway/discovery/kubernetes"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/edges"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/lead"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/status"
	"github.com/causeway-mesh/causeway/discovery/probe"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/policy/upstream"
)

// kubernetes returns the parts of a control plane that reads a cluster. Every
// replica reads it and serves the result. The leader also reads EC2 and
// publishes the instances as EndpointSlices. All replicas, the leader included,
// then read these, so all serve the same.
func (s *serve) kubernetes() ([]component, error) {
	config, err := s.restConfig()
	if err != nil {
		return nil, err
	}
	client, err := cluster.NewClient(config, s.opts.namespace, s.log)
	if err != nil {
		return nil, err
	}
	identity, err := os.Hostname() // in a Pod, its name
	if err != nil {
		return nil, fmt.Errorf("leader election: %w", err)
	}
	identity = fmt.Sprintf("%s-%d", identity, os.Getpid())
	election := lead.NewElection(client, identity, s.registry)
	if err := s.newObserver(identity, election.Leader); err != nil {
		return nil, err
	}
	observers, err := s.observeReplicas(client, identity)
	if err != nil {
		return nil, err
	}
	instances, prober, err := s.ec2()
	if err != nil {
		return nil, err
	}
	s.newShifts(nil)
	statuses := status.NewWriter(client, policyStatus, s.programmed, s.unheard, s.registry)
	made := edges.Options{Edges: resolve.Edges, Audience: s.opts.audience, Metrics: edges.NewMetrics(s.registry)}
	if s.identity != nil {
		made.Member = s.identity.Want
	}
	list := sources{
		{name: "kubernetes", Source: kubernetes.NewSource(client)},
		{name: "ec2", Source: instances, leader: true},
		{name: "checks", Source: prober, leader: true},
	}
	s.required = list.required()
	pins := lead.RecordsIn(client, "causeway-pins")
	s.pins.Store = pins
	term := func(ctx context.Context) error {
		// The first answer of EC2 is compared with the published endpoints.
		if err := s.await(ctx, s.required...); err != nil {
			return err
		}
		// Rows of an earlier term of this replica are older than those that the
		// leaders since have published.
		if _, err := s.catalog.Write(time.Time{}, func(tx *catalog.Tx) error {
			catalog.Instances.Replace(tx, ec2.Scope, nil)
			catalog.Checks.Replace(tx, probe.Scope, nil)
			return nil
		}); err != nil {
			return err
		}
		shifts, shutdown, err := lead.NewShifts(ctx, client)
		if err != nil {
			return err
		}
		defer shutdown()
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return s.shifts.Run(ctx, shifts) })
		for _, c := range list.components(s, true) {
			g.Go(func() error { return c.run(ctx) })
		}
		g.Go(func() error { return lead.Publish(ctx, client, s.catalog) })
		g.Go(func() error { return status.WriteGroups(ctx, client, s.catalog, s.groupConditions, s.observer.Wake()) })
		g.Go(func() error { return statuses.Run(ctx, s.catalog) })
		g.Go(func() error { return lead.RecordHomes(ctx, client, s.catalog, upstream.UnrecordedHomes) })
		g.Go(func() error { return lead.RemoveReplicas(ctx, client) })
		g.Go(func() error { return edges.Run(ctx, client, s.catalog, made) })
		g.Go(func() error { return s.observer.Lead(ctx) })
		if s.identity != nil {
			g.Go(func() error { return s.identity.Publish(ctx, s.listener) })
		}
		return g.Wait()
	}
	return slices.Concat(observers, list.components(s, false), s.leaves(instances, identity, lead.RecordsIn(client, "causeway-draining")), []component{
		{"pins of other replicas", func(ctx context.Context) error {
			return pins.Watch(ctx, func(records map[string][]byte) { s.takePins(ctx, records) })
		}},
		{"leader election", func(ctx context.Context) error { return election.Run(ctx, term) }},
	}), nil
}

// policyStatus returns a function that gives the status of the routes, policies and Gateways of
// a snapshot.
func policyStatus(r catalog.Reader) func(*discovery.Object) (discovery.Status, bool) {
	return resolve.NewStatuses(r).StatusOf
}

func (s *serve) restConfig() (*rest.Config, error) {
	if s.opts.kubeconfig != "" {
		config, err := clientcmd.BuildConfigFromFlags("", s.opts.kubeconfig)
		if err != nil {
			return nil, fmt.Errorf("--kubeconfig: %w", err)
		}
		return config, nil
	}
	config, err := rest.InClusterConfig()
	if errors.Is(err, rest.ErrNotInCluster) {
		return nil, errors.New("this is no Pod: give --kubeconfig FILE, or --config DIR for a mesh without Kubernetes")
	}
	if err != nil {
		return nil, fmt.Errorf("the Pod's service account: %w", err)
	}
	return config, nil
}

// await returns once the sources are ready to be served from.
func (s *serve) await(ctx context.Context, sources ...string) error {
	feed := s.catalog.Subscribe()
	defer feed.Close()
	for {
		ready := true
		for _, name := range sources {
			st, ok := catalog.Sources.Get(s.catalog.Read(), name)
			ready = ready && ok && st.Ready()
		}
		if ready {
			return nil
		}
		if _, err := feed.Next(ctx); err != nil {
			return err
		}
	}
}
