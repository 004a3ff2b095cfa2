package resolve

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/convert"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/effective"
)

// tlsPair returns a certificate for host names, and its key, as a Secret has them.
func tlsPair(tb testing.TB, names ...string) map[string][]byte {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(tb, err)
	return selfSigned(tb, key, names...)
}

func selfSigned(tb testing.TB, key crypto.Signer, names ...string) map[string][]byte {
	tb.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: strings.Join(names, " ")}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(tb, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(tb, err)
	return map[string][]byte{
		corev1.TLSCertKey:       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		corev1.TLSPrivateKeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}),
	}
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestCheckPair(t *testing.T) {
	const crt, key = corev1.TLSCertKey, corev1.TLSPrivateKeyKey
	good, other := tlsPair(t, "a.com"), tlsPair(t, "b.com")
	signer := func(k crypto.Signer, err error) map[string][]byte {
		require.NoError(t, err)
		return selfSigned(t, k, "a.com")
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // too small on purpose
	require.NoError(t, err)
	large, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	curve, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	require.NoError(t, err)
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	weak, strong, p224, ed := signer(small, nil), signer(large, nil), signer(curve, nil), signer(edwards, nil)
	block := func(kind string) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte("secret")}) }
	for _, c := range []struct {
		name, failed, warning string
		chain, key            []byte
	}{
		{name: "good", chain: good[crt], key: good[key]},
		{name: "RSA", chain: strong[crt], key: strong[key]},
		{name: "text around", chain: join([]byte("subject=a.com\n"), good[crt]), key: join(block("EC PARAMETERS"), good[key])},
		{name: "chain out of order", chain: join(good[crt], other[crt]), key: good[key], warning: "certificate 2 of the chain did not issue the one before it"},
		{name: "another key", chain: good[crt], key: other[key], failed: "tls.crt and tls.key do not fit"},
		{name: "empty", failed: "tls.crt has no certificate in PEM"},
		{name: "no PEM", chain: []byte("secret"), key: good[key], failed: "tls.crt has no certificate in PEM"},
		{name: "no certificate", chain: block("CERTIFICATE"), key: good[key], failed: "certificate 1 of tls.crt: x509"},
		{name: "key among the chain", chain: join(good[crt], good[key]), key: good[key], failed: `a PEM block of type "PRIVATE KEY", which is no certificate`},
		{name: "chain among the keys", chain: good[crt], key: join(good[crt], good[key]), failed: `a PEM block of type "CERTIFICATE", which is no private key`},
		{name: "no key", chain: good[crt], failed: "tls.key has 0 private keys"},
		{name: "two keys", chain: good[crt], key: join(good[key], other[key]), failed: "tls.key has 2 private keys"},
		{name: "encrypted", chain: good[crt], key: block("ENCRYPTED PRIVATE KEY"), failed: "tls.key is encrypted"},
		{name: "broken key", chain: good[crt], key: block("PRIVATE KEY"), failed: "do not fit"},
		{name: "small", chain: weak[crt], key: weak[key], failed: "1024 bits"},
		{name: "P-224", chain: p224[crt], key: p224[key], failed: "P-224"},
		{name: "Ed25519", chain: ed[crt], key: ed[key], failed: "neither RSA nor ECDSA"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, warning, err := checkPair(c.chain, c.key)
			if c.failed != "" {
				require.ErrorContains(t, err, c.failed)
				require.NotContains(t, err.Error(), "secret", "a message tells what the Secret holds")
				return
			}
			require.NoError(t, err)
			require.Contains(t, warning, c.warning)
			require.Equal(t, c.warning == "", warning == "")
		})
	}
}

// httpsGateway returns a Gateway of namespace web with an HTTPS listener for a host name.
func httpsGateway(host string, options map[gatewayv1.AnnotationKey]gatewayv1.AnnotationValue, refs ...gatewayv1.SecretObjectReference) *discovery.Object {
	g := &gatewayv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "edge"}}
	g.Spec.GatewayClassName = effective.DefaultGatewayClass
	g.Spec.Listeners = []gatewayv1.Listener{{
		Name: "https", Port: 443, Protocol: gatewayv1.HTTPSProtocolType, Hostname: new(gatewayv1.Hostname(host)),
		TLS: &gatewayv1.ListenerTLSConfig{CertificateRefs: refs, Options: options},
	}}
	return convert.Object(g, "test")
}

