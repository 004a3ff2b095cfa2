// Package authority runs the mesh's certificate authority (package identity) in a replica: it gets the root from where it is
// kept, has an intermediate of its own in memory, and issues certificates to who has been let in.
package authority

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/causeway-mesh/causeway/xds/identity"
)

// lookEvery is how often the root is read: another one may have been put there. readFor bounds reading it.
const lookEvery, readFor = 30 * time.Second, 10 * time.Second

// Store keeps the root.
type Store interface {
	// Root returns what is kept. If nothing is, it keeps what create returns, unless another replica was first, and
	// returns what is kept then. What cannot be read is an error, and never replaced.
	Root(ctx context.Context, create func() ([]byte, error)) ([]byte, error)
}

// Options of an Authority.
type Options struct {
	Store Store
	// Domain returns the trust domain that is in force.
	Domain   func() string
	Log      *slog.Logger
	Registry prometheus.Registerer
}

// Authority is that of one replica.
type Authority struct {
	opts   Options
	now    func() time.Time
	every  time.Duration
	issuer atomic.Pointer[identity.Issuer]
	limits limits

	issued  *prometheus.CounterVec
	rootEnd prometheus.Gauge
	ends    prometheus.Gauge
}

// New returns an authority that issues nothing before Run has read the root.
func New(o Options) *Authority {
	a := &Authority{
		opts: o, now: time.Now, every: lookEvery,
		issued: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "causeway_identity_requests_total",
			Help: "Certificate signing requests of workloads, by what became of them: issued, not_attested (nothing that says which service account), the reason of a refusal (malformed, key, signature, name), limited (it asks too often), or away (the root could not be read).",
		}, []string{"result"}),
		rootEnd: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "causeway_identity_root_expiry_timestamp_seconds", Help: "Unix time at which the root of the mesh's certificates expires; 0 before it was read.",
		}),
		ends: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "causeway_identity_issuer_expiry_timestamp_seconds", Help: "Unix time at which this replica's intermediate expires; 0 before there is one.",
		}),
	}
	for _, result := range []string{issued, notAttested, identity.Malformed, identity.BadKey, identity.Unsigned, identity.OtherName, limited, away} {
		a.issued.WithLabelValues(result)
	}
	o.Registry.MustRegister(a.issued, a.rootEnd, a.ends)
	return a
}

// Results beside the reasons of refusals.
const issued, notAttested, limited, away = "issued", "not_attested", "limited", "away"

// Run keeps an issuer until the context ends. While the root cannot be read, the one in memory goes on.
func (a *Authority) Run(ctx context.Context) error {
	ticker := time.NewTicker(a.every)
	defer ticker.Stop()
	failed := ""
	for {
		err := a.look(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			failed = ""
		case err.Error() != failed:
			failed = err.Error()
			a.opts.Log.Error("the root of the mesh's certificates cannot be used; it is tried again", "every", a.every, "issues", a.issuer.Load() != nil, "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// look reads the root, and makes an issuer if there is none that is good for it.
func (a *Authority) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readFor)
	defer cancel()
	domain, err := spiffeid.TrustDomainFromString(a.opts.Domain())
	if err != nil {
		return fmt.Errorf("spec.trust.domain of the Mesh: %w", err)
	}
	text, err := a.opts.Store.Root(ctx, func() ([]byte, error) {
		if a.issuer.Load() != nil { // workloads trust the one that was there
			return nil, errors.New("the root of the mesh's certificates is gone: put it back from a backup; this replica issues with what it has in memory until its intermediate expires")
		}
		root, err := identity.NewRoot(a.now())
		if err != nil {
			return nil, err //nolint:wrapcheck // it says it all
		}
		return root.Marshal() //nolint:wrapcheck // as above
	})
	if err != nil {
		return err //nolint:wrapcheck // the store says where
	}
	root, err := identity.ParseRoot(text, a.now())
	if err != nil {
		return err //nolint:wrapcheck // it says it all
	}
	a.rootEnd.Set(float64(root.Certificate.NotAfter.Unix()))
	if old := a.issuer.Load(); old != nil && old.OfRoot(root) && old.Domain() == domain && !old.Due(a.now()) {
		return nil
	}
	issuer, err := root.Issuer(domain, a.now())
	if err != nil {
		return err //nolint:wrapcheck // it says it all
	}
	a.issuer.Store(issuer)
	a.ends.Set(float64(issuer.Expires().Unix()))
	a.opts.Log.Info("a new intermediate issues the certificates of workloads", "trustDomain", domain.Name(), "expires", issuer.Expires(), "rootExpires", root.Certificate.NotAfter)
	return nil
}

// ErrAway says that nothing can be issued now, and that it is to be tried again.
var ErrAway = errors.New("the control plane has not read the root of the mesh's certificates yet: its log says why")

// Issue signs a request of a workload of a service account, which has been attested. An error is ErrAway, or the request's
// own (identity.RefusedError), or there is none for such a name.
func (a *Authority) Issue(namespace, account string, request []byte) (*identity.SVID, error) {
	issuer := a.issuer.Load()
	if issuer == nil || !a.now().Before(issuer.Expires()) {
		a.issued.WithLabelValues(away).Inc()
		return nil, ErrAway
	}
	id, err := identity.WorkloadID(issuer.Domain(), namespace, account)
	if err != nil {
		a.issued.WithLabelValues(identity.OtherName).Inc()
		return nil, err //nolint:wrapcheck // it says it all
	}
	svid, err := issuer.Issue(id, request, a.now())
	var refused *identity.RefusedError
	switch {
	case errors.As(err, &refused):
		a.issued.WithLabelValues(refused.Reason).Inc()
	case err != nil:
		a.issued.WithLabelValues(away).Inc()
	default:
		a.issued.WithLabelValues(issued).Inc()
	}
	return svid, err //nolint:wrapcheck // it says it all
}
