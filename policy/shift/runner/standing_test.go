package runner

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/outcome"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/policy/shift"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// answered is what callers got, whatever the window.
type answered struct {
	outcomes map[outcome.Key]*outcome.Counts
	lengths  []time.Duration
}

func (a *answered) Window(_ discovery.Key, length time.Duration) (outcome.Window, bool) {
	a.lengths = append(a.lengths, length)
	return outcome.Window{Totals: outcome.Totals{Outcomes: a.outcomes}, Covered: length}, true
}

func (a *answered) Spent(discovery.Key) (outcome.Spent, bool) { return outcome.Spent{}, true }

// Who answers is known by the endpoints that there are and by what proxies say. What is only not read
// yet is no failover: the objects of a Service that are applied together are not read together.
func TestStanding(t *testing.T) {
	t.Parallel()
	r, _, c := world(t, true)
	key := discovery.Key{Namespace: "web", Name: "php"}
	seen := &answered{}
	r.opts.Outcomes = seen
	began := time.Unix(1_800_000_000, 0)
	at := func(m *memory, after time.Duration) (*standing, *shift.Observation) {
		reader := c.Read()
		row, _ := catalog.Objects.Get(reader, discovery.ObjectName{Kind: discovery.KindTrafficShift, Key: key}.String())
		object, _ := ObjectOf(reader, row)
		object.Spec.Guard.Window.Duration = time.Minute
		model := resolve.BuildService(reader, key)
		s := r.standing(reader, object, model, m, began.Add(after))
		whole, _ := seen.Window(key, time.Minute)
		return s, r.measure(object, model, m, s, &whole, began.Add(after))
	}
	forgetful := func() *memory {
		return &memory{first: began, since: began.Add(-time.Hour), copied: began.Add(-time.Hour), usable: make(map[discovery.BackingName]bool)}
	}
	write := func(change func(tx *catalog.Tx)) {
		t.Helper()
		_, err := c.Write(time.Now(), func(tx *catalog.Tx) error { change(tx); return nil })
		require.NoError(t, err)
	}
	instances := outcome.Key{Service: key, Port: 80, Platform: discovery.Instances}

	m := forgetful()
	s, o := at(m, 0)
	require.Empty(t, s.text)
	require.Empty(t, s.gone)
	require.Nil(t, o.StandIn)

	// Proxies find no instance that answers, though EC2 says that all is well.
	seen.outcomes = map[outcome.Key]*outcome.Counts{instances: {Requests: 10, FailedOver: 90}}
	s, o = at(m, time.Minute)
	require.Equal(t, "callers' proxies find no usable endpoint of the instances, so the pods answer for them: see `causeway endpoints web/php`", s.text)
	require.Contains(t, s.gone[discovery.Instances], "no usable endpoint")
	require.Equal(t, &shift.StandIn{By: discovery.Pods, For: discovery.Instances, Now: true}, o.StandIn)
	require.Zero(t, o.Source.Requests, "what came meanwhile is left out")
	require.EqualValues(t, 100, o.LeftOut)
	require.EqualValues(t, 100, o.Source.Meant)
	require.EqualValues(t, 90, o.Source.FailedOver)

	// It is over, and the window has it still.
	seen.outcomes, seen.lengths = map[outcome.Key]*outcome.Counts{instances: {Requests: 40}}, nil
	s, o = at(m, 70*time.Second)
	require.Empty(t, s.text)
	require.Equal(t, &shift.StandIn{By: discovery.Pods, For: discovery.Instances}, o.StandIn)
	require.Equal(t, 10*time.Second, o.Covered)
	require.Contains(t, seen.lengths, 10*time.Second, "only what came since counts")
	_, o = at(m, 3*time.Minute)
	require.Nil(t, o.StandIn)
	require.Equal(t, time.Minute, o.Covered)

	// Instances that have been there and are gone are a failover at once.
	write(func(tx *catalog.Tx) {
		catalog.Endpoints.Put(tx, &discovery.EndpointSet{
			Scope: "test", Key: discovery.Key{Namespace: "web", Name: "i-1"}, Service: key, Platform: discovery.Instances,
			Ports: []discovery.EndpointPort{{Name: "http", Port: 8080}},
		})
	})
	s, _ = at(m, 4*time.Minute)
	require.Equal(t, "the instances have no usable endpoint on port 80: the pods answer for them; "+
		"see `causeway endpoints web/php`, bring them back, or, if they are gone for good, set spec.pin: \"100\"", s.text)
	require.Empty(t, s.unread)

	// Those that have never been seen may be on their way, for a while.
	m = forgetful()
	s, _ = at(m, arrival-time.Second)
	require.Empty(t, s.text)
	require.Equal(t, "the instances of the Service have no usable endpoint yet", s.unread)
	s, _ = at(m, arrival)
	require.NotEmpty(t, s.text)

	// An InstanceGroup that has not been read at all is no failover, however long that takes.
	write(func(tx *catalog.Tx) {
		catalog.Objects.Put(tx, (&discovery.InstanceGroup{
			Scope: "test", Key: discovery.Key{Namespace: "web", Name: "php-ec2"}, Object: &v1alpha1.InstanceGroup{
				ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "php-ec2"},
				Spec: v1alpha1.InstanceGroupSpec{
					ServiceRef: v1alpha1.ServiceReference{Name: "php"}, Ports: []v1alpha1.InstancePort{{Name: "http", Port: 8080}},
				},
			},
		}).Row())
	})
	s, _ = at(m, time.Hour)
	require.Empty(t, s.text)
	require.Equal(t, "the instances of the Service are not read yet", s.unread)
}

// While one side stands in for the other nothing is compared, and what the callers got is told all the same.
func TestCallersWhileASideStandsIn(t *testing.T) {
	t.Parallel()
	r, _, c := world(t, true)
	key := discovery.Key{Namespace: "web", Name: "php"}
	seen := &answered{outcomes: map[outcome.Key]*outcome.Counts{
		{Service: key, Port: 80, Platform: discovery.Pods}: {
			Requests: 20, FailedOver: 20, Callers: map[string]outcome.CallerCounts{"sidecar~web~cart~a": {Requests: 20, FailedOver: 20}},
		},
	}}
	r.opts.Outcomes = seen
	row, _ := catalog.Objects.Get(c.Read(), discovery.ObjectName{Kind: discovery.KindTrafficShift, Key: key}.String())
	object, _ := ObjectOf(c.Read(), row)
	object.Spec.Guard.Window.Duration = time.Minute
	whole, _ := seen.Window(key, time.Minute)
	now := time.Unix(1_800_000_000, 0)
	o := r.measure(object, resolve.BuildService(c.Read(), key), &memory{first: now, since: now}, &standing{now: true}, &whole, now)
	require.EqualValues(t, 20, o.Target.Callers["sidecar~web~cart~a"].FailedOver)
}