func secretRow(name string, data map[string][]byte) *discovery.Object {
	namespace, name, _ := strings.Cut(name, "/")
	return convert.Object(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Generation: 1}, Type: corev1.SecretTypeTLS, Data: data}, "test")
}

func secretRef(name string) gatewayv1.SecretObjectReference {
	namespace, name, _ := strings.Cut(name, "/")
	return gatewayv1.SecretObjectReference{Namespace: new(gatewayv1.Namespace(namespace)), Name: gatewayv1.ObjectName(name)}
}

func TestCertificatesOfListeners(t *testing.T) {
	type options = map[gatewayv1.AnnotationKey]gatewayv1.AnnotationValue
	refs := func(names ...string) []gatewayv1.SecretObjectReference {
		var out []gatewayv1.SecretObjectReference
		for _, name := range names {
			out = append(out, secretRef(name))
		}
		return out
	}
	grant := &discovery.Object{Scope: "test", Kind: "ReferenceGrant", Key: discovery.Key{Namespace: "certs", Name: "g"}, Spec: &gatewayv1.ReferenceGrant{
		Spec: gatewayv1.ReferenceGrantSpec{
			From: []gatewayv1.ReferenceGrantFrom{{Group: gatewayv1.GroupName, Kind: discovery.KindGateway, Namespace: "web"}},
			To:   []gatewayv1.ReferenceGrantTo{{Kind: discovery.KindSecret, Name: new(gatewayv1.ObjectName("shared"))}},
		},
	}}
	unreadable := &discovery.Object{Scope: "test", Kind: discovery.KindSecret, Key: discovery.Key{Namespace: "web", Name: "hidden"}, Unreadable: "it may not be read: apply the Role"}
	broken := tlsPair(t, "a.com")
	broken[corev1.TLSPrivateKeyKey] = tlsPair(t)[corev1.TLSPrivateKeyKey]
	in := []*discovery.Object{
		grant, unreadable, secretRow("web/a", tlsPair(t, "a.com")), secretRow("web/b", tlsPair(t, "b.com")), secretRow("web/wild", tlsPair(t, "*.a.com")),
		secretRow("web/broken", broken), secretRow("certs/shared", tlsPair(t, "a.com")), secretRow("certs/own", tlsPair(t, "a.com")),
	}
	for _, c := range []struct {
		name, host string
		options    options
		refs       []gatewayv1.SecretObjectReference
		want       string // certificates, "!" before those that failed
		findings   []string
	}{
		{name: "one", host: "a.com", refs: refs("web/a"), want: "web/a"},
		{name: "several", host: "a.com", refs: refs("web/b", "web/a", "web/b"), want: "web/a web/b"},
		{name: "wildcard", host: "*.a.com", refs: refs("web/wild"), want: "web/wild"},
		{name: "of a wildcard", host: "x.a.com", refs: refs("web/wild"), want: "web/wild"},
		{name: "not for the name", host: "a.com", refs: refs("web/b", "web/wild"), want: "web/b web/wild", findings: []string{"warning InvalidCertificateRef no certificate is for a.com: they are for b.com, *.a.com"}},
		{name: "granted", host: "a.com", refs: refs("certs/shared"), want: "certs/shared"},
		{name: "not granted", host: "a.com", refs: refs("certs/own"), findings: []string{"error RefNotPermitted no ReferenceGrant of namespace certs lets Gateways of namespace web refer to Secret certs/own"}},
		{name: "one of two granted", host: "a.com", refs: refs("certs/own", "web/a"), want: "web/a", findings: []string{"error RefNotPermitted"}},
		{name: "missing", host: "a.com", refs: refs("web/gone"), want: "!web/gone", findings: []string{"error InvalidCertificateRef there is no Secret web/gone"}},
		{name: "broken", host: "a.com", refs: refs("web/broken"), want: "!web/broken", findings: []string{"error InvalidCertificateRef Secret web/broken: tls.crt and tls.key do not fit"}},
		{name: "unreadable", host: "a.com", refs: refs("web/hidden"), want: "!web/hidden", findings: []string{"error InvalidCertificateRef Secret web/hidden: it may not be read"}},
		{name: "another kind", host: "a.com", refs: []gatewayv1.SecretObjectReference{{Kind: new(gatewayv1.Kind("ConfigMap")), Name: "a"}}, findings: []string{`error InvalidCertificateRef kind "ConfigMap" of group "" holds no certificate`}},
		{name: "none", host: "a.com", findings: []string{"error InvalidCertificateRef TLS that ends here needs a certificate"}},
		{name: "files", host: "a.com", options: options{policy.CertificateFileOption: "/etc/tls/a.crt", policy.KeyFileOption: "/etc/tls/a.key"}, want: "file/https"},
		{name: "files and Secrets", host: "a.com", refs: refs("web/b"), options: options{policy.CertificateFileOption: "/etc/tls/a.crt", policy.KeyFileOption: "/etc/tls/a.key"}, want: "file/https web/b"},
		{name: "half of files", host: "a.com", options: options{policy.CertificateFileOption: "/etc/tls/a.crt"}, findings: []string{"error InvalidCertificateRef mesh.causeway.dev/private-key-file"}},
		{name: "relative files", host: "a.com", options: options{policy.CertificateFileOption: "a.crt", policy.KeyFileOption: "/etc/../a.key"}, findings: []string{"error InvalidCertificateRef mesh.causeway.dev/certificate-file", "error InvalidCertificateRef mesh.causeway.dev/private-key-file"}},
		{name: "unknown option", host: "a.com", refs: refs("web/a"), options: options{"example.com/ciphers": "x"}, want: "web/a", findings: []string{`warning UnsupportedValue option "example.com/ciphers" is not known`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			gateway := httpsGateway(c.host, c.options, c.refs...)
			r := (&routeRows{objects: append([]*discovery.Object{gateway}, in...)}).reader(t)
			m := readGateway(r, gateway)
			var got []string
			usable := false
			for i := range m.certificates {
				cert := &m.certificates[i]
				if cert.Failed != "" {
					got = append(got, "!"+cert.Name)
					require.Nil(t, cert.Key)
					continue
				}
				usable = true
				got = append(got, cert.Name)
			}
			require.Equal(t, c.want, strings.Join(got, " "))
			l := m.listeners[0]
			require.Equal(t, usable, l.certified)
			require.Equal(t, c.want != "", l.inForce())
			require.Equal(t, c.want != "", BuildGateway(r, gateway.Key) != nil)
			require.Len(t, l.findings, len(c.findings))
			for i, want := range c.findings {
				f := l.findings[i]
				require.Contains(t, fmt.Sprintf("%s %s %s", f.Severity, f.Reason, f.Message), want)
				require.NotEmpty(t, f.Remedy)
				require.True(t, strings.HasPrefix(f.Field, "spec.listeners[0].tls."), f.Field)
			}
		})
	}
}

