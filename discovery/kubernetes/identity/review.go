package identity

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientauthenticationv1 "k8s.io/client-go/kubernetes/typed/authentication/v1"

	"github.com/causeway-mesh/causeway/policy/clients"
)

const (
	// fresh is how long an answer of the API server counts. So long is the token of a pod that was deleted worth something, on a
	// replica that had asked about it. A proxy opens its streams within seconds and then keeps them, so that longer would spare nothing.
	fresh = 2 * time.Minute
	// stale is how long a token that was good goes on while the API server does not answer, and not beyond its own end. The
	// kubelet asks for tokens of an hour.
	stale = time.Hour
	// asksAtOnce bounds the questions to the API server, and askFor how long one may take with its turn.
	asksAtOnce = 32
	askFor     = 10 * time.Second
	// maxKnown bounds the tokens that are remembered, of some 400 bytes each: two for each of ten thousand proxies.
	maxKnown = 20_000
	// refusedMost is how many refused tokens of one address the API server is asked about in refusedFor: it is not asked
	// for who guesses.
	refusedMost = 20
	refusedFor  = time.Minute
	// maxRefusing bounds the addresses that are counted.
	maxRefusing = 10_000
	// skew is how far clocks may be apart.
	skew = time.Minute
)

// Keys of what the API server says of who a token is of (KEP-1205 and KEP-4193).
const (
	podName  = "authentication.kubernetes.io/pod-name"
	podUID   = "authentication.kubernetes.io/pod-uid"
	nodeName = "authentication.kubernetes.io/node-name"
)

// reviewer has the API server check tokens, and remembers its answers by the tokens' hashes.
type reviewer struct {
	api      clientauthenticationv1.TokenReviewInterface
	audience string
	results  *prometheus.CounterVec
	now      func() time.Time
	turns    *semaphore.Weighted
	asking   singleflight.Group

	mu    sync.Mutex
	known map[[sha256.Size]byte]*list.Element
	// order has the known ones, those that were used last in front.
	order *list.List
	// refusals counts refused tokens by address since began.
	refusals map[string]int
	began    time.Time
}

// answer is what the API server said of a token that is good.
type answer struct {
	key [sha256.Size]byte
	pod *clients.Pod
	// asked is when it said so, ends when the token does.
	asked, ends time.Time
}

func newReviewer(api clientauthenticationv1.TokenReviewInterface, audience string, registry prometheus.Registerer) *reviewer {
	r := &reviewer{
		api: api, audience: audience, now: time.Now, turns: semaphore.NewWeighted(asksAtOnce),
		known: make(map[[sha256.Size]byte]*list.Element), order: list.New(), refusals: make(map[string]int),
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "causeway_xds_tokens_total",
			Help: "Tokens of service accounts that streams came with, by what became of them: accepted (the API server was asked), known (it was asked before), kept (known, while it does not answer), refused, undecided (it did not answer).",
		}, []string{"result"}),
	}
	for _, result := range []string{"accepted", "known", "kept", "refused", "undecided"} {
		r.results.WithLabelValues(result)
	}
	registry.MustRegister(r.results)
	return r
}

// claims are what a token says of itself. They let a token be refused, and nothing else before the API server has checked it.
type claims struct {
	Audience audiences `json:"aud"`
	Expires  int64     `json:"exp"`
	Subject  string    `json:"sub"`
}

// audiences are one or several (RFC 7519, 4.1.3).
type audiences []string

// UnmarshalJSON implements json.Unmarshaler.
func (a *audiences) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*a = audiences{one}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(a)) //nolint:wrapcheck // the caller says what it is about
}

// claimsOf reads a token without checking it.
func claimsOf(token string) (*claims, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, errors.New("the token is none of a service account")
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	c := &claims{}
	if err != nil || json.Unmarshal(text, c) != nil {
		return nil, errors.New("the token is none of a service account")
	}
	return c, nil
}

// check refuses a token by what it says of itself.
func (r *reviewer) check(c *claims) error {
	switch ends := time.Unix(c.Expires, 0); {
	case !strings.HasPrefix(c.Subject, serviceAccounts):
		return errors.New("the token is none of a service account")
	case !slices.Contains(c.Audience, r.audience):
		return fmt.Errorf("the token is for the audience %s, and not for %q: the pod's volume has to ask for that one (--xds-token-audience)", quoted(c.Audience), r.audience)
	case r.now().After(ends.Add(skew)):
		return fmt.Errorf("the token has expired, at %s: its file is not renewed", ends.UTC().Format(time.RFC3339))
	}
	return nil
}

// quoted quotes what somebody unknown says, of which a few are enough.
func quoted(list []string) string {
	const most, longest = 3, 80
	var out []string
	for _, s := range list[:min(len(list), most)] {
		out = append(out, fmt.Sprintf("%q", s[:min(len(s), longest)]))
	}
	return strings.Join(out, ", ")
}

// serviceAccounts is how the names of service accounts as users begin.
const serviceAccounts = "system:serviceaccount:"

// Review returns the pod that a token is of. from is the peer's address. The error never has the token in it; it is gRPC's,
// with the code Unavailable, where the API server does not answer and had not been asked about the token before.
func (r *reviewer) Review(ctx context.Context, from, token string) (*clients.Pod, error) {
	pod, result, err := r.review(ctx, from, token)
	r.results.WithLabelValues(result).Inc()
	return pod, err
}

