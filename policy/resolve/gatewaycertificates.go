package resolve

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/policy/upstream"
)

// certificateReader reads the certificates of a Gateway's listeners, each
// Secret once. No message of it has anything of a Secret in it but names that
// the chain, which is public, is for.
type certificateReader struct {
	r    catalog.Reader
	m    *gatewayMeaning
	read map[string]*readCertificate
}

// readCertificates reads the certificates of all listeners of a Gateway.
func readCertificates(r catalog.Reader, m *gatewayMeaning) *certificateReader {
	c := &certificateReader{r: r, m: m, read: make(map[string]*readCertificate)}
	for i, l := range m.listeners {
		c.listener(l, &m.spec.Listeners[i])
	}
	return c
}

// renewalNotice is how long before its end a certificate is reported. Automatic
// renewal happens 30 days before, so by then something is wrong.
const renewalNotice = 14 * 24 * time.Hour

// Expirations returns a warning for every certificate in the Secrets of Gateways that
// is not valid at a time, or will not be for much longer. They are
// apart from Validate, whose findings change with objects only.
func Expirations(r catalog.Reader, now time.Time) []policy.Finding {
	var out []policy.Finding
	told := make(map[string]bool)
	for o := range catalog.Objects.By(r, catalog.ByKind, discovery.KindGateway) {
		m := readListeners(r, o)
		if m == nil {
			continue
		}
		c := readCertificates(r, m)
		for _, name := range slices.Sorted(maps.Keys(c.read)) {
			cert := c.read[name]
			if cert.leaf == nil || told[name] {
				continue
			}
			told[name] = true
			if message := expiration(cert.leaf, now); message != "" {
				out = append(out, policy.Finding{
					Severity: policy.Warning, Object: cert.Object, Field: "data[" + corev1.TLSCertKey + "]",
					Message: message, Remedy: "renew it: the gateways take it up at once",
				})
			}
		}
	}
	return out
}

// expiration tells what is wrong with the validity of a certificate, "" for
// nothing.
func expiration(leaf *x509.Certificate, now time.Time) string {
	switch {
	case now.Before(leaf.NotBefore):
		return "its certificate is not valid before " + leaf.NotBefore.UTC().Format(time.RFC3339)
	case now.After(leaf.NotAfter):
		return "its certificate has not been valid since " + leaf.NotAfter.UTC().Format(time.RFC3339)
	case now.Add(renewalNotice).After(leaf.NotAfter):
		return "its certificate is not valid after " + leaf.NotAfter.UTC().Format(time.RFC3339)
	}
	return ""
}

// readCertificate is a certificate with what its chain says.
type readCertificate struct {
	policy.Certificate
	// leaf is nil where files hold the chain, and for a failed one.
	leaf *x509.Certificate
	// warning about a chain that works nevertheless, "" for none.
	warning string
}

// list returns the certificates of the listeners that are in force, by name.
func (c *certificateReader) list() []policy.Certificate {
	var out []policy.Certificate
	for _, name := range slices.Sorted(maps.Keys(c.read)) {
		if slices.ContainsFunc(c.m.listeners, func(l *listenerMeaning) bool { return l.inForce() && slices.Contains(l.certificates, name) }) {
			out = append(out, c.read[name].Certificate)
		}
	}
	return out
}

// listener reads the certificates of a listener that terminates TLS.
func (c *certificateReader) listener(l *listenerMeaning, in *gatewayv1.Listener) {
	if !l.terminates {
		return
	}
	for i := range in.TLS.CertificateRefs {
		field := fmt.Sprintf(".tls.certificateRefs[%d]", i)
		cert := c.secret(l, field, &in.TLS.CertificateRefs[i])
		if cert == nil {
			continue
		}
		switch {
		case cert.Failed != "":
			c.invalid(l, field, cert.Failed, "correct the Secret; until then what was last known of it goes on")
		case cert.warning != "":
			c.m.find(l, policy.Warning, gatewayv1.ListenerConditionResolvedRefs, gatewayv1.ListenerReasonInvalidCertificateRef, field,
				fmt.Sprintf("Secret %s: %s", cert.Name, cert.warning), "correct the Secret")
		}
		c.add(l, cert)
	}
	if cert := c.files(l, in.TLS.Options); cert != nil {
		c.add(l, cert)
	}
	if len(in.TLS.CertificateRefs) == 0 && len(l.certificates) == 0 && !l.has(gatewayv1.ListenerConditionResolvedRefs) {
		c.invalid(l, ".tls.certificateRefs", "TLS that ends here needs a certificate", "name a Secret of type kubernetes.io/tls")
	}
	c.fits(l)
}

func (c *certificateReader) add(l *listenerMeaning, cert *readCertificate) {
	if !slices.Contains(l.certificates, cert.Name) {
		l.certificates = append(l.certificates, cert.Name)
	}
	l.certified = l.certified || cert.Failed == ""
}

