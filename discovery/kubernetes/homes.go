package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/tools/cache"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
)

// readHomes keeps table Homes equal to the ConfigMaps.
func (s *Source) readHomes(ctx context.Context, cat *catalog.Catalog) error {
	status := &sourceStatus{cat: cat, name: cluster.ScopeHomes, log: s.client.Log}
	lw := cache.NewFilteredListWatchFromClient(s.client.Core.CoreV1().RESTClient(), "configmaps", s.client.Namespace,
		func(o *metav1.ListOptions) {
			o.LabelSelector, o.FieldSelector = cluster.HomesLabel, fields.Everything().String()
		})
	informer := cache.NewSharedInformer(lw, &corev1.ConfigMap{}, 0)
	if err := informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, _ *cache.Reflector, err error) {
		status.attempted(ctx, err)
	}); err != nil {
		return fmt.Errorf("kubernetes: %w", err)
	}
	write := func() {
		if !informer.HasSynced() {
			return
		}
		var all []*discovery.Home
		for _, o := range informer.GetStore().List() {
			all = append(all, homesOf(o.(*corev1.ConfigMap))...)
		}
		_, err := cat.Write(time.Time{}, func(tx *catalog.Tx) error {
			catalog.Homes.Replace(tx, cluster.ScopeHomes, all)
			status.put(tx, func(st *discovery.SourceStatus) { st.Synced = true })
			return nil
		})
		if err != nil {
			s.client.Log.Error("cannot take the recorded homes", "error", err)
		}
		status.attempted(ctx, nil)
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { write() },
		UpdateFunc: func(any, any) { write() },
		DeleteFunc: func(any) { write() },
	}); err != nil {
		return fmt.Errorf("kubernetes: %w", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		informer.RunWithContext(ctx)
	}()
	if cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		write() // also when there is none
	}
	_ = status.freshen(ctx)
	<-done
	return ctx.Err()
}

func homesOf(m *corev1.ConfigMap) []*discovery.Home {
	var out []*discovery.Home
	for namespace, text := range m.Data {
		var records map[string]cluster.HomeRecord
		if json.Unmarshal([]byte(text), &records) != nil {
			continue // somebody else's key
		}
		for name, r := range records {
			h := &discovery.Home{Scope: cluster.ScopeHomes, Key: discovery.Key{Namespace: namespace, Name: name}, Because: r.Because, Supersedes: r.Supersedes}
			if backing, ok := discovery.ParseBacking(r.Home); ok {
				h.Platform = backing
			} else {
				h.Unknown = fmt.Sprintf("ConfigMap %s/%s: %q is no backing of this version", m.Namespace, m.Name, r.Home)
			}
			out = append(out, h)
		}
	}
	return out
}
