package main

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/file"
)

// served is a control plane that compiles a directory and answers the commands.
func served(t *testing.T, dir string) (s *serve, address string) {
	t.Helper()
	s, err := newServe(&serveOptions{config: dir, xdsListen: defaultXDSListen, adminListen: defaultAdminListen, logLevel: "error"})
	require.NoError(t, err)
	require.NoError(t, s.newObserver("", nil))
	_, err = file.Load(dir, s.catalog)
	require.NoError(t, err)
	done := make(chan struct{})
	ctx := t.Context()
	go func() {
		defer close(done)
		_ = s.engine.Run(ctx)
	}()
	t.Cleanup(func() { <-done })
	require.NoError(t, s.engine.Await(ctx, s.catalog.Read().Revision()))
	h := httptest.NewServer(s.adminHandler())
	t.Cleanup(h.Close)
	return s, strings.TrimPrefix(h.URL, "http://")
}

// commit writes rows and waits until they are compiled.
func (s *serve) commit(t *testing.T, change func(*catalog.Tx)) {
	t.Helper()
	_, err := s.catalog.Write(time.Time{}, func(tx *catalog.Tx) error { change(tx); return nil })
	require.NoError(t, err)
	require.NoError(t, s.engine.Await(t.Context(), s.catalog.Read().Revision()))
}

// What commands say of shares in a freeze is what proxies have, and a plan tells what goes out with its end.
func TestCommandsInAFreeze(t *testing.T) {
	before, after := explainedDir(t), explainedDir(t)
	write := func(dir, percent string) {
		text := strings.Replace(pinned, `pin: "30"`, `pin: "`+percent+`"`, 1)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "shift.yaml"), []byte(text), 0o600))
	}
	write(before, "30")
	write(after, "60")
	s, address := served(t, before)
	freeze := &discovery.Freeze{Scope: "test", Config: true, By: "sre@host", Since: time.Unix(1000, 0)}
	s.commit(t, func(tx *catalog.Tx) { catalog.Freezes.Put(tx, freeze) })
	_, err := file.Load(after, s.catalog)
	require.NoError(t, err)
	require.NoError(t, s.engine.Await(t.Context(), s.catalog.Read().Revision()))

	ask := func(args ...string) string {
		out, err := execute(t, append(args, "--admin", address)...)
		if err != nil {
			require.ErrorIs(t, err, errChanges)
		}
		return out
	}
	for name, out := range map[string]string{
		"explain object":  ask("explain", "object", "shift/cart", "-n", "web"),
		"explain request": ask("explain", "request", "--from", "web/cart", "GET", "http://cart/"),
		"endpoints":       ask("endpoints", "web/cart"),
		"diff":            ask("diff", after),
	} {
		require.Contains(t, out, "70%", name+"\n"+out)
	}
	out := ask("explain", "object", "shift/cart", "-n", "web")
	require.Contains(t, out, "frozen by sre@host")
	require.Contains(t, out, "held back by the freeze")
	require.NotContains(t, out, "the pods get 40%")
	require.Contains(t, ask("diff", after), "70% -> 40%")
	out = ask("diff", before)
	require.Contains(t, out, "no change")
	require.Contains(t, out, "frozen by sre@host")

	// Another one freezes too, and the first one lifts: the freeze is the same, its owner is not.
	other := *freeze
	other.By = "lead@host"
	s.commit(t, func(tx *catalog.Tx) { catalog.Freezes.Put(tx, &other) })
	require.Contains(t, ask("explain", "object", "shift/cart", "-n", "web"), "frozen by lead@host")

	s.commit(t, func(tx *catalog.Tx) { catalog.Freezes.Delete(tx, catalog.FreezeID) })
	require.Contains(t, ask("explain", "object", "shift/cart", "-n", "web"), "the pods get 40%")
	require.Contains(t, ask("diff", after), "no change")
}

// A certificate that broke goes on as it was: commands show the one that is served, and a plan that mends the
// Secret takes nothing away.
func TestCommandsShowLastGoodCertificate(t *testing.T) {
	p := newPair(t, "shop.example.com", "*.example.com")
	dir := edgeDir(t, p)
	s, address := served(t, dir)
	s.commit(t, func(tx *catalog.Tx) {
		o, ok := catalog.Objects.Get(tx.Reader, "Secret edge/shop")
		require.True(t, ok)
		broken := *o
		secret := o.Spec.(*corev1.Secret).DeepCopy()
		secret.Data[corev1.TLSPrivateKeyKey] = []byte("broken")
		broken.Spec = secret
		catalog.Objects.Put(tx, &broken)
	})
	out, err := execute(t, "explain", "object", "gateway/public", "-n", "edge", "--admin", address)
	require.NoError(t, err)
	require.Contains(t, out, "certificate edge/shop (sha256 "+p.fingerprint()+", the last good one, because the Secret is unusable: ")
	out, err = execute(t, "explain", "object", "secret/shop", "-n", "edge", "--admin", address)
	require.NoError(t, err)
	require.Contains(t, out, "certificate/edge/public/edge/shop", "it is served")

	out, err = execute(t, "diff", dir, "--admin", address)
	require.ErrorIs(t, err, errChanges, out)
	require.Contains(t, out, "sha256 "+p.fingerprint()+", the last good one")
	require.NotContains(t, out, "ListenerRemoved")
	require.NotContains(t, out, "LDS", "the listeners stay as they are")
	require.NotContains(t, out, "to add, 0 to change, 0 to remove (0 bytes)")
	noKey(t, "diff", []byte(out), p)
}
