package identity

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/discovery/kubernetes/inject"
	"github.com/causeway-mesh/causeway/discovery/kubernetes/rotate"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/kubetest"
	xdscredentials "github.com/causeway-mesh/causeway/xds/credentials"
)

// madeReplica is a replica without any file: it makes its certificate.
func madeReplica(t *testing.T, k *kubetest.Kube, leads bool, change func(*rotate.Rotation)) (*Identity, *xdscredentials.Listener, string) {
	t.Helper()
	log, registry := slog.New(slog.NewTextHandler(t.Output(), nil)), prometheus.NewRegistry()
	i, err := New(Options{Rest: k.ServiceAccountConfig(t, "causeway-system", "causeway"), Namespace: "causeway-system", Audience: "causeway", Log: log, Registry: registry})
	require.NoError(t, err)
	i.every = 50 * time.Millisecond
	if change != nil {
		change(&i.rotation)
	}
	none := filepath.Join(t.TempDir(), "none")
	l, err := xdscredentials.New(xdscredentials.Options{
		Files: xdscredentials.Files{Cert: none, Key: none, CA: none, Rules: none, Optional: true}, Tokens: i, Log: log, Registry: registry,
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 3)
	parts := []func(context.Context) error{func(ctx context.Context) error { return i.Keep(ctx, l) }}
	if leads {
		parts = append(parts, func(ctx context.Context) error { return i.Publish(ctx, l) })
	}
	for _, part := range parts {
		go func() { done <- part(ctx) }()
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer(grpc.Creds(l.Transport()), grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return nil }))
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		cancel()
		for range parts {
			require.ErrorIs(t, <-done, context.Canceled)
		}
	})
	return i, l, listener.Addr().String()
}

// Two replicas without a Secret of the operator's serve one certificate of their own making, which a pod of a namespace with
// the label verifies by the ConfigMap that the leader keeps there: also while the certificate is renewed.
func TestPublish(t *testing.T) {
	t.Parallel()
	k := pool.Take(t)
	client := k.Client(t)
	change := func(r *rotate.Rotation) { r.Settle = 500 * time.Millisecond }
	follower, _, second := madeReplica(t, k, false, change)
	leader, _, first := madeReplica(t, k, true, change)
	k.ApplyYAML(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: web, labels: {mesh.causeway.dev/inject: enabled}}\n---\n"+
		"apiVersion: v1\nkind: Namespace\nmetadata: {name: plain}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: self}\n---\n"+
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: causeway-ca, namespace: plain}\ndata: {ca.crt: mine}\n")
	ca := func(namespace string) (string, error) {
		m, err := client.CoreV1().ConfigMaps(namespace).Get(t.Context(), inject.CAName, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		return m.Data[inject.CAKey], nil
	}
	verified := func(address, bundle string) error {
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
			RootCAs: poolOf(t, bundle), ServerName: "causeway.causeway-system.svc", MinVersion: tls.VersionTLS13,
		})))
		require.NoError(t, err)
		defer conn.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/a/B")
		if err != nil {
			return err
		}
		if err := stream.RecvMsg(nil); err.Error() != "EOF" {
			return err
		}
		return nil
	}
	var bundle string
	harness.Eventually(t, 20*time.Second, "the CA in the namespace of members, and both replicas to serve by it", func() (err error) {
		if bundle, err = ca("web"); err == nil {
			err = errors.Join(verified(first, bundle), verified(second, bundle))
		}
		return err
	})
	// A pod that opts in by itself has its namespace named by the webhook of any replica.
	follower.Want("self")
	harness.Eventually(t, 20*time.Second, "the CA in the namespace of a pod that has opted in", func() error {
		got, err := ca("self")
		if err == nil && got != bundle {
			err = fmt.Errorf("another one: %s", got)
		}
		return err
	})
	mine, err := ca("plain")
	require.NoError(t, err)
	require.Equal(t, "mine", mine, "what is somebody's in another namespace stays")
	// What is deleted or changed comes back.
	require.NoError(t, client.CoreV1().ConfigMaps("web").Delete(t.Context(), inject.CAName, metav1.DeleteOptions{}))
	k.ApplyYAML(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: causeway-ca, namespace: self}\ndata: {ca.crt: spoiled}\n")
	// And one who leaves keeps it for the pods that run.
	k.ApplyYAML(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: web}\n")
	k.ApplyYAML(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {mesh.causeway.dev/inject: enabled}}\n")
	harness.Eventually(t, 20*time.Second, "the CA in the other namespaces", func() error {
		for _, namespace := range []string{"self", "shop"} {
			if got, err := ca(namespace); err != nil || got != bundle {
				return fmt.Errorf("%s: %q: %w", namespace, got, err)
			}
		}
		return nil
	})

	// Renewed: who trusts what is published at a time is served at that time.
	secret, err := client.CoreV1().Secrets("causeway-system").Get(t.Context(), SecretName, metav1.GetOptions{})
	require.NoError(t, err)
	old := string(secret.Data["tls.crt"])
	for _, i := range []*Identity{leader, follower} {
		i.renewAt(2 * rotate.Lifetime)
	}
	harness.Eventually(t, 30*time.Second, "another certificate to be served", func() error {
		now, err := ca("shop")
		require.NoError(t, err)
		require.NoError(t, errors.Join(verified(first, now), verified(second, now)))
		if secret, err = client.CoreV1().Secrets("causeway-system").Get(t.Context(), SecretName, metav1.GetOptions{}); err != nil {
			return err
		}
		if string(secret.Data["tls.crt"]) == old {
			return errors.New("it is the same")
		}
		return nil
	})
	for _, i := range []*Identity{leader, follower} {
		i.renewAt(rotate.RenewBefore)
	}
	now, err := ca("self")
	require.NoError(t, err)
	require.NotEqual(t, bundle, now, "those who were published to are kept up to date")

	// With these rights it reads no ConfigMap of another name, and no Secret of another.
	limited := leader.client.CoreV1()
	_, err = limited.Secrets("causeway-system").Get(t.Context(), "causeway-xds-tls", metav1.GetOptions{})
	require.True(t, apierrors.IsForbidden(err), "%v", err)
	_, err = limited.Secrets("web").Get(t.Context(), SecretName, metav1.GetOptions{})
	require.True(t, apierrors.IsForbidden(err), "%v", err)
	m, err := client.CoreV1().ConfigMaps("plain").Get(t.Context(), "causeway-ca", metav1.GetOptions{})
	require.NoError(t, err)
	m.Name, m.ResourceVersion, m.UID = "other", "", ""
	_, err = client.CoreV1().ConfigMaps("plain").Create(t.Context(), m, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = limited.ConfigMaps("plain").Update(t.Context(), m, metav1.UpdateOptions{})
	require.True(t, apierrors.IsForbidden(err), "%v", err)
}

// renewAt changes when the next certificate is made.
func (i *Identity) renewAt(before time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.rotation.RenewBefore = before
}
