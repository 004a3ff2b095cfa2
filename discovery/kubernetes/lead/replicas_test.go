package lead

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/kubetest"
	"github.com/causeway-mesh/causeway/test/harness/meshtest"
)

// watched is what WatchReplicas last said.
type watched struct {
	mu    sync.Mutex
	calls int
	live  []Replica
}

func (w *watched) set(live []Replica) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls++
	w.live = live
}

func (w *watched) wait(t *testing.T, limit time.Duration, want ...Replica) {
	t.Helper()
	harness.Eventually(t, limit, fmt.Sprintf("the live replicas are %v", want), func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.calls == 0 || fmt.Sprint(w.live) != fmt.Sprint(want) {
			return fmt.Errorf("they are %v", w.live)
		}
		return nil
	})
}

// Replicas learn of each other by their Leases, with exactly the rights of the
// manifests: one that stops is gone at once, one that dies when its Lease ends,
// one that restarts has another certificate.
func TestReplicas(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
	account := kube.ServiceAccountConfig(t, "causeway-system", "causeway")
	a, b := meshtest.NewClient(t, account, nil), meshtest.NewClient(t, account, nil)
	of := func(name, certificate string) Replica {
		return Replica{Identity: name, Address: "10.0.0.1:18001", Certificate: certificate}
	}
	var w watched
	meshtest.Run(t, func(ctx context.Context) error { return WatchReplicas(ctx, a, w.set) })
	w.wait(t, 20*time.Second)
	meshtest.Run(t, func(ctx context.Context) error { return Announce(ctx, a, of("A_1", "01")) })
	stop := meshtest.Run(t, func(ctx context.Context) error { return Announce(ctx, b, of("b", "02")) })
	w.wait(t, 20*time.Second, of("A_1", "01"), of("b", "02"))

	var late watched
	meshtest.Run(t, func(ctx context.Context) error { return WatchReplicas(ctx, b, late.set) })
	late.wait(t, 20*time.Second, of("A_1", "01"), of("b", "02"))

	stop()
	w.wait(t, 5*time.Second, of("A_1", "01"))
	_, err := kube.Client(t).CoordinationV1().Leases("causeway-system").Get(t.Context(), "causeway-replica-b", metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), "%v", err)

	// It dies without a word, and comes again with another key before the
	// Lease has ended.
	kill := announceUntilKilled(t, kube, of("b", "03"))
	w.wait(t, 20*time.Second, of("A_1", "01"), of("b", "03"))
	kill()
	kill = announceUntilKilled(t, kube, of("b", "04"))
	w.wait(t, 20*time.Second, of("A_1", "01"), of("b", "04"))
	kill()
	died := time.Now()
	w.wait(t, 20*time.Second, of("A_1", "01"))
	require.Greater(t, time.Since(died), replicaDuration-replicaRenew-time.Second)

	// While the API server is away nobody is known to have died.
	w.wait(t, 20*time.Second, of("A_1", "01"))
	calls := w.count()
	kube.Kill9()
	harness.TakeTime(replicaDuration + replicaRenew)
	kube.Restart(t)
	harness.Throughout(t, 2*replicaRenew, "what is said of the replicas", func() error {
		if n := w.count(); n != calls {
			return fmt.Errorf("it changed %d times", n-calls)
		}
		return nil
	})
	w.wait(t, 20*time.Second, of("A_1", "01"))
}

func (w *watched) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls
}

// announceUntilKilled announces through an API that then answers no more, so that
// the Lease stays.
func announceUntilKilled(t *testing.T, kube *kubetest.Kube, r Replica) (kill func()) {
	t.Helper()
	link := kube.Proxy(t, harness.ProxyTCP)
	c := meshtest.NewClient(t, kubetest.Via(kube.ServiceAccountConfig(t, "causeway-system", "causeway"), link), nil)
	stop := meshtest.Run(t, func(ctx context.Context) error { return Announce(ctx, c, r) })
	return func() {
		link.Cut()
		stop()
	}
}