// invalid notes why a certificate cannot be had.
func (c *certificateReader) invalid(l *listenerMeaning, field, message, remedy string) {
	c.m.find(l, policy.Error, gatewayv1.ListenerConditionResolvedRefs, gatewayv1.ListenerReasonInvalidCertificateRef, field, message, remedy)
}

// secret returns the certificate that a reference names, nil for one that the
// Gateway may not refer to or that cannot be a certificate.
func (c *certificateReader) secret(l *listenerMeaning, field string, ref *gatewayv1.SecretObjectReference) *readCertificate {
	group, kind := ptr.Deref(ref.Group, ""), ptr.Deref(ref.Kind, discovery.KindSecret)
	if group != "" || kind != discovery.KindSecret && kind != "" {
		c.invalid(l, field+".kind", fmt.Sprintf("kind %q of group %q holds no certificate", kind, group), "name a Secret of type kubernetes.io/tls")
		return nil
	}
	name := discovery.ObjectName{Kind: discovery.KindSecret, Key: discovery.Key{Namespace: c.m.object.Namespace, Name: string(ref.Name)}}
	if ref.Namespace != nil && *ref.Namespace != "" {
		name.Namespace = string(*ref.Namespace)
	}
	if name.Namespace != c.m.object.Namespace {
		if _, ok := upstream.GrantFor(c.r, c.m.object, "", name); !ok {
			c.m.find(l, policy.Error, gatewayv1.ListenerConditionResolvedRefs, gatewayv1.ListenerReasonRefNotPermitted, field,
				fmt.Sprintf("no ReferenceGrant of namespace %s lets Gateways of namespace %s refer to %s", name.Namespace, c.m.object.Namespace, name),
				fmt.Sprintf("have one created in namespace %s", name.Namespace))
			return nil
		}
	}
	cert, ok := c.read[name.Key.String()]
	if !ok {
		cert = c.load(name)
		c.read[cert.Name] = cert
	}
	return cert
}

// load reads a Secret.
func (c *certificateReader) load(name discovery.ObjectName) *readCertificate {
	cert := &readCertificate{Certificate: policy.Certificate{Name: name.Key.String(), Object: discovery.ObjectRef{Kind: name.Kind, Key: name.Key}}}
	o, ok := catalog.Objects.Get(c.r, name.String())
	if !ok {
		cert.Failed = fmt.Sprintf("there is no Secret %s of type kubernetes.io/tls", name.Key)
		return cert
	}
	cert.Object = o.Ref()
	secret, ok := o.Spec.(*corev1.Secret)
	switch {
	case o.Unreadable != "":
		cert.Failed = fmt.Sprintf("Secret %s: %s", name.Key, o.Unreadable)
	case !ok || secret.Type != corev1.SecretTypeTLS:
		cert.Failed = fmt.Sprintf("Secret %s is not of type kubernetes.io/tls", name.Key)
	default:
		// CheckCertificate says the same of a Secret alone.
		chain, key := secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey]
		var err error
		if cert.leaf, cert.warning, err = checkPair(chain, key); err != nil {
			cert.Failed = fmt.Sprintf("Secret %s: %v", name.Key, err)
			return cert
		}
		cert.Chain, cert.Key = chain, key
	}
	return cert
}

// files returns the certificate that a listener's options name, nil for none.
func (c *certificateReader) files(l *listenerMeaning, options map[gatewayv1.AnnotationKey]gatewayv1.AnnotationValue) *readCertificate {
	for _, option := range slices.Sorted(maps.Keys(options)) {
		if option != policy.CertificateFileOption && option != policy.KeyFileOption {
			c.m.find(l, policy.Warning, gatewayv1.ListenerConditionAccepted, gatewayv1.ListenerReasonUnsupportedValue, ".tls.options",
				fmt.Sprintf("option %q is not known and has no effect", option), "remove it; versions and cipher suites are a GatewayPolicy's")
		}
	}
	chain, key := string(options[policy.CertificateFileOption]), string(options[policy.KeyFileOption])
	if chain == "" && key == "" {
		return nil
	}
	wrong := false
	for _, file := range [2]struct{ option, path string }{{policy.CertificateFileOption, chain}, {policy.KeyFileOption, key}} {
		if !path.IsAbs(file.path) || path.Clean(file.path) != file.path || !policy.Printable(file.path) {
			wrong = true
			c.invalid(l, ".tls.options", fmt.Sprintf("%s: %q is not the path of a file", file.option, file.path),
				"give both options, each with an absolute path on the hosts of the gateway's proxies")
		}
	}
	if wrong {
		return nil
	}
	cert := &readCertificate{Certificate: policy.Certificate{Name: "file/" + l.name, Object: c.m.object.Ref(), ChainFile: chain, KeyFile: key}}
	c.read[cert.Name] = cert
	return cert
}

