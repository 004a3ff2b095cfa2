package inject

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Standing says where a pod that exists stands: whether it is a member, and why it is not if it should be.
// What has ended or is ending is neither.
func Standing(pod *corev1.Pod, ns Namespace, c *Config) (member bool, why *Refusal) {
	if pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return false, nil
	}
	if pod.Annotations[AnnotationInjected] != "" && container(pod, ProxyName) != nil {
		return true, nil
	}
	injection, _, err := Inject(pod, "", ns, c)
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		return false, refusal
	}
	if injection == nil {
		return false, nil
	}
	return false, &Refusal{"it was made without its sidecar: before its label, or while the webhook was away", renewal(pod)}
}

// Workload returns the name of what a pod is one of.
func Workload(pod *corev1.Pod) string { return workloadOf(pod) }

// renewal is how a pod is replaced by one that the webhook is asked about.
func renewal(pod *corev1.Pod) string {
	owner := metav1.GetControllerOfNoCopy(pod)
	if owner != nil {
		switch owner.Kind {
		case "ReplicaSet":
			if workload := workloadOf(pod); workload != owner.Name && pod.Labels["rollouts-pod-template-hash"] == "" {
				return fmt.Sprintf("kubectl -n %s rollout restart deployment/%s", pod.Namespace, workload)
			}
		case "DaemonSet":
			return fmt.Sprintf("kubectl -n %s rollout restart daemonset/%s", pod.Namespace, owner.Name)
		case "StatefulSet":
			return fmt.Sprintf("kubectl -n %s rollout restart statefulset/%s", pod.Namespace, owner.Name)
		}
		return fmt.Sprintf("kubectl -n %s delete pod %s, and its %s makes it again", pod.Namespace, pod.Name, owner.Kind)
	}
	return fmt.Sprintf("delete the pod and create it again: nothing does that for pod %s/%s", pod.Namespace, pod.Name)
}
