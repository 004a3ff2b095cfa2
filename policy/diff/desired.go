package diff

import (
	"fmt"
	"slices"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/upstream"
)

// Prune says what becomes of objects that a directory lacks.
type Prune string

// The ways to prune. Services, ConfigMaps, EndpointSlices, Secrets, Namespaces and
// GatewayClasses, which other tools often write, are pruned only where the directory has any of their kind.
const (
	// PruneNone: nothing is deleted, as with `kubectl apply`.
	PruneNone Prune = "none"
	// PruneNamespaces: the directory is all that there is in the namespaces
	// that it has objects in, and says nothing about others.
	PruneNamespaces Prune = "namespaces"
	// PruneAll: the directory is all that there is.
	PruneAll Prune = "all"
	// PruneEverything is PruneAll with no exception: not even endpoints stay.
	PruneEverything Prune = "everything"
)

// ParsePrune reads none, namespaces or all.
func ParsePrune(s string) (Prune, error) {
	switch p := Prune(s); p {
	case PruneNone, PruneNamespaces, PruneAll:
		return p, nil
	case PruneEverything:
	}
	return "", fmt.Errorf("%q is not none, namespaces or all", s)
}

// Desired returns the mesh's state after a directory's objects were applied to
// it. Rows that people do not write stay: the endpoints of instances, recorded
// homes, cluster IPs, and the creation times of objects; a new object is the
// youngest. InstanceGroups keep the instances that their selectors found. A new
// one has none: only the EC2 API knows them.
func Desired(now, dir catalog.Reader, prune Prune) (*catalog.Catalog, error) {
	d := desired{now: now, dir: dir, prune: prune, has: make(map[string]bool), namespaces: make(map[string]bool)}
	d.survey()
	out := catalog.New()
	_, err := out.Write(d.youngest, func(tx *catalog.Tx) error {
		for s := range catalog.Sources.All(now) {
			catalog.Sources.Put(tx, s)
		}
		for rival := range catalog.Rivals.All(now) {
			catalog.Rivals.Put(tx, rival)
		}
		d.homes(tx)
		d.services(tx)
		d.objects(tx)
		for s := range catalog.ShiftStates.All(now) {
			if _, stays := catalog.Objects.Get(tx.Reader, discovery.ObjectName{Kind: discovery.KindTrafficShift, Key: s.Key}.String()); stays {
				catalog.ShiftStates.Put(tx, s)
			}
		}
		d.endpoints(tx)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("the state after the change: %w", err)
	}
	return out, nil
}

type desired struct {
	now, dir catalog.Reader
	prune    Prune
	// has are "Kind" and "Kind namespace" of what the directory has, namespaces those that it has anything in.
	has, namespaces map[string]bool
	youngest        time.Time
}

func (d *desired) survey() {
	note := func(kind, namespace string) {
		d.has[kind], d.has[kind+" "+namespace], d.namespaces[namespace] = true, true, true
	}
	for s := range catalog.Services.All(d.dir) {
		note(discovery.KindService, s.Namespace)
	}
	for o := range catalog.Objects.All(d.dir) {
		note(o.Kind, o.Namespace)
	}
	for e := range catalog.Endpoints.All(d.dir) {
		note(discovery.KindEndpointSlice, e.Namespace)
	}
	grow := func(t time.Time) {
		if t.After(d.youngest) {
			d.youngest = t
		}
	}
	for s := range catalog.Services.All(d.now) {
		grow(s.Created)
	}
	for o := range catalog.Objects.All(d.now) {
		grow(o.Created)
	}
	if !d.youngest.IsZero() {
		d.youngest = d.youngest.Add(time.Second)
	}
}

// ofOthers are kinds that a directory of the mesh often lacks, because others write them down elsewhere.
var ofOthers = []string{discovery.KindService, discovery.KindConfigMap, discovery.KindEndpointSlice, discovery.KindSecret, discovery.KindNamespace, discovery.KindGatewayClass}

// stays reports whether an object stays that the directory lacks.
func (d *desired) stays(kind, namespace string) bool {
	others := slices.Contains(ofOthers, kind)
	switch d.prune {
	case PruneNone:
		return true
	case PruneNamespaces:
		return namespace == "" || !d.namespaces[namespace] || others && !d.has[kind+" "+namespace]
	case PruneAll:
		return others && !d.has[kind]
	case PruneEverything:
	}
	return false
}

// homes are recorded when a Service is first seen, which for those that are
// there now it was.
func (d *desired) homes(tx *catalog.Tx) {
	for h := range catalog.Homes.All(d.now) {
		catalog.Homes.Put(tx, h)
	}
	for _, h := range upstream.UnrecordedHomes(d.now) {
		catalog.Homes.Put(tx, &h)
	}
}

func (d *desired) services(tx *catalog.Tx) {
	for s := range catalog.Services.All(d.now) {
		if d.stays(discovery.KindService, s.Namespace) {
			catalog.Services.Put(tx, s)
		}
	}
	for s := range catalog.Services.All(d.dir) {
		row := *s
		row.Created = d.youngest
		if old, ok := catalog.Services.Get(d.now, s.Key.String()); ok {
			row.Created = old.Created
			if len(row.ClusterIPs) == 0 && d.prune != PruneEverything {
				row.ClusterIPs = old.ClusterIPs
			}
		}
		catalog.Services.Put(tx, &row)
	}
}

func (d *desired) objects(tx *catalog.Tx) {
	for o := range catalog.Objects.All(d.now) {
		if d.stays(o.Kind, o.Namespace) {
			catalog.Objects.Put(tx, o)
		}
	}
	for o := range catalog.Objects.All(d.dir) {
		row := *o
		row.Created = d.youngest
		if old, ok := catalog.Objects.Get(d.now, o.Name().String()); ok {
			row.Created, row.Generation = old.Created, old.Generation
		}
		catalog.Objects.Put(tx, &row)
	}
}

// endpoints of pods are as Services are; those of instances belong to their groups.
func (d *desired) endpoints(tx *catalog.Tx) {
	if d.prune == PruneEverything {
		for e := range catalog.Endpoints.All(d.dir) {
			catalog.Endpoints.Put(tx, e)
		}
		return
	}
	replaced := make(map[discovery.Key]bool)
	for e := range catalog.Endpoints.All(d.dir) {
		replaced[e.Key] = true
		catalog.Endpoints.Put(tx, e)
	}
	groups := make(map[discovery.Key]*discovery.InstanceGroup)
	for g := range catalog.InstanceGroups.All(d.now) {
		if d.stays(discovery.KindInstanceGroup, g.Namespace) {
			groups[g.Key] = g
		}
	}
	for g := range catalog.InstanceGroups.All(d.dir) {
		groups[g.Key] = g
	}
	for e := range catalog.Endpoints.All(d.now) {
		if e.Platform == discovery.Pods {
			if !replaced[e.Key] && d.stays(discovery.KindEndpointSlice, e.Namespace) {
				catalog.Endpoints.Put(tx, e)
			}
			continue
		}
		g, ok := groups[discovery.Key{Namespace: e.Namespace, Name: e.Group}]
		if !ok {
			continue
		}
		row := *e
		row.Service = discovery.Key{Namespace: g.Namespace, Name: g.Object.Spec.ServiceRef.Name}
		row.Ports = nil
		for _, p := range g.Object.Spec.Ports {
			row.Ports = append(row.Ports, discovery.EndpointPort{Name: p.Name, Port: uint16(p.Port)}) //nolint:gosec // the API limits it to 65535
		}
		catalog.Endpoints.Put(tx, &row)
	}
}