// Leases of the dead are removed by the leader, and nobody else's.
func TestRemoveReplicas(t *testing.T) {
	t.Parallel()
	kube := servers.Take(t)
	leases := kube.Client(t).CoordinationV1().Leases("causeway-system")
	holder := "x"
	for name, labels := range map[string]map[string]string{
		"causeway-replica-dead": {replicaLabel: "true"}, "causeway-leader": nil, "somebody-elses": {"a": "b"},
	} {
		_, err := leases.Create(t.Context(), &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	r := meshtest.NewClient(t, kube.ServiceAccountConfig(t, "causeway-system", "causeway"), nil)
	meshtest.Run(t, func(ctx context.Context) error {
		return Announce(ctx, r, Replica{Identity: "alive", Address: "a", Certificate: "c"})
	})
	g := &graveyard{client: r, seen: make(map[string]grave)}
	names := func() string {
		list, err := leases.List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		var out []string
		for i := range list.Items {
			out = append(out, list.Items[i].Name)
		}
		return strings.Join(out, " ")
	}
	harness.Eventually(t, 20*time.Second, "it lives", func() error {
		if !strings.Contains(names(), "causeway-replica-alive") {
			return fmt.Errorf("%s", names())
		}
		return nil
	})
	now := time.Now()
	require.NoError(t, g.sweep(t.Context(), now))
	require.NoError(t, g.sweep(t.Context(), now.Add(replicaGarbage-time.Second)))
	require.Equal(t, "causeway-leader causeway-replica-alive causeway-replica-dead somebody-elses", names())
	harness.TakeTime(replicaRenew + time.Second) // in which the one that lives says so once more
	require.NoError(t, g.sweep(t.Context(), now.Add(replicaGarbage)))
	require.Equal(t, "causeway-leader causeway-replica-alive somebody-elses", names())
}

// Whatever a host is called, the API server takes the Lease.
func TestReplicaLeaseNames(t *testing.T) {
	for _, identity := range []string{"causeway-7d9c8-x2x-1", "Mac Book.local-12", "a_b-1", "ümlaut-3", "-", "x."} {
		require.Empty(t, validation.IsDNS1123Subdomain(replicaLease(identity)), "%s", replicaLease(identity))
	}
}

// Who is alive, by a clock that the test owns.
func TestSightings(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	var live string
	told := 0
	s := &sightings{now: func() time.Time { return now }, changed: func(replicas []Replica) {
		told++
		live = ""
		for _, r := range replicas {
			live += r.Identity
		}
	}}
	version := 0
	lease := func(name, holder, certificate string, renewed time.Time) *coordinationv1.Lease {
		version++
		l := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{
			Name: name, ResourceVersion: fmt.Sprint(version),
			Annotations: map[string]string{replicaCertificateAnnotation: certificate, replicaAddressAnnotation: "x"},
		}}
		if holder != "" {
			l.Spec.HolderIdentity = &holder
		}
		l.Spec.RenewTime = &metav1.MicroTime{Time: renewed}
		return l
	}
	renew := func(holder string) { require.NoError(t, s.Update(lease(holder, holder, "c", now))) }
	require.NoError(t, s.Replace([]any{
		lease("o", "o", "c", now.Add(-time.Hour)),          // dead for long
		lease("n", "", "c", now), lease("m", "m", "", now), // no replicas
		lease("s", "s", "c", now.Add(-30*time.Second)), // its clock is slow, or it is dead
		lease("a", "a", "c", now),
	}, ""))
	require.Equal(t, "as", live)
	require.NoError(t, s.Add(lease("w", "w", "c", now.Add(-time.Hour)))) // its clock is wrong
	require.Equal(t, "asw", live)
	for range 3 {
		now = now.Add(3 * time.Second)
		renew("a")
		require.Equal(t, "asw", live)
	}
	now = now.Add(time.Second)
	renew("a")
	require.Equal(t, "a", live, "the others are not seen renewed")
	renew("s")
	require.Equal(t, "as", live)
	require.NoError(t, s.Update(lease("o", "o", "c", now.Add(-time.Hour))))
	require.Equal(t, "aos", live, "it lives after all")

	// Silence says nothing of anyone, and brings nobody back.
	now = now.Add(time.Hour)
	renew("a")
	require.Equal(t, "aos", live)
	now = now.Add(time.Hour)
	list := []any{lease("a", "a", "c", now), lease("s", "s", "c", now)}
	require.NoError(t, s.Replace(list, ""))
	require.Equal(t, "as", live, "one is deleted")
	now = now.Add(4 * time.Second)
	renew("a")
	before := told
	require.NoError(t, s.Replace([]any{lease("a", "a", "c", now), list[1]}, ""))
	require.Equal(t, "as", live)
	require.Equal(t, before, told)
	now = now.Add(4 * time.Second)
	renew("a")
	now = now.Add(2 * time.Second)
	renew("a")
	require.Equal(t, "a", live, "a repeated list is no renewal")
	require.NoError(t, s.Delete(&coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "a"}}))
	require.Empty(t, live)
	require.NoError(t, s.Resync())
}
