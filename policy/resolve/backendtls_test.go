package resolve

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// certificate returns a CA's certificate and its key in PEM.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	require.NoError(t, err)
	secret, err := x509.MarshalECPrivateKey(k)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret}))
}

// backendTLS is the row of a BackendTLSPolicy of namespace web about Services,
// or ports of them as "name#port".
func backendTLS(name string, created int, v gatewayv1.BackendTLSPolicyValidation, services ...string) *discovery.Object {
	p := &gatewayv1.BackendTLSPolicy{}
	p.Spec.Validation = v
	o := &discovery.Object{
		Scope: "test", Kind: discovery.KindBackendTLSPolicy, Key: discovery.Key{Namespace: "web", Name: name}, Generation: 5, Created: day(created), Spec: p,
	}
	for _, s := range services {
		service, port, ok := strings.Cut(s, "#")
		ref := gatewayv1.LocalPolicyTargetReferenceWithSectionName{}
		ref.Kind, ref.Name = discovery.KindService, gatewayv1.ObjectName(service)
		if ok {
			section := gatewayv1.SectionName(port)
			ref.SectionName = &section
		}
		p.Spec.TargetRefs = append(p.Spec.TargetRefs, ref)
		o.Refs = append(o.Refs, discovery.ObjectName{Kind: discovery.KindService, Key: discovery.Key{Namespace: "web", Name: service}})
	}
	return o
}

// by returns a validation of a name by CAs in ConfigMaps, or by the system's.
func by(hostname string, configMaps ...string) gatewayv1.BackendTLSPolicyValidation {
	v := gatewayv1.BackendTLSPolicyValidation{Hostname: gatewayv1.PreciseHostname(hostname)}
	for _, name := range configMaps {
		v.CACertificateRefs = append(v.CACertificateRefs, gatewayv1.LocalObjectReference{Kind: discovery.KindConfigMap, Name: gatewayv1.ObjectName(name)})
	}
	if len(configMaps) == 0 {
		system := gatewayv1.WellKnownCACertificatesSystem
		v.WellKnownCACertificates = &system
	}
	return v
}

func TestTLSByPrecedence(t *testing.T) {
	ca, key := certificate(t)
	base := rows{
		services: []*discovery.Service{service(http80, discovery.ServicePort{Name: "admin", Port: 81})},
		groups:   []*discovery.InstanceGroup{group("ec2", maps8080)},
	}
	tlsTo := func(sni string) v1alpha1.TrafficSettings {
		return v1alpha1.TrafficSettings{TLS: &v1alpha1.UpstreamTLS{SNI: sni}}
	}
	m := BuildService(base.with(t,
		configMap("ca", "a comment\n"+ca+key),
		traffic("old", 1, tlsTo("old.example"), "Service/php-web"),
		traffic("ec2", 9, tlsTo("ec2.example"), "InstanceGroup/ec2"),
		backendTLS("whole", 3, by("whole.example", "ca"), "php-web"),
		backendTLS("late", 4, by("late.example"), "php-web"),
		backendTLS("admin", 5, by("admin.example"), "php-web#admin"),
	), web)
	http, admin := m.Ports[0], m.Ports[1]
	require.Equal(t, &policy.TLS{SNI: "whole.example", Names: []policy.SubjectAltName{{Value: "whole.example"}}, CAs: ca}, http.TLS, "the certificates alone")
	require.Equal(t, http.TLS, http.Backings[0].TLS)
	require.Equal(t, "ec2.example", http.Backings[1].TLS.SNI)
	require.Equal(t, "admin.example", admin.TLS.SNI)
	require.Equal(t, "whole", http.Backings[0].Settings.From["tls"].Name)
	require.Nil(t, http.Backings[0].Settings.Stated.TLS)
	require.Equal(t, []string{
		"Service web/php-web", "InstanceGroup web/ec2", "BackendTLSPolicy web/admin", "BackendTLSPolicy web/whole",
		"ConfigMap web/ca", "TrafficPolicy web/ec2",
	}, refNames(m.Provenance))

	m = BuildService(base.with(t, traffic("old", 1, tlsTo("old.example"), "Service/php-web")), web)
	require.Equal(t, "old.example", m.Ports[0].TLS.SNI)
	require.Nil(t, BuildService(base.with(t), web).Ports[0].TLS)
}

