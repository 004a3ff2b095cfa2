package status

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/meshtest"
)

// Status says what is known, and Events tell of what turned.
func TestStatus(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
	kube.ApplyYAML(t, meshtest.Service+"---"+meshtest.Group)
	r := newReplica(t, kube, nil)
	meshtest.Run(t, func(ctx context.Context) error {
		return WriteGroups(ctx, r.Client, r.Catalog, func(catalog.Reader, discovery.Key) []metav1.Condition {
			return []metav1.Condition{{Type: "Accepted", Status: metav1.ConditionTrue, Reason: "Accepted", Message: "fine"}}
		}, nil)
	})
	put := func(st discovery.GroupStatus) {
		st.Key, st.LastSync = discovery.Key{Namespace: "web", Name: "php-web-ec2"}, time.Now()
		_, err := r.Catalog.Write(time.Time{}, func(tx *catalog.Tx) error {
			catalog.GroupStatuses.Put(tx, &st)
			return nil
		})
		require.NoError(t, err)
	}
	wait := func(condition string, status metav1.ConditionStatus, text string) {
		t.Helper()
		harness.Eventually(t, 20*time.Second, condition+"="+string(status), func() error {
			raw, err := kube.Client(t).Discovery().RESTClient().Get().
				AbsPath("/apis/mesh.causeway.dev/v1alpha1/namespaces/web/instancegroups/php-web-ec2").DoRaw(t.Context())
			if err != nil {
				return err
			}
			var g v1alpha1.InstanceGroup
			if err := json.Unmarshal(raw, &g); err != nil {
				return err
			}
			for _, c := range g.Status.Conditions {
				if c.Type == condition && c.Status == status && strings.Contains(c.Message, text) {
					return nil
				}
			}
			return fmt.Errorf("%+v", g.Status)
		})
	}
	put(discovery.GroupStatus{Counts: v1alpha1.InstanceCounts{Desired: 3, Ready: 3}})
	wait("Fresh", metav1.ConditionTrue, "")
	wait("GuardEngaged", metav1.ConditionFalse, "")
	put(discovery.GroupStatus{Error: "RequestLimitExceeded"})
	wait("Fresh", metav1.ConditionFalse, "RequestLimitExceeded")
	put(discovery.GroupStatus{GuardHeld: 2, GuardReason: "5 of 6 are not mentioned"})
	wait("GuardEngaged", metav1.ConditionTrue, "2 instances")
	// Whoever leads next learns of which account the endpoints are.
	_, err := r.Catalog.Write(time.Time{}, func(tx *catalog.Tx) error {
		catalog.Instances.Put(tx, &discovery.InstanceSet{
			Scope: "ec2", Key: discovery.Key{Namespace: "web", Name: "php-web-ec2"}, Account: "111111111111",
		})
		return nil
	})
	require.NoError(t, err)
	other := newReplica(t, kube, nil)
	harness.Eventually(t, 20*time.Second, "another replica knows the account", func() error {
		g, ok := catalog.InstanceGroups.Get(other.Catalog.Read(), "web/php-web-ec2")
		if !ok || g.Object.Status.Account != "111111111111" {
			return fmt.Errorf("%+v", g)
		}
		return nil
	})
	harness.Eventually(t, 20*time.Second, "an Event tells of the guard", func() error {
		list, err := kube.Client(t).EventsV1().Events("web").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, e := range list.Items {
			if e.Reason == "GuardEngagedHolding" && e.Type == "Warning" {
				return nil
			}
		}
		return fmt.Errorf("%d Events", len(list.Items))
	})
}
