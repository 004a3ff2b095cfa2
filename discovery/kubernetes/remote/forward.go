// Package remote is how people's commands reach a control plane in a cluster, with their own rights there.
package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientkubernetes "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"

	"github.com/causeway-mesh/causeway/discovery/kubernetes/lead"
)

// adminPort is where the replicas of the shipped Deployment serve the admin API.
const adminPort = 15080

// Forward reaches the admin API of the leader, or of another ready replica, as
// `kubectl port-forward` does: the API server checks the user's own rights. It
// returns an address on loopback, and a function that ends the forward.
func (k *Cluster) Forward(ctx context.Context) (address string, end func(), err error) {
	config, err := k.Config()
	if err != nil {
		return "", nil, err
	}
	client, err := clientkubernetes.NewForConfig(config)
	if err != nil {
		return "", nil, fmt.Errorf("--kubeconfig: %w", err)
	}
	pods, err := k.replicas(ctx, client)
	if err != nil {
		return "", nil, err
	}
	return forwardTo(ctx, config, client, k.Namespace, pods[0])
}

// ForwardEach reaches the admin API of every ready replica, one after the other: ask is called with the pod's name
// and an address that is good until it returns, or why it cannot be reached.
func (k *Cluster) ForwardEach(ctx context.Context, ask func(pod, address string, err error)) error {
	config, err := k.Config()
	if err != nil {
		return err
	}
	client, err := clientkubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("--kubeconfig: %w", err)
	}
	pods, err := k.replicas(ctx, client)
	for _, pod := range pods {
		address, end, err := forwardTo(ctx, config, client, k.Namespace, pod)
		ask(pod, address, err)
		if err == nil {
			end()
		}
	}
	return err
}

// replicas returns the names of the pods that can be asked, at least one: the leader's first, where one leads.
func (k *Cluster) replicas(ctx context.Context, client clientkubernetes.Interface) ([]string, error) {
	pods, err := client.CoreV1().Pods(k.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=causeway"})
	if err != nil {
		return nil, fmt.Errorf("pods of the control plane in the namespace %s: %w", k.Namespace, err)
	}
	leader := ""
	// A user who may not read Leases gets any replica.
	if lease, err := client.CoordinationV1().Leases(k.Namespace).Get(ctx, lead.LeaderLease, metav1.GetOptions{}); err == nil && lease.Spec.HolderIdentity != nil {
		leader = *lease.Spec.HolderIdentity
	}
	ready := slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool {
		return p.DeletionTimestamp != nil || !slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		})
	})
	if len(ready) == 0 {
		return nil, fmt.Errorf("no pod with app.kubernetes.io/name=causeway in the namespace %s is ready (of %d): name another namespace with --causeway-namespace, or see kubectl -n %s get pods",
			k.Namespace, len(pods.Items), k.Namespace)
	}
	slices.SortFunc(ready, func(a, b corev1.Pod) int {
		first := func(p *corev1.Pod) int {
			if leads(leader, p.Name) {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(first(&a), first(&b)), cmp.Compare(a.Name, b.Name))
	})
	names := make([]string, len(ready))
	for i := range ready {
		names[i] = ready[i].Name
	}
	return names, nil
}

// leads reports whether a holder of the leader's Lease is a pod: the holder is the pod's name with a number behind it.
func leads(holder, pod string) bool {
	i := strings.LastIndexByte(holder, '-')
	return i >= 0 && holder[:i] == pod
}

func forwardTo(ctx context.Context, config *rest.Config, client clientkubernetes.Interface, namespace, pod string) (string, func(), error) {
	transport, upgrader, err := spdy.RoundTripperFor(config)
	if err != nil {
		return "", nil, fmt.Errorf("--kubeconfig: %w", err)
	}
	where := client.CoreV1().RESTClient().Post().Resource("pods").Namespace(namespace).Name(pod).SubResource("portforward").URL()
	dialer := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, where)
	stop, ready := make(chan struct{}), make(chan struct{})
	forwarder, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, []string{"0:" + strconv.Itoa(adminPort)}, stop, ready, io.Discard, io.Discard)
	if err != nil {
		return "", nil, fmt.Errorf("port-forward to pod %s/%s: %w", namespace, pod, err)
	}
	ended := make(chan error, 1)
	go func() {
		defer close(ended)
		ended <- forwarder.ForwardPorts()
	}()
	end := func() { // how it ended says nothing more: the caller has its answer, or an error of its own
		close(stop)
		for range ended { //nolint:revive // it waits
		}
	}
	failed := func(err error) (string, func(), error) {
		return "", nil, fmt.Errorf("port-forward to pod %s/%s (it takes the right to create pods/portforward there): %w", namespace, pod, err)
	}
	select {
	case err := <-ended:
		return failed(cmp.Or(err, errors.New("it ended")))
	case <-ctx.Done():
		end()
		return failed(ctx.Err())
	case <-time.After(10 * time.Second):
		end()
		return failed(errors.New("no answer within 10s"))
	case <-ready:
	}
	ports, err := forwarder.GetPorts()
	if err != nil || len(ports) == 0 {
		end()
		return failed(cmp.Or(err, errors.New("no port")))
	}
	return "127.0.0.1:" + strconv.Itoa(int(ports[0].Local)), end, nil
}
