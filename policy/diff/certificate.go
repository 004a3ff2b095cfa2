package diff

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
)

// FingerprintKey is the key of a Secret's data that has the fingerprint of its
// certificate where a pair stands in for one whose private key was withheld.
const FingerprintKey = "leaf.sha256"

// Fingerprint returns the SHA-256 of a Secret's certificate, the first of its
// chain, in hexadecimal digits, "" for one that has none. The key has no part in it.
func Fingerprint(s *corev1.Secret) string {
	if f, ok := s.Data[FingerprintKey]; ok {
		return string(f)
	}
	return fingerprint(s.Data[corev1.TLSCertKey])
}

func fingerprint(chain []byte) string {
	block, _ := pem.Decode(chain)
	if block == nil || block.Type != "CERTIFICATE" {
		return ""
	}
	sum := sha256.Sum256(block.Bytes)
	return hex.EncodeToString(sum[:])
}

// CertificateText identifies a certificate without its key: by its fingerprint,
// by its files, or by the reason why there is none.
func CertificateText(r catalog.Reader, c *policy.Certificate) string {
	switch {
	case c.ChainFile != "":
		return "files " + c.ChainFile + " and " + c.KeyFile + " of the proxies' hosts"
	case c.Failed != "" && len(c.Chain) > 0:
		return fmt.Sprintf("sha256 %s, the last good one, because the Secret is unusable: %s", fingerprint(c.Chain), c.Failed)
	case c.Failed != "":
		return "unusable: " + c.Failed
	}
	if o, ok := catalog.Objects.Get(r, "Secret "+c.Object.Key.String()); ok {
		if s, ok := o.Spec.(*corev1.Secret); ok {
			return "sha256 " + Fingerprint(s)
		}
	}
	return "unknown"
}
