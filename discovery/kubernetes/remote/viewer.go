package remote

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/dynamic"
	clientkubernetes "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/cluster"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/lead"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Viewer is a user of the cluster who looks at the page. All that it does is asked of the API server with the user's own
// credentials: who it is, what it may do, and the doing. So the control plane needs no right for it and lends none, the
// cluster's RBAC and admission policies decide, and its audit log names the user.
type Viewer struct {
	config    *rest.Config
	namespace string
	name      string
	client    clientkubernetes.Interface

	mu  sync.Mutex
	may map[string]verdict
}

// verdict is an answer of the API server, which is asked again when it is old.
type verdict struct {
	allowed bool
	at      time.Time
}

// rememberFor is how long the API server's answers are believed, and maxRemembered how many are kept.
const (
	rememberFor   = 30 * time.Second
	maxRemembered = 1000
)

// NewViewer returns the user that a configuration is of. namespace is the control plane's.
func NewViewer(ctx context.Context, config *rest.Config, namespace string) (*Viewer, error) {
	client, err := clientkubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	who, err := client.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("who am I: %w", err)
	}
	return &Viewer{config: config, namespace: namespace, name: who.Status.UserInfo.Username, client: client, may: make(map[string]verdict)}, nil
}

// Name is the one that the API server knows the user by.
func (v *Viewer) Name() string { return v.name }

// allowed asks the API server whether the user may do something.
func (v *Viewer) allowed(ctx context.Context, a *authorizationv1.ResourceAttributes) bool {
	key := fmt.Sprintf("%q", []string{a.Verb, a.Group, a.Resource, a.Subresource, a.Namespace, a.Name})
	v.mu.Lock()
	have, ok := v.may[key]
	v.mu.Unlock()
	if ok && time.Since(have.at) < rememberFor {
		return have.allowed
	}
	review, err := v.client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: a},
	}, metav1.CreateOptions{})
	if err != nil {
		return false // what is not known is not allowed
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.may) >= maxRemembered {
		clear(v.may)
	}
	v.may[key] = verdict{review.Status.Allowed, time.Now()}
	return review.Status.Allowed
}

// MayLook reports whether the user may see the page: the verb get on meshes/page, which the ClusterRole causeway-viewer has.
func (v *Viewer) MayLook(ctx context.Context) bool {
	return v.allowed(ctx, &authorizationv1.ResourceAttributes{Verb: "get", Group: v1alpha1.Group, Resource: "meshes", Subresource: "page"})
}

// May reports whether the user may give an order. The verbs are those that the cluster asks of the commands too
// (manifests/chart/templates/shift-commands.yaml).
func (v *Viewer) May(ctx context.Context, o *discovery.Order) bool {
	all := func(attributes ...authorizationv1.ResourceAttributes) bool {
		for i := range attributes {
			if !v.allowed(ctx, &attributes[i]) {
				return false
			}
		}
		return true
	}
	object := authorizationv1.ResourceAttributes{Group: v1alpha1.Group, Namespace: o.Key.Namespace, Name: o.Key.Name, Verb: "patch"}
	switch o.Action {
	case discovery.OrderFreeze, discovery.OrderUnfreeze:
		freeze := authorizationv1.ResourceAttributes{Resource: "configmaps", Namespace: v.namespace, Name: "causeway-freeze", Verb: "get"}
		update := freeze
		update.Verb = "update"
		return all(freeze, update)
	case discovery.OrderRelease:
		object.Resource = "instancegroups"
		return all(object)
	}
	object.Resource = "trafficshifts"
	command := object
	command.Verb = o.Action
	return o.OfShift() && all(object, command)
}

