// Package ec2 is the source of the instances of InstanceGroups. It reads EC2
// and Auto Scaling, listens to EventBridge through SQS, and writes the
// catalog's tables Instances and GroupStatuses.
//
// One loop for each account and region of an InstanceGroup reads it as a whole,
// every 15 seconds, so that a broken account delays no other. An answer is
// complete or it is an error; an error replaces nothing. An endpoint that an
// answer does not account for passes the never-empty guard (guard.go) before it
// is removed. Events only make things faster: without a queue the next sweep
// brings the same, except for Spot notices and rebalance recommendations, which
// no API tells.
//
// answer.go reads, lifecycle.go and evaluate.go interpret, and apply.go writes.
package ec2

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Scope of the rows that this source writes. Its SourceStatus rows are named
// "ec2/ACCOUNT/REGION", and "ec2" while no InstanceGroup names any.
const Scope = "ec2"

// Config says how to read EC2. Credentials, endpoints and proxies come from the
// AWS SDK's standard chain (environment, shared files, web identity, instance role).
type Config struct {
	// Interval between two sweeps of an account and region; 15 s if zero. It is
	// jittered by a tenth.
	Interval time.Duration
	// Queues with EventBridge's events about instances. None is needed.
	Queues []Queue
}

// Queue is an SQS queue that EventBridge delivers to.
type Queue struct {
	URL string
	// Region of the queue; if empty, the one that the URL names.
	Region string
	// RoleARN is the role to assume to read it; empty for Causeway's own credentials.
	RoleARN string
}

// Source reads EC2. It is made by New.
type Source struct {
	interval time.Duration
	queues   []Queue
	log      *slog.Logger
	metrics  *metrics
	http     *awshttp.BuildableClient
	pageSize int32

	// zones are the names of zones in Causeway's own account, by region and zone id.
	zonesMu sync.Mutex
	zones   map[string]map[string]string

	// mu is held while the catalog is written, never while an API is waited for.
	mu sync.Mutex
	// catalog is where the source writes, nil while it does not run.
	catalog  *catalog.Catalog
	ran      bool
	signals  *signals
	groups   map[discovery.Key]*group
	accounts map[accountKey]*account
	// unknownNotices are the kinds of messages that were not understood, and
	// unknownCount is how many messages, unknownLast the last one. notedCount and noted are of how many the source's note
	// tells, and since when.
	unknownNotices           map[string]struct{}
	unknownCount, notedCount int
	unknownLast              error
	noted                    time.Time
}

// group is what the source remembers of an InstanceGroup, besides its rows.
type group struct {
	guard guard
	// account and selector that the endpoints come from; those of the spec
	// unless it was edited and the guard still holds endpoints of before.
	account  accountKey
	selector *v1alpha1.InstanceSelector
	// memberOf is the auto scaling group that last listed an endpoint, by id.
	memberOf map[string]string
	// trusted are the endpoints of answers that certainly came from the right
	// account: an answer that mentions one of them does too.
	trusted map[string]struct{}
	// foreign is since when answers come from another account than the endpoints, zero while they do not. stranger
	// is that account. meant is the account that a release has confirmed, until one of its answers is applied.
	foreign         time.Time
	stranger, meant string
	// released by hand: what was held until then may go.
	released time.Time
}

// callTimeout is how long one call of an AWS API may take, its body included.
const callTimeout = 10 * time.Second

// New returns a source that does nothing until it is run.
func New(cfg Config, log *slog.Logger, metrics prometheus.Registerer) *Source {
	if cfg.Interval <= 0 {
		cfg.Interval = 15 * time.Second
	}
	return &Source{
		interval: cfg.Interval, queues: cfg.Queues, log: log.With("source", Scope), metrics: newMetrics(metrics),
		http: awshttp.NewBuildableClient().WithTimeout(callTimeout), pageSize: instancesPerPage,
	}
}

var _ catalog.Source = (*Source)(nil)

// Required implements catalog.Source: what is known of instances is published, and that is what is waited for.
func (s *Source) Required() []string { return nil }

// Run reads EC2 until the context ends, and returns its error. Where the
// catalog already has the instances of a group, or published endpoints of it,
// Run starts from them: not knowing yet removes nothing. So run it when the
// sources of these rows have synced. It may be run again, as leadership comes
// and goes, but not twice at the same time.
func (s *Source) Run(ctx context.Context, c *catalog.Catalog) error {
	feed := c.Subscribe()
	defer feed.Close()
	s.start(c)
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer s.stop()
	defer running.Wait()
	defer cancel()
	for _, q := range s.queues {
		running.Go(func() { s.listen(ctx, q) })
	}
	first := true
	for {
		// An InstanceGroup is new, changed or gone, or it was released by its annotation.
		changed := make(map[discovery.Key]struct{})
		if b, ok := feed.Take(); ok {
			for _, ch := range b.Changes {
				first = first || meshUnread(ch)
				for _, row := range []any{ch.Before, ch.After} {
					switch row := row.(type) {
					case *discovery.Object:
						if row.Kind == discovery.KindInstanceGroup {
							changed[row.Key] = struct{}{}
						}
						// The Mesh says which regions and accounts may be read.
						first = first || row.Kind == meshName.Kind
					}
				}
			}
		}
		if first || len(changed) > 0 {
			if err := s.reconcile(ctx, changed, &running); err != nil {
				return err
			}
			first = false
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-feed.Wake():
		}
	}
}

