package remote

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	clientkubernetes "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/lead"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Cluster is where a cluster's API is, with the user's own rights.
type Cluster struct {
	// Kubeconfig is a file, Context one of its contexts; both empty for none.
	Kubeconfig, Context string
	// Namespace that the control plane runs in.
	Namespace string
}

// Given reports whether a cluster is named.
func (k *Cluster) Given() bool { return k.Kubeconfig != "" || k.Context != "" }

// CurrentContext is the one that kubectl would use.
func CurrentContext() (string, error) {
	config, err := clientcmd.NewDefaultClientConfigLoadingRules().Load()
	if err != nil {
		return "", fmt.Errorf("kubeconfig: %w", err)
	}
	if len(config.Contexts) == 0 {
		return "", errors.New("there is no kubeconfig file that names a cluster (KUBECONFIG, or ~/.kube/config): give one with --kubeconfig")
	}
	if config.CurrentContext == "" {
		return "", errors.New("the kubeconfig file has no current context: name one with --context, or a file with --kubeconfig")
	}
	return config.CurrentContext, nil
}

// Config is how the cluster's API is reached.
func (k *Cluster) Config() (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	if k.Kubeconfig != "" {
		rules.ExplicitPath = k.Kubeconfig
	}
	if known, err := rules.Load(); err == nil && k.Context != "" && known.Contexts[k.Context] == nil {
		return nil, fmt.Errorf("--context: %s has no context %q: 'kubectl config get-contexts' lists them",
			strings.Join(rules.GetLoadingPrecedence(), ", "), k.Context)
	}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: k.Context}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig: %w", err)
	}
	return config, nil
}

// shiftsOf returns the API of the TrafficShifts of a namespace, of all of them for "".
func (k *Cluster) shiftsOf(namespace string) (dynamic.ResourceInterface, *rest.Config, error) {
	config, err := k.Config()
	if err != nil {
		return nil, nil, err
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("--kubeconfig: %w", err)
	}
	return client.Resource(v1alpha1.GroupVersion().WithResource("trafficshifts")).Namespace(namespace), config, nil
}

// Shifts returns all shifts, or the one with a key that is not zero, and what is frozen, nil for nothing.
func (k *Cluster) Shifts(ctx context.Context, key discovery.Key) ([]v1alpha1.TrafficShift, *discovery.Freeze, error) {
	client, config, err := k.shiftsOf(key.Namespace)
	if err != nil {
		return nil, nil, err
	}
	options := metav1.ListOptions{}
	if key.Name != "" {
		options.FieldSelector = "metadata.name=" + key.Name
	}
	list, err := client.List(ctx, options)
	if err != nil {
		return nil, nil, fmt.Errorf("list TrafficShifts: %w", err)
	}
	var out []v1alpha1.TrafficShift
	for i := range list.Items {
		var s v1alpha1.TrafficShift
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(list.Items[i].Object, &s); err != nil {
			return nil, nil, fmt.Errorf("TrafficShift %s/%s: %w", list.Items[i].GetNamespace(), list.Items[i].GetName(), err)
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b v1alpha1.TrafficShift) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	store, err := cluster.NewClient(config, k.Namespace, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, nil, err
	}
	// A user who may read shifts may not be allowed to read this.
	freeze, err := lead.Freeze(ctx, store)
	if err != nil {
		freeze = nil
	}
	return out, freeze, nil
}

// Command writes a command onto a shift, as the user that the API server knows.
func (k *Cluster) Command(ctx context.Context, key discovery.Key, c *v1alpha1.ShiftCommand) error {
	client, config, err := k.shiftsOf(key.Namespace)
	if err != nil {
		return err
	}
	who, now, err := whoAmI(ctx, config)
	if err != nil {
		return err
	}
	c.Actor = who
	if !now.IsZero() {
		c.Time = now // a command counts for minutes, and the clock here may be wrong by more
	}
	text, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("command: %w", err)
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{v1alpha1.CommandAnnotation: string(text)}}})
	if err != nil {
		return fmt.Errorf("command: %w", err)
	}
	if _, err := client.Patch(ctx, key.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "causeway-cli"}); err != nil {
		return fmt.Errorf("%s %s: %w", c.Action, key, err)
	}
	return nil
}

// Withdraw takes a command off a shift, if it is still the one there.
func (k *Cluster) Withdraw(ctx context.Context, key discovery.Key, c *v1alpha1.ShiftCommand) error {
	client, _, err := k.shiftsOf(key.Namespace)
	if err != nil {
		return err
	}
	text, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("command: %w", err)
	}
	path := "/metadata/annotations/" + strings.ReplaceAll(v1alpha1.CommandAnnotation, "/", "~1")
	patch, err := json.Marshal([]map[string]string{{"op": "test", "path": path, "value": string(text)}, {"op": "remove", "path": path}})
	if err != nil {
		return fmt.Errorf("command: %w", err)
	}
	if _, err := client.Patch(ctx, key.Name, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: "causeway-cli"}); err != nil {
		return fmt.Errorf("take %s %s back: %w", c.Action, key, err)
	}
	return nil
}

// whoAmI returns the name that the API server knows the user by, and what time it is there,
// zero if it does not say.
func whoAmI(ctx context.Context, config *rest.Config) (string, metav1.Time, error) {
	typed, err := clientkubernetes.NewForConfig(config)
	if err != nil {
		return "", metav1.Time{}, fmt.Errorf("--kubeconfig: %w", err)
	}
	who, err := typed.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return "", metav1.Time{}, fmt.Errorf("who am I: %w", err)
	}
	return who.Status.UserInfo.Username, who.CreationTimestamp, nil
}

// Freeze changes the freeze on behalf of a user, and returns the new one. Earlier
// releases named the owner after the host's user: such an order belongs to the same
// person.
func (k *Cluster) Freeze(ctx context.Context, r *discovery.FreezeRequest) (*discovery.Freeze, error) {
	config, err := k.Config()
	if err != nil {
		return nil, err
	}
	store, err := cluster.NewClient(config, k.Namespace, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	r.Formerly = r.By
	if r.By, _, err = whoAmI(ctx, config); err != nil {
		return nil, err
	}
	return lead.ChangeFreeze(ctx, store, func(f *discovery.Freeze) (*discovery.Freeze, error) { return r.Change(f, time.Now()) })
}
