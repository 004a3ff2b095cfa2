package lead

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Replica is a process of the control plane, as its Lease describes it. Who may
// write Leases in the control plane's namespace decides who is one.
type Replica struct {
	// Identity is the replica's in the election of the leader.
	Identity string
	// Address is where other replicas reach it, "IP:port".
	Address string
	// Certificate is the SHA-256 of the certificate that it shows there, in
	// hexadecimal.
	Certificate string
}

// The Lease of a replica: the prefix of its name, the label that finds it, and
// the annotations with data for other replicas. Nothing in it is secret.
const (
	replicaLeasePrefix           = "causeway-replica-"
	replicaLabel                 = v1alpha1.Group + "/replica"
	replicaAddressAnnotation     = v1alpha1.Group + "/replica-address"
	replicaCertificateAnnotation = v1alpha1.Group + "/replica-certificate-sha256"
)

// How long a replica that died counts as alive, how often a living one renews
// its Lease, and when the Lease of a dead one is removed.
const (
	replicaDuration = 10 * time.Second
	replicaRenew    = 3 * time.Second
	replicaGarbage  = time.Minute
)

// replicaRetry is how soon a failed write of a Lease is tried again.
const replicaRetry = time.Second

// Announce keeps the Lease of this replica until the context ends, and deletes
// it then. Its only error is the context's.
func Announce(ctx context.Context, c *cluster.Client, r Replica) error {
	a := &announcement{client: c, replica: r}
	defer a.withdraw(context.WithoutCancel(ctx))
	failing := false
	for {
		wait := replicaRenew
		if err := a.renew(ctx); err != nil && ctx.Err() == nil {
			if !failing {
				c.Log.Warn("cannot renew this replica's Lease; trying again", "lease", replicaLease(r.Identity), "error", err)
			}
			failing, wait = true, replicaRetry
		} else {
			failing = false
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// replicaLease returns the name of a replica's Lease, in characters that a DNS
// name may have.
func replicaLease(identity string) string {
	name := strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(identity)), "-")
	if name == "" {
		name = "0"
	}
	return replicaLeasePrefix + name
}

// announcement is the Lease of this replica.
type announcement struct {
	client  *cluster.Client
	replica Replica
	// lease is what was last written, nil if that is not known.
	lease *coordinationv1.Lease
}

func (a *announcement) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, replicaDuration/2)
	defer cancel()
	api := a.client.Core.CoordinationV1().Leases(a.client.Namespace)
	name := replicaLease(a.replica.Identity)
	current := a.lease
	a.lease = nil
	if current == nil {
		var err error
		current, err = api.Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			next := a.next(&coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name}})
			written, err := api.Create(ctx, next, metav1.CreateOptions{})
			if err != nil {
				return fmt.Errorf("kubernetes: create Lease %s: %w", name, err)
			}
			a.lease = written
			return nil
		}
		if err != nil {
			return fmt.Errorf("kubernetes: read Lease %s: %w", name, err)
		}
	}
	written, err := api.Update(ctx, a.next(current), metav1.UpdateOptions{})
	if err != nil {
		return fmt.Errorf("kubernetes: renew Lease %s: %w", name, err)
	}
	a.lease = written
	return nil
}

// next returns what the Lease must be after current.
func (a *announcement) next(current *coordinationv1.Lease) *coordinationv1.Lease {
	l := current.DeepCopy()
	now := metav1.NowMicro()
	if l.Annotations[replicaCertificateAnnotation] != a.replica.Certificate {
		l.Spec.AcquireTime = &now
	}
	if l.Labels == nil {
		l.Labels = make(map[string]string)
	}
	if l.Annotations == nil {
		l.Annotations = make(map[string]string)
	}
	l.Labels[replicaLabel] = "true"
	l.Annotations[replicaAddressAnnotation] = a.replica.Address
	l.Annotations[replicaCertificateAnnotation] = a.replica.Certificate
	seconds := int32(replicaDuration / time.Second)
	l.Spec.HolderIdentity, l.Spec.LeaseDurationSeconds, l.Spec.RenewTime = &a.replica.Identity, &seconds, &now
	return l
}

// withdraw deletes the Lease of a replica that stops, so that nobody waits for
// its reports.
func (a *announcement) withdraw(ctx context.Context) {
	if a.lease == nil {
		return // it expires
	}
	ctx, cancel := context.WithTimeout(ctx, replicaRenew)
	defer cancel()
	err := a.client.Core.CoordinationV1().Leases(a.client.Namespace).Delete(ctx, a.lease.Name, metav1.DeleteOptions{
		// A new process of the same name may have it by now.
		Preconditions: &metav1.Preconditions{UID: &a.lease.UID, ResourceVersion: &a.lease.ResourceVersion},
	})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		a.client.Log.Warn("cannot delete this replica's Lease; it expires", "lease", a.lease.Name, "error", err)
	}
}

// WatchReplicas calls changed with the live replicas, sorted by identity,
// whenever they change, until the context ends; its only error is the context's.
// It is called for the first time once all Leases are known.
func WatchReplicas(ctx context.Context, c *cluster.Client, changed func([]Replica)) error {
	lw := cache.NewFilteredListWatchFromClient(c.Core.CoordinationV1().RESTClient(), "leases", c.Namespace,
		func(o *metav1.ListOptions) { o.LabelSelector = replicaLabel })
	s := &sightings{now: time.Now, changed: changed}
	cache.NewReflectorWithOptions(lw, &coordinationv1.Lease{}, s, cache.ReflectorOptions{
		Name: "replicas", Backoff: cluster.Backoff(),
	}).RunWithContext(ctx)
	return ctx.Err()
}