// fits warns of a listener without a certificate for its host name: clients
// reject the ones that it shows.
func (c *certificateReader) fits(l *listenerMeaning) {
	if l.hostname == "" {
		return
	}
	var names []string
	for _, name := range l.certificates {
		cert := c.read[name]
		if cert.leaf == nil || isFor(cert.leaf, l.hostname) {
			return // of files and of what failed nothing is known
		}
		names = append(names, cert.leaf.DNSNames...)
	}
	if len(l.certificates) == 0 {
		return
	}
	what := "have no DNS name"
	if len(names) > 0 {
		what = "are for " + phrase.Few(names)
	}
	c.m.find(l, policy.Warning, gatewayv1.ListenerConditionResolvedRefs, gatewayv1.ListenerReasonInvalidCertificateRef, ".tls.certificateRefs",
		fmt.Sprintf("no certificate is for %s: they %s", l.hostname, what), "name a Secret whose certificate has that name")
}

// isFor reports whether a certificate is for a host name, or for one at least of a wildcard's.
func isFor(leaf *x509.Certificate, hostname string) bool {
	if hostname[0] != '*' {
		return leaf.VerifyHostname(hostname) == nil
	}
	return slices.ContainsFunc(leaf.DNSNames, func(name string) bool { return covers(hostname, strings.ToLower(name)) })
}

// CheckCertificate returns why proxies cannot use the chain and the key of a
// Secret of type kubernetes.io/tls, nil if they can.
func CheckCertificate(s *corev1.Secret) error {
	_, _, err := checkPair(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey])
	return err
}

// checkPair checks that a chain and a key in PEM are what Envoy takes: it
// refuses a listener for a certificate that it cannot use. It returns the chain's
// first certificate, and a warning about what works but not for everybody.
func checkPair(chain, key []byte) (leaf *x509.Certificate, warning string, err error) {
	certificates, err := parseChain(chain)
	if err != nil {
		return nil, "", err
	}
	if err := checkKey(key); err != nil {
		return nil, "", err
	}
	// Its errors tell of PEM types and of algorithms, never of contents.
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, "", fmt.Errorf("%s and %s do not fit: %w", corev1.TLSCertKey, corev1.TLSPrivateKeyKey, err)
	}
	leaf = certificates[0]
	if err := checkAlgorithm(pair.PrivateKey); err != nil {
		return nil, "", err
	}
	for i, next := range certificates[1:] {
		if !bytes.Equal(certificates[i].RawIssuer, next.RawSubject) {
			return leaf, fmt.Sprintf("certificate %d of the chain did not issue the one before it, so that clients may not find their root", i+2), nil
		}
	}
	return leaf, "", nil
}

// parseChain returns the certificates of a chain, one at least.
func parseChain(chain []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for rest := chain; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			// A private key among them would be shown to everybody who may see the chain.
			return nil, fmt.Errorf("%s has a PEM block of type %q, which is no certificate", corev1.TLSCertKey, block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of %s: %w", len(out)+1, corev1.TLSCertKey, err)
		}
		out = append(out, cert)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s has no certificate in PEM", corev1.TLSCertKey)
	}
	return out, nil
}

// checkKey checks that there is one private key, and in the clear.
func checkKey(key []byte) error {
	keys := 0
	for rest := key; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch {
		case block.Type == "EC PARAMETERS": // OpenSSL writes them before the key
		case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["Proc-Type"] != "":
			return fmt.Errorf("%s is encrypted, and nothing knows its password", corev1.TLSPrivateKeyKey)
		case !strings.HasSuffix(block.Type, "PRIVATE KEY"):
			return fmt.Errorf("%s has a PEM block of type %q, which is no private key", corev1.TLSPrivateKeyKey, block.Type)
		default:
			keys++
		}
	}
	if keys != 1 {
		return fmt.Errorf("%s has %d private keys in PEM instead of one", corev1.TLSPrivateKeyKey, keys)
	}
	return nil
}

// minRSABits is the smallest RSA key that Envoy takes.
const minRSABits = 2048

// checkAlgorithm refuses keys that Envoy refuses, or that it takes and then cannot sign with.
func checkAlgorithm(key crypto.PrivateKey) error {
	switch key := key.(type) {
	case *rsa.PrivateKey:
		if bits := key.N.BitLen(); bits < minRSABits {
			return fmt.Errorf("its RSA key has %d bits, and Envoy takes none with less than %d", bits, minRSABits)
		}
		return nil
	case *ecdsa.PrivateKey:
		if curve := key.Curve.Params().Name; curve != "P-256" && curve != "P-384" && curve != "P-521" {
			return fmt.Errorf("its key is on curve %s, and Envoy takes P-256, P-384 and P-521", curve)
		}
		return nil
	}
	return fmt.Errorf("its key is neither RSA nor ECDSA, which is all that Envoy signs with")
}
