package lead

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/meshtest"
)

// Homes are recorded once and survive.
func TestHomes(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
	kube.ApplyYAML(t, meshtest.Service)
	r := newReplica(t, kube, nil)
	meshtest.Run(t, func(ctx context.Context) error {
		return RecordHomes(ctx, r.Client, r.Catalog, func(rd catalog.Reader) []discovery.Home {
			if _, ok := catalog.Homes.Get(rd, "web/php-web"); ok {
				return nil
			}
			return []discovery.Home{{Key: discovery.Key{Namespace: "web", Name: "php-web"}, Platform: discovery.Instances, Because: "test"}}
		})
	})
	other := newReplica(t, kube, nil)
	for _, c := range []*meshtest.Replica{r, other} {
		harness.Eventually(t, 20*time.Second, "the home is recorded", func() error {
			h, ok := catalog.Homes.Get(c.Catalog.Read(), "web/php-web")
			if !ok || h.Platform != discovery.Instances || h.Because != "test" {
				return fmt.Errorf("%+v", h)
			}
			return nil
		})
	}
}
