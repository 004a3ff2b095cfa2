package diff_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/file"
	"github.com/causeway-mesh/causeway/policy/diff"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// shifting returns a mesh whose Service shop is being shifted, with its state.
func shifting(t *testing.T, percent v1alpha1.Percent, change func(*v1alpha1.TrafficShift)) *catalog.Catalog {
	t.Helper()
	dir := t.TempDir()
	text := strings.Replace(base, "home: Pods", "home: Instances", 1)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "all.yaml"), []byte(text), 0o600))
	cat := catalog.New()
	_, err := file.Load(dir, cat)
	require.NoError(t, err)
	s := &v1alpha1.TrafficShift{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "shop"}}
	s.Spec.ServiceRef.Name = "shop"
	s.Spec.Steps = []v1alpha1.ShiftStep{{Percent: "10"}, {Percent: "100"}}
	if change != nil {
		change(s)
	}
	_, err = cat.Write(time.Time{}, func(tx *catalog.Tx) error {
		key := discovery.Key{Namespace: "web", Name: "shop"}
		catalog.Objects.Put(tx, &discovery.Object{
			Scope: "test", Kind: "TrafficShift", Key: key, Spec: s, Refs: []discovery.ObjectName{{Kind: "Service", Key: key}},
		})
		if percent != "" {
			catalog.ShiftStates.Put(tx, &discovery.ShiftState{Scope: "test", Key: key, Status: &v1alpha1.TrafficShiftStatus{Phase: v1alpha1.ShiftShifting, Percent: percent}})
		}
		return nil
	})
	require.NoError(t, err)
	return cat
}

// apply returns what a directory that is all that there is would change.
func apply(t *testing.T, now, dir *catalog.Catalog) *diff.Diff {
	t.Helper()
	then, err := diff.Desired(now.Read(), dir.Read(), diff.PruneEverything)
	require.NoError(t, err)
	return diff.Compare(now.Read(), then.Read(), nil)
}

// A shift goes on from where it is, whatever a directory says of it.
func TestShiftStaysWhereItIs(t *testing.T) {
	t.Parallel()
	now := shifting(t, "10", nil)
	require.True(t, apply(t, now, shifting(t, "", nil)).Empty())

	d := apply(t, now, shifting(t, "", func(s *v1alpha1.TrafficShift) { s.Spec.Pin = "40" }))
	var shares []string
	for _, c := range d.Changes {
		shares = append(shares, c.Field+": "+c.Before+" -> "+c.After)
	}
	require.Equal(t, []string{"share of the pods: 10% -> 40%", "share of the instances: 90% -> 60%"}, shares)

	d = apply(t, now, shifting(t, "", func(s *v1alpha1.TrafficShift) { s.Spec.Cohort = &v1alpha1.ShiftCohort{Header: "x-user"} }))
	require.Len(t, d.Changes, 1)
	require.Equal(t, "cohort", d.Changes[0].Field)
	require.Equal(t, "header x-user", d.Changes[0].After)
}

// Deleting an unfinished shift takes the traffic back, which is said before.
func TestDeletedShift(t *testing.T) {
	t.Parallel()
	now := shifting(t, "80", nil)
	without := shifting(t, "", nil)
	_, err := without.Write(time.Time{}, func(tx *catalog.Tx) error {
		catalog.Objects.Delete(tx, "TrafficShift web/shop")
		return nil
	})
	require.NoError(t, err)
	d := apply(t, now, without)
	require.Contains(t, d.Risks, diff.Risk{
		Target: "TrafficShift web/shop", Code: diff.ShiftDeleted,
		Message: "it is deleted before it has completed: all traffic of Service web/shop returns to its home, the instances (the pods have 80% now)",
	})
	codes := make(map[diff.RiskCode]bool)
	for _, r := range d.Risks {
		codes[r.Code] = true
	}
	require.True(t, codes[diff.WeightJump], "%+v", d.Risks)

	_, err = now.Write(time.Time{}, func(tx *catalog.Tx) error {
		key := discovery.Key{Namespace: "web", Name: "shop"}
		catalog.ShiftStates.Put(tx, &discovery.ShiftState{Scope: "test", Key: key, Status: &v1alpha1.TrafficShiftStatus{Phase: v1alpha1.ShiftCompleted, Percent: "100"}})
		catalog.Homes.Put(tx, &discovery.Home{Scope: "test", Key: key, Platform: discovery.Pods, Because: "TrafficShift web/shop has completed", Supersedes: "Instances"})
		return nil
	})
	require.NoError(t, err)
	for _, r := range apply(t, now, without).Risks {
		require.NotEqual(t, diff.ShiftDeleted, r.Code, "a completed one may go: %s", r.Message)
		require.NotEqual(t, diff.WeightJump, r.Code, r.Message)
	}
}
