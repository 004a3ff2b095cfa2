package authority

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/causeway-mesh/causeway/policy/clients"
	"github.com/causeway-mesh/causeway/xds/identity"
	"github.com/causeway-mesh/causeway/xds/members/membersv1"
	"github.com/causeway-mesh/causeway/xds/server"
)

// A workload gets its next certificate every twelve hours. One whose agent starts again and again gets them in atOnce, and then
// one in each again.
const atOnce, again = 10, 30 * time.Second

// maxLimits is how many workloads' limits are remembered at least.
const maxLimits = 20_000

// limits bounds how often each workload may ask.
type limits struct {
	mu sync.Mutex
	of map[string]*rate.Limiter
}

func (l *limits) allow(who string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	limiter := l.of[who]
	if limiter == nil {
		if l.of == nil || len(l.of) >= maxLimits {
			l.sweep(now)
		}
		limiter = rate.NewLimiter(rate.Every(again), atOnce)
		l.of[who] = limiter
	}
	return limiter.AllowN(now, 1)
}

// sweep forgets those who may ask as often as anybody new. mu must be held.
func (l *limits) sweep(now time.Time) {
	if l.of == nil {
		l.of = make(map[string]*rate.Limiter)
	}
	for who, limiter := range l.of {
		if limiter.TokensAt(now) >= atOnce {
			delete(l.of, who)
		}
	}
}

// Certify implements members.Certifier: the id is that of the service account which the call has proven, whatever the node id
// and the request say. Each refusal is logged with its reason, and counted.
func (a *Authority) Certify(ctx context.Context, n *server.Node, request []byte) (*membersv1.CertifyResponse, error) {
	answer, err := a.certify(ctx, request)
	from := "unknown"
	if p, ok := peer.FromContext(ctx); ok {
		from = p.Addr.String()
	}
	if err != nil {
		a.opts.Log.Warn("refused to certify a workload", "node", n.ID, "peer", from, "error", err)
		return nil, err
	}
	a.opts.Log.Info("certified a workload", "id", answer.GetId(), "node", n.ID, "peer", from, "by", answer.GetAttestation())
	return answer, nil
}

func (a *Authority) certify(ctx context.Context, request []byte) (*membersv1.CertifyResponse, error) {
	pod, ok := server.ProofOf(ctx).(*clients.Pod)
	if !ok {
		a.issued.WithLabelValues(notAttested).Inc()
		return nil, status.Error(codes.PermissionDenied, "nothing says of which service account the workload is: a pod proves it by its token (--token-file)")
	}
	if !a.limits.allow(pod.UID, a.now()) {
		a.issued.WithLabelValues(limited).Inc()
		return nil, status.Errorf(codes.ResourceExhausted, "%s asks for more than %d certificates: it gets one in %s", pod, atOnce, again)
	}
	svid, err := a.Issue(pod.Namespace, pod.ServiceAccount, request)
	var refused *identity.RefusedError
	switch {
	case errors.As(err, &refused):
		return nil, status.Errorf(codes.InvalidArgument, "%s: %v", pod, err)
	case err != nil:
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	attestation := fmt.Sprintf("token of the %s, uid %s", pod, pod.UID)
	if pod.Node != "" {
		attestation += ", on the node " + pod.Node
	}
	return &membersv1.CertifyResponse{Id: svid.ID.String(), Chain: svid.Chain, Bundle: svid.Bundle, Attestation: attestation}, nil
}
