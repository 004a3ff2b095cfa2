package kubernetes

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Replica is a process of the control plane, as its Lease tells the others.
// Who may write Leases in the control plane's namespace decides who is one.
type Replica struct {
	// Identity is the replica's in the election of the leader.
	Identity string
	// Address is where other replicas reach it, "IP:port".
	Address string
	// Certificate is the SHA-256 of the certificate that it shows there, in
	// hexadecimal.
	Certificate string
}

// The Lease of a replica: its name's beginning, the label by which it is found,
// and the annotations with what others must know. Nothing of it is secret.
const (
	replicaLeasePrefix           = "causeway-replica-"
	replicaLabel                 = v1alpha1.Group + "/replica"
	replicaAddressAnnotation     = v1alpha1.Group + "/replica-address"
	replicaCertificateAnnotation = v1alpha1.Group + "/replica-certificate-sha256"
)

// How long a replica that died without a word is taken for alive, how often one
// that lives says so, and when the Lease of a dead one is removed.
const (
	replicaDuration = 10 * time.Second
	replicaRenew    = 3 * time.Second
	replicaGarbage  = time.Minute
)

// replicaRetry is how soon a failed write of a Lease is tried again.
const replicaRetry = time.Second

// Announce keeps the Lease of this replica until the context ends, and deletes
// it then. Its only error is the context's.
func (c *Client) Announce(ctx context.Context, r Replica) error {
	a := &announcement{client: c, replica: r}
	defer a.withdraw(context.WithoutCancel(ctx))
	failing := false
	for {
		wait := replicaRenew
		if err := a.renew(ctx); err != nil && ctx.Err() == nil {
			if !failing {
				c.log.Warn("cannot renew this replica's Lease; trying again", "lease", replicaLease(r.Identity), "error", err)
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

// replicaLease returns the name of a replica's Lease, of which the API server
// takes only what is a DNS name.
func replicaLease(identity string) string {
	return replicaLeasePrefix + strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '-' {
			return r
		}
		return '-'
	}, strings.ToLower(identity)), "-.")
}

// announcement is the Lease of this replica.
type announcement struct {
	client  *Client
	replica Replica
	// lease is what was last written, nil if that is not known.
	lease *coordinationv1.Lease
}

func (a *announcement) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, replicaDuration/2)
	defer cancel()
	api := a.client.core.CoordinationV1().Leases(a.client.Namespace)
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
	err := a.client.core.CoordinationV1().Leases(a.client.Namespace).Delete(ctx, a.lease.Name, metav1.DeleteOptions{
		// A new process of the same name may have it by now.
		Preconditions: &metav1.Preconditions{UID: &a.lease.UID, ResourceVersion: &a.lease.ResourceVersion},
	})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		a.client.log.Warn("cannot delete this replica's Lease; it expires", "lease", a.lease.Name, "error", err)
	}
}

// WatchReplicas calls changed with the live replicas, sorted by identity,
// whenever they change, until the context ends; its only error is the context's.
// It is called for the first time once all Leases are known.
//
// A replica is alive for as long as its Lease says after it was last seen
// renewed. That is by this process' clock alone: the clocks of replicas may differ.
func (c *Client) WatchReplicas(ctx context.Context, changed func([]Replica)) error {
	lw := cache.NewFilteredListWatchFromClient(c.core.CoordinationV1().RESTClient(), "leases", c.Namespace,
		func(o *metav1.ListOptions) { o.LabelSelector = replicaLabel })
	informer := cache.NewSharedInformer(lw, &coordinationv1.Lease{}, 0)
	seen := &sightings{replicas: make(map[string]sighting), changed: make(chan struct{}, 1)}
	put := func(o any, first bool) {
		if l, ok := o.(*coordinationv1.Lease); ok {
			seen.put(l, first, time.Now())
		}
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(o any, initial bool) { put(o, initial) },
		UpdateFunc: func(before, o any) {
			if b, ok := before.(*coordinationv1.Lease); ok {
				// A list that is repeated is no renewal.
				if l, ok := o.(*coordinationv1.Lease); ok && b.ResourceVersion == l.ResourceVersion {
					return
				}
			}
			put(o, false)
		},
		DeleteFunc: func(o any) {
			if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(o); err == nil {
				seen.remove(key)
			}
		},
	}); err != nil {
		return fmt.Errorf("kubernetes: watch replicas: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		informer.RunWithContext(ctx)
		return ctx.Err()
	})
	g.Go(func() error {
		if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
			return ctx.Err()
		}
		return seen.follow(ctx, changed)
	})
	return g.Wait()
}

