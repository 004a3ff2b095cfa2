package ec2

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	autoscalingtypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// bench is a source without an API in front of it: answers are made by hand.
type bench struct {
	*testing.T
	*Source
	cat *catalog.Catalog
	now time.Time
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t, New(Config{}, slog.New(slog.DiscardHandler), prometheus.NewRegistry()), catalog.New(), time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)}
	b.start(b.cat)
	return b
}

var benchKey = accountKey{region: "ap-northeast-1"}

// follow begins to follow a group, from what was known of it.
func (b *bench) follow(name string, s v1alpha1.InstanceSelector, known ...string) {
	b.Helper()
	g := &v1alpha1.InstanceGroup{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: name}}
	g.Spec = v1alpha1.InstanceGroupSpec{
		ServiceRef: v1alpha1.ServiceReference{Name: "php-web"}, Region: benchKey.region, Selector: s,
		Ports: []v1alpha1.InstancePort{{Port: 80}},
	}
	v1alpha1.DefaultInstanceGroup(g)
	_, err := b.cat.Write(time.Time{}, func(tx *catalog.Tx) error {
		row := &discovery.InstanceGroup{Scope: "test", Key: key(name), Object: g}
		catalog.Objects.Put(tx, row.Row())
		if len(known) > 0 {
			set := &discovery.InstanceSet{Scope: "state", Key: key(name), Service: key("php-web")}
			for _, id := range known {
				set.Endpoints = append(set.Endpoints, discovery.Endpoint{ID: id, Address: "10.0.0.1"})
			}
			catalog.Instances.Put(tx, set)
		}
		b.adopt(tx, row)
		return nil
	})
	require.NoError(b, err)
}

// sweep does what an account's loop does with an answer.
func (b *bench) sweep(ans *answer) error {
	b.now = b.now.Add(15 * time.Second)
	if err := b.checkAccount(benchKey, ans); err != nil {
		b.fail(benchKey, err, b.now)
		return err
	}
	return b.apply(benchKey, ans, nil, b.now)
}

func (b *bench) ids(name string) []string {
	set, ok := catalog.Instances.Get(b.cat.Read(), key(name).String())
	if !ok {
		return nil
	}
	return idsOf(set.Endpoints)
}

func (b *bench) status(name string) discovery.GroupStatus {
	b.Helper()
	st, ok := catalog.GroupStatuses.Get(b.cat.Read(), key(name).String())
	require.True(b, ok)
	return *st
}

// answerOf is the answer of an account ("" for one that does not say) whose auto
// scaling group php has these instances.
func answerOf(account string, ids ...string) *answer {
	a := &answer{instances: make(map[string]*instance), groups: make(map[string]*autoScalingGroup), memberOf: make(map[string]string)}
	a.ownedBy(account)
	g := &autoScalingGroup{members: make(map[string]member)}
	for n, id := range ids {
		a.instances[id] = &instance{
			id: id, state: "running", zone: "ap-northeast-1a", ipv4: fmt.Sprintf("10.0.0.%d", n+1), tags: map[string]string{groupTag: "php", "Role": "php"},
		}
		g.members[id] = member{lifecycle: autoscalingtypes.LifecycleStateInService, capacity: 1}
		a.memberOf[id] = "php"
	}
	a.groups["php"] = g
	return a
}

// An API that answers as another account takes nothing from any group, whatever
// that account has, and whether or not the answer says whose it is.
func TestAnotherAccountTakesNothing(t *testing.T) {
	asg := v1alpha1.InstanceSelector{AutoScalingGroups: []string{"php"}}
	tags := v1alpha1.InstanceSelector{Tags: map[string]string{"Role": "php"}}
	want := []string{"i-1", "i-2", "i-3", "i-4"}
	const own, other = "111111111111", "999999999999"
	for name, theirs := range map[string]*answer{
		"others of the same name": answerOf(other, "i-7", "i-8", "i-9"),
		"an empty group":          answerOf(other),
	} {
		for _, restarted := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", restarted: ", restarted), func(t *testing.T) {
				b := newBench(t)
				if restarted {
					b.follow("asg", asg, want...)
					b.follow("tags", tags, want...)
				} else {
					b.follow("asg", asg)
					b.follow("tags", tags)
					require.NoError(t, b.sweep(answerOf(own, want...)))
					require.ErrorContains(t, b.sweep(theirs), "the answer is of account 999999999999, and the endpoints of InstanceGroup web/asg are of account 111111111111: they stay")
					require.Contains(t, b.status("tags").Error, "causeway guard release")
					require.Equal(t, want, b.ids("asg"))
					require.Equal(t, want, b.ids("tags"))
				}
				silent := *theirs
				silent.owners = nil
				for range 3 {
					require.NoError(t, b.sweep(&silent))
					require.Subset(t, b.ids("asg"), want)
					require.Subset(t, b.ids("tags"), want)
				}
				require.Equal(t, 4, b.status("asg").GuardHeld)
				require.NoError(t, b.sweep(answerOf(own, want...)))
				require.Equal(t, want, b.ids("asg"))
				require.Zero(t, b.status("asg").GuardHeld)
			})
		}
	}
}

