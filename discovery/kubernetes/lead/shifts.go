package lead

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/retry"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/conditions"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// writeWithin is how long one request of a TrafficShift may take.
const writeWithin = 10 * time.Second

// shiftManager owns the status of TrafficShifts, except for the conditions that
// the writer of policy status owns: those say what the mesh makes of the
// object, and every kind has them.
const shiftManager = "causeway-shift"

// Shifts keeps how far TrafficShifts have come, and gives their controller what
// it needs of a cluster. Its methods may be called concurrently. Only the
// leader has one.
type Shifts struct {
	client      *cluster.Client
	recorder    events.EventRecorder
	autoscalers autoscalers
}

// NewShifts returns the states of the cluster's shifts, and what ends its
// recorder of Events.
func NewShifts(ctx context.Context, c *cluster.Client) (shifts *Shifts, shutdown func(), err error) {
	recorder, shutdown, err := c.NewRecorder(ctx)
	if err != nil {
		return nil, nil, err
	}
	return &Shifts{client: c, recorder: recorder}, shutdown, nil
}

var errNoVersion = errors.New("the state has no version, so nothing would keep an older status from replacing a newer one")

// Save writes a status. It fails with discovery.ErrConflict if the object is
// not of the version that the status was computed from, or gone: then another
// leader may have written. No two objects ever have the same version, so another
// one of the same name is told apart by it, too. The catalog hears of it by the
// watch, as on all replicas.
func (s *Shifts) Save(ctx context.Context, state *discovery.ShiftState) error {
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	if state.Version == "" {
		return fmt.Errorf("TrafficShift %s: %w", state.Key, errNoVersion)
	}
	status := state.Status.DeepCopy()
	status.Conditions = slices.DeleteFunc(status.Conditions, func(c metav1.Condition) bool { return conditions.IsOurs(c.Type) })
	body, err := json.Marshal(map[string]any{
		"apiVersion": v1alpha1.GroupVersion().String(), "kind": discovery.KindTrafficShift,
		"metadata": map[string]string{
			"namespace": state.Namespace, "name": state.Name, "resourceVersion": state.Version,
		},
		"status": status,
	})
	if err != nil {
		return fmt.Errorf("TrafficShift %s: status: %w", state.Key, err)
	}
	err = s.object(types.ApplyPatchType, state.Key).SubResource("status").
		Param("fieldManager", shiftManager).Param("force", "true").Body(body).Do(ctx).Error()
	switch {
	case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		return fmt.Errorf("TrafficShift %s: %w: %w", state.Key, discovery.ErrConflict, err)
	case err != nil:
		return fmt.Errorf("TrafficShift %s: apply status: %w", state.Key, err)
	}
	return nil
}

// object begins a patch of a TrafficShift.
func (s *Shifts) object(patch types.PatchType, key discovery.Key) *rest.Request {
	return s.client.Shifts.Patch(patch).Namespace(key.Namespace).Resource("trafficshifts").Name(key.Name)
}

// Protect puts the finalizer on a TrafficShift, so that it stays until its
// Service's home is recorded.
func (s *Shifts) Protect(ctx context.Context, key discovery.Key) error {
	return s.finalize(ctx, key, func(have []string) []string {
		return append(have, v1alpha1.ShiftFinalizer)
	}, false)
}

// Release takes the finalizer off. One that is gone is released.
func (s *Shifts) Release(ctx context.Context, key discovery.Key) error {
	return s.finalize(ctx, key, func(have []string) []string {
		return slices.DeleteFunc(have, func(f string) bool { return f == v1alpha1.ShiftFinalizer })
	}, true)
}

// finalize changes the finalizers of a TrafficShift, which they share with
// others: the patch holds only for the version that was read.
func (s *Shifts) finalize(ctx context.Context, key discovery.Key, change func([]string) []string, has bool) error {
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		var current v1alpha1.TrafficShift
		err := s.client.Shifts.Get().Namespace(key.Namespace).Resource("trafficshifts").Name(key.Name).Do(ctx).Into(&current)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if slices.Contains(current.Finalizers, v1alpha1.ShiftFinalizer) != has {
			return nil
		}
		body, err := json.Marshal(map[string]any{"metadata": map[string]any{
			"uid": current.UID, "resourceVersion": current.ResourceVersion, "finalizers": change(current.Finalizers),
		}})
		if err != nil {
			return err
		}
		err = s.object(types.MergePatchType, key).Param("fieldManager", shiftManager).Body(body).Do(ctx).Error()
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("TrafficShift %s: finalizer %s: %w", key, v1alpha1.ShiftFinalizer, err)
	}
	return nil
}

// homeBackoff is how a home is recorded again that met another writer of its
// ConfigMap: the last step of a shift waits for it.
func homeBackoff() wait.Backoff {
	return wait.Backoff{Duration: 10 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 8}
}

// RecordHome records a Service's home. It returns when the API server has it.
func (s *Shifts) RecordHome(ctx context.Context, home discovery.Home) error {
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	err := retry.RetryOnConflict(homeBackoff(), func() error {
		return recordHomes(ctx, s.client, []discovery.Home{home})
	})
	if err != nil {
		return fmt.Errorf("home of Service %s: %w", home.Key, err)
	}
	return nil
}

// Event records something that happened to a TrafficShift. client-go turns
// what happens again and again into a series.
func (s *Shifts) Event(_ context.Context, e discovery.ShiftEvent) error {
	about := &metav1.PartialObjectMetadata{}
	about.APIVersion, about.Kind = v1alpha1.GroupVersion().String(), discovery.KindTrafficShift
	about.Namespace, about.Name, about.UID = e.Namespace, e.Name, types.UID(e.UID)
	kind := corev1.EventTypeNormal
	if e.Warning {
		kind = corev1.EventTypeWarning
	}
	s.recorder.Eventf(about, nil, kind, e.Reason, shiftAction, "%s", conditions.Clip(e.Message, cluster.EventNoteMost))
	return nil
}

// shiftAction is what is done about a TrafficShift, in Events.
const shiftAction = "Shift"
