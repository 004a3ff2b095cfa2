package lead

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// autoscalerFresh is how long an autoscaler's data is used without a new look.
// It decides only every 15 seconds, and each shift asks every half second.
const autoscalerFresh = 5 * time.Second

// autoscalers remembers what was read for autoscalerFresh.
type autoscalers struct {
	mu    sync.Mutex
	byKey map[discovery.Key]knownAutoscaler
}

type knownAutoscaler struct {
	autoscaler discovery.Autoscaler
	there      bool
	err        error
	at         time.Time
}

// Autoscaler returns a HorizontalPodAutoscaler as it was a few seconds ago at
// most, false if there is none.
func (s *Shifts) Autoscaler(ctx context.Context, namespace, name string) (discovery.Autoscaler, bool, error) {
	key := discovery.Key{Namespace: namespace, Name: name}
	s.autoscalers.mu.Lock()
	defer s.autoscalers.mu.Unlock()
	known, ok := s.autoscalers.byKey[key]
	if !ok || time.Since(known.at) >= autoscalerFresh {
		known = readAutoscaler(ctx, s.client, key)
		if ctx.Err() != nil {
			return discovery.Autoscaler{}, false, ctx.Err()
		}
		s.autoscalers.put(key, known)
	}
	return known.autoscaler, known.there, known.err
}

// put remembers an autoscaler, and forgets those that nobody has asked for in a
// long time.
func (a *autoscalers) put(key discovery.Key, known knownAutoscaler) {
	if a.byKey == nil {
		a.byKey = make(map[discovery.Key]knownAutoscaler)
	}
	for k, old := range a.byKey {
		if known.at.Sub(old.at) > time.Minute {
			delete(a.byKey, k)
		}
	}
	a.byKey[key] = known
}

func readAutoscaler(ctx context.Context, c *cluster.Client, key discovery.Key) knownAutoscaler {
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	h, err := c.Core.AutoscalingV2().HorizontalPodAutoscalers(key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
	out := knownAutoscaler{at: time.Now()}
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		out.err = fmt.Errorf("HorizontalPodAutoscaler %s: %w", key, err)
	default:
		out.there = true
		out.autoscaler = discovery.Autoscaler{
			Name: h.Name, Current: int(h.Status.CurrentReplicas), Minimum: int(minReplicas(h)), Maximum: int(h.Spec.MaxReplicas), Limited: limited(h),
		}
	}
	return out
}

// limited reports whether an autoscaler wants more replicas than it may have.
// The condition is also true at the minimum, with another reason.
func limited(h *autoscalingv2.HorizontalPodAutoscaler) bool {
	for _, c := range h.Status.Conditions {
		if c.Type == autoscalingv2.ScalingLimited {
			return c.Status == corev1.ConditionTrue && c.Reason == "TooManyReplicas"
		}
	}
	return false
}

// Terminating reports whether a namespace is being deleted, or is gone.
func (s *Shifts) Terminating(ctx context.Context, namespace string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	ns, err := s.client.Core.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("namespace %s: %w", namespace, err)
	}
	return ns.DeletionTimestamp != nil || ns.Status.Phase == corev1.NamespaceTerminating, nil
}

// Credentials returns the data of a Secret. It is read anew each time, and kept
// nowhere: a Secret that is rotated counts at once.
func (s *Shifts) Credentials(ctx context.Context, namespace string, ref v1alpha1.CredentialsReference) (map[string][]byte, error) {
	switch {
	case ref.Directory != "":
		return nil, fmt.Errorf("credentials: directory %q is read only without Kubernetes; give secretName", ref.Directory)
	case ref.SecretName == "":
		return nil, errors.New("credentials: secretName is missing")
	}
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	secret, err := s.client.Core.CoreV1().Secrets(namespace).Get(ctx, ref.SecretName, metav1.GetOptions{})
	switch {
	case apierrors.IsForbidden(err):
		return nil, fmt.Errorf("credentials: the control plane may not get Secret %s/%s: bind a Role that allows it, for this name, to its service account: %w",
			namespace, ref.SecretName, err)
	case err != nil:
		return nil, fmt.Errorf("credentials: Secret %s/%s: %w", namespace, ref.SecretName, err)
	}
	return secret.Data, nil
}

// minReplicas of an autoscaler; the API server fills them in.
func minReplicas(h *autoscalingv2.HorizontalPodAutoscaler) int32 {
	if h.Spec.MinReplicas == nil {
		return 1
	}
	return *h.Spec.MinReplicas
}
