package objects

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/causeway-mesh/causeway/discovery/convert"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// decodeSecret reads a Secret, which is a row only if it is of type
// kubernetes.io/tls. Whatever is wrong with one, no message has a value of it:
// messages are logged.
func decodeSecret(data []byte, scope string, into *Rows) []v1alpha1.FieldError {
	var s corev1.Secret
	rest, errs := decodeStrict(data, &s)
	for i := range errs {
		if field := errs[i].Field; strings.HasPrefix(field, "data.") {
			errs[i].Message, errs[i].Remedy = "it is not base64", "encode the text, or write it under stringData as it is"
		}
	}
	if len(s.StringData) > 0 && s.Data == nil {
		s.Data = make(map[string][]byte, len(s.StringData))
	}
	for key, text := range s.StringData {
		s.Data[key] = []byte(text)
	}
	errs = together(rest, errs, append(checkNames(DefaultNamespace, &s.ObjectMeta, validation.IsDNS1123Subdomain), checkSecret(&s)...))
	if row := convert.Object(&s, scope); len(errs) == 0 && row != nil {
		into.Objects = append(into.Objects, row)
	}
	return errs
}

// checkSecret returns the mistakes in the parts of a Secret that the mesh
// reads, as an API server finds them. It does not look at the content of the
// keys.
func checkSecret(s *corev1.Secret) []v1alpha1.FieldError {
	if s.Type != corev1.SecretTypeTLS {
		return nil
	}
	var out []v1alpha1.FieldError
	for _, key := range []string{corev1.TLSCertKey, corev1.TLSPrivateKeyKey} {
		if _, ok := s.Data[key]; !ok {
			out = append(out, v1alpha1.FieldError{
				Field: "data." + key, Message: "it is missing, which type " + string(s.Type) + " must have", Remedy: "write it in PEM, under data or stringData",
			})
		}
	}
	size := 0
	for _, value := range s.Data {
		size += len(value)
	}
	if size > corev1.MaxSecretSize {
		out = append(out, v1alpha1.FieldError{
			Field: "data", Message: fmt.Sprintf("it has more than %d bytes", corev1.MaxSecretSize), Remedy: "leave out what is no certificate or key",
		})
	}
	return out
}