// Whatever is wrong with TLS, requests fail: nothing goes in the clear.
func TestTLSFails(t *testing.T) {
	ca, _ := certificate(t)
	broken := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("nonsense")}))
	other := gatewayv1.WellKnownCACertificatesType("example.com/mine")
	both := by("a.example", "ca")
	both.WellKnownCACertificates = &other
	mine := by("a.example")
	mine.WellKnownCACertificates = &other
	secret := by("a.example", "ca")
	secret.CACertificateRefs[0].Kind = "Secret"
	uri := by("a.example")
	uri.SubjectAltNames = []gatewayv1.SubjectAltName{{Type: gatewayv1.URISubjectAltNameType, URI: "nonsense"}}
	maps := []*discovery.Object{configMap("ca", ca), configMap("broken", broken), configMap("empty", "nothing here")}
	for name, tc := range map[string]struct {
		validation         gatewayv1.BackendTLSPolicyValidation
		fails              bool
		accepted, resolved string
	}{
		"right":                   {by("a.example", "ca"), false, "Accepted", "ResolvedRefs"},
		"the system's":            {by("a.example"), false, "Accepted", "ResolvedRefs"},
		"no such ConfigMap":       {by("a.example", "none"), true, "NoValidCACertificate", "InvalidCACertificateRef"},
		"no certificate in it":    {by("a.example", "empty"), true, "NoValidCACertificate", "InvalidCACertificateRef"},
		"one that cannot be read": {by("a.example", "broken"), true, "NoValidCACertificate", "InvalidCACertificateRef"},
		"one of two":              {by("a.example", "none", "ca"), false, "Accepted", "InvalidCACertificateRef"},
		"a Secret":                {secret, true, "NoValidCACertificate", "InvalidKind"},
		"both kinds of CAs":       {both, true, "Invalid", "ResolvedRefs"},
		"neither":                 {gatewayv1.BackendTLSPolicyValidation{Hostname: "a.example"}, true, "Invalid", "ResolvedRefs"},
		"CAs that nobody knows":   {mine, true, "Invalid", "ResolvedRefs"},
		"no name":                 {by(""), true, "Invalid", "ResolvedRefs"},
		"not a URI":               {uri, true, "Invalid", "ResolvedRefs"},
	} {
		t.Run(name, func(t *testing.T) {
			o := backendTLS("p", 1, tc.validation, "php-web")
			r := rows{services: []*discovery.Service{service(http80)}}.with(t, append(maps, o)...)
			got := BuildService(r, web).Ports[0].TLS
			require.NotNil(t, got)
			require.Equal(t, tc.fails, got.Failed != "", got.Failed)
			s, ok := StatusOf(r, o)
			require.True(t, ok)
			require.Len(t, s.Ancestors, 1)
			a := s.Ancestors[0]
			require.Equal(t, "Service web/php-web", string(*a.AncestorRef.Kind)+" "+string(*a.AncestorRef.Namespace)+"/"+string(a.AncestorRef.Name))
			require.EqualValues(t, v1alpha1.ControllerName, a.ControllerName)
			require.Equal(t, []string{tc.accepted, tc.resolved}, []string{a.Conditions[0].Reason, a.Conditions[1].Reason})
			require.Equal(t, int64(5), a.Conditions[0].ObservedGeneration)
		})
	}
	for name, s := range map[string]v1alpha1.UpstreamTLS{
		"no name":           {},
		"not a name":        {SNI: "a b"},
		"no such ConfigMap": {SNI: "a.example", CACertificateRef: &v1alpha1.LocalName{Name: "none"}},
	} {
		o := traffic("p", 1, v1alpha1.TrafficSettings{TLS: &s}, "Service/php-web")
		got := BuildService(rows{services: []*discovery.Service{service(http80)}}.with(t, append(maps, o)...), web).Ports[0].TLS
		require.NotNil(t, got, name)
		require.NotEmpty(t, got.Failed, name)
	}
}

func TestBackendTLSTargets(t *testing.T) {
	base := rows{services: []*discovery.Service{service(http80)}}
	first := backendTLS("first", 1, by("a.example"), "php-web")
	second := backendTLS("second", 2, by("b.example"), "php-web", "php-web#http", "none", "php-web#none")
	foreign := backendTLS("foreign", 3, by("c.example"), "php-web")
	foreign.Spec.(*gatewayv1.BackendTLSPolicy).Spec.TargetRefs[0].Group = "example.com"
	ours := backendTLS("ours", 4, by("c.example"), "api")
	ours.Spec.(*gatewayv1.BackendTLSPolicy).Spec.TargetRefs[0].Group = v1alpha1.Group
	ours.Spec.(*gatewayv1.BackendTLSPolicy).Spec.TargetRefs[0].Kind = discovery.KindExternalService
	r := base.with(t, first, second, foreign, ours)
	reasons := func(o *discovery.Object) []string {
		var out []string
		s, _ := StatusOf(r, o)
		for _, a := range s.Ancestors {
			text := string(a.AncestorRef.Name)
			if a.AncestorRef.SectionName != nil {
				text += "#" + string(*a.AncestorRef.SectionName)
			}
			out = append(out, text+" "+a.Conditions[0].Reason)
		}
		return out
	}
	require.Equal(t, []string{"php-web Accepted"}, reasons(first))
	require.Equal(t, []string{"php-web Conflicted", "php-web#http Accepted", "none TargetNotFound", "php-web#none TargetNotFound"}, reasons(second))
	require.Empty(t, reasons(foreign), "it is another implementation's")
	require.Equal(t, []string{"api Invalid"}, reasons(ours))
	require.Equal(t, "b.example", BuildService(r, web).Ports[0].TLS.SNI)
	require.Len(t, findingsOn(r, discovery.KindBackendTLSPolicy), 4)
}