// Do carries an order out as the user.
func (v *Viewer) Do(ctx context.Context, o *discovery.Order) (id string, err error) {
	switch {
	case o.Action == discovery.OrderFreeze, o.Action == discovery.OrderUnfreeze:
		store, err := cluster.NewClient(v.config, v.namespace, slog.New(slog.DiscardHandler))
		if err != nil {
			return "", err
		}
		r := discovery.FreezeRequest{By: v.name, Reason: o.Reason, Config: o.Config, Lift: o.Action == discovery.OrderUnfreeze}
		_, err = lead.ChangeFreeze(ctx, store, func(f *discovery.Freeze) (*discovery.Freeze, error) { return r.Change(f, time.Now()) })
		return "", err
	case o.Action == discovery.OrderRelease:
		return "", v.annotate(ctx, "instancegroups", o.Key, v1alpha1.GuardReleaseAnnotation, time.Now().UTC().Format(time.RFC3339))
	case !o.OfShift():
		return "", fmt.Errorf("%q is nothing that can be done", o.Action)
	}
	now := metav1.Now().Rfc3339Copy()
	if _, there, err := whoAmI(ctx, v.config); err == nil && !there.IsZero() {
		now = there // a command counts for minutes, and the clock here may be wrong by more
	}
	command := v1alpha1.ShiftCommand{
		ID: string(uuid.NewUUID()), Action: v1alpha1.ShiftAction(o.Action), Step: o.Step, Actor: v.name, Reason: o.Reason, Time: now,
	}
	text, err := json.Marshal(&command)
	if err != nil {
		return "", fmt.Errorf("command: %w", err)
	}
	return command.ID, v.annotate(ctx, "trafficshifts", o.Key, v1alpha1.CommandAnnotation, string(text))
}

func (v *Viewer) annotate(ctx context.Context, resource string, key discovery.Key, name, value string) error {
	client, err := dynamic.NewForConfig(v.config)
	if err != nil {
		return fmt.Errorf("kubernetes: %w", err)
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{name: value}}})
	if err != nil {
		return fmt.Errorf("%s %s: %w", resource, key, err)
	}
	of := client.Resource(v1alpha1.GroupVersion().WithResource(resource)).Namespace(key.Namespace)
	if _, err := of.Patch(ctx, key.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "causeway-page"}); err != nil {
		return fmt.Errorf("%s %s: %w", resource, key, err)
	}
	return nil
}

// Viewers are the users of a cluster, by their bearer tokens.
type Viewers struct {
	config    *rest.Config
	namespace string

	mu    sync.Mutex
	known map[[sha256.Size]byte]known
}

// known is who a token belongs to, nil for nobody who may look.
type known struct {
	viewer *Viewer
	err    error
	at     time.Time
}

// NewViewers returns the users of the cluster that a configuration reaches; of its credentials nothing is used.
func NewViewers(config *rest.Config, namespace string) *Viewers {
	return &Viewers{config: rest.AnonymousClientConfig(config), namespace: namespace, known: make(map[[sha256.Size]byte]known)}
}

// ErrMayNotLook says that a token is valid and its user may not see the page.
var ErrMayNotLook = errors.New("this takes the verb get on meshes/page of mesh.causeway.dev, which the ClusterRole causeway-viewer has")

// Enter returns who a token belongs to.
func (v *Viewers) Enter(ctx context.Context, token string) (*Viewer, error) {
	if token == "" {
		return nil, errors.New("the token is empty")
	}
	digest := sha256.Sum256([]byte(token))
	v.mu.Lock()
	have, ok := v.known[digest]
	v.mu.Unlock()
	if ok && time.Since(have.at) < rememberFor {
		return have.viewer, have.err
	}
	config := rest.CopyConfig(v.config)
	config.BearerToken = token
	viewer, err := NewViewer(ctx, config, v.namespace)
	if err == nil && !viewer.MayLook(ctx) {
		viewer, err = nil, fmt.Errorf("%s may not look at the page: %w", cmp.Or(viewer.name, "this user"), ErrMayNotLook)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.known) >= maxRemembered {
		clear(v.known)
	}
	v.known[digest] = known{viewer, err, time.Now()}
	return viewer, err
}
