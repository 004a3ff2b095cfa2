package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/test/harness/kubetest"
)

// startKube returns an API server with what the manifests install.
func startKube(t *testing.T) *kubetest.Kube {
	t.Helper()
	return plain.Take(t)
}

// startKubeWithRoutes returns one that has the Gateway API's kinds as well.
func startKubeWithRoutes(t *testing.T) *kubetest.Kube {
	t.Helper()
	return withRoutes.Take(t)
}

// replica is a client with a catalog of its own and exactly the manifests' rights.
type replica struct {
	*Client
	catalog *catalog.Catalog
}

func newReplica(t *testing.T, kube *kubetest.Kube, config *rest.Config) *replica {
	t.Helper()
	return newLoggingReplica(t, kube, config, slog.New(slog.DiscardHandler))
}

func newLoggingReplica(t *testing.T, kube *kubetest.Kube, config *rest.Config, log *slog.Logger) *replica {
	t.Helper()
	if config == nil {
		config = kube.ServiceAccountConfig(t, "causeway-system", "causeway")
	}
	c, err := NewClient(config, "causeway-system", log)
	require.NoError(t, err)
	r := &replica{Client: c, catalog: catalog.New()}
	run(t, func(ctx context.Context) error { return r.Run(ctx, r.catalog) })
	harness.Eventually(t, 20*time.Second, "the sources have synced", func() error {
		for _, name := range Scopes() {
			if st, ok := catalog.Sources.Get(r.catalog.Read(), name); !ok || !st.Synced {
				return fmt.Errorf("%s: %+v", name, st)
			}
		}
		return nil
	})
	return r
}

