package convert

import (
	"bytes"

	corev1 "k8s.io/api/core/v1"
)

// tlsSecret returns the part of a Secret that the mesh reads: the certificate
// chain and the private key of type kubernetes.io/tls. It returns nil for
// another type. It keeps nothing else, and copies what it keeps, so that the
// original can be freed.
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
