package cluster

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/causeway-mesh/causeway/test/harness/kubetest"
)

// Client is the administrator's clientset.
func (c *Cluster) Client() (kubernetes.Interface, error) {
	config, err := c.Config()
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

// Apply applies the objects of a YAML text, server-side.
func (c *Cluster) Apply(text string) ([]*unstructured.Unstructured, error) {
	config, err := c.Config()
	if err != nil {
		return nil, err
	}
	return kubetest.ApplyTo(config, []byte(text))
}

// WaitDeployment waits until all replicas of a Deployment's present version are available, and
// no others are left.
func (c *Cluster) WaitDeployment(ctx context.Context, namespace, name string, limit time.Duration) error {
	client, err := c.Client()
	if err != nil {
		return err
	}
	var last *appsv1.Deployment
	err = wait(ctx, client.AppsV1().RESTClient(), "deployments", namespace, name, &appsv1.Deployment{}, limit, func(d *appsv1.Deployment) bool {
		last = d
		want := int32(1)
		if d.Spec.Replicas != nil {
			want = *d.Spec.Replicas
		}
		s := d.Status
		return s.ObservedGeneration >= d.Generation && s.Replicas == want && s.UpdatedReplicas == want && s.AvailableReplicas == want
	})
	if err == nil {
		return nil
	}
	why := c.pods(namespace)
	if last != nil {
		return fmt.Errorf("deployment %s/%s: %w; it has %+v\n%s", namespace, name, err, last.Status, why)
	}
	return fmt.Errorf("deployment %s/%s: %w\n%s", namespace, name, err, why)
}

// WaitPod waits until a pod is ready.
func (c *Cluster) WaitPod(ctx context.Context, namespace, name string, limit time.Duration) error {
	client, err := c.Client()
	if err != nil {
		return err
	}
	err = wait(ctx, client.CoreV1().RESTClient(), "pods", namespace, name, &corev1.Pod{}, limit, func(p *corev1.Pod) bool {
		for _, condition := range p.Status.Conditions {
			if condition.Type == corev1.PodReady {
				return condition.Status == corev1.ConditionTrue
			}
		}
		return false
	})
	if err != nil {
		return fmt.Errorf("pod %s/%s: %w\n%s", namespace, name, err, c.pods(namespace))
	}
	return nil
}

// WaitPodPhase waits until a pod has come to a phase, such as its end.
func (c *Cluster) WaitPodPhase(ctx context.Context, namespace, name string, phase corev1.PodPhase, limit time.Duration) error {
	client, err := c.Client()
	if err != nil {
		return err
	}
	err = wait(ctx, client.CoreV1().RESTClient(), "pods", namespace, name, &corev1.Pod{}, limit, func(p *corev1.Pod) bool {
		return p.Status.Phase == phase
	})
	if err != nil {
		return fmt.Errorf("pod %s/%s is not %s: %w\n%s", namespace, name, phase, err, c.pods(namespace))
	}
	return nil
}

// WaitNode waits until the node is ready.
func (c *Cluster) WaitNode(ctx context.Context, limit time.Duration) error {
	client, err := c.Client()
	if err != nil {
		return err
	}
	last := "it has not registered"
	err = wait(ctx, client.CoreV1().RESTClient(), "nodes", "", Node, &corev1.Node{}, limit, func(n *corev1.Node) bool {
		for _, condition := range n.Status.Conditions {
			if condition.Type == corev1.NodeReady {
				last = condition.Message
				return condition.Status == corev1.ConditionTrue
			}
		}
		return false
	})
	if err != nil {
		return fmt.Errorf("node %s: %w: %s", Node, err, last)
	}
	return nil
}

// WaitGone waits until an object of the core group is not there any more.
func (c *Cluster) WaitGone(ctx context.Context, resource, namespace, name string, of runtime.Object, limit time.Duration) error {
	client, err := c.Client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	list := cache.NewListWatchFromClient(client.CoreV1().RESTClient(), resource, namespace, fields.OneTermEqualSelector("metadata.name", name))
	absent := func(store cache.Store) (bool, error) { return len(store.List()) == 0, nil }
	_, err = watchtools.UntilWithSync(ctx, list, of, absent, func(e watch.Event) (bool, error) { return e.Type == watch.Deleted, nil })
	if err != nil {
		return fmt.Errorf("%s %s/%s is still there: %w", resource, namespace, name, err)
	}
	return nil
}

// wait waits by a watch until an object, which need not exist yet, is as it should be.
func wait[T runtime.Object](ctx context.Context, client cache.Getter, resource, namespace, name string, of T, limit time.Duration, good func(T) bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	list := cache.NewListWatchFromClient(client, resource, namespace, fields.OneTermEqualSelector("metadata.name", name))
	_, err := watchtools.UntilWithSync(ctx, list, of, nil, func(e watch.Event) (bool, error) {
		o, ok := e.Object.(T)
		return ok && e.Type != watch.Deleted && good(o), nil
	})
	if err != nil {
		return fmt.Errorf("not ready after %s: %w", limit, err)
	}
	return nil
}

// pods says how the pods of a namespace are, and what happened to them.
func (c *Cluster) pods(namespace string) (text string) {
	client, err := c.Client()
	if err != nil {
		return err.Error()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	pods, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err.Error()
	}
	for _, p := range pods.Items {
		text += fmt.Sprintf("pod %s is %s\n", p.Name, p.Status.Phase)
		for _, s := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
			text += fmt.Sprintf("  %s: ready %t, restarts %d, %s\n", s.Name, s.Ready, s.RestartCount, state(s.State)+" (before: "+state(s.LastTerminationState)+")")
			if s.Ready || s.State.Waiting != nil && s.State.Waiting.Reason == "PodInitializing" {
				continue
			}
			lines := int64(8)
			log, err := client.CoreV1().Pods(namespace).GetLogs(p.Name, &corev1.PodLogOptions{Container: s.Name, TailLines: &lines}).DoRaw(ctx)
			if err == nil {
				text += string(log)
			}
		}
	}
	events, err := client.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return text + err.Error()
	}
	for _, e := range events.Items {
		if e.Type == corev1.EventTypeWarning {
			text += fmt.Sprintf("event of %s %s: %s\n", e.InvolvedObject.Kind, e.InvolvedObject.Name, e.Message)
		}
	}
	return text
}

func state(s corev1.ContainerState) string {
	switch {
	case s.Running != nil:
		return "running"
	case s.Waiting != nil:
		return "waiting: " + s.Waiting.Reason + " " + s.Waiting.Message
	case s.Terminated != nil:
		return fmt.Sprintf("ended with %d: %s %s", s.Terminated.ExitCode, s.Terminated.Reason, s.Terminated.Message)
	default:
		return "none"
	}
}
