// Package workload gets the certificate by which the workload beside an agent proves who it is, renews it, and hands it to Envoy
// (SDS). The key is made here, in memory, anew for each certificate, and goes to this Envoy alone.
package workload

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	random "crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/status"

	"github.com/causeway-mesh/causeway/xds/members/membersv1"
)

const (
	// askFor bounds one call; it waits for a connection.
	askFor = 30 * time.Second
	// retryFirst and retryMost bound the pause after a call that failed, and retryOld is the pause where the control
	// plane is of a release without the call, or does not certify this agent.
	retryFirst, retryMost, retryOld = time.Second, 5 * time.Minute, 10 * time.Minute
	// lookEvery bounds how long a clock that was set, or a machine that slept, goes unnoticed.
	lookEvery = time.Minute
)

// Options of a Workload.
type Options struct {
	// Conn leads to a control plane, with what proves who this agent is.
	Conn grpc.ClientConnInterface
	// Node is the node id of its Envoy.
	Node   string
	Logger *slog.Logger
}

// Certificate is one of a chain.
type Certificate struct {
	Subject string    `json:"subject"`
	Serial  string    `json:"serial"`
	Expires time.Time `json:"expires"`
}

// State says who the workload is.
type State struct {
	// ID is its SPIFFE id, "" before it has one.
	ID string `json:"id,omitempty"`
	// Attestation says how it has proven that, in the control plane's words.
	Attestation string `json:"attestation,omitempty"`
	// Chain is its certificate and those by which it leads to a root, Roots whom it trusts.
	Chain []Certificate `json:"chain,omitempty"`
	Roots []Certificate `json:"roots,omitempty"`
	// Issued is when it got the certificate, Renew when it asks for the next one.
	Issued time.Time `json:"issued,omitzero"`
	Renew  time.Time `json:"renew,omitzero"`
	// Error is why the last call failed, "" once one does not.
	Error string `json:"error,omitempty"`
	// Failures is how many calls have.
	Failures int `json:"failures,omitempty"`
}

// Expires returns when the certificate does, zero without one.
func (s *State) Expires() time.Time {
	if len(s.Chain) == 0 {
		return time.Time{}
	}
	return s.Chain[0].Expires
}

// Workload keeps the certificate of one agent.
type Workload struct {
	opts Options
	now  func() time.Time

	mu      sync.Mutex
	state   State
	secrets *secrets      // nil before there is a certificate
	changed chan struct{} // closed when secrets change
}

// New returns a workload without a certificate.
func New(o Options) *Workload {
	return &Workload{opts: o, now: time.Now, changed: make(chan struct{})}
}

// State returns the present state.
func (w *Workload) State() State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

// Run gets a certificate and renews it at half time, until the context ends. What fails is tried again: until the certificate
// expires, nothing else happens.
func (w *Workload) Run(ctx context.Context) {
	pause, said := retryFirst, ""
	for ctx.Err() == nil {
		err := w.renew(ctx)
		if ctx.Err() != nil {
			return
		}
		next := w.State().Renew
		if err == nil {
			pause, said = retryFirst, ""
		} else {
			w.failed(err)
			if said != err.Error() {
				said = err.Error()
				w.tellFailure(err)
			}
			wait := pause + rand.N(pause) //nolint:gosec // spreads retries
			if pause = min(2*pause, retryMost); lasting(err) {
				wait = retryOld + rand.N(retryOld) //nolint:gosec // as above
			}
			next = w.now().Add(wait)
		}
		for left := next.Sub(w.now()); left > 0; left = next.Sub(w.now()) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(min(left, lookEvery)):
			}
		}
	}
}

// lasting reports whether an error is one that trying again soon does not mend.
func lasting(err error) bool {
	switch status.Code(err) { //nolint:exhaustive // all else may pass
	case codes.Unimplemented, codes.PermissionDenied, codes.InvalidArgument:
		return true
	}
	return false
}

