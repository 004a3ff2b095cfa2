package credentials

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/causeway-mesh/causeway/policy/clients"
	"github.com/causeway-mesh/causeway/xds/server"
)

// Files are those of the xDS listener; they go together.
type Files struct {
	// Cert, Key and CA are the listener's certificate and the CA of the proxies', Rules the client rules.
	Cert, Key, CA, Rules string
	// Optional is true if files that are not there at the start are none: then Listener.Use gives the
	// certificate, and there are no rules. Files that come later are taken up.
	Optional bool
}

// Given counts the files that are named.
func (f *Files) Given() (n int) {
	for _, name := range []string{f.Cert, f.Key, f.CA, f.Rules} {
		if name != "" {
			n++
		}
	}
	return n
}

// Check says what is wrong with what is named, for a listener at an address that is loopback or not.
func (f *Files) Check(listen string, loopback, insecure, certificates bool) (plaintext bool, err error) {
	switch given := f.Given(); {
	case given == 0 && certificates && !loopback:
		return false, fmt.Errorf("--xds-insecure-certificates: %s is not loopback: private keys go beyond it with TLS only", listen)
	case given == 0 && (loopback || insecure):
		return true, nil
	case given == 0:
		return false, fmt.Errorf("--xds-listen: %s is not loopback and has no TLS: give --xds-tls-cert, --xds-tls-key, --xds-client-ca and --xds-client-rules, or accept the risk with --xds-insecure", listen)
	case given < 4:
		return false, errors.New("--xds-tls-cert, --xds-tls-key, --xds-client-ca and --xds-client-rules go together")
	}
	return false, nil
}

// Tokens says whose a token is.
type Tokens interface {
	// Review returns the pod that a token is of. Its error says why it is of none; one of gRPC's code
	// Unavailable says that nobody could tell.
	Review(ctx context.Context, from, token string) (*clients.Pod, error)
}

// Options of a Listener.
type Options struct {
	Files
	// Tokens are taken beside certificates; nil for certificates alone.
	Tokens Tokens
	// Made says which service accounts the control plane has made for Gateways; nil for none.
	Made     clients.Made
	Log      *slog.Logger
	Registry prometheus.Registerer
}

// Listener says who may connect to the xDS listener, and by which certificate it proves itself.
type Listener struct {
	*Certificates
	rules  *Rules
	tokens Tokens
	made   clients.Made
}

// New reads the files. Errors name the flag of causeway serve at fault.
func New(o Options) (*Listener, error) {
	certs, err := newCertificates(&o)
	if err != nil {
		return nil, err
	}
	rules, err := newRules(&o)
	if err != nil {
		return nil, err
	}
	return &Listener{Certificates: certs, rules: rules, tokens: o.Tokens, made: o.Made}, nil
}

// Follow puts changed files into use until the context ends. It calls changed when the rules differ: a
// connected proxy may not be admitted any more.
func (l *Listener) Follow(ctx context.Context, changed func()) error {
	ticker := time.NewTicker(reloadEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			l.look()
			if l.rules.look() {
				changed()
			}
		}
	}
}

// maxToken is how long a token may be, in bytes. Those of service accounts have 1 to 2 KB.
const maxToken = 8 << 10

var errNothing = errors.New("there is neither a client certificate nor the token of a pod: an agent has --token-file, or --tls-cert and --tls-key")

// Authenticate finds out who the peer of a stream is: the pod of its token, or else whom its certificate names. A token that
// is not good is refused, whatever certificate comes with it.
func (l *Listener) Authenticate(ctx context.Context) (*server.Proof, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil, errNothing
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return nil, errNothing
	}
	values := server.Authorization(ctx)
	switch {
	case len(values) == 0 && len(info.State.VerifiedChains) > 0:
		names := clients.NamesOf(info.State.VerifiedChains[0][0])
		return &server.Proof{Of: &names}, nil
	case len(values) == 0:
		return nil, errNothing
	case len(values) > 1:
		return nil, errors.New("there is more than one token: one is taken, and nothing is guessed")
	case l.tokens == nil:
		return nil, errors.New("this control plane takes no tokens: it needs Kubernetes and --xds-token-audience")
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return nil, errors.New("the authorization is none of the scheme Bearer")
	}
	if len(token) > maxToken {
		return nil, fmt.Errorf("the token has more than %d bytes: it is none of a service account", maxToken)
	}
	pod, err := l.tokens.Review(ctx, p.Addr.String(), token)
	if err != nil {
		return nil, err //nolint:wrapcheck // it says it all, and may be gRPC's
	}
	return &server.Proof{Principal: "pod " + pod.UID, Of: pod}, nil
}

// Authorize decides whether who Authenticate has found may be the node.
func (l *Listener) Authorize(ctx context.Context, n *server.Node) (err error) {
	rules := l.rules.current.Load()
	switch of := server.ProofOf(ctx).(type) {
	case *clients.Names:
		n.Identity, err = rules.Identity(of, string(n.Role), n.Namespace)
	case *clients.Pod:
		n.Identity, err = rules.PodIdentity(of, &clients.Claim{
			Role: string(n.Role), Namespace: n.Namespace, Workload: n.Workload, Instance: n.Instance, Node: n.NodeName,
		}, l.made)
	default:
		err = errNothing
	}
	return err //nolint:wrapcheck // it says it all
}