func TestExpirations(t *testing.T) {
	gateway := httpsGateway("a.com", nil, secretRef("web/a"), secretRef("web/gone"))
	again := *gateway
	again.Key.Name = "twice"
	r := (&routeRows{objects: []*discovery.Object{gateway, &again, secretRow("web/a", tlsPair(t, "a.com")), secretRow("web/unused", tlsPair(t, "a.com"))}}).reader(t)
	for days, want := range map[int]string{-1: "is not valid before", 0: "is not valid after", 1: "has not been valid since"} {
		found := Expirations(r, time.Now().AddDate(0, 0, days))
		require.Len(t, found, 1)
		require.Equal(t, "Secret web/a", found[0].Object.String())
		require.Contains(t, found[0].Message, want)
	}
	require.Empty(t, expiration(&x509.Certificate{NotAfter: time.Now().AddDate(0, 1, 0)}, time.Now()))
}

// A grant decides about Secrets of its namespace that Gateways of others name.
func TestGrantsOfSecretsTouchGateways(t *testing.T) {
	gateway := httpsGateway("a.com", nil, secretRef("certs/shared"))
	r := (&routeRows{objects: []*discovery.Object{gateway}}).reader(t)
	for namespace, want := range map[string]bool{"certs": true, "web": false, "other": false} {
		grant := &discovery.Object{Kind: "ReferenceGrant", Key: discovery.Key{Namespace: namespace, Name: "g"}, Spec: &gatewayv1.ReferenceGrant{}}
		touched := false
		Touched(r, nil, grant, func(u policy.Unit) { touched = touched || u == policy.GatewayUnit(gateway.Key) })
		require.Equal(t, want, touched, namespace)
	}
}
