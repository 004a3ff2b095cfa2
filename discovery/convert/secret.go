package convert

import (
	"bytes"

	corev1 "k8s.io/api/core/v1"
)

// tlsSecret returns what the mesh reads of a Secret: the certificate chain and
// the private key of one of type kubernetes.io/tls. It returns nil for one of
// another type. Nothing else of a Secret is kept, and what is kept is copied, so
// that the object it came in may go.
func tlsSecret(s *corev1.Secret) *corev1.Secret {
	if s.Type != corev1.SecretTypeTLS {
		return nil
	}
	out := &corev1.Secret{Type: s.Type, Data: make(map[string][]byte, 2)}
	for _, key := range []string{corev1.TLSCertKey, corev1.TLSPrivateKeyKey} {
		if value, ok := s.Data[key]; ok {
			out.Data[key] = bytes.Clone(value)
		}
	}
	return out
}
