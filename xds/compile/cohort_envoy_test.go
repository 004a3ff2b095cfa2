package compile_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/compile"
)

const (
	percent     = policy.ShareTotal / 100
	manyUsers   = 10_000
	someUsers   = 1_000
	connections = 8 // that users' requests come over
)

// shifted returns the model of a Service whose traffic is being shifted.
func shifted(m *policy.Service, cohort *policy.Cohort) *policy.Service {
	p := &m.Ports[0]
	m.Reported = true
	m.Shift = &policy.Shift{
		Object: discovery.ObjectName{Kind: "TrafficShift", Key: m.Key}, From: discovery.Instances, To: discovery.Pods, Share: p.Shares[0], Cohort: cohort,
	}
	return m
}

// toShifted returns a shifted Service as a part of a rule's requests in percent.
func toShifted(m *policy.Service, part uint32) policy.Backend {
	b := to(m)
	b.Share = part * percent
	onPods := uint32(uint64(m.Ports[0].Shares[0]) * uint64(part) / 100)
	return divided(b, onPods, b.Share-onPods)
}

// shiftMesh is an Envoy whose routes change while it runs, as a control plane
// would change them.
type shiftMesh struct {
	mesh

	models    func(share uint32) []*policy.Service
	bootstrap []byte
}

func (m *shiftMesh) routesFile() string { return filepath.Join(m.dir, "routes.json") }

// startShift starts an Envoy with the models of a share. Several may share a directory.
func startShift(t *testing.T, models func(share uint32) []*policy.Service, share uint32) *shiftMesh {
	t.Helper()
	m := &shiftMesh{models: models, mesh: mesh{
		dir: t.TempDir(), compiler: compile.New(), endpoints: make(map[string]string), http: harness.FreeAddress(t),
	}}
	b := m.compile(t, share)
	for _, l := range b.GetStaticResources().GetListeners() {
		config, hcm := managerOf(l).GetTypedConfig(), &hcmv3.HttpConnectionManager{}
		require.NoError(t, config.UnmarshalTo(hcm))
		m.writeRoutes(t, hcm.GetRouteConfig())
		hcm.RouteSpecifier = &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{
			RouteConfigName: naming.RouteConfig, ConfigSource: &corev3.ConfigSource{
				ResourceApiVersion: corev3.ApiVersion_V3,
				ConfigSourceSpecifier: &corev3.ConfigSource_PathConfigSource{
					PathConfigSource: &corev3.PathConfigSource{Path: m.routesFile()},
				},
			},
		}}
		require.NoError(t, config.MarshalFrom(hcm))
	}
	var err error
	m.bootstrap, err = protojson.Marshal(b)
	require.NoError(t, err)
	m.restart(t)
	m.client = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", m.http)
	}}}
	t.Cleanup(m.client.CloseIdleConnections)
	return m
}

// restart starts Envoy, in place of the one before if there is one.
func (m *shiftMesh) restart(t *testing.T) {
	t.Helper()
	if m.Envoy != nil {
		m.Stop()
	}
	m.Envoy = harness.StartEnvoy(t, m.bootstrap, harness.EnvoyOptions{})
}

func (m *shiftMesh) compile(t *testing.T, share uint32) *bootstrapv3.Bootstrap {
	t.Helper()
	resources := m.compiler.Mesh(&policy.Mesh{})
	for _, s := range m.models(share) {
		resources = append(resources, m.compiler.Service(s)...)
	}
	d, err := naming.ParseDeclaration("http/" + m.http)
	require.NoError(t, err)
	resources = append(resources, m.compiler.Listener(d, nil)...)
	b := &bootstrapv3.Bootstrap{}
	require.NoError(t, protojson.Unmarshal(static(t, resources, "web", callerZone, m.dir), b))
	return b
}