func (s *Source) start(c *catalog.Catalog) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.catalog = c
	s.signals = newSignals()
	s.groups = make(map[discovery.Key]*group)
	s.accounts = make(map[accountKey]*account)
}

// stop takes back what the source says about itself: a replica that reads EC2
// no more must not look as if its answers were stale.
func (s *Source) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.catalog.Write(time.Time{}, func(tx *catalog.Tx) error {
		catalog.Sources.Delete(tx, Scope)
		catalog.Sources.Delete(tx, discovery.QueueSource)
		for key := range s.accounts {
			catalog.Sources.Delete(tx, key.source())
		}
		catalog.GroupStatuses.Replace(tx, Scope, nil)
		return nil
	})
	if err != nil {
		s.log.Error("cannot withdraw the source's status", "error", err)
	}
	for key := range s.groups {
		s.metrics.held.DeleteLabelValues(key.String())
	}
	s.catalog, s.ran = nil, true
}

func keyOf(g *discovery.InstanceGroup) accountKey {
	return accountKey{g.Object.Spec.RoleARN, g.Object.Spec.Region}
}

// reconcile makes the set of loops what the InstanceGroups need, and wakes those of the changed ones.
func (s *Source) reconcile(ctx context.Context, changed map[discovery.Key]struct{}, running *sync.WaitGroup) error {
	s.mu.Lock()
	wanted := make(map[accountKey]bool) // true where a changed group is
	_, err := s.catalog.Write(time.Time{}, func(tx *catalog.Tx) error {
		known := make(map[discovery.Key]struct{})
		for g := range catalog.InstanceGroups.All(tx.Reader) {
			known[g.Key] = struct{}{}
			if mistakes := mistakesIn(tx.Reader, g); len(mistakes) > 0 {
				s.refuse(tx, g, mistakes)
				continue
			}
			if s.groups[g.Key] == nil {
				s.adopt(tx, g)
			}
			_, is := changed[g.Key]
			wanted[keyOf(g)] = wanted[keyOf(g)] || is
			if is {
				s.releaseAnnotated(tx, g, time.Now())
			}
		}
		for key := range changed {
			if _, ok := known[key]; !ok {
				s.forget(tx, key)
			}
		}
		for key := range wanted {
			s.announce(tx, key)
		}
		if len(wanted) == 0 {
			catalog.Sources.Put(tx, &discovery.SourceStatus{Name: Scope, Synced: true})
		} else {
			catalog.Sources.Delete(tx, Scope)
		}
		return nil
	})
	var ended []*account
	for key, a := range s.accounts {
		if _, ok := wanted[key]; !ok {
			ended = append(ended, a)
		}
	}
	for key, wake := range wanted {
		a := s.accounts[key]
		if a == nil {
			a = s.newAccount(key)
			s.accounts[key] = a
			a.start(ctx, running)
		} else if wake {
			a.poke()
		}
	}
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("instance groups: %w", err)
	}
	return s.end(ended)
}

