package inject

import (
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Labels by which a ReplicaSet's name is told from that of what made it: the ReplicaSet's name ends in the hash.
var templateHashes = []string{"pod-template-hash", "rollouts-pod-template-hash"}

// scheduled is the name of a Job of a CronJob: the CronJob's, and the minutes since 1970.
var scheduled = regexp.MustCompile(`^(.+)-\d{8}$`)

// workloadOf returns the name of what a pod is one of: its Deployment, Rollout, StatefulSet, DaemonSet, Job,
// CronJob or other owner. A pod without one is known by its own name.
func workloadOf(pod *corev1.Pod) string {
	owner := metav1.GetControllerOfNoCopy(pod)
	switch {
	case owner == nil && pod.GenerateName != "":
		return strings.TrimRight(pod.GenerateName, "-.")
	case owner == nil:
		return pod.Name
	}
	switch owner.Kind {
	case "ReplicaSet":
		for _, label := range templateHashes {
			if made, ok := strings.CutSuffix(owner.Name, "-"+pod.Labels[label]); ok && pod.Labels[label] != "" && made != "" {
				return made
			}
		}
	case "Job":
		if m := scheduled.FindStringSubmatch(owner.Name); m != nil {
			return m[1]
		}
	}
	return owner.Name
}