func (m *shiftMesh) writeRoutes(t *testing.T, routes *routev3.RouteConfiguration) {
	t.Helper()
	packed, err := anypb.New(routes)
	require.NoError(t, err)
	out, err := protojson.Marshal(&discoveryv3.DiscoveryResponse{Resources: []*anypb.Any{packed}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(m.routesFile()+".new", out, 0o600))
	require.NoError(t, os.Rename(m.routesFile()+".new", m.routesFile()))
}

// managerOf returns a listener's HTTP connection manager, the last filter of its chain.
func managerOf(l *listenerv3.Listener) *listenerv3.Filter {
	filters := l.GetFilterChains()[0].GetFilters()
	return filters[len(filters)-1]
}

// shift changes the share and waits until Envoy has taken it.
func (m *shiftMesh) shift(t *testing.T, share uint32) {
	t.Helper()
	const taken = "http.egress_http.rds.http.config_reload"
	before := m.Stats(t, taken)[taken]
	hcm := &hcmv3.HttpConnectionManager{}
	require.NoError(t, managerOf(m.compile(t, share).GetStaticResources().GetListeners()[0]).GetTypedConfig().UnmarshalTo(hcm))
	m.writeRoutes(t, hcm.GetRouteConfig())
	m.WaitStat(t, 20*time.Second, taken, before+1)
}

// askAll sends one request of each user and returns who answered it. header
// gives the lines of a user's request that tell the user apart.
func (m *shiftMesh) askAll(t *testing.T, users int, host string, header func(user int) string) []string {
	t.Helper()
	out := make([]string, users)
	errs := make(chan error, connections)
	var wg sync.WaitGroup
	for c := range connections {
		wg.Go(func() {
			errs <- m.askSome(out, c, host, header)
		})
	}
	wg.Wait()
	for range connections {
		require.NoError(t, <-errs)
	}
	return out
}

// askSome asks for every user whose turn it is on one connection, without
// waiting for an answer before it sends the next request.
func (m *shiftMesh) askSome(out []string, first int, host string, header func(user int) string) error {
	conn, err := net.Dial("tcp", m.http)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
	written := make(chan error, 1)
	go func() {
		w := bufio.NewWriter(conn)
		for user := first; user < len(out); user += connections {
			fmt.Fprintf(w, "GET / HTTP/1.1\r\nHost: %s\r\n%s\r\n", host, header(user))
		}
		written <- w.Flush()
	}()
	r := bufio.NewReader(conn)
	for user := first; user < len(out); user += connections {
		answer, err := http.ReadResponse(r, nil)
		if err != nil {
			return fmt.Errorf("user %d: %w", user, err)
		}
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			return fmt.Errorf("user %d: %w", user, err)
		}
		if answer.StatusCode != http.StatusOK {
			body = []byte(answer.Status)
		}
		out[user] = string(body)
	}
	return <-written
}

func cookieOf(user int) string { return fmt.Sprintf("Cookie: a=b; causeway=user-%d; c=d\r\n", user) }

// side is the first part of a backend's name: pod or i.
func side(answer string) string {
	s, _, _ := strings.Cut(answer, "-")
	return s
}

// onSide returns the users whose requests a side answered.
func onSide(answers []string, of string) map[int]bool {
	out := make(map[int]bool)
	for user, a := range answers {
		if side(a) == of {
			out[user] = true
		}
	}
	return out
}

// requireShare checks that a part of the users is what a share says, within
// 4.5 standard deviations of a binomial distribution.
func requireShare(t *testing.T, share uint32, got, users int) {
	t.Helper()
	p := float64(share) / policy.ShareTotal
	require.InDelta(t, p*float64(users), float64(got), 4.5*math.Sqrt(float64(users)*p*(1-p))+1e-9)
}

func sidesOf(answers []string) []string {
	out := make([]string, len(answers))
	for i, a := range answers {
		out[i] = side(a)
	}
	return out
}

// Of ten thousand users every step up takes some from the instances to the
// pods and none back, and a step down takes back only those it must.
func TestEnvoyCohortsAreMonotone(t *testing.T) {
	t.Parallel()
	pod, instance := startBackend(t, "pod-1"), startBackend(t, "i-1")
	m := startShift(t, func(share uint32) []*policy.Service {
		return []*policy.Service{shifted(both("php", policy.HTTP1, share, zone(callerZone, pod), zone(callerZone, instance)), &policy.Cohort{Cookie: "causeway", TTL: 720 * time.Hour})}
	}, 0)
	seen := make(map[uint32]map[int]bool)
	var before map[int]bool
	last := uint32(0)
	for _, share := range []uint32{0, percent / 10, percent, 10 * percent, 50 * percent, 100 * percent, 50 * percent, percent} {
		if share != 0 {
			m.shift(t, share)
		}
		answers := m.askAll(t, manyUsers, "php.web", cookieOf)
		now := onSide(answers, "pod")
		require.Len(t, onSide(answers, "i"), manyUsers-len(now), "every request was answered")
		requireShare(t, share, len(now), manyUsers)
		for user := range manyUsers {
			position := xxhash.Sum64String(fmt.Sprintf("user-%d", user)) % policy.ShareTotal
			require.Equal(t, position < uint64(share), now[user], "user %d is at %d of %d", user, position, share)
			if share >= last && before[user] {
				require.True(t, now[user], "user %d went back at the step from %d to %d", user, last, share)
			}
		}
		if again, ok := seen[share]; ok {
			require.True(t, maps.Equal(again, now), "on the way back the same users are on pods as on the way there")
		}
		seen[share], before, last = now, now, share
	}
	require.Len(t, seen[100*percent], manyUsers)
	require.Empty(t, seen[0])
}

