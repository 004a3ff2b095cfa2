package credentials

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/policy/clients"
	"github.com/causeway-mesh/causeway/test/harness"
)

// Rules are read again when they change. Broken ones leave those before in
// force, are reported once, and are tried until they load.
func TestClientRulesReload(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rules.yaml")
	stamp := time.Now()
	write := func(text string) {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		require.NoError(t, os.Chtimes(file, stamp, stamp)) // as rsync -t and cp -p do
	}
	var log bytes.Buffer
	admits := func(l *Rules, name string) bool {
		_, err := l.current.Load().Identity(&clients.Names{DNS: []string{name}}, "sidecar", "web")
		return err == nil
	}
	write("clients: [{dns: a, namespaces: [web]}]")
	l, err := newRules(&Options{Files: Files{Rules: file}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	require.False(t, l.look())
	write("clients: [{dns: b, namespaces: [web]}]")
	require.True(t, l.look())
	require.True(t, admits(l, "b") && !admits(l, "a"))
	write("clients: [{dns: c")
	require.False(t, l.look())
	require.False(t, l.look())
	require.Equal(t, 1, bytes.Count(log.Bytes(), []byte("not usable")), log.String())
	require.True(t, admits(l, "b"))
	write("clients: [{name: c, namespaces: [web]}]")
	require.True(t, l.look())
	require.True(t, admits(l, "c"))
	require.Contains(t, log.String(), `write="dns: c, or commonName: c`)
}

// Certificates are used as soon as their files are whole, whatever the time stamps.
func TestCertificatesReload(t *testing.T) {
	dir := t.TempDir()
	ca := harness.NewAuthority(t, "ca")
	caFile := filepath.Join(dir, "ca.crt")
	require.NoError(t, os.WriteFile(caFile, ca.CertPEM, 0o600))
	issue := func(name string) (cert, key string) {
		return ca.Issue(t, harness.CertificateOptions{Name: name, Hosts: []string{name}}).Write(t, dir, "server")
	}
	cert, key := issue("one")
	var log bytes.Buffer
	c, err := newCertificates(&Options{Files: Files{Cert: cert, Key: key, CA: caFile}, Log: slog.New(slog.NewTextHandler(&log, nil)), Registry: prometheus.NewRegistry()})
	require.NoError(t, err)
	name := func() string { return c.current.Load().Certificates[0].Leaf.DNSNames[0] }
	stamp := time.Now()
	freeze := func() {
		for _, f := range []string{cert, key, caFile} {
			require.NoError(t, os.Chtimes(f, stamp, stamp))
		}
	}
	freeze()
	c.look()

	oldKey, err := os.ReadFile(key)
	require.NoError(t, err)
	issue("two")
	newKey, err := os.ReadFile(key)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(key, oldKey, 0o600)) // the key comes later than the certificate
	freeze()
	c.look()
	c.look()
	require.Equal(t, "one", name())
	require.Equal(t, 1, bytes.Count(log.Bytes(), []byte("not usable")), log.String())
	require.NoError(t, os.WriteFile(key, newKey, 0o600))
	freeze()
	c.look()
	require.Equal(t, "two", name())

	// A file that is away for a moment is no reason to look no more.
	require.NoError(t, os.Rename(caFile, caFile+".away"))
	issue("three")
	c.look()
	require.Equal(t, "two", name())
	require.NoError(t, os.Rename(caFile+".away", caFile))
	c.look()
	require.Equal(t, "three", name())

	// One that has expired does not take the place of one that is valid.
	ca.Issue(t, harness.CertificateOptions{Name: "four", Hosts: []string{"four"}, Lifetime: -time.Hour}).Write(t, dir, "server")
	c.look()
	require.Equal(t, "three", name())
	require.Contains(t, log.String(), "expired at")
}
