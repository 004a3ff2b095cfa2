package manifests_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/kubetest"
)

var errTaken = errors.New("it was taken")

var trafficShifts = schema.GroupVersionResource{Group: v1alpha1.Group, Version: v1alpha1.Version, Resource: "trafficshifts"}

// shiftCluster is a real API server with what the kustomization
// installs about TrafficShifts, and a shift in the namespace web.
func shiftCluster(t *testing.T) *kubetest.Kube {
	t.Helper()
	kube := withShifts.Take(t)
	kube.ApplyYAML(t, read(t, "manifests", "examples", "shift", "first.yaml"))
	return kube
}

// shiftsAs returns the TrafficShifts of the namespace web as a user reaches them.
func shiftsAs(t *testing.T, kube *kubetest.Kube, user string) dynamic.ResourceInterface {
	t.Helper()
	client, err := dynamic.NewForConfig(kube.UserConfig(t, user))
	require.NoError(t, err)
	return client.Resource(trafficShifts).Namespace("web")
}

// commandOf returns the annotation of a command, as causeway writes it.
func commandOf(t *testing.T, action v1alpha1.ShiftAction, actor, reason string) string {
	t.Helper()
	text, err := json.Marshal(v1alpha1.ShiftCommand{
		ID: "6f1d1c9e-" + string(action), Action: action, Step: new(int32(-1)), Actor: actor, Reason: reason, Time: metav1.NewTime(time.Unix(1_800_000_000, 0)),
	})
	require.NoError(t, err)
	return string(text)
}

func annotate(t *testing.T, shifts dynamic.ResourceInterface, command any) error {
	t.Helper()
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{v1alpha1.CommandAnnotation: command}}})
	require.NoError(t, err)
	_, err = shifts.Patch(t.Context(), "php-web", types.MergePatchType, body, metav1.PatchOptions{})
	return err
}

func patchSpec(t *testing.T, shifts dynamic.ResourceInterface, spec string) error {
	t.Helper()
	_, err := shifts.Patch(t.Context(), "php-web", types.MergePatchType, []byte(`{"spec":`+spec+`}`), metav1.PatchOptions{})
	return err
}

