package workload

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// secrets are what Envoy gets, by name.
type secrets map[string]*discoveryv3.Resource

func newSecrets(svid *x509svid.SVID, roots []*x509.Certificate, key []byte) (*secrets, error) {
	inline := func(b []byte) *corev3.DataSource {
		return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
	}
	out := &secrets{}
	for _, s := range []*tlsv3.Secret{
		{Name: naming.IdentitySecret, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: inline(encode(svid.Certificates)), PrivateKey: inline(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
		}}},
		{Name: naming.TrustSecret, Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: inline(encode(roots))}}},
	} {
		body, err := anypb.New(s)
		if err != nil {
			return nil, fmt.Errorf("a secret of Envoy's: %w", err)
		}
		sum := sha256.Sum256(body.GetValue())
		(*out)[s.GetName()] = &discoveryv3.Resource{Name: s.GetName(), Version: hex.EncodeToString(sum[:8]), Resource: body}
	}
	return out, nil
}

func encode(certificates []*x509.Certificate) []byte {
	var out bytes.Buffer
	for _, c := range certificates {
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // a buffer takes all
	}
	return out.Bytes()
}

// Serve answers one stream of Envoy's delta SDS until it ends: receive returns its requests, send sends. Before there is a
// certificate Envoy waits, and what it has been given it keeps until it gets the next: a renewal ends no connection.
func (w *Workload) Serve(receive <-chan *discoveryv3.DeltaDiscoveryRequest, send func(*discoveryv3.DeltaDiscoveryResponse) error) error {
	wanted, sent := make(map[string]bool), make(map[string]string)
	for nonce := 1; ; {
		w.mu.Lock()
		now, changed := w.secrets, w.changed
		w.mu.Unlock()
		answer := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: resource.Secret.URL(), Nonce: fmt.Sprint(nonce)}
		if now != nil {
			for name := range wanted {
				if r := (*now)[name]; r != nil && sent[name] != r.GetVersion() {
					answer.Resources = append(answer.Resources, proto.CloneOf(r))
					sent[name] = r.GetVersion()
				}
			}
		}
		if len(answer.GetResources()) > 0 {
			slices.SortFunc(answer.GetResources(), func(a, b *discoveryv3.Resource) int { return strings.Compare(a.GetName(), b.GetName()) })
			if err := send(answer); err != nil {
				return err
			}
			nonce++
		}
		select {
		case request, ok := <-receive:
			if !ok {
				return nil
			}
			if e := request.GetErrorDetail(); e != nil {
				w.opts.Logger.Error("Envoy refuses the workload's certificate", "error", e.GetMessage())
			}
			for name, version := range request.GetInitialResourceVersions() {
				wanted[name], sent[name] = true, version
			}
			for _, name := range request.GetResourceNamesSubscribe() {
				wanted[name] = true
				if _, ok := request.GetInitialResourceVersions()[name]; !ok {
					delete(sent, name) // who asks again is answered again
				}
			}
			for _, name := range request.GetResourceNamesUnsubscribe() {
				delete(wanted, name)
				delete(sent, name)
			}
		case <-changed:
		}
	}
}
