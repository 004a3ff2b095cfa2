package manifests_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/remote"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
)

// Who looks at the page in a cluster is who their token says, may what RBAC says, and does it themselves: the API server
// refuses what the page would not have offered.
func TestPageRights(t *testing.T) {
	kube := shiftCluster(t)
	for user, role := range map[string]string{"vera": "", "stan": "causeway-shift-stopper", "ola": "causeway-shift-operator", "nobody": ""} {
		kube.ApplyYAML(t, fmt.Sprintf("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: %s, namespace: web}\n", user))
		if user != "nobody" {
			kube.ApplyYAML(t, fmt.Sprintf(`
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: looks-%[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: causeway-viewer}
subjects: [{kind: ServiceAccount, name: %[1]s, namespace: web}]
`, user))
		}
		if role != "" {
			kube.ApplyYAML(t, fmt.Sprintf(`
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: page-%[1]s, namespace: web}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: %[2]s}
subjects: [{kind: ServiceAccount, name: %[1]s, namespace: web}]
`, user, role))
		}
	}
	ctx := t.Context()
	order := func(action string) *discovery.Order {
		return &discovery.Order{Action: action, Key: discovery.Key{Namespace: "web", Name: "php-web"}, Reason: "INC-7"}
	}
	// Rights take effect a moment after they are written, and answers are remembered: each look is a new one.
	enter := func(user string, ready func(*remote.Viewer) bool) *remote.Viewer {
		token := kube.ServiceAccountToken(t, "web", user)
		var viewer *remote.Viewer
		harness.Eventually(t, 60*time.Second, "the rights of "+user, func() error {
			var err error
			if viewer, err = remote.NewViewers(kube.Config(), "causeway-system").Enter(ctx, token); err == nil && !ready(viewer) {
				err = errTaken
			}
			return err
		})
		require.Equal(t, "system:serviceaccount:web:"+user, viewer.Name())
		return viewer
	}
	may := func(v *remote.Viewer) (out []string) {
		for _, action := range []string{discovery.OrderPromote, discovery.OrderPause, discovery.OrderResume, discovery.OrderRollback} {
			if v.May(ctx, order(action)) {
				out = append(out, action)
			}
		}
		return out
	}
	vera := enter("vera", func(*remote.Viewer) bool { return true })
	stan := enter("stan", func(v *remote.Viewer) bool { return v.May(ctx, order(discovery.OrderPause)) })
	ola := enter("ola", func(v *remote.Viewer) bool { return v.May(ctx, order(discovery.OrderPromote)) })
	require.Empty(t, may(vera))
	require.Equal(t, []string{"pause", "rollback"}, may(stan))
	require.Equal(t, []string{"promote", "pause", "resume", "rollback"}, may(ola))
	for _, v := range []*remote.Viewer{vera, stan, ola} {
		require.False(t, v.May(ctx, &discovery.Order{Action: discovery.OrderFreeze}))
		require.False(t, v.May(ctx, &discovery.Order{Action: discovery.OrderRelease, Key: discovery.Key{Namespace: "web", Name: "php-web-ec2"}}))
		require.False(t, v.May(ctx, order("delete")))
	}

	_, err := vera.Do(ctx, order(discovery.OrderRollback))
	require.ErrorContains(t, err, "forbidden")
	harness.Eventually(t, 60*time.Second, "the admission policy", func() error {
		if _, err := stan.Do(ctx, order(discovery.OrderPromote)); err == nil {
			return errTaken
		}
		return nil
	})
	_, err = stan.Do(ctx, order(discovery.OrderPromote))
	require.ErrorContains(t, err, "may not promote TrafficShift web/php-web")
	id, err := stan.Do(ctx, order(discovery.OrderRollback))
	require.NoError(t, err)
	client, err := dynamic.NewForConfig(kube.Config())
	require.NoError(t, err)
	shift, err := client.Resource(trafficShifts).Namespace("web").Get(ctx, "php-web", metav1.GetOptions{})
	require.NoError(t, err)
	command := shift.GetAnnotations()[v1alpha1.CommandAnnotation]
	require.Contains(t, command, id)
	require.Contains(t, command, `"actor":"system:serviceaccount:web:stan","reason":"INC-7"`)
	_, err = ola.Do(ctx, order(discovery.OrderPromote))
	require.NoError(t, err)

	viewers := remote.NewViewers(kube.Config(), "causeway-system")
	_, err = viewers.Enter(ctx, kube.ServiceAccountToken(t, "web", "nobody"))
	require.ErrorIs(t, err, remote.ErrMayNotLook)
	for _, wrong := range []string{"", "x", "eyJhbGciOiJub25lIn0.e30."} {
		_, err := viewers.Enter(ctx, wrong)
		require.Error(t, err, "%q: the control plane's own credentials count for nobody", wrong)
	}
}