func (w *Workload) tellFailure(err error) {
	state := w.State()
	switch {
	case status.Code(err) == codes.Unimplemented:
		w.opts.Logger.Info("the control plane issues no certificates: the workload has none", "error", err)
	case state.ID == "":
		w.opts.Logger.Warn("the workload has no certificate yet; trying again", "error", err)
	default:
		w.opts.Logger.Warn("the workload's certificate cannot be renewed; it holds until it expires, and it is tried again", "expires", state.Expires(), "error", err)
	}
}

func (w *Workload) failed(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state.Error = err.Error()
	w.state.Failures++
}

// renew gets one certificate.
func (w *Workload) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), random.Reader)
	if err != nil {
		return fmt.Errorf("a key: %w", err)
	}
	request, err := x509.CreateCertificateRequest(random.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return fmt.Errorf("a certificate signing request: %w", err)
	}
	// The connection is Envoy's, whose messages are passed on as bytes.
	stream, err := membersv1.NewMembersClient(w.opts.Conn).Certify(ctx, &membersv1.CertifyRequest{Node: w.opts.Node, Request: request},
		grpc.WaitForReady(true), grpc.ForceCodecV2(encoding.GetCodecV2(grpcproto.Name)))
	if err != nil {
		return err //nolint:wrapcheck // gRPC's status
	}
	answer, err := stream.Recv()
	if err != nil {
		return err //nolint:wrapcheck // gRPC's status
	}
	return w.take(answer, key)
}

var errNoBundle = errors.New("the control plane sends no root")

// take checks what the control plane has sent, and puts it into use.
func (w *Workload) take(answer *membersv1.CertifyResponse, key *ecdsa.PrivateKey) error {
	now := w.now()
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("a key: %w", err)
	}
	var chain []byte
	for _, der := range answer.GetChain() {
		chain = append(chain, der...)
	}
	svid, err := x509svid.ParseRaw(chain, keyDER)
	if err != nil {
		return fmt.Errorf("the certificate from the control plane: %w", err)
	}
	roots, err := parse(answer.GetBundle())
	if err != nil {
		return err
	}
	if _, _, err := x509svid.Verify(svid.Certificates, x509bundle.FromX509Authorities(svid.ID.TrustDomain(), roots), x509svid.WithTime(now)); err != nil {
		return fmt.Errorf("the certificate from the control plane, by this host's clock (%s): %w", now.UTC().Format(time.RFC3339), err)
	}
	secrets, err := newSecrets(svid, roots, keyDER)
	if err != nil {
		return err
	}
	left := svid.Certificates[0].NotAfter.Sub(now)
	// Half of the time that it holds, and a tenth of that more or less: not all workloads ask at once.
	renew := now.Add(left/2 - left/20 + rand.N(left/10+1)) //nolint:gosec // spreads renewals
	w.mu.Lock()
	first := w.secrets == nil
	w.state = State{
		ID: svid.ID.String(), Attestation: answer.GetAttestation(), Chain: list(svid.Certificates), Roots: list(roots), Issued: now, Renew: renew, Failures: w.state.Failures,
	}
	w.secrets = secrets
	close(w.changed)
	w.changed = make(chan struct{})
	w.mu.Unlock()
	if first {
		w.opts.Logger.Info("the workload has a certificate", "id", svid.ID, "expires", svid.Certificates[0].NotAfter, "renews", renew)
	}
	return nil
}

func parse(bundle [][]byte) ([]*x509.Certificate, error) {
	if len(bundle) == 0 {
		return nil, errNoBundle
	}
	out := make([]*x509.Certificate, 0, len(bundle))
	for _, der := range bundle {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("a root from the control plane: %w", err)
		}
		out = append(out, c)
	}
	return out, nil
}

func list(certificates []*x509.Certificate) []Certificate {
	out := make([]Certificate, 0, len(certificates))
	for _, c := range certificates {
		subject := c.Subject.CommonName
		if id, err := x509svid.IDFromCert(c); err == nil && subject == "" {
			subject = id.String()
		}
		out = append(out, Certificate{Subject: subject, Serial: c.SerialNumber.Text(16), Expires: c.NotAfter})
	}
	return out
}
