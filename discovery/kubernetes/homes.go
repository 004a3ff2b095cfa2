package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/tools/cache"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
)

// Homes are recorded in ConfigMaps of the control plane's own namespace, one
// key per namespace. homeShards of them hold far more Services than a cluster
// has (a ConfigMap holds 1 MiB, a record some 60 bytes).
const (
	homeShards = 16
	homesLabel = "causeway.dev/homes"
)

// homeRecord is a recorded home, as JSON in a ConfigMap.
type homeRecord struct {
	Home    string `json:"home"` // "pods" or "instances"
	Because string `json:"because"`
	// Supersedes is the value of the home annotation that does not count.
	Supersedes string `json:"supersedes,omitempty"`
}

// homeConfigMap returns the name of the ConfigMap with a namespace's records.
func homeConfigMap(namespace string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(namespace)) // never fails
	return fmt.Sprintf("causeway-homes-%d", h.Sum32()%homeShards)
}

// readHomes keeps table Homes equal to the ConfigMaps.
func (c *Client) readHomes(ctx context.Context, cat *catalog.Catalog) error {
	status := &status{cat: cat, name: ScopeHomes, log: c.log}
	lw := cache.NewFilteredListWatchFromClient(c.core.CoreV1().RESTClient(), "configmaps", c.Namespace,
		func(o *metav1.ListOptions) {
			o.LabelSelector, o.FieldSelector = homesLabel, fields.Everything().String()
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
			catalog.Homes.Replace(tx, ScopeHomes, all)
			status.put(tx, func(st *discovery.SourceStatus) { st.Synced = true })
			return nil
		})
		if err != nil {
			c.log.Error("cannot take the recorded homes", "error", err)
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
		var records map[string]homeRecord
		if json.Unmarshal([]byte(text), &records) != nil {
			continue // somebody else's key
		}
		for name, r := range records {
			h := &discovery.Home{Scope: ScopeHomes, Key: discovery.Key{Namespace: namespace, Name: name}, Because: r.Because, Supersedes: r.Supersedes}
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

// homesEvery bounds how often homes are recorded: a storm of new Services
// costs one write per ConfigMap.
const homesEvery = 2 * time.Second

// RecordHomes writes the records that missing returns, until the context ends.
// Records of Services that are gone stay: a Service that is deleted and applied
// again must not move.
func (c *Client) RecordHomes(ctx context.Context, cat *catalog.Catalog, missing func(catalog.Reader) []discovery.Home) error {
	feed := cat.Subscribe()
	defer feed.Close()
	retry := true
	for {
		b, err := feed.Next(ctx)
		if err != nil {
			return err
		}
		if !retry && !concernsHomes(b) {
			continue
		}
		r := b.Reader
		if st, ok := catalog.Sources.Get(r, ScopeHomes); !ok || !st.Synced {
			continue
		}
		retry = false
		if records := missing(r); len(records) > 0 {
			if err := c.recordHomes(ctx, records); err != nil && ctx.Err() == nil {
				c.log.Warn("cannot record the homes of Services; trying again with the next change", "error", err)
				retry = true
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(homesEvery):
		}
	}
}

// concernsHomes reports whether a batch changes rows that decide homes. Most
// batches are endpoints, and looking at every Service for each would cost too
// much.
func concernsHomes(b catalog.Batch) bool {
	for _, ch := range b.Changes {
		switch ch.Table {
		case catalog.Services.Name(), catalog.Homes.Name(), catalog.Sources.Name():
			return true
		}
		if ch.Concerns(discovery.KindInstanceGroup) {
			return true
		}
	}
	return false
}

func (c *Client) recordHomes(ctx context.Context, records []discovery.Home) error {
	byMap := make(map[string][]discovery.Home)
	for _, h := range records {
		name := homeConfigMap(h.Namespace)
		byMap[name] = append(byMap[name], h)
	}
	maps := c.core.CoreV1().ConfigMaps(c.Namespace)
	for name, homes := range byMap {
		m, err := maps.Get(ctx, name, metav1.GetOptions{})
		create := apierrors.IsNotFound(err)
		if create {
			m = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{homesLabel: ""}}}
		} else if err != nil {
			return fmt.Errorf("read ConfigMap %s/%s: %w", c.Namespace, name, err)
		}
		if m.Data == nil {
			m.Data = make(map[string]string)
		}
		byNamespace := make(map[string]map[string]homeRecord)
		for _, h := range homes {
			all := byNamespace[h.Namespace]
			if all == nil {
				all = make(map[string]homeRecord)
				_ = json.Unmarshal([]byte(m.Data[h.Namespace]), &all) // what cannot be read is written anew
				byNamespace[h.Namespace] = all
			}
			all[h.Name] = homeRecord{h.Platform.String(), h.Because, h.Supersedes}
		}
		for namespace, all := range byNamespace {
			text, err := json.Marshal(all) // sorted by name
			if err != nil {
				return fmt.Errorf("homes of namespace %s: %w", namespace, err)
			}
			m.Data[namespace] = string(text)
		}
		// The resource version makes sure that no record is lost to another writer.
		if create {
			_, err = maps.Create(ctx, m, metav1.CreateOptions{})
			if apierrors.IsAlreadyExists(err) {
				err = apierrors.NewConflict(corev1.Resource("configmaps"), name, err)
			}
		} else {
			_, err = maps.Update(ctx, m, metav1.UpdateOptions{})
		}
		if err != nil {
			return fmt.Errorf("write ConfigMap %s/%s: %w", c.Namespace, name, err)
		}
	}
	return nil
}
