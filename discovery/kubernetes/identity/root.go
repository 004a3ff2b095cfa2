package identity

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// RootSecretName is that of the Secret with the root of the mesh's certificates, and rootKey its key there: the
// certificate and its private key, in PEM. Who reads it may be any workload.
const RootSecretName, rootKey = "causeway-root", "root.pem"

// Root returns what the Secret has. If there is none it makes one of what create returns, unless another replica was first. A
// Secret that is there is never written.
func (i *Identity) Root(ctx context.Context, create func() ([]byte, error)) ([]byte, error) {
	secrets := i.client.CoreV1().Secrets(i.namespace)
	secret, err := secrets.Get(ctx, RootSecretName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		var text []byte
		if text, err = create(); err != nil {
			return nil, err
		}
		secret, err = secrets.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: RootSecretName, Labels: map[string]string{"app.kubernetes.io/name": causeway}},
			Data:       map[string][]byte{rootKey: text},
		}, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			secret, err = secrets.Get(ctx, RootSecretName, metav1.GetOptions{})
		}
	}
	switch {
	case apierrors.IsForbidden(err):
		return nil, fmt.Errorf("secret %s/%s: the control plane may not read or make it: apply its roles (manifests/install/rbac.yaml, or rbac.create of the chart): %w", i.namespace, RootSecretName, err)
	case err != nil:
		return nil, fmt.Errorf("secret %s/%s: %w", i.namespace, RootSecretName, err)
	case len(secret.Data[rootKey]) == 0:
		return nil, fmt.Errorf("secret %s/%s has no key %s: put the root back from your backup, or delete the Secret, and a new root is made, which workloads learn within 12 h", i.namespace, RootSecretName, rootKey)
	}
	return secret.Data[rootKey], nil
}