func TestAnEmptyAnswerTakesNothing(t *testing.T) {
	b := newBench(t)
	b.follow("asg", v1alpha1.InstanceSelector{AutoScalingGroups: []string{"php"}})
	require.NoError(t, b.sweep(answerOf("111111111111", "i-1", "i-2")))
	for range 3 {
		require.NoError(t, b.sweep(&answer{}))
		require.Equal(t, []string{"i-1", "i-2"}, b.ids("asg"))
	}
	// What is stated goes at once.
	stopped := answerOf("111111111111", "i-1", "i-2")
	stopped.instances["i-1"].state, stopped.instances["i-2"].state = "stopped", "terminated"
	require.NoError(t, b.sweep(stopped))
	require.Empty(t, b.ids("asg"))
}

// A new leader knows of which account the published endpoints are.
func TestANewLeaderKnowsTheAccount(t *testing.T) {
	asg := v1alpha1.InstanceSelector{AutoScalingGroups: []string{"php"}}
	lead := func(role, account string) *bench {
		b := newBench(t)
		b.follow("asg", asg)
		b.Source.groups = make(map[discovery.Key]*group) // it is adopted below
		_, err := b.cat.Write(time.Time{}, func(tx *catalog.Tx) error {
			old, _ := catalog.InstanceGroups.Get(tx.Reader, key("asg").String())
			row := *old
			object := row.Object.DeepCopy()
			object.Spec.RoleARN = role
			object.Status.Account = account
			row.Object = object
			catalog.Objects.Put(tx, row.Row())
			catalog.Endpoints.Put(tx, &discovery.EndpointSet{
				Scope: "published", Key: discovery.Key{Namespace: "web", Name: "asg-1"}, Service: key("php-web"), Platform: discovery.Instances, Group: "asg",
				Endpoints: []discovery.Endpoint{{ID: "i-1", Address: "10.0.0.1"}, {ID: "i-2", Address: "10.0.0.2"}},
			})
			b.adopt(tx, &row)
			return nil
		})
		require.NoError(t, err)
		return b
	}
	b := lead("", "111111111111")
	require.ErrorContains(t, b.sweep(answerOf("999999999999", "i-8")), "are of account 111111111111: they stay")
	require.Equal(t, []string{"i-1", "i-2"}, b.ids("asg"))
	require.NoError(t, b.sweep(answerOf("111111111111", "i-1", "i-2")))

	const role = "arn:aws:iam::999999999999:role/causeway"
	other := accountKey{roleARN: role, region: benchKey.region}
	require.NoError(t, lead(role, "111111111111").checkAccount(other, answerOf("999999999999", "i-8")), "the role was edited")
}

// Who releases a group also says that the other account is meant.
func TestReleaseOfAnotherAccount(t *testing.T) {
	b := newBench(t)
	b.now = time.Now().Add(-time.Hour)
	b.follow("asg", v1alpha1.InstanceSelector{AutoScalingGroups: []string{"php"}})
	require.NoError(t, b.sweep(answerOf("111111111111", "i-1", "i-2")))
	require.Error(t, b.sweep(answerOf("999999999999", "i-8")))
	b.Release(key("asg"))
	require.NoError(t, b.sweep(answerOf("999999999999", "i-8")))
	require.Equal(t, []string{"i-1", "i-2", "i-8"}, b.ids("asg"), "they are not mentioned, which the guard holds")
	require.NoError(t, b.sweep(answerOf("999999999999", "i-8")))
}

// A zone's name means another place in another account; its id does not.
func TestZonesOfAnotherAccount(t *testing.T) {
	ans := &answer{instances: map[string]*instance{
		"i-a": {zone: "ap-northeast-1a", zoneID: "apne1-az2"}, "i-c": {zone: "ap-northeast-1c", zoneID: "apne1-az4"},
		"i-d": {zone: "ap-northeast-1d", zoneID: "apne1-az1"}, "i-old": {zone: "ap-northeast-1a"},
	}}
	ans.renameZones(map[string]string{"apne1-az4": "ap-northeast-1a", "apne1-az2": "ap-northeast-1d"})
	got := make(map[string]string)
	for id, i := range ans.instances {
		got[id] = i.zone
	}
	require.Equal(t, map[string]string{"i-a": "ap-northeast-1d", "i-c": "ap-northeast-1a", "i-d": "apne1-az1", "i-old": "ap-northeast-1a"}, got)
}

