package runner

import (
	"math"
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

// aging is what callers got: ten requests to each side in each second, of which the pods failed all until ten seconds ago.
type aging struct{ service discovery.Key }

func (a aging) Window(_ discovery.Key, length time.Duration) (outcome.Window, bool) {
	w := outcome.Window{Totals: outcome.Totals{Outcomes: make(map[outcome.Key]*outcome.Counts)}, Covered: length, Proxies: 1}
	seconds := uint64(length / time.Second)
	for _, p := range []discovery.BackingName{discovery.Pods, discovery.Instances} {
		counts := &outcome.Counts{Requests: 10 * seconds}
		if p == discovery.Pods && seconds > 10 {
			counts.Failures[outcome.ServerError] = 10 * (seconds - 10)
		}
		w.Outcomes[outcome.Key{Service: a.service, Port: 80, Platform: p}] = counts
	}
	return w, true
}

func (aging) Spent(discovery.Key) (outcome.Spent, bool) { return outcome.Spent{}, true }

// A shift that was taken back and is promoted again is not judged by what the pods answered before: the guard would take it
// back at once, whatever was mended.
func TestNewAttemptBeginsAnew(t *testing.T) {
	t.Parallel()
	r, _, c := world(t, true)
	key := discovery.Key{Namespace: "web", Name: "php"}
	r.opts.Outcomes = aging{key}
	now := time.Unix(1_800_000_000, 0)
	ago := func(d time.Duration, event v1alpha1.ShiftEvent, from, to v1alpha1.Percent) v1alpha1.ShiftHistory {
		return v1alpha1.ShiftHistory{Time: metav1.NewTime(now.Add(-d)), Event: event, From: from, To: to}
	}
	observe := func(history ...v1alpha1.ShiftHistory) *shift.Observation {
		reader := c.Read()
		row, _ := catalog.Objects.Get(reader, discovery.ObjectName{Kind: discovery.KindTrafficShift, Key: key}.String())
		object, _ := ObjectOf(reader, row)
		object.Spec.Guard.Window.Duration = time.Minute
		object.Status.History = history
		whole, _ := r.opts.Outcomes.Window(key, time.Minute)
		m := &memory{first: now.Add(-time.Hour), since: now.Add(-5 * time.Second), copied: now.Add(-time.Hour), usable: make(map[discovery.BackingName]bool)}
		return r.measure(object, resolve.BuildService(reader, key), m, &standing{since: math.MaxInt64}, &whole, now)
	}

	o := observe(
		ago(2*time.Second, v1alpha1.EventStep, "10", "50"),
		ago(5*time.Second, v1alpha1.EventStep, "0", "10"),
		ago(5*time.Second, v1alpha1.EventStep, "0", "0"),
		ago(11*time.Second, v1alpha1.EventRollBack, "10", "0"),
		ago(30*time.Second, v1alpha1.EventStep, "0", "10"),
	)
	require.Equal(t, uint64(50), o.Target.Requests)
	require.Zero(t, o.Target.Failed())
	require.Equal(t, uint64(600), o.Source.Requests, "the instances are judged by the whole window")

	o = observe(ago(5*time.Second, v1alpha1.EventStep, "0", "10"))
	require.Equal(t, uint64(600), o.Target.Requests, "a first attempt has the whole window: what pods answer before a shift is theirs too")
	require.Equal(t, uint64(500), o.Target.Failed())
}
