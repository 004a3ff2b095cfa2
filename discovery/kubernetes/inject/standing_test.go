package inject

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Where pods stand that exist already.
func TestStanding(t *testing.T) {
	config, err := ParseConfig([]byte("image: agent:v1\nserviceCIDRs: [10.96.0.0/12]\n"), "causeway-system", "v1")
	require.NoError(t, err)
	web := Namespace{Name: "web", Labels: map[string]string{Label: Enabled}}
	isController := true
	pod := func(edit func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "web", Name: "php-7d4b9c6f5-abcde", Labels: map[string]string{"pod-template-hash": "7d4b9c6f5"},
				OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "php-7d4b9c6f5", Controller: &isController}},
			},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "php"}}},
		}
		edit(p)
		return p
	}
	owner := func(kind, name string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.OwnerReferences[0].Kind, p.OwnerReferences[0].Name = kind, name }
	}
	for name, c := range map[string]struct {
		edit   func(*corev1.Pod)
		ns     Namespace
		member bool
		remedy string // "" for a pod that need not be a member
	}{
		"older than the label": {func(*corev1.Pod) {}, web, false, "kubectl -n web rollout restart deployment/php"},
		"of a DaemonSet":       {owner("DaemonSet", "php"), web, false, "kubectl -n web rollout restart daemonset/php"},
		"of a StatefulSet":     {owner("StatefulSet", "php"), web, false, "kubectl -n web rollout restart statefulset/php"},
		"of a Job":             {owner("Job", "php"), web, false, "kubectl -n web delete pod php-7d4b9c6f5-abcde, and its Job makes it again"},
		"of nobody":            {func(p *corev1.Pod) { p.OwnerReferences = nil }, web, false, "delete the pod and create it again"},
		"injected": {func(p *corev1.Pod) {
			p.Annotations = map[string]string{AnnotationInjected: "v1"}
			p.Spec.InitContainers = []corev1.Container{{Name: ProxyName}}
		}, web, true, ""},
		"said to be, without its sidecar": {func(p *corev1.Pod) { p.Annotations = map[string]string{AnnotationInjected: "v1"} }, web, false, "rollout restart"},
		"refused":                         {func(p *corev1.Pod) { p.Spec.HostNetwork = true }, web, false, leaveOut},
		"by itself":                       {func(p *corev1.Pod) { p.Labels[Label] = "true" }, Namespace{Name: "shop"}, false, "rollout restart"},
		"opted out":                       {func(p *corev1.Pod) { p.Labels[Label] = "false" }, web, false, ""},
		"of another namespace":            {func(*corev1.Pod) {}, Namespace{Name: "shop"}, false, ""},
		"ended":                           {func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }, web, false, ""},
		"ending":                          {func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }, web, false, ""},
		"of the control plane":            {func(*corev1.Pod) {}, Namespace{Name: "causeway-system", Labels: web.Labels}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			member, why := Standing(pod(c.edit), c.ns, config)
			require.Equal(t, c.member, member)
			if c.remedy == "" {
				require.Nil(t, why)
				return
			}
			require.NotNil(t, why)
			require.Contains(t, why.Remedy, c.remedy)
		})
	}
}
