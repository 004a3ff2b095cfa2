package ec2

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// reasonHeld is the reason of an endpoint that only the guard keeps.
const reasonHeld = "GuardHeld"

// decision is the effect of an answer on one InstanceGroup.
type decision struct {
	endpoints []discovery.Endpoint // sorted by id
	held      []string
	guard     guard
	status    discovery.GroupStatus
	// removed are the endpoints that went without a statement of EC2, by id,
	// with the reason why they may go.
	removed map[string]string
	moved   bool
}

// decide applies an answer to a group. confirmed are instances that EC2 called
// gone when it was asked for just them.
func (s *Source) decide(r catalog.Reader, g *discovery.InstanceGroup, ans *answer, confirmed map[string]string, vouched bool, now time.Time) *decision {
	spec, known := &g.Object.Spec, s.groups[g.Key]
	var before []discovery.Endpoint
	if set, ok := catalog.Instances.Get(r, g.Key.String()); ok {
		before = set.Endpoints
	}
	checks, _ := catalog.Checks.Get(r, g.Key.String())
	v := evaluate(spec, before, ans, s.signals, now)
	out := &decision{removed: make(map[string]string), moved: known.account != keyOf(g)}

	agreed := make(map[string]string)
	if !out.moved { // another account or region knows nothing of these instances
		agreed = confirmations(spec, v, before, ans, known.memberOf, checks, vouched)
		for id := range v.missing {
			if said, ok := confirmed[id]; ok {
				agreed[id] = said
			}
		}
	}
	missing := slices.Sorted(maps.Keys(v.missing))
	effect := &answerEffect{
		size: len(before), accounted: len(v.endpoints), missing: missing, confirmed: agreed,
		released: later(known.released, annotatedRelease(g, now)), maxPercent: maxPercent(spec),
	}
	out.held, out.guard = known.guard.apply(effect, now)
	out.endpoints = v.endpoints
	for i := range before {
		e := before[i]
		why, ok := v.missing[e.ID]
		if !ok {
			continue
		}
		since, held := out.guard.held[e.ID]
		if !held {
			out.removed[e.ID] = orElse(agreed[e.ID], "few enough to go, or released") + "; " + why
			continue
		}
		if e.Health == discovery.Healthy {
			e.Reason = fmt.Sprintf("%s: %s, since %s", reasonHeld, why, since.UTC().Format(time.RFC3339))
		}
		out.endpoints = append(out.endpoints, e)
	}
	slices.SortFunc(out.endpoints, byID)
	out.status = discovery.GroupStatus{
		Scope: Scope, Key: g.Key, LastSync: now, Counts: counts(out.endpoints, checks, v.desired),
		GuardHeld: len(out.held), GuardReason: s.guardReason(g, known, out, v, len(before)),
		ScalingGroups: v.scaling, ScalingError: v.scalingError(),
	}
	if len(out.endpoints) == 0 {
		out.status.Empty = v.emptyBecause(spec, keyOf(g), ans)
	}
	return out
}

// vouched reports whether an answer comes from the account of the endpoints: it
// says so, it mentions one of them, or there are none yet. An auto scaling
// group of the same name in another account must not count.
func (s *Source) vouched(r catalog.Reader, key accountKey, ans *answer) bool {
	account, trusted := ans.account(), 0
	for _, g := range s.groupsOf(r, key) {
		set, ok := catalog.Instances.Get(r, g.Key.String())
		known := s.groups[g.Key]
		if !ok || known.account != key || s.foreign(r, g, ans) != "" {
			continue
		}
		if account != "" && set.Account == account {
			return true
		}
		trusted += len(known.trusted)
		for id := range known.trusted {
			if _, mentioned := ans.instances[id]; mentioned {
				return true
			}
		}
	}
	return trusted == 0
}

