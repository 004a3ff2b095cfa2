package lead

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/retry"

	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
)

// maxRecords is how many bytes the records of a ConfigMap may have together.
// The API server takes 1 MiB, with the metadata.
const maxRecords = 960 << 10

// Records are small pieces of state that all replicas share, in one ConfigMap
// of the control plane's namespace. Their keys are as a ConfigMap's.
type Records struct {
	client *cluster.Client
	name   string
}

// RecordsIn returns the records in the ConfigMap of this name.
func RecordsIn(c *cluster.Client, name string) *Records { return &Records{c, name} }

// Load returns all records; without a ConfigMap there are none.
func (r *Records) Load(ctx context.Context) (map[string][]byte, error) {
	m, err := r.client.Core.CoreV1().ConfigMaps(r.client.Namespace).Get(ctx, r.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("kubernetes: records %s: %w", r.name, err)
	}
	return m.BinaryData, nil
}

// Change applies change to the records and writes the result if it differs. If
// another replica writes at the same time, it calls change again with the newer
// records.
func (r *Records) Change(ctx context.Context, change func(map[string][]byte)) error {
	configMaps := r.client.Core.CoreV1().ConfigMaps(r.client.Namespace)
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		m, err := configMaps.Get(ctx, r.name, metav1.GetOptions{})
		missing := apierrors.IsNotFound(err)
		if missing {
			m = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: r.client.Namespace, Name: r.name}}
		} else if err != nil {
			return err
		}
		next := maps.Clone(m.BinaryData)
		if next == nil {
			next = make(map[string][]byte)
		}
		change(next)
		if maps.EqualFunc(m.BinaryData, next, bytes.Equal) {
			return nil
		}
		size := 0
		for key, data := range next {
			size += len(key) + len(data)
		}
		if size > maxRecords {
			return fmt.Errorf("%d bytes are more than a ConfigMap holds", size)
		}
		m.BinaryData = next
		if missing {
			_, err = configMaps.Create(ctx, m, metav1.CreateOptions{})
			if apierrors.IsAlreadyExists(err) {
				return apierrors.NewConflict(corev1.Resource("configmaps"), r.name, err)
			}
			return err
		}
		_, err = configMaps.Update(ctx, m, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("kubernetes: records %s: %w", r.name, err)
	}
	return nil
}

// Watch calls changed with all records whenever they have changed, until the
// context ends; its only error is the context's.
func (r *Records) Watch(ctx context.Context, changed func(map[string][]byte)) error {
	lw := cache.NewListWatchFromClient(r.client.Core.CoreV1().RESTClient(), "configmaps", r.client.Namespace,
		fields.OneTermEqualSelector("metadata.name", r.name))
	informer := cache.NewSharedInformer(lw, &corev1.ConfigMap{}, 0)
	tell := func(o any) {
		if m, ok := o.(*corev1.ConfigMap); ok {
			changed(m.BinaryData)
		}
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: tell, UpdateFunc: func(_, o any) { tell(o) },
	}); err != nil {
		return fmt.Errorf("kubernetes: records %s: %w", r.name, err)
	}
	informer.RunWithContext(ctx)
	return ctx.Err()
}

// recordsPause is how long to wait before records are tried again.
const recordsPause = 2 * time.Second

// Await loads all records, trying until it succeeds or the context ends.
func (r *Records) Await(ctx context.Context) (map[string][]byte, error) {
	for {
		records, err := r.Load(ctx)
		if err == nil {
			return records, nil
		}
		r.client.Log.Warn("cannot read what replicas share; trying again", "error", err)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(recordsPause):
		}
	}
}