// run runs a part until the test ends, or until the function that it returns is called.
func run(t *testing.T, part func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = part(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return stop
}

// addresses returns the addresses that a Service's endpoints have, sorted.
func (r *replica) addresses(service string) []string {
	out := []string{}
	for set := range catalog.Endpoints.By(r.catalog.Read(), catalog.ByService, service) {
		for _, e := range set.Endpoints {
			out = append(out, e.Address)
		}
	}
	slices.Sort(out)
	return out
}

func (r *replica) waitAddresses(t *testing.T, service string, want ...string) {
	t.Helper()
	harness.Eventually(t, 20*time.Second, fmt.Sprintf("%s has %v", service, want), func() error {
		if got := r.addresses(service); !slices.Equal(got, want) {
			return fmt.Errorf("it has %v", got)
		}
		return nil
	})
}

func applySlice(t *testing.T, kube *kubetest.Kube, name string, addresses ...string) {
	t.Helper()
	text := "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: " + name +
		", namespace: web, labels: {kubernetes.io/service-name: php-web}}\naddressType: IPv4\nports: [{name: http, port: 80}]\nendpoints:\n"
	for _, a := range addresses {
		text += "- {addresses: [" + a + "], zone: a}\n"
	}
	if len(addresses) == 0 {
		text = strings.TrimSuffix(text, "endpoints:\n") + "endpoints: []\n"
	}
	kube.ApplyYAML(t, text)
}

const service = `
apiVersion: v1
kind: Service
metadata: {name: php-web, namespace: web}
spec: {ports: [{name: http, port: 80}]}
`

// Objects come, change and go; the API server dies, is compacted behind our
// back and comes again: rows are always what was last known, and then what is.
func TestSource(t *testing.T) {
	t.Parallel()
	kube := startKube(t)
	kube.ApplyYAML(t, service)
	r := newReplica(t, kube, nil)
	applySlice(t, kube, "one", "10.0.0.1", "10.0.0.2")
	applySlice(t, kube, "two", "10.0.0.3")
	r.waitAddresses(t, "web/php-web", "10.0.0.1", "10.0.0.2", "10.0.0.3")

	feed := r.catalog.Subscribe()
	defer feed.Close()
	feed.Take()
	kube.Kill9()
	harness.Eventually(t, 20*time.Second, "the failure is told", func() error {
		if st, _ := catalog.Sources.Get(r.catalog.Read(), ScopeEndpointSlices); st.Error == "" {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	require.Len(t, r.addresses("web/php-web"), 3)
	kube.Restart(t)
	applySlice(t, kube, "one", "10.0.0.9") // while the watch is still in its backoff
	kube.Compact(t)
	r.waitAddresses(t, "web/php-web", "10.0.0.3", "10.0.0.9")
	harness.Eventually(t, 20*time.Second, "the recovery is told", func() error {
		if st, _ := catalog.Sources.Get(r.catalog.Read(), ScopeEndpointSlices); st.Error != "" {
			return fmt.Errorf("%s", st.Error)
		}
		return nil
	})
	b, _ := feed.Take()
	for _, c := range b.Changes {
		set, was := c.Before.(*discovery.EndpointSet)
		require.False(t, was && c.After == nil, "%v was gone for a moment", set)
	}
	require.NoError(t, kube.Client(t).DiscoveryV1().EndpointSlices("web").Delete(t.Context(), "two", metav1.DeleteOptions{}))
	r.waitAddresses(t, "web/php-web", "10.0.0.9")
	require.NoError(t, kube.Client(t).CoreV1().Services("web").Delete(t.Context(), "php-web", metav1.DeleteOptions{}))
	harness.Eventually(t, 20*time.Second, "the Service is gone", func() error {
		if _, ok := catalog.Services.Get(r.catalog.Read(), "web/php-web"); ok {
			return fmt.Errorf("it is there")
		}
		return nil
	})
}

const group = `
apiVersion: mesh.causeway.dev/v1alpha1
kind: InstanceGroup
metadata: {name: php-web-ec2, namespace: web}
spec:
  serviceRef: {name: php-web}
  region: ap-northeast-1
  selector: {autoScalingGroups: [php-web]}
  ports: [{name: http, port: 8080}]
  spot: Avoid
`

// instances writes what EC2 would say: n instances, every third a Spot one.
func instances(t *testing.T, cat *catalog.Catalog, n int, change func(i int, e *discovery.Endpoint)) {
	t.Helper()
	set := &discovery.InstanceSet{
		Scope: "ec2", Key: discovery.Key{Namespace: "web", Name: "php-web-ec2"}, Service: discovery.Key{Namespace: "web", Name: "php-web"},
	}
	for i := range n {
		e := discovery.Endpoint{ID: fmt.Sprintf("i-%03d", i), Address: fmt.Sprintf("10.1.%d.%d", i/250, i%250+1), Zone: "a", Weight: 4}
		if i%3 == 0 {
			e.Spot, e.Weight = true, 1
		}
		if change != nil {
			change(i, &e)
		}
		set.Endpoints = append(set.Endpoints, e)
	}
	_, err := cat.Write(time.Time{}, func(tx *catalog.Tx) error {
		catalog.Instances.Put(tx, set)
		return nil
	})
	require.NoError(t, err)
}

// What the leader publishes is what every replica reads back: the same rows. A
// change of one instance rewrites one slice. What is not known is not touched.
func TestPublish(t *testing.T) {
	t.Parallel()
	kube := startKube(t)
	kube.ApplyYAML(t, service+"---"+group)
	leader, follower := newReplica(t, kube, nil), newReplica(t, kube, nil)
	stop := run(t, func(ctx context.Context) error { return leader.Publish(ctx, leader.catalog) })
	instances(t, leader.catalog, 250, nil)
	count := func(r *replica, want int) {
		t.Helper()
		harness.Eventually(t, 20*time.Second, fmt.Sprintf("%d instances", want), func() error {
			if got := len(r.addresses("web/php-web")); got != want {
				return fmt.Errorf("%d", got)
			}
			return nil
		})
	}
	count(leader, 250)
	count(follower, 250)
	rows := func(r *replica) string {
		text, err := json.Marshal(slices.Collect(catalog.Endpoints.All(r.catalog.Read())))
		require.NoError(t, err)
		return string(text)
	}
	require.Equal(t, rows(leader), rows(follower))
	versions := func() map[string]string {
		list, err := kube.Client(t).DiscoveryV1().EndpointSlices("web").List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		out := make(map[string]string)
		for _, s := range list.Items {
			out[s.Name] = s.ResourceVersion
			require.LessOrEqual(t, len(s.Endpoints), sliceSize)
		}
		return out
	}
	before := versions()
	require.Len(t, before, 3, "two of others and one of Spot instances")
	instances(t, leader.catalog, 250, func(i int, e *discovery.Endpoint) {
		if i == 7 {
			e.Health, e.Reason = discovery.Draining, "SpotInterruption"
		}
	})
	harness.Eventually(t, 20*time.Second, "the follower sees it drain", func() error {
		for set := range catalog.Endpoints.All(follower.catalog.Read()) {
			for _, e := range set.Endpoints {
				if e.ID == "i-007" && e.Health == discovery.Draining && e.Reason == "SpotInterruption" && !e.Spot && e.Weight == 4 {
					return nil
				}
			}
		}
		return fmt.Errorf("not yet")
	})
	changed := 0
	for name, version := range versions() {
		if before[name] != version {
			changed++
		}
	}
	require.Equal(t, 1, changed, "slices rewritten for one instance")

	// A new leader knows nothing yet and changes nothing; then it goes on.
	stop()
	before = versions()
	next := newReplica(t, kube, nil)
	run(t, func(ctx context.Context) error { return next.Publish(ctx, next.catalog) })
	kube.ApplyYAML(t, strings.Replace(group, "spot: Avoid", "spot: Same", 1)) // wakes the publisher
	harness.Throughout(t, time.Second, "that the slices stay", func() error {
		if now := versions(); !maps.Equal(now, before) {
			return fmt.Errorf("they are %v", now)
		}
		return nil
	})
	instances(t, next.catalog, 0, nil)
	count(follower, 0)
}

// During an upgrade a newer leader may publish slices with marks that this
// version does not know. It reads all of their endpoints, and as a leader it
// does not rewrite what says the same.
func TestVersionSkew(t *testing.T) {
	t.Parallel()
	kube := startKube(t)
	kube.ApplyYAML(t, service+"---"+group)
	r := newReplica(t, kube, nil)
	run(t, func(ctx context.Context) error { return r.Publish(ctx, r.catalog) })
	instances(t, r.catalog, 3, nil)
	slices := kube.Client(t).DiscoveryV1().EndpointSlices("web")
	current := func() map[string]string {
		list, err := slices.List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		out := make(map[string]string)
		for _, s := range list.Items {
			out[s.Name] = s.ResourceVersion
		}
		return out
	}
	r.waitAddresses(t, "web/php-web", "10.1.0.1", "10.1.0.2", "10.1.0.3")
	for name := range current() {
		_, err := slices.Patch(t.Context(), name, "application/merge-patch+json", []byte(
			`{"metadata":{"labels":{"mesh.causeway.dev/future":"x"},"annotations":{"mesh.causeway.dev/future":"{"}}}`), metav1.PatchOptions{})
		require.NoError(t, err)
	}
	versions := current()
	next := newReplica(t, kube, nil)
	next.waitAddresses(t, "web/php-web", "10.1.0.1", "10.1.0.2", "10.1.0.3")
	run(t, func(ctx context.Context) error { return next.Publish(ctx, next.catalog) })
	instances(t, next.catalog, 3, nil)
	harness.Throughout(t, time.Second, "that the slices stay", func() error {
		if now := current(); !maps.Equal(now, versions) {
			return fmt.Errorf("they are %v", now)
		}
		return nil
	})
}

// One leads; when it goes another does, and at no time two.
func TestElection(t *testing.T) {
	t.Parallel()
	kube := startKube(t)
	var leading atomic.Int32
	start := func(name string) (e *Election, stop func()) {
		r := newReplica(t, kube, nil)
		e = NewElection(r.Client, name, prometheus.NewRegistry())
		stop = run(t, func(ctx context.Context) error {
			return e.Run(ctx, func(ctx context.Context) error {
				require.EqualValues(t, 1, leading.Add(1), "leaders")
				<-ctx.Done()
				leading.Add(-1)
				return ctx.Err()
			})
		})
		return e, stop
	}
	a, stopA := start("a")
	harness.Eventually(t, 20*time.Second, "a leads", func() error {
		if !a.Leading() {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	b, _ := start("b")
	stopA()
	harness.Eventually(t, 20*time.Second, "b leads", func() error {
		if !b.Leading() || b.Leader() != "b" {
			return fmt.Errorf("not yet")
		}
		return nil
	})
}

// Homes are recorded once and survive.
func TestHomes(t *testing.T) {
	t.Parallel()
	kube := startKube(t)
	kube.ApplyYAML(t, service)
	r := newReplica(t, kube, nil)
	run(t, func(ctx context.Context) error {
		return r.RecordHomes(ctx, r.catalog, func(rd catalog.Reader) []discovery.Home {
			if _, ok := catalog.Homes.Get(rd, "web/php-web"); ok {
				return nil
			}
			return []discovery.Home{{Key: discovery.Key{Namespace: "web", Name: "php-web"}, Platform: discovery.Instances, Because: "test"}}
		})
	})
	other := newReplica(t, kube, nil)
	for _, c := range []*replica{r, other} {
		harness.Eventually(t, 20*time.Second, "the home is recorded", func() error {
			h, ok := catalog.Homes.Get(c.catalog.Read(), "web/php-web")
			if !ok || h.Platform != discovery.Instances || h.Because != "test" {
				return fmt.Errorf("%+v", h)
			}
			return nil
		})
	}
}

// Status says what is known, and Events tell of what turned.
func TestStatus(t *testing.T) {
	t.Parallel()
	kube := startKube(t)
	kube.ApplyYAML(t, service+"---"+group)
	r := newReplica(t, kube, nil)
	run(t, func(ctx context.Context) error {
		return r.WriteStatus(ctx, r.catalog, func(catalog.Reader, discovery.Key) []metav1.Condition {
			return []metav1.Condition{{Type: "Accepted", Status: metav1.ConditionTrue, Reason: "Accepted", Message: "fine"}}
		}, nil)
	})
	put := func(st discovery.GroupStatus) {
		st.Key, st.LastSync = discovery.Key{Namespace: "web", Name: "php-web-ec2"}, time.Now()
		_, err := r.catalog.Write(time.Time{}, func(tx *catalog.Tx) error {
			catalog.GroupStatuses.Put(tx, &st)
			return nil
		})
		require.NoError(t, err)
	}
	wait := func(condition string, status metav1.ConditionStatus, text string) {
		t.Helper()
		harness.Eventually(t, 20*time.Second, condition+"="+string(status), func() error {
			raw, err := kube.Client(t).Discovery().RESTClient().Get().
				AbsPath("/apis/mesh.causeway.dev/v1alpha1/namespaces/web/instancegroups/php-web-ec2").DoRaw(t.Context())
			if err != nil {
				return err
			}
			var g v1alpha1.InstanceGroup
			if err := json.Unmarshal(raw, &g); err != nil {
				return err
			}
			for _, c := range g.Status.Conditions {
				if c.Type == condition && c.Status == status && strings.Contains(c.Message, text) {
					return nil
				}
			}
			return fmt.Errorf("%+v", g.Status)
		})
	}
	put(discovery.GroupStatus{Counts: v1alpha1.InstanceCounts{Desired: 3, Ready: 3}})
	wait("Fresh", metav1.ConditionTrue, "")
	wait("GuardEngaged", metav1.ConditionFalse, "")
	put(discovery.GroupStatus{Error: "RequestLimitExceeded"})
	wait("Fresh", metav1.ConditionFalse, "RequestLimitExceeded")
	put(discovery.GroupStatus{GuardHeld: 2, GuardReason: "5 of 6 are not mentioned"})
	wait("GuardEngaged", metav1.ConditionTrue, "2 instances")
	// Whoever leads next learns of which account the endpoints are.
	_, err := r.catalog.Write(time.Time{}, func(tx *catalog.Tx) error {
		catalog.Instances.Put(tx, &discovery.InstanceSet{
			Scope: "ec2", Key: discovery.Key{Namespace: "web", Name: "php-web-ec2"}, Account: "111111111111",
		})
		return nil
	})
	require.NoError(t, err)
	other := newReplica(t, kube, nil)
	harness.Eventually(t, 20*time.Second, "another replica knows the account", func() error {
		g, ok := catalog.InstanceGroups.Get(other.catalog.Read(), "web/php-web-ec2")
		if !ok || g.Object.Status.Account != "111111111111" {
			return fmt.Errorf("%+v", g)
		}
		return nil
	})
	harness.Eventually(t, 20*time.Second, "an Event tells of the guard", func() error {
		list, err := kube.Client(t).EventsV1().Events("web").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, e := range list.Items {
			if e.Reason == "GuardEngagedHolding" && e.Type == "Warning" {
				return nil
			}
		}
		return fmt.Errorf("%d Events", len(list.Items))
	})
}

// The API server refuses wrong InstanceGroups with a text that helps, and the
// deletion of one that carries traffic.
func TestAdmission(t *testing.T) {
	t.Parallel()
	kube := startKube(t)
	for edit, want := range map[string]string{
		"region: ap-northeast-1|region: tokyo":                                 "spec.region",
		"selector: {autoScalingGroups: [php-web]}|selector: {}":                "would take every instance",
		"ports: [{name: http, port: 8080}]|ports: [{name: http, port: 99999}]": "65535",
		"ports: [{name: http, port: 8080}]|ports: []":                          "at least 1",
		"spot: Avoid|spot: Never":                                              "Unsupported value",
		"spot: Avoid|healthCheck: {interval: 1ms}":                             "out of bounds: write 1s to 5m",
		"name: php-web-ec2|name: " + strings.Repeat("x", 51):                   "more than 50",
	} {
		from, to, _ := strings.Cut(edit, "|")
		err := harness.Run(t.Context(), "bad", nil, func(_ context.Context, tb harness.TB) {
			kube.ApplyYAML(tb, strings.Replace(group, from, to, 1))
		})
		require.ErrorContains(t, err, want, edit)
	}
	kube.ApplyYAML(t, group)
	client := kube.Client(t).Discovery().RESTClient()
	const path = "/apis/mesh.causeway.dev/v1alpha1/namespaces/web/instancegroups/php-web-ec2"
	patch := func(sub, body string) {
		require.NoError(t, client.Patch("application/merge-patch+json").AbsPath(path+sub).Body([]byte(body)).Do(t.Context()).Error())
	}
	patch("/status", `{"status":{"instances":{"desired":3,"ready":3,"draining":0,"spot":0}}}`)
	harness.Eventually(t, 20*time.Second, "the policy is in force", func() error {
		err := client.Delete().AbsPath(path).Param("dryRun", "All").Do(t.Context()).Error()
		if err == nil || !strings.Contains(err.Error(), "allow-delete") {
			return fmt.Errorf("deletion: %v", err) //nolint:errorlint // it may be nil
		}
		return nil
	})
	patch("", `{"metadata":{"annotations":{"mesh.causeway.dev/allow-delete":"true"}}}`)
	require.NoError(t, client.Delete().AbsPath(path).Do(t.Context()).Error())
}