// checkAccount returns an error if an answer comes from another account than it should. Some groups with the
// same credentials may have endpoints of another account (foreign): then only those stop, and the others go on
// if one of them is known to belong to the answer's account. A group without history proves nothing, and must
// not get the instances of an unknown account.
func (s *Source) checkAccount(key accountKey, ans *answer) error {
	account := ans.account()
	if account == "" {
		return nil
	}
	if want := key.number(); want != "" && want != account {
		return fmt.Errorf("the answer is of account %s, and role %s is of account %s: endpoints stay; correct what answers for it (AWS_ENDPOINT_URL, a proxy)",
			account, key.roleARN, want)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.catalog.Read()
	first, backed := "", false
	for g := range catalog.InstanceGroups.All(r) {
		known := s.groups[g.Key]
		if known == nil || g.Object.Spec.RoleARN != key.roleARN || len(mistakesIn(r, g)) > 0 {
			continue
		}
		if why := s.foreign(r, g, ans); why != "" {
			first = cmp.Or(first, why)
			if known.foreign.IsZero() {
				known.foreign = time.Now()
				s.log.Warn("an answer is not applied to a group", "group", g.Key.String(), "because", why)
			}
			known.stranger = account
			continue
		}
		set, ok := catalog.Instances.Get(r, g.Key.String())
		backed = backed || known.meant == account || ok && set.Account == account && known.account.roleARN == key.roleARN
	}
	if first != "" && !backed {
		return errors.New(first)
	}
	return nil
}

// foreign returns why an answer is not about a group: its endpoints belong to another account. It returns "" otherwise,
// as far as is known. The region may have been edited: credentials belong to the same account in all regions.
func (s *Source) foreign(r catalog.Reader, g *discovery.InstanceGroup, ans *answer) string {
	account := ans.account()
	set, ok := catalog.Instances.Get(r, g.Key.String())
	if account == "" || !ok || s.groups[g.Key].account.roleARN != g.Object.Spec.RoleARN || set.Account == "" || set.Account == account {
		return ""
	}
	return fmt.Sprintf("the answer is of account %s, and the endpoints of InstanceGroup %s are of account %s: they stay; correct Causeway's credentials, or if the change is meant: causeway guard release %s",
		account, g.Key, set.Account, g.Key)
}

func byID(a, b discovery.Endpoint) int { return strings.Compare(a.ID, b.ID) }

func sorted(m map[string]discovery.Endpoint) []discovery.Endpoint {
	return slices.SortedFunc(maps.Values(m), byID)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func maxPercent(spec *v1alpha1.InstanceGroupSpec) int32 {
	if p := spec.RemovalGuard.MaxPercent; p != nil {
		return *p
	}
	return v1alpha1.DefaultMaxPercent
}

func counts(endpoints []discovery.Endpoint, checks *discovery.HealthSet, desired int32) v1alpha1.InstanceCounts {
	c := v1alpha1.InstanceCounts{Desired: desired}
	for i := range endpoints {
		e := &endpoints[i]
		switch {
		case e.Health == discovery.Draining:
			c.Draining++
		case e.Health == discovery.Healthy && !failing(checks, e.ID):
			c.Ready++
		}
		if e.Spot {
			c.Spot++
		}
	}
	return c
}

// guardReason tells an SRE why endpoints are held and what to do, "" if none are.
func (s *Source) guardReason(g *discovery.InstanceGroup, known *group, out *decision, v *view, size int) string {
	if len(out.held) == 0 {
		return ""
	}
	ways := make(map[string]int)
	for _, id := range out.held {
		ways[v.missing[id]]++
	}
	var text []string
	for _, way := range slices.Sorted(maps.Keys(ways)) {
		text = append(text, fmt.Sprintf("%d instances: %s", ways[way], way))
	}
	reason := fmt.Sprintf("keeps %d of %d endpoints (%s; up to %d may go within %s)", len(out.held), size,
		strings.Join(text, ", "), allowed(size, maxPercent(&g.Object.Spec)), guardWindow)
	switch {
	case out.moved:
		reason += fmt.Sprintf("; the group's region or role was changed from %s", known.account.source())
	case known.selector != nil && !reflect.DeepEqual(*known.selector, g.Object.Spec.Selector):
		reason += "; the selector was edited since"
	}
	reason += fmt.Sprintf("; until a second source agrees, or if this is meant: causeway guard release %s", g.Key)
	if value := g.Object.Annotations[v1alpha1.GuardReleaseAnnotation]; value != "" {
		if _, err := parseRelease(value, time.Now()); err != nil {
			reason += fmt.Sprintf("; the annotation %s is ignored: %v", v1alpha1.GuardReleaseAnnotation, err)
		}
	}
	return reason
}

// doubtful returns the endpoints that the guard would hold after this answer,
// if this account and region can be asked about them.
func (s *Source) doubtful(key accountKey, ans *answer, now time.Time) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.catalog.Read()
	var ids []string
	vouched := s.vouched(r, key, ans)
	for _, g := range s.groupsOf(r, key) {
		if s.foreign(r, g, ans) != "" {
			continue
		}
		out := s.decide(r, g, ans, nil, vouched, now)
		if out.moved {
			continue
		}
		for _, e := range out.endpoints {
			// An instance of another region would be unknown here, and alive there.
			if _, held := out.guard.held[e.ID]; held && (e.Zone == "" || strings.HasPrefix(e.Zone, key.region)) {
				ids = append(ids, e.ID)
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func (s *Source) groupsOf(r catalog.Reader, key accountKey) []*discovery.InstanceGroup {
	var out []*discovery.InstanceGroup
	for g := range catalog.InstanceGroups.All(r) {
		if keyOf(g) == key && s.groups[g.Key] != nil && len(mistakesIn(r, g)) == 0 {
			out = append(out, g)
		}
	}
	return out
}

// apply writes the effects of an answer for all groups of its account and
// region, in one transaction.
func (s *Source) apply(key accountKey, ans *answer, confirmed map[string]string, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	decided := make(map[*discovery.InstanceGroup]*decision)
	vouched := s.vouched(s.catalog.Read(), key, ans)
	_, err := s.catalog.Write(now, func(tx *catalog.Tx) error {
		// A stopped group is a failure of its source too, and alerts look at that.
		source := discovery.SourceStatus{Name: key.source(), Synced: true, LastSync: now}
		for _, g := range s.groupsOf(tx.Reader, key) {
			if why := s.foreign(tx.Reader, g, ans); why != "" {
				source.Error = cmp.Or(source.Error, why)
				s.putStatus(tx, g.Key, func(st *discovery.GroupStatus) {
					st.Error, st.ScalingError = why, staleSizes(st.LastSync, why)
				})
				continue
			}
			out := s.decide(tx.Reader, g, ans, confirmed, vouched, now)
			decided[g] = out
			catalog.Instances.Put(tx, &discovery.InstanceSet{
				Scope: Scope, Key: g.Key, Service: serviceOf(g), Endpoints: out.endpoints, Account: s.accountOf(tx.Reader, g, ans),
			})
			catalog.GroupStatuses.Put(tx, &out.status)
		}
		if source.Error != "" {
			source.ErrorSince = now
			if old, ok := catalog.Sources.Get(tx.Reader, key.source()); ok && old.Error != "" {
				source.ErrorSince = old.ErrorSince
			}
		}
		catalog.Sources.Put(tx, &source)
		return nil
	})
	if err != nil {
		return err
	}
	for g, out := range decided {
		s.remember(g, out, ans)
		if vouched {
			s.groups[g.Key].trust(out.endpoints)
		}
	}
	s.signals.prune(ans, now)
	s.metrics.lastSync.WithLabelValues(key.account(), key.region).Set(float64(now.UnixMilli()) / 1000)
	return nil
}

// accountOf returns the account of a group's endpoints after an answer. An
// answer that does not name its account changes nothing.
func (s *Source) accountOf(r catalog.Reader, g *discovery.InstanceGroup, ans *answer) string {
	if account := ans.account(); account != "" {
		return account
	}
	if set, ok := catalog.Instances.Get(r, g.Key.String()); ok && s.groups[g.Key].account.roleARN == g.Object.Spec.RoleARN {
		return set.Account
	}
	return ""
}

// remember keeps what the next answer is compared with.
func (s *Source) remember(g *discovery.InstanceGroup, out *decision, ans *answer) {
	known := s.groups[g.Key]
	known.foreign, known.stranger, known.meant = time.Time{}, "", ""
	for id, why := range out.removed {
		s.log.Info("instance removed that EC2 did not say is gone", "group", g.Key.String(), "instance", id, "because", why)
	}
	if n := len(out.held); n != len(known.guard.held) {
		if n > 0 {
			s.log.Warn("the never-empty guard is engaged", "group", g.Key.String(), "because", out.status.GuardReason)
		} else {
			s.log.Info("the never-empty guard holds nothing any more", "group", g.Key.String())
		}
	}
	s.metrics.held.WithLabelValues(g.Key.String()).Set(float64(len(out.held)))
	known.guard = out.guard
	if len(out.held) == 0 {
		known.account, known.selector = keyOf(g), &g.Object.Spec.Selector
	} else if known.selector == nil {
		known.selector = &g.Object.Spec.Selector
	}
	memberOf := make(map[string]string, len(out.endpoints))
	for i := range out.endpoints {
		id := out.endpoints[i].ID
		if name, ok := ans.memberOf[id]; ok {
			memberOf[id] = name
		} else if name, ok := known.memberOf[id]; ok {
			memberOf[id] = name
		}
	}
	known.memberOf = memberOf
}

// staleSizes tells since when the sizes of auto scaling groups are unknown.
func staleSizes(lastSync time.Time, cause string) string {
	if lastSync.IsZero() {
		return "the sizes of the auto scaling groups were not read yet: " + cause
	}
	return fmt.Sprintf("the sizes of the auto scaling groups are as of %s: %s", lastSync.UTC().Format(time.RFC3339), cause)
}

// fail notes why an account and region could not be read; its endpoints stay.
func (s *Source) fail(key accountKey, cause error, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.catalog.Write(now, func(tx *catalog.Tx) error {
		st := discovery.SourceStatus{Name: key.source()}
		if old, ok := catalog.Sources.Get(tx.Reader, key.source()); ok {
			st = *old
		}
		if st.Error == "" {
			st.ErrorSince = now
		}
		st.Error = explain(cause)
		catalog.Sources.Put(tx, &st)
		for _, g := range s.groupsOf(tx.Reader, key) {
			s.putStatus(tx, g.Key, func(st *discovery.GroupStatus) {
				st.Error = explain(cause)
				st.ScalingError = staleSizes(st.LastSync, st.Error)
			})
		}
		return nil
	})
	if err != nil {
		s.log.Error("cannot write the source's status", "error", err)
	}
}
