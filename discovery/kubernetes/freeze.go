package kubernetes

import (
	"context"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
)

// readFreeze keeps the freeze in the catalog equal to the ConfigMap.
func (s *Source) readFreeze(ctx context.Context, g *errgroup.Group, cat *catalog.Catalog) {
	configMaps := s.client.Core.CoreV1().ConfigMaps(s.client.Namespace)
	only := fields.OneTermEqualSelector("metadata.name", cluster.FreezeName).String()
	reflect(ctx, g, s.client, cat, cluster.ScopeFreeze, catalog.Freezes, &corev1.ConfigMap{},
		func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = only
			return configMaps.List(ctx, o)
		},
		func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = only
			return configMaps.Watch(ctx, o)
		},
		func(m *corev1.ConfigMap) (string, *discovery.Freeze) { return catalog.FreezeID, cluster.FreezeIn(m) })
}