// Users stay on their side across a restart, in another Envoy, and while
// endpoints come, go and fail; where a side has none left the other one stands
// in, for as long as that lasts.
func TestEnvoyCohortsStay(t *testing.T) {
	t.Parallel()
	pods, instances := []*backend{startBackend(t, "pod-1"), startBackend(t, "pod-2")}, []*backend{startBackend(t, "i-1"), startBackend(t, "i-2")}
	model := func(share uint32, onPods, onInstances policy.Zone) *policy.Service {
		return shifted(both("php", policy.HTTP1, share, onPods, onInstances), &policy.Cohort{Cookie: "causeway", TTL: time.Hour})
	}
	models := func(share uint32) []*policy.Service {
		return []*policy.Service{model(share, zone(callerZone, pods...), zone(callerZone, instances...))}
	}
	const share = 30 * percent
	m := startShift(t, models, share)
	ask := func(m *shiftMesh) []string { return sidesOf(m.askAll(t, someUsers, "php.web", cookieOf)) }
	home := ask(m)
	requireShare(t, share, len(onSide(home, "pod")), someUsers)

	m.restart(t)
	require.Equal(t, home, ask(m), "after a restart")
	require.Equal(t, home, ask(startShift(t, models, share)), "another Envoy")

	sick := func(backends []*backend, health discovery.Health) policy.Zone {
		z := zone(callerZone, backends...)
		for i := range z.Endpoints {
			z.Endpoints[i].Health = health
		}
		return z
	}
	everywhere := func(of string) []string { return slices.Repeat([]string{of}, someUsers) }
	for _, step := range []struct {
		name            string
		pods, instances policy.Zone
		want            []string
	}{
		{"one pod goes", zone(callerZone, pods[1]), zone(callerZone, instances...), home},
		{"an instance goes and the pod comes back", zone(callerZone, pods...), zone(callerZone, instances[0]), home},
		{"a pod is unhealthy", policy.Zone{Name: callerZone, Endpoints: []policy.Endpoint{pods[0].endpoint(1, discovery.Unhealthy), pods[1].endpoint(1, discovery.Healthy)}}, zone(callerZone, instances...), home},
		{"all pods are unhealthy", sick(pods, discovery.Unhealthy), zone(callerZone, instances...), everywhere("i")},
		{"all pods are well again", zone(callerZone, pods...), zone(callerZone, instances...), home},
		{"all instances drain", zone(callerZone, pods...), sick(instances, discovery.Draining), everywhere("pod")},
		{"no instance is left", zone(callerZone, pods...), policy.Zone{}, everywhere("pod")},
		{"instances are back", zone(callerZone, pods...), zone(callerZone, instances...), home},
	} {
		m.put(t, model(share, step.pods, step.instances))
		harness.Eventually(t, 30*time.Second, step.name, func() error {
			for user, got := range ask(m) {
				if got != step.want[user] {
					return fmt.Errorf("user %d is answered by %q, not by %q", user, got, step.want[user])
				}
			}
			return nil
		})
	}
}