// sightings are the Leases of replicas, as this process has seen them.
type sightings struct {
	changed chan struct{}

	mu       sync.Mutex
	replicas map[string]sighting // by namespace/name of the Lease
}

type sighting struct {
	Replica
	// until is when the replica counts as dead, unless it is seen renewed.
	until time.Time
}

func (s *sightings) put(l *coordinationv1.Lease, initial bool, now time.Time) {
	defer s.wake()
	s.mu.Lock()
	defer s.mu.Unlock()
	key := l.Namespace + "/" + l.Name
	r := Replica{
		Address: l.Annotations[replicaAddressAnnotation], Certificate: l.Annotations[replicaCertificateAnnotation],
	}
	duration := replicaDuration
	if l.Spec.HolderIdentity != nil {
		r.Identity = *l.Spec.HolderIdentity
	}
	if l.Spec.LeaseDurationSeconds != nil {
		duration = time.Duration(*l.Spec.LeaseDurationSeconds) * time.Second
	}
	switch {
	case r.Identity == "" || r.Certificate == "":
		delete(s.replicas, key) // whatever it is
	case initial && l.Spec.RenewTime != nil && now.Sub(l.Spec.RenewTime.Time) > replicaGarbage:
		// It was there before this process and nobody has removed it yet. If
		// it is alive after all, it is seen renewed soon.
	default:
		s.replicas[key] = sighting{r, now.Add(duration)}
	}
}

func (s *sightings) remove(key string) {
	defer s.wake()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.replicas, key)
}

func (s *sightings) wake() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// live returns the replicas that are alive, sorted, and when the next of them is not.
func (s *sightings) live(now time.Time) (out []Replica, next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(s.replicas)) {
		r := s.replicas[key]
		if !now.Before(r.until) {
			continue
		}
		out = append(out, r.Replica)
		if next.IsZero() || r.until.Before(next) {
			next = r.until
		}
	}
	slices.SortFunc(out, func(a, b Replica) int { return cmp.Compare(a.Identity, b.Identity) })
	return out, next
}

func (s *sightings) follow(ctx context.Context, changed func([]Replica)) error {
	var last []Replica
	first := true
	for {
		now := time.Now()
		live, next := s.live(now)
		if first || !slices.Equal(live, last) {
			changed(live)
			first, last = false, live
		}
		wait := replicaDuration
		if !next.IsZero() {
			wait = next.Sub(now)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-s.changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// RemoveReplicas removes the Leases of replicas that died, until the context
// ends; its only error is the context's. Only the leader runs it.
func (c *Client) RemoveReplicas(ctx context.Context) error {
	api := c.core.CoordinationV1().Leases(c.Namespace)
	type version struct {
		resource string
		since    time.Time
	}
	seen := make(map[string]version)
	ticker := time.NewTicker(replicaDuration)
	defer ticker.Stop()
	for {
		list, err := api.List(ctx, metav1.ListOptions{LabelSelector: replicaLabel})
		if err != nil {
			list = &coordinationv1.LeaseList{} // the next time will do
		}
		now := time.Now()
		there := make(map[string]bool, len(list.Items))
		for i := range list.Items {
			l := &list.Items[i]
			there[l.Name] = true
			if seen[l.Name].resource != l.ResourceVersion {
				seen[l.Name] = version{l.ResourceVersion, now}
				continue
			}
			if now.Sub(seen[l.Name].since) < replicaGarbage {
				continue
			}
			err := api.Delete(ctx, l.Name, metav1.DeleteOptions{
				Preconditions: &metav1.Preconditions{UID: &l.UID, ResourceVersion: &l.ResourceVersion},
			})
			if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) && ctx.Err() == nil {
				c.log.Warn("cannot remove the Lease of a dead replica; trying again", "lease", l.Name, "error", err)
			}
		}
		if err == nil {
			maps.DeleteFunc(seen, func(name string, _ version) bool { return !there[name] })
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}
