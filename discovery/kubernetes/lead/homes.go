package lead

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
)

// homeShards ConfigMaps hold far more Services than a cluster has: a ConfigMap
// holds 1 MiB, a record some 60 bytes.
const homeShards = 16

// homeConfigMap returns the name of the ConfigMap with a namespace's records.
func homeConfigMap(namespace string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(namespace)) // never fails
	return fmt.Sprintf("causeway-homes-%d", h.Sum32()%homeShards)
}

// homesEvery bounds how often homes are recorded: a storm of new Services
// costs one write per ConfigMap.
const homesEvery = 2 * time.Second

// RecordHomes writes the records that missing returns, until the context ends.
// Records of Services that are gone stay: a Service that is deleted and applied
// again must not move.
func RecordHomes(ctx context.Context, c *cluster.Client, cat *catalog.Catalog, missing func(catalog.Reader) []discovery.Home) error {
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
		if st, ok := catalog.Sources.Get(r, cluster.ScopeHomes); !ok || !st.Synced {
			continue
		}
		retry = false
		if records := missing(r); len(records) > 0 {
			if err := recordHomes(ctx, c, records); err != nil && ctx.Err() == nil {
				c.Log.Warn("cannot record the homes of Services; trying again with the next change", "error", err)
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

func recordHomes(ctx context.Context, c *cluster.Client, records []discovery.Home) error {
	byMap := make(map[string][]discovery.Home)
	for _, h := range records {
		name := homeConfigMap(h.Namespace)
		byMap[name] = append(byMap[name], h)
	}
	maps := c.Core.CoreV1().ConfigMaps(c.Namespace)
	for name, homes := range byMap {
		m, err := maps.Get(ctx, name, metav1.GetOptions{})
		create := apierrors.IsNotFound(err)
		if create {
			m = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{cluster.HomesLabel: ""}}}
		} else if err != nil {
			return fmt.Errorf("read ConfigMap %s/%s: %w", c.Namespace, name, err)
		}
		if m.Data == nil {
			m.Data = make(map[string]string)
		}
		byNamespace := make(map[string]map[string]cluster.HomeRecord)
		for _, h := range homes {
			all := byNamespace[h.Namespace]
			if all == nil {
				all = make(map[string]cluster.HomeRecord)
				_ = json.Unmarshal([]byte(m.Data[h.Namespace]), &all) // what cannot be read is written anew
				byNamespace[h.Namespace] = all
			}
			all[h.Name] = cluster.HomeRecord{Home: h.Platform.String(), Because: h.Because, Supersedes: h.Supersedes}
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