// Who may send which command, and in whose name, is for the API server to say.
func TestShiftCommands(t *testing.T) {
	kube := shiftCluster(t)
	bind := func(user, role string) {
		kube.ApplyYAML(t, fmt.Sprintf(`
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: %s, namespace: web}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: %s}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: %s}]
`, user, role, user))
	}
	bind("alice", "causeway-shift-operator")
	bind("bob", "causeway-shift-stopper")
	bind("carol", "causeway-shift-editor")
	alice, bob, carol := shiftsAs(t, kube, "alice"), shiftsAs(t, kube, "bob"), shiftsAs(t, kube, "carol")
	// Rights and policies take effect a moment after they are written; until then
	// anything is taken, and what is there already is no new command.
	tries := 0
	harness.Eventually(t, 60*time.Second, "the policy and the rights of all", func() error {
		tries++
		if err := annotate(t, alice, fmt.Sprint("x", tries)); err == nil || !apierrors.IsInvalid(err) {
			return fmt.Errorf("alice: %w", cmp.Or(err, errTaken))
		}
		if err := annotate(t, bob, fmt.Sprint("y", tries)); err == nil || !apierrors.IsInvalid(err) {
			return fmt.Errorf("bob: %w", cmp.Or(err, errTaken))
		}
		return patchSpec(t, carol, `{"paused":false}`)
	})

	for _, action := range []v1alpha1.ShiftAction{v1alpha1.ActionPromote, v1alpha1.ActionPause, v1alpha1.ActionResume, v1alpha1.ActionRollback} {
		require.NoError(t, annotate(t, alice, commandOf(t, action, "alice", "")), "%s", action)
		require.NoError(t, annotate(t, alice, commandOf(t, action, "alice", `it is time: "actor":"bob", \o/ <b> 日本`)), "%s", action)
		err := annotate(t, bob, commandOf(t, action, "bob", "so"))
		if action == v1alpha1.ActionPause || action == v1alpha1.ActionRollback {
			require.NoError(t, err)
			continue
		}
		require.True(t, apierrors.IsForbidden(err), "%v", err)
		require.ErrorContains(t, err, fmt.Sprintf("bob may not %s TrafficShift web/php-web: that takes the verb %s on trafficshifts.mesh.causeway.dev", action, action))
	}

	err := annotate(t, bob, commandOf(t, v1alpha1.ActionRollback, "alice", "so"))
	require.True(t, apierrors.IsForbidden(err), "%v", err)
	require.ErrorContains(t, err, "from another actor than bob: let causeway shift write it")
	err = annotate(t, bob, commandOf(t, v1alpha1.ActionPromote, "alice", `"actor":"bob"`))
	require.ErrorContains(t, err, "from another actor than bob", "a reason is no actor")
	err = annotate(t, carol, commandOf(t, v1alpha1.ActionPause, "carol", ""))
	require.ErrorContains(t, err, "carol may not pause")

	for _, odd := range []string{
		"x", "{}", `{"action":"promote"}`,
		`{"id":"a","action":"delete","actor":"alice","time":"2026-11-23T10:00:00Z"}`,
		`{"id":"a","action":"pause","actor":"alice","time":"2026-11-23T10:00:00Z","action":"promote"}`,
		`{"id":"a","action":"pause","actor":"bob","time":"2026-11-23T10:00:00Z","actor":"alice"}`,
		` {"id":"a","action":"pause","actor":"alice","time":"2026-11-23T10:00:00Z"}`,
		"{\"id\":\"a\",\"action\":\"pause\",\"actor\":\"alice\",\"time\":\"2026-11-23T10:00:00Z\"}\n",
	} {
		err := annotate(t, alice, odd)
		require.True(t, apierrors.IsInvalid(err), "%s: %v", odd, err)
		require.ErrorContains(t, err, "the annotation mesh.causeway.dev/command is no command: let causeway shift write it")
	}

	// A command that stays, or is taken away, is no new one.
	require.NoError(t, annotate(t, alice, commandOf(t, v1alpha1.ActionPromote, "alice", "")))
	require.NoError(t, patchSpec(t, carol, `{"paused":true}`))
	require.NoError(t, annotate(t, bob, nil))

	// One that nobody has carried out is taken back as causeway shift does, unless another one is there by now.
	withdraw := func(shifts dynamic.ResourceInterface, command string) error {
		path := "/metadata/annotations/" + strings.ReplaceAll(v1alpha1.CommandAnnotation, "/", "~1")
		patch, err := json.Marshal([]map[string]string{{"op": "test", "path": path, "value": command}, {"op": "remove", "path": path}})
		require.NoError(t, err)
		_, err = shifts.Patch(t.Context(), "php-web", types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: "causeway-cli"})
		return err
	}
	mine := commandOf(t, v1alpha1.ActionPromote, "alice", `it is "time" <b> \o/ 日本`)
	require.NoError(t, annotate(t, alice, mine))
	require.Error(t, withdraw(alice, commandOf(t, v1alpha1.ActionRollback, "alice", "")), "another one is there")
	require.NoError(t, withdraw(alice, mine))
	require.Error(t, withdraw(alice, mine), "it is gone")
	o, err := alice.Get(t.Context(), "php-web", metav1.GetOptions{})
	require.NoError(t, err)
	require.NotContains(t, o.GetAnnotations(), v1alpha1.CommandAnnotation)

	// Commands are all that those without the verb update can say.
	require.NoError(t, patchSpec(t, alice, `{"paused":true}`), "what it says already")
	err = patchSpec(t, alice, `{"pin":"100"}`)
	require.True(t, apierrors.IsForbidden(err), "%v", err)
	require.ErrorContains(t, err, "alice may send commands to TrafficShift web/php-web but not change its spec: that takes the verb update")
	require.NoError(t, patchSpec(t, carol, `{"pin":"0"}`))

	// Nor does the control plane, which puts a finalizer on it, have more rights.
	config := kube.ServiceAccountConfig(t, "causeway-system", "causeway")
	client, err := dynamic.NewForConfig(config)
	require.NoError(t, err)
	own := client.Resource(trafficShifts).Namespace("web")
	harness.Eventually(t, 60*time.Second, "the control plane's rights", func() error {
		_, err := own.Patch(t.Context(), "php-web", types.MergePatchType, []byte(`{"metadata":{"finalizers":["`+v1alpha1.ShiftFinalizer+`"]}}`), metav1.PatchOptions{})
		return err
	})
	require.ErrorContains(t, patchSpec(t, own, `{"pin":"100"}`), "but not change its spec")

	// A new object may bring a command only from who may send it.
	o, err = carol.Get(t.Context(), "php-web", metav1.GetOptions{})
	require.NoError(t, err)
	o.SetName("other")
	o.SetResourceVersion("")
	o.SetAnnotations(map[string]string{v1alpha1.CommandAnnotation: commandOf(t, v1alpha1.ActionPromote, "carol", "")})
	_, err = carol.Create(t.Context(), o, metav1.CreateOptions{})
	require.ErrorContains(t, err, "carol may not promote TrafficShift web/other")
}

