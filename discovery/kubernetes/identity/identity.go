// Package identity lets pods prove who they are, and the control plane prove itself to them, with nothing copied into their
// namespaces by hand: it has the API server check the tokens of their service accounts, makes and renews a certificate for
// the xDS listener, and publishes its CA in the namespaces of members.
package identity

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/causeway-mesh/causeway/discovery/kubernetes/inject"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/rotate"
)

// SecretName is that of the Secret with the certificate that is made where there is none of the operator's.
const SecretName = "causeway-xds-made"

// lookEvery is how often that Secret is looked at, and whether there is another CA to publish.
const lookEvery = 5 * time.Second

// Certificate is that of the xDS listener.
type Certificate interface {
	// Use gives it the one that was made, with the CAs of all that may be served.
	Use(pair *tls.Certificate, bundle []byte)
	// Bundle returns the CAs by which it is verified, and whether the operator has given it.
	Bundle() (bundle []byte, given bool)
}

// Options of an Identity.
type Options struct {
	// Rest reaches the cluster.
	Rest *rest.Config
	// Namespace is the control plane's own.
	Namespace string
	// Audience is for whom tokens must be.
	Audience string
	Log      *slog.Logger
	Registry prometheus.Registerer
}

// Identity is the part of one replica.
type Identity struct {
	*reviewer
	client    kubernetes.Interface
	namespace string
	log       *slog.Logger
	every     time.Duration

	mu       sync.Mutex
	rotation rotate.Rotation
	// published is what all namespaces of members have, nil where this replica does not publish.
	published atomic.Pointer[[]byte]
	wanted    chan string
}

// New returns an Identity, which asks nothing yet.
func New(o Options) (*Identity, error) {
	c := rest.CopyConfig(o.Rest)
	c.UserAgent, c.QPS = "causeway-identity", -1 // reviews have a bound of their own
	client, err := kubernetes.NewForConfig(c)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	service := "causeway." + o.Namespace + ".svc"
	return &Identity{
		reviewer: newReviewer(client.AuthenticationV1().TokenReviews(), o.Audience, o.Registry),
		client:   client, namespace: o.Namespace, log: o.Log, every: lookEvery, wanted: make(chan string, 100),
		rotation: rotate.New("causeway", service, service+".cluster.local"),
	}, nil
}

// Keep makes and renews the certificate until the context ends, as long as the operator gives none, and publishes the CA in
// namespaces that Want names. Each replica does.
func (i *Identity) Keep(ctx context.Context, c Certificate) error {
	return repeat(ctx, i.every, func() error { return i.look(ctx, c) }, func(err error) {
		i.log.Error("the certificate of the xDS listener cannot be kept; it is tried again", "every", i.every, "error", err)
	}, i.wanted, func(namespace string) { i.publishTo(ctx, c, namespace) })
}

// repeat takes a step with each tick until the context ends; its only error is the context's. What fails is told once, until
// something else fails or nothing. What comes between is done, and the step taken anew.
func repeat[T any](ctx context.Context, every time.Duration, step func() error, tell func(error), between <-chan T, do func(T)) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	failed := ""
	for {
		err := step()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			failed = ""
		case err.Error() != failed:
			failed = err.Error()
			tell(err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		case v := <-between:
			do(v)
		}
	}
}

// look takes a step of the rotation that is due, and serves what is to be served now.
func (i *Identity) look(ctx context.Context, c Certificate) error {
	if _, given := c.Bundle(); given {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var trusted []byte
	if p := i.published.Load(); p != nil {
		trusted = *p
	}
	i.mu.Lock()
	rotation := i.rotation
	i.mu.Unlock()
	secret, what, err := rotation.Keep(ctx, i.client.CoreV1().Secrets(i.namespace), SecretName, trusted)
	if err != nil {
		return fmt.Errorf("in the namespace %s: %w", i.namespace, err)
	}
	if what != "" {
		i.log.Info("the certificate of the xDS listener", "step", what)
	}
	pair, err := rotation.Serving(secret, time.Now())
	if err != nil {
		return fmt.Errorf("secret %s/%s: %w", i.namespace, SecretName, err)
	}
	c.Use(pair, rotate.Bundle(secret))
	return nil
}

// isMembers reports whether pods of a namespace are members by its label.
func isMembers(n *corev1.Namespace) bool {
	return n.Labels[inject.Label] == inject.Enabled && n.DeletionTimestamp == nil
}
