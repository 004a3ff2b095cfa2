package lead

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/kubetest"
	"github.com/causeway-mesh/causeway/test/harness/meshtest"
)

// stateOf returns the state that a reader of the cluster computes the next status from.
func stateOf(o *v1alpha1.TrafficShift) *discovery.ShiftState {
	return &discovery.ShiftState{
		Key: discovery.Key{Namespace: o.Namespace, Name: o.Name}, UID: string(o.UID), Version: o.ResourceVersion, Status: o.Status.DeepCopy(),
	}
}

func newShifts(t *testing.T, kube *kubetest.Kube) *Shifts {
	t.Helper()
	return shiftsOf(t, newReplica(t, kube, nil))
}

func shiftsOf(t *testing.T, r *meshtest.Replica) *Shifts {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s, shutdown, err := NewShifts(ctx, r.Client)
	require.NoError(t, err)
	t.Cleanup(func() {
		shutdown()
		cancel()
	})
	return s
}

// The state of shifts on a real API server, with exactly the manifests' rights.
func TestShifts(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
	kube.ApplyYAML(t, meshtest.Service)
	one, two := newReplica(t, kube, nil), newReplica(t, kube, nil)
	a, b := shiftsOf(t, one), shiftsOf(t, two)

	t.Run("every replica hears of a status, and goes on from it", func(t *testing.T) {
		meshtest.ApplyShift(t, kube, "heard")
		heard := func(r *meshtest.Replica, percent v1alpha1.Percent) *discovery.ShiftState {
			t.Helper()
			var row *discovery.ShiftState
			harness.Eventually(t, 20*time.Second, "the state", func() error {
				var ok bool
				if row, ok = catalog.ShiftStates.Get(r.Catalog.Read(), "web/heard"); !ok || row.Status.Percent != percent {
					return fmt.Errorf("it is %+v", row)
				}
				return nil
			})
			return row
		}
		stale := heard(two, "")
		for i, percent := range []v1alpha1.Percent{"1", "10", "100"} {
			r, s := one, a
			if i%2 == 1 {
				r, s = two, b // the leader changes
			}
			next := *heard(r, []v1alpha1.Percent{"", "1", "10"}[i])
			next.Status = next.Status.DeepCopy()
			next.Status.Phase, next.Status.Percent = v1alpha1.ShiftShifting, percent
			require.NoError(t, s.Save(t.Context(), &next))
			heard(one, percent)
			heard(two, percent)
		}
		require.ErrorIs(t, b.Save(t.Context(), stale), discovery.ErrConflict)
	})

	t.Run("a status holds only for the version that it was computed from", func(t *testing.T) {
		meshtest.ApplyShift(t, kube, "fenced")
		first := stateOf(meshtest.ReadShift(t, kube, "fenced"))
		first.Status.Phase, first.Status.Percent, first.Status.Step = v1alpha1.ShiftShifting, "1", 0
		second := stateOf(meshtest.ReadShift(t, kube, "fenced"))
		second.Status.Phase, second.Status.Percent, second.Status.Step = v1alpha1.ShiftShifting, "100", 1
		require.NoError(t, a.Save(t.Context(), first))
		require.ErrorIs(t, b.Save(t.Context(), second), discovery.ErrConflict)
		require.EqualValues(t, "1", meshtest.ReadShift(t, kube, "fenced").Status.Percent)

		// An edit of the spec makes a status that was computed before it void, too.
		before := stateOf(meshtest.ReadShift(t, kube, "fenced"))
		require.NoError(t, meshtest.API(t, kube).Patch(types.MergePatchType).AbsPath(meshtest.ShiftPath+"fenced").Body([]byte(`{"spec":{"paused":true}}`)).Do(t.Context()).Error())
		before.Status.Percent = "100"
		require.ErrorIs(t, a.Save(t.Context(), before), discovery.ErrConflict)

		without := stateOf(meshtest.ReadShift(t, kube, "fenced"))
		without.Version = ""
		require.ErrorIs(t, a.Save(t.Context(), without), errNoVersion)
		require.EqualValues(t, "1", meshtest.ReadShift(t, kube, "fenced").Status.Percent)
	})

	t.Run("of two leaders one writes", func(t *testing.T) {
		meshtest.ApplyShift(t, kube, "raced")
		for round := range 10 {
			state := stateOf(meshtest.ReadShift(t, kube, "raced"))
			var wg sync.WaitGroup
			errs := make([]error, 2)
			for i, s := range []*Shifts{a, b} {
				mine := *state
				mine.Status = state.Status.DeepCopy()
				mine.Status.Waiting = fmt.Sprint("round ", round, " of ", i)
				wg.Go(func() { errs[i] = s.Save(t.Context(), &mine) })
			}
			wg.Wait()
			won := slices.Index(errs, nil)
			require.GreaterOrEqual(t, won, 0, "%v", errs)
			require.ErrorIs(t, errs[1-won], discovery.ErrConflict)
			require.Equal(t, fmt.Sprint("round ", round, " of ", won), meshtest.ReadShift(t, kube, "raced").Status.Waiting)
		}
	})

	t.Run("conditions of others stay", func(t *testing.T) {
		meshtest.ApplyShift(t, kube, "shared")
		condition := func(kind, message string) metav1.Condition {
			return metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: "Because", Message: message, LastTransitionTime: metav1.NewTime(time.Unix(1000, 0).UTC())}
		}
		body, err := json.Marshal(map[string]any{
			"apiVersion": "mesh.causeway.dev/v1alpha1", "kind": "TrafficShift", "metadata": map[string]string{"name": "shared", "namespace": "web"},
			"status": map[string]any{"conditions": []metav1.Condition{condition(v1alpha1.ConditionAccepted, "of policy")}},
		})
		require.NoError(t, err)
		policy := func() error {
			return meshtest.API(t, kube).Patch(types.ApplyPatchType).AbsPath(meshtest.ShiftPath+"shared/status").
				Param("fieldManager", "causeway").Param("force", "true").Body(body).Do(t.Context()).Error()
		}
		require.NoError(t, policy())
		state := stateOf(meshtest.ReadShift(t, kube, "shared"))
		state.Status.Percent, state.Status.Waiting, state.Status.Paused = "1", "for requests", true
		state.Status.Conditions[0].Message = "of an old row" // it is not ours to say
		state.Status.Conditions = append(state.Status.Conditions, condition("Progressing", "of the shift"))
		require.NoError(t, a.Save(t.Context(), state))
		require.NoError(t, policy())
		got := meshtest.ReadShift(t, kube, "shared")
		require.Equal(t, "of policy", apimeta.FindStatusCondition(got.Status.Conditions, v1alpha1.ConditionAccepted).Message)
		require.Equal(t, "of the shift", apimeta.FindStatusCondition(got.Status.Conditions, "Progressing").Message)
		require.EqualValues(t, "1", got.Status.Percent)
		require.True(t, got.Status.Paused)

		state = stateOf(got)
		state.Status.Waiting, state.Status.Paused, state.Status.Conditions = "", false, nil
		require.NoError(t, a.Save(t.Context(), state))
		got = meshtest.ReadShift(t, kube, "shared")
		require.Empty(t, got.Status.Waiting, "what a status no longer says goes")
		require.False(t, got.Status.Paused)
		require.Len(t, got.Status.Conditions, 1)
	})

	t.Run("a finalizer keeps a shift until it is released", func(t *testing.T) {
		meshtest.ApplyShift(t, kube, "kept")
		key := discovery.Key{Namespace: "web", Name: "kept"}
		require.NoError(t, meshtest.API(t, kube).Patch(types.MergePatchType).AbsPath(meshtest.ShiftPath+"kept").Body([]byte(`{"metadata":{"finalizers":["example.com/other"]}}`)).Do(t.Context()).Error())
		require.NoError(t, a.Protect(t.Context(), key))
		require.NoError(t, b.Protect(t.Context(), key))
		require.Equal(t, []string{"example.com/other", v1alpha1.ShiftFinalizer}, meshtest.ReadShift(t, kube, "kept").Finalizers)

		require.NoError(t, meshtest.API(t, kube).Delete().AbsPath(meshtest.ShiftPath+"kept").Do(t.Context()).Error())
		require.NoError(t, meshtest.API(t, kube).Patch(types.MergePatchType).AbsPath(meshtest.ShiftPath+"kept").Body([]byte(`{"metadata":{"finalizers":["`+v1alpha1.ShiftFinalizer+`"]}}`)).Do(t.Context()).Error())
		dying := meshtest.ReadShift(t, kube, "kept")
		require.NotNil(t, dying.DeletionTimestamp)
		state := stateOf(dying)
		state.Status.Phase = v1alpha1.ShiftCompleted
		require.NoError(t, a.Save(t.Context(), state), "the last word is still to be said")
		require.NoError(t, a.Release(t.Context(), key))
		require.Nil(t, meshtest.ReadShift(t, kube, "kept"))
		require.NoError(t, b.Release(t.Context(), key), "one that is gone is released")
		require.NoError(t, b.Protect(t.Context(), key))
		require.ErrorIs(t, a.Save(t.Context(), state), discovery.ErrConflict)
		require.Nil(t, meshtest.ReadShift(t, kube, "kept"), "nothing brings it back")

		meshtest.ApplyShift(t, kube, "kept")
		require.ErrorIs(t, a.Save(t.Context(), state), discovery.ErrConflict, "another one of the same name")
		require.Empty(t, meshtest.ReadShift(t, kube, "kept").Status.Phase)
	})

	t.Run("what is wrong with a status is told", func(t *testing.T) {
		meshtest.ApplyShift(t, kube, "wrong")
		state := stateOf(meshtest.ReadShift(t, kube, "wrong"))
		state.Status.Percent = "a lot"
		err := a.Save(t.Context(), state)
		require.ErrorContains(t, err, "TrafficShift web/wrong")
		require.ErrorContains(t, err, "percent")
		require.NotErrorIs(t, err, discovery.ErrConflict)
	})

	t.Run("a home is recorded when the call returns", func(t *testing.T) {
		home := discovery.Home{Key: discovery.Key{Namespace: "web", Name: "php-web"}, Platform: discovery.Pods, Because: "a shift", Supersedes: "Instances"}
		var wg sync.WaitGroup
		for i := range 4 { // whoever writes at the same time
			other := home
			other.Name = fmt.Sprint("other-", i)
			wg.Go(func() {
				if err := b.RecordHome(t.Context(), other); err != nil {
					t.Error(err)
				}
			})
		}
		require.NoError(t, a.RecordHome(t.Context(), home))
		recorded := func() map[string]cluster.HomeRecord {
			m, err := kube.Client(t).CoreV1().ConfigMaps("causeway-system").Get(t.Context(), homeConfigMap("web"), metav1.GetOptions{})
			require.NoError(t, err)
			var out map[string]cluster.HomeRecord
			require.NoError(t, json.Unmarshal([]byte(m.Data["web"]), &out))
			return out
		}
		require.Equal(t, cluster.HomeRecord{Home: "pods", Because: "a shift", Supersedes: "Instances"}, recorded()["php-web"])
		wg.Wait()
		require.Len(t, recorded(), 5, "none is lost to another writer")
	})

	t.Run("events are gathered into series", func(t *testing.T) {
		meshtest.ApplyShift(t, kube, "told")
		o := meshtest.ReadShift(t, kube, "told")
		for range 3 {
			require.NoError(t, a.Event(t.Context(), discovery.ShiftEvent{
				Key: discovery.Key{Namespace: "web", Name: "told"}, UID: string(o.UID), Reason: "RollBack", Message: "success rate 98 < 99.9", Warning: true,
			}))
		}
		harness.Eventually(t, 20*time.Second, "the event", func() error {
			events, err := kube.Client(t).EventsV1().Events("web").List(t.Context(), metav1.ListOptions{})
			if err != nil {
				return err
			}
			for i := range events.Items {
				e := &events.Items[i]
				if e.Regarding.Name == "told" && e.Regarding.UID == o.UID && e.Reason == "RollBack" && e.Type == corev1.EventTypeWarning {
					return nil
				}
			}
			return fmt.Errorf("%d others", len(events.Items))
		})
	})
}

