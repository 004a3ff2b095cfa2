package e2e

import (
	"fmt"
	"math"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/test/harness"
)

const cohortUsers = 2000

// side is a way to the Service, and where each user was taken on it.
type side struct {
	name, url, host string
	taken           map[int]string
}

// take sends every user once.
func (s *side) take(t *testing.T) {
	t.Helper()
	s.taken = make(map[int]string, cohortUsers)
	transport := &http.Transport{MaxIdleConnsPerHost: 8}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: edgeTimeout}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(8)
	for user := range cohortUsers {
		g.Go(func() error {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, http.NoBody)
			if err != nil {
				return err
			}
			r.Host = s.host
			r.AddCookie(&http.Cookie{Name: "causeway", Value: cohortUser(user)})
			platform, _, err := platformOf(client, r)
			mu.Lock()
			s.taken[user] = platform
			mu.Unlock()
			return err
		})
	}
	require.NoError(t, g.Wait(), s.name)
}

func cohortUser(n int) string { return fmt.Sprintf("user-%08d-of-the-shop", n) }

// platformOf returns who answered, and the cookie that came with the answer.
func platformOf(client *http.Client, r *http.Request) (platform, cookie string, err error) {
	resp, err := client.Do(r)
	if err != nil {
		return "", "", err
	}
	defer resp.Body.Close()
	for _, c := range resp.Cookies() {
		if c.Name == "causeway" {
			cookie = c.Value
		}
	}
	platform = resp.Header.Get("X-Platform")
	if resp.StatusCode != http.StatusOK || platform == "" {
		return "", "", fmt.Errorf("%s from %q", resp.Status, platform)
	}
	return platform, cookie, nil
}

// settled waits until every proxy has what the catalog says.
func (p *plane) settled(t *testing.T, proxies int) {
	t.Helper()
	revision, err := p.catalog.Write(time.Time{}, func(*catalog.Tx) error { return nil })
	require.NoError(t, err)
	require.NoError(t, p.engine.Await(t.Context(), revision))
	harness.Eventually(t, 30*time.Second, "all proxies are in sync", func() error {
		all := p.server.Proxies()
		if len(all) != proxies {
			return fmt.Errorf("%d are connected", len(all))
		}
		for i := range all {
			if !all[i].InSync {
				return fmt.Errorf("%+v", all[i])
			}
		}
		return nil
	})
}

// A user is on the same side at the edge and in the mesh, at every share, and
// never goes back while the share grows.
func TestEdgeCohort(t *testing.T) {
	beside(t, 0.9, 12*time.Second)
	p := startPlane(t)
	p.put(t, `---
apiVersion: v1
kind: Service
metadata: {name: php, namespace: web, annotations: {mesh.causeway.dev/home: Instances}}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: web}
spec:
  gatewayClassName: causeway
  listeners: [{name: http, port: 8080, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: edge, namespace: web}
spec:
  parentRefs: [{name: edge}]
  hostnames: [shop.example.com]
  rules:
  - filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-edge, value: "1"}]}}]
    backendRefs: [{name: php, port: 80}]
`)
	for i, platform := range []discovery.BackingName{discovery.Instances, discovery.Pods} {
		address := harness.Addresses(t, 1)[0]
		startPlatform(t, address.String(), platform.String())
		p.write(t, func(tx *catalog.Tx) {
			catalog.Endpoints.Put(tx, &discovery.EndpointSet{
				Scope: "test", Key: discovery.Key{Namespace: "web", Name: platform.String()},
				Service: discovery.Key{Namespace: "web", Name: "php"}, Platform: platform,
				Ports:     []discovery.EndpointPort{{Name: "http", Port: instancePort}},
				Endpoints: []discovery.Endpoint{{ID: fmt.Sprint(i), Address: address.String(), Zone: "a"}},
			})
		})
	}
	const cohort = "  cohort: {cookie: {name: causeway, ttl: 720h}}\n"
	p.put(t, pinned("php", "0", cohort))
	servers := []string{p.address}
	e := startEdge(t, edgeOptions{namespace: "web", gateway: "edge", id: "i-edge", zone: "a", servers: servers})
	c := startCaller(t, "i-caller", "web", "a", servers, "")
	question{address: e.at(edgePlain), host: "shop.example.com"}.wait(t, "the edge answers", isOK)
	question{address: c.http, host: "php.web"}.wait(t, "the sidecar answers", isOK)
	sides := []*side{
		{name: "edge", url: "http://" + e.at(edgePlain) + "/", host: "shop.example.com"},
		{name: "sidecar", url: "http://" + c.http + "/", host: "php.web"},
	}
	moved := make(map[int]bool)
	for _, percent := range []float64{0, 1, 10, 50, 90, 100} {
		p.put(t, pinned("php", fmt.Sprint(percent), cohort))
		p.settled(t, 2)
		for _, s := range sides {
			s.take(t)
		}
		require.Equal(t, sides[0].taken, sides[1].taken, "at %g %% a user is on the same side everywhere", percent)
		pods := 0
		for user, platform := range sides[0].taken {
			if platform == discovery.Pods.String() {
				moved[user] = true
				pods++
			} else {
				require.False(t, moved[user], "user %d moved back at %g %%", user, percent)
			}
		}
		want, deviation := cohortUsers*percent/100, math.Sqrt(cohortUsers*percent/100*(1-percent/100))
		t.Logf("%g %%: %d of %d users on pods", percent, pods, cohortUsers)
		require.InDelta(t, want, pods, 5*deviation+1e-9)
	}

	// Who comes for the first time gets a cookie, with which they stay where they were.
	p.put(t, pinned("php", "50", cohort))
	p.settled(t, 2)
	client := &http.Client{Timeout: edgeTimeout}
	defer client.CloseIdleConnections()
	for i := range 40 {
		from, to := sides[i%2], sides[(i+1)%2]
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, from.url, http.NoBody)
		require.NoError(t, err)
		r.Host = from.host
		first, cookie, err := platformOf(client, r)
		require.NoError(t, err)
		require.NotEmpty(t, cookie, "the first answer by the %s sets the cookie", from.name)
		for _, s := range []*side{from, to} {
			again, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url, http.NoBody)
			require.NoError(t, err)
			again.Host = s.host
			again.AddCookie(&http.Cookie{Name: "causeway", Value: cookie})
			next, _, err := platformOf(client, again)
			require.NoError(t, err)
			require.Equal(t, first, next, "first by the %s, then by the %s", from.name, s.name)
		}
	}
}

// startPlatform serves the name of a platform as a header: 2,000 users at a
// time read no bodies.
func startPlatform(t *testing.T, address, platform string) {
	t.Helper()
	s := &http.Server{
		Addr: fmt.Sprintf("%s:%d", address, instancePort), ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Platform", platform) }),
	}
	go func() { _ = s.ListenAndServe() }()
	t.Cleanup(func() { _ = s.Close() })
}
