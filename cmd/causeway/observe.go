package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/kubernetes"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/xds/observe"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// newObserver sets up what tells whether objects are in force. replica and
// leader are this replica's name and who leads, where there are several.
func (s *serve) newObserver(replica string, leader func() string) error {
	var err error
	s.observer, err = observe.New(observe.Options{
		Replica: replica, Local: s.observe, Outcomes: func() outcome.Report { return s.outcomes.Report(len(s.xds.Progress())) }, Leader: leader, Logger: s.log, Registry: s.registry,
	})
	return err
}

// programmed returns an object's condition Programmed. What is not in force while
// the configuration is frozen waits for people, not for proxies.
func (s *serve) programmed(ref discovery.ObjectRef) (metav1.Condition, bool) {
	c, ok := s.observer.Programmed(ref)
	f, frozen := catalog.Freezes.Get(s.catalog.Read(), catalog.FreezeID)
	if ok && frozen && f.Config && c.Status != metav1.ConditionTrue {
		c.Status, c.Reason = metav1.ConditionFalse, "Frozen"
		c.Message = f.Text() + "; causeway unfreeze lets it go out"
	}
	return c, ok
}

// observe returns what this replica sees of its own proxies.
func (s *serve) observe() observe.Local {
	// Proxies after objects: whoever was there when a generation went out must
	// be among them. Rejections last: what a proxy has judged may be one.
	applied := s.engine.Applied()
	progress := s.xds.Progress()
	out := observe.Local{
		Objects: make([]observe.Object, len(applied)), Proxies: make([]observe.Proxy, len(progress)),
	}
	for i := range progress {
		p := &progress[i]
		out.Proxies[i] = observe.Proxy{Node: p.Node, Joined: p.Joined, Acknowledged: p.Acknowledged, Connected: p.Connected}
		if p.Role == resource.Gateway {
			out.Proxies[i].Gateway = discovery.Key{Namespace: p.Namespace, Name: p.Workload}
			out.Proxies[i].Listens = gatewayListens(p.Declared)
		}
	}
	for i := range applied {
		a := &applied[i]
		out.Objects[i] = observe.Object{Name: a.Object, Generation: a.Generation, Index: a.Index, Held: a.Pinned || len(a.HeldFor) > 0, Since: a.Since}
	}
	rejections := s.store.Rejections()
	if len(rejections) > 0 {
		good := make(map[string][]discovery.ObjectRef)
		for _, p := range s.store.Pins() {
			for i := range p.Good {
				for _, ref := range p.Good[i].Provenance {
					if key := p.Key(); !slices.Contains(good[key], ref) {
						good[key] = append(good[key], ref)
					}
				}
			}
		}
		for i := range rejections {
			r := &rejections[i]
			o := observe.Rejection{
				Resource: r.Type.String() + " " + r.Name, Node: r.Node, Error: r.Error, Objects: r.Provenance, Held: r.Pinned, Since: r.Since,
			}
			if r.Pinned {
				o.Good = good[(&snapshot.Pin{Unit: r.Unit, Class: r.Class}).Key()]
			}
			out.Rejections = append(out.Rejections, o)
		}
	}
	out.Index = s.store.Index()
	return out
}

// unheard says of a port of a Gateway that none of its proxies listens there,
// because their hosts were told so. Without any proxy that is not worth saying.
func (s *serve) unheard(gateway discovery.Key, port uint16) (string, bool) {
	g, ok := s.observer.Gateway(gateway)
	if !ok || g.Proxies == 0 || g.On(port) > 0 {
		return "", false
	}
	return fmt.Sprintf("none of the Gateway's %d proxies listens for port %d: give theirs `causeway bootstrap` a --gateway-listen for it", g.Proxies, port), true
}

// gatewayListens returns on which of its Gateway's ports a proxy listens.
func gatewayListens(declared []string) observe.GatewayListens {
	var out observe.GatewayListens
	for _, text := range declared {
		d, err := naming.ParseDeclaration(text)
		switch {
		case err != nil || !d.IsGateway():
		case d.Port == 0:
			out.Everywhere = true
		default:
			out.Ports = append(out.Ports, d.Port)
		}
	}
	slices.Sort(out.Ports)
	out.Ports = slices.Compact(out.Ports) // at several addresses
	return out
}

// observeReplicas returns the parts that tell the leader what this replica
// observes, and the leader what the others do.
func (s *serve) observeReplicas(client *kubernetes.Client, identity string) ([]component, error) {
	l, err := net.Listen("tcp", s.opts.observeListen) //nolint:noctx // it does not wait
	if err != nil {
		return nil, fmt.Errorf("--observe-listen: %w", err)
	}
	address, err := reachable(l.Addr().String(), os.Getenv("POD_IP"))
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	self := kubernetes.Replica{Identity: identity, Address: address, Certificate: s.observer.Fingerprint()}
	return []component{
		{"--observe-listen", func(ctx context.Context) error { return s.observer.Serve(ctx, l) }},
		{"replicas", func(ctx context.Context) error {
			return client.WatchReplicas(ctx, func(replicas []kubernetes.Replica) {
				live := make([]observe.Replica, len(replicas))
				for i, r := range replicas {
					live[i] = observe.Replica{Name: r.Identity, Address: r.Address, Certificate: r.Certificate}
				}
				s.observer.SetReplicas(live)
			})
		}},
		// Who is not ready has no proxies and knows too little to report.
		{"replica lease", s.whenServing(func(ctx context.Context) error { return client.Announce(ctx, self) })},
		{"reports", s.whenServing(s.observer.Report)},
	}, nil
}

// reachable returns the address at which others reach a listener.
func reachable(listen, podIP string) (string, error) {
	a, err := netip.ParseAddrPort(listen)
	if err != nil {
		return "", fmt.Errorf("--observe-listen: %w", err)
	}
	if !a.Addr().IsUnspecified() {
		return a.String(), nil
	}
	ip, err := netip.ParseAddr(podIP)
	if err != nil {
		return "", fmt.Errorf("--observe-listen: other replicas cannot reach %s: set the environment variable POD_IP to this "+
			"Pod's address, as manifests/install/deployment.yaml does, or name an address", listen)
	}
	return netip.AddrPortFrom(ip, a.Port()).String(), nil
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

// groupConditions returns the conditions of an InstanceGroup that do not come
// from the reading of EC2.
func (s *serve) groupConditions(r catalog.Reader, key discovery.Key) []metav1.Condition {
	out := resolve.InstanceGroupConditions(r, key)
	if len(out) == 0 {
		return nil
	}
	ref := discovery.ObjectRef{Kind: discovery.KindInstanceGroup, Key: key, Generation: out[0].ObservedGeneration}
	if c, ok := s.programmed(ref); ok {
		out = append(out, c)
	}
	return out
}

// printProgrammed prints the objects that are not in force, and why; text shortens what proxies say.
func printProgrammed(t *table, v *observe.View, text func(string) string) {
	for _, r := range v.Replicas {
		if r.State != "reporting" {
			t.row(fmt.Sprintf("\nreplica %s: %s", r.Name, r.State))
		}
	}
	for i := range v.Objects {
		o := &v.Objects[i]
		if o.Reason != observe.ReasonProgrammed && o.Reason != observe.ReasonNoProxies {
			t.row(fmt.Sprintf("\n%s generation %d is not in force (%s): %s", o.String(), o.Generation, o.Reason, text(o.Message)))
		}
	}
}