// end stops loops that no InstanceGroup needs any more.
func (s *Source) end(accounts []*account) error {
	for _, a := range accounts {
		a.cancel()
		<-a.done
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.catalog.Write(time.Time{}, func(tx *catalog.Tx) error {
		for _, a := range accounts {
			catalog.Sources.Delete(tx, a.key.source())
			s.metrics.lastSync.DeleteLabelValues(a.key.account(), a.key.region)
			delete(s.accounts, a.key)
		}
		return nil
	})
	return err
}

// meshName names the object that limits what InstanceGroups may name.
var meshName = discovery.ObjectName{Kind: discovery.KindMesh, Key: discovery.Key{Name: v1alpha1.MeshName}}

// meshUnread reports whether a change is that the Mesh can be read no more, or again.
func meshUnread(ch catalog.Change) bool {
	old, _ := ch.Before.(*discovery.SourceStatus)
	now, _ := ch.After.(*discovery.SourceStatus)
	row := cmp.Or(now, old)
	return row != nil && row.Name == discovery.KubernetesSource(meshName.Kind) && !discovery.SameUnread(old, now)
}

// mistakesIn returns why a group is not read, nothing if it is.
func mistakesIn(r catalog.Reader, g *discovery.InstanceGroup) []v1alpha1.FieldError {
	out := v1alpha1.ValidateInstanceGroup(g.Object)
	if o, ok := catalog.Objects.Get(r, meshName.String()); ok {
		return append(out, v1alpha1.CheckEC2(o.Spec.(*v1alpha1.Mesh).Spec.EC2, g.Object)...)
	}
	if st, ok := catalog.Sources.Get(r, discovery.KubernetesSource(discovery.KindMesh)); ok {
		if why := st.UnreadObject(meshName.Key); why != "" {
			out = append(out, v1alpha1.UnreadMesh(why)...)
		}
	}
	return out
}

// refuse says why a group is not read. Its endpoints stay.
func (s *Source) refuse(tx *catalog.Tx, g *discovery.InstanceGroup, mistakes []v1alpha1.FieldError) {
	var text []string
	for _, m := range mistakes {
		text = append(text, m.Error())
	}
	s.putStatus(tx, g.Key, func(st *discovery.GroupStatus) {
		st.Error = strings.Join(text, "; ")
		st.ScalingError = staleSizes(st.LastSync, st.Error)
	})
}

// adopt begins to follow a group, from its known state. The first answer is
// compared with that.
func (s *Source) adopt(tx *catalog.Tx, g *discovery.InstanceGroup) {
	own, restored := catalog.Instances.Get(tx.Reader, g.Key.String())
	published := publishedEndpoints(tx.Reader, g)
	switch {
	case len(published) > 0 && (!restored || s.ran):
		// Another replica may have led since the row was written, if it is of an earlier run.
		own = &discovery.InstanceSet{Scope: Scope, Key: g.Key, Service: serviceOf(g), Endpoints: published}
		// A role of another account was written into the spec while nobody led.
		if want := keyOf(g).number(); want == "" || want == g.Object.Status.Account {
			own.Account = g.Object.Status.Account
		}
		catalog.Instances.Put(tx, own)
		s.log.Info("starting from the published endpoints", "group", g.Key.String(), "endpoints", len(published))
	case restored:
		s.log.Info("starting from the last known instances", "group", g.Key.String(), "endpoints", len(own.Endpoints))
	}
	if own != nil {
		s.signals.restore(own.Endpoints, time.Now())
	}
	s.groups[g.Key] = &group{account: keyOf(g), memberOf: make(map[string]string), trusted: make(map[string]struct{})}
	if own != nil {
		s.groups[g.Key].trust(own.Endpoints)
	}
}

// trust takes endpoints for those of the right account.
func (g *group) trust(endpoints []discovery.Endpoint) {
	g.trusted = make(map[string]struct{}, len(endpoints))
	for i := range endpoints {
		g.trusted[endpoints[i].ID] = struct{}{}
	}
}

// publishedEndpoints returns what is published of a group, by whichever replica.
func publishedEndpoints(r catalog.Reader, g *discovery.InstanceGroup) []discovery.Endpoint {
	byID := make(map[string]discovery.Endpoint)
	for set := range catalog.Endpoints.By(r, catalog.ByService, serviceOf(g).String()) {
		if set.Platform != discovery.Instances || set.Group != g.Name {
			continue
		}
		for _, e := range set.Endpoints {
			byID[e.ID] = e
		}
	}
	return sorted(byID)
}

func serviceOf(g *discovery.InstanceGroup) discovery.Key {
	return discovery.Key{Namespace: g.Namespace, Name: g.Object.Spec.ServiceRef.Name}
}

// forget removes what was known of a group that was deleted.
func (s *Source) forget(tx *catalog.Tx, key discovery.Key) {
	catalog.Instances.Delete(tx, key.String())
	catalog.GroupStatuses.Delete(tx, key.String())
	delete(s.groups, key)
	s.metrics.held.DeleteLabelValues(key.String())
}

// announce writes the status of an account and region that has not answered yet.
func (s *Source) announce(tx *catalog.Tx, key accountKey) {
	old, ok := catalog.Sources.Get(tx.Reader, key.source())
	if ok && old.Synced {
		return
	}
	st := discovery.SourceStatus{Name: key.source(), LastKnownGood: true}
	if ok {
		st.Error, st.ErrorSince = old.Error, old.ErrorSince
	}
	for g := range catalog.InstanceGroups.All(tx.Reader) {
		if keyOf(g) == key {
			if _, known := catalog.Instances.Get(tx.Reader, g.Key.String()); !known {
				st.LastKnownGood = false
			}
		}
	}
	catalog.Sources.Put(tx, &st)
}

// putStatus changes a group's status row, or makes it.
func (s *Source) putStatus(tx *catalog.Tx, key discovery.Key, change func(*discovery.GroupStatus)) {
	st := discovery.GroupStatus{Scope: Scope, Key: key}
	if old, ok := catalog.GroupStatuses.Get(tx.Reader, key.String()); ok {
		st = *old
		st.Scope = Scope
	}
	change(&st)
	catalog.GroupStatuses.Put(tx, &st)
}