// What the status says of the past holds against edits that would make it untrue.
func TestShiftEdits(t *testing.T) {
	kube := shiftCluster(t)
	client, err := dynamic.NewForConfig(kube.Config())
	require.NoError(t, err)
	shifts := client.Resource(trafficShifts).Namespace("web")
	phase := func(phase v1alpha1.ShiftPhase, percent string) {
		t.Helper()
		_, err := shifts.Patch(t.Context(), "php-web", types.MergePatchType,
			fmt.Appendf(nil, `{"status":{"phase":%q,"percent":%q,"step":0}}`, phase, percent), metav1.PatchOptions{}, "status")
		require.NoError(t, err)
	}
	err = patchSpec(t, shifts, `{"serviceRef":{"name":"other"}}`)
	require.True(t, apierrors.IsInvalid(err), "%v", err)
	require.ErrorContains(t, err, "spec.serviceRef")
	require.ErrorContains(t, err, "it cannot change, because the status says how far the traffic of that Service has moved: create another TrafficShift")

	require.NoError(t, patchSpec(t, shifts, `{"direction":"PodsToInstances"}`), "nothing has moved")
	require.NoError(t, patchSpec(t, shifts, `{"direction":"InstancesToPods"}`))
	for _, at := range []v1alpha1.ShiftPhase{v1alpha1.ShiftShifting, v1alpha1.ShiftAwaitingApproval, v1alpha1.ShiftSoaking, v1alpha1.ShiftPaused, v1alpha1.ShiftRollingBack} {
		phase(at, "10")
		err = patchSpec(t, shifts, `{"direction":"PodsToInstances"}`)
		require.True(t, apierrors.IsInvalid(err), "%s: %v", at, err)
		require.ErrorContains(t, err, "spec.direction")
		require.ErrorContains(t, err, "the direction cannot change while traffic is divided: take the traffic back first, with causeway shift rollback")
		require.NoError(t, patchSpec(t, shifts, `{"steps":[{"percent":"20","hold":"1m"},{"percent":"100","hold":"1m"}]}`), "steps are edited on the way")
	}
	for _, at := range []v1alpha1.ShiftPhase{v1alpha1.ShiftPending, v1alpha1.ShiftShadowing, v1alpha1.ShiftCompleted, v1alpha1.ShiftRolledBack} {
		phase(at, "0")
		require.NoError(t, patchSpec(t, shifts, `{"direction":"PodsToInstances"}`), "%s", at)
		require.NoError(t, patchSpec(t, shifts, `{"direction":"InstancesToPods"}`), "%s", at)
	}
}