// The first request of a user is where the next ones will be: the answer sets
// the cookie of the side that it came from.
func TestEnvoyCohortsBeginWithTheFirstRequest(t *testing.T) {
	t.Parallel()
	pod, instance := startBackend(t, "pod-1"), startBackend(t, "i-1")
	instance.answer(func(w http.ResponseWriter, _ *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "PHPSESSID", Value: "own"})
		_, _ = io.WriteString(w, "i-1")
	})
	const share = 40 * percent
	model := func(name string, cohort *policy.Cohort) *policy.Service {
		return shifted(both(name, policy.HTTP1, share, zone(callerZone, pod), zone(callerZone, instance)), cohort)
	}
	m := startShift(t, func(uint32) []*policy.Service {
		return []*policy.Service{
			model("mesh", &policy.Cohort{Cookie: "causeway.v1", TTL: 720 * time.Hour}),
			model("theirs", &policy.Cohort{Cookie: "uid"}), model("header", &policy.Cohort{Header: "x-user"}), model("none", nil),
		}
	}, share)
	cookieSet := func(a answer) *http.Cookie {
		for _, c := range a.Cookies() {
			if c.Name == "causeway.v1" {
				return c
			}
		}
		return nil
	}
	onPods := 0
	for user := range 300 {
		var first answer
		switch user % 3 {
		case 0:
			first = m.send(t, http.MethodGet, "mesh.web/")
		case 1:
			first = m.send(t, http.MethodPost, "mesh.web/", "Cookie: other=1; xcauseway.v1=2; causewaysv1=3", "X-Request-Id: "+fmt.Sprintf("%032x", user))
		case 2:
			first = m.send(t, http.MethodGet, "mesh.web/", "Cookie: causeway.v1=", "Cookie: other=1")
		}
		cookie := cookieSet(first)
		require.NotNil(t, cookie, "user %d: %v", user, first.Header)
		require.Equal(t, 720*3600, cookie.MaxAge)
		require.True(t, cookie.HttpOnly)
		require.Equal(t, "/", cookie.Path)
		require.Equal(t, http.SameSiteLaxMode, cookie.SameSite)
		if side(first.body) == "i" {
			require.Len(t, first.Cookies(), 2, "the application's own cookies stay")
		} else {
			onPods++
		}
		for _, line := range [][]string{
			{"Cookie: causeway.v1=" + cookie.Value},
			{"Cookie: a=b;causeway.v1=" + cookie.Value + "; PHPSESSID=x"},
			{"Cookie: a=b", "Cookie: causeway.v1=" + cookie.Value},
		} {
			next := m.send(t, http.MethodGet, "mesh.web/", line...)
			require.Equal(t, side(first.body), side(next.body), "user %d with %q", user, line)
			require.Nil(t, cookieSet(next), "who has the cookie gets no other: %q", line)
		}
	}
	requireShare(t, share, onPods, 300)

	// An id that would break out of the cookie, or that many may have, becomes none.
	for _, id := range []string{"x; Domain=evil.example", "1", "aaaaaaaaaaaaaaaa, b"} {
		require.Nil(t, cookieSet(m.send(t, http.MethodGet, "mesh.web/", "X-Request-Id: "+id)), id)
	}

	for host, header := range map[string]string{"theirs.web": "Cookie: uid=%d\r\n", "header.web": "X-User: %d\r\n"} {
		keyed := func(user int) string { return fmt.Sprintf(header, user) }
		sides := sidesOf(m.askAll(t, someUsers, host, keyed))
		requireShare(t, share, len(onSide(sides, "pod")), someUsers)
		require.Equal(t, sides, sidesOf(m.askAll(t, someUsers, host, keyed)), host)
		for user, s := range sides {
			require.Equal(t, xxhash.Sum64String(fmt.Sprint(user))%policy.ShareTotal < share, s == "pod", "%s, user %d", host, user)
		}
	}
	for _, host := range []string{"theirs.web", "header.web", "none.web"} {
		alone := func(int) string { return "X-Request-Id: the-same-id-each-time\r\n" }
		first, second := sidesOf(m.askAll(t, someUsers, host, alone)), sidesOf(m.askAll(t, someUsers, host, alone))
		requireShare(t, share, len(onSide(first, "pod")), someUsers)
		requireShare(t, share, len(onSide(second, "pod")), someUsers)
		require.NotEqual(t, first, second, "%s: requests without a key are each on their own", host)
	}
}

// In a rule that splits by weight each backend keeps its interval, whatever
// the share of the first: users of the second never move.
func TestEnvoyCohortsKeepIntervals(t *testing.T) {
	t.Parallel()
	pod, instance, other := startBackend(t, "pod-1"), startBackend(t, "i-1"), startBackend(t, "other-1")
	m := startShift(t, func(share uint32) []*policy.Service {
		php := shifted(both("php", policy.HTTP1, share, zone(callerZone, pod), zone(callerZone, instance)), &policy.Cohort{Header: "x-user"})
		second := pods("other", policy.HTTP1, zone(callerZone, other))
		return []*policy.Service{php, second, routed("front", policy.Rule{Match: everything, Backends: []policy.Backend{toShifted(php, 90), part(to(second), 10)}})}
	}, 0)
	header := func(user int) string { return fmt.Sprintf("X-User: %d\r\n", user) }
	var others, before map[int]bool
	for i, share := range []uint32{0, 10 * percent, 50 * percent, 100 * percent} {
		if i > 0 {
			m.shift(t, share)
		}
		answers := m.askAll(t, 2*someUsers, "front.web", header)
		now := onSide(answers, "pod")
		requireShare(t, share/10*9, len(now), 2*someUsers)
		if i == 0 {
			others = onSide(answers, "other")
			requireShare(t, 10*percent, len(others), 2*someUsers)
		}
		require.Equal(t, others, onSide(answers, "other"), "at %d", share)
		for user := range before {
			require.True(t, now[user], "user %d went back", user)
		}
		before = now
	}
}
