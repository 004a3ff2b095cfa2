package inject

import (
	"bytes"
	"context"
	"crypto/tls"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/causeway-mesh/causeway/discovery/kubernetes/rotate"
)

// Names of what the webhook has in a cluster (manifests/inject).
const (
	// ObjectName is that of the MutatingWebhookConfiguration and of the Service.
	ObjectName = "causeway-inject"
	// SecretName is that of the Secret with the webhook's certificate.
	SecretName = "causeway-inject-tls"
)

// lookEvery is how often the Secret and the configuration of the webhook are looked at.
const lookEvery = 5 * time.Second

// keeper keeps the webhook's certificate. Every replica has one, and whoever comes first takes the next step of a rotation; the others'
// writes conflict, and they take up what was written.
type keeper struct {
	client    kubernetes.Interface
	namespace string
	rotation  rotate.Rotation
	every     time.Duration
	log       *slog.Logger
	expires   prometheus.Gauge

	mu     sync.Mutex
	cert   *tls.Certificate
	text   []byte // of cert
	have   chan struct{}
	failed string
}

func newKeeper(client kubernetes.Interface, namespace string, log *slog.Logger, registry prometheus.Registerer) *keeper {
	service := ObjectName + "." + namespace + ".svc"
	k := &keeper{
		client: client, namespace: namespace, log: log, every: lookEvery, have: make(chan struct{}),
		rotation: rotate.New(ObjectName, service, service+".cluster.local"),
		expires: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "causeway_injection_certificate_expiry_timestamp_seconds", Help: "When the certificate of the injection webhook ends, in seconds since 1970. It is renewed 30 days before.",
		}),
	}
	registry.MustRegister(k.expires)
	return k
}

// run keeps the certificate until the context ends. What fails is logged once and tried again.
func (k *keeper) run(ctx context.Context) error {
	ticker := time.NewTicker(k.every)
	defer ticker.Stop()
	for {
		err := k.look(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			k.failed = ""
		case err.Error() != k.failed:
			k.failed = err.Error()
			k.log.Error("the certificate of the injection webhook cannot be kept; it is tried again", "every", k.every, "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// look takes one step: the Secret, then who trusts it, then what is served.
func (k *keeper) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	configurations := k.client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	webhook, err := configurations.Get(ctx, ObjectName, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("MutatingWebhookConfiguration %s: %w: apply manifests/inject", ObjectName, err)
	}
	secret, err := k.secret(ctx, webhook)
	if err != nil {
		return err
	}
	if err := k.trust(ctx, webhook, rotate.Bundle(secret)); err != nil {
		return err
	}
	return k.serve(secret)
}

// secret returns the Secret, in the state in which it is to be now.
func (k *keeper) secret(ctx context.Context, webhook *admissionregistrationv1.MutatingWebhookConfiguration) (*corev1.Secret, error) {
	k.mu.Lock()
	rotation := k.rotation
	k.mu.Unlock()
	secret, what, err := rotation.Keep(ctx, k.client.CoreV1().Secrets(k.namespace), SecretName, trustedBy(webhook))
	if err != nil {
		return nil, fmt.Errorf("in the namespace %s: %w", k.namespace, err)
	}
	if what != "" {
		k.log.Info("the certificate of the injection webhook", "step", what)
	}
	return secret, nil
}

// trustedBy returns the CAs that all of the configuration's webhooks trust.
func trustedBy(c *admissionregistrationv1.MutatingWebhookConfiguration) []byte {
	for i := range c.Webhooks {
		if !bytes.Equal(c.Webhooks[i].ClientConfig.CABundle, c.Webhooks[0].ClientConfig.CABundle) {
			return nil
		}
	}
	if len(c.Webhooks) == 0 {
		return nil
	}
	return c.Webhooks[0].ClientConfig.CABundle
}

// trust has the API servers trust the CAs. What a patch finds changed since it was read is left for the next look.
func (k *keeper) trust(ctx context.Context, c *admissionregistrationv1.MutatingWebhookConfiguration, cas []byte) error {
	patch := []Operation{{"test", "/metadata/resourceVersion", c.ResourceVersion}}
	for i := range c.Webhooks {
		if !bytes.Equal(c.Webhooks[i].ClientConfig.CABundle, cas) {
			patch = append(patch, Operation{"add", fmt.Sprintf("/webhooks/%d/clientConfig/caBundle", i), cas})
		}
	}
	if len(patch) == 1 {
		return nil
	}
	text, err := stdjson.Marshal(patch)
	if err != nil {
		return fmt.Errorf("caBundle: %w", err)
	}
	configurations := k.client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	_, err = configurations.Patch(ctx, c.Name, types.JSONPatchType, text, metav1.PatchOptions{FieldManager: "causeway"})
	if err != nil {
		if now, gerr := configurations.Get(ctx, c.Name, metav1.GetOptions{}); gerr == nil && now.ResourceVersion != c.ResourceVersion {
			return nil // another replica was first; the next look says what is left
		}
		return fmt.Errorf("MutatingWebhookConfiguration %s: its caBundle: %w", c.Name, err)
	}
	return nil
}

// serve takes up the certificate of the Secret.
func (k *keeper) serve(secret *corev1.Secret) error {
	text := secret.Data[corev1.TLSCertKey]
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.cert != nil && bytes.Equal(text, k.text) {
		return nil
	}
	cert, err := k.rotation.Serving(secret, time.Now())
	if err != nil {
		return fmt.Errorf("secret %s/%s: %w", k.namespace, SecretName, err)
	}
	if k.cert == nil {
		close(k.have)
	}
	k.cert, k.text = cert, text
	k.expires.Set(float64(cert.Leaf.NotAfter.Unix()))
	return nil
}

// certificate waits for the first one: a call that comes early is answered late.
func (k *keeper) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	select {
	case <-k.have:
	case <-hello.Context().Done():
		return nil, errors.New("there is no certificate yet")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.cert, nil
}
