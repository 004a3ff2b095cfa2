package authority

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/xds/identity"
)

func request(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	require.NoError(t, err)
	return der
}

func newAuthority(store Store, domain *string) *Authority {
	return New(Options{Store: store, Domain: func() string { return *domain }, Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry()})
}

// broken is a store that does not answer while it is told so.
type broken struct {
	Store
	err error
}

func (b *broken) Root(ctx context.Context, create func() ([]byte, error)) ([]byte, error) {
	if b.err != nil {
		return nil, b.err
	}
	return b.Store.Root(ctx, create)
}

func TestAuthority(t *testing.T) {
	domain := "cluster.local"
	file := File{filepath.Join(t.TempDir(), "root.pem")}
	store := &broken{Store: file, err: errors.New("the API server does not answer")}
	a := newAuthority(store, &domain)
	require.ErrorContains(t, a.look(t.Context()), "does not answer")
	_, err := a.Issue("web", "php", request(t))
	require.ErrorIs(t, err, ErrAway)
	store.err = nil
	require.NoError(t, a.look(t.Context()))
	svid, err := a.Issue("web", "php", request(t))
	require.NoError(t, err)
	require.Equal(t, "spiffe://cluster.local/ns/web/sa/php", svid.ID.String())
	info, err := os.Stat(file.Path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	// Another replica and one that starts again have the same root and an intermediate of their own.
	other := newAuthority(file, &domain)
	require.NoError(t, other.look(t.Context()))
	svid2, err := other.Issue("web", "php", request(t))
	require.NoError(t, err)
	require.Equal(t, svid.Bundle, svid2.Bundle)
	require.NotEqual(t, svid.Chain[1], svid2.Chain[1])

	// A root that cannot be read stops nothing before the intermediate expires.
	store.err = errors.New("gone")
	a.now = func() time.Time { return time.Now().Add(identity.IntermediateLifetime - time.Hour) }
	require.Error(t, a.look(t.Context()))
	_, err = a.Issue("web", "php", request(t))
	require.NoError(t, err)
	a.now = func() time.Time { return time.Now().Add(identity.IntermediateLifetime + time.Hour) }
	_, err = a.Issue("web", "php", request(t))
	require.ErrorIs(t, err, ErrAway)
	a.now, store.err = time.Now, nil

	// Half its time later there is another intermediate, before that none.
	before := a.issuer.Load()
	require.NoError(t, a.look(t.Context()))
	require.Same(t, before, a.issuer.Load())
	a.now = func() time.Time { return time.Now().Add(identity.IntermediateLifetime/2 + time.Hour) }
	require.NoError(t, a.look(t.Context()))
	require.NotSame(t, before, a.issuer.Load())

	domain = "mesh.example.com"
	require.NoError(t, a.look(t.Context()))
	svid, err = a.Issue("web", "php", request(t))
	require.NoError(t, err)
	require.Equal(t, "spiffe://mesh.example.com/ns/web/sa/php", svid.ID.String())

	_, err = a.Issue("web", "php", []byte("x"))
	require.Error(t, err)
	require.InDelta(t, 1, testutil.ToFloat64(a.issued.WithLabelValues(identity.Malformed)), 0)
	require.InDelta(t, 3, testutil.ToFloat64(a.issued.WithLabelValues(issued)), 0)

	// A root that is gone is not replaced by one that nobody trusts.
	require.NoError(t, os.Remove(file.Path))
	require.ErrorContains(t, a.look(t.Context()), "put it back from a backup")
	require.NoFileExists(t, file.Path)

	// What cannot be used is never replaced.
	require.NoError(t, os.WriteFile(file.Path, []byte("spoiled"), 0o600))
	require.ErrorContains(t, a.look(t.Context()), "no certificate and key of a root")
	text, err := os.ReadFile(file.Path)
	require.NoError(t, err)
	require.Equal(t, "spoiled", string(text))
	domain = "Not A Domain"
	require.ErrorContains(t, a.look(t.Context()), "spec.trust.domain of the Mesh")
}

func TestLimits(t *testing.T) {
	var l limits
	now := time.Now()
	for range atOnce {
		require.True(t, l.allow("pod", now))
	}
	require.False(t, l.allow("pod", now))
	require.True(t, l.allow("another", now))
	require.True(t, l.allow("pod", now.Add(again)))
	for i := range maxLimits {
		l.allow(strconv.Itoa(i), now)
	}
	require.True(t, l.allow("late", now.Add(2*atOnce*again)))
	require.Len(t, l.of, 1, "who asks no more is forgotten")
}