func TestFreeze(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
	one, two := newReplica(t, kube, nil), newReplica(t, kube, nil)
	frozen := func(want *discovery.Freeze) {
		t.Helper()
		for _, r := range []*meshtest.Replica{one, two} {
			harness.Eventually(t, 20*time.Second, "every replica has heard", func() error {
				got, ok := catalog.Freezes.Get(r.Catalog.Read(), catalog.FreezeID)
				if ok != (want != nil) || ok && !cmp.Equal(want, got) {
					return fmt.Errorf("%+v", got)
				}
				return nil
			})
		}
	}
	frozen(nil)
	order := discovery.FreezeOrder{Config: true, By: "sre", Reason: "an incident", Since: time.Unix(1_800_000_000, 5).UTC()}
	freeze := func(r *meshtest.Replica, o discovery.FreezeOrder) {
		t.Helper()
		_, err := ChangeFreeze(t.Context(), r.Client, func(f *discovery.Freeze) (*discovery.Freeze, error) { return f.With(cluster.ScopeFreeze, o), nil })
		require.NoError(t, err)
	}
	lift := func(r *meshtest.Replica, owner string) {
		t.Helper()
		_, err := ChangeFreeze(t.Context(), r.Client, func(f *discovery.Freeze) (*discovery.Freeze, error) { f, _ = f.Without(owner); return f, nil })
		require.NoError(t, err)
	}
	freeze(one, order)
	f := *(*discovery.Freeze)(nil).With(cluster.ScopeFreeze, order)
	frozen(&f)

	late := newReplica(t, kube, nil)
	got, ok := catalog.Freezes.Get(late.Catalog.Read(), catalog.FreezeID)
	require.True(t, ok, "known before a replica is ready")
	require.Equal(t, f, *got)

	// Another owner's freeze, which is of less, lifts nothing, and stays when the first is lifted.
	other := discovery.FreezeOrder{By: "dba", Since: time.Unix(1_800_000_060, 0).UTC()}
	freeze(two, other)
	frozen(f.With(cluster.ScopeFreeze, other))
	lift(one, "sre")
	frozen((*discovery.Freeze)(nil).With(cluster.ScopeFreeze, other))
	lift(two, "dba")
	frozen(nil)
	lift(two, "dba") // nothing to lift

	refused := errors.New("no")
	_, err := ChangeFreeze(t.Context(), one.Client, func(*discovery.Freeze) (*discovery.Freeze, error) { return nil, refused })
	require.ErrorIs(t, err, refused)

	m, err := kube.Client(t).CoreV1().ConfigMaps("causeway-system").Get(t.Context(), cluster.FreezeName, metav1.GetOptions{})
	require.NoError(t, err)
	m.BinaryData = map[string][]byte{cluster.FreezeKey: []byte("{")}
	_, err = kube.Client(t).CoreV1().ConfigMaps("causeway-system").Update(t.Context(), m, metav1.UpdateOptions{})
	require.NoError(t, err)
	harness.Eventually(t, 20*time.Second, "a record that cannot be read freezes", func() error {
		if got, ok := catalog.Freezes.Get(one.Catalog.Read(), catalog.FreezeID); !ok || !got.Config {
			return errors.New("it does not")
		}
		return nil
	})
	require.NoError(t, kube.Client(t).CoreV1().ConfigMaps("causeway-system").Delete(t.Context(), cluster.FreezeName, metav1.DeleteOptions{}))
	frozen(nil)
}