func TestRoleOfAnotherAccount(t *testing.T) {
	b := newBench(t)
	role := accountKey{"arn:aws:iam::123456789012:role/causeway", "ap-northeast-1"}
	require.ErrorContains(t, b.checkAccount(role, answerOf("999999999999", "i-1")), "is of account 123456789012: endpoints stay")
	require.NoError(t, b.checkAccount(role, answerOf("123456789012", "i-1")))
	require.NoError(t, b.checkAccount(role, answerOf("", "i-1")))
}

func TestWhyAGroupIsEmpty(t *testing.T) {
	ans := answerOf("111111111111", "i-1", "i-2")
	ans.instances["i-6"] = &instance{id: "i-6", state: "running", ipv6: "2001:db8::10", tags: map[string]string{"Role": "six"}}
	ans.instances["i-7"] = &instance{id: "i-7", state: "pending", ipv4: "10.0.0.7", tags: map[string]string{"Role": "young"}}
	ans.instances["i-8"] = &instance{id: "i-8", state: "running", ipv4: "10.0.0.8", tags: map[string]string{"Role": "hook"}}
	ans.groups["php"].members["i-8"] = member{lifecycle: autoscalingtypes.LifecycleStatePendingWait}
	ans.memberOf["i-8"] = "php"
	tag := func(v string) v1alpha1.InstanceSelector {
		return v1alpha1.InstanceSelector{Tags: map[string]string{"Role": v}}
	}
	for name, c := range map[string]struct {
		selector v1alpha1.InstanceSelector
		want     string
	}{
		"six":   {tag("six"), "1 instance matches with no private IPv4 address, only an IPv6 one: set spec.address to IPv6"},
		"young": {tag("young"), "1 instance matches with state pending"},
		"hook":  {tag("hook"), "1 instance matches with Auto Scaling's state Pending:Wait"},
		"wild":  {tag("web-*"), "no instance in account 111111111111, region ap-northeast-1 has exactly the tag Role=web-*: * and ? stand for themselves; write the whole value"},
		"other": {tag("none"), "no instance in account 111111111111, region ap-northeast-1 has the tag Role=none, 5 have other values: correct spec.selector.tags"},
		"key": {
			v1alpha1.InstanceSelector{Tags: map[string]string{"role": "php"}},
			`none of 5 running instances in account 111111111111, region ap-northeast-1 has a tag "role": correct spec.selector.tags`,
		},
		"asg": {
			v1alpha1.InstanceSelector{AutoScalingGroups: []string{"php-20251101"}},
			"there is no auto scaling group php-20251101 in account 111111111111, region ap-northeast-1: correct spec.selector.autoScalingGroups",
		},
		"php": {v1alpha1.InstanceSelector{AutoScalingGroups: []string{"php"}}, ""},
	} {
		b := newBench(t)
		b.follow(name, c.selector)
		require.NoError(t, b.sweep(ans))
		require.Equal(t, c.want, b.status(name).Empty, name)
	}
	b := newBench(t)
	b.follow("nothing", tag("x"))
	require.NoError(t, b.sweep(&answer{}))
	require.Equal(t, "there is no running instance in region ap-northeast-1: correct spec.region, or spec.roleARN", b.status("nothing").Empty)
}

// elsewhere edits a group's region.
func (b *bench) elsewhere(name, region string) {
	b.Helper()
	_, err := b.cat.Write(time.Time{}, func(tx *catalog.Tx) error {
		old, _ := catalog.InstanceGroups.Get(tx.Reader, key(name).String())
		row := *old
		row.Object = row.Object.DeepCopy()
		row.Object.Spec.Region = region
		catalog.Objects.Put(tx, row.Row())
		return nil
	})
	require.NoError(b, err)
}

func (b *bench) source() discovery.SourceStatus {
	b.Helper()
	st, ok := catalog.Sources.Get(b.cat.Read(), benchKey.source())
	require.True(b, ok)
	return *st
}