func (r *reviewer) review(ctx context.Context, from, token string) (pod *clients.Pod, result string, err error) {
	said, err := claimsOf(token)
	if err == nil {
		err = r.check(said)
	}
	if err != nil {
		return nil, "refused", err
	}
	key := sha256.Sum256([]byte(token))
	before := r.get(key)
	if before != nil && r.now().Sub(before.asked) < fresh && r.now().Before(before.ends) {
		return before.pod, "known", nil
	}
	host, _, _ := net.SplitHostPort(from)
	if before == nil && r.refusing(host) {
		return nil, "undecided", status.Error(codes.Unavailable, "many tokens of this address were refused, and the API server is asked about no more of them for a minute")
	}
	// Whoever asks first asks for all, so that one who goes away takes nobody's answer along.
	asked := r.asking.DoChan(string(key[:]), func() (any, error) {
		own, cancel := context.WithTimeout(context.WithoutCancel(ctx), askFor)
		defer cancel()
		return r.ask(own, token, time.Unix(said.Expires, 0), key)
	})
	var out singleflight.Result
	select {
	case out = <-asked:
	case <-ctx.Done():
		return nil, "undecided", status.FromContextError(ctx.Err()).Err()
	}
	var bad *badTokenError
	switch {
	case out.Err == nil:
		return out.Val.(*clients.Pod), "accepted", nil //nolint:forcetypeassert // ask returns no other
	case errors.As(out.Err, &bad):
		r.refuse(host)
		return nil, "refused", bad
	case before != nil && r.now().Sub(before.asked) < stale && r.now().Before(before.ends):
		return before.pod, "kept", nil
	}
	return nil, "undecided", status.Error(codes.Unavailable, "the API server could not be asked about the token, so nobody knows whose it is: "+out.Err.Error())
}

// badTokenError says that a token is not good, as the API server has decided.
type badTokenError struct{ why string }

func (e *badTokenError) Error() string { return e.why }

// ask has the API server check a token. Its error is a badTokenError if it has decided.
func (r *reviewer) ask(ctx context.Context, token string, ends time.Time, key [sha256.Size]byte) (*clients.Pod, error) {
	if err := r.turns.Acquire(ctx, 1); err != nil {
		return nil, errors.New("too many are asked about at a time")
	}
	defer r.turns.Release(1)
	review, err := r.api.Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{r.audience}},
	}, metav1.CreateOptions{})
	switch {
	case apierrors.IsForbidden(err):
		return nil, errors.New("the control plane may not create tokenreviews: apply its roles (manifests/install/rbac.yaml, or rbac.create of the chart)")
	case err != nil:
		return nil, err //nolint:wrapcheck // the caller says what it is about
	}
	pod, err := podOf(&review.Status, r.audience)
	if err != nil {
		r.forget(key)
		return nil, err
	}
	r.put(&answer{key: key, pod: pod, asked: r.now(), ends: ends})
	return pod, nil
}

// podOf returns the pod that the API server says a token is of.
func podOf(s *authenticationv1.TokenReviewStatus, audience string) (*clients.Pod, error) {
	if !s.Authenticated {
		why := "the API server does not take the token"
		if s.Error != "" {
			why += ": " + s.Error
		}
		return nil, &badTokenError{why}
	}
	if !slices.Contains(s.Audiences, audience) {
		return nil, &badTokenError{fmt.Sprintf("the API server does not say that the token is for the audience %q", audience)}
	}
	namespace, account, ok := strings.Cut(strings.TrimPrefix(s.User.Username, serviceAccounts), ":")
	if !ok || !strings.HasPrefix(s.User.Username, serviceAccounts) || namespace == "" || account == "" {
		return nil, &badTokenError{fmt.Sprintf("the token is of %q, which is no service account", s.User.Username)}
	}
	extra := func(key string) string {
		if v := s.User.Extra[key]; len(v) == 1 {
			return v[0]
		}
		return ""
	}
	p := &clients.Pod{Namespace: namespace, ServiceAccount: account, Name: extra(podName), UID: extra(podUID), Node: extra(nodeName)}
	if p.Name == "" || p.UID == "" {
		return nil, &badTokenError{fmt.Sprintf("the token of the service account %s/%s is bound to no pod: only one that the kubelet has put into a pod counts", namespace, account)}
	}
	return p, nil
}

func (r *reviewer) get(key [sha256.Size]byte) *answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.known[key]
	if e == nil {
		return nil
	}
	r.order.MoveToFront(e)
	return e.Value.(*answer) //nolint:forcetypeassert // nothing else is in it
}

func (r *reviewer) put(a *answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.known[a.key]; e != nil {
		e.Value = a
		r.order.MoveToFront(e)
		return
	}
	r.known[a.key] = r.order.PushFront(a)
	for r.order.Len() > maxKnown {
		r.drop(r.order.Back())
	}
}

func (r *reviewer) forget(key [sha256.Size]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.known[key]; e != nil {
		r.drop(e)
	}
}

// drop forgets an answer. mu must be held.
func (r *reviewer) drop(e *list.Element) {
	delete(r.known, r.order.Remove(e).(*answer).key) //nolint:forcetypeassert // nothing else is in it
}

// refusing reports whether so many tokens of an address were refused that the API server is asked about no more.
func (r *reviewer) refusing(host string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now().Sub(r.began) >= refusedFor {
		clear(r.refusals)
		r.began = r.now()
	}
	return r.refusals[host] >= refusedMost
}

func (r *reviewer) refuse(host string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.refusals[host]; ok || len(r.refusals) < maxRefusing {
		r.refusals[host]++
	}
}