func TestFleet(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
	client := kube.Client(t)
	s := newShifts(t, kube)

	_, ok, err := s.Autoscaler(t.Context(), "web", "php-web")
	require.NoError(t, err)
	require.False(t, ok)
	h := &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "php-web"},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "php-web"}, MaxReplicas: 12,
		},
	}
	h, err = client.AutoscalingV2().HorizontalPodAutoscalers("web").Create(t.Context(), h, metav1.CreateOptions{})
	require.NoError(t, err)
	status := func(current int32, conditions ...autoscalingv2.HorizontalPodAutoscalerCondition) {
		t.Helper()
		h.Status.CurrentReplicas, h.Status.Conditions = current, conditions
		h, err = client.AutoscalingV2().HorizontalPodAutoscalers("web").UpdateStatus(t.Context(), h, metav1.UpdateOptions{})
		require.NoError(t, err)
	}
	status(12, autoscalingv2.HorizontalPodAutoscalerCondition{Type: autoscalingv2.ScalingLimited, Status: corev1.ConditionTrue, Reason: "TooManyReplicas"})
	autoscaler := func(want discovery.Autoscaler) {
		t.Helper()
		harness.Eventually(t, 4*autoscalerFresh, "the autoscaler", func() error {
			got, ok, err := s.Autoscaler(t.Context(), "web", "php-web")
			if err != nil || !ok || got != want {
				return fmt.Errorf("%+v %t: %w", got, ok, err)
			}
			return nil
		})
	}
	autoscaler(discovery.Autoscaler{Name: "php-web", Current: 12, Minimum: 1, Maximum: 12, Limited: true})
	status(2, autoscalingv2.HorizontalPodAutoscalerCondition{Type: autoscalingv2.ScalingLimited, Status: corev1.ConditionTrue, Reason: "TooFewReplicas"})
	autoscaler(discovery.Autoscaler{Name: "php-web", Current: 2, Minimum: 1, Maximum: 12})

	kube.Namespace(t, "dying")
	for namespace, want := range map[string]bool{"web": false, "dying": false, "none": true} {
		got, err := s.Terminating(t.Context(), namespace)
		require.NoError(t, err)
		require.Equal(t, want, got, namespace)
	}
	require.NoError(t, client.CoreV1().Namespaces().Delete(t.Context(), "dying", metav1.DeleteOptions{}))
	got, err := s.Terminating(t.Context(), "dying")
	require.NoError(t, err)
	require.True(t, got)

	_, err = client.CoreV1().Secrets("web").Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "datadog"}, Data: map[string][]byte{"api-key": []byte("k")},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	ref := v1alpha1.CredentialsReference{SecretName: "datadog"}
	_, err = s.Credentials(t.Context(), "web", ref)
	require.ErrorContains(t, err, "may not get Secret web/datadog: bind a Role")
	kube.ApplyYAML(t, `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: shift-credentials, namespace: web}
rules: [{apiGroups: [""], resources: [secrets], resourceNames: [datadog, none], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: shift-credentials, namespace: web}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: shift-credentials}
subjects: [{kind: ServiceAccount, name: causeway, namespace: causeway-system}]
`)
	harness.Eventually(t, 20*time.Second, "the right to be known", func() error {
		keys, err := s.Credentials(t.Context(), "web", ref)
		if err == nil && string(keys["api-key"]) != "k" {
			return fmt.Errorf("%q", keys)
		}
		return err
	})
	_, err = s.Credentials(t.Context(), "web", v1alpha1.CredentialsReference{SecretName: "none"})
	require.ErrorContains(t, err, "Secret web/none")
	_, err = s.Credentials(t.Context(), "web", v1alpha1.CredentialsReference{Directory: "/etc"})
	require.ErrorContains(t, err, "only without Kubernetes")
	_, err = s.Credentials(t.Context(), "web", v1alpha1.CredentialsReference{})
	require.ErrorContains(t, err, "secretName is missing")
}
