package identity

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	clientcorev1 "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/causeway-mesh/causeway/discovery/kubernetes/inject"
)

const (
	managedBy = "app.kubernetes.io/managed-by"
	causeway  = "causeway"
)

// Publish keeps the CAs of the xDS listener in the ConfigMap inject.CAName of each namespace with the label of injection,
// until the context ends. One replica does, the leader.
//
// Where a ConfigMap was published it is kept up to date and stays, also when the label goes: pods that run mount it, and a
// pod whose ConfigMap is gone gets no new token and no restart.
func (i *Identity) Publish(ctx context.Context, c Certificate) error {
	defer i.published.Store(nil)
	named := informers.NewSharedInformerFactoryWithOptions(i.client, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("metadata.name", inject.CAName).String()
	}))
	labelled := informers.NewSharedInformerFactoryWithOptions(i.client, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.LabelSelector = inject.Label + "=" + inject.Enabled
	}))
	maps, namespaces := named.Core().V1().ConfigMaps(), labelled.Core().V1().Namespaces()
	changed := make(chan struct{}, 1)
	wake := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	var synced []cache.InformerSynced
	for _, informer := range []cache.SharedIndexInformer{maps.Informer(), namespaces.Informer()} {
		if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { wake() }, UpdateFunc: func(_, _ any) { wake() }, DeleteFunc: func(any) { wake() },
		}); err != nil {
			return fmt.Errorf("kubernetes: %w", err)
		}
		synced = append(synced, informer.HasSynced)
	}
	named.Start(ctx.Done())
	labelled.Start(ctx.Done())
	defer named.Shutdown()
	defer labelled.Shutdown()
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return ctx.Err()
	}
	return repeat(ctx, i.every, func() error { return i.publish(ctx, c, namespaces.Lister(), maps.Lister()) }, func(err error) {
		i.log.Error("pods cannot verify the control plane everywhere; it is tried again", "every", i.every, "error", err)
	}, changed, func(struct{}) {})
}

var errNoBundle = errors.New("the CA in --xds-client-ca has not signed the certificate in --xds-tls-cert, so nobody knows by which CA pods are to verify it: " +
	"put that CA into ca.crt too, or let pods have a Secret of their own (tlsSecret, docs/members.md)")

// publish brings all ConfigMaps up to date. What fails in one namespace keeps no other one waiting.
func (i *Identity) publish(ctx context.Context, c Certificate, namespaces clientcorev1.NamespaceLister, maps clientcorev1.ConfigMapLister) error {
	bundle, given := c.Bundle()
	if len(bundle) == 0 {
		if given {
			return errNoBundle
		}
		return nil // the first one is being made
	}
	all, err := namespaces.List(labels.Everything())
	if err != nil {
		return err //nolint:wrapcheck // a lister's never fails
	}
	have, err := maps.List(labels.Everything())
	if err != nil {
		return err //nolint:wrapcheck // as above
	}
	members := make(map[string]bool)
	var errs []error
	for _, n := range all {
		if isMembers(n) {
			members[n.Name] = true
		}
	}
	for _, m := range have {
		ours := m.Labels[managedBy] == causeway
		if (ours || members[m.Namespace]) && (!ours || m.Data[inject.CAKey] != string(bundle)) {
			errs = append(errs, i.update(ctx, m, bundle))
		}
		delete(members, m.Namespace)
	}
	for name := range members {
		errs = append(errs, i.create(ctx, name, bundle))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	i.published.Store(&bundle)
	return nil
}

func (i *Identity) update(ctx context.Context, m *corev1.ConfigMap, bundle []byte) error {
	m = m.DeepCopy()
	if m.Labels == nil {
		m.Labels = make(map[string]string)
	}
	m.Labels[managedBy] = causeway
	m.Data = map[string]string{inject.CAKey: string(bundle)}
	_, err := i.client.CoreV1().ConfigMaps(m.Namespace).Update(ctx, m, metav1.UpdateOptions{})
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil // its event comes
	}
	if err != nil {
		return fmt.Errorf("ConfigMap %s/%s: %w", m.Namespace, m.Name, err)
	}
	return nil
}

func (i *Identity) create(ctx context.Context, namespace string, bundle []byte) error {
	_, err := i.client.CoreV1().ConfigMaps(namespace).Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: inject.CAName, Labels: map[string]string{managedBy: causeway}},
		Data:       map[string]string{inject.CAKey: string(bundle)},
	}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil // its event comes, or the namespace goes
	}
	if err != nil {
		return fmt.Errorf("ConfigMap %s/%s: %w", namespace, inject.CAName, err)
	}
	return nil
}

// Want says that a pod of a namespace is to be a member, whatever the namespace's label says. It never waits.
func (i *Identity) Want(namespace string) {
	select {
	case i.wanted <- namespace:
	default: // so many wait that the next pod of it asks again
	}
}

// publishTo makes the ConfigMap of one namespace, if it has none.
func (i *Identity) publishTo(ctx context.Context, c Certificate, namespace string) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	bundle, _ := c.Bundle()
	if len(bundle) == 0 {
		return
	}
	if err := i.create(ctx, namespace, bundle); err != nil {
		i.log.Error("a pod that is a member by its own label waits for the CA of the control plane", "error", err)
	}
}