// Where an answer is of another account than some groups' endpoints, and of the account of others', the first alone
// stop, and the source says so for as long as they do.
func TestOtherGroupsGoOnWithoutTheOnesOfAnotherAccount(t *testing.T) {
	const own, other = "111111111111", "222222222222"
	b := newBench(t)
	b.now = time.Now().Add(-time.Hour)
	php := v1alpha1.InstanceSelector{AutoScalingGroups: []string{"php"}}
	b.follow("old", php)
	b.follow("released", php)
	require.NoError(t, b.sweep(answerOf(own, "i-1", "i-2")))
	require.ErrorContains(t, b.sweep(answerOf(other, "i-7")), "they stay")
	b.Release(key("released")) // the other account is meant
	b.follow("new", php)
	for range 2 { // the second time the released one has an account of its own
		require.NoError(t, b.sweep(answerOf(other, "i-7")))
		require.Contains(t, b.ids("released"), "i-7")
		require.Equal(t, []string{"i-7"}, b.ids("new"))
		require.Equal(t, []string{"i-1", "i-2"}, b.ids("old"))
		require.Contains(t, b.status("old").Error, "the endpoints of InstanceGroup web/old are of account 111111111111: they stay")
		require.Empty(t, b.status("new").Error)
		require.Contains(t, b.source().Error, "the endpoints of InstanceGroup web/old are of account 111111111111: they stay")
		require.Equal(t, b.now, b.source().LastSync)
	}
	require.True(t, b.source().ErrorSince.Before(b.now))
	// What the other group has is no reason to doubt the answer about this one.
	require.NoError(t, b.sweep(answerOf(other, "i-7", "i-8")))
	require.Equal(t, []string{"i-7", "i-8"}, b.ids("new"))
	b.Release(key("old"))
	require.NoError(t, b.sweep(answerOf(other, "i-7", "i-8")))
	require.Empty(t, b.status("old").Error)
	require.Empty(t, b.source().Error)
	require.Zero(t, b.source().ErrorSince)
}

// A group that nothing is known of does not let the answer of a wrong account through, be it new, of another region,
// or moved there.
func TestAGroupWithoutHistoryDoesNotVouch(t *testing.T) {
	php := v1alpha1.InstanceSelector{AutoScalingGroups: []string{"php"}}
	const own, other = "111111111111", "222222222222"
	prod := func(t *testing.T) *bench {
		t.Helper()
		b := newBench(t)
		b.follow("old", php)
		b.follow("second", php)
		require.NoError(t, b.sweep(answerOf(own, "i-1", "i-2")))
		require.ErrorContains(t, b.sweep(answerOf(other, "i-7")), "they stay")
		return b
	}
	t.Run("new", func(t *testing.T) {
		b := prod(t)
		b.follow("new", php)
		require.ErrorContains(t, b.sweep(answerOf(other, "i-7")), "are of account 111111111111: they stay")
		require.Empty(t, b.ids("new"))
		require.Contains(t, b.status("new").Error, "causeway guard release web/")
		require.NoError(t, b.sweep(answerOf(own, "i-1")))
		require.Equal(t, []string{"i-1"}, b.ids("new"))
	})
	t.Run("without an account", func(t *testing.T) {
		b := prod(t)
		b.follow("restored", php, "i-1")
		require.Error(t, b.sweep(answerOf(other, "i-7")))
		require.Equal(t, []string{"i-1"}, b.ids("restored"))
	})
	t.Run("the only one of its region", func(t *testing.T) {
		b := prod(t)
		b.follow("new", php)
		b.elsewhere("new", "eu-central-1")
		there := accountKey{region: "eu-central-1"}
		require.ErrorContains(t, b.checkAccount(there, answerOf(other, "i-7")), "are of account 111111111111: they stay")
		require.NoError(t, b.checkAccount(there, answerOf(own, "i-7")))
	})
	t.Run("moved to another region", func(t *testing.T) {
		b := newBench(t)
		b.follow("old", php)
		require.NoError(t, b.sweep(answerOf(own, "i-1", "i-2")))
		b.elsewhere("old", "eu-central-1")
		there := accountKey{region: "eu-central-1"}
		require.ErrorContains(t, b.checkAccount(there, answerOf(other, "i-7")), "are of account 111111111111: they stay")
		require.NoError(t, b.checkAccount(there, answerOf(own, "i-7")))
	})
}

// The question for zones has a time of its own, and nobody waits for another's.
func TestZonesAreAskedForWithinBounds(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "x")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "x")
	entered := make(chan struct{}, 10)
	hang := make(chan struct{})
	api := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		entered <- struct{}{}
		<-hang
	}))
	defer api.Close()
	defer close(hang)
	t.Setenv("AWS_ENDPOINT_URL", api.URL)
	s := New(Config{}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	a := s.newAccount(accountKey{region: "eu-central-1"})
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := s.ownZones(ctx, a)
			errs <- err
		}()
	}
	<-entered
	<-entered // the other one does not wait for the first
	s.zonesMu.Lock()
	s.zones = map[string]map[string]string{"eu-central-1": {"euc1-az1": "eu-central-1a"}}
	s.zonesMu.Unlock()
	names, err := s.ownZones(t.Context(), a)
	require.NoError(t, err)
	require.Len(t, names, 1)
	cancel()
	for range 2 {
		require.Error(t, <-errs)
	}
	require.Less(t, zonesTimeout, sweepTimeout/4)
}