// sightings are the Leases of replicas, as this process has seen them: the
// store of a reflector, which calls one method at a time.
//
// A replica is alive until its Lease has not been seen renewed for as long as
// that says, by this process' clock alone: the clocks of replicas may differ. It
// takes news of another Lease to know that, as this replica's own brings every
// few seconds: while the API server is silent, nobody is known to have died.
type sightings struct {
	now     func() time.Time
	changed func([]Replica)

	synced   bool
	replicas map[string]sighting // by the Lease's name
	last     []Replica
	news     time.Time
}

type sighting struct {
	Replica
	version  string
	duration time.Duration
	// until is when the replica counts as dead, unless it is seen renewed.
	until time.Time
}

// Add implements cache.ReflectorStore.
func (s *sightings) Add(o any) error { return s.Update(o) }

// Update implements cache.ReflectorStore.
func (s *sightings) Update(o any) error {
	if l, ok := o.(*coordinationv1.Lease); ok {
		s.put(l, s.now())
		s.tell()
	}
	return nil
}

// Delete implements cache.ReflectorStore.
func (s *sightings) Delete(o any) error {
	if l, ok := o.(*coordinationv1.Lease); ok {
		delete(s.replicas, l.Name)
		s.tell()
	}
	return nil
}

// Replace implements cache.ReflectorStore.
func (s *sightings) Replace(list []any, _ string) error {
	old := s.replicas
	s.replicas = make(map[string]sighting, len(list))
	for _, o := range list {
		if l, ok := o.(*coordinationv1.Lease); ok {
			if before, ok := old[l.Name]; ok {
				s.replicas[l.Name] = before
			}
			s.put(l, s.now())
		}
	}
	s.synced = true
	s.tell()
	return nil
}

// Resync implements cache.ReflectorStore.
func (s *sightings) Resync() error { return nil }

func (s *sightings) put(l *coordinationv1.Lease, now time.Time) {
	before, known := s.replicas[l.Name]
	if known && before.version == l.ResourceVersion {
		return // a list that is repeated is no renewal
	}
	r := sighting{version: l.ResourceVersion, duration: replicaDuration}
	r.Address, r.Certificate = l.Annotations[replicaAddressAnnotation], l.Annotations[replicaCertificateAnnotation]
	if l.Spec.HolderIdentity != nil {
		r.Identity = *l.Spec.HolderIdentity
	}
	if l.Spec.LeaseDurationSeconds != nil {
		r.duration = time.Duration(*l.Spec.LeaseDurationSeconds) * time.Second
	}
	r.until = now.Add(r.duration)
	switch {
	case r.Identity == "" || r.Certificate == "":
		delete(s.replicas, l.Name) // whatever it is
	case !s.synced && l.Spec.RenewTime != nil && now.Sub(l.Spec.RenewTime.Time) > replicaGarbage:
		// It was there before this process, and nobody has removed it yet. If
		// it is alive after all, it is seen renewed soon.
		delete(s.replicas, l.Name)
	default:
		s.replicas[l.Name] = r
	}
}

// tell says who is alive if that is news.
func (s *sightings) tell() {
	now := s.now()
	if !s.news.IsZero() && now.Sub(s.news) > replicaDuration/2 {
		// There was no news of anyone: those who lived then get their time once more.
		for name, r := range s.replicas {
			if s.news.Before(r.until) {
				r.until = now.Add(r.duration)
				s.replicas[name] = r
			}
		}
	}
	s.news = now
	var live []Replica
	for _, r := range s.replicas {
		if now.Before(r.until) {
			live = append(live, r.Replica)
		}
	}
	slices.SortFunc(live, func(a, b Replica) int {
		return cmp.Or(cmp.Compare(a.Identity, b.Identity), cmp.Compare(a.Certificate, b.Certificate))
	})
	if s.last == nil || !slices.Equal(live, s.last) {
		s.changed(slices.Clone(live))
	}
	s.last = append(make([]Replica, 0, len(live)), live...) // not nil: it was told
}

// RemoveReplicas removes the Leases of replicas that died, until the context
// ends; its only error is the context's. Only the leader runs it.
func RemoveReplicas(ctx context.Context, c *cluster.Client) error {
	g := &graveyard{client: c, seen: make(map[string]grave)}
	ticker := time.NewTicker(replicaDuration)
	defer ticker.Stop()
	for {
		if err := g.sweep(ctx, time.Now()); err != nil && ctx.Err() == nil {
			c.Log.Warn("cannot remove the Leases of dead replicas; trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// graveyard remembers since when a Lease has not changed.
type graveyard struct {
	client *cluster.Client
	seen   map[string]grave // by name
}

type grave struct {
	version string
	since   time.Time
}

// sweep removes the Leases that have not changed for long, by this process' clock.
func (g *graveyard) sweep(ctx context.Context, now time.Time) error {
	api := g.client.Core.CoordinationV1().Leases(g.client.Namespace)
	list, err := api.List(ctx, metav1.ListOptions{LabelSelector: replicaLabel})
	if err != nil {
		return fmt.Errorf("kubernetes: list Leases: %w", err)
	}
	next := make(map[string]grave, len(list.Items))
	var errs []error
	for i := range list.Items {
		l := &list.Items[i]
		old := g.seen[l.Name]
		if old.version != l.ResourceVersion {
			old = grave{l.ResourceVersion, now}
		}
		next[l.Name] = old
		if now.Sub(old.since) < replicaGarbage {
			continue
		}
		err := api.Delete(ctx, l.Name, metav1.DeleteOptions{
			// It may have been renewed at this moment.
			Preconditions: &metav1.Preconditions{UID: &l.UID, ResourceVersion: &l.ResourceVersion},
		})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			errs = append(errs, fmt.Errorf("kubernetes: delete Lease %s: %w", l.Name, err))
		}
	}
	g.seen = next
	return errors.Join(errs...)
}
