package meshtest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/kubetest"
)

// StatusOf returns what an object's status says.
func StatusOf(t *testing.T, kube *kubetest.Kube, kind, namespace, name string) (meta metav1.ObjectMeta, parents []gatewayv1.RouteParentStatus, conditions []metav1.Condition) {
	t.Helper()
	raw, err := API(t, kube).Get().AbsPath(PathIn(kind, namespace, name)).DoRaw(t.Context())
	require.NoError(t, err)
	var o struct {
		metav1.ObjectMeta `json:"metadata"`
		Status            struct {
			Parents    []gatewayv1.RouteParentStatus    `json:"parents"`
			Ancestors  []gatewayv1.PolicyAncestorStatus `json:"ancestors"`
			Conditions []metav1.Condition               `json:"conditions"`
		} `json:"status"`
	}
	require.NoError(t, json.Unmarshal(raw, &o))
	conditions = o.Status.Conditions
	for _, p := range o.Status.Parents {
		if p.ControllerName == v1alpha1.ControllerName {
			conditions = append(conditions, p.Conditions...)
		}
	}
	for _, a := range o.Status.Ancestors {
		conditions = append(conditions, a.Conditions...)
	}
	return o.ObjectMeta, o.Status.Parents, conditions
}

// WaitCondition waits until an object's status has a condition with a text in
// its message, for the object's generation.
func WaitCondition(t *testing.T, kube *kubetest.Kube, kind, namespace, name, condition string, status metav1.ConditionStatus, text string) metav1.Condition {
	t.Helper()
	var found metav1.Condition
	harness.Eventually(t, 30*time.Second, fmt.Sprintf("%s %s/%s: %s=%s %q", kind, namespace, name, condition, status, text), func() error {
		meta, _, conditions := StatusOf(t, kube, kind, namespace, name)
		for _, c := range conditions {
			if c.Type == condition && c.Status == status && c.ObservedGeneration == meta.Generation && strings.Contains(c.Reason+": "+c.Message, text) {
				found = c
				return nil
			}
		}
		return fmt.Errorf("generation %d: %+v", meta.Generation, conditions)
	})
	return found
}

// PatchStatus changes a status as another writer does.
func PatchStatus(t *testing.T, kube *kubetest.Kube, kind, namespace, name, manager, body string) {
	t.Helper()
	require.NoError(t, API(t, kube).Patch(types.MergePatchType).AbsPath(PathIn(kind, namespace, name)+"/status").
		Param("fieldManager", manager).Body([]byte(body)).Do(t.Context()).Error())
}
